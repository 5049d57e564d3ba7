"""The clips to explain, in each form that a user may give them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from captum_apex.audio.clip import Clip
from captum_apex.caller import warn_caller
from captum_apex.classifiers.classifier import Classifier, InputDataset
from captum_apex.classifiers.logits import naming_score_counts
from captum_apex.classifiers.sounds_in_memory import SoundInMemory, check_names, is_waveform
from captum_apex.numbers import full_scale
from captum_apex.recordings.folder_files import SUFFIXES, FolderContents
from captum_apex.recordings.folders import AudioDataset, Recordings
from captum_apex.recordings.slices import LONGER, file_duration

__all__ = ["ClipSource", "clip_sources", "file_sources", "recording_paths"]


@dataclass(frozen=True)
class ClipSource:
    """One clip to explain, which is read when it is needed.

    Args:
        name: name of the clip, for its title and for messages.
        waveform: function that reads the clip, (sample,); short ones are not lengthened yet.
        label: class of the clip in words; empty where it is not known.
        is_file: whether the name is the path of the clip's file.
        in_memory: whether the clip is a sound in memory.

    Example:
        >>> import torch
        >>> from captum_apex.explaining.clip_sources import ClipSource
        >>> ClipSource("new.wav", lambda: torch.zeros(3)).waveform()
        tensor([0., 0., 0.])
    """

    name: str
    waveform: Callable[[], Tensor]
    label: str = ""
    is_file: bool = False
    in_memory: bool = False

    def read(self, classifier: Classifier) -> tuple[Clip, Tensor]:
        """The clip to look at and to listen to, and its input for the model; errors as in `Classifier.drawn`."""
        waveform = self.waveform()
        inputs = classifier.inputs(classifier.fitted(waveform), self.name)
        return classifier.drawn_whole(waveform, self.name, self.label), inputs


def clip_sources(classifier: Classifier, clips: Any) -> list[ClipSource]:
    """The clips to explain.

    Args:
        classifier: the classifier that reads them.
        clips: the path of a file or of a folder, a sound in memory, an `AudioDataset` such as `Recordings`, a list of
            paths and sounds, or a mapping from the names of clips to files and sounds; paths may also be in an array. A
            sound in memory is a waveform (sample,) at the sample rate of the classifier, a pair `(waveform,
            sample_rate)`, or a `Clip`, which has its name. One without a name is named by its place, from `clip 1`. An
            array of two axes is refused, because it can be several clips, `list(array)`, or the channels of one,
            `array.mean(0)`.

    Raises:
        TypeError: the clips have another form.
        ValueError: there is no clip, or two sounds in memory have one name.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> from captum_apex.explaining.clip_sources import clip_sources
        >>> classifier = Classifier(torch.nn.Linear(9, 1), lambda waveform: waveform[:9], 8000, ["dog"])
        >>> [source.name for source in clip_sources(classifier, ["new.wav", torch.zeros(9)])]
        ['new.wav', 'clip 2']
        >>> [source.name for source in clip_sources(classifier, {"AM12, 06:00": (torch.zeros(9), 8000)})]
        ['AM12, 06:00']
    """
    if isinstance(clips, (str, os.PathLike)) or SoundInMemory.of(clips, "clip 1") is not None or is_waveform(clips):
        clips = [clips]
    if isinstance(clips, Mapping):
        sources = [_named(classifier, name, clip) for name, clip in clips.items()]
    elif hasattr(clips, "fingerprint") and hasattr(clips, "waveform"):
        sources = _of_dataset(classifier, clips)
    elif isinstance(clips, Iterable) and not _is_number_or_table(clips):
        sources = [source for index, clip in enumerate(clips) for source in _sources(classifier, clip, index)]
    else:
        raise TypeError(
            f"expected paths, waveforms (sample,) or Recordings to explain, but got {type(clips).__name__}"
            f"{_described(clips)}"
        )
    if not sources:
        raise ValueError("expected at least one clip to explain, but got none")
    check_names(source.name for source in sources if source.in_memory)
    return sources


def file_sources(classifier: Classifier, clips: Any) -> dict[str, ClipSource]:
    """The clips to explain by their paths, each once.

    Args:
        classifier: the classifier that reads them.
        clips: files, in any form that `clip_sources` takes.

    Raises:
        TypeError: the clips have another form.
        ValueError: there is no clip, or one is no file.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> from captum_apex.explaining.clip_sources import file_sources
        >>> classifier = Classifier(torch.nn.Linear(9, 1), lambda waveform: waveform[:9], 8000, ["dog"])
        >>> list(file_sources(classifier, ["b.wav", "a.wav", "b.wav"]))
        ['b.wav', 'a.wav']
    """
    sources = clip_sources(classifier, clips)
    other = next((source for source in sources if not source.is_file), None)
    if other is not None:
        raise ValueError(f"expected audio files, whose rows can be kept by their paths, but got {other.name}")
    return {source.name: source for source in sources}


def recording_paths(recordings: Any) -> list[str]:
    """The paths of recordings, each once, in the order of names within a folder.

    Args:
        recordings: the path of a file or of a folder, `Recordings` that are files, or a list of paths. A folder has
            the audio files in it and in all folders below it, whatever their names.

    Raises:
        TypeError: the recordings have another form.
        FileNotFoundError: there are no audio files in a folder.
        ValueError: there is no recording.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.explaining.clip_sources import recording_paths
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.wav", "north/a.wav"):
        ...         Path(folder, name).parent.mkdir(exist_ok=True)
        ...         Path(folder, name).touch()
        ...     [Path(path).name for path in recording_paths(folder)]
        ['b.wav', 'a.wav']
    """
    if isinstance(recordings, Recordings) and _are_files(recordings):
        return [recordings.name(index) for index in range(len(recordings))]
    given = [recordings] if isinstance(recordings, (str, os.PathLike)) else recordings
    listed: list[Any] = list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(each, (str, os.PathLike)) for each in listed):
        raise TypeError(f"expected paths of recordings or of folders, but got {type(recordings).__name__}")
    if not listed:
        raise ValueError("expected at least one recording, but got none")
    paths = [path for each in listed for path in (_below(Path(each)) if Path(each).is_dir() else [os.fspath(each)])]
    return list(dict.fromkeys(paths))


def _below(folder: Path) -> list[str]:
    """The paths of the audio files in and below a folder, with a warning of what else is there."""
    contents = FolderContents.of(folder)
    said = contents.left_out()
    if not contents.audio:
        raise FileNotFoundError(
            f"expected audio files ({', '.join(SUFFIXES)}) in {folder} or below it, but there are none: "
            f"{f'only {said}' if said else 'it is empty'}"
        )
    if said:
        warn_caller(f"left out of {folder}: {said}")
    return [os.fspath(folder / name) for name in contents.audio]


def _is_number_or_table(clips: Any) -> bool:
    """Whether an object is an array of numbers without an axis, or along several axes."""
    n_axes = len(getattr(clips, "shape", (0,)))
    of_numbers = getattr(getattr(clips, "dtype", None), "kind", "f") not in "OUST"
    return n_axes == 0 or (n_axes > 1 and of_numbers)


def _of_dataset(classifier: Classifier, recordings: AudioDataset) -> list[ClipSource]:
    inputs: InputDataset = classifier.dataset(recordings)
    are_files = _are_files(recordings)
    return [
        ClipSource(inputs.name(index), partial(_recording, inputs, index), inputs.label_name(index), are_files)
        for index in range(len(inputs))
    ]


def _are_files(recordings: AudioDataset) -> bool:
    return isinstance(recordings, Recordings) and recordings.sounds is None


def _sources(classifier: Classifier, clip: Any, index: int) -> list[ClipSource]:
    """The clips of a folder, or one clip."""
    if isinstance(clip, (str, os.PathLike)) and Path(clip).is_dir():
        with naming_score_counts(classifier):
            recordings = Recordings.in_folder(clip, classifier.class_names, background=classifier.background)
        return _of_dataset(classifier, recordings)
    return [_source(classifier, clip, index)]


def _source(classifier: Classifier, clip: Any, index: int) -> ClipSource:
    if isinstance(clip, (str, os.PathLike)):
        return ClipSource(os.fspath(clip), partial(_first_clip, classifier, clip), is_file=True)
    sound = SoundInMemory.of(clip, f"clip {index + 1}")
    if sound is not None:
        return ClipSource(sound.name, partial(_sound, classifier, sound), sound.label, in_memory=True)
    raise TypeError(
        f"expected the path of an audio file, or a waveform of floats (sample,), but got {type(clip).__name__}"
        f"{_described(clip)}"
    )


def _named(classifier: Classifier, name: Any, clip: Any) -> ClipSource:
    """A clip of a mapping, whose key is its name."""
    if not isinstance(name, str) or isinstance(clip, (list, Mapping)):
        raise TypeError(
            "expected a mapping from the name of each clip to its file or its sound, but got "
            f"{type(clip).__name__} for {name!r}; give several clips as a list"
        )
    source = _source(classifier, clip, 0)
    if not source.in_memory:
        return replace(source, name=name)
    sound = SoundInMemory.of(clip, name)
    assert sound is not None
    return replace(source, name=name, waveform=partial(_sound, classifier, replace(sound, name=name)))


def _described(clip: Any) -> str:
    """The type and the shape of an array that is no waveform, and what to do with integers and with several axes."""
    if not hasattr(clip, "shape"):
        return ""
    dtype = getattr(clip, "dtype", None)
    kind = "" if dtype is None else f" of {dtype}"
    cure = ""
    if len(clip.shape) > 1:
        cure = "; give several clips as a list, `list(array)`, and a stereo waveform as its mean, `array.mean(0)`"
    return f"{kind} of shape {tuple(clip.shape)}{full_scale(dtype)}{cure}"


def _first_clip(classifier: Classifier, path: str | os.PathLike) -> Tensor:
    """The waveform of a file, cut to the length of the classifier's clips, with a warning where more than 1% is cut."""
    waveform = classifier.sound(path)
    _warn_of_cut(classifier, partial(file_duration, path))
    return classifier.unfilled(waveform, partial(file_duration, path))


def _recording(inputs: InputDataset, index: int) -> Tensor:
    """The waveform of a recording of a data set, with the same warning where the recording is a file."""
    waveform = inputs.unfilled(index)
    recordings = inputs.recordings
    if isinstance(recordings, Recordings) and recordings.sounds is None:
        _warn_of_cut(inputs.classifier, partial(file_duration, recordings.path(index)))
    return waveform


def _sound(classifier: Classifier, sound: SoundInMemory) -> Tensor:
    """A sound in memory, with the same warning, which says at which rate an array without one is taken to be."""
    waveform = sound.waveform(classifier.sample_rate, convert=classifier.convert)
    seconds = len(waveform) / classifier.sample_rate
    rate = ""
    if sound.rate is None:
        at = f"at the {classifier.sample_rate} Hz of the classifier"
        rate = f"; an array without a sample rate is taken to be {at}: give one of another rate as `(array, rate)`"
    _warn_of_cut(classifier, lambda: seconds, rate)
    return waveform[: classifier.read_length]


def _warn_of_cut(classifier: Classifier, duration: Callable[[], float], hint: str = "") -> None:
    """Warns where a sound, of a duration in s, is more than 1% longer than the classifier's clips."""
    if classifier.length is None:
        return
    seconds = classifier.length / classifier.sample_rate
    if duration() > LONGER * seconds:
        # The warning names no file, so that Python shows it once and not for every clip.
        warn_caller(
            f"sounds longer than the classifier's clips are cut: only their first {seconds:.3g} s are explained; for "
            f"whole recordings take explain_recording (on the command line: events){hint}"
        )
