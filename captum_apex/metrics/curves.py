"""Deletion and insertion: the score while the regions that an attribution ranks are replaced one after the other."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, TypeVar, get_args

import torch
from torch import Tensor

from captum_apex.choices import one_of
from captum_apex.masking.grids import n_regions, region_sums
from captum_apex.masking.rankings import check_attributions, ranking
from captum_apex.metrics.passes import check_clips, masked_scores

__all__ = ["Curves", "Order", "Removal", "deletion", "deletion_insertion", "deletion_sequence", "insertion"]

Order = Literal["most", "least"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Curves:
    """The model's score while regions are replaced one after the other: a deletion and an insertion curve per clip.

    The order with the least relevant regions first (LeRF) needs no further forward passes: the clips that deletion
    leaves in this order are those that insertion of the most relevant regions first (MoRF) restores. The deletion curve
    of LeRF is therefore the insertion curve of MoRF run backwards, and the area between the deletion curves of both
    orders is `difference`. This is exact for curves with a point after every region. For curves with fewer points it is
    exact too, except at the middle point if the numbers of points and of regions are both odd: half of the regions is
    then no whole number.

    Args:
        fraction: share of the clip's bins that has been exchanged at each point, in [0, 1] with both ends, float64,
            shape (batch, point). Regions may differ in size, so the fractions may differ between clips.
        deletion: score after that share was replaced by the fill, shape (batch, point); the first point is the whole
            clip.
        insertion: score after that share of the clip was put back into the fill, shape (batch, point); the last point
            is the whole clip.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import Curves
        >>> fraction = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)
        >>> curves = Curves(fraction, torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[0.0, 1.0, 1.0]]))
        >>> curves.deletion_auc, curves.insertion_auc, curves.difference, curves.aopc
        (tensor([0.5000]), tensor([0.7500]), tensor([0.2500]), tensor([0.7500]))
    """

    fraction: Tensor
    deletion: Tensor
    insertion: Tensor

    @property
    def deletion_auc(self) -> Tensor:
        """Area under the deletion curve, shape (batch,).

        With the most relevant regions first, lower is more faithful.
        """
        return _area(self.fraction, self.deletion)

    @property
    def insertion_auc(self) -> Tensor:
        """Area under the insertion curve, shape (batch,).

        With the most relevant regions first, higher is more faithful.
        """
        return _area(self.fraction, self.insertion)

    @property
    def difference(self) -> Tensor:
        """Insertion area minus deletion area, shape (batch,).

        Higher is more faithful; a random order gives 0 on average.
        """
        return self.insertion_auc - self.deletion_auc

    @property
    def aopc(self) -> Tensor:
        """Mean fall of the deletion curve below the whole clip's score, over the points after the first.

        Shape (batch,); higher is better.

        Source: Samek et al. (arXiv 1509.06321), for one clip. They count the first point, which adds nothing, in the
        mean: their value is `(points - 1) / points` of this one.
        """
        return (self.deletion[:, :1] - self.deletion[:, 1:]).mean(1)


@dataclass(frozen=True)
class Removal:
    """The regions that deletion has replaced at each point, computed before any forward pass.

    Args:
        removed: which regions are replaced, bool, shape (batch, point, region); none at the first point, all at the
            last.
        fraction: share of the clip's bins in these regions, in [0, 1], float64, shape (batch, point).

    Example:
        >>> import torch
        >>> from captum_apex.metrics import deletion_sequence, masked_outputs
        >>> inputs = torch.tensor([[[3.0, 1.0, 2.0, 0.0]]])
        >>> grid = torch.arange(4)
        >>> removal = deletion_sequence(inputs, inputs, grid)
        >>> outputs = masked_outputs(lambda clips: clips[:, 0], inputs, torch.zeros_like(inputs), removal.masks, grid)
        >>> removal.curves(outputs[:, :, 0]).deletion, removal.curves(outputs[:, :, 2]).deletion  # the same passes
        (tensor([[3., 0., 0., 0., 0.]]), tensor([[2., 2., 0., 0., 0.]]))
    """

    removed: Tensor
    fraction: Tensor

    @classmethod
    def of(cls, sums: Tensor, grid: Tensor, points: int | None = None, seed: int = 0, order: Order = "most") -> Removal:
        """Orders the regions by their attribution.

        Args:
            sums: attribution of each region, shape (batch, region), as `captum_apex.masking.grids.region_sums` gives
                it.
            grid: the region that each bin belongs to, as in `deletion_insertion`.
            points: number of points of each curve, as in `deletion_insertion`.
            seed: seed of the random number generator that breaks ties.
            order: which regions go first, as in `deletion_insertion`.

        Returns:
            Removal, on the device of the sums.

        Raises:
            ValueError: `points` or `order` is out of range, or a sum is NaN. A wrong type is a TypeError.
        """
        one_of(order, "`order`", get_args(Order))
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
        """Every mask that both curves need, each once; the `removed` of `masked_outputs`.

        The masks of deletion come first, then those of insertion without its two ends, which are the ends of deletion.
        The tensor is bool, shape (batch, 2 · points − 2, region).
        """
        return torch.cat([self.removed, ~self.removed[:, 1:-1]], 1)

    def curves(self, scores: Tensor) -> Curves:
        """The curves of the scores under the `masks`.

        Args:
            scores: score of the model under each of the `masks`, shape (batch, 2 · points − 2).

        Raises:
            ValueError: the scores have another shape.
        """
        n_clips, n_points = self.fraction.shape
        if scores.shape != (n_clips, 2 * n_points - 2):
            raise ValueError(
                f"expected `scores` of shape ({n_clips}, {2 * n_points - 2}), as `masks`, but got {tuple(scores.shape)}"
            )
        deletion = scores[:, :n_points]
        inner = scores[:, n_points:]
        return Curves(self.fraction, deletion, insertion=torch.cat([deletion[:, -1:], inner, deletion[:, :1]], 1))


def _removal_and_scores(
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
) -> tuple[Removal, Callable[[Tensor], Tensor]]:
    """The removal of the regions, and a function that gives the model's scores under masks (clip, mask, region)."""
    removal = deletion_sequence(inputs, attributions, grid, points, seed, order)

    def scores(masks: Tensor) -> Tensor:
        return masked_scores(forward_func, inputs, fills, masks, grid, target, additional_forward_args, batch_size)

    return removal, scores


def _with_arguments_of(
    source: Callable[_Arguments, object],
) -> Callable[[Callable[..., _Result]], Callable[_Arguments, _Result]]:
    """Gives a function the signature of `source`, to which it passes all its arguments.

    The arguments are then written once, and readers, editors and type checkers see them at each function. A wrong call
    names the function that was called, not `source`.
    """

    def decorate(function: Callable[..., _Result]) -> Callable[_Arguments, _Result]:
        result = inspect.signature(function).return_annotation
        signature = inspect.signature(source).replace(return_annotation=result)

        @functools.wraps(function)
        def checked(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{function.__name__}(): {error}") from None
            return function(*args, **kwargs)

        checked.__annotations__ = source.__annotations__ | {"return": result}
        setattr(checked, "__signature__", signature)  # noqa: B010 - the type of a function has no such attribute
        return checked

    return decorate


@_with_arguments_of(_removal_and_scores)
def deletion_insertion(*args: Any, **kwargs: Any) -> Curves:  # noqa: D417 - `_removal_and_scores` lists the arguments
    """The deletion and the insertion curve of each clip.

    Deletion replaces the regions by the fill, the most relevant first; insertion begins with the fill alone and puts
    the clip's regions back, the most relevant first. Each clip costs `2 · points − 2` forward passes: both curves share
    their end points.

    Args:
        forward_func: the model, or a function of its inputs that returns scores of shape (batch, class), or (batch,)
            without a target.
        inputs: inputs of the model, (batch, channel, frequency, time), (batch, channel, sample) or (batch, sample).
        attributions: attribution of each bin, shape of the inputs; the channel axis may have another size or be absent.
        fills: values that replace the inputs, shape of the inputs; see `captum_apex.masking.fills.named_fill`.
        grid: the region that each bin belongs to, int64, shape (frequency, time); see
            `captum_apex.masking.grids.named_grid`. All channels of a region are replaced together.
        target: the class to follow, in any form that Captum takes.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        points: number of points of each curve, with both ends, equally spaced in the number of regions; None, or more
            points than there are regions, for a point after every region.
        batch_size: number of masked clips per forward pass.
        seed: seed of the random number generator that breaks ties, see `captum_apex.masking.rankings.ranking`.
        order: `"most"` relevant region first (MoRF) or `"least"` relevant first (LeRF), the exact reverse. A single
            call gives the areas of both, see `Curves`.

    Returns:
        Curves, in the dtype of the scores and on the device of the inputs.

    Raises:
        TypeError: inputs, attributions or fills are not tensors, the grid is not int64, or `order` is no string.
        ValueError: shapes do not fit each other, attributions are not finite (the message names the clip), or a number
            is out of range.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import deletion_insertion
        >>> inputs = torch.tensor([[[[3.0, 1.0, 2.0, 0.0]]]])
        >>> total = lambda clips: clips.sum((1, 2, 3))
        >>> curves = deletion_insertion(total, inputs, inputs, torch.zeros_like(inputs), grid=torch.arange(4)[None])
        >>> curves.deletion, curves.insertion
        (tensor([[6., 3., 1., 0., 0.]]), tensor([[0., 3., 5., 6., 6.]]))
        >>> curves.deletion_auc, curves.insertion_auc
        (tensor([1.7500]), tensor([4.2500]))

    Source: Petsiuk, Das, Saenko: "RISE" (arXiv 1806.07421), Section 4, with regions in place of single pixels, and the
    trapezoid over the true fraction in place of equal steps.
    """
    removal, scores = _removal_and_scores(*args, **kwargs)
    return removal.curves(scores(removal.masks))


@_with_arguments_of(_removal_and_scores)
def deletion(*args: Any, **kwargs: Any) -> Tensor:  # noqa: D417 - `_removal_and_scores` lists the arguments
    """Area under each clip's deletion curve.

    Each clip costs `points` forward passes. The errors are those of `deletion_insertion`.

    Args:
        forward_func: the model, or a function of its inputs that returns scores of shape (batch, class), or (batch,)
            without a target.
        inputs: inputs of the model, (batch, channel, frequency, time), (batch, channel, sample) or (batch, sample).
        attributions: attribution of each bin, shape of the inputs; the channel axis may have another size or be absent.
        fills: values that replace the inputs, shape of the inputs; see `captum_apex.masking.fills.named_fill`.
        grid: the region that each bin belongs to, int64, shape (frequency, time).
        target: the class to follow, in any form that Captum takes.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        points: number of points of the curve, with both ends; None for a point after every region.
        batch_size: number of masked clips per forward pass.
        seed: seed of the random number generator that breaks ties.
        order: `"most"` relevant region first or `"least"` relevant first.

    Returns:
        Tensor of shape (batch,); lower is better.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import deletion
        >>> inputs = torch.tensor([[[[3.0, 1.0, 2.0, 0.0]]]])
        >>> total = lambda clips: clips.sum((1, 2, 3))
        >>> deletion(total, inputs, inputs, torch.zeros_like(inputs), grid=torch.arange(4)[None])
        tensor([1.7500])
    """
    removal, scores = _removal_and_scores(*args, **kwargs)
    return _area(removal.fraction, scores(removal.removed))


@_with_arguments_of(_removal_and_scores)
def insertion(*args: Any, **kwargs: Any) -> Tensor:  # noqa: D417 - `_removal_and_scores` lists the arguments
    """Area under each clip's insertion curve.

    Each clip costs `points` forward passes. The errors are those of `deletion_insertion`.

    Args:
        forward_func: the model, or a function of its inputs that returns scores of shape (batch, class), or (batch,)
            without a target.
        inputs: inputs of the model, (batch, channel, frequency, time), (batch, channel, sample) or (batch, sample).
        attributions: attribution of each bin, shape of the inputs; the channel axis may have another size or be absent.
        fills: values that replace the inputs, shape of the inputs; see `captum_apex.masking.fills.named_fill`.
        grid: the region that each bin belongs to, int64, shape (frequency, time).
        target: the class to follow, in any form that Captum takes.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        points: number of points of the curve, with both ends; None for a point after every region.
        batch_size: number of masked clips per forward pass.
        seed: seed of the random number generator that breaks ties.
        order: `"most"` relevant region first or `"least"` relevant first.

    Returns:
        Tensor of shape (batch,); higher is better.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import insertion
        >>> inputs = torch.tensor([[[[3.0, 1.0, 2.0, 0.0]]]])
        >>> total = lambda clips: clips.sum((1, 2, 3))
        >>> insertion(total, inputs, inputs, torch.zeros_like(inputs), grid=torch.arange(4)[None])
        tensor([4.2500])
    """
    removal, scores = _removal_and_scores(*args, **kwargs)
    return _area(removal.fraction, scores(~removal.removed))


def deletion_sequence(
    inputs: Tensor, attributions: Tensor, grid: Tensor, points: int | None = None, seed: int = 0, order: Order = "most"
) -> Removal:
    """The regions that deletion has replaced at each point, and their share of the clip.

    It serves callers who share forward passes between scores or measures. The errors are those of `deletion_insertion`.

    Args:
        inputs: inputs of the model, (batch, channel, frequency, time), (batch, channel, sample) or (batch, sample).
        attributions: attribution of each bin, shape of the inputs; the channel axis may have another size or be absent.
        grid: the region that each bin belongs to, int64, shape (frequency, time).
        points: number of points of the curve, with both ends; None for a point after every region.
        seed: seed of the random number generator that breaks ties.
        order: `"most"` relevant region first or `"least"` relevant first.

    Returns:
        Removal, on the device of the inputs.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import deletion_sequence
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
    """The number of regions that are exchanged at each point, from none to all: the same steps from either end."""
    if points is not None and points < 2:
        raise ValueError(f"expected `points` to be at least 2, the two ends, or None, but got {points}")
    n_points = regions + 1 if points is None else min(points, regions + 1)
    counts = torch.linspace(0, regions, n_points, dtype=torch.float64).round().long()
    half = n_points // 2
    # The second half mirrors the first: rounded by themselves, 2.5 and 22.5 of 25 regions would become 2 and 22.
    return torch.cat([counts[: n_points - half], regions - counts[:half].flip(0)])


def _area(fraction: Tensor, scores: Tensor) -> Tensor:
    return torch.trapezoid(scores.to(fraction.dtype), fraction, dim=1).to(scores.dtype)  # (clip, point) → (clip,)


def _check_attributions(attributions: Tensor, inputs: Tensor, grid: Tensor) -> None:
    if (
        isinstance(attributions, Tensor)
        and attributions.shape[:1] + attributions.shape[-grid.dim() :] != inputs.shape[:1] + grid.shape
    ):
        got = tuple(attributions.shape)
        raise ValueError(f"expected `attributions` of shape {tuple(inputs.shape)}, as the inputs, but got {got}")
    check_attributions(attributions)
