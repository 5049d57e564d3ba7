"""The sounds of synthetic scenes: backgrounds, distractors, and the class event of each class.

Levels are signal-to-noise ratios: the power of an event while it sounds, relative to the power of the background in the
third of an octave around it (in the whole range for bursts, in the band itself for a steady band).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.tasks.task import SPLITS, Split

Samples = NDArray[np.floating]  # (sample,) if no other axes are named
Band = tuple[float, float]  # lower and upper edge in Hz

RATE = 16_000  # Hz
SAMPLES = 2 * RATE
STREAM = 1  # the recipes of `benchmarks.classifiers` were chosen on scenes of another random stream

# Ranges of centre frequencies in Hz
LOW_BAND = (280.0, 400.0)
MIDDLE_BAND = (1100.0, 1500.0)
HIGH_BAND = (3600.0, 4800.0)
LOW_TONE = (620.0, 820.0)
HIGH_TONE = (2000.0, 2600.0)
SWEEPS = (600.0, 4500.0)
PIPS = ((900.0, 1900.0), (2800.0, 4500.0))  # apart from the tones, so that a pip is not mistaken for a short tone

# Ranges of durations of tones in seconds
SHORT = (0.14, 0.24)
LONG = (0.55, 0.75)

_SECONDS = np.arange(SAMPLES, dtype=np.float32) / RATE
_FREQUENCIES = np.fft.rfftfreq(SAMPLES, 1 / RATE).astype(np.float32)
AUDIBLE = (50.0, RATE / 2)


@dataclass(frozen=True)
class Event:
    """A single sound, with power 1 while it sounds.

    Attributes:
        samples: waveform (sample,), float32, as long as the clip, and zero outside the event.
        band: lower and upper edge in Hz of the band in which its level is measured against the background.
        levels: smallest and largest signal-to-noise ratio in dB, the same for class events and for distractors.
        gate: start and stop of a gated tone in seconds; None for other events.
    """

    samples: Samples
    band: Band
    levels: tuple[float, float]
    gate: tuple[float, float] | None = None


def scaled(event: Event, spectrum: Samples, ratio: float) -> Samples:
    """The waveform of an event at a signal-to-noise ratio in dB, relative to a background of this power spectrum."""
    low, high = np.searchsorted(_FREQUENCIES, event.band)
    # By Parseval's theorem, this is the mean square of the background in the band.
    power = 2 * spectrum[low:high].sum(dtype=np.float64) / SAMPLES**2
    return event.samples * np.float32(np.sqrt(power * 10 ** (ratio / 10)))


def _third_octave(frequency: float) -> Band:
    return frequency * 2 ** (-1 / 6), frequency * 2 ** (1 / 6)


# Backgrounds


def background(rng: Generator, voices: Samples) -> Samples:
    """White noise, pink noise or babble, of power about 1.

    Args:
        rng: the source of random numbers.
        voices: the sounds of talkers for babble, (talker, sample), as `talkers` makes them.
    """
    kind = rng.integers(3)
    return _babble(rng, voices) if kind == 2 else _shaped_noise(rng, (_WHITE, _PINK)[kind])


def _shaped_noise(rng: Generator, amplitude: Samples) -> Samples:
    """Gaussian noise of power 1 with this amplitude of the spectrum at each of `_FREQUENCIES`."""
    components = rng.standard_normal((2, len(_FREQUENCIES)), dtype=np.float32)
    noise = np.fft.irfft(amplitude * (components[0] + 1j * components[1]), SAMPLES).astype(np.float32)
    return noise / np.sqrt(np.mean(noise**2))


_WHITE = np.ones_like(_FREQUENCIES)
_PINK = 1 / np.sqrt(np.maximum(_FREQUENCIES, 40.0))


def _babble(rng: Generator, voices: Samples, number: int = 6) -> Samples:
    """Several talkers at the same time, each shifted by a random time."""
    chosen = rng.choice(len(voices), number, replace=False)
    sound = sum(np.roll(voices[talker], rng.integers(SAMPLES)) * np.float32(rng.uniform(0.5, 1)) for talker in chosen)
    return sound / np.sqrt(np.mean(sound**2)) + np.float32(0.15) * _shaped_noise(rng, _PINK)


@lru_cache(maxsize=8)
def talkers(seed: int, split: Split, number: int = 60) -> Samples:
    """Synthetic talkers: pulse trains of varying pitch in syllables, through formants; (talker, sample), power 1."""
    rng = np.random.default_rng([STREAM, seed, SPLITS.index(split), -1 % 2**32])
    return np.stack([_talker(rng) for _ in range(number)])


def _talker(rng: Generator) -> Samples:
    pitch = rng.uniform(90, 260) * (1 + 0.12 * _wander(rng, _PHRASES))
    # Pulses with about twelve harmonics
    pulses = np.exp(12 * np.cos(np.cumsum(2 * np.pi / RATE * pitch, dtype=np.float64)) - 12)
    source = (pulses - pulses.mean() + 0.05 * rng.standard_normal(SAMPLES)) * np.maximum(
        0.4 + _wander(rng, _SYLLABLES), 0
    )
    formants = rng.uniform([300, 900, 2200], [800, 2000, 3200])
    resonance = sum(2.0**-place / (1 + ((_FREQUENCIES - formant) / 120) ** 2) for place, formant in enumerate(formants))
    sound = np.fft.irfft(np.fft.rfft(source) * resonance, SAMPLES)
    return (sound / np.sqrt(np.mean(sound**2))).astype(np.float32)


def _turns(knots: int) -> Samples:
    """Raised-cosine windows around evenly spaced knots, (knot, sample); they add up to 1."""
    distance = np.abs(
        np.linspace(0, knots - 1, SAMPLES, dtype=np.float32) - np.arange(knots, dtype=np.float32)[:, None]
    )
    return (1 + np.cos(np.pi * np.minimum(distance, 1))) / 2


_PHRASES = _turns(12)
_SYLLABLES = _turns(20)


def _wander(rng: Generator, turns: Samples) -> Samples:
    """A smooth curve through random values at the knots, (sample,)."""
    return rng.standard_normal(len(turns)) @ turns


# Events


def _gate(start: float, seconds: float, ramp: float) -> Samples:
    """A gate that opens at `start` for a number of seconds, with raised-cosine ramps of `ramp` seconds inside it."""
    inside = np.minimum(_SECONDS - start, start + seconds - _SECONDS)
    return (1 - np.cos(np.pi * np.clip(inside / ramp, 0, 1, dtype=np.float32))) / 2


def _sounding(samples: Samples, gate: Samples) -> Samples:
    """The samples behind the gate, scaled to power 1 while it is open."""
    sound = samples * gate
    return sound / np.sqrt(np.sum(sound**2) / np.sum(gate > 0))


def _sweep(rng: Generator, octaves: Callable[[Samples], Samples], centres: Band = SWEEPS) -> Event:
    """A short sound around a random centre frequency, with `octaves` as its pitch, a function of time from 0 to 1."""
    seconds = rng.uniform(0.10, 0.16)
    centre = _logarithmic(rng, centres)
    start = rng.uniform(0.02, SAMPLES / RATE - seconds - 0.02)
    pitch = centre * 2 ** octaves(np.clip((_SECONDS - start) / seconds, 0, 1))
    tone = np.sin(2 * np.pi * np.cumsum(pitch / RATE, dtype=np.float64)).astype(np.float32)
    return Event(_sounding(tone, _gate(start, seconds, 0.015)), _third_octave(centre), levels=(12, 24))


def _rising(rng: Generator) -> Event:
    return _sweep(rng, lambda time: time - 0.5)


def _falling(rng: Generator) -> Event:
    return _sweep(rng, lambda time: 0.5 - time)


def _arched(rng: Generator) -> Event:
    return _sweep(rng, lambda time: 0.5 - 2 * np.abs(time - 0.5))


def _flat(rng: Generator) -> Event:
    return _sweep(rng, np.zeros_like, centres=PIPS[rng.integers(len(PIPS))])


def _bursts(rng: Generator, starts: Samples) -> Event:
    """Broadband bursts of about 60 ms."""
    since = _SECONDS[None] - starts[:, None]  # (burst, sample)
    envelope = np.where(since >= 0, np.exp(-np.clip(since, 0, 1) / 0.02), 0).sum(axis=0, dtype=np.float32)
    envelope[envelope < 0.05] = 0
    tilt = (np.maximum(_FREQUENCIES, 100.0) / 1000) ** rng.uniform(-0.5, -0.2)
    return Event(_sounding(_shaped_noise(rng, tilt), envelope), AUDIBLE, levels=(4, 16))


def _rhythm(rng: Generator, swing: float) -> Event:
    """Six bursts with gaps that are alternately shorter and longer than the mean by the share `swing`."""
    gap = rng.uniform(0.19, 0.25)
    gaps = gap * (1 + swing * np.array([-1, 1, -1, 1, -1]))
    starts = rng.uniform(0.02, SAMPLES / RATE - gaps.sum() - 0.12) + np.concatenate([[0], gaps.cumsum()])
    return _bursts(rng, (starts + rng.normal(0, 0.004, 6)).astype(np.float32))


def _steady(rng: Generator, centres: Band) -> Event:
    """Noise in a quarter of an octave, through the whole clip."""
    centre = _logarithmic(rng, centres)
    octaves = np.log2(np.maximum(_FREQUENCIES, 1.0) / centre)
    shape = np.exp(-((octaves / 0.125) ** 2)).astype(np.float32)
    return Event(_shaped_noise(rng, shape), (centre * 2**-0.125, centre * 2**0.125), levels=(6, 16))


def _tone(rng: Generator, band: Band, durations: tuple[float, float], apart: list[tuple[float, float]]) -> Event:
    """A gated tone at a random time outside the intervals `apart`, each a start and a stop in seconds."""
    pitch = _logarithmic(rng, band)
    seconds = rng.uniform(*durations)
    starts = np.arange(0.02, SAMPLES / RATE - seconds - 0.02, 0.01)
    free = [
        start for start in starts if all(start + seconds + 0.08 < first or start > last + 0.08 for first, last in apart)
    ]
    start = rng.choice(free)
    tone = np.sin(2 * np.pi * pitch * _SECONDS + rng.uniform(0, 2 * np.pi)).astype(np.float32)
    return Event(
        _sounding(tone, _gate(start, seconds, 0.015)),
        _third_octave(pitch),
        levels=(10, 22),
        gate=(start, start + seconds),
    )


def _logarithmic(rng: Generator, band: Band) -> float:
    return float(np.exp(rng.uniform(*np.log(band))))


# The events of a clip


def distractors(rng: Generator) -> Iterator[Event]:
    """The distractors of a clip; they do not depend on its class."""
    if rng.random() < 0.5:
        yield _tone(rng, LOW_TONE, LONG, [])
    if rng.random() < 0.5:
        yield _tone(rng, HIGH_TONE, SHORT, [])
    if rng.random() < 0.5:
        yield _steady(rng, MIDDLE_BAND)
    if rng.random() < 0.5:
        yield (_arched, _flat)[rng.integers(2)](rng)
    if singles := rng.integers(3):
        yield _bursts(rng, rng.uniform(0.05, 1.9, singles).astype(np.float32))


def _gates(events: list[Event], band: Band) -> list[tuple[float, float]]:
    """Start and stop of each gated tone in this band; a tone that ran into another would change its duration."""
    return [event.gate for event in events if event.gate and event.band[0] < band[1] and band[0] < event.band[1]]


CLASS_EVENTS: dict[str, Callable[[Generator, list[Event]], Event]] = {
    "rising chirp": lambda rng, _: _rising(rng),
    "falling chirp": lambda rng, _: _falling(rng),
    "even rhythm": lambda rng, _: _rhythm(rng, swing=0.0),
    "galloping rhythm": lambda rng, _: _rhythm(rng, swing=0.4),
    "low band": lambda rng, _: _steady(rng, LOW_BAND),
    "high band": lambda rng, _: _steady(rng, HIGH_BAND),
    "short low tone": lambda rng, others: _tone(rng, LOW_TONE, SHORT, apart=_gates(others, LOW_TONE)),
    "long high tone": lambda rng, others: _tone(rng, HIGH_TONE, LONG, apart=_gates(others, HIGH_TONE)),
}
