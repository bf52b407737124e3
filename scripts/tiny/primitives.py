"""Building blocks of synthetic sounds; waveforms are (samples,) float64, at `RATE`."""

from collections.abc import Callable, Sequence

import numpy as np

RATE = 16000  # Hz
SECONDS = 2.5
SAMPLES = int(SECONDS * RATE)
TIME = np.arange(SAMPLES) / RATE

Sound = np.ndarray
Rng = np.random.Generator


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A random number between two positive ones, uniform on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def curve(rng: Rng, low: float, high: float, per_second: float, samples: int = SAMPLES) -> Sound:
    """A smooth random curve between `low` and `high` with so many turning points a second."""
    points = max(2, round(per_second * samples / RATE) + 1)
    return np.interp(np.linspace(0, points - 1, samples), np.arange(points), rng.uniform(low, high, points))


def shape(sound: Sound, gain: Callable[[np.ndarray], np.ndarray]) -> Sound:
    """A sound whose spectrum is multiplied by `gain` of the frequencies in Hz."""
    spectrum = np.fft.rfft(sound)
    return np.fft.irfft(spectrum * gain(np.fft.rfftfreq(len(sound), 1 / RATE)), len(sound))


def band(sound: Sound, low: float, high: float, order: int = 3) -> Sound:
    """A sound between two frequencies in Hz, with slopes of 6 `order` dB an octave."""
    return shape(
        sound, lambda f: 1 / np.sqrt((1 + (low / np.maximum(f, 1)) ** (2 * order)) * (1 + (f / high) ** (2 * order)))
    )


def noise(rng: Rng, exponent: float = 0.0, samples: int = SAMPLES) -> Sound:
    """Noise whose power falls with the frequency to the power `exponent`, of standard deviation 1."""
    sound = rng.normal(size=samples)
    if exponent:
        sound = shape(sound, lambda f: np.maximum(f, 20.0) ** (-exponent / 2))
    return sound / sound.std()


def band_noise(rng: Rng, low: float, high: float, order: int = 3, samples: int = SAMPLES) -> Sound:
    """Noise between two frequencies in Hz, of standard deviation 1."""
    sound = band(rng.normal(size=samples), low, high, order)
    return sound / sound.std()


def phase(frequency: Sound | float, samples: int = SAMPLES) -> Sound:
    """The phase in radians of an oscillation whose frequency in Hz may change."""
    return 2 * np.pi * np.cumsum(np.broadcast_to(frequency, samples)) / RATE


def harmonics(frequency: Sound | float, amplitudes: Sequence[float], samples: int = SAMPLES) -> Sound:
    """Harmonics of a frequency in Hz; those beyond half the rate are left out."""
    angle, highest = phase(frequency, samples), float(np.max(frequency))
    sound = np.zeros(samples)
    for number, amplitude in enumerate(amplitudes, start=1):
        if number * highest < RATE / 2:
            sound += amplitude * np.sin(number * angle)
    return sound


def rich(rng: Rng, frequency: Sound | float, slope: float = 1.0, count: int = 30, samples: int = SAMPLES) -> Sound:
    """A harmonic sound whose amplitudes fall with the number of the harmonic to the power `slope`, unevenly."""
    amplitudes = np.arange(1.0, count + 1) ** -slope * rng.uniform(0.3, 1, count)
    return harmonics(frequency, list(amplitudes), samples)


def pulses(frequency: Sound | float, width: float, samples: int = SAMPLES) -> Sound:
    """A train of smooth pulses, from 0 to 1, each `width` of its period."""
    position = (phase(frequency, samples) / (2 * np.pi)) % 1
    return np.exp(-(((position - 0.5) / width) ** 2))


def fade(samples: int, attack: float, release: float) -> Sound:
    """An envelope that rises in `attack` seconds and at the end falls in `release` seconds."""
    time = np.arange(samples) / RATE
    return np.minimum(1, time / max(attack, 1e-4)) * np.minimum(1, (samples / RATE - time) / max(release, 1e-4))


def decay(samples: int, seconds: float, attack: float = 0.001) -> Sound:
    """An envelope that falls to a thousandth in `seconds`."""
    time = np.arange(samples) / RATE
    return np.minimum(1, time / attack) * 10 ** (-3 * time / seconds)


def modes(rng: Rng, frequencies: Sequence[float], seconds: float, samples: int) -> Sound:
    """What is struck: decaying sine waves, the higher the shorter."""
    time = np.arange(samples) / RATE
    sound = np.zeros(samples)
    for frequency in frequencies:
        if frequency < RATE / 2:
            lasting = seconds * (min(frequencies) / frequency) ** rng.uniform(0.3, 0.8)
            sound += (
                rng.uniform(0.2, 1)
                * np.sin(2 * np.pi * frequency * time + rng.uniform(0, 6))
                * 10 ** (-3 * time / lasting)
            )
    return sound


def formants(sound: Sound, centres: Sequence[float], width: float = 0.12) -> Sound:
    """A sound through resonances at these frequencies in Hz, `width` of the frequency wide."""

    def response(frequencies: Sound) -> Sound:
        gain = np.zeros_like(frequencies)
        for number, centre in enumerate(centres):
            gain += 0.7**number / (1 + ((frequencies - centre) / (width * centre)) ** 2)
        return gain

    return shape(sound, response)


def mouth(rng: Rng) -> list[float]:
    """The resonances of a random vowel of a random size, in Hz."""
    first, second, third = rng.uniform(300, 900), rng.uniform(900, 2200), rng.uniform(2300, 3200)
    size = rng.uniform(0.8, 1.5)
    return [first * size, second * size, third * size]


def add(sound: Sound, event: Sound, start: float) -> None:
    """Add an event to a sound at `start` seconds, as far as it fits."""
    begin = int(start * RATE)
    if 0 <= begin < len(sound):
        stop = min(len(sound), begin + len(event))
        sound[begin:stop] += event[: stop - begin]


def at_random(rng: Rng, per_second: float) -> np.ndarray:
    """The times, in seconds, of events that come independently, at least one."""
    return np.sort(rng.uniform(0, SECONDS, max(1, rng.poisson(per_second * SECONDS))))


def in_rhythm(rng: Rng, per_second: float, jitter: float = 0.03) -> np.ndarray:
    """The times, in seconds, of events at even distances but for a share `jitter`; the first is at random."""
    period = 1 / per_second
    times = np.arange(rng.uniform(0, min(period, 1.0)), SECONDS, period)
    return times + rng.normal(size=len(times)) * jitter * period


def repeat(times: np.ndarray, make: Callable[[], Sound]) -> Sound:
    """Events that `make` makes, at these times in seconds."""
    sound = np.zeros(SAMPLES)
    for time in times:
        add(sound, make(), max(0.0, float(time)))
    return sound


def sparks(rng: Rng, per_second: float, spread: float = 2.0) -> Sound:
    """Single samples at random times, of amplitudes whose logarithm has the standard deviation `spread` / 2."""
    sound = np.zeros(SAMPLES)
    count = rng.poisson(per_second * SECONDS) + 1
    np.add.at(
        sound,
        rng.integers(0, SAMPLES, count),
        rng.choice([-1.0, 1.0], count) * np.exp(rng.normal(size=count) * spread / 2),
    )
    return sound
