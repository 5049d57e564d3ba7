"""Examines a model: what can be explained in it, and what would make its explanations wrong."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captum_apex.classifiers.classifier import Classifier
from captum_apex.classifiers.logits import kind_of_scores
from captum_apex.examination.classifier_code import changed_classifier, new_classifier
from captum_apex.examination.examination import Examination
from captum_apex.examination.examined_layer import FAILURES, ExaminedLayer, with_delta, with_places
from captum_apex.examination.examined_model import ExaminedModel
from captum_apex.examination.faults import are_flipped, faults_of_output, faults_of_transform
from captum_apex.layers.changes import recording, restored
from captum_apex.layers.hooks import captured, frozen, held
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import layer_name, model_name, on_one_device
from captum_apex.layers.selected_output import one_score_per_class
from captum_apex.layers.suggestions import LayerSuggestion, LayerSuggestions, suggest_layers
from captum_apex.layers.values import checked_output
from captum_apex.numbers import real_number, whole_number

__all__ = ["examine"]

_N_LAYERS = 3
_SECONDS = 60.0


@restored
def examine(
    model: Callable | Classifier,
    example: Any = None,
    *,
    input_layout: str | None = None,
    n_layers: int = _N_LAYERS,
    seconds: float = _SECONDS,
) -> Examination:
    """Runs a model on one or two clips, and reports what can be explained in it and what would make that wrong.

    It lists the layers that `suggest_layers` proposes, where their cells lie and how far they hear, and how linear the
    rest of the model is; whether clips have the same scores in a batch and one by one; and whether the scores are
    logits. The transform of a `Classifier` is tried with clicks and tones: do its inputs have the times and
    frequencies that its `axes` say? The model is held in evaluation mode meanwhile, and stays as it is.

    Args:
        model: a model, a function that runs it, or a `Classifier`.
        example: for a model, a batch of inputs, or one input, or an item `(input, label)` of a dataset. For a
            `Classifier`, the path of a file, a sound in memory as in `Explainer.explain`, or a list of two of them;
            None for noise.
        input_layout: axes of the inputs, as in `suggest_layers`; None for those of the `Classifier`, or those that
            follow from the shape.
        n_layers: number of layers that are measured, the best first.
        seconds: how long the search for the places of cells may take, in s; it takes some 60 to 250 passes up to each
            of these layers. What is not found in time is left out, and the report says so.

    Raises:
        TypeError: the example has no tensor, `n_layers` is no integer, or `seconds` is no number.
        ValueError: the model does not take the example, returns more than one tensor (the message says how to select
            the scores), or the transform fails.

    Example:
        >>> import torch
        >>> from captum_apex import examine
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Conv1d(1, 4, 9, stride=4), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> examine(model, torch.rand(2, 1, 100))
        Sequential, with inputs of 1 × 100 that are read as "n c t"; layers to explain, the best first:
        layer  channels  grid    layout              a cell hears  first cell at  delta
            0         4  1 × 23  "n c t -> n c 1 t"  9 steps       step 4.5          0%
        <BLANKLINE>
        The model predicts the class 1, with the score 0.0485.
        Clips have the same scores in a batch and one by one.
        The contributions of all channels of 0 add up to what the layer does to the score.
        <BLANKLINE>
        to paste, with your names for those in capitals:
        <BLANKLINE>
        import captum_apex
        <BLANKLINE>
        classifier = captum_apex.Classifier(
            model,
            lambda waveform: waveform[None],
            sample_rate=SAMPLE_RATE,  # of the waveforms, in Hz
            class_names=CLASS_NAMES,  # 2 names, in the order of the scores
            length=100,  # samples of a clip; None for files of any length
            layer=model.get_submodule("0"),
            layout="n c t -> n c 1 t",
            input_layout="n c t",
            exclusive=True,  # one class per clip; False where several can sound at once
        )
    """
    n_layers = whole_number(n_layers, "n_layers", least=0)
    seconds = real_number(seconds, "seconds", 0)
    subject = ExaminedModel.of(model, example, input_layout)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is in the report
        suggestions = suggest_layers(subject.model, subject.inputs, input_layout=subject.input_layout)
        clips = subject.clips(len(suggestions.input_shape))
        scores = _Scores.of(on_one_device(subject.model), clips)
        layers = _measured(subject, suggestions, clips, scores, n_layers)
        layers = _placed(subject, suggestions, layers, clips, n_layers, time.monotonic() + seconds)
        faults = _faults(subject, suggestions, scores, explicit=subject.input_layout is not None)
        silence = _silence(subject)
    classifier = subject.classifier
    return Examination(
        model_name=model_name(subject.model),
        input_layout=suggestions.input_layout,
        input_shape=suggestions.input_shape,
        layers=tuple(layers),
        left_out=suggestions.left_out,
        scores=tuple(scores.of_first),
        class_names=() if classifier is None else tuple(classifier.class_names),
        scores_are=scores.kind,
        batch_difference=scores.batch_difference,
        faults=tuple(faults),
        code=_code(subject, suggestions, scores),
        exclusive=None if classifier is None else classifier.exclusive,
        silence=silence,
    )


@dataclass(frozen=True)
class _Scores:
    """The scores of two clips: what they are, and whether they agree with those of one clip at a time.

    Args:
        shape: shape of the output for one clip.
        of_first: the scores of the first clip, one per class; empty where the model gives others.
        kind: what the scores are.
        batch_difference: difference from those in a batch, as a share of the largest.
        repeat_difference: difference from those in a second pass.
    """

    shape: tuple[int, ...]
    of_first: list[float]
    kind: str
    batch_difference: float | None
    repeat_difference: float

    @classmethod
    def of(cls, model: Callable, clips: Tensor) -> _Scores:
        first, kind = _first_scores(model, clips[:1])
        second, again, both = (_detached(model, inputs) for inputs in (clips[1:], clips[:1], clips))
        each = torch.cat([first, first if second is None else second])
        return cls(
            tuple(first.shape),
            first.flatten().tolist() if first.dim() <= 2 else [],
            kind,
            None if both is None or len(both) != len(clips) else _difference(each, both),
            0.0 if again is None else _difference(first, again),
        )


def _first_scores(model: Callable, clip: Tensor) -> tuple[Tensor, str]:
    """The scores of a clip, and what they are, which their graph tells."""
    with recording(), held(model):
        inputs = clip.clone()
        if inputs.is_floating_point():
            inputs = inputs.requires_grad_() * 1.0  # a model may work in place, which a leaf does not allow
        output = checked_output(model(inputs), model)
        return output.detach(), kind_of_scores(output)


@torch.no_grad()
def _detached(model: Callable, inputs: Tensor) -> Tensor | None:
    """The scores without a graph; None where the model does not take the inputs, such as more than one clip."""
    try:
        with held(model):
            return checked_output(model(inputs.clone()), model).detach()
    except Exception:  # the user's code can raise anything
        return None


def _difference(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return 1.0
    largest = one.double().abs().max().item() or 1.0
    return (one.double() - other.double()).abs().max().item() / largest


def _measured(
    subject: ExaminedModel, suggestions: LayerSuggestions, clips: Tensor, scores: _Scores, n_layers: int
) -> list[ExaminedLayer]:
    """The layers, the first of them with their deltas."""
    layers = [ExaminedLayer(each) for each in [*_chosen(subject, suggestions, clips[:1]), *suggestions]]
    if not scores.of_first:
        return layers
    n_classes = len(scores.of_first)
    target = max(range(n_classes), key=scores.of_first.__getitem__) if len(scores.shape) > 1 else None
    deltas = [with_delta(layer, subject.model, clips[:1], target) for layer in layers[:n_layers]]
    return deltas + layers[n_layers:]


def _placed(
    subject: ExaminedModel,
    suggestions: LayerSuggestions,
    layers: list[ExaminedLayer],
    clips: Tensor,
    n_layers: int,
    until: float,
) -> list[ExaminedLayer]:
    """The layers, the first of them with the places of their cells."""
    seconds = subject.seconds(suggestions.input_layout, suggestions.input_shape)
    about = (subject.model, clips[:1], suggestions.input_layout, seconds, until)
    return [with_places(layer, *about) for layer in layers[:n_layers]] + layers[n_layers:]


@torch.no_grad()
def _chosen(subject: ExaminedModel, suggestions: LayerSuggestions, clip: Tensor) -> list[LayerSuggestion]:
    """The layer of the classifier, where it is not among the suggestions and its layout fits."""
    layer = None if subject.classifier is None else subject.classifier.layer
    if subject.classifier is None or layer is None or any(each.module is layer for each in suggestions):
        return []
    name = layer_name(subject.model, layer)
    layout = Layout.of(subject.classifier.layout)
    try:
        with frozen(subject.model, layer), captured(layer, name, prepare=torch.clone, stop=True) as capture:
            subject.model(clip.clone())
        _, n_channels, n_rows, n_columns = layout.grid(capture.value, name).shape
    except FAILURES:
        return []
    return [LayerSuggestion(name, layer, layout, n_channels, (n_rows, n_columns), "the layer of the Classifier")]


def _faults(subject: ExaminedModel, suggestions: LayerSuggestions, scores: _Scores, *, explicit: bool) -> list[str]:
    """What would make explanations wrong, in words."""
    faults = list(subject.faults)
    classifier = subject.classifier
    if classifier is not None:
        faults += faults_of_transform(classifier, subject.n_samples, subject.input_layout)
    is_known = explicit or (classifier is not None and (classifier.axes is not None or classifier.layout is not None))
    if suggestions.doubt and not is_known:
        faults.append(suggestions.doubt)
    if not scores.of_first:
        n_classes = None if classifier is None else len(classifier.class_names)
        faults.append(
            f"The model gives scores of shape {scores.shape} for a clip, not one per class: explain the model "
            f"`{one_score_per_class(scores.shape, n_classes)}`."
        )
    elif classifier is not None and len(scores.of_first) != len(classifier.class_names):
        faults.append(
            f"The model gives {len(scores.of_first)} scores for a clip, but the Classifier has "
            f"{len(classifier.class_names)} class names."
        )
    return faults + faults_of_output(scores.kind, scores.batch_difference, scores.repeat_difference)


def _silence(subject: ExaminedModel) -> dict[str, float]:
    """The probabilities in digital silence; none where they are not known, as of a model that gives no logits."""
    classifier = subject.classifier
    if classifier is None:
        return {}
    try:
        probabilities = replace(classifier, axes=None).silence_probabilities(subject.n_samples / classifier.sample_rate)
    except Exception:  # the user's code can raise anything
        return {}
    return probabilities


def _code(subject: ExaminedModel, suggestions: LayerSuggestions, scores: _Scores) -> str:
    """The call to paste."""
    classifier = subject.classifier
    model = "captum_apex.SelectedOutput(model, torch.logit)" if scores.kind == "sigmoid" else "model"
    if classifier is None:
        n_classes = len(scores.of_first)
        if not scores.of_first:
            model = one_score_per_class(scores.shape)
            n_classes = scores.shape[1 if len(scores.shape) == 4 else -1]
        return new_classifier(suggestions, scores.kind, n_classes, model)
    changes = {}
    if subject.input_layout != classifier.input_layout:
        changes["input_layout"] = f'"{subject.input_layout}"'
    if scores.kind == "sigmoid":
        changes["model"] = "captum_apex.SelectedOutput(classifier.model, torch.logit)"
    if are_flipped(classifier, subject.n_samples, subject.input_layout):
        changes["axes"] = "classifier.axes.flipped()"
    return changed_classifier(classifier, suggestions, changes)
