"""Synthetic machines, objects, signals and plain test sounds: one function a kind of sound, from a random generator."""

from collections.abc import Callable

import numpy as np

from tiny.primitives import (
    RATE,
    SAMPLES,
    TIME,
    Rng,
    Sound,
    at_random,
    band,
    band_noise,
    curve,
    decay,
    fade,
    formants,
    harmonics,
    in_rhythm,
    log_uniform,
    modes,
    noise,
    phase,
    pulses,
    repeat,
    rich,
    sparks,
)


def engine(rng: Rng, low: float, high: float, turns: float, resonances: tuple[float, float], hiss: float) -> Sound:
    """Explosions of uneven strength at a rate that changes, through resonances.

    Args:
        rng: The random generator.
        low: The lowest rate in Hz.
        high: The highest rate in Hz.
        turns: How often a second the rate turns.
        resonances: Where they lie, in Hz.
        hiss: How loud the noise is.
    """
    rate = curve(rng, low, high, turns)
    firing = pulses(rate, rng.uniform(0.08, 0.2)) * (1 + 0.3 * np.sin(phase(rate / 4)) + 0.3 * noise(rng, 1))
    sound = formants(firing - firing.mean(), list(rng.uniform(*resonances, 3)), 0.4)
    return sound / sound.std() + hiss * noise(rng, 0.8) * (0.5 + 0.5 * pulses(rate, 0.3))


def idling(rng: Rng) -> Sound:
    rate = rng.uniform(15, 35)
    return engine(rng, rate, rate * 1.05, 2, (60, 500), rng.uniform(0.05, 0.3))


def revving(rng: Rng) -> Sound:
    return engine(rng, 30, rng.uniform(120, 220), rng.uniform(1, 3), (80, 1500), rng.uniform(0.05, 0.3))


def motorcycle(rng: Rng) -> Sound:
    rate = rng.uniform(40, 90)
    return engine(rng, rate, rate * rng.uniform(1.05, 1.6), 1.5, (150, 2500), rng.uniform(0.1, 0.4))


def chainsaw(rng: Rng) -> Sound:
    rate = rng.uniform(90, 170)
    return engine(rng, rate * 0.7, rate, rng.uniform(1, 4), (400, 4500), rng.uniform(0.3, 1))


def tractor(rng: Rng) -> Sound:
    rate = rng.uniform(8, 16)
    return engine(rng, rate, rate * 1.04, 2, (50, 300), 0.1) + 0.2 * band(sparks(rng, 60), 1000, 5000)


def helicopter(rng: Rng) -> Sound:
    rate = rng.uniform(10, 28)
    blades = noise(rng, rng.uniform(1, 2)) * (0.15 + pulses(rate, rng.uniform(0.1, 0.3)))
    return (blades + rng.uniform(0, 0.3) * rich(rng, rng.uniform(300, 1500), 1.5)) * curve(rng, 0.6, 1, 1)


def propeller_plane(rng: Rng) -> Sound:
    rate = rng.uniform(60, 120)
    return rich(rng, curve(rng, rate, rate * 1.03, 2), 0.8) * curve(rng, 0.5, 1, 2) + noise(rng, 1)


def jet(rng: Rng) -> Sound:
    rise = np.exp(-(((TIME - rng.uniform(0.5, 2)) / rng.uniform(0.5, 1.5)) ** 2))
    whine = np.sin(phase(rng.uniform(1500, 4000) * np.linspace(1.1, 0.85, SAMPLES)))
    return (noise(rng, rng.uniform(0.5, 1.2)) + rng.uniform(0.05, 0.3) * whine) * (0.2 + rise)


def passing_car(rng: Rng) -> Sound:
    near = 1 / (1 + ((TIME - rng.uniform(0.8, 1.8)) / rng.uniform(0.2, 0.6)) ** 2)
    return band_noise(rng, 200, rng.uniform(1500, 4000), 1) * near + 0.5 * idling(rng) * near + 0.02 * noise(rng, 1)


def train(rng: Rng) -> Sound:
    def clack() -> Sound:
        one = band_noise(rng, 150, 2500, 1, 2500) * decay(2500, 0.1)
        return np.concatenate([one, np.zeros(600), 0.8 * one])

    return repeat(in_rhythm(rng, rng.uniform(1, 3)), clack) + rng.uniform(0.1, 0.4) * noise(rng, 1.5)


def steam_engine(rng: Rng) -> Sound:
    puffs = band_noise(rng, 200, 6000, 1)
    first, last = rng.uniform(1.5, 7, 2)
    return puffs * pulses(np.linspace(first, last, SAMPLES), 0.2)


def electric_motor(rng: Rng) -> Sound:
    base = log_uniform(rng, 80, 500)
    return rich(rng, curve(rng, base, base * 1.02, 3), 0.6, 40) + rng.uniform(0.1, 0.6) * noise(rng, 0.5)


def drill(rng: Rng) -> Sound:
    on = np.clip(curve(rng, -0.6, 1.6, 1.5), 0, 1)
    speed = 120 + 400 * np.convolve(on, np.ones(2000) / 2000, mode="same")
    return (rich(rng, speed, 0.4, 40) + 0.7 * band_noise(rng, 1000, 7000, 1)) * (on + 0.02)


def vacuum_cleaner(rng: Rng) -> Sound:
    base = rng.uniform(200, 450)
    return (band_noise(rng, 300, 5000, 1) + 0.5 * rich(rng, curve(rng, base, base * 1.01, 2), 0.8)) + 0.4 * formants(
        noise(rng), [rng.uniform(500, 1500)], 0.1
    )


def fan(rng: Rng) -> Sound:
    return noise(rng, rng.uniform(0.8, 1.5)) * (1 + 0.3 * np.sin(phase(rng.uniform(4, 30)))) + 0.1 * rich(rng, 100.0)


def washing_machine(rng: Rng) -> Sound:
    turn = 0.5 + 0.5 * np.sin(phase(rng.uniform(0.6, 2.5)))
    return (
        noise(rng, 1.5) * turn + 0.4 * rich(rng, rng.uniform(50, 120), 0.8) + 0.5 * band_noise(rng, 300, 2000) * turn**4
    )


def sewing_machine(rng: Rng) -> Sound:
    rate = rng.uniform(8, 20)
    return repeat(
        in_rhythm(rng, rate, 0.02), lambda: band_noise(rng, 400, 5000, 1, 700) * decay(700, 0.04)
    ) + 0.1 * rich(rng, rate * 8)


def printer(rng: Rng) -> Sound:
    steps = np.repeat(rng.choice([0.0, 180.0, 240.0, 320.0, 480.0], 10), SAMPLES // 10 + 1)[:SAMPLES]
    return rich(rng, np.maximum(steps, 1), 0.5, 20) * (steps > 0) + 0.1 * band_noise(rng, 800, 6000, 1)


def hum(rng: Rng) -> Sound:
    return harmonics(rng.choice([50.0, 60.0]), list(rng.uniform(0, 1, 20) / np.arange(1, 21) ** 0.5)) + 0.02 * noise(
        rng
    )


def electric_arc(rng: Rng) -> Sound:
    on = (curve(rng, -1, 1, 12) > 0) + 0.0
    return (noise(rng) * pulses(rng.choice([100.0, 120.0]), 0.2) + sparks(rng, 500)) * on + 0.01 * noise(rng)


def struck(rng: Rng, ratios: list[float], low: float, high: float, seconds: tuple[float, float], rate: float) -> Sound:
    """Something that rings when it is struck, at its own random pitch.

    Args:
        rng: The random generator.
        ratios: Of its partials to the lowest one.
        low: The lowest pitch of that, in Hz.
        high: The highest.
        seconds: How short and how long it rings.
        rate: How often it is struck a second, about.
    """
    base, lasting = log_uniform(rng, low, high), rng.uniform(*seconds)
    samples = min(SAMPLES, int(1.5 * lasting * RATE) + 200)
    partials = [base * ratio * rng.uniform(0.98, 1.02) for ratio in ratios]

    def strike() -> Sound:
        ringing = modes(rng, partials, lasting, samples)
        ringing[:100] += rng.normal(size=100) * np.linspace(1, 0, 100)
        return ringing * rng.uniform(0.4, 1)

    times = in_rhythm(rng, rate, 0.05) if rng.uniform() < 0.5 else at_random(rng, rate)
    return repeat(times, strike) + 0.003 * noise(rng, 1)


def bell(rng: Rng) -> Sound:
    return struck(rng, [1, 2, 2.4, 3, 4, 5.3], 250, 1200, (1, 3), 1)


def small_bell(rng: Rng) -> Sound:
    return struck(rng, [1, 2.7, 5.2], 1500, 4000, (0.3, 1.2), rng.uniform(2, 8))


def gong(rng: Rng) -> Sound:
    return struck(rng, list(np.sort(rng.uniform(1, 9, 12))), 80, 300, (2, 5), 0.6)


def glass(rng: Rng) -> Sound:
    return struck(rng, [1, 2.3, 4.1], 1200, 3500, (0.2, 0.8), rng.uniform(1, 4))


def pan(rng: Rng) -> Sound:
    return struck(rng, list(np.sort(rng.uniform(1, 7, 8))), 300, 900, (0.3, 1), rng.uniform(1, 3))


def wood(rng: Rng) -> Sound:
    return struck(rng, [1, 2.6, 4.9], 250, 1500, (0.05, 0.15), rng.uniform(2, 6))


def coins(rng: Rng) -> Sound:
    return repeat(
        at_random(rng, rng.uniform(5, 20)),
        lambda: modes(rng, list(rng.uniform(3000, 7500, 5)), 0.15, 3000) * rng.uniform(0.2, 1),
    )


def keys(rng: Rng) -> Sound:
    return repeat(
        at_random(rng, rng.uniform(20, 60)),
        lambda: modes(rng, list(rng.uniform(3500, 7800, 3)), 0.05, 1200) * rng.uniform(0.1, 1),
    ) * curve(rng, 0.1, 1, 5)


def breaking_glass(rng: Rng) -> Sound:
    start = rng.uniform(0, 1)
    pieces = start + rng.exponential(0.25, rng.integers(15, 60))
    return repeat(
        np.append(pieces, start),
        lambda: (
            modes(rng, list(rng.uniform(2000, 7500, 4)), 0.2, 4000)
            + rng.uniform(0, 1) * band_noise(rng, 2000, 7500, 1, 4000) * decay(4000, 0.1)
        ),
    )


def plucked(rng: Rng) -> Sound:
    base = log_uniform(rng, 80, 700)
    scale = base * 2 ** (np.array([0, 2, 4, 7, 9, 12]) / 12)
    return repeat(
        in_rhythm(rng, rng.uniform(1, 5)),
        lambda: modes(rng, [rng.choice(scale) * number for number in range(1, 10)], 1.2, 20000),
    )


def ball(rng: Rng) -> Sound:
    gaps = rng.uniform(0.4, 0.7) * rng.uniform(0.75, 0.9) ** np.arange(15)
    ring = list(rng.uniform(80, 500, 3))
    return repeat(np.concatenate([[0.05], 0.05 + np.cumsum(gaps)]), lambda: modes(rng, ring, 0.12, 2500))


def knocking(rng: Rng) -> Sound:
    ring = list(rng.uniform(100, 600, 4))
    return repeat(
        in_rhythm(rng, rng.uniform(2, 6), 0.06),
        lambda: modes(rng, ring, rng.uniform(0.08, 0.2), 3500) + 0.3 * noise(rng, 1, 3500) * decay(3500, 0.03),
    )


def creaking(rng: Rng) -> Sound:
    return formants(pulses(curve(rng, 20, 160, 3), 0.1) - 0.15, list(rng.uniform(400, 3000, 4)), 0.05) * curve(
        rng, 0, 1, 3
    )


def squeaking(rng: Rng) -> Sound:
    return repeat(
        in_rhythm(rng, rng.uniform(1, 4), 0.1),
        lambda: rich(rng, curve(rng, 1200, 3000, 8, 4000), 1, 4, 4000) * fade(4000, 0.03, 0.05),
    )


def tick(rng: Rng, centre: float) -> Sound:
    """One tick of a clock, about `centre` Hz high."""
    sound = band_noise(rng, centre * 0.7, centre * 1.5, 2, 600) * decay(600, rng.uniform(0.01, 0.04), 0.0005)
    return sound + 0.5 * modes(rng, [centre, centre * 1.6], 0.04, 600)


def ticking(rng: Rng) -> Sound:
    centres = rng.uniform(1200, 5000) * np.array([1, rng.uniform(0.7, 1)])
    turn = iter(range(10**6))
    times = in_rhythm(rng, rng.choice([1.0, 2.0, 4.0, 5.0, 6.0]), 0.005)
    return repeat(times, lambda: tick(rng, centres[next(turn) % 2])) + rng.uniform(0, 0.05) * noise(rng, 1)


def clockwork(rng: Rng) -> Sound:
    centre = rng.uniform(1500, 5000)
    both = np.concatenate([tick(rng, centre), np.zeros(rng.integers(400, 1600)), 0.6 * tick(rng, centre * 0.8)])
    return repeat(in_rhythm(rng, rng.uniform(1, 5), 0.01), lambda: both) + rng.uniform(0, 0.03) * noise(rng, 1)


def typing(rng: Rng) -> Sound:
    def key() -> Sound:
        down = band_noise(rng, 800, 6000, 1, 900) * decay(900, 0.03) + modes(rng, [rng.uniform(200, 500)], 0.05, 900)
        return np.concatenate([down, np.zeros(rng.integers(300, 1500)), 0.4 * down])

    return repeat(in_rhythm(rng, rng.uniform(3, 10), 0.3), key)


def mouse_click(rng: Rng) -> Sound:
    return repeat(at_random(rng, 1.5), lambda: np.concatenate([tick(rng, 3500), np.zeros(900), tick(rng, 3000)]))


def ratchet(rng: Rng) -> Sound:
    return repeat(in_rhythm(rng, rng.uniform(15, 45), 0.05), lambda: tick(rng, 2200)) * (curve(rng, -0.5, 1, 3) > 0)


def sawing(rng: Rng) -> Sound:
    stroke = np.abs(np.sin(phase(rng.uniform(0.8, 2.5)))) ** 1.5
    return band_noise(rng, 700, 7000, 1) * (0.5 + pulses(rng.uniform(60, 140), 0.3)) * stroke


def scraping(rng: Rng) -> Sound:
    return band_noise(rng, log_uniform(rng, 500, 2500), 7500, 1) * np.maximum(np.sin(phase(rng.uniform(1, 4))), 0)


def zipper(rng: Rng) -> Sound:
    rate = np.linspace(rng.uniform(30, 80), rng.uniform(120, 300), SAMPLES)
    return band_noise(rng, 1500, 7000, 1) * pulses(rate, 0.2) * fade(SAMPLES, 0.1, 0.5)


def paper(rng: Rng) -> Sound:
    return band(sparks(rng, rng.uniform(200, 900), 3), 1200, 7500, 1) * curve(rng, 0, 1, 8) ** 2


def spray(rng: Rng) -> Sound:
    return repeat(
        in_rhythm(rng, rng.uniform(0.7, 2)),
        lambda: band_noise(rng, 2500, 7800, 1, 9000) * fade(9000, 0.02, 0.05),
    )


def hiss(rng: Rng) -> Sound:
    return band_noise(rng, rng.uniform(1000, 4000), 7800, 1) * fade(SAMPLES, rng.uniform(0.01, 1), rng.uniform(0.01, 1))


def bang(rng: Rng) -> Sound:
    return repeat(
        at_random(rng, 0.6),
        lambda: noise(rng, rng.uniform(0.3, 1.2), 20000) * decay(20000, rng.uniform(0.2, 1.2), 0.0005),
    ) + 0.003 * noise(rng, 1)


def machine_gun(rng: Rng) -> Sound:
    return repeat(
        in_rhythm(rng, rng.uniform(6, 14), 0.01), lambda: noise(rng, 0.8, 3000) * decay(3000, rng.uniform(0.1, 0.3))
    ) * (curve(rng, -0.4, 1, 2) > 0)


def firework(rng: Rng) -> Sound:
    rise = int(0.9 * RATE)
    whistle = np.sin(phase(np.linspace(rng.uniform(1000, 2000), rng.uniform(2500, 4500), rise), rise)) * 0.3
    blast = noise(rng, 1.2, 20000) * decay(20000, 1.0) * 2 + band(sparks(rng, 300)[:20000], 1500, 7000, 1)
    return repeat(np.array([rng.uniform(0, 0.5)]), lambda: np.concatenate([whistle, blast]))


def siren(rng: Rng) -> Sound:
    low = rng.uniform(400, 800)
    sweep = 0.5 + 0.5 * np.sin(phase(log_uniform(rng, 0.2, 4)) + rng.uniform(0, 6))
    return rich(rng, low * rng.uniform(1.6, 2.6) ** sweep, 1.2, 8)


def two_tone_siren(rng: Rng) -> Sound:
    low, is_high = rng.uniform(350, 800), np.sin(phase(rng.uniform(0.4, 1.5)) + rng.uniform(0, 6)) > 0
    return rich(rng, low * np.where(is_high, rng.uniform(1.2, 1.5), 1), 1, 8)


def alarm(rng: Rng) -> Sound:
    gate = np.sin(phase(log_uniform(rng, 1, 12))) > rng.uniform(-0.5, 0.5)
    return harmonics(rng.uniform(700, 3500), [1, 0, 0.4, 0, 0.2]) * gate


def telephone(rng: Rng) -> Sound:
    low, high, rate = rng.uniform(400, 1500), rng.uniform(1.1, 1.5), rng.uniform(12, 28)
    pitch = np.where(np.sin(phase(rate)) > 0, low, low * high)
    return harmonics(pitch, [1, 0.3, 0.4]) * (np.sin(phase(rng.uniform(0.3, 0.8)) + rng.uniform(0, 6)) > 0)


def dialling(rng: Rng) -> Sound:
    rows, columns = [697.0, 770, 852, 941], [1209.0, 1336, 1477, 1633]
    return repeat(
        in_rhythm(rng, rng.uniform(2, 6)),
        lambda: np.sin(phase(rng.choice(rows), 1800)) + np.sin(phase(rng.choice(columns), 1800)),
    )


def morse(rng: Rng) -> Sound:
    unit = int(RATE * rng.uniform(0.04, 0.09))
    keyed = np.repeat(np.concatenate([[1] * rng.choice([1, 3]) + [0] for _ in range(40)]), unit)[:SAMPLES]
    return np.sin(phase(rng.uniform(500, 1200))) * np.pad(keyed, (0, SAMPLES - len(keyed)))


def modem(rng: Rng) -> Sound:
    bits = np.repeat(rng.integers(0, 2, 1500), RATE // 300)[:SAMPLES]
    return np.sin(phase(rng.uniform(1000, 1300) + 900.0 * np.pad(bits, (0, SAMPLES - len(bits))))) + 0.1 * noise(rng)


def horn(rng: Rng) -> Sound:
    low = log_uniform(rng, 90, 450)
    sound = rich(rng, low, 0.6) + rich(rng, low * rng.choice([1.2, 1.26, 1.5]), 0.6)
    return sound * (curve(rng, -0.5, 1, 2) > 0)


def referee_whistle(rng: Rng) -> Sound:
    pitch = rng.uniform(2200, 3800) * (1 + 0.02 * np.sin(phase(rng.uniform(20, 45))))
    return (np.sin(phase(pitch)) + 0.3 * band_noise(rng, 2000, 5000)) * (curve(rng, -0.5, 1, 3) > 0)


def laser(rng: Rng) -> Sound:
    low, high, samples = rng.uniform(100, 500), rng.uniform(1500, 5000), int(RATE * rng.uniform(0.1, 0.4))
    return repeat(
        in_rhythm(rng, rng.uniform(1, 6)),
        lambda: rich(rng, np.geomspace(high, low, samples), 1, 5, samples) * fade(samples, 0.002, 0.05),
    )


def arcade(rng: Rng) -> Sound:
    steps = log_uniform(rng, 200, 700) * 2 ** (rng.integers(-12, 24, 40) / 12)
    pitch = np.repeat(steps, int(RATE / rng.uniform(8, 30)))
    return np.sign(np.sin(phase(np.resize(pitch, SAMPLES))))


def record_crackle(rng: Rng) -> Sound:
    return band(sparks(rng, rng.uniform(10, 60), 2), 500, 6000, 1) + 0.1 * noise(rng, 1) + 0.1 * np.sin(phase(50.0))


def radio_tuning(rng: Rng) -> Sound:
    return np.sin(phase(curve(rng, 100, 5000, 3))) * curve(rng, 0, 1, 4) + band_noise(rng, 300, 5000, 1) * curve(
        rng, 0, 1, 4
    )


def robot(rng: Rng) -> Sound:
    words = formants(rich(rng, rng.uniform(80, 160), 0.3) * curve(rng, 0, 1, 8), list(rng.uniform(300, 3000, 3)))
    return words * np.sin(phase(rng.uniform(20, 90)))


def sine(rng: Rng) -> Sound:
    return np.sin(phase(log_uniform(rng, 60, 7000)))


def square(rng: Rng) -> Sound:
    frequency = log_uniform(rng, 50, 2000)
    return harmonics(frequency, [1 / number if number % 2 else 0 for number in range(1, 60)])


def sawtooth(rng: Rng) -> Sound:
    return harmonics(log_uniform(rng, 50, 2000), [1 / number for number in range(1, 60)])


def chord(rng: Rng) -> Sound:
    base = log_uniform(rng, 80, 600)
    notes = [rich(rng, base * 2 ** (step / 12), 1.2, 8) for step in rng.choice(12, 3, replace=False)]
    return np.sum(notes, axis=0)


def vibrato(rng: Rng) -> Sound:
    return rich(
        rng, log_uniform(rng, 100, 1500) * (1 + rng.uniform(0.01, 0.08) * np.sin(phase(rng.uniform(3, 9)))), 1, 10
    )


def tremolo(rng: Rng) -> Sound:
    return rich(rng, log_uniform(rng, 100, 2000), 1, 10) * (0.5 + 0.5 * np.sin(phase(log_uniform(rng, 2, 15))))


def frequency_modulation(rng: Rng) -> Sound:
    carrier = log_uniform(rng, 100, 2500)
    return np.sin(phase(carrier) + rng.uniform(1, 8) * np.sin(phase(carrier * rng.uniform(0.2, 3))))


def rising_sweep(rng: Rng) -> Sound:
    return sweep(rng, log_uniform(rng, 50, 500), log_uniform(rng, 1000, 7500))


def falling_sweep(rng: Rng) -> Sound:
    return sweep(rng, log_uniform(rng, 1000, 7500), log_uniform(rng, 50, 500))


def sweep(rng: Rng, first: float, last: float) -> Sound:
    """Sweeps from one frequency in Hz to another, a few times."""
    position = (np.arange(SAMPLES) / SAMPLES * rng.integers(1, 5)) % 1
    return np.sin(phase(first * (last / first) ** position))


def clicks(rng: Rng) -> Sound:
    return repeat(in_rhythm(rng, log_uniform(rng, 2, 60), 0), lambda: np.ones(1)) + 1e-4 * noise(rng)


def random_clicks(rng: Rng) -> Sound:
    return sparks(rng, log_uniform(rng, 2, 200), 1) + 1e-4 * noise(rng)


def white_noise(rng: Rng) -> Sound:
    return noise(rng)


def pink_noise(rng: Rng) -> Sound:
    return noise(rng, rng.uniform(0.8, 1.2))


def brown_noise(rng: Rng) -> Sound:
    return noise(rng, rng.uniform(1.8, 2.4))


def blue_noise(rng: Rng) -> Sound:
    return noise(rng, rng.uniform(-1.2, -0.8))


def narrow_noise(rng: Rng) -> Sound:
    centre = log_uniform(rng, 150, 5000)
    return band_noise(rng, centre * 0.9, centre * 1.1, 4)


def noise_bursts(rng: Rng) -> Sound:
    return noise(rng, rng.uniform(0, 1)) * (np.sin(phase(log_uniform(rng, 1, 12))) > rng.uniform(-0.5, 0.7))


def room(rng: Rng) -> Sound:
    return noise(rng, rng.uniform(1, 1.8)) + 0.3 * harmonics(50.0, list(rng.uniform(0, 1, 6)))


Kind = Callable[[Rng], Sound]
MACHINES: dict[str, Kind] = {
    function.__name__.replace("_", " "): function
    for function in (
        idling, revving, motorcycle, chainsaw, tractor, helicopter, propeller_plane, jet, passing_car, train,
        steam_engine, electric_motor, drill, vacuum_cleaner, fan, washing_machine, sewing_machine, printer, hum,
        electric_arc, bell, small_bell, gong, glass, pan, wood, coins, keys, breaking_glass, plucked, ball, knocking,
        creaking, squeaking, ticking, clockwork, typing, mouse_click, ratchet, sawing, scraping, zipper, paper, spray,
        hiss, bang, machine_gun, firework, siren, two_tone_siren, alarm, telephone, dialling, morse, modem, horn,
        referee_whistle, laser, arcade, record_crackle, radio_tuning, robot, sine, square, sawtooth, chord, vibrato,
        tremolo, frequency_modulation, rising_sweep, falling_sweep, clicks, random_clicks, white_noise, pink_noise,
        brown_noise, blue_noise, narrow_noise, noise_bursts, room,
    )
}  # fmt: skip
