"""Why the model heard that: per clip, the channels that speak for a class, where, and the training clips that show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from captum._utils.typing import TargetType
from torch import Tensor

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.decomposition import Decomposition, select_channels
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.audio.regions import Region
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import Scheme, purity

__all__ = ["Evidence", "Explanation", "Prototype", "explain", "explain_classes", "prototypes_of"]


@dataclass(frozen=True)
class Prototype:
    """A training clip that shows a channel.

    Args:
        index: into the dataset that the basis was fitted on.
        label: as the dataset gives it, an int or a list; None where it has none.
        activation: mean of the channel over the clip's grid.
        purity: in [-1, 1].
        region: where in the clip.
    """

    index: int
    label: Any
    activation: float
    purity: float
    region: Region


@dataclass(frozen=True)
class Evidence:
    """One channel that speaks for the class.

    Args:
        channel: of the basis.
        side: 1, or −1 where the channel speaks through its negative activation.
        contribution: `c_k`, what it adds to the score.
        activation: `a_k`, its mean over the grid.
        purity: of its peak in this clip, in [-1, 1].
        region: where in this clip.
        prototypes: best first.
    """

    channel: int
    side: int
    contribution: float
    activation: float
    purity: float
    region: Region
    prototypes: tuple[Prototype, ...]


@dataclass(frozen=True)
class Explanation:
    """One clip's explanation in one scheme.

    Args:
        scheme: the perspective.
        target: the class explained.
        score: the model's output for it (the logit, where the model gives logits).
        score_without_layer: the output when the layer gives zeros: biases, as a rule.
        evidence: largest contribution first.
        total: the sum of all channels' contributions, the evidence's and the rest's.
    """

    scheme: Scheme
    target: Any
    score: float
    score_without_layer: float
    evidence: tuple[Evidence, ...]
    total: float

    @property
    def completeness(self) -> float:
        """`Σ_k c_k − (f_y(Z) − f_y(Z := 0))` over all channels: 0 where the head is affine, up to rounding."""
        return self.total - (self.score - self.score_without_layer)

    @property
    def other_channels(self) -> float:
        """Sum of the contributions of all channels outside the evidence: `total` less the contributions of `evidence`."""
        return self.total - sum(evidence.contribution for evidence in self.evidence)

    @property
    def unexplained(self) -> float:
        """`score − score_without_layer − total`: what no channel explains, 0 where the head is affine, up to rounding."""
        return -self.completeness


def explain(
    apex: APEX | LayerAPEX,
    inputs: Tensor | tuple[Tensor, ...],
    target: TargetType = None,
    additional_forward_args: Any = None,
    *,
    n_channels: int = 3,
    n_prototypes: int = 4,
    sides: str = "positive",
    quantile: float | None = None,
    intersection: bool = False,
) -> list[Explanation]:
    """Explains a batch of clips: one pass for the evidence, one with the layer silent for the completeness.

    Args:
        apex: the attribution object, `APEX` or `LayerAPEX`; its basis must have prototypes.
        inputs: as the model takes them.
        target: as Captum takes it; None explains each clip's predicted class where the model has several outputs.
        additional_forward_args: passed on to the model.
        n_channels: size of the evidence; there may be fewer.
        n_prototypes: per channel, at most as many as the basis keeps.
        sides: `"positive"` or `"both"`.
        quantile: grow a clip's region to this quantile of the channel's own map, in [0, 1]; None keeps the single peak cell.
        intersection: for `time-frequency`, the rectangle where column and row meet instead of the cross.

    Returns:
        One explanation per clip.

    Raises:
        ValueError: where the basis has no prototypes, or fewer than `n_prototypes` are kept.
    """
    at_layer = apex.layer_apex if isinstance(apex, APEX) else apex
    _check_prototypes(at_layer.basis, n_prototypes, sides)
    parts = at_layer.decompose(inputs, target, additional_forward_args, predicted=True)
    silent = at_layer.score_without_layer(inputs, parts.target, additional_forward_args)
    chosen = select_channels(parts.contributions, parts.activations, n_channels, sides)
    read = _Reader(at_layer.basis, parts, silent, chosen, n_prototypes, quantile, intersection)
    return [read.explanation(clip) for clip in range(len(parts.score))]


def explain_classes(
    apex: APEX | LayerAPEX,
    inputs: Tensor | tuple[Tensor, ...],
    classes: Tensor | Callable[[Tensor], Tensor],
    additional_forward_args: Any = None,
    *,
    n_channels: int = 3,
    n_prototypes: int = 4,
    sides: str = "positive",
    quantile: float | None = None,
    intersection: bool = False,
) -> list[list[Explanation]]:
    """Explains several classes of each clip, as multi-label models have them; the model runs no more often than for one.

    Args:
        apex: as in `explain`.
        inputs: as in `explain`.
        classes: which classes of each clip to explain, bool (clip, class); or a function from the model's output to that, such as
            `lambda logits: logits.sigmoid() > 0.5`.
        additional_forward_args: as in `explain`.
        n_channels: as in `explain`.
        n_prototypes: as in `explain`.
        sides: as in `explain`.
        quantile: as in `explain`.
        intersection: as in `explain`.

    Returns:
        For each clip, one explanation per class, in the order of the classes; an empty list where a clip has none.

    Raises:
        ValueError: as `explain`, and where `classes` is not bool (clip, class) like the model's output.
    """
    at_layer = apex.layer_apex if isinstance(apex, APEX) else apex
    _check_prototypes(at_layer.basis, n_prototypes, sides)
    wanted: list[Tensor] = []

    def targets(output: Tensor) -> list[int]:
        wanted.append(_wanted_classes(classes, output))
        return wanted[0].any(0).nonzero()[:, 0].tolist()

    found: list[list[Explanation]] = []
    silent = at_layer.output_without_layer(inputs, additional_forward_args)
    for parts in at_layer.decompose_each(inputs, targets, additional_forward_args):
        chosen = select_channels(parts.contributions, parts.activations, n_channels, sides)
        read = _Reader(at_layer.basis, parts, silent[:, parts.target], chosen, n_prototypes, quantile, intersection)
        found = found or [[] for _ in parts.score]
        for clip in wanted[0][:, parts.target].nonzero()[:, 0].tolist():
            found[clip].append(read.explanation(clip))
    return found or [[] for _ in wanted[0]]


def _wanted_classes(classes: Tensor | Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
    wanted = classes(output) if callable(classes) else classes
    if (
        not isinstance(wanted, Tensor)
        or wanted.dtype != torch.bool
        or wanted.shape != output.shape
        or output.dim() != 2
    ):
        got = f"{wanted.dtype} {tuple(wanted.shape)}" if isinstance(wanted, Tensor) else type(wanted).__name__
        raise ValueError(f"expected `classes` as bool (clip, class) of shape {tuple(output.shape)}, but got {got}")
    return wanted


def prototypes_of(
    basis: PrototypeBasis, channel: int, n_prototypes: int, *, side: int = 1, intersection: bool = False
) -> tuple[Prototype, ...]:
    """A channel's prototypes, best first.

    Args:
        basis: with prototypes.
        channel: of the basis.
        n_prototypes: at most as many as the basis keeps.
        side: 1, or −1 for the clips with the most negative activation.
        intersection: as in `explain`.

    Raises:
        ValueError: where the basis has no prototypes, or fewer than `n_prototypes` are kept.
    """
    _check_prototypes(basis, n_prototypes, "positive" if side > 0 else "both")
    kept, grid = basis.positive if side > 0 else basis.negative, basis.origin.grid
    assert kept is not None
    assert grid is not None
    columns = torch.full_like(kept.indices, grid[1]) if kept.columns is None else kept.columns
    return tuple(
        Prototype(
            index=int(kept.indices[channel, rank]),
            label=None if kept.labels is None else kept.labels[channel, rank].tolist(),
            activation=kept.activations[channel, rank].item(),
            purity=kept.purities[channel, rank].item(),
            region=basis.scheme.region(
                kept.peaks[channel, rank].tolist(), grid[0], int(columns[channel, rank]), intersection=intersection
            ),
        )
        for rank in range(n_prototypes)
    )


@dataclass(frozen=True)
class _Reader:
    """Reads one clip, and one channel of it, out of a decomposition."""

    basis: PrototypeBasis
    parts: Decomposition
    silent: Tensor
    chosen: Tensor
    n_prototypes: int
    quantile: float | None
    intersection: bool

    def explanation(self, clip: int) -> Explanation:
        return Explanation(
            scheme=self.basis.scheme,
            target=_per_clip(self.parts.target, len(self.parts.score))[clip],
            score=self.parts.score[clip].item(),
            score_without_layer=self.silent[clip].item(),
            evidence=tuple(self.evidence(clip, channel) for channel in _by_contribution(self.parts, self.chosen, clip)),
            total=self.parts.contributions[clip].sum().item(),
        )

    def evidence(self, clip: int, channel: int) -> Evidence:
        activation = self.parts.activations[clip, channel].item()
        side = 1 if activation > 0 else -1
        peaks, pure = self._peak(clip, channel, side)
        return Evidence(
            channel=channel,
            side=side,
            contribution=self.parts.contributions[clip, channel].item(),
            activation=activation,
            purity=pure,
            region=self._region(clip, channel, side, peaks),
            prototypes=prototypes_of(self.basis, channel, self.n_prototypes, side=side, intersection=self.intersection),
        )

    def _peak(self, clip: int, channel: int, side: int) -> tuple[list[int], float]:
        peaks, purities = [], []
        for cells in self.basis.scheme.cells(self._grid(clip)[None]):
            peak = int((side * cells[0, channel]).argmax())
            vector = cells[:, :, peak]  # (1, channel)
            peaks.append(peak)
            purities.append(side * purity(vector, torch.tensor([channel], device=vector.device)).item())
        return peaks, sum(purities) / len(purities)

    def _grid(self, clip: int) -> Tensor:
        """A clip's features in the basis, (channel, frequency, time), without padding."""
        columns = None if self.parts.columns is None else int(self.parts.columns[clip])
        return self.parts.features[clip, :, :, :columns]

    def _region(self, clip: int, channel: int, side: int, peaks: list[int]) -> Region:
        features = self._grid(clip)[channel]
        if self.quantile is not None:
            return self.basis.scheme.grown_region(side * features, self.quantile, intersection=self.intersection)
        return self.basis.scheme.region(peaks, *features.shape, intersection=self.intersection)


def _by_contribution(parts: Decomposition, chosen: Tensor, clip: int) -> list[int]:
    channels = chosen[clip].nonzero()[:, 0]
    return channels[parts.contributions[clip, channels].argsort(descending=True, stable=True)].tolist()


def _per_clip(target: TargetType, n_clips: int) -> list[Any]:
    values = target.tolist() if isinstance(target, Tensor) else target
    if isinstance(values, list):
        return values if len(values) == n_clips else values * n_clips
    return [values] * n_clips


def _check_prototypes(basis: PrototypeBasis, n_prototypes: int, sides: str) -> None:
    if basis.positive is None or basis.origin.grid is None or (sides == "both" and basis.negative is None):
        raise ValueError(
            "expected a basis with prototypes, but there are none for this side; make one with `fit_basis` or `basis_from_matrix`"
        )
    kept = basis.positive.indices.shape[1]
    if not 1 <= n_prototypes <= kept:
        raise ValueError(
            f"expected `n_prototypes` from 1 to the {kept} that the basis keeps per channel, but got {n_prototypes}"
        )
