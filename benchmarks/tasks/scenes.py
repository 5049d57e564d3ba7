"""Synthetic acoustic scenes: eight classes, each with a class event in one known place.

Every clip is the sum of a *backdrop* and a *class event*, the sound that decides the class. The backdrop (background
noise and distractors) is drawn from a random stream that does not depend on the class; only the class event depends on
it. So only the class event can distinguish the classes. Its absence cannot, since the classes come in pairs that differ
in the shape of the class event. The *truth* of a clip is the set of bins on which the class event lies.

| scheme | classes | class event | distractors in every class |
|---|---|---|---|
| square | rising chirp, falling chirp | a sweep over an octave, at any time and frequency | flat pips, arched chirps |
| time | even rhythm, galloping rhythm | six broadband bursts, equally many per second | up to two single bursts |
| frequency | low band, high band | a steady band of noise | a steady band between the two |
| time-frequency | short low tone, long high tone | a gated tone | long low tones and short high tones |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.tasks import scene_sounds
from benchmarks.tasks.scene_sounds import (
    CLASS_EVENTS,
    RATE,
    STREAM,
    Samples,
    background,
    distractors,
    scaled,
    talkers,
)
from benchmarks.tasks.task import SPLITS, ClipDataset, LogMel, Normalisation, Split, Task, cached_decibels

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

LOG_MEL = LogMel(RATE, n_fft=1024, window=512, hop=256, lowest=50.0, floor=-60.0)  # 126 frames in 2 s
TRUTH_RANGE = 15.0  # a bin belongs to the truth down to this level below the maximum of the class event, in dB


@dataclass(frozen=True)
class Scene:
    """One clip, as its two components.

    Attributes:
        backdrop: waveform of background noise and distractors, (sample,).
        class_event: waveform of the event that determines the class, (sample,), at its level in the clip.
        label: index of the class in `CLASSES`.
    """

    backdrop: Samples
    class_event: Samples
    label: int

    @property
    def waveform(self) -> Samples:
        """The waveform of the clip, (sample,)."""
        return self.backdrop + self.class_event


def make_scenes(seed: int = 0, *, train_clips: int = 2400, test_clips: int = 400) -> Task:
    """The task of two-second scenes; clip `i` of a split depends only on the seed, the split and `i`.

    Args:
        seed: seed of all clips.
        train_clips: number of training clips.
        test_clips: number of test clips.

    Example:
        >>> from benchmarks.tasks.scenes import make_scenes
        >>> task = make_scenes(0, train_clips=8, test_clips=8)
        >>> log_mel, label = task.test[1]
        >>> log_mel.shape, task.classes[label]
        (torch.Size([1, 64, 126]), 'falling chirp')
    """
    return scene_task("scenes", scene, truth, seed, {"train": train_clips, "test": test_clips}, code=__file__)


def scene_task(
    name: str,
    make: Callable[..., Scene],
    truth_of: Callable[[Scene], Tensor],
    seed: int,
    sizes: Mapping[Split, int],
    code: str,
    **settings: int,
) -> Task:
    """A task of made scenes of the eight classes; the log-mels are stored in the cache.

    Args:
        name: name of the task.
        make: function from the seed, a split, an index and the settings to the clip; clip `i` has the class `i` mod 8.
        truth_of: function from a clip to the bins on which its class event lies.
        seed: seed of all clips.
        sizes: number of clips of each split.
        code: path of the module that makes the clips; its text is in the key of the cache entry.
        settings: further arguments of `make`, which are in the key of the cache entry too.
    """
    sources = (code, __file__, scene_sounds.__file__)
    key = {"seed": seed, "settings": settings, "code": [Path(source).read_text() for source in sources]}

    def waveform(split: Split, index: int) -> Tensor:
        return torch.from_numpy(make(seed, split, index, **settings).waveform)

    decibels = {
        split: cached_decibels("scenes", {"split": split, **key}, LOG_MEL, partial(waveform, split), sizes[split])
        for split in SPLITS
    }
    normalise = Normalisation.of(decibels["train"])
    clips = {split: ClipDataset(normalise(decibels[split]), _labels(sizes[split])) for split in SPLITS}
    return Task(
        name=name,
        classes=CLASSES,
        sample_rate=RATE,
        log_mel=LOG_MEL,
        normalisation=normalise,
        silence=normalise(LOG_MEL.floor),
        waveform=waveform,
        truth=lambda index: truth_of(make(seed, "test", index, **settings)),
        schemes=lambda index: (PERSPECTIVES[CLASSES[clips["test"].labels[index]]],),
        train=clips["train"],
        test=clips["test"],
    )


def scene(seed: int, split: Split, index: int) -> Scene:
    """Clip `index` of a split, computed alone."""
    # Two independent streams, so that the backdrop does not depend on the class.
    of_backdrop, of_event = (
        np.random.default_rng([STREAM, seed, SPLITS.index(split), index, stream]) for stream in (0, 1)
    )
    label = index % len(CLASSES)
    noise = background(of_backdrop, talkers(seed, split))
    gain = 10 ** (of_backdrop.uniform(-54, -34) / 20)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    others = list(distractors(of_backdrop))
    backdrop = noise + sum(scaled(event, spectrum, of_backdrop.uniform(*event.levels)) for event in others)
    event = CLASS_EVENTS[CLASSES[label]](of_event, others)
    class_event = scaled(event, spectrum, of_event.uniform(*event.levels))
    return Scene(
        backdrop=(gain * backdrop).astype(np.float32), class_event=(gain * class_event).astype(np.float32), label=label
    )


def truth(scene: Scene) -> Tensor:
    """The bins on which the class event of a clip lies, a bool mask (mel, frame).

    The mask is computed from the mel power of the class event alone; see `loudest_bins`.
    """
    return loudest_bins(LOG_MEL.transform(torch.from_numpy(scene.class_event)), scene.label)


def loudest_bins(power: Tensor, label: int) -> Tensor:
    """The loudest bins of a class event, a bool mask (mel, frame).

    First the power is averaged over the axis that the scheme of the class does not resolve: over the bands for `time`,
    over the frames for `frequency`. Then a bin belongs to the mask if its power is less than `TRUTH_RANGE` dB below the
    maximum. So a rhythm gives whole columns, and a steady band whole rows. Without any power, the mask is empty.

    Args:
        power: mel power of the class event, (mel, frame).
        label: index of the class.
    """
    perspective = PERSPECTIVES[CLASSES[label]]
    if perspective == "time":
        power = power.mean(dim=0, keepdim=True).expand_as(power)
    elif perspective == "frequency":
        power = power.mean(dim=1, keepdim=True).expand_as(power)
    return power > power.max() * 10 ** (-TRUTH_RANGE / 10)


def _labels(clips: int) -> Tensor:
    return torch.arange(clips) % len(CLASSES)
