"""Long recordings: what the model heard in each of their windows, merged on one time axis, as events."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.decomposition import Decomposition
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.classifiers.classifier import Classifier
from captum_apex.explanations.events import RecordingExplanation
from captum_apex.explanations.merging import Findings
from captum_apex.layers.models import model_of
from captum_apex.recordings.windows import Windows

__all__ = ["explain_recording"]


def explain_recording(
    apex: APEX | LayerAPEX,
    waveform: Tensor | str | os.PathLike,
    window: float,
    hop: float,
    *,
    classifier: Classifier,
    threshold: float = 0.5,
    probabilities: Callable[[Tensor], Tensor] = torch.sigmoid,
    n_channels: int = 3,
    sides: str = "positive",
    level: float = 0.5,
    batch_size: int = 8,
    progress: bool = False,
) -> RecordingExplanation:
    """Slides over a recording of any length, and lists what the model heard in it.

    The model runs once on every window, for all classes. A class is *heard* in a window where its probability reaches `threshold`. Its
    evidence there are the `n_channels` channels that add most to its logit; each has a map `R_k` on the layer's grid, which is laid on the
    recording's columns: a window that begins at `s` has its first column at the one nearest to `s`.

    *Merging.* A channel's merged map for a class, `M(f, t)`, is the mean of its maps in the windows that cover `t` and have the channel in
    the class's evidence. Such windows that overlap or touch make one stretch; between stretches there is nothing.

    *Events* are the runs of columns with `r(t) ≥ level · max r > 0`, where `r(t) = Σ_f M(f, t)`, and the maximum is taken over a window's
    length on either side of `t`, within the stretch. So what several windows hear is one event, also where it is longer than a window, and
    a quiet sound is not lost because a loud one comes minutes later. The band of an event spans the rows with `q(f) ≥ level · max q`, where
    `q` sums `M` over the event. The scheme `time` does not look at bands: the band is the whole one, as it is for a classifier without
    axes. Nor does `frequency` look at times: each map is spread evenly over its window.

    *Evidence over time* of a class is the sum of its evidence channels' maps over frequency, averaged over the windows that cover `t` and
    hear the class.

    Memory grows with what is heard, not with the recording: it takes the events, two numbers per column and class, and a map of each
    stretch that is not over yet. A file is read window by window.

    Args:
        apex: `APEX` or `LayerAPEX`; prototypes are not needed.
        waveform: (sample,) at the classifier's rate, or the path of an audio file.
        window: in s; what the model was trained on, as a rule. The last one ends where the recording does; a shorter recording is padded
            with zeros, in which nothing is found.
        hop: from one window to the next, in s, at most a window; half of it is usual.
        classifier: how the model hears: the transform, the rate, the axes and the class names.
        threshold: in [0, 1].
        probabilities: from logits (clip, class) to probabilities; the sigmoid suits several labels per clip, and a single logit. For
            exclusive classes `lambda logits: logits.softmax(-1)`.
        n_channels: size of a class's evidence in a window.
        sides: `"positive"`, or `"both"` to count channels that speak through a negative activation.
        level: in (0, 1]; the smaller, the longer and wider an event.
        batch_size: windows per forward pass.
        progress: show a progress bar.

    Raises:
        ValueError: a setting is out of range, the recording holds NaN or infinity, or it cannot be cut or heard; see `Windows`.
        FileNotFoundError: there is no such file.

    >>> from captum_apex import PrototypeBasis
    >>> from captum_apex.layers.layout import Layout
    >>> from captum_apex.layers.origin import Origin
    >>> layer = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 400, 400), torch.nn.ReLU())
    >>> model = torch.nn.Sequential(layer, torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(2, 3))
    >>> basis = PrototypeBasis(torch.eye(2), "time", origin=Origin(layout=Layout("n c t -> n c 1 t")))
    >>> classifier = Classifier(model, lambda waveform: waveform[None], 8000, ["dog", "rain", "siren"])
    >>> found = explain_recording(LayerAPEX(model, layer, basis), torch.randn(80000), 1.0, 0.5, classifier=classifier, threshold=0.0)
    >>> found.duration, sorted(found.evidence)
    (10.0, [0, 1, 2])
    """
    if not 0 <= threshold <= 1 or not 0 < level <= 1:
        raise ValueError(f"expected `threshold` in [0, 1] and `level` in (0, 1], but got {threshold} and {level}")
    if batch_size < 1:
        raise ValueError(f"expected `batch_size` to be at least 1, but got {batch_size}")
    at_layer = apex.layer_apex if isinstance(apex, APEX) else apex
    windows = Windows.of(waveform, classifier.sample_rate, window, hop, convert=classifier.convert)
    sounds, found = iter(windows), None
    with tqdm(total=len(windows), unit="window", desc="explaining", disable=not progress) as bar:
        while batch := list(islice(sounds, batch_size)):
            starts = [start / windows.sample_rate for start, _ in batch]
            inputs = torch.stack(
                [
                    classifier.inputs(sound, f"the window at {at:g} s")
                    for at, (_, sound) in zip(starts, batch, strict=True)
                ]
            )
            for label, parts, heard in _heard(at_layer, inputs, len(classifier.class_names), threshold, probabilities):
                found = found or Findings.of(classifier, windows, inputs, parts, at_layer.basis.scheme, level)
                chosen = at_layer.evidence(parts, n_channels, sides)
                for clip in (heard >= threshold).nonzero()[:, 0].tolist():
                    found.add(starts[clip], label, heard[clip].item(), parts, clip, chosen)
            bar.update(len(batch))
    if found is None:
        return RecordingExplanation(
            (), {}, torch.empty(0, dtype=torch.float64), windows.n_samples / windows.sample_rate
        )
    return found.result()


def _heard(
    at_layer: LayerAPEX, inputs: Tensor, n_classes: int, threshold: float, probabilities: Callable[[Tensor], Tensor]
) -> Iterator[tuple[int, Decomposition, Tensor]]:
    """Each class that is heard in some clip, with the clips taken apart for it, and its probability in each, (clip,)."""
    heard: list[Tensor] = []

    def targets(output: Tensor) -> list[int | None]:
        logits = output[:, None] if output.dim() == 1 else output
        if logits.shape != (len(inputs), n_classes):
            raise ValueError(
                f"expected the model to give one score for each of the {n_classes} classes, but got {tuple(output.shape)}"
            )
        heard.append(_checked(probabilities(logits), logits))
        labels = (heard[0] >= threshold).any(0).nonzero()[:, 0].tolist()
        return labels if logits.shape[1] > 1 else [None for _ in labels]

    model = model_of(at_layer.forward_func) or at_layer.layer
    device = next((tensor.device for tensor in model.parameters()), inputs.device)
    lengths = (
        None if at_layer.columns is None else torch.full((len(inputs),), inputs.shape[-1], device=device)
    )  # no window is padded
    for parts in at_layer.decompose_each(inputs.to(device), targets, lengths):
        label = 0 if parts.target is None else parts.target
        assert isinstance(label, int)
        yield label, parts, heard[0][:, label].cpu()


def _checked(probabilities: Tensor, logits: Tensor) -> Tensor:
    if probabilities.shape != logits.shape or not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError(
            f"expected `probabilities` to give (clip, class) of shape {tuple(logits.shape)}, in [0, 1], but got shape "
            f"{tuple(probabilities.shape)} with values from {probabilities.min():g} to {probabilities.max():g}"
        )
    return probabilities
