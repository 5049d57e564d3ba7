"""Explanations of clips: the channels that support a class, with their regions and prototypes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from captum._utils.typing import TargetType
from torch import Tensor
from torch.utils.data import Dataset

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.arguments import forward_arguments
from captum_apex.attribution.decomposition import N_CHANNELS, Decomposition, check_sides, select_channels
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import Scheme, purity
from captum_apex.explanations.clip_channels import at_layer_of
from captum_apex.explanations.evidence import Evidence, Prototype, listed_evidence, side_of
from captum_apex.explanations.evidence_regions import SEARCH, EvidenceRegions
from captum_apex.explanations.prototype_regions import stored_region
from captum_apex.layers.values import check_finite
from captum_apex.locating.region_search import RegionSearch
from captum_apex.numbers import whole_number

__all__ = ["Explanation", "explain", "explain_classes", "prototypes_of"]


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
        title = f"Explanation of class {self.target} for {str(self.scheme)!r}: score {self.score:.3g}"
        return "\n".join([title, *listed_evidence(self.evidence), f"  all other channels: {self.other_channels:+.3g}"])


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
    dataset: Dataset | None = None,
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
            the same way. Without it, they have the regions that `locate_prototypes` has put into the basis, or else
            their peak cells.

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
    _check_prototypes(at_layer.basis, n_prototypes, sides)
    decomposition = at_layer.decompose(inputs, target, additional_forward_args, predicted=True)
    without_layer = at_layer.score_without_layer(inputs, decomposition.target, additional_forward_args)
    selected = select_channels(decomposition.contributions, decomposition.activations, n_channels, sides)
    regions = EvidenceRegions(apex, inputs, forward_arguments(additional_forward_args), search, dataset)
    record = _record(at_layer.basis, n_channels, n_prototypes, sides, search)
    builder = _ExplanationBuilder(at_layer.basis, decomposition, without_layer, selected, n_prototypes, regions, record)
    return [builder.explanation(clip) for clip in range(len(decomposition.score))]


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
    dataset: Dataset | None = None,
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
    _check_prototypes(at_layer.basis, n_prototypes, sides)
    regions = EvidenceRegions(apex, inputs, forward_arguments(additional_forward_args), search, dataset)
    requested: list[Tensor] = []

    def targets(output: Tensor) -> list[int]:
        requested.append(_requested_classes(classes, output))
        return requested[0].any(0).nonzero()[:, 0].tolist()

    explanations: list[list[Explanation]] = []
    record = _record(at_layer.basis, n_channels, n_prototypes, sides, search)
    without_layer = at_layer.output_without_layer(inputs, additional_forward_args)
    for decomposition in at_layer.decompose_each(inputs, targets, additional_forward_args):
        label = decomposition.target
        check_finite(without_layer[:, label], f"the scores where {at_layer.layer_name!r} gives zeros,")
        selected = select_channels(decomposition.contributions, decomposition.activations, n_channels, sides)
        builder = _ExplanationBuilder(
            at_layer.basis, decomposition, without_layer[:, label], selected, n_prototypes, regions, record
        )
        explanations = explanations or [[] for _ in decomposition.score]
        for clip in requested[0][:, label].nonzero()[:, 0].tolist():
            explanations[clip].append(builder.explanation(clip))
    return explanations or [[] for _ in requested[0]]


def _requested_classes(classes: Tensor | Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
    """The classes to explain, bool (clip, class), for the output of the model."""
    mask = classes(output) if callable(classes) else classes
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != output.shape or output.dim() != 2:
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"expected `classes` as bool (clip, class) of shape {tuple(output.shape)}, but got {got}")
    return mask


def prototypes_of(
    basis: PrototypeBasis, channel: int, n_prototypes: int, *, side: int = 1, cross: bool = False
) -> tuple[Prototype, ...]:
    """The prototypes of a channel, best first.

    Args:
        basis: the basis, with prototypes.
        channel: index of the channel in the basis.
        n_prototypes: number of prototypes, from 1 to the number that the basis has.
        side: 1, or −1 for the clips with the most negative activation.
        cross: whether a peak cell of the scheme `time-frequency` is the cross of a column and a row, instead of the
            rectangle in which they meet.

    Raises:
        ValueError: the basis has no prototypes for the side, or fewer than `n_prototypes`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import FeatureBank, basis_from_matrix
        >>> from captum_apex.explanations import prototypes_of
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> clips = torch.arange(24.0).reshape(3, 2, 2, 2)  # (clip, channel, frequency, time)
        >>> bank = FeatureBank.from_dataset(model, layer, list(clips))
        >>> basis = basis_from_matrix(bank, "time", torch.eye(2), n_prototypes=2)
        >>> [(prototype.index, prototype.activation) for prototype in prototypes_of(basis, 0, 2)]
        [(2, 17.5), (1, 9.5)]
    """
    _check_prototypes(basis, n_prototypes, "positive" if side > 0 else "both")
    stored = basis.positive if side > 0 else basis.negative
    grid = basis.origin.grid
    assert stored is not None
    assert grid is not None
    columns = torch.full_like(stored.indices, grid[1]) if stored.columns is None else stored.columns
    prototypes = []
    for rank in range(n_prototypes):
        peaks = stored.peaks[channel, rank].tolist()
        located = stored_region(stored, channel, rank)
        cell = basis.scheme.region(
            peaks, grid[0], int(columns[channel, rank]), intersection=not cross, places=basis.origin.places
        )
        prototypes.append(
            Prototype(
                index=int(stored.indices[channel, rank]),
                label=None if stored.labels is None else stored.labels[channel, rank].tolist(),
                activation=stored.activations[channel, rank].item(),
                purity=stored.purities[channel, rank].item(),
                region=cell if located is None else located.region,
                effect=None if located is None else located.effect,
            )
        )
    return tuple(prototypes)


@dataclass(frozen=True)
class _ExplanationBuilder:
    """Builds the explanations of single clips from the decomposition of their batch.

    Args:
        basis: the basis, with prototypes.
        decomposition: the decomposition of all clips of the batch for one target.
        without_layer: score of each clip where the layer gives zeros, (clip,).
        selected: the channels of the evidence, bool (clip, channel).
        n_prototypes: number of prototypes per channel.
        regions: finds the regions of the evidence.
        record: what the explanations are computed with.
    """

    basis: PrototypeBasis
    decomposition: Decomposition
    without_layer: Tensor
    selected: Tensor
    n_prototypes: int
    regions: EvidenceRegions
    record: Mapping[str, Any]

    def explanation(self, clip: int) -> Explanation:
        decomposition = self.decomposition
        target = _targets_per_clip(decomposition.target, len(decomposition.score))[clip]
        evidence = [self._evidence(clip, channel) for channel in self._channels(clip)]
        return Explanation(
            scheme=self.basis.scheme,
            target=target,
            score=decomposition.score[clip].item(),
            score_without_layer=self.without_layer[clip].item(),
            evidence=self.regions.located(evidence, decomposition, clip, target),
            total=decomposition.contributions[clip].sum().item(),
            record=self.record,
        )

    def _channels(self, clip: int) -> list[int]:
        """The channels of a clip's evidence, largest contribution first."""
        channels = self.selected[clip].nonzero()[:, 0]
        contributions = self.decomposition.contributions[clip, channels]
        return channels[contributions.argsort(descending=True, stable=True)].tolist()

    def _evidence(self, clip: int, channel: int) -> Evidence:
        activation = self.decomposition.activations[clip, channel].item()
        side = side_of(activation)
        peaks, mean_purity = self._peaks(clip, channel, side)
        cross = self.regions.search is not None and self.regions.search.cross
        places = self.basis.origin.places
        cell = self.basis.scheme.region(peaks, *self._grid(clip).shape[1:], intersection=not cross, places=places)
        return Evidence(
            channel=channel,
            side=side,
            contribution=self.decomposition.contributions[clip, channel].item(),
            activation=activation,
            purity=mean_purity,
            region=cell,
            prototypes=prototypes_of(self.basis, channel, self.n_prototypes, side=side, cross=cross),
            cell=cell,
        )

    def _peaks(self, clip: int, channel: int, side: int) -> tuple[list[int], float]:
        """Index of the peak cell in each of the scheme's sequences, and the mean purity of these cells."""
        peaks = []
        purities = []
        for cells in self.basis.scheme.cells(self._grid(clip)[None]):
            peak = int((side * cells[0, channel]).argmax())
            vector = cells[:, :, peak]  # (1, channel)
            peaks.append(peak)
            purities.append(side * purity(vector, torch.tensor([channel], device=vector.device)).item())
        return peaks, sum(purities) / len(purities)

    def _grid(self, clip: int) -> Tensor:
        """The features of a clip in the channels of the basis, (channel, frequency, time), without padding."""
        columns = None if self.decomposition.columns is None else int(self.decomposition.columns[clip])
        return self.decomposition.features[clip, :, :, :columns]


def _record(
    basis: PrototypeBasis, n_channels: int, n_prototypes: int, sides: str, search: RegionSearch | None
) -> dict[str, Any]:
    """What explanations are computed with, as JSON takes it."""
    origin = basis.origin
    return {
        "basis": basis.fingerprint,
        "model": origin.fingerprint,
        "layer": origin.layer,
        "dataset": origin.dataset,
        "n_clips": origin.n_clips,
        "n_channels": n_channels,
        "n_prototypes": n_prototypes,
        "sides": sides,
        "regions": "peak cells" if search is None else f"masking, smallest={search.smallest:g}, cross={search.cross}",
    }


def _targets_per_clip(target: TargetType, n_clips: int) -> list[Any]:
    """The target of each clip, from a target in any form that Captum accepts."""
    values = target.tolist() if isinstance(target, Tensor) else target
    if isinstance(values, list):
        return values if len(values) == n_clips else values * n_clips
    return [values] * n_clips


def _check_prototypes(basis: PrototypeBasis, n_prototypes: int, sides: str) -> None:
    check_sides(sides)
    if basis.positive is None or basis.origin.grid is None or (sides == "both" and basis.negative is None):
        raise ValueError(
            "expected a basis with prototypes, but there are none for this side; make one with `fit_basis` or "
            "`basis_from_matrix`"
        )
    available = basis.positive.indices.shape[1]
    n_prototypes = whole_number(n_prototypes, "n_prototypes")
    if not 1 <= n_prototypes <= available:
        raise ValueError(
            f"expected `n_prototypes` from 1 to the {available} that the basis keeps per channel, but got "
            f"{n_prototypes}"
        )
