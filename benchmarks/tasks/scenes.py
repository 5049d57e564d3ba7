"""Synthetic acoustic scenes: eight classes whose evidence lies, by construction, in one place only.

Every clip is a *backdrop* and an *evidence*. The backdrop (background noise and distractors) is drawn from a random stream
that does not know the class; the evidence is all that the class decides. So nothing but the evidence can tell the classes
apart, and since the classes come in pairs that differ in the evidence's shape, its absence cannot either.

| perspective | classes | evidence | what stands beside it in every class |
|---|---|---|---|
| square | rising chirp, falling chirp | a sweep over an octave, at any time and frequency | flat pips, chirps that rise and fall |
| time | even rhythm, galloping rhythm | six broadband bursts, as many per second in both | up to two single bursts |
| frequency | low band, high band | a steady band of noise | a steady band between the two |
| time-frequency | short low tone, long high tone | a gated tone | long low tones and short high tones |

Levels are signal-to-noise ratios: the power of an event while it sounds, against the background's power in the third of an
octave around it (in the whole range for bursts, in its own width for a steady band).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.cache import cached_tensors
from benchmarks.tasks.task import SPLITS, ClipDataset, LogMel, Normalisation, Split, Task

Samples = NDArray[np.floating]  # shape (sample,), or along whatever axis the name says
Band = tuple[float, float]  # lower and upper edge in Hz

PERSPECTIVES: dict[str, str] = {
    "rising chirp": "square",
    "falling chirp": "square",
    "even rhythm": "time",
    "galloping rhythm": "time",
    "low band": "frequency",
    "high band": "frequency",
    "short low tone": "time-frequency",
    "long high tone": "time-frequency",
}
CLASSES = tuple(PERSPECTIVES)

RATE = 16_000  # Hz
SAMPLES = 2 * RATE
LOG_MEL = LogMel(RATE, n_fft=1024, window=512, hop=256, lowest=50.0, floor=-60.0)  # two seconds are 126 frames
STREAM = 1  # the recipes of `benchmarks.classifiers` were settled on scenes of another stream: these were not looked at
TRUTH_RANGE = 15.0  # dB below the evidence's own maximum that still count as evidence

LOW_BAND, MIDDLE_BAND, HIGH_BAND = (280.0, 400.0), (1100.0, 1500.0), (3600.0, 4800.0)  # centres of steady bands
LOW_TONE, HIGH_TONE = (620.0, 820.0), (2000.0, 2600.0)
SHORT, LONG = (0.14, 0.24), (0.55, 0.75)  # seconds
SWEEPS = (600.0, 4500.0)  # centres of chirps
PIPS = ((900.0, 1900.0), (2800.0, 4500.0))  # centres of flat pips, which must not be taken for short tones

_SECONDS = np.arange(SAMPLES, dtype=np.float32) / RATE
_FREQUENCIES = np.fft.rfftfreq(SAMPLES, 1 / RATE).astype(np.float32)
_AUDIBLE = (50.0, RATE / 2)


@dataclass(frozen=True)
class Event:
    """A sound of its own, with power 1 while it sounds.

    Attributes:
        samples: float32, as long as the clip, zero where it is silent.
        band: in Hz, where the background must be quieter for it to be heard.
        levels: the smallest and the largest signal-to-noise ratio that it comes at, in dB; the same as evidence and as distractor.
        gate: for gated tones, when they start and stop, in seconds.
    """

    samples: Samples
    band: Band
    levels: tuple[float, float]
    gate: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scene:
    """One clip, before its two halves are added.

    Attributes:
        backdrop: background noise and distractors, shape (sample,).
        evidence: what makes the class, shape (sample,), at the level that it has in the clip.
        label: index into `CLASSES`.
    """

    backdrop: Samples
    evidence: Samples
    label: int

    @property
    def waveform(self) -> Samples:
        """The clip as it sounds."""
        return self.backdrop + self.evidence


def make_scenes(seed: int = 0, *, train_clips: int = 2400, test_clips: int = 400) -> Task:
    """The task of two-second scenes; clip `i` of a part depends on nothing but the seed, the part and `i`."""
    sizes = {"train": train_clips, "test": test_clips}
    decibels = {split: _decibels(seed, split, sizes[split]) for split in SPLITS}
    normalise = Normalisation.of(decibels["train"])
    parts = {split: ClipDataset(normalise(decibels[split]), _labels(sizes[split])) for split in SPLITS}
    return Task(
        name="scenes",
        classes=CLASSES,
        sample_rate=RATE,
        log_mel=LOG_MEL,
        normalisation=normalise,
        silence=normalise(LOG_MEL.floor),
        waveform=lambda split, index: torch.from_numpy(scene(seed, split, index).waveform),
        truth=lambda index: truth(scene(seed, "test", index)),
        perspectives=PERSPECTIVES,
        train=parts["train"],
        test=parts["test"],
    )


def scene(seed: int, split: Split, index: int) -> Scene:
    """Clip `index` of a part, by itself."""
    surroundings, own = (np.random.default_rng([STREAM, seed, SPLITS.index(split), index, stream]) for stream in (0, 1))
    label = index % len(CLASSES)
    background, gain = _background(surroundings, _talkers(seed, split)), 10 ** (surroundings.uniform(-54, -34) / 20)
    spectrum = np.abs(np.fft.rfft(background)) ** 2
    distractors = list(_distractors(surroundings))
    backdrop = background + sum(_audible(event, spectrum, surroundings.uniform(*event.levels)) for event in distractors)
    event = _EVIDENCE[CLASSES[label]](own, distractors)
    evidence = _audible(event, spectrum, own.uniform(*event.levels))
    return Scene(
        backdrop=(gain * backdrop).astype(np.float32), evidence=(gain * evidence).astype(np.float32), label=label
    )


def truth(scene: Scene) -> Tensor:
    """Where the evidence lies in a clip: a bool mask (mel, frame).

    It is taken from the mel power of the evidence alone. First that is averaged over what the class's perspective does not
    tell apart: over the bands for `time`, over the frames for `frequency`. Then a bin belongs to the evidence where it is less
    than `TRUTH_RANGE` dB below the largest. So a rhythm gives whole columns and a steady band whole rows.
    """
    power = LOG_MEL.transform(torch.from_numpy(scene.evidence))  # (mel, frame)
    perspective = PERSPECTIVES[CLASSES[scene.label]]
    if perspective == "time":
        power = power.mean(dim=0, keepdim=True).expand_as(power)
    elif perspective == "frequency":
        power = power.mean(dim=1, keepdim=True).expand_as(power)
    return power > power.max() * 10 ** (-TRUTH_RANGE / 10)


def _labels(clips: int) -> Tensor:
    return torch.arange(clips) % len(CLASSES)


def _decibels(seed: int, split: Split, clips: int) -> Tensor:
    """Log-mels before normalisation, shape (clip, 1, mel, frame), from the cache where it has them."""
    batches = (range(start, min(start + 50, clips)) for start in range(0, clips, 50))
    waveforms = (
        torch.from_numpy(np.stack([scene(seed, split, index).waveform for index in batch])) for batch in batches
    )
    key = {"seed": seed, "split": split, "clips": clips, "code": Path(__file__).read_text(), "log_mel": LOG_MEL.key}
    return cached_tensors("scenes", key, lambda: {"decibels": LOG_MEL.decibels(waveforms)})["decibels"]


# --- levels ---------------------------------------------------------------------------------------------------------------


def _audible(event: Event, spectrum: Samples, ratio: float) -> Samples:
    """The event at a signal-to-noise ratio in dB, against a background of this power spectrum."""
    low, high = np.searchsorted(_FREQUENCIES, event.band)
    power = (
        2 * spectrum[low:high].sum(dtype=np.float64) / SAMPLES**2
    )  # Parseval: mean square of the background in the band
    return event.samples * np.float32(np.sqrt(power * 10 ** (ratio / 10)))


def _third_octave(frequency: float) -> Band:
    return frequency * 2 ** (-1 / 6), frequency * 2 ** (1 / 6)


# --- backgrounds ----------------------------------------------------------------------------------------------------------


def _background(rng: Generator, talkers: Samples) -> Samples:
    """White noise, pink noise or babble, of power about 1."""
    kind = rng.integers(3)
    return _babble(rng, talkers) if kind == 2 else _shaped_noise(rng, (_WHITE, _PINK)[kind])


def _shaped_noise(rng: Generator, amplitude: Samples) -> Samples:
    """Gaussian noise of power 1 whose spectrum has this amplitude at each of `_FREQUENCIES`."""
    parts = rng.standard_normal((2, len(_FREQUENCIES)), dtype=np.float32)
    noise = np.fft.irfft(amplitude * (parts[0] + 1j * parts[1]), SAMPLES).astype(np.float32)
    return noise / np.sqrt(np.mean(noise**2))


_WHITE = np.ones_like(_FREQUENCIES)
_PINK = 1 / np.sqrt(np.maximum(_FREQUENCIES, 40.0))


def _babble(rng: Generator, talkers: Samples, voices: int = 6) -> Samples:
    """Several of the talkers at once, each from any moment on."""
    chosen = rng.choice(len(talkers), voices, replace=False)
    sound = sum(np.roll(talkers[talker], rng.integers(SAMPLES)) * np.float32(rng.uniform(0.5, 1)) for talker in chosen)
    return sound / np.sqrt(np.mean(sound**2)) + np.float32(0.15) * _shaped_noise(rng, _PINK)


@lru_cache(maxsize=8)
def _talkers(seed: int, split: Split, number: int = 60) -> Samples:
    """Made-up talkers: pulse trains of wandering pitch, in syllables, through formants; shape (talker, sample), power 1."""
    rng = np.random.default_rng([STREAM, seed, SPLITS.index(split), -1 % 2**32])
    return np.stack([_talker(rng) for _ in range(number)])


def _talker(rng: Generator) -> Samples:
    pitch = rng.uniform(90, 260) * (1 + 0.12 * _wander(rng, _PHRASES))
    pulses = np.exp(12 * np.cos(np.cumsum(2 * np.pi / RATE * pitch, dtype=np.float64)) - 12)  # some twelve harmonics
    source = (pulses - pulses.mean() + 0.05 * rng.standard_normal(SAMPLES)) * np.maximum(
        0.4 + _wander(rng, _SYLLABLES), 0
    )
    formants = rng.uniform([300, 900, 2200], [800, 2000, 3200])
    resonance = sum(2.0**-place / (1 + ((_FREQUENCIES - formant) / 120) ** 2) for place, formant in enumerate(formants))
    sound = np.fft.irfft(np.fft.rfft(source) * resonance, SAMPLES)
    return (sound / np.sqrt(np.mean(sound**2))).astype(np.float32)


def _turns(knots: int) -> Samples:
    """Raised-cosine windows, one around each of the evenly spaced knots; they add up to 1. Shape (knot, sample)."""
    distance = np.abs(
        np.linspace(0, knots - 1, SAMPLES, dtype=np.float32) - np.arange(knots, dtype=np.float32)[:, None]
    )
    return (1 + np.cos(np.pi * np.minimum(distance, 1))) / 2


_PHRASES, _SYLLABLES = _turns(12), _turns(20)


def _wander(rng: Generator, turns: Samples) -> Samples:
    """A smooth random curve through random knots, shape (sample,)."""
    return rng.standard_normal(len(turns)) @ turns


# --- events ---------------------------------------------------------------------------------------------------------------


def _gate(start: float, seconds: float, ramp: float) -> Samples:
    """Raised-cosine gate from `start` on, with ramps of `ramp` seconds inside."""
    inside = np.minimum(_SECONDS - start, start + seconds - _SECONDS)
    return (1 - np.cos(np.pi * np.clip(inside / ramp, 0, 1, dtype=np.float32))) / 2


def _sounding(samples: Samples, gate: Samples) -> Samples:
    """Scaled to power 1 while the gate is open."""
    sound = samples * gate
    return sound / np.sqrt(np.sum(sound**2) / np.sum(gate > 0))


def _sweep(rng: Generator, octaves: Callable[[Samples], Samples], centres: Band = SWEEPS) -> Event:
    """A transient whose pitch follows `octaves`, a function of its time from 0 to 1, around a random centre."""
    seconds, centre = rng.uniform(0.10, 0.16), _logarithmic(rng, centres)
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
    """Broadband bursts that last some 60 ms."""
    since = _SECONDS[None] - starts[:, None]  # (burst, sample)
    envelope = np.where(since >= 0, np.exp(-np.clip(since, 0, 1) / 0.02), 0).sum(axis=0, dtype=np.float32)
    envelope[envelope < 0.05] = 0
    tilt = (np.maximum(_FREQUENCIES, 100.0) / 1000) ** rng.uniform(-0.5, -0.2)
    return Event(_sounding(_shaped_noise(rng, tilt), envelope), _AUDIBLE, levels=(4, 16))


def _rhythm(rng: Generator, swing: float) -> Event:
    """Six bursts whose gaps are by turns longer and shorter by the share `swing`."""
    gap = rng.uniform(0.19, 0.25)
    gaps = gap * (1 + swing * np.array([-1, 1, -1, 1, -1]))
    starts = rng.uniform(0.02, SAMPLES / RATE - gaps.sum() - 0.12) + np.concatenate([[0], gaps.cumsum()])
    return _bursts(rng, (starts + rng.normal(0, 0.004, 6)).astype(np.float32))


def _steady(rng: Generator, centres: Band) -> Event:
    """A quarter of an octave of noise through the whole clip."""
    centre = _logarithmic(rng, centres)
    octaves = np.log2(np.maximum(_FREQUENCIES, 1.0) / centre)
    shape = np.exp(-((octaves / 0.125) ** 2)).astype(np.float32)
    return Event(_shaped_noise(rng, shape), (centre * 2**-0.125, centre * 2**0.125), levels=(6, 16))


def _tone(rng: Generator, band: Band, durations: tuple[float, float], apart: list[tuple[float, float]]) -> Event:
    """A gated tone, at a time that stands apart from the spans given (start and stop in seconds)."""
    pitch, seconds = _logarithmic(rng, band), rng.uniform(*durations)
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


# --- what happens in a clip -----------------------------------------------------------------------------------------------


def _distractors(rng: Generator) -> Iterator[Event]:
    """What may happen in a clip of any class; drawn without knowing which."""
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
    """When the gated tones of this band sound; a tone that ran into another would change its duration."""
    return [event.gate for event in events if event.gate and event.band[0] < band[1] and band[0] < event.band[1]]


_EVIDENCE: dict[str, Callable[[Generator, list[Event]], Event]] = {
    "rising chirp": lambda rng, _: _rising(rng),
    "falling chirp": lambda rng, _: _falling(rng),
    "even rhythm": lambda rng, _: _rhythm(rng, swing=0.0),
    "galloping rhythm": lambda rng, _: _rhythm(rng, swing=0.4),
    "low band": lambda rng, _: _steady(rng, LOW_BAND),
    "high band": lambda rng, _: _steady(rng, HIGH_BAND),
    "short low tone": lambda rng, others: _tone(rng, LOW_TONE, SHORT, apart=_gates(others, LOW_TONE)),
    "long high tone": lambda rng, others: _tone(rng, HIGH_TONE, LONG, apart=_gates(others, HIGH_TONE)),
}
