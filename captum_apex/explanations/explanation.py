"""Explanations of clips: the channels that support a class, with their regions and prototypes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from captum._utils.typing import TargetType
from torch import Tensor
from torch.utils.data import Dataset

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.arguments import Inputs, check_classes, forward_arguments
from captum_apex.attribution.decomposition import N_CHANNELS, Decomposition, select_channels
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import Scheme
from captum_apex.explanations.channel_prototypes import ChannelPrototypes, check_prototypes, prototypes_of
from captum_apex.explanations.clip_channels import at_layer_of
from captum_apex.explanations.evidence import Evidence, Prototype, listed_evidence, others_of
from captum_apex.explanations.evidence_numbers import ClipNumbers, PeakCells, evidence_numbers
from captum_apex.explanations.evidence_regions import SEARCH, EvidenceRegions
from captum_apex.explanations.prototype_regions import PrototypeRegions
from captum_apex.layers.changes import restored
from captum_apex.layers.still_models import prepared
from captum_apex.layers.values import check_finite
from captum_apex.locating.region_search import RegionSearch

__all__ = ["Explanation", "explain", "explain_classes", "prototypes_of"]

_N_LISTED = 3  # channels that the text of an explanation lists


@dataclass(frozen=True, repr=False)
class Explanation:
    """The explanation of one class in one clip, in one scheme.

    Args:
        scheme: scheme of the basis.
        target: index of the explained class.
        score: output of the model for the class (the logit, where the model gives logits).
        score_without_layer: output of the model for the class where the layer gives zeros, usually a sum of biases.
        evidence: the channels that support the class, largest contribution first.
        total: sum of the contributions of all channels, those outside the evidence included.
        record: what the explanation was computed with, for an audit: fingerprints of the basis and of the model, name
            of the layer, and settings, by their names.

    Example:
        >>> from captum_apex import Explanation, Scheme
        >>> explanation = Explanation(Scheme.TIME, 3, score=4.0, score_without_layer=0.5, evidence=(), total=3.25)
        >>> explanation.other_channels, explanation.unexplained
        (3.25, 0.25)
    """

    scheme: Scheme
    target: Any
    score: float
    score_without_layer: float
    evidence: tuple[Evidence, ...]
    total: float
    record: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def completeness(self) -> float:
        """`Σ_k c_k − (f_y(Z) − f_y(Z := 0))` over all channels: 0 where the head is affine, up to rounding."""
        return self.total - (self.score - self.score_without_layer)

    @property
    def other_channels(self) -> float:
        """Sum of the contributions of all channels outside the evidence."""
        return self.total - sum(evidence.contribution for evidence in self.evidence)

    @property
    def unexplained(self) -> float:
        """`score − score_without_layer − total`, which no channel explains: 0, up to rounding, for an affine head."""
        return -self.completeness

    def __repr__(self) -> str:
        return "\n".join([self._title, *listed_evidence(self.evidence), self._others])

    def __str__(self) -> str:
        """The text with the places of the strongest channels and of their prototypes; a page has their names."""
        channels = [f"  {line}" for channel in self.evidence[:_N_LISTED] for line in str(channel).splitlines()]
        return "\n".join([self._title, *channels, *others_of(self.evidence[_N_LISTED:]), self._others])

    @property
    def _title(self) -> str:
        return f"Explanation of class {self.target} for {str(self.scheme)!r}: score {self.score:.3g}"

    @property
    def _others(self) -> str:
        return f"  all other channels: {self.other_channels:+.3g}"


@restored
def explain(
    apex: APEX | LayerAPEX,
    inputs: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    additional_forward_args: Any = None,
    *,
    n_channels: int = N_CHANNELS,
    n_prototypes: int = 4,
    sides: str = "positive",
    search: RegionSearch | None = SEARCH,
    dataset: Dataset | PrototypeRegions | None = None,
) -> list[Explanation]:
    """Explains one class of each clip of a batch.

    The evidence takes two forward passes; in the second the layer gives zeros. Then the region of each channel is
    searched for in each clip (see `RegionSearch` for its passes).

    Args:
        apex: the attribution object, `APEX` or `LayerAPEX`; its basis must have prototypes.
        inputs: inputs of the model, one tensor or a tuple of tensors; the first axis of each is the clip.
        target: index of the class to explain, in every form that Captum accepts. None explains the predicted class of
            each clip where the model has several outputs.
        additional_forward_args: further arguments of the model.
        n_channels: largest number of channels in the evidence, `N_CHANNELS` (5) by default, as in `attribute`.
        n_prototypes: number of prototypes per channel, from 1 to the number that the basis has.
        sides: `"positive"`, or `"both"` to add channels that support the class by a negative activation.
        search: how the region of each channel is found at the input, with the effect of masking it; see `RegionSearch`.
            None takes the peak cell of the layer's grid, which costs no further passes, but may lie beside the sound:
            a cell hears more than itself.
        dataset: the dataset that the basis was fitted on, to find the regions of the shown prototypes in their clips in
            the same way; or `PrototypeRegions(apex, dataset, search)`, which keeps what it has found for the next
            call. Without it, they have the regions that `locate_prototypes` has put into the basis, or else their peak
            cells.

    Returns:
        One explanation per clip.

    Raises:
        AssertionError: Captum refuses the target.
        ValueError: the basis has no prototypes for the sides, or fewer than `n_prototypes`; or an argument is out of
            range, as in `LayerAPEX.attribute`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import FeatureBank, LayerAPEX, basis_from_matrix, explain
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())  # one class for each channel
        >>> clips = torch.arange(24.0).reshape(3, 2, 2, 2)  # (clip, channel, frequency, time)
        >>> bank = FeatureBank.from_dataset(model, layer, list(clips))
        >>> basis = basis_from_matrix(bank, "time", torch.eye(2), n_prototypes=2)
        >>> explanation = explain(LayerAPEX(model, layer, basis), clips[:1], target=1, n_prototypes=2)[0]
        >>> evidence = explanation.evidence[0]
        >>> evidence.channel, evidence.contribution, [prototype.index for prototype in evidence.prototypes]
        (1, 5.5, [2, 1])
    """
    at_layer = at_layer_of(apex)
    settings = _Settings(n_channels, n_prototypes, sides, search, dataset)
    builder = _ExplanationBuilder(apex, inputs, additional_forward_args, settings)
    with prepared(at_layer.forward_func, at_layer.layer):
        decomposition = at_layer.decompose(inputs, target, additional_forward_args, predicted=True)
        without_layer = at_layer.score_without_layer(inputs, decomposition.target, additional_forward_args)
    return list(builder.explanations(decomposition, without_layer).values())


def explain_classes(
    apex: APEX | LayerAPEX,
    inputs: Tensor | tuple[Tensor, ...],
    classes: Tensor | Callable[[Tensor], Tensor],
    additional_forward_args: Any = None,
    *,
    n_channels: int = N_CHANNELS,
    n_prototypes: int = 4,
    sides: str = "positive",
    search: RegionSearch | None = SEARCH,
    dataset: Dataset | PrototypeRegions | None = None,
) -> list[list[Explanation]]:
    """Explains several classes of each clip, as multi-label models need it.

    The evidence for all classes takes two forward passes; then the regions are searched for, as in `explain`.

    Args:
        apex: the attribution object, as in `explain`.
        inputs: inputs of the model, as in `explain`.
        classes: the classes to explain, bool (clip, class); or a function from the output of the model to such a
            tensor, such as `lambda logits: logits.sigmoid() > 0.5`.
        additional_forward_args: further arguments of the model.
        n_channels: largest number of channels in the evidence for a class, `N_CHANNELS` (5) by default.
        n_prototypes: number of prototypes per channel, as in `explain`.
        sides: `"positive"` or `"both"`, as in `explain`.
        search: how the regions are found, as in `explain`.
        dataset: the dataset that the basis was fitted on, as in `explain`.

    Returns:
        For each clip, one explanation for each of its classes, in the order of the classes; an empty list for a clip
        without classes.

    Raises:
        ValueError: `classes` is not bool (clip, class) with the shape of the model's output; or another argument is out
            of range, as in `explain`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import FeatureBank, LayerAPEX, basis_from_matrix, explain_classes
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())  # one class for each channel
        >>> clips = torch.arange(24.0).reshape(3, 2, 2, 2)  # (clip, channel, frequency, time)
        >>> bank = FeatureBank.from_dataset(model, layer, list(clips))
        >>> basis = basis_from_matrix(bank, "time", torch.eye(2), n_prototypes=2)
        >>> apex = LayerAPEX(model, layer, basis)
        >>> explanations = explain_classes(apex, clips, lambda logits: logits > 9.0, n_prototypes=2)
        >>> [[explanation.target for explanation in of_clip] for of_clip in explanations]
        [[], [0, 1], [0, 1]]
    """
    at_layer = at_layer_of(apex)
    settings = _Settings(n_channels, n_prototypes, sides, search, dataset)
    builder = _ExplanationBuilder(apex, inputs, additional_forward_args, settings)
    clips: dict[int, list[int]] = {}  # class → its clips
    explanations: list[list[Explanation]] = []

    def targets(output: Tensor) -> list[int]:
        requested = _requested_classes(classes, output)
        explanations.extend([] for _ in requested)
        for label, clip in requested.T.nonzero().tolist():
            clips.setdefault(label, []).append(clip)
        return list(clips)

    without_layer = at_layer.output_without_layer(inputs, additional_forward_args)
    for decomposition in at_layer.decompose_each(inputs, targets, additional_forward_args):
        label = decomposition.target
        check_finite(without_layer[:, label], f"the scores where {at_layer.layer_name!r} gives zeros,")
        of_class = builder.explanations(decomposition, without_layer[:, label], clips[label])
        for clip, explanation in of_class.items():
            explanations[clip].append(explanation)
    return explanations


def _requested_classes(classes: Tensor | Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
    """The classes to explain, bool (clip, class), for the output of the model."""
    check_classes(output)
    mask = classes(output) if callable(classes) else classes
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != output.shape or output.dim() != 2:
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"expected `classes` as bool (clip, class) of shape {tuple(output.shape)}, but got {got}")
    return mask


class _ExplanationBuilder:
    """Builds the explanations of single clips from the decompositions of their batch.

    Args:
        apex: the attribution object.
        inputs: inputs of the model for the batch.
        arguments: additional arguments of the model for the batch.
        settings: how the evidence is chosen and shown.
    """

    def __init__(self, apex: APEX | LayerAPEX, inputs: Inputs, arguments: Any, settings: _Settings) -> None:
        self.basis = at_layer_of(apex).basis
        check_prototypes(self.basis, settings.n_prototypes, settings.sides)
        search = settings.search
        self.settings = settings
        self.regions = EvidenceRegions(apex, inputs, forward_arguments(arguments), search, settings.dataset)
        cross = search is not None and search.cross
        self.prototypes = ChannelPrototypes(self.basis, settings.n_prototypes, cross=cross)
        self.cell = cache(partial(self.basis.region, intersection=not cross))  # many channels have one peak cell
        self.record = _record(self.basis, settings)
        self.peak_cells: PeakCells | None = None

    def explanations(
        self, decomposition: Decomposition, without_layer: Tensor, clips: Sequence[int] | None = None
    ) -> dict[int, Explanation]:
        """The explanations of one class, by the index of the clip.

        Args:
            decomposition: the decomposition of the batch for the class.
            without_layer: score of each clip where the layer gives zeros, (clip,).
            clips: indices of the clips; None for all of them.
        """
        settings = self.settings
        selected = select_channels(
            decomposition.contributions, decomposition.activations, settings.n_channels, settings.sides
        )
        if self.peak_cells is None or self.peak_cells.features is not decomposition.features:
            self.peak_cells = PeakCells(self.basis.scheme, decomposition.features, decomposition.columns)
        numbers = evidence_numbers(decomposition, without_layer, selected, self.peak_cells, clips)
        targets = _targets_per_clip(decomposition.target, len(selected))
        shown = [(each.channel, each.side) for of_clip in numbers.values() for each in of_clip.channels]
        prototypes = self.prototypes.of(shown)
        return {
            clip: self._explanation(of_clip, prototypes, decomposition, clip, targets[clip])
            for clip, of_clip in numbers.items()
        }

    def _explanation(
        self,
        numbers: ClipNumbers,
        prototypes: Mapping[tuple[int, int], tuple[Prototype, ...]],
        decomposition: Decomposition,
        clip: int,
        target: Any,
    ) -> Explanation:
        evidence = []
        for each in numbers.channels:
            cell = self.cell(each.peaks, *numbers.grid)
            shown = prototypes[each.channel, each.side]
            values = (each.channel, each.side, each.contribution, each.activation, each.purity)
            evidence.append(Evidence(*values, region=cell, prototypes=shown, cell=cell))
        return Explanation(
            scheme=self.basis.scheme,
            target=target,
            score=numbers.score,
            score_without_layer=numbers.score_without_layer,
            evidence=self.regions.located(evidence, decomposition, clip, target),
            total=numbers.total,
            record=self.record,
        )


@dataclass(frozen=True)
class _Settings:
    """The arguments of `explain` that say how the evidence is chosen and shown."""

    n_channels: int
    n_prototypes: int
    sides: str
    search: RegionSearch | None
    dataset: Dataset | PrototypeRegions | None


def _record(basis: PrototypeBasis, settings: _Settings) -> dict[str, Any]:
    """What explanations are computed with, as JSON takes it."""
    origin = basis.origin
    search = settings.search
    return {
        "basis": basis.fingerprint,
        "model": origin.fingerprint,
        "layer": origin.layer,
        "dataset": origin.dataset,
        "n_clips": origin.n_clips,
        "n_channels": settings.n_channels,
        "n_prototypes": settings.n_prototypes,
        "sides": settings.sides,
        "regions": "peak cells" if search is None else f"masking, smallest={search.smallest:g}, cross={search.cross}",
    }


def _targets_per_clip(target: TargetType, n_clips: int) -> list[Any]:
    """The target of each clip, from a target in any form that Captum accepts."""
    values = target.tolist() if isinstance(target, Tensor) else target
    if isinstance(values, list):
        return values if len(values) == n_clips else values * n_clips
    return [values] * n_clips
