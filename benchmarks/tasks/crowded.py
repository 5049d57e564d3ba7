"""Crowded scenes: the classes of `benchmarks.tasks.scenes`, in rooms, among more and louder sounds that overlap them.

They differ from `scenes` in four ways, so that neither a classifier nor a method reaches the best score:

- Levels vary by 30 dB: the level of every sound is that of `scenes`, on average, plus up to 15 dB or minus up to 15 dB.
- There are up to nine distractors, and among them in half of the clips a talker; they may overlap with the class
  event, but for a gated tone, which is apart from others in its range of pitches: running into one, it would have no
  duration of its own.
- Every sound has its own echoes in one room, whose reverberation time is 0.2 to 0.8 s.
- The *truth* holds only the bins in which the class event is louder than all the rest. It is empty for a clip in which
  the class event is masked everywhere.

As in `scenes`, only the class event depends on the class.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from benchmarks.tasks import scene_sounds
from benchmarks.tasks.scene_sounds import CLASS_EVENTS, RATE, SAMPLES, Event, Samples, distractors, scaled
from benchmarks.tasks.scenes import CLASSES, LOG_MEL, Scene, loudest_bins, scene_task
from benchmarks.tasks.task import SPLITS, Split, Task

STREAM = 2  # other scenes than those of `scenes`, and than those on which recipes are chosen
CHOICE_STREAM = 3  # of the scenes on which recipes are chosen
SPREAD = 15.0  # dB; largest difference of a level from the middle of its range in `scenes`
TALKER_LEVELS = (-5.0, 15.0)  # dB, relative to the background, on average over all frequencies
REVERBERATION = (0.2, 0.8)  # s; shortest and longest time in which the echoes fall by 60 dB
DIRECT = (0.0, 10.0)  # dB; smallest and largest level of a sound relative to its echoes
FIRST_ECHO = 0.005  # s


def make_crowded(seed: int = 0, *, train_clips: int = 2400, test_clips: int = 400, stream: int = STREAM) -> Task:
    """The task of crowded scenes; clip `i` of a split depends only on the seed, the split, the stream and `i`.

    Args:
        seed: seed of all clips.
        train_clips: number of training clips.
        test_clips: number of test clips.
        stream: number of the random stream; the recipes of `benchmarks.classifiers` were chosen on `CHOICE_STREAM`.

    Example:
        >>> from benchmarks.tasks.crowded import make_crowded
        >>> task = make_crowded(0, train_clips=8, test_clips=8)
        >>> log_mel, label = task.test[1]
        >>> log_mel.shape, task.classes[label]
        (torch.Size([1, 64, 126]), 'falling chirp')
    """
    sizes: dict[Split, int] = {"train": train_clips, "test": test_clips}
    return scene_task("crowded", crowded_scene, audible_truth, seed, sizes, __file__, stream=stream)


def crowded_scene(seed: int, split: Split, index: int, stream: int = STREAM) -> Scene:
    """Clip `index` of a split, computed alone.

    Args:
        seed: seed of all clips.
        split: split of the clip.
        index: index of the clip.
        stream: number of the random stream.
    """
    # Two independent streams, so that the backdrop does not depend on the class.
    of_backdrop, of_event = (np.random.default_rng([stream, seed, SPLITS.index(split), index, part]) for part in (0, 1))
    voices = scene_sounds.talkers(seed, split)
    noise = scene_sounds.background(of_backdrop, voices)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    gain = 10 ** (of_backdrop.uniform(-66, -46) / 20)
    seconds = of_backdrop.uniform(*REVERBERATION)
    others = list(crowd(of_backdrop, voices))
    label = index % len(CLASSES)
    class_event = CLASS_EVENTS[CLASSES[label]](of_event, others)
    backdrop = noise + sum(_heard(of_backdrop, event, spectrum, seconds) for event in others)
    heard = _heard(of_event, class_event, spectrum, seconds)
    return Scene((gain * backdrop).astype(np.float32), (gain * heard).astype(np.float32), label)


def audible_truth(scene: Scene) -> Tensor:
    """The bins on which the class event lies and is louder than all the rest, a bool mask (mel, frame).

    Where the rest is as loud, the mel power of the class event counts as none; of what is left, the mask is that of
    `benchmarks.tasks.scenes.loudest_bins`.

    Args:
        scene: the clip, as its two components.
    """
    event, rest = (LOG_MEL.transform(torch.from_numpy(sound)) for sound in (scene.class_event, scene.backdrop))
    return loudest_bins(event.where(event > rest, 0.0), scene.label)


def echoes(rng: Generator, seconds: float, direct: float) -> Samples:
    """The impulse response of a room: the direct sound, and noise that decays exponentially, (sample,).

    Args:
        rng: the source of the noise.
        seconds: time in which the echoes fall by 60 dB.
        direct: energy of the direct sound relative to that of all echoes, in dB.
    """
    time = np.arange(round(max(seconds, FIRST_ECHO) * RATE) + 1) / RATE
    response = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    response[time < FIRST_ECHO] = 0
    response *= np.sqrt(10 ** (-direct / 10) / np.sum(response**2))
    response[0] = 1
    return response.astype(np.float32)


def _heard(rng: Generator, event: Event, spectrum: Samples, seconds: float) -> Samples:
    """An event with its echoes, at a random level relative to a background of this power spectrum, (sample,)."""
    level = np.mean(event.levels) + rng.uniform(-SPREAD, SPREAD)
    response = echoes(rng, seconds, rng.uniform(*DIRECT))
    dry = scaled(event, spectrum, float(level))
    length = 2 * SAMPLES  # so that no echo comes back at the beginning
    wet = np.fft.irfft(np.fft.rfft(dry, length) * np.fft.rfft(response, length), length)
    return wet[:SAMPLES].astype(np.float32)


def crowd(rng: Generator, voices: Samples) -> Iterator[Event]:
    """The distractors of a clip; they do not depend on its class."""
    yield from distractors(rng)
    # Further gated tones would leave no room for one of a class.
    yield from (event for event in distractors(rng) if event.gate is None)
    if rng.random() < 0.5:
        sound = np.roll(voices[rng.integers(len(voices))], rng.integers(SAMPLES))
        yield Event(sound, scene_sounds.AUDIBLE, TALKER_LEVELS)
