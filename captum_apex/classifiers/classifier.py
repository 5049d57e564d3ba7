"""A classifier with all that stands between it and an audio file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.audio.clip import Clip
from captum_apex.classifiers.class_names import class_name
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import layer_name
from captum_apex.layers.padding import Columns
from captum_apex.recordings.decoding import read
from captum_apex.recordings.folders import AudioDataset

__all__ = ["Classifier", "InputDataset"]


@dataclass(frozen=True)
class Classifier:
    """A model, and how it hears: what `python -m captum_apex` asks the factory for.

    Args:
        model: gives one score per class.
        transform: from a waveform (sample,) in float32 to one input of the model, without the batch axis.
        sample_rate: that the transform expects, in Hz.
        class_names: in the order of the model's scores.
        axes: of the input, where it is a spectrogram; None for a model that takes waveforms.
        decibels: from one input to what is drawn of it, (frequency, time) in dB; None where the input is in dB already. Not asked for
            without axes.
        length: of every clip in samples: longer files are cut, shorter ones padded with zeros; None keeps files as they are, which then
            must have one length to fit a basis on, unless there are `columns`.
        layout: of the explained layer, where its output is not (clip, channel, frequency, time); see `FeatureBank.from_dataset`.
        convert: resample files of other rates and average several channels, with a warning; False refuses such files.
        layer: the module to explain, the last one before pooling, as a rule; the command line then needs no `--layer`.
        input_layout: the axes of the inputs, for `APEX`; None where they need not be said.
        columns: for a model that takes clips padded to one length, with their lengths as second argument: from lengths along the input's
            last axis to columns at the layer, int64 (clip,) both. None for a model that takes clips of one length alone.

    Raises:
        TypeError: the model is no module, the layer is none, or the transform cannot be called.
        ValueError: the sample rate or the length is not above 0, class names are missing or occur twice, or the layer is not part of the
            model.

    >>> classifier = Classifier(nn.Linear(8, 2), lambda waveform: waveform[:8], sample_rate=16000, class_names=["cat", "dog"])
    >>> classifier.inputs(torch.ones(100)).shape
    torch.Size([8])
    """

    model: nn.Module
    transform: Callable[[Tensor], Tensor]
    sample_rate: int
    class_names: Sequence[str]
    axes: SpectrogramAxes | None = None
    decibels: Callable[[Tensor], Tensor] | None = None
    length: int | None = None
    layout: Layout | str | tuple | None = None
    convert: bool = True
    layer: nn.Module | None = None
    input_layout: str | None = None
    columns: Columns | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise TypeError(f"expected `model` to be a torch.nn.Module, but got {type(self.model).__name__}")
        if not callable(self.transform):
            raise TypeError(f"expected `transform` to be callable, but got {type(self.transform).__name__}")
        for name in ("sample_rate", "length"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value > 0):
                raise ValueError(f"expected `{name}` to be an int above 0, but got {value!r}")
        names = self.class_names
        if (
            isinstance(names, str)
            or not names
            or len(set(names)) != len(names)
            or not all(isinstance(name, str) for name in names)
        ):
            raise ValueError(f"expected `class_names` to be different strings, at least one, but got {names!r}")
        if self.axes is not None and self.axes.sample_rate != self.sample_rate:
            raise ValueError(
                f"expected `axes` with the sample rate {self.sample_rate}, but got {self.axes.sample_rate}"
            )
        Layout.of(self.layout)
        if self.layer is not None:
            layer_name(self.model, self.layer)

    def waveform(self, path: str | os.PathLike) -> Tensor:
        """A file as the transform takes it, (sample,); see `recordings.read` for what it raises."""
        return read(path, self.sample_rate, self.length, convert=self.convert)

    @torch.no_grad()
    def inputs(self, waveform: Tensor, name: str = "the clip") -> Tensor:
        """One input of the model, without the batch axis.

        Args:
            waveform: (sample,).
            name: for messages.

        Raises:
            ValueError: the transform fails, or gives something other than a tensor.
        """
        try:
            made = self.transform(waveform)
        except Exception as error:  # it is the user's code: whatever it raises is said together with the clip
            raise ValueError(
                f"expected the transform to take the {len(waveform)} samples of {name}, but it raised {type(error).__name__}: {error}"
            ) from error
        if not isinstance(made, Tensor) or not made.is_floating_point():
            raise ValueError(
                f"expected the transform to give a tensor of floats, but got {getattr(made, 'dtype', type(made).__name__)}"
            )
        return made

    def clip(self, path: str | os.PathLike, label: str = "") -> Clip:
        """A file to look at and to listen to; see `drawn` for what it raises."""
        return self.drawn(self.waveform(path), os.fspath(path), label)

    @torch.no_grad()
    def drawn(self, waveform: Tensor, name: str = "", label: str = "") -> Clip:
        """A waveform (sample,) to look at and to listen to.

        Raises:
            ValueError: with the name: `decibels` fails, what it gives does not fit the axes, or the waveform is too short to draw.
        """
        inputs = None if self.axes is None else self.inputs(waveform, name)
        try:
            return self._drawn(waveform, inputs, name, label)
        except Exception as error:  # `decibels` is the user's code
            raise ValueError(
                f"expected a clip that can be drawn, but {name} gives {type(error).__name__}: {error}"
            ) from error

    def _drawn(self, waveform: Tensor, inputs: Tensor | None, name: str, label: str) -> Clip:
        if self.axes is None or inputs is None:
            return Clip.from_waveform(waveform, self.sample_rate, name=name, label=label)
        decibels = inputs.squeeze() if self.decibels is None else self.decibels(inputs)
        return Clip(decibels.cpu(), self.axes, waveform, name, label)

    def dataset(self, recordings: AudioDataset) -> InputDataset:
        """The recordings as the model takes them, read one by one when they are asked for.

        Args:
            recordings: a `Recordings`, or what a function of `captum_apex.datasets` gives.

        Raises:
            ValueError: they are labelled by other classes than the classifier's, or in another order.
        """
        theirs = tuple(recordings.class_names)
        if recordings.labels is not None and theirs and theirs != tuple(self.class_names):
            raise ValueError(
                f"expected recordings that are labelled by the classifier's classes ({', '.join(self.class_names)}), in this order, "
                f"but got {', '.join(theirs)}; where they mean the same, give the classifier these `class_names`"
            )
        return InputDataset(self, recordings)


class InputDataset(Dataset):
    """Recordings as a classifier takes them: item `i` is `(input, label)` of clip `i`, or the input alone where there are no labels.

    Args:
        classifier: reads and transforms.
        recordings: the sounds.
    """

    def __init__(self, classifier: Classifier, recordings: AudioDataset) -> None:
        self.classifier, self.recordings = classifier, recordings

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int | Tensor]:
        made = self.input(index)
        columns = self.classifier.columns
        kept = slice(None, -1 if columns else None)  # clips of different length are padded along the last axis
        if made.shape[kept] != self.shape[kept]:
            raise ValueError(
                f"expected inputs of one shape, but the transform gives {tuple(made.shape)} for {self.recordings.name(index)} and "
                f"{tuple(self.shape)} for {self.recordings.name(0)}; give the Classifier a `length`, in samples"
            )
        if columns and columns(torch.tensor(made.shape[-1:])) < 1:
            raise ValueError(
                f"expected clips that are long enough for one column of the layer, but {self.recordings.name(index)} has {made.shape[-1]} "
                "steps of time"
            )
        return made if self.recordings.labels is None else (made, self.recordings.labels[index])

    @cached_property
    def shape(self) -> torch.Size:
        """Of the first input, which all others must have; but for the last axis, where the model takes padded clips."""
        return self.input(0).shape

    def input(self, index: int) -> Tensor:
        """The input of a clip, without its label, whatever its shape."""
        return self.classifier.inputs(self.waveform(index), self.recordings.name(index))

    def waveform(self, index: int) -> Tensor:
        """A clip as the transform takes it, (sample,)."""
        classifier = self.classifier
        return self.recordings.waveform(index, classifier.sample_rate, classifier.length, convert=classifier.convert)

    def clip(self, index: int) -> Clip:
        """A clip to look at and to listen to, with its classes in words; see `Classifier.drawn` for what it raises."""
        labels = self.recordings.labels
        label = labels[index].tolist() if isinstance(labels, Tensor) else None if labels is None else labels[index]
        return self.classifier.drawn(
            self.waveform(index), self.recordings.name(index), class_name(label, self.classifier.class_names)
        )
