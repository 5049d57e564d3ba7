"""Sounds in memory, with their names and sample rates: alone, and as training clips."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Self

import torch
from torch import Tensor

from captum_apex.audio.clip import Clip
from captum_apex.caller import warn_caller
from captum_apex.recordings.background_labels import labels_with_background
from captum_apex.recordings.class_labels import Labels
from captum_apex.recordings.decoding import as_waveform

__all__ = ["SoundInMemory", "SoundsInMemory", "check_names", "is_waveform", "recording_in_memory"]

_LOUD = 100.0  # files are read as samples in [-1, 1]; 16 bits have up to 32768
_FORMS = "a waveform of floats (sample,), a pair (waveform, sample_rate) or a captum_apex.Clip"


@dataclass(frozen=True, eq=False)
class SoundInMemory:
    """A sound in memory.

    Args:
        name: name of the sound, for titles and messages.
        samples: floats, (sample,) or (channel, sample).
        rate: sample rate of the samples, in Hz; None for that of the classifier.
        label: class of the sound in words; empty where it is not known.

    Example:
        >>> import torch
        >>> from captum_apex.classifiers.sounds_in_memory import SoundInMemory
        >>> sound = SoundInMemory.of((torch.tensor([0.5, 0.25]), 8000), "bark")
        >>> sound.rate, sound.waveform(8000, length=3)
        (8000.0, tensor([0.5000, 0.2500, 0.0000]))
    """

    name: str
    samples: Tensor
    rate: float | None = None
    label: str = ""

    @classmethod
    def of(cls, value: Any, name: str) -> Self | None:
        """The sound of a waveform, of a pair `(waveform, sample_rate)` or of a `Clip`; None for anything else.

        Args:
            value: floats (sample,) at the rate of the classifier; a pair of floats (sample,) or (channel, sample) and
                their rate in Hz, as `torchaudio.load` gives it; or a clip, which has its rate, and can have a name.
            name: name of a sound that has none.

        Raises:
            ValueError: a clip has no waveform.
        """
        if isinstance(value, Clip):
            return cls(value.name or name, _heard(value, name), value.sample_rate, value.label)
        if _is_pair(value):
            return cls(name, torch.as_tensor(value[0]).detach(), float(value[1]))
        if is_waveform(value):
            samples = torch.as_tensor(value).detach()
            return cls(name, samples) if samples.is_floating_point() else None
        return None

    def waveform(self, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
        """The sound as a float32 tensor (sample,); arguments and errors as in `captum_apex.recordings.as_waveform`.

        A warning says where its samples are far above 1, as those of integers that were only converted to floats.
        """
        rate: Any = sample_rate if self.rate is None else self.rate
        waveform = as_waveform(self.samples, rate, sample_rate, length, convert=convert, name=self.name)
        _warn_of_loud(waveform)
        return waveform


@dataclass(frozen=True, eq=False)
class SoundsInMemory:
    """Training clips in memory, an `AudioDataset`.

    Args:
        sounds: the sounds.
        labels: label of each sound, as in `Recordings`; None where none has a label.
        class_names: names of the classes, in the order of the labels.

    Example:
        >>> import torch
        >>> from captum_apex import Clip
        >>> from captum_apex.classifiers.sounds_in_memory import SoundsInMemory
        >>> clips = {name: Clip.from_waveform(torch.rand(800), 8000, label="dog") for name in ("day 1", "day 2")}
        >>> sounds = SoundsInMemory.of(clips, ["rain", "dog"])
        >>> sounds.name(1), sounds.labels
        ('day 2', (1, 1))
    """

    sounds: tuple[SoundInMemory, ...]
    labels: Labels | None
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, clips: Any, class_names: Iterable[str], background: str | None = None) -> Self:
        """The sounds of a list, or of a mapping from names; their classes are the labels of `Clip`s.

        Args:
            clips: waveforms, pairs `(waveform, sample_rate)` or `Clip`s. A sound without a name is named by its place,
                from `clip 1`.
            class_names: names of the classes.
            background: label of sounds without any of the classes; None for no such label.

        Raises:
            TypeError: there is something else among them, such as a path or a list.
            ValueError: there is no sound, two have one name, some have a label and others have none, or a label is no
                class.
        """
        named = isinstance(clips, Mapping)
        pairs = clips.items() if named else ((f"clip {index + 1}", clip) for index, clip in enumerate(clips))
        sounds = []
        for name, clip in pairs:
            sound = SoundInMemory.of(clip, str(name))
            if sound is None:
                raise TypeError(_refused(clip, str(name)))
            sounds.append(replace(sound, name=str(name)) if named else sound)
        if not sounds:
            raise ValueError("expected at least one recording, but got none")
        check_names(sound.name for sound in sounds)
        names = tuple(class_names)
        if not any(sound.label for sound in sounds):
            return cls(tuple(sounds), None, names)
        values = [sound.label or None for sound in sounds]
        labels, _ = labels_with_background(values, lambda index: sounds[index].name, names, background)
        return cls(tuple(sounds), labels, names)

    def __len__(self) -> int:
        return len(self.sounds)

    def name(self, index: int) -> str:
        """The name of a sound."""
        return self.sounds[index].name

    def waveform(self, index: int, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
        """A sound as a float32 tensor (sample,); arguments as in `captum_apex.recordings.as_waveform`."""
        return self.sounds[index].waveform(sample_rate, length, convert=convert)

    def fingerprint(self) -> str:
        """A SHA-256 hash of the names, the sample rates and the samples."""
        digest = hashlib.sha256()
        for sound in self.sounds:
            digest.update(repr((sound.name, sound.rate, tuple(sound.samples.shape))).encode(errors="surrogateescape"))
            digest.update(sound.samples.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def is_waveform(value: Any) -> bool:
    """Whether an object is an array of numbers along one axis; an array or a column of paths is none.

    Args:
        value: the object.

    Example:
        >>> import numpy as np
        >>> from captum_apex.classifiers.sounds_in_memory import is_waveform
        >>> is_waveform(np.zeros(3)), is_waveform(np.zeros((2, 3))), is_waveform(np.array(["a.wav"]))
        (True, False, False)
    """
    return hasattr(value, "shape") and len(value.shape) == 1 and getattr(value.dtype, "kind", "f") not in "OUST"


def check_names(names: Iterable[str]) -> None:
    """Raises a ValueError where two sounds have one name, by which nobody could tell them apart.

    Args:
        names: the names.

    Example:
        >>> from captum_apex.classifiers.sounds_in_memory import check_names
        >>> try:
        ...     check_names(["a", "b", "a"])
        ... except ValueError as error:
        ...     print(error)
        expected a name of its own for each sound in memory, but 2 are named 'a'
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"expected a name of its own for each sound in memory, but {count} are named {name!r}")


def recording_in_memory(recording: Any, sample_rate: int, *, convert: bool = True) -> Any:
    """The waveform of a sound in memory at a sample rate, (sample,); a tensor, a path or anything else as it is.

    Args:
        recording: a pair `(waveform, sample_rate)`, a `Clip`, an array, or anything else.
        sample_rate: the sample rate, in Hz.
        convert: whether another sample rate or several channels are converted, with a warning; False raises an error.

    Example:
        >>> import numpy as np
        >>> from captum_apex.classifiers.sounds_in_memory import recording_in_memory
        >>> recording_in_memory((np.array([0.5, 0.25]), 8000), 8000), recording_in_memory("night.wav", 8000)
        (tensor([0.5000, 0.2500]), 'night.wav')
    """
    if isinstance(recording, Tensor):
        if recording.is_floating_point():
            _warn_of_loud(recording)
        return recording
    sound = SoundInMemory.of(recording, "the recording")
    return recording if sound is None else sound.waveform(sample_rate, convert=convert)


def _warn_of_loud(waveform: Tensor) -> None:
    """Warns where samples are far above 1."""
    if waveform.numel() and waveform.abs().max() > _LOUD:
        # The warning names no sound, so that Python shows it once and not for every one.
        warn_caller(
            f"a waveform in memory has samples above {_LOUD:g}, but files are read as samples between -1 and 1; divide "
            "those of 16 bits by 32768"
        )


def _heard(clip: Clip, name: str) -> Tensor:
    """The waveform of a clip up to where it is filled or repeated."""
    if clip.waveform is None:
        raise ValueError(f"expected a Clip with a `waveform`, but that of {clip.name or name} is None")
    seconds = clip.ends if clip.repeats is None else clip.repeats
    return clip.waveform.detach()[: None if seconds is None else max(1, round(seconds * clip.sample_rate))]


def _is_pair(value: Any) -> bool:
    """Whether a value is an array with its sample rate."""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return hasattr(value[0], "shape") and isinstance(value[1], Real) and not isinstance(value[1], bool)


def _refused(clip: Any, name: str) -> str:
    """What is said of a training clip that is no sound in memory."""
    shape = f" of shape {tuple(clip.shape)}" if hasattr(clip, "shape") else ""
    label = ""
    if isinstance(clip, (list, tuple)):
        label = f"; the class of a clip is its label: Clip.from_waveform(waveform, sample_rate, label={name!r})"
    return (
        f"expected recordings, such as a captum_apex.Recordings, or {_FORMS} in memory, but got {type(clip).__name__}"
        f"{shape} for {name!r}{label}; the files of a folder are Recordings.in_folder(folder, classifier.class_names)"
    )
