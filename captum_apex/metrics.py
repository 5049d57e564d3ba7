"""How faithful an attribution is to the model: what happens to the score when the regions that it points at are replaced.

Everything here asks the model for its score on masked clips, in full batches, and nothing else; see `captum_apex.masking` for the
grids and the fills. As in Captum, `target` selects a class from what `forward_func` returns. Where the score shall be a probability,
pass a `forward_func` that ends in a softmax or a sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from captum._utils.common import _format_additional_forward_args, _run_forward, _select_targets
from torch import Tensor

from captum_apex.masking import check_grid, masked, n_regions, ranking, region_sums

Order = Literal["most", "least"]


@dataclass(frozen=True)
class Curves:
    """What the model says while regions are replaced one after the other; one curve per clip.

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
        fills: what replaces the inputs, same shape as the inputs; see `captum_apex.masking.named_fill`.
        grid: the region that each bin belongs to, int64, shape (frequency, time); see `captum_apex.masking.named_grid`.
            All channels of a region go together.
        target: class whose score is followed, in any form that Captum takes.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        points: how many points each curve has, with both ends, equally spaced in the number of regions; None, or more than there are
            regions, for a point after every region.
        batch_size: how many masked clips the model gets at once.
        seed: of the shuffle that breaks ties, see `captum_apex.masking.ranking`.
        order: `"most"` relevant first (MoRF) or `"least"` relevant first (LeRF), which is the exact reverse. With a point after every
            region, the deletion curve of one is the insertion curve of the other run backwards: a single call gives the areas of both.

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
    sequence = _deletion_sequence(inputs, attributions, grid, points, seed, order)
    removed = torch.cat([sequence.removed, ~sequence.removed[:, 1:-1]], 1)  # insertion's ends are deletion's, the other way round
    scores = masked_scores(forward_func, inputs, fills, removed, grid, target, additional_forward_args, batch_size)
    n_points = sequence.fraction.shape[1]
    down, inner = scores[:, :n_points], scores[:, n_points:]
    return Curves(sequence.fraction, deletion=down, insertion=torch.cat([down[:, -1:], inner, down[:, :1]], 1))


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
    sequence = _deletion_sequence(inputs, attributions, grid, points, seed, order)
    scores = masked_scores(forward_func, inputs, fills, sequence.removed, grid, target, additional_forward_args, batch_size)
    return _area(sequence.fraction, scores)


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
    sequence = _deletion_sequence(inputs, attributions, grid, points, seed, order)
    scores = masked_scores(forward_func, inputs, fills, ~sequence.removed, grid, target, additional_forward_args, batch_size)
    return _area(sequence.fraction, scores)


def masked_scores(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    fills: Tensor,
    removed: Tensor,
    grid: Tensor,
    target: Any = None,
    additional_forward_args: Any = None,
    batch_size: int = 32,
) -> Tensor:
    """The score of each clip under each of its masks: the step that every masking measure is made of.

    `removed` says which regions of a clip each of its masks replaces by the fill: bool, shape (batch, mask, region). The other
    arguments, and the errors, are those of `deletion_insertion`.

    Returns:
        Tensor of shape (batch, mask), in the dtype that `forward_func` returns.

    Example:
        >>> removed = torch.tensor([[[False, False], [True, False]]])
        >>> total = lambda clips: clips.sum((1, 2))
        >>> masked_scores(total, torch.ones(1, 1, 4), torch.zeros(1, 1, 4), removed, grid=torch.tensor([0, 1, 1, 1]))
        tensor([[4., 3.]])
    """
    _check_clips(inputs, grid)
    _check_masks(inputs, fills, removed, grid, batch_size)
    _check_target(target, len(inputs))
    arguments = _format_additional_forward_args(additional_forward_args)
    owners = torch.arange(len(inputs), device=inputs.device).repeat_interleave(removed.shape[1])  # the clip of each mask
    masks = removed.to(inputs.device).flatten(0, 1)  # (clip, mask, region) → (clip · mask, region)
    fills, grid = fills.to(inputs), grid.to(inputs.device)
    scores = []
    with torch.no_grad():
        for clips, regions in zip(owners.split(batch_size), masks.split(batch_size), strict=True):
            batch = masked(inputs.index_select(0, clips), fills.index_select(0, clips), _bin_mask(regions, grid, inputs.dim()))
            output = _run_forward(forward_func, batch, None, _arguments_of(clips, arguments, len(inputs)))
            scores.append(_checked_scores(_select_targets(output, _target_of(clips, target)), len(clips)))
    return torch.cat(scores).reshape(len(inputs), -1)


class _Sequence(NamedTuple):
    removed: Tensor  # (clip, point, region): which regions deletion has replaced at each point
    fraction: Tensor  # (clip, point): the share of the clip's bins that they hold


def _deletion_sequence(inputs: Tensor, attributions: Tensor, grid: Tensor, points: int | None, seed: int, order: Order) -> _Sequence:
    """Which regions are gone at each point of the deletion curve, and how much of the clip that is."""
    _check_clips(inputs, grid)
    _check_attributions(attributions, inputs, grid)
    if order not in get_args(Order):
        raise ValueError(f"expected `order` to be one of {get_args(Order)}, but got {order!r}")
    first_to_last = ranking(region_sums(attributions.to(inputs.device), grid), seed)  # (clip, rank) → region
    if order == "least":
        first_to_last = first_to_last.flip(1)
    ranks = first_to_last.argsort(dim=1)  # (clip, region) → rank
    counts = _counts(n_regions(grid), points).to(inputs.device)
    removed = ranks[:, None, :] < counts[:, None]  # (clip, region), (point,) → (clip, point, region)
    sizes = grid.flatten().bincount().to(inputs.device, torch.float64)
    return _Sequence(removed, removed.to(torch.float64) @ sizes / grid.numel())


def _counts(regions: int, points: int | None) -> Tensor:
    """How many regions are exchanged at each point, from none to all."""
    if points is not None and points < 2:
        raise ValueError(f"expected `points` to be at least 2, the two ends, or None, but got {points}")
    n_points = regions + 1 if points is None else min(points, regions + 1)
    return torch.linspace(0, regions, n_points, dtype=torch.float64).round().long()


def _area(fraction: Tensor, scores: Tensor) -> Tensor:
    return torch.trapezoid(scores.to(fraction.dtype), fraction, dim=1).to(scores.dtype)  # (clip, point) → (clip,)


def _bin_mask(removed: Tensor, grid: Tensor, n_axes: int) -> Tensor:
    """Region masks (mask, region) → bin masks (mask, 1, frequency, time), with as many axes as the inputs have."""
    per_bin = removed.gather(1, grid.flatten().expand(len(removed), -1))
    channel = (1,) * (n_axes - 1 - grid.dim())
    return per_bin.reshape(len(removed), *channel, *grid.shape)


def _arguments_of(clips: Tensor, arguments: tuple[Any, ...] | None, n_clips: int) -> tuple[Any, ...] | None:
    """The further arguments for one batch: of a tensor with an entry per clip, the entries of the batch's clips."""
    if arguments is None:
        return None
    per_clip = [isinstance(each, Tensor) and each.dim() > 0 and len(each) == n_clips for each in arguments]
    return tuple(each[clips.to(each.device)] if own else each for each, own in zip(arguments, per_clip, strict=True))


def _target_of(clips: Tensor, target: Any) -> Any:
    """The target for one batch, in the form in which it came."""
    if isinstance(target, list):
        return [target[clip] for clip in clips.tolist()]
    return target[clips.to(target.device)] if isinstance(target, Tensor) and target.numel() > 1 else target


def _check_clips(inputs: Tensor, grid: Tensor) -> None:
    if not isinstance(inputs, Tensor):
        raise TypeError(f"expected `inputs` to be a tensor, but got {type(inputs).__name__}")
    check_grid(grid)
    if inputs.dim() not in (grid.dim() + 1, grid.dim() + 2) or inputs.shape[-grid.dim() :] != grid.shape or len(inputs) == 0:
        expected = ", ".join(["batch", "channel", *map(str, grid.shape)])
        raise ValueError(f"expected `inputs` of shape ({expected}), the last axes as in `grid`, but got {tuple(inputs.shape)}")


def _check_attributions(attributions: Tensor, inputs: Tensor, grid: Tensor) -> None:
    if not isinstance(attributions, Tensor):
        raise TypeError(f"expected `attributions` to be a tensor, but got {type(attributions).__name__}")
    if attributions.shape[:1] + attributions.shape[-grid.dim() :] != inputs.shape[:1] + grid.shape:
        raise ValueError(f"expected `attributions` of shape {tuple(inputs.shape)}, as the inputs, but got {tuple(attributions.shape)}")
    damaged = ~attributions.isfinite().flatten(1).all(1)
    if damaged.any():
        raise ValueError(f"expected finite `attributions`, but got NaN or infinity in clip {int(damaged.nonzero()[0])}")


def _check_masks(inputs: Tensor, fills: Tensor, removed: Tensor, grid: Tensor, batch_size: int) -> None:
    if not isinstance(fills, Tensor):
        raise TypeError(f"expected `fills` to be a tensor, but got {type(fills).__name__}; call the fill on the inputs first")
    if fills.shape != inputs.shape:
        raise ValueError(f"expected `fills` of shape {tuple(inputs.shape)}, as the inputs, but got {tuple(fills.shape)}")
    if removed.dim() != 3 or len(removed) != len(inputs) or removed.shape[2] != n_regions(grid):
        expected = f"({len(inputs)}, mask, {n_regions(grid)})"
        raise ValueError(f"expected `removed` of shape {expected}, a mask of the grid's regions, but got {tuple(removed.shape)}")
    if batch_size < 1:
        raise ValueError(f"expected `batch_size` to be at least 1, but got {batch_size}")


def _check_target(target: Any, n_clips: int) -> None:
    several = isinstance(target, list) or (isinstance(target, Tensor) and target.numel() != 1)
    if several and len(target) != n_clips:  # a batch of masked clips could have that length by chance
        raise ValueError(f"expected `target` with one class for each of the {n_clips} clips, but got {len(target)}")


def _checked_scores(scores: Tensor, n_clips: int) -> Tensor:
    if scores.shape != (n_clips,):
        raise ValueError(
            f"expected one score per clip, shape ({n_clips},), but got {tuple(scores.shape)}; "
            "`forward_func` returns (batch, class) and `target` selects the class"
        )
    return scores
