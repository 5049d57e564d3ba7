"""What bases of published models are worth: delta, contributions by hand, and what prototypes share with the clip."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from einops import rearrange
from torch import Tensor

from benchmarks.published.held_clips import HeldClips
from benchmarks.published.published_models import PublishedModel, n_statements
from captum_apex import Classifier, LayerAPEX, PrototypeBasis
from captum_apex.attribution import Decomposition
from captum_apex.explaining import fit_bases
from captum_apex.layers import model_of

N_CHANNELS = 5  # channels of the evidence
N_PROTOTYPES = 4  # of each channel


@dataclass(frozen=True)
class Measured:
    """A published model with its bases and the decompositions of the clips that are explained.

    Args:
        classifier: the model with its transform.
        training: the clips of the prototypes.
        explained: the explained clips.
        inputs: the explained clips as inputs of the model.
        bases: the fitted bases.
        decompositions: what each channel of each basis adds to the score of each clip.
    """

    classifier: Classifier
    training: HeldClips
    explained: HeldClips
    inputs: Tensor
    bases: Sequence[PrototypeBasis]
    decompositions: Sequence[Decomposition]


def measured(
    model: PublishedModel, sizes: tuple[int, int] | None = None, *, seed: int = 0, progress: bool = False
) -> Measured:
    """Fits the bases of a published model on its training clips, and decomposes the scores of the other clips.

    Args:
        model: the model.
        sizes: numbers of clips per speaker; by default those of the model.
        seed: seed of the fits.
        progress: whether to show progress bars.
    """
    n_training, n_explained = sizes or model.sizes
    classifier = model.classifier(model.load())
    training = model.clips("train", n_training)
    explained = model.clips("test", n_explained)
    dataset = classifier.dataset(explained)
    inputs = torch.stack([dataset.input(index) for index in range(len(dataset))])
    bases = list(fit_bases(classifier, training, model.schemes, seed=seed, progress=progress))
    decompositions = [at_layer(classifier, basis).decompose(inputs, model.target, predicted=True) for basis in bases]
    return Measured(classifier, training, explained, inputs, bases, decompositions)


def at_layer(classifier: Classifier, basis: PrototypeBasis) -> LayerAPEX:
    """The attribution object of a basis at the classifier's layer."""
    assert classifier.layer is not None
    return LayerAPEX(classifier.model, classifier.layer, basis)


def published_lines(model: PublishedModel, subject: Measured) -> pd.DataFrame:
    """The measures of each basis of a published model.

    Args:
        model: the model.
        subject: its bases and decompositions.

    Returns:
        One line per `scheme`, with `package`, `statements` (of glue), `layer`, `channels`, `rows` and `columns`:

        - `purity_raw`, `purity`: mean purity of the prototypes before and after the fit.
        - `delta`: median share of the score, less the score without the layer, that the contributions miss.
        - `error`: largest difference from the contributions by hand, as a share of the clip's largest contribution.
        - `shared`: what clip and prototypes share: the mean for 0 and 1, the median for distances, over the
          prototypes of the strongest channel of each clip; `shared_5` over those of its five strongest channels.
        - `random`: the same over all pairs of clips.
    """
    pairs = model.likeness(subject.classifier, subject.explained, subject.training)
    lines = []
    for basis, decomposition in zip(subject.bases, subject.decompositions, strict=True):
        rows, columns = basis.origin.grid or (0, 0)
        about = {"package": model.package, "statements": n_statements(model.glue), "layer": basis.origin.layer}
        about |= {"channels": len(basis.U), "rows": rows, "columns": columns, "scheme": str(basis.scheme)}
        purity = {"purity_raw": basis.purity_history[0].item(), "purity": basis.purity_history[-1].item()}
        measures = {
            "delta": delta(subject.classifier, basis, subject.inputs, decomposition),
            "error": contribution_error(subject, basis, decomposition, double=model.double),
            "shared": _average(_with_prototypes(pairs, basis, decomposition, 1), model.unit),
            f"shared_{N_CHANNELS}": _average(_with_prototypes(pairs, basis, decomposition, N_CHANNELS), model.unit),
            "random": _average(pairs.flatten(), model.unit),
        }
        lines.append(about | purity | measures)
    return pd.DataFrame(lines)


def delta(classifier: Classifier, basis: PrototypeBasis, inputs: Tensor, decomposition: Decomposition) -> float:
    """The median share of the score, less the score without the layer, that the contributions miss."""
    without_layer = at_layer(classifier, basis).score_without_layer(inputs, decomposition.target)
    given = decomposition.score - without_layer
    return ((decomposition.contributions.sum(1) - given).abs() / given.abs()).median().item()


def contribution_error(
    subject: Measured, basis: PrototypeBasis, decomposition: Decomposition, *, double: bool = True
) -> float:
    """The largest difference between the contributions and those by hand, as a share of each clip's largest one."""
    by_hand = contributions_by_hand(subject.classifier, basis, subject.inputs, decomposition.target, double=double)
    difference = (decomposition.contributions - by_hand).abs().amax(1)
    return (difference / by_hand.abs().amax(1)).max().item()


def contributions_by_hand(
    classifier: Classifier, basis: PrototypeBasis, inputs: Tensor, target: Tensor | int, *, double: bool = True
) -> Tensor:
    """What each channel adds to the score, from the formula and without the library: Σ (U⁻ᵀ G) ⊙ (U Z).

    Args:
        classifier: the model, its layer and the layout of the layer.
        basis: the basis; `U` is its matrix.
        inputs: inputs of the model; the first axis is the clip.
        target: the explained class of each clip, (clip,), or one for all.
        double: whether to compute in float64.

    Returns:
        Tensor (clip, channel).
    """
    dtype = torch.float64 if double else torch.float32
    model = copy.deepcopy(classifier.model)
    model = model.double().requires_grad_(False) if double else model  # without a graph before the layer
    layer = (model_of(model) or model).get_submodule(basis.origin.layer)
    held = []

    def cut(_module: object, _arguments: object, output: Any) -> Any:
        if isinstance(output, tuple):  # of an LSTM, whose last state is its output at the last frame
            held.append(output[0].detach().clone().requires_grad_())
            states, memory = output[1]
            return held[0] * 1, (torch.cat([states[:-1], held[0][None, :, -1]]), memory)
        held.append(output.detach().clone().requires_grad_())
        return held[0] * 1  # a module behind may work in place

    layer.register_forward_hook(cut)
    output = model(inputs.to(dtype))
    targets = torch.as_tensor(target).expand(len(output))
    (gradient,) = torch.autograd.grad(output.gather(1, targets[:, None]).sum(), held[0])
    pattern = basis.origin.layout.pattern
    sizes = basis.origin.layout.sizes or {}
    vectors = [rearrange(each, pattern, **sizes).flatten(2) for each in (held[0].detach(), gradient)]
    U = basis.U.to(dtype)
    return ((U @ vectors[0]) * (torch.linalg.inv(U).T @ vectors[1])).sum(2).detach()


def _with_prototypes(pairs: Tensor, basis: PrototypeBasis, decomposition: Decomposition, n_channels: int) -> Tensor:
    """The entries of the pairs of each clip and the prototypes of its strongest channels."""
    assert basis.positive is not None
    chosen = []
    for clip, contributions in enumerate(decomposition.contributions):
        supporting = contributions.where(decomposition.activations[clip] > 0, -torch.inf)
        for channel in supporting.argsort(descending=True)[:n_channels].tolist():
            if supporting[channel] > 0:
                chosen.append(pairs[clip, basis.positive.indices[channel, :N_PROTOTYPES]])
    return torch.cat(chosen)


def _average(values: Tensor, unit: str) -> float:
    return (values.median() if unit else values.mean()).item()
