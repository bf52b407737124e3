"""Synthetic weather, water, fire, animals and people: one function a kind of sound, from a random generator."""

import numpy as np

from tiny.primitives import (
    RATE,
    SAMPLES,
    SECONDS,
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
    mouth,
    noise,
    phase,
    pulses,
    repeat,
    rich,
    sparks,
)


def wind(rng: Rng) -> Sound:
    low, high = noise(rng, 2.0), band_noise(rng, 300, rng.uniform(700, 1500))
    return low * curve(rng, 0.3, 1, 1.5) + high * curve(rng, 0, 0.5, 2) ** 2


def howling_wind(rng: Rng) -> Sound:
    pitch = curve(rng, 250, rng.uniform(400, 900), 1.5)
    whistle = band(noise(rng) * np.sin(phase(pitch)), 100, 1500) + np.sin(phase(pitch) + noise(rng, 2) * 3)
    return whistle * curve(rng, 0.1, 1, 2) + 0.5 * noise(rng, 1.5)


def rain(rng: Rng) -> Sound:
    drops = band(sparks(rng, log_uniform(rng, 300, 3000)), rng.uniform(800, 2000), 7000)
    return drops / drops.std() + rng.uniform(0.2, 1.2) * band_noise(rng, 500, rng.uniform(4000, 7500), 1)


def drizzle(rng: Rng) -> Sound:
    drops = band(sparks(rng, log_uniform(rng, 15, 120), 1.5), rng.uniform(400, 1500), rng.uniform(3000, 7000), 2)
    return drops / drops.std() + rng.uniform(0.02, 0.3) * noise(rng, 1)


def rain_on_tin(rng: Rng) -> Sound:
    ring = rng.uniform(600, 3500, 5).tolist()
    return formants(sparks(rng, log_uniform(rng, 30, 400)), ring, 0.03) * 20 + 0.02 * noise(rng, 1)


def hail(rng: Rng) -> Sound:
    return repeat(
        at_random(rng, log_uniform(rng, 15, 60)),
        lambda: rng.uniform(0.1, 1) * band_noise(rng, rng.uniform(500, 3000), 6000, 2, 400) * decay(400, 0.02),
    ) + 0.05 * noise(rng, 0.5)


def thunder(rng: Rng) -> Sound:
    rumble = noise(rng, 2.5) * curve(rng, 0.1, 1, 6) * decay(SAMPLES, rng.uniform(3, 9), rng.uniform(0.01, 0.4))
    crack = noise(rng, 0.7) * decay(SAMPLES, rng.uniform(0.3, 1.2)) * rng.uniform(0, 1)
    return rumble + np.roll(crack, rng.integers(SAMPLES // 3))


def surf(rng: Rng) -> Sound:
    swell = (0.5 + 0.5 * np.sin(2 * np.pi * (TIME * rng.uniform(0.1, 0.45) + rng.uniform()))) ** rng.uniform(1, 3)
    return noise(rng, 1) * (0.2 + swell) + band_noise(rng, 1500, 7000, 1) * swell**2 * rng.uniform(0.2, 1)


def stream(rng: Rng) -> Sound:
    return repeat(at_random(rng, rng.uniform(60, 160)), lambda: bubble(rng, 400, 2500)) + rng.uniform(
        0.02, 0.2
    ) * band_noise(rng, 400, 5000, 1)


def bubble(rng: Rng, low: float, high: float) -> Sound:
    """One bubble: a short tone that rises."""
    samples = int(RATE * rng.uniform(0.01, 0.06))
    pitch = log_uniform(rng, low, high) * np.linspace(1, rng.uniform(1.1, 1.8), samples)
    return np.sin(phase(pitch, samples)) * decay(samples, rng.uniform(0.03, 0.1)) * rng.uniform(0.1, 1)


def boiling(rng: Rng) -> Sound:
    return repeat(at_random(rng, rng.uniform(30, 90)), lambda: bubble(rng, 150, 700)) + 0.1 * noise(rng, 1.5)


def dripping(rng: Rng) -> Sound:
    return repeat(in_rhythm(rng, log_uniform(rng, 0.8, 5), 0.1), lambda: bubble(rng, 600, 2500)) + 0.003 * noise(rng)


def pouring(rng: Rng) -> Sound:
    body = band_noise(rng, 400, 6000, 1) * curve(rng, 0.6, 1, 8)
    resonance = np.linspace(rng.uniform(300, 700), rng.uniform(900, 2000), SAMPLES)
    return body + band(noise(rng) * np.sin(phase(resonance)), 200, 3000) * 2 + stream(rng) * 0.5


def splash(rng: Rng) -> Sound:
    return repeat(
        at_random(rng, 0.8),
        lambda: (
            band_noise(rng, 300, 6000, 1, 16000) * decay(16000, rng.uniform(0.3, 1), 0.01)
            + 0.3 * decay(16000, 0.5) * noise(rng, 2, 16000)
        ),
    ) + 0.1 * stream(rng)


def fire(rng: Rng) -> Sound:
    crackle = band(sparks(rng, log_uniform(rng, 8, 80), 2.5), rng.uniform(500, 1500), 7500, 1)
    return (
        crackle / crackle.std()
        + rng.uniform(0.1, 0.6) * noise(rng, 1.8) * curve(rng, 0.5, 1, 6)
        + rng.uniform(0, 0.15) * noise(rng)
    )


def frying(rng: Rng) -> Sound:
    return band(sparks(rng, log_uniform(rng, 800, 5000)), 2000, 7500) + rng.uniform(0.05, 0.3) * band_noise(
        rng, 2500, 7500
    )


def leaves(rng: Rng) -> Sound:
    return band_noise(rng, 1500, 7500, 1) * curve(rng, 0, 1, 12) ** 2 + 0.1 * band(sparks(rng, 200), 2000, 7000)


def bird_song(
    rng: Rng, low: float, high: float, note: tuple[float, float], glide: float, trill: float, per_second: float
) -> Sound:
    """Whistled notes that glide; a song repeats its notes.

    Args:
        rng: The random generator.
        low: The lowest pitch in Hz.
        high: The highest pitch in Hz.
        note: The shortest and longest note in seconds.
        glide: How far a note glides, as a share of its pitch.
        trill: How fast its pitch trembles, in Hz; 0 for not at all.
        per_second: How many notes there are.
    """
    notes = []
    for _ in range(rng.integers(1, 4)):
        samples = int(RATE * rng.uniform(*note))
        start = log_uniform(rng, low, high)
        pitch = start * (1 + np.linspace(0, rng.uniform(-glide, glide), samples))
        if trill:
            pitch = pitch * (1 + 0.08 * np.sin(phase(trill * rng.uniform(0.7, 1.3), samples)))
        sound = np.sin(phase(pitch, samples)) + rng.uniform(0, 0.3) * np.sin(2 * phase(pitch, samples))
        notes.append(sound * fade(samples, 0.01, 0.02) * rng.uniform(0.5, 1))
    order = iter(range(10**6))
    return repeat(in_rhythm(rng, per_second, 0.08), lambda: notes[next(order) % len(notes)]) + 0.01 * noise(rng, 1)


def chirping_bird(rng: Rng) -> Sound:
    return bird_song(rng, 2500, 6500, (0.03, 0.12), 0.5, 0, rng.uniform(3, 9))


def whistling_bird(rng: Rng) -> Sound:
    return bird_song(rng, 1200, 4000, (0.15, 0.6), 0.25, 0, rng.uniform(1, 2.5))


def trilling_bird(rng: Rng) -> Sound:
    return bird_song(rng, 2000, 5500, (0.3, 1), 0.2, rng.uniform(15, 40), rng.uniform(0.8, 1.5))


def cuckoo(rng: Rng) -> Sound:
    pitch, samples = rng.uniform(550, 800), int(0.22 * RATE)
    call = np.concatenate(
        [
            harmonics(pitch, [1, 0.15], samples) * fade(samples, 0.03, 0.05),
            np.zeros(samples // 2),
            harmonics(pitch * 0.82, [1, 0.15], samples) * fade(samples, 0.03, 0.08),
        ]
    )
    return repeat(in_rhythm(rng, rng.uniform(0.6, 1.2)), lambda: call) + 0.02 * noise(rng, 1)


def owl(rng: Rng) -> Sound:
    pitch = rng.uniform(280, 480)
    return repeat(
        in_rhythm(rng, rng.uniform(1, 2.5), 0.15),
        lambda: harmonics(pitch * np.linspace(1.05, 0.95, 5000), [1, 0.2, 0.05], 5000) * fade(5000, 0.06, 0.12),
    ) + 0.02 * noise(rng, 1)


def voiced(rng: Rng, pitch: Sound, rough: float, slope: float = 1.0, opening: Sound | None = None) -> Sound:
    """A call through a random mouth: harmonics of a pitch in Hz, `rough` by noise in pitch and in loudness."""
    samples = len(pitch)
    pitch = pitch * (1 + rough * 0.1 * noise(rng, 1, samples))
    source = rich(rng, pitch, slope, 40, samples) * (1 + rough * noise(rng, 1, samples))
    sound = formants(source + rough * 0.3 * noise(rng, 0, samples), mouth(rng))
    return sound / (sound.std() + 1e-9) * (fade(samples, 0.03, 0.08) if opening is None else opening)


def glide(rng: Rng, seconds: float, *pitches: float) -> Sound:
    """A pitch that goes through these, in Hz."""
    samples = round(seconds * RATE)
    return np.interp(np.linspace(0, len(pitches) - 1, samples), np.arange(len(pitches)), pitches)


def crow(rng: Rng) -> Sound:
    base = rng.uniform(450, 700)
    return repeat(
        in_rhythm(rng, rng.uniform(1, 2.5), 0.1),
        lambda: voiced(rng, glide(rng, 0.3, base, base * 1.1, base * 0.85), 0.7, 0.3),
    )


def rooster(rng: Rng) -> Sound:
    base = rng.uniform(500, 750)

    def crowing() -> Sound:
        syllables = [
            voiced(rng, glide(rng, length, base * start, base * stop), rng.uniform(0.1, 0.5), 0.6)
            for length, start, stop in ((0.18, 0.8, 1), (0.2, 1, 1.15), (0.25, 1.1, 1.3), (0.8, 1.35, 0.8))
        ]
        return np.concatenate(syllables)

    return repeat(np.array([rng.uniform(0, 0.9)]), crowing)


def clucking(rng: Rng) -> Sound:
    base = rng.uniform(350, 700)
    return repeat(
        in_rhythm(rng, rng.uniform(2, 6), 0.2),
        lambda: voiced(rng, glide(rng, rng.uniform(0.05, 0.15), base, base * 1.3), 0.3, 0.7),
    )


def duck(rng: Rng) -> Sound:
    base = rng.uniform(180, 300)
    return repeat(
        in_rhythm(rng, rng.uniform(1.5, 4), 0.1), lambda: voiced(rng, glide(rng, 0.18, base, base * 0.8), 0.6, 0.1)
    )


def barking(rng: Rng) -> Sound:
    base = log_uniform(rng, 180, 700)
    length = rng.uniform(0.1, 0.25)
    return repeat(
        in_rhythm(rng, rng.uniform(0.8, 4), 0.2),
        lambda: voiced(rng, glide(rng, length, base, base * 1.5, base * 0.7), rng.uniform(0.3, 0.9), 0.6),
    )


def howling(rng: Rng) -> Sound:
    base = rng.uniform(250, 600)
    return voiced(rng, glide(rng, SECONDS, base, base * 1.6, base * 1.5, base * 1.1), 0.05, 1.5)


def growling(rng: Rng) -> Sound:
    return voiced(rng, curve(rng, 40, 90, 3), 0.8, 0.3) * curve(rng, 0.3, 1, 4)


def meowing(rng: Rng) -> Sound:
    base = rng.uniform(400, 800)
    return repeat(
        in_rhythm(rng, rng.uniform(0.6, 1.3), 0.1),
        lambda: voiced(rng, glide(rng, rng.uniform(0.4, 0.9), base * 0.8, base * 1.2, base), 0.05, 1),
    )


def purring(rng: Rng) -> Sound:
    return noise(rng, 1) * pulses(rng.uniform(20, 30), 0.25) * (0.6 + 0.4 * np.sin(phase(rng.uniform(0.5, 1))))


def mooing(rng: Rng) -> Sound:
    base = rng.uniform(90, 180)
    return voiced(rng, glide(rng, rng.uniform(1.5, 2.5), base, base * 1.3, base * 1.2, base * 0.8), 0.25, 0.8)


def bleating(rng: Rng) -> Sound:
    base, tremble = rng.uniform(220, 450), rng.uniform(7, 13)
    pitch = glide(rng, rng.uniform(0.7, 1.5), base, base * 0.9)
    shaking = 1 + 0.15 * np.sin(phase(tremble, len(pitch)))
    return repeat(
        in_rhythm(rng, 0.7),
        lambda: voiced(rng, pitch * shaking, 0.2, 0.5) * (0.6 + 0.4 * np.sin(phase(tremble, len(pitch)))),
    )


def neighing(rng: Rng) -> Sound:
    base = rng.uniform(500, 900)
    pitch = glide(rng, 1.6, base, base * 1.6, base * 0.6) * (
        1 + 0.12 * np.sin(phase(rng.uniform(8, 14), int(1.6 * RATE)))
    )
    return repeat(np.array([rng.uniform(0, 0.7)]), lambda: voiced(rng, pitch, 0.4, 0.5))


def snorting(rng: Rng) -> Sound:
    rate = rng.uniform(25, 60)
    return repeat(
        in_rhythm(rng, rng.uniform(1, 2.5), 0.2),
        lambda: formants(noise(rng, 0, 6000) * pulses(rate, 0.2, 6000), mouth(rng)) * fade(6000, 0.05, 0.1) * 5,
    )


def frog(rng: Rng) -> Sound:
    pitch, rate = rng.uniform(400, 1600), rng.uniform(15, 60)
    return repeat(
        in_rhythm(rng, rng.uniform(1, 4), 0.05),
        lambda: harmonics(pitch, [1, 0.5, 0.3], 4000) * pulses(rate, 0.25, 4000) * fade(4000, 0.02, 0.03),
    ) + 0.02 * noise(rng, 1)


def crickets(rng: Rng) -> Sound:
    sound = np.zeros(SAMPLES)
    for _ in range(rng.integers(1, 4)):
        gate = pulses(rng.uniform(1, 4), 0.25) > 0.3
        sound += np.sin(phase(rng.uniform(3000, 6500))) * pulses(rng.uniform(25, 60), 0.25) * gate * rng.uniform(0.3, 1)
    return sound + 0.03 * noise(rng, 1)


def cicadas(rng: Rng) -> Sound:
    low = rng.uniform(2500, 5000)
    return band_noise(rng, low, low * 1.4) * (0.3 + pulses(rng.uniform(60, 250), 0.3)) * curve(rng, 0.4, 1, 2)


def bees(rng: Rng) -> Sound:
    return sum(
        rich(rng, curve(rng, 150, 280, 6), 0.7, 25) * curve(rng, 0.1, 1, 4) for _ in range(rng.integers(1, 6))
    ) + 0.1 * noise(rng, 1)


def mosquito(rng: Rng) -> Sound:
    return rich(rng, curve(rng, 400, 800, 4), 0.9, 12) * curve(rng, 0.02, 1, 2) ** 2 + 0.02 * noise(rng, 1)


def vowel(rng: Rng) -> Sound:
    base = log_uniform(rng, 80, 400)
    return voiced(rng, curve(rng, base, base * 1.06, 5), 0.05, 1.2)


def babbling(rng: Rng) -> Sound:
    base = log_uniform(rng, 90, 350)
    return repeat(
        in_rhythm(rng, rng.uniform(3, 6), 0.15),
        lambda: voiced(rng, curve(rng, base * 0.8, base * 1.3, 8, int(RATE * rng.uniform(0.08, 0.25))), 0.08, 1),
    )


def crying(rng: Rng) -> Sound:
    base = rng.uniform(350, 600)
    return repeat(
        in_rhythm(rng, rng.uniform(0.7, 1.4), 0.1),
        lambda: voiced(
            rng,
            glide(rng, rng.uniform(0.5, 1.1), base * 0.8, base * 1.2, base * 1.1, base * 0.8),
            rng.uniform(0.05, 0.5),
            0.6,
        ),
    )


def laughing(rng: Rng) -> Sound:
    base = log_uniform(rng, 150, 450)
    return repeat(
        in_rhythm(rng, rng.uniform(3.5, 6), 0.05),
        lambda: voiced(rng, glide(rng, 0.13, base * 1.2, base), 0.3, 1) + 0.2 * noise(rng, 0, int(0.13 * RATE)),
    )


def screaming(rng: Rng) -> Sound:
    base = rng.uniform(700, 1400)
    return repeat(
        np.array([rng.uniform(0, 0.8)]),
        lambda: voiced(rng, glide(rng, rng.uniform(0.8, 1.6), base * 0.7, base, base * 0.9), 0.4, 0.4),
    )


def cheering(rng: Rng) -> Sound:
    return sum(
        voiced(rng, curve(rng, base, base * 1.5, 3), 0.2, 0.8) for base in rng.uniform(150, 500, 8)
    ) + 3 * formants(noise(rng), mouth(rng))


def coughing(rng: Rng) -> Sound:
    def cough() -> Sound:
        samples = int(RATE * rng.uniform(0.15, 0.35))
        burst = formants(noise(rng, 0.3, samples), mouth(rng)) * decay(samples, rng.uniform(0.2, 0.5), 0.005)
        return burst / burst.std() + 0.5 * voiced(rng, glide(rng, samples / RATE, 250, 150), 0.8, 0.5)

    return repeat(in_rhythm(rng, rng.uniform(1, 3), 0.2), cough)


def sneezing(rng: Rng) -> Sound:
    def sneeze() -> Sound:
        breath = band_noise(rng, 500, 3000, 1, 6000) * np.linspace(0, 0.3, 6000)
        burst = band_noise(rng, 1000, 7500, 1, 7000) * decay(7000, rng.uniform(0.3, 0.6), 0.01) * 2
        voice = voiced(rng, glide(rng, 0.25, 400, 200), 0.3, 0.8)
        return np.concatenate([breath, voice * rng.uniform(0, 1), burst])

    return repeat(np.array([rng.uniform(0, 1.2)]), sneeze)


def breathing(rng: Rng) -> Sound:
    cycle = np.sin(phase(rng.uniform(0.3, 1.2)) + rng.uniform(0, 6))
    return formants(noise(rng), mouth(rng), 0.3) * np.abs(cycle) * np.where(cycle > 0, 1, rng.uniform(0.3, 0.8))


def snoring(rng: Rng) -> Sound:
    cycle = np.maximum(np.sin(phase(rng.uniform(0.35, 0.7)) + rng.uniform(0, 6)), 0)
    return formants(noise(rng, 0.5) * pulses(curve(rng, 20, 70, 3), 0.2), mouth(rng), 0.3) * cycle + 0.003 * noise(rng)


def whistling(rng: Rng) -> Sound:
    steps = np.repeat(log_uniform(rng, 700, 1500) * 2 ** (rng.integers(0, 12, 8) / 12), SAMPLES // 8 + 1)[:SAMPLES]
    pitch = np.convolve(np.pad(steps, 400, mode="edge"), np.ones(801) / 801, mode="valid")
    return np.sin(phase(pitch * (1 + 0.01 * np.sin(phase(5.5))))) + 0.05 * band_noise(rng, 800, 5000, 1)


def heartbeat(rng: Rng) -> Sound:
    def beat() -> Sound:
        low, high = (decay(2500, 0.12, 0.01) * np.sin(phase(pitch, 2500)) for pitch in (rng.uniform(45, 70), 75.0))
        return np.concatenate([low, np.zeros(1500), 0.7 * high])

    return repeat(in_rhythm(rng, rng.uniform(0.9, 2)), beat) + 0.01 * noise(rng, 1.5)


def clapping(rng: Rng) -> Sound:
    centre = rng.uniform(900, 2200)
    return repeat(
        in_rhythm(rng, rng.uniform(1.5, 5), 0.05),
        lambda: band_noise(rng, centre * 0.6, centre * 2, 2, 2000) * decay(2000, rng.uniform(0.03, 0.1)),
    )


def applause(rng: Rng) -> Sound:
    return repeat(
        at_random(rng, rng.uniform(80, 250)),
        lambda: rng.uniform(0.2, 1) * band_noise(rng, rng.uniform(500, 1500), 5000, 2, 800) * decay(800, 0.04),
    )


def footsteps(rng: Rng) -> Sound:
    low = rng.uniform(60, 250)
    return repeat(
        in_rhythm(rng, rng.uniform(1.4, 3), 0.05),
        lambda: (
            band_noise(rng, low, low * 6, 2, 3000) * decay(3000, 0.1)
            + 0.3 * band_noise(rng, 1500, 6000, 1, 3000) * decay(3000, rng.uniform(0.02, 0.1))
        ),
    ) + 0.005 * noise(rng, 1)


def gravel(rng: Rng) -> Sound:
    def step() -> Sound:
        samples = int(RATE * rng.uniform(0.2, 0.4))
        grains = band(rng.normal(size=samples) * (rng.uniform(size=samples) < 0.03), 800, 7000, 1)
        return grains * fade(samples, 0.05, 0.1) * 5

    return repeat(in_rhythm(rng, rng.uniform(1.3, 3), 0.05), step) + 0.01 * noise(rng, 1)


NATURE = {
    function.__name__.replace("_", " "): function
    for function in (
        wind, howling_wind, rain, drizzle, rain_on_tin, hail, thunder, surf, stream, boiling, dripping, pouring, splash,
        fire, frying, leaves, chirping_bird, whistling_bird, trilling_bird, cuckoo, owl, crow, rooster, clucking, duck,
        barking, howling, growling, meowing, purring, mooing, bleating, neighing, snorting, frog, crickets, cicadas,
        bees, mosquito, vowel, babbling, crying, laughing, screaming, cheering, coughing, sneezing, breathing, snoring,
        whistling, heartbeat, clapping, applause, footsteps, gravel,
    )
}  # fmt: skip
