"""Deletion and insertion: what happens to the score when the regions that an attribution points at are exchanged one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from captum_apex.masking.grids import n_regions, region_sums
from captum_apex.masking.rankings import check_attributions, ranking
from captum_apex.metrics.passes import check_clips, masked_scores

Order = Literal["most", "least"]


@dataclass(frozen=True)
class Curves:
    """What the model says while regions are replaced one after the other; one curve per clip.

    The least relevant regions first (LeRF) need no passes of their own: what deletion then leaves is what insertion has put back, so the
    deletion curve of LeRF is the insertion curve of the most relevant first (MoRF) run backwards, and the area between both deletion curves
    is the `difference` of the two areas here. This is exact with a point after every region, and with fewer points but for the middle one
    where an odd number of points meets an odd number of regions, which no point halves.

    Args:
        fraction: share of the clip's bins that has been exchanged at each point, in [0, 1] with both ends, float64, shape (batch, point).
            It is the true share: regions may differ in size, so clips may differ in it.
        deletion: score after that share was replaced by the fill, shape (batch, point); it begins with the whole clip.
        insertion: score after that share of the clip was put back into the fill, shape (batch, point); it ends with the whole clip.
    """

    fraction: Tensor
    deletion: Tensor
    insertion: Tensor

    @property
    def deletion_auc(self) -> Tensor:
        """Area under the deletion curve, shape (batch,); lower is more faithful when the most relevant regions go first."""
        return _area(self.fraction, self.deletion)

    @property
    def insertion_auc(self) -> Tensor:
        """Area under the insertion curve, shape (batch,); higher is more faithful when the most relevant regions come first."""
        return _area(self.fraction, self.insertion)

    @property
    def difference(self) -> Tensor:
        """Insertion area less deletion area, shape (batch,); higher is more faithful, and 0 is what a random order gives on average."""
        return self.insertion_auc - self.deletion_auc

    @property
    def aopc(self) -> Tensor:
        """How far deletion is below the whole clip's score, on average over the points after the first; shape (batch,), higher is better.

        Source: Samek et al. (arXiv 1509.06321), for one clip. There the first point, which adds nothing, is counted in the mean: their
        value is `(points - 1) / points` of this one.
        """
        return (self.deletion[:, :1] - self.deletion[:, 1:]).mean(1)


@dataclass(frozen=True)
class Removal:
    """Which regions deletion has replaced at each point: what is to be asked of the model, before it is asked.

    Args:
        removed: bool, shape (batch, point, region); none at the first point, all at the last.
        fraction: share of the clip's bins that they hold, in [0, 1], float64, shape (batch, point).

    Example:
        >>> from captum_apex.metrics import masked_outputs
        >>> inputs, grid = torch.tensor([[[3.0, 1.0, 2.0, 0.0]]]), torch.arange(4)
        >>> removal = deletion_sequence(inputs, inputs, grid)
        >>> outputs = masked_outputs(lambda clips: clips[:, 0], inputs, torch.zeros_like(inputs), removal.masks, grid)
        >>> removal.curves(outputs[:, :, 0]).deletion, removal.curves(outputs[:, :, 2]).deletion  # two scores of the same passes
        (tensor([[3., 0., 0., 0., 0.]]), tensor([[2., 2., 0., 0., 0.]]))
    """

    removed: Tensor
    fraction: Tensor

    @classmethod
    def of(cls, sums: Tensor, grid: Tensor, points: int | None = None, seed: int = 0, order: Order = "most") -> Removal:
        """The removal that follows the regions' sums, (batch, region), as `captum_apex.masking.grids.region_sums` gives them.

        The other arguments, and the errors, are those of `deletion_insertion`; it is on the device of the sums.
        """
        if order not in get_args(Order):
            raise ValueError(f"expected `order` to be one of {get_args(Order)}, but got {order!r}")
        first_to_last = ranking(sums, seed)  # (clip, rank) → region
        if order == "least":
            first_to_last = first_to_last.flip(1)
        ranks = first_to_last.argsort(dim=1)  # (clip, region) → rank
        counts = _counts(n_regions(grid), points).to(sums.device)
        removed = ranks[:, None, :] < counts[:, None]  # (clip, region), (point,) → (clip, point, region)
        sizes = grid.flatten().bincount().to(sums.device, torch.float64)
        return cls(removed, removed.to(torch.float64) @ sizes / grid.numel())

    @property
    def masks(self) -> Tensor:
        """Every mask that both curves need, once: those of deletion, then those of insertion between its ends, which are deletion's.

        bool, shape (batch, 2 · points − 2, region); as `removed` in `masked_outputs`.
        """
        return torch.cat([self.removed, ~self.removed[:, 1:-1]], 1)

    def curves(self, scores: Tensor) -> Curves:
        """The curves, from the score under each of the `masks`, shape (batch, 2 · points − 2).

        Raises:
            ValueError: for scores of another shape.
        """
        n_clips, n_points = self.fraction.shape
        if scores.shape != (n_clips, 2 * n_points - 2):
            raise ValueError(
                f"expected `scores` of shape ({n_clips}, {2 * n_points - 2}), as `masks`, but got {tuple(scores.shape)}"
            )
        down, inner = scores[:, :n_points], scores[:, n_points:]
        return Curves(self.fraction, deletion=down, insertion=torch.cat([down[:, -1:], inner, down[:, :1]], 1))


def deletion_insertion(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    attributions: Tensor,
    fills: Tensor,
    *,
    grid: Tensor,
    target: Any = None,
    additional_forward_args: Any = None,
    points: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    order: Order = "most",
) -> Curves:
    """The deletion and the insertion curve of each clip.

    Deletion replaces the regions by the fill, the most relevant first; insertion begins with the fill alone and puts the clip's own
    regions back, the most relevant first. Each clip costs `2 · points − 2` forward passes: both curves share their end points.

    Args:
        forward_func: the model, or a function of its inputs that returns scores of shape (batch, class), or (batch,) without a target.
        inputs: shape (batch, channel, frequency, time), or (batch, channel, samples).
        attributions: same shape; the channel axis may have another size or be absent.
        fills: what replaces the inputs, same shape as the inputs; see `captum_apex.masking.fills.named_fill`.
        grid: the region that each bin belongs to, int64, shape (frequency, time); see `captum_apex.masking.grids.named_grid`.
            All channels of a region go together.
        target: class whose score is followed, in any form that Captum takes.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        points: how many points each curve has, with both ends, equally spaced in the number of regions; None, or more than there are
            regions, for a point after every region.
        batch_size: how many masked clips the model gets at once.
        seed: of the shuffle that breaks ties, see `captum_apex.masking.rankings.ranking`.
        order: `"most"` relevant first (MoRF) or `"least"` relevant first (LeRF), which is the exact reverse; see `Curves`: a single call
            gives the areas of both.

    Returns:
        Curves, in the dtype of the scores and on the device of the inputs.

    Raises:
        TypeError: for inputs, attributions or fills that are not tensors, or a grid that is not int64.
        ValueError: for shapes that do not belong together, for attributions that are not finite, naming the clip, and for numbers out
            of range.

    Example:
        >>> inputs = torch.tensor([[[[3.0, 1.0, 2.0, 0.0]]]])
        >>> total = lambda clips: clips.sum((1, 2, 3))
        >>> curves = deletion_insertion(total, inputs, inputs, torch.zeros_like(inputs), grid=torch.arange(4)[None])
        >>> curves.deletion, curves.insertion
        (tensor([[6., 3., 1., 0., 0.]]), tensor([[0., 3., 5., 6., 6.]]))
        >>> curves.deletion_auc, curves.insertion_auc
        (tensor([1.7500]), tensor([4.2500]))

    Source: Petsiuk, Das, Saenko: "RISE" (arXiv 1806.07421), Section 4, with regions in place of single pixels, and the trapezoid over
    the true fraction in place of equal steps.
    """
    removal = deletion_sequence(inputs, attributions, grid, points, seed, order)
    return removal.curves(
        masked_scores(forward_func, inputs, fills, removal.masks, grid, target, additional_forward_args, batch_size)
    )


def deletion(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    attributions: Tensor,
    fills: Tensor,
    *,
    grid: Tensor,
    target: Any = None,
    additional_forward_args: Any = None,
    points: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    order: Order = "most",
) -> Tensor:
    """Area under each clip's deletion curve, shape (batch,); lower is better. Arguments and errors as in `deletion_insertion`.

    Each clip costs `points` forward passes.

    Example:
        >>> inputs = torch.tensor([[[[3.0, 1.0, 2.0, 0.0]]]])
        >>> deletion(lambda clips: clips.sum((1, 2, 3)), inputs, inputs, torch.zeros_like(inputs), grid=torch.arange(4)[None])
        tensor([1.7500])
    """
    removal = deletion_sequence(inputs, attributions, grid, points, seed, order)
    scores = masked_scores(
        forward_func, inputs, fills, removal.removed, grid, target, additional_forward_args, batch_size
    )
    return _area(removal.fraction, scores)


def insertion(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    attributions: Tensor,
    fills: Tensor,
    *,
    grid: Tensor,
    target: Any = None,
    additional_forward_args: Any = None,
    points: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    order: Order = "most",
) -> Tensor:
    """Area under each clip's insertion curve, shape (batch,); higher is better. Arguments and errors as in `deletion_insertion`.

    Each clip costs `points` forward passes.

    Example:
        >>> inputs = torch.tensor([[[[3.0, 1.0, 2.0, 0.0]]]])
        >>> insertion(lambda clips: clips.sum((1, 2, 3)), inputs, inputs, torch.zeros_like(inputs), grid=torch.arange(4)[None])
        tensor([4.2500])
    """
    removal = deletion_sequence(inputs, attributions, grid, points, seed, order)
    scores = masked_scores(
        forward_func, inputs, fills, ~removal.removed, grid, target, additional_forward_args, batch_size
    )
    return _area(removal.fraction, scores)


def deletion_sequence(
    inputs: Tensor, attributions: Tensor, grid: Tensor, points: int | None = None, seed: int = 0, order: Order = "most"
) -> Removal:
    """Which regions are gone at each point of the deletion curve, and how much of the clip that is.

    For callers who share passes between scores or measures; `deletion_insertion` does it all. Arguments and errors are the same there.

    Returns:
        Removal, on the device of the inputs.

    Example:
        >>> inputs = torch.tensor([[[3.0, 1.0, 2.0]]])
        >>> deletion_sequence(inputs, inputs, torch.arange(3), points=3).removed
        tensor([[[False, False, False],
                 [ True, False,  True],
                 [ True,  True,  True]]])
    """
    check_clips(inputs, grid)
    _check_attributions(attributions, inputs, grid)
    return Removal.of(region_sums(attributions.to(inputs.device), grid), grid, points, seed, order)


def _counts(regions: int, points: int | None) -> Tensor:
    """How many regions are exchanged at each point, from none to all; as many from the one end as from the other."""
    if points is not None and points < 2:
        raise ValueError(f"expected `points` to be at least 2, the two ends, or None, but got {points}")
    n_points = regions + 1 if points is None else min(points, regions + 1)
    counts = torch.linspace(0, regions, n_points, dtype=torch.float64).round().long()
    half = n_points // 2  # rounded on their own, both halves would differ: 2.5 and 22.5 of 25 become 2 and 22
    return torch.cat([counts[: n_points - half], regions - counts[:half].flip(0)])


def _area(fraction: Tensor, scores: Tensor) -> Tensor:
    return torch.trapezoid(scores.to(fraction.dtype), fraction, dim=1).to(scores.dtype)  # (clip, point) → (clip,)


def _check_attributions(attributions: Tensor, inputs: Tensor, grid: Tensor) -> None:
    if (
        isinstance(attributions, Tensor)
        and attributions.shape[:1] + attributions.shape[-grid.dim() :] != inputs.shape[:1] + grid.shape
    ):
        raise ValueError(
            f"expected `attributions` of shape {tuple(inputs.shape)}, as the inputs, but got {tuple(attributions.shape)}"
        )
    check_attributions(attributions)
