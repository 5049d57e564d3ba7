"""What the model says of masked clips: the forward passes that every masking measure is made of.

The masked clips are made batch by batch, so they never lie in memory all at once, and they keep the memory format of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from captum._utils.common import _format_additional_forward_args, _run_forward, _select_targets
from torch import Tensor

from captum_apex.masking.fills import masked
from captum_apex.masking.grids import check_grid, n_regions


def masked_outputs(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    fills: Tensor,
    removed: Tensor,
    grid: Tensor,
    additional_forward_args: Any = None,
    batch_size: int = 32,
) -> Tensor:
    """Everything that the model says of each clip under each of its masks, so that several scores can come of the same passes.

    Args:
        forward_func: the model, or a function of its inputs, with one output per clip.
        inputs: shape (batch, channel, frequency, time), or (batch, channel, samples).
        fills: what replaces the inputs, same shape; see `captum_apex.masking.fills.named_fill`.
        removed: which regions of a clip each of its masks replaces by the fill, bool, shape (batch, mask, region).
        grid: the region that each bin belongs to, int64, shape (frequency, time); all channels of a region go together.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        batch_size: how many masked clips the model gets at once.

    Returns:
        Tensor of shape (batch, mask, class), or (batch, mask) where `forward_func` gives one score per clip, in the dtype that it gives.

    Raises:
        TypeError: for inputs or fills that are not tensors, or a grid that is not int64.
        ValueError: for shapes that do not belong together, and for outputs that are not one per clip.

    Example:
        >>> removed = torch.tensor([[[False, False], [True, False]]])
        >>> masked_outputs(lambda clips: clips.mean(1), torch.ones(1, 1, 3), torch.zeros(1, 1, 3), removed, grid=torch.tensor([0, 1, 1]))
        tensor([[[1., 1., 1.],
                 [0., 1., 1.]]])
    """
    check_clips(inputs, grid)
    _check_masks(inputs, fills, removed, grid, batch_size)
    arguments = _format_additional_forward_args(additional_forward_args)
    with torch.no_grad():
        batches = _masked_batches(inputs, fills, removed, grid, batch_size)
        outputs = torch.cat([_answer(forward_func, batch, clips, arguments, len(inputs)) for clips, batch in batches])
    return outputs.reshape(*removed.shape[:2], *outputs.shape[1:])


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
    """The score of each clip under each of its masks: `masked_outputs`, of which only the target's score is kept.

    `forward_func` returns scores of shape (batch, class), or (batch,) without a target, and `target` is the class whose score is followed,
    in any form that Captum takes. The other arguments, and the errors, are those of `masked_outputs`.

    Returns:
        Tensor of shape (batch, mask), in the dtype that `forward_func` returns.

    Example:
        >>> removed = torch.tensor([[[False, False], [True, False]]])
        >>> total = lambda clips: clips.sum((1, 2))
        >>> masked_scores(total, torch.ones(1, 1, 4), torch.zeros(1, 1, 4), removed, grid=torch.tensor([0, 1, 1, 1]))
        tensor([[4., 3.]])
    """
    check_clips(inputs, grid)
    _check_masks(inputs, fills, removed, grid, batch_size)
    check_target(target, len(inputs))
    arguments = _format_additional_forward_args(additional_forward_args)
    with torch.no_grad():
        scores = [
            selected(_answer(forward_func, batch, clips, arguments, len(inputs)), _target_of(clips, target))
            for clips, batch in _masked_batches(inputs, fills, removed, grid, batch_size)
        ]
    return torch.cat(scores).reshape(removed.shape[:2])


def mixed_outputs(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    fills: Tensor,
    shares: Tensor,
    additional_forward_args: Any = None,
    batch_size: int = 32,
) -> Tensor:
    """What the model says of each clip mixed with its fill: `fill + share · (clip − fill)`, one pass per clip.

    `shares` says how much of the clip is left in each bin, in [0, 1], in a shape that broadcasts to that of the inputs. Where it is 0 or 1
    the mixture is the fill or the clip to the last bit. The other arguments are those of `masked_outputs`.

    Returns:
        Tensor of shape (batch, class), or (batch,).
    """
    arguments = _format_additional_forward_args(additional_forward_args)
    fills, shares, layout = fills.to(inputs), shares.to(inputs).expand_as(inputs), _memory_format(inputs)
    outputs = []
    with torch.no_grad():
        for clips in torch.arange(len(inputs), device=inputs.device).split(batch_size):
            batch = torch.lerp(fills[clips], inputs[clips], shares[clips]).to(memory_format=layout)
            outputs.append(_answer(forward_func, batch, clips, arguments, len(inputs)))
    return torch.cat(outputs)


def selected(outputs: Tensor, target: Any) -> Tensor:
    """The target's score in each output, (clip, class) → (clip,).

    Raises:
        ValueError: where that does not leave one score per clip.
    """
    scores = _select_targets(outputs, target)
    if scores.shape != outputs.shape[:1]:
        raise ValueError(
            f"expected one score per clip, shape ({len(outputs)},), but got {tuple(scores.shape)}; "
            "`forward_func` returns (batch, class) and `target` selects the class"
        )
    return scores


def check_clips(inputs: Tensor, grid: Tensor) -> None:
    """Refuses inputs that are no tensor, that hold no clip, or whose last axes are not those of the grid."""
    if not isinstance(inputs, Tensor):
        raise TypeError(f"expected `inputs` to be a tensor, but got {type(inputs).__name__}")
    check_grid(grid)
    if (
        inputs.dim() not in (grid.dim() + 1, grid.dim() + 2)
        or inputs.shape[-grid.dim() :] != grid.shape
        or len(inputs) == 0
    ):
        expected = ", ".join(["batch", "channel", *map(str, grid.shape)])
        raise ValueError(
            f"expected `inputs` of shape ({expected}), the last axes as in `grid`, but got {tuple(inputs.shape)}"
        )


def check_fills(inputs: Tensor, fills: Tensor, batch_size: int) -> None:
    """Refuses fills that are no tensor of the inputs' shape, and a batch size below 1."""
    if not isinstance(fills, Tensor):
        raise TypeError(
            f"expected `fills` to be a tensor, but got {type(fills).__name__}; call the fill on the inputs first"
        )
    if fills.shape != inputs.shape:
        raise ValueError(
            f"expected `fills` of shape {tuple(inputs.shape)}, as the inputs, but got {tuple(fills.shape)}"
        )
    if batch_size < 1:
        raise ValueError(f"expected `batch_size` to be at least 1, but got {batch_size}")


def check_target(target: Any, n_clips: int) -> None:
    """Refuses a list or tensor of targets that has not one per clip: a batch of masked clips could have its length by chance."""
    several = isinstance(target, list) or (isinstance(target, Tensor) and target.numel() != 1)
    if several and len(target) != n_clips:
        raise ValueError(f"expected `target` with one class for each of the {n_clips} clips, but got {len(target)}")


def _masked_batches(
    inputs: Tensor, fills: Tensor, removed: Tensor, grid: Tensor, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The masked clips, with the number of the clip that each was made of."""
    owners = torch.arange(len(inputs), device=inputs.device).repeat_interleave(
        removed.shape[1]
    )  # the clip of each mask
    masks = removed.to(inputs.device).flatten(0, 1)  # (clip, mask, region) → (clip · mask, region)
    fills, grid, layout = fills.to(inputs), grid.to(inputs.device), _memory_format(inputs)
    for clips, regions in zip(owners.split(batch_size), masks.split(batch_size), strict=True):
        batch = masked(
            inputs.index_select(0, clips), fills.index_select(0, clips), _bin_mask(regions, grid, inputs.dim())
        )
        yield clips, batch.to(memory_format=layout)


def _memory_format(inputs: Tensor) -> torch.memory_format:
    """Indexing gives plain strides whatever those of the inputs are; a convolution would then convert every batch."""
    # A single channel makes both formats contiguous: the stride tells which one is meant.
    last = inputs.dim() == 4 and inputs.stride(1) == 1 and inputs.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.preserve_format


def _bin_mask(removed: Tensor, grid: Tensor, n_axes: int) -> Tensor:
    """Region masks (mask, region) → bin masks (mask, 1, frequency, time), with as many axes as the inputs have."""
    per_bin = removed.gather(1, grid.flatten().expand(len(removed), -1))
    channel = (1,) * (n_axes - 1 - grid.dim())
    return per_bin.reshape(len(removed), *channel, *grid.shape)


def _answer(
    forward_func: Callable[..., Tensor], batch: Tensor, clips: Tensor, arguments: tuple[Any, ...] | None, n_clips: int
) -> Tensor:
    output = _run_forward(forward_func, batch, None, _arguments_of(clips, arguments, n_clips))
    if not isinstance(output, Tensor) or output.shape[:1] != clips.shape:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"expected `forward_func` to give one output per clip, shape ({len(clips)}, class), but got {got}"
        )
    return output


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


def _check_masks(inputs: Tensor, fills: Tensor, removed: Tensor, grid: Tensor, batch_size: int) -> None:
    check_fills(inputs, fills, batch_size)
    if removed.dim() != 3 or len(removed) != len(inputs) or removed.shape[2] != n_regions(grid):
        expected = f"({len(inputs)}, mask, {n_regions(grid)})"
        raise ValueError(
            f"expected `removed` of shape {expected}, a mask of the grid's regions, but got {tuple(removed.shape)}"
        )
