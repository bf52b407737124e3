"""Instruments and percussion of General MIDI, rendered with FluidSynth from Debian's fluid-soundfont-gm (MIT)."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from tiny.primitives import RATE, SECONDS, Rng, Sound

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
# A note in the middle of its clip's time may ring on into what is left of it.
SLOT_MS = 3000
RENDERED_RATE = 32000  # Hz; at the network's own rate FluidSynth's interpolation would alias
DRUM_CHANNEL = 9
DRUM_KITS = (0, 8, 16, 24, 25, 32, 40, 48)

# The programs of General MIDI, from 0.
_PROGRAMS = """
    acoustic grand piano, bright piano, electric grand piano, honky-tonk piano, electric piano 1, electric piano 2,
    harpsichord, clavinet, celesta, glockenspiel, music box, vibraphone, marimba, xylophone, tubular bells,
    dulcimer, drawbar organ, percussive organ, rock organ, church organ, reed organ, accordion, harmonica,
    bandoneon, nylon guitar, steel guitar, jazz guitar, clean guitar, muted guitar, overdriven guitar, distortion
    guitar, guitar harmonics, acoustic bass, fingered bass, picked bass, fretless bass, slap bass 1, slap bass 2,
    synth bass 1, synth bass 2, violin, viola, cello, contrabass, tremolo strings, pizzicato strings, harp,
    timpani, strings, slow strings, synth strings 1, synth strings 2, choir aahs, voice oohs, synth voice,
    orchestra hit, trumpet, trombone, tuba, muted trumpet, French horn, brass section, synth brass 1, synth brass
    2, soprano saxophone, alto saxophone, tenor saxophone, baritone saxophone, oboe, English horn, bassoon,
    clarinet, piccolo, flute, recorder, pan flute, blown bottle, shakuhachi, whistle, ocarina, square lead,
    sawtooth lead, calliope lead, chiff lead, charang lead, voice lead, fifths lead, bass and lead, new age pad,
    warm pad, polysynth pad, choir pad, bowed pad, metallic pad, halo pad, sweep pad, rain effect, soundtrack
    effect, crystal effect, atmosphere effect, brightness effect, goblins effect, echoes effect, sci-fi effect,
    sitar, banjo, shamisen, koto, kalimba, bagpipe, fiddle, shanai, tinkle bell, agogo, steel drums, woodblock,
    taiko, melodic tom, synth drum, reverse cymbal, fret noise, breath noise, seashore, bird tweet, telephone ring,
    helicopter effect, applause effect, gunshot
"""
PROGRAMS = tuple(" ".join(name.split()) for name in _PROGRAMS.split(","))

# The keys of General MIDI's percussion, from 35.
FIRST_KEY = 35
_PERCUSSION = """
    acoustic bass drum, bass drum, side stick, acoustic snare, hand clap, electric snare, low floor tom, closed
    hi-hat, high floor tom, pedal hi-hat, low tom, open hi-hat, low mid tom, high mid tom, crash cymbal, high tom,
    ride cymbal, Chinese cymbal, ride bell, tambourine, splash cymbal, cowbell, second crash cymbal, vibraslap,
    second ride cymbal, high bongo, low bongo, muted high conga, open high conga, low conga, high timbale, low
    timbale, high agogo, low agogo, cabasa, maracas, short whistle, long whistle, short guiro, long guiro, claves,
    high wood block, low wood block, muted cuica, open cuica, mute triangle, open triangle
"""
PERCUSSION = tuple(" ".join(name.split()) for name in _PERCUSSION.split(","))

Event = tuple[int, bytes]  # when, in milliseconds, and a MIDI message


def render_program(program: int, clips: int, rng: Rng) -> Iterator[Sound]:
    """Clips of an instrument: single notes, repeated notes, chords, and runs, of any pitch and velocity."""
    events: list[Event] = [(0, bytes([0xC0, program]))]
    for clip in range(clips):
        events += phrase(clip * SLOT_MS, rng)
    return render(events, clips, has_reverb=bool(rng.integers(2)))


def phrase(start: int, rng: Rng) -> list[Event]:
    """A few notes of one clip."""
    root, velocity = int(rng.integers(33, 92)), int(rng.integers(40, 127))
    kind = rng.choice(["note", "repeated", "chord", "run"])
    if kind == "note":
        return strike(start, 0, root, velocity, int(rng.integers(150, 2300)))
    if kind == "chord":
        length = int(rng.integers(400, 2300))
        chord = [0, *rng.choice([3, 4, 5, 7, 9, 12, 16], rng.integers(1, 4), replace=False)]
        return [event for step in chord for event in strike(start, 0, root + int(step), velocity, length)]
    count = int(rng.integers(2, 9))
    gap = 2200 // count
    steps = np.zeros(count, int) if kind == "repeated" else rng.integers(-7, 13, count)
    length = int(gap * rng.uniform(0.3, 1))
    return [
        event
        for number, step in enumerate(steps)
        for event in strike(start + number * gap, 0, root + int(step), velocity, length)
    ]


def render_percussion(key: int, clips: int, rng: Rng) -> Iterator[Sound]:
    """Clips of a percussion instrument, struck once or a few times, in all drum kits."""
    events: list[Event] = []
    for clip in range(clips):
        start = clip * SLOT_MS
        events.append((start, bytes([0xC0 | DRUM_CHANNEL, DRUM_KITS[clip % len(DRUM_KITS)]])))
        count = int(rng.choice([1, 1, 2, 3, 4, 8]))
        for number in range(count):
            when = start + 10 + number * (2000 // count)
            events += strike(when, DRUM_CHANNEL, FIRST_KEY + key, int(rng.integers(40, 127)), 150)
    return render(events, clips, has_reverb=bool(rng.integers(2)))


def strike(start: int, channel: int, pitch: int, velocity: int, length: int) -> list[Event]:
    """A note on and, `length` milliseconds later, off."""
    pitch = min(max(pitch, 0), 127)
    return [(start, bytes([0x90 | channel, pitch, velocity])), (start + length, bytes([0x80 | channel, pitch, 0]))]


def render(events: list[Event], clips: int, has_reverb: bool) -> Iterator[Sound]:
    """Play events and cut what sounds into clips, each beginning with its slot."""
    with tempfile.TemporaryDirectory() as folder:
        song, wave = Path(folder, "song.mid"), Path(folder, "song.wav")
        song.write_bytes(midi_file([*events, (clips * SLOT_MS, bytes([0xB0, 123, 0]))]))
        subprocess.run(
            [
                *("fluidsynth", "-ni", "-q", "-R", str(int(has_reverb)), "-C", "0", "-g", "0.5"),
                *("-r", str(RENDERED_RATE), "-T", "wav", "-F", str(wave), str(SOUNDFONT), str(song)),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stereo, rate = soundfile.read(wave, dtype="float32")
    sound = soxr.resample(stereo.mean(1), rate, RATE)
    for clip in range(clips):
        begin = clip * SLOT_MS * RATE // 1000
        yield sound[begin : begin + int(SECONDS * RATE)]


def midi_file(events: list[Event]) -> bytes:
    """A MIDI file of one track, whose tick is a millisecond: 500 ticks a quarter note of half a second."""
    track, now = bytearray(), 0
    for when, message in sorted(events, key=lambda event: event[0]):
        track += variable_length(when - now) + message
        now = when
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4, "big") + b"\x00\x00\x00\x01" + (500).to_bytes(2, "big")
    return header + b"MTrk" + len(track).to_bytes(4, "big") + bytes(track)


def variable_length(number: int) -> bytes:
    """A number in MIDI's form: seven bits a byte, all but the last with the highest bit set."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F | 0x80)
    return bytes(reversed(groups))
