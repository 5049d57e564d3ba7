"""A classifier with the way from an audio file to its input, and recordings as its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.audio.clip import Clip
from captum_apex.choices import one_of
from captum_apex.classifiers.class_names import checked_background, checked_class_names, class_name
from captum_apex.classifiers.clip_reading import ClipReading
from captum_apex.classifiers.logits import check_logits, checked_exclusive, checked_scores, score_count_fault
from captum_apex.classifiers.sounds_in_memory import SoundsInMemory
from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import held
from captum_apex.layers.layout import Layout, input_axes
from captum_apex.layers.models import device_of, layer_name, model_name, on_one_device
from captum_apex.layers.padding import Columns, lengths_of
from captum_apex.layers.values import checked_output
from captum_apex.numbers import real_number, whole_number
from captum_apex.recordings.folders import AudioDataset, Recordings
from captum_apex.recordings.short_sounds import SHORT
from captum_apex.recordings.slices import file_duration
from captum_apex.result_tables import listed

__all__ = ["Classifier", "InputDataset"]


@dataclass(frozen=True, repr=False)
class Classifier(ClipReading):
    """A model with the transform from audio to its input; a factory for `python -m captum_apex` returns it.

    Args:
        model: model that gives one score per class; see `SelectedOutput` for one that returns more.
        transform: function from a waveform (sample,) in float32 to one input of the model, without the batch axis.
        sample_rate: sample rate of the waveforms in Hz.
        class_names: names of the classes, in the order of the model's scores: a list, an array, a pandas object.
        axes: axes of the inputs where they are spectrograms; None for a model that takes waveforms.
        decibels: function from one input to the picture of it, (frequency, time) in dB, with the bins of `axes`; None
            for inputs in dB, of which the first channel is drawn. It is not called without `axes`.
        length: length of every clip in samples: longer files are cut, shorter files lengthened as `short` says. None
            leaves the files as they are; a basis can then be fitted on files of one length, or with `columns`.
        layout: layout of the explained layer where its output is not (clip, channel, frequency, time); see
            `FeatureBank.from_dataset`.
        convert: resample files of other rates and average several channels, with a warning; False refuses such files.
        layer: the module to explain, usually the last module before pooling; the command line then needs no `--layer`.
        input_layout: layout of the inputs, for `APEX`; None for inputs that `APEX` understands without it.
        columns: function from the clips' lengths along the last axis of the inputs, int64 (clip,), to their numbers of
            columns at the layer, int64 (clip,). It is for a model that takes clips padded to one length, and their
            lengths as second argument. None for a model that takes clips of one length.
        exclusive: whether each clip has exactly one class, so that probabilities are the softmax of the scores: True
            for a model that was trained by softmax and cross-entropy, False for one that was trained by sigmoid and
            binary cross-entropy. None leaves it open; what needs probabilities then raises an error, unless there is
            one class, whose probability is the sigmoid.
        short: what is done with files shorter than `length`: `"pad"` puts zeros after their end, `"repeat"` repeats
            them from their start, as models against spoofed speech are trained. Regions in a repeated part are given at
            the second of the file. `"keep"` leaves them as they are, for a transform that lengthens its inputs itself,
            as the feature extractors of AST and Whisper do.
        background: name of clips without any of the classes, such as "no call" for a detector of one class: a folder or
            a label of this name means clips on which all scores should be low, and pages show it as the first choice
            where all scores are below 0. None for no such clips.

    Raises:
        TypeError: the model or the layer is not a module, the transform cannot be called, the sample rate or the length
            is no integer, `exclusive` is no bool, the class names are no strings or numbers or have no order, or a
            layout or the background is no string.
        ValueError: the sample rate or the length is not above 0, class names are missing or occur twice, the axes have
            another sample rate, the layer is not a submodule of the model, a single class shall be exclusive, or a
            layout cannot be read.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> model = torch.nn.Linear(2, 2)
        >>> classifier = Classifier(model, lambda waveform: waveform[:2], sample_rate=8000, class_names=["cat", "dog"])
        >>> classifier.inputs(torch.tensor([0.5, -0.5, 0.25]))
        tensor([ 0.5000, -0.5000])

        Probabilities of classes that exclude each other, and of classes that can sound together:

        >>> from dataclasses import replace
        >>> replace(classifier, exclusive=True).probabilities(torch.tensor([2.0, 0.0]))
        tensor([0.8808, 0.1192])
        >>> replace(classifier, exclusive=False).probabilities(torch.tensor([2.0, 0.0]))
        tensor([0.8808, 0.5000])
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
    exclusive: bool | None = None
    short: str = "pad"
    background: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(on_one_device(self.model), nn.Module):
            raise TypeError(f"expected `model` to be a torch.nn.Module, but got {type(self.model).__name__}")
        if not callable(self.transform):
            raise TypeError(f"expected `transform` to be callable, but got {type(self.transform).__name__}")
        for name in ("sample_rate", "length"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole_number(value, name, least=1))
        object.__setattr__(self, "class_names", checked_class_names(self.class_names))
        if self.axes is not None and self.axes.sample_rate != self.sample_rate:
            raise ValueError(
                f"expected `axes` with the sample rate {self.sample_rate}, but got {self.axes.sample_rate}"
            )
        one_of(self.short, "`short`", SHORT)
        Layout.of(self.layout)
        if self.input_layout is not None:
            input_axes(self.input_layout)
        if self.layer is not None:
            layer_name(self.model, self.layer)
        object.__setattr__(self, "exclusive", checked_exclusive(self.exclusive, len(self.class_names)))
        checked_background(self.background, self.class_names, self.exclusive)

    def __repr__(self) -> str:
        length = "as long as their files are" if self.length is None else f"{self.length / self.sample_rate:.3g} s"
        layer = "not given" if self.layer is None else layer_name(self.model, self.layer)
        pictures = "spectrograms of the model" if self.axes is not None else "spectrograms of the waveforms"
        return "\n".join(
            [
                f"Classifier with {model_name(self.model)}",
                f"  classes: {listed(self.class_names)} ({len(self.class_names)})",
                f"  clips: {length}, at {self.sample_rate} Hz",
                f"  layer: {layer}",
                f"  pictures: {pictures}",
            ]
        )

    @restored
    def scores(self, inputs: Tensor, name: str = "the clip") -> list[float]:
        """The model's score for each class, after a check that it takes the input and gives one score per class.

        Args:
            inputs: input of the model for one clip, without the clip axis.
            name: name of the clip, for messages.

        Raises:
            ValueError: the model raises an exception for the input, or gives another number of scores.
        """
        try:
            output = self._output(inputs)
        except Exception as error:  # the user's code can raise anything
            raise ValueError(
                f"expected the model to take what the transform gives for {name}, of shape {tuple(inputs.shape)}, as a "
                f"batch of one, but it raised {type(error).__name__}: {error}{self._hint(inputs)}"
            ) from error
        scores = checked_scores(checked_output(output, self.model), len(self.class_names))
        return scores.flatten().tolist()

    @torch.no_grad()
    def _output(self, inputs: Tensor) -> Any:
        """What the model gives for one input, without the clip axis."""
        with held(self.model):
            clips = inputs[None].to(device_of(self.model))
            return self.model(clips, *lengths_of(self.columns, clips))

    def _hint(self, inputs: Tensor) -> str:
        """What to do about an input that the model does not take, as the end of a message; empty where not known."""
        if inputs.dim() > 2 and inputs.shape[0] == 1:
            return "; if the first axis is the batch's, leave it out in the transform"
        try:
            scores = checked_output(self._output(inputs[None]), self.model)
        except Exception:  # the user's code can raise anything
            return ""
        if scores.shape[:1] != (1,) or scores.numel() != len(self.class_names):
            return ""
        return "; it takes the input with a channel axis in front: end the transform in [None], as in `waveform[None]`"

    def probabilities(self, scores: Tensor) -> Tensor:
        """The probabilities of the classes, of the same shape: softmax or sigmoid, as `exclusive` says.

        Args:
            scores: scores of the model, (..., class).

        Raises:
            ValueError: there are several classes, and `exclusive` is None; or the scores are probabilities already.
        """
        if self.exclusive is None and len(self.class_names) > 1:
            raise ValueError(
                "expected a Classifier that says whether its classes exclude each other, because their probabilities "
                "depend on it, but got `exclusive=None`; give the Classifier `exclusive=True` if the model was trained "
                "by softmax and cross-entropy (one class per clip), or `exclusive=False` if it was trained by sigmoid "
                "and binary cross-entropy (any number of classes per clip)"
            )
        check_logits(scores, bool(self.exclusive))
        return scores.softmax(-1) if self.exclusive else scores.sigmoid()

    def silence_probabilities(self, seconds: float | None = None) -> dict[str, float]:
        """The probability of each class in digital silence, highest first.

        Silence has no class, so the first probability should be low. If a threshold is not above it, silence and the
        zeros that pad short clips are detected as that class.

        Args:
            seconds: duration of the silence, in s; None for the classifier's `length`.

        Returns:
            The probability of each class, by its name.

        Raises:
            ValueError: the duration is not known, the model or its transform fails for silence or gives NaN, or
                `exclusive` is not given.
        """
        if seconds is None and self.length is None:
            raise ValueError("expected `seconds`, or a Classifier with a `length`, but there is neither")
        n_samples = self.length if seconds is None else round(real_number(seconds, "seconds", 0) * self.sample_rate)
        scores = torch.tensor(self.silence_scores(n_samples or 0))
        probabilities = zip(self.class_names, self.probabilities(scores).tolist(), strict=True)
        return dict(sorted(probabilities, key=lambda pair: -pair[1]))

    def silence_scores(self, n_samples: int) -> list[float]:
        """The model's score for each class in digital silence; errors as in `silence_probabilities`.

        Args:
            n_samples: duration of the silence, in samples.
        """
        name = "digital silence"
        scores = self.scores(self.inputs(torch.zeros(max(1, n_samples)), name), name)
        if any(math.isnan(score) for score in scores):
            raise ValueError(f"expected scores for {name} that are numbers, but the transform or the model gives NaN")
        return scores

    def dataset(self, recordings: AudioDataset | Mapping[str, Any] | Sequence[Any]) -> InputDataset:
        """The recordings as inputs of the model; each recording is read when its item is requested.

        Args:
            recordings: a `Recordings`, or a data set of `captum_apex.datasets`; or sounds in memory: a list of
                waveforms, of pairs `(waveform, sample_rate)` and of `Clip`s, whose `label` is their class, or a mapping
                from names to such.

        Raises:
            TypeError: the recordings are none, but the path of a folder, for instance.
            ValueError: the classes of the recordings are not the classifier's, or are in another order; or two sounds
                in memory have one name.
        """
        if not all(hasattr(recordings, name) for name in ("class_names", "labels", "name", "waveform")):
            if isinstance(recordings, (Mapping, list, tuple)):
                return InputDataset(self, SoundsInMemory.of(recordings, self.class_names, self.background))
            raise TypeError(
                f"expected recordings, such as a captum_apex.Recordings, but got {type(recordings).__name__}; those of "
                "a folder are Recordings.in_folder(folder, classifier.class_names)"
            )
        given = cast(AudioDataset, recordings)
        class_names = tuple(given.class_names)
        if given.labels is not None and class_names and class_names != tuple(self.class_names):
            raise ValueError(
                score_count_fault(self)
                or f"expected recordings that are labelled by the classifier's classes ({listed(self.class_names)}), "
                f"in this order, but got {listed(class_names)}; give the recordings the classifier's "
                "`class_names`, as in Recordings.in_folder(folder, classifier.class_names); do not change those of the "
                "classifier, whose order is that of the model's scores; clips of none of the classes need a "
                "`background`, in both"
            )
        return InputDataset(self, given)


class InputDataset(Dataset):
    """Recordings as inputs of a classifier; item `i` is `(input, label)` of clip `i`, or its input without labels.

    Args:
        classifier: classifier that reads and transforms the recordings.
        recordings: the clips.

    Raises:
        ValueError: there is not one label per clip.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> from captum_apex.classifiers import InputDataset
        >>> class Ramps:
        ...     class_names = ("low", "high")
        ...     labels = (0, 1)
        ...     def __len__(self):
        ...         return 2
        ...     def name(self, index):
        ...         return f"ramp {index}"
        ...     def waveform(self, index, sample_rate, length=None, *, convert=True):
        ...         return torch.linspace(0, 1 + index, 3)
        >>> model = torch.nn.Linear(3, 2)
        >>> classifier = Classifier(model, torch.square, sample_rate=8000, class_names=["low", "high"])
        >>> InputDataset(classifier, Ramps())[1]
        (tensor([0., 1., 4.]), 1)
    """

    def __init__(self, classifier: Classifier, recordings: AudioDataset) -> None:
        self.classifier = classifier
        self.recordings = recordings
        labels = recordings.labels
        if labels is not None and len(labels) != len(recordings):
            raise ValueError(f"expected one label for each of {len(recordings)} recordings, but got {len(labels)}")
        # The positions of a pandas object count, not its index.
        self.labels = labels if labels is None or isinstance(labels, (Tensor, Sequence)) else np.asarray(labels)
        if isinstance(self.labels, tuple) and self.labels and isinstance(self.labels[0], tuple):
            self.labels = torch.tensor(self.labels, dtype=torch.float32)  # a number for each class

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int | Tensor]:
        inputs = self.input(index)
        self._check_shape(inputs, index)
        return inputs if self.labels is None else (inputs, self.labels[index])

    def name(self, index: int) -> str:
        """The name of a clip, for messages and titles."""
        return self.recordings.name(index)

    def fingerprint(self) -> str:
        """The fingerprint of the recordings; empty for recordings that have none."""
        return self.recordings.fingerprint() if hasattr(self.recordings, "fingerprint") else ""

    def _check_shape(self, inputs: Tensor, index: int) -> None:
        name = self.recordings.name(index)
        columns = self.classifier.columns
        fixed_axes = slice(None, -1 if columns else None)  # clips of different length are padded along the last axis
        if inputs.shape[fixed_axes] != self.shape[fixed_axes]:
            raise ValueError(
                f"expected inputs of one shape, but the transform gives {tuple(inputs.shape)} for {name} and "
                f"{tuple(self.shape)} for {self.recordings.name(0)}; give the Classifier a `length`, in samples"
            )
        if columns and columns(torch.tensor(inputs.shape[-1:])) < 1:
            raise ValueError(
                f"expected clips that are long enough for one column of the layer, but {name} has {inputs.shape[-1]} "
                "steps of time"
            )

    @cached_property
    def shape(self) -> torch.Size:
        """The shape of the first input, which all inputs must have; the last axis may differ with `columns`."""
        return self.input(0).shape

    def input(self, index: int) -> Tensor:
        """The input of a clip, without its label and without a check of its shape."""
        return self.classifier.inputs(self.waveform(index), self.recordings.name(index))

    def waveform(self, index: int) -> Tensor:
        """The waveform of a clip at the classifier's sample rate and length, (sample,)."""
        return self.classifier.fitted(self.sound(index))

    def sound(self, index: int) -> Tensor:
        """The waveform of a clip, (sample,), which is not repeated yet where short ones are, but padded."""
        classifier = self.classifier
        if classifier.short != "pad" and hasattr(self.recordings, "unpadded"):  # slices of recordings
            return self.recordings.unpadded(index, classifier.sample_rate, convert=classifier.convert)
        length = classifier.read_length
        return self.recordings.waveform(index, classifier.sample_rate, length, convert=classifier.convert)

    def clip(self, index: int) -> Clip:
        """A clip to look at and to listen to, with its classes in words; errors as in `Classifier.drawn`."""
        return self.classifier.drawn_whole(self.unfilled(index), self.recordings.name(index), self.label_name(index))

    def unfilled(self, index: int) -> Tensor:
        """The waveform of a clip, (sample,), which is not lengthened yet where it is short."""
        return self.classifier.unfilled(self.sound(index), partial(self._duration, index))

    def _duration(self, index: int) -> float:
        """The duration of a recording in s."""
        recordings = self.recordings
        if isinstance(recordings, Recordings) and recordings.sounds is None:
            return file_duration(recordings.path(index))
        whole = getattr(recordings, "unpadded", recordings.waveform)  # slices are padded without a length, too
        rate = self.classifier.sample_rate
        return len(whole(index, rate, convert=self.classifier.convert)) / rate

    def label_name(self, index: int) -> str:
        """The classes of a clip in words; empty without labels."""
        label: Any = None if self.labels is None else self.labels[index]
        if hasattr(label, "tolist"):
            label = label.tolist()
        return class_name(label, self.classifier.class_names, self.classifier.background)
