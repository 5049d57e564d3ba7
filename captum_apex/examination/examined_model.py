"""The model and the clips that are examined, from a model or a `Classifier`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from captum_apex.classifiers.classifier import Classifier
from captum_apex.classifiers.sounds_in_memory import SoundInMemory
from captum_apex.classifiers.spectrogram_inputs import check_axes, swapped_layout
from captum_apex.layers.models import device_of, model_of
from captum_apex.layers.padding import lengths_of
from captum_apex.layers.suggestions import example_inputs

__all__ = ["ExaminedModel"]

_NOISE_SECONDS = 5
_NOISE = 0.1


@dataclass(frozen=True, eq=False)
class ExaminedModel:
    """A model with one or two clips.

    Args:
        model: the model, or a function that runs it on inputs alone.
        inputs: the inputs of the clips, (clip, ...); or one input without the clip axis.
        input_layout: axes of the inputs; None where they follow from their number.
        classifier: the classifier; None for a model alone.
        n_samples: length of the first clip in samples; 0 where the inputs were given.
        faults: what is wrong with the inputs, in words.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> from captum_apex.examination.examined_model import ExaminedModel
        >>> classifier = Classifier(torch.nn.Linear(800, 1), torch.square, 8000, ["dog"], length=800)
        >>> ExaminedModel.of(classifier, torch.zeros(400), None).inputs.shape
        torch.Size([1, 800])
    """

    model: Callable
    inputs: Tensor
    input_layout: str | None = None
    classifier: Classifier | None = None
    n_samples: int = 0
    faults: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, model: Any, example: Any, input_layout: str | None) -> ExaminedModel:
        """The model and the clips, from what the user gave.

        Args:
            model: a model, a function that runs it, or a `Classifier`.
            example: inputs of a model; files or waveforms of a classifier, or None for noise.
            input_layout: axes of the inputs, as in `suggest_layers`; None for those of the classifier.

        Raises:
            TypeError: there are no inputs of a model.
            ValueError: a file cannot be read, or the transform fails.
        """
        if isinstance(model, Classifier):
            return cls._of_classifier(model, example, input_layout or model.input_layout)
        if example is None:
            raise TypeError("expected inputs of the model as `example`, or a Classifier in place of the model")
        return cls(model, example_inputs(example), input_layout)

    @classmethod
    def _of_classifier(cls, classifier: Classifier, example: Any, input_layout: str | None) -> ExaminedModel:
        waveforms = _waveforms(classifier, example)
        reading = replace(classifier, axes=None)  # which is checked below, and is no reason to end here
        clips = [reading.inputs(waveform) for waveform in waveforms]
        clips = [clip for clip in clips if clip.shape == clips[0].shape]
        faults = []
        if classifier.axes is not None:
            try:
                check_axes(clips[0].shape, classifier.axes, input_layout, "the clip")
            except ValueError as error:
                faults.append(str(error))
                input_layout = _fitting(clips[0].shape, classifier, input_layout)
        model = classifier.model if classifier.columns is None else _with_lengths(classifier)
        return cls(model, torch.stack(clips), input_layout, classifier, len(waveforms[0]), faults)

    def clips(self, n_axes: int) -> Tensor:
        """The inputs of two clips, (clip, ...), on the device of the model; a second one is made where there is one.

        Args:
            n_axes: number of axes of one input, without the clip axis.
        """
        clips = self.inputs if self.inputs.dim() > n_axes else self.inputs[None]
        if len(clips) == 1:
            clips = torch.cat([clips, clips.flip(-1) / 2 if clips.is_floating_point() else clips.flip(-1)])
        module = model_of(self.model)
        return clips[:2] if module is None else clips[:2].to(device_of(module))

    def seconds(self, input_layout: str, input_shape: Sequence[int]) -> Callable[[float], float] | None:
        """The function from a place on the time axis of the inputs, in steps, to s; None where it is not known.

        Args:
            input_layout: axes of the inputs.
            input_shape: shape of one input.
        """
        if self.classifier is None:
            return None
        if self.classifier.axes is not None:
            return self.classifier.axes.seconds
        n_steps = input_shape[input_layout.split().index("t") - 1]
        duration = self.n_samples / self.classifier.sample_rate
        return lambda position: position / n_steps * duration


def _waveforms(classifier: Classifier, example: Any) -> list[Tensor]:
    """The waveforms of at most two clips, of the length of the classifier's."""
    if example is None:
        n_samples = classifier.length or _NOISE_SECONDS * classifier.sample_rate
        return [_NOISE * torch.randn(n_samples, generator=torch.Generator().manual_seed(0))]
    is_one = SoundInMemory.of(example, "the clip") is not None
    clips = list(example[:2]) if isinstance(example, (list, tuple)) and not is_one else [example]
    if not clips:
        raise ValueError("expected one or two clips as `example`, but got none")
    return [_waveform(classifier, clip) for clip in clips]


def _waveform(classifier: Classifier, clip: Any) -> Tensor:
    if isinstance(clip, (str, os.PathLike)):
        return classifier.waveform(clip)
    sound = SoundInMemory.of(clip, "the clip")
    waveform = example_inputs(clip if sound is None else sound.waveform(classifier.sample_rate))
    if waveform.dim() != 1:
        raise ValueError(
            "expected files or waveforms (sample,) as `example` of a Classifier, which has a transform, but got shape "
            f"{tuple(waveform.shape)}; to examine the model with inputs, pass `classifier.model`"
        )
    return classifier.fitted(waveform.float())


def _fitting(shape: Sequence[int], classifier: Classifier, input_layout: str | None) -> str | None:
    """The layout with frequency and time the other way round, where the axes fit it; otherwise the same layout."""
    swapped = swapped_layout(shape, input_layout)
    try:
        check_axes(shape, classifier.axes, swapped, "the clip") if classifier.axes is not None else None
    except ValueError:
        return input_layout
    return swapped


def _with_lengths(classifier: Classifier) -> Callable:
    model = classifier.model
    columns = classifier.columns

    def run(inputs: Tensor) -> Tensor:
        return model(inputs, *lengths_of(columns, inputs))

    return run
