"""The parts of synthetic scenes, also of crowded ones: every sound of a clip by its name, and its region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.random import Generator

from benchmarks.tasks import crowded, scene_sounds
from benchmarks.tasks.scene_sounds import RATE, SAMPLES, STREAM, Event
from benchmarks.tasks.scenes import CLASSES, LOG_MEL, TRUTH_RANGE
from benchmarks.tasks.task import SPLITS, Split
from captum_apex import Box, Region

__all__ = ["crowded_events_of", "crowded_parts_of", "events_of", "parts_of", "region_of"]

LONGEST_GAP = 0.005  # seconds; a shorter pause belongs to the sound
N_FRAMES = SAMPLES // LOG_MEL.hop + 1
_RANGE = 10 ** (-TRUTH_RANGE / 10)


def parts_of(seed: int, split: Split, index: int) -> dict[str, Region]:
    """The region of each sound of a scene by its name: the class event, and the distractors.

    Args:
        seed: seed of the scenes.
        split: split of the clip.
        index: index of the clip.

    Example:
        >>> from benchmarks.tasks.scene_parts import parts_of
        >>> sorted(parts_of(0, "test", 1))
        ['falling chirp', 'low tone', 'pip or arch', 'single burst']
    """
    return _regions(events_of(seed, split, index))


def crowded_parts_of(seed: int, split: Split, index: int) -> dict[str, Region]:
    """The region of each sound of a crowded scene by its name, without its echoes; others may drown it.

    Args:
        seed: seed of the scenes.
        split: split of the clip.
        index: index of the clip.

    Example:
        >>> from benchmarks.tasks.scene_parts import crowded_parts_of
        >>> sorted(crowded_parts_of(0, "test", 1))
        ['falling chirp', 'high tone', 'low tone', 'pip or arch', 'single burst']
    """
    return _regions(crowded_events_of(seed, split, index))


def _regions(events: Iterable[tuple[str, Event]]) -> dict[str, Region]:
    parts: dict[str, Region] = {}
    for name, event in events:
        boxes = parts[name].boxes if name in parts else ()
        parts[name] = Region((*boxes, *region_of(event).boxes))
    return parts


def events_of(seed: int, split: Split, index: int) -> Iterator[tuple[str, Event]]:
    """The sounds of a scene with their names, from the random streams of `scenes.scene`: distractors, class event.

    Args:
        seed: seed of the scenes.
        split: split of the clip.
        index: index of the clip.
    """
    of_backdrop, of_event = _streams(STREAM, seed, split, index)
    scene_sounds.background(of_backdrop, scene_sounds.talkers(seed, split))
    of_backdrop.uniform(-54, -34)  # the gain
    return _named(list(scene_sounds.distractors(of_backdrop)), of_event, index)


def crowded_events_of(seed: int, split: Split, index: int) -> Iterator[tuple[str, Event]]:
    """The sounds of a crowded scene with their names, from the random streams of `crowded.crowded_scene`.

    Args:
        seed: seed of the scenes.
        split: split of the clip.
        index: index of the clip.
    """
    of_backdrop, of_event = _streams(crowded.STREAM, seed, split, index)
    voices = scene_sounds.talkers(seed, split)
    scene_sounds.background(of_backdrop, voices)
    of_backdrop.uniform(-66, -46)  # the gain
    of_backdrop.uniform(*crowded.REVERBERATION)
    return _named(list(crowded.crowd(of_backdrop, voices)), of_event, index)


def _streams(stream: int, seed: int, split: Split, index: int) -> tuple[Generator, Generator]:
    """The random streams of the backdrop and of the class event of a clip."""
    of_backdrop, of_event = (
        np.random.default_rng([stream, seed, SPLITS.index(split), index, number]) for number in (0, 1)
    )
    return of_backdrop, of_event


def _named(others: list[Event], of_event: Generator, index: int) -> Iterator[tuple[str, Event]]:
    """The other sounds of a clip and its class event, with their names."""
    for event in others:
        yield _kind(event), event
    name = CLASSES[index % len(CLASSES)]
    yield name, scene_sounds.CLASS_EVENTS[name](of_event, others)


def region_of(event: Event) -> Region:
    """Where a sound lies: a box for every time that it sounds, over the bands that are less than 15 dB below its peak.

    Args:
        event: the sound, alone and without a background.
    """
    power = LOG_MEL.transform(torch.from_numpy(np.asarray(event.samples, dtype=np.float32)))  # (mel, frame)
    boxes = []
    for first, last in _sounding(event):
        start, end = (min(max((sample / LOG_MEL.hop + 0.5) / N_FRAMES, 0.0), 1.0) for sample in (first, last))
        frames = power[:, first // LOG_MEL.hop : last // LOG_MEL.hop + 1].amax(1)
        bands = (frames > frames.max() * _RANGE).nonzero()[:, 0]
        boxes.append(Box(bands[0].item() / LOG_MEL.bands, (bands[-1].item() + 1) / LOG_MEL.bands, start, end))
    return Region(tuple(boxes))


def _sounding(event: Event) -> list[tuple[int, int]]:
    """First and last sample of each stretch in which a sound is not zero."""
    samples = np.flatnonzero(event.samples)
    breaks = np.flatnonzero(np.diff(samples) > LONGEST_GAP * RATE)
    firsts = samples[np.concatenate([[0], breaks + 1])]
    lasts = samples[np.concatenate([breaks, [len(samples) - 1]])]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _kind(event: Event) -> str:
    """The name of a distractor."""
    if event.gate is not None:
        return "low tone" if event.band[0] < scene_sounds.HIGH_TONE[0] / 2 else "high tone"
    if event.band == scene_sounds.AUDIBLE:
        return "talker" if event.levels == crowded.TALKER_LEVELS else "single burst"
    return "middle band" if event.levels == (6, 16) else "pip or arch"
