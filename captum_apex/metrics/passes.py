"""The model's outputs for masked clips: the forward passes of every masking measure.

The clips are masked batch by batch, so that they are never all in memory, and keep the memory format of the inputs. The
model is in evaluation mode meanwhile, and afterwards as it was, if `forward_func` is the model or a function that uses
it: see `captum_apex.layers.models.models_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from captum._utils.common import _format_additional_forward_args, _run_forward, _select_targets
from torch import Tensor

from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import held
from captum_apex.layers.values import check_finite, check_not_nan, checked_output, naming_clips
from captum_apex.masking.fills import masked
from captum_apex.masking.grids import check_grid, n_regions
from captum_apex.numbers import whole_number

__all__ = [
    "check_clips",
    "check_fills",
    "check_target",
    "masked_outputs",
    "masked_scores",
    "mixed_outputs",
    "selected",
]


@restored
def masked_outputs(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    fills: Tensor,
    removed: Tensor,
    grid: Tensor,
    additional_forward_args: Any = None,
    batch_size: int = 32,
) -> Tensor:
    """All outputs of the model for each clip under each of its masks; several scores can be computed from them.

    Args:
        forward_func: the model, or a function of its inputs, with one output per clip. The model is in evaluation mode
            meanwhile, where it is found: as the function itself, or as a variable that the function uses.
        inputs: inputs of the model, (batch, channel, frequency, time), (batch, channel, sample) or (batch, sample).
        fills: values that replace the inputs, shape of the inputs; see `captum_apex.masking.fills.named_fill`.
        removed: which regions of a clip each of its masks replaces by the fill, bool, shape (batch, mask, region).
        grid: the region that each bin belongs to, int64, shape (frequency, time); all channels of a region are replaced
            together.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        batch_size: number of masked clips per forward pass.

    Returns:
        Tensor of shape (batch, mask, class), or (batch, mask) where `forward_func` gives one score per clip, in the
        dtype of the outputs.

    Raises:
        TypeError: inputs or fills are not tensors, or the grid is not int64.
        ValueError: shapes do not fit each other, there is not one output per clip, or an output is NaN.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import masked_outputs
        >>> inputs = torch.ones(1, 1, 3)
        >>> removed = torch.tensor([[[False, False], [True, False]]])
        >>> grid = torch.tensor([0, 1, 1])
        >>> masked_outputs(lambda clips: clips.mean(1), inputs, torch.zeros_like(inputs), removed, grid)
        tensor([[[1., 1., 1.],
                 [0., 1., 1.]]])
    """
    check_clips(inputs, grid)
    _check_masks(inputs, fills, removed, grid, batch_size)
    arguments = _format_additional_forward_args(additional_forward_args)
    with torch.no_grad():
        batches = _masked_batches(inputs, fills, removed, grid, batch_size)
        outputs = torch.cat([_outputs(forward_func, batch, clips, arguments, len(inputs)) for clips, batch in batches])
    return outputs.reshape(*removed.shape[:2], *outputs.shape[1:])


@restored
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
    """The target's score of each clip under each of its masks.

    The errors are those of `masked_outputs`; an infinite score is refused as well.

    Args:
        forward_func: the model, or a function of its inputs that returns scores of shape (batch, class), or (batch,)
            without a target.
        inputs: inputs of the model, (batch, channel, frequency, time), (batch, channel, sample) or (batch, sample).
        fills: values that replace the inputs, shape of the inputs; see `captum_apex.masking.fills.named_fill`.
        removed: which regions of a clip each of its masks replaces by the fill, bool, shape (batch, mask, region).
        grid: the region that each bin belongs to, int64, shape (frequency, time); all channels of a region are replaced
            together.
        target: the class to follow, in any form that Captum takes.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        batch_size: number of masked clips per forward pass.

    Returns:
        Tensor of shape (batch, mask), in the dtype of the scores.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import masked_scores
        >>> inputs = torch.ones(1, 1, 4)
        >>> removed = torch.tensor([[[False, False], [True, False]]])
        >>> grid = torch.tensor([0, 1, 1, 1])
        >>> masked_scores(lambda clips: clips.sum((1, 2)), inputs, torch.zeros_like(inputs), removed, grid)
        tensor([[4., 3.]])
    """
    check_clips(inputs, grid)
    _check_masks(inputs, fills, removed, grid, batch_size)
    check_target(target, len(inputs))
    arguments = _format_additional_forward_args(additional_forward_args)
    with torch.no_grad():
        scores = [
            selected(_outputs(forward_func, batch, clips, arguments, len(inputs)), _target_of(clips, target))
            for clips, batch in _masked_batches(inputs, fills, removed, grid, batch_size)
        ]
    followed = torch.cat(scores).reshape(removed.shape[:2])
    check_finite(followed, "the scores")
    return followed


@restored
def mixed_outputs(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    fills: Tensor,
    shares: Tensor,
    additional_forward_args: Any = None,
    batch_size: int = 32,
) -> Tensor:
    """The model's outputs for each clip mixed with its fill, `fill + share · (clip − fill)`; one forward pass per clip.

    A share of 0 gives the fill, and a share of 1 the clip, both bit for bit.

    Args:
        forward_func: the model, or a function of its inputs, with one output per clip.
        inputs: inputs of the model, (batch, channel, frequency, time), (batch, channel, sample) or (batch, sample).
        fills: values that replace the inputs, shape of the inputs; see `captum_apex.masking.fills.named_fill`.
        shares: share of the clip in each bin, in [0, 1], in a shape that broadcasts to that of the inputs.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        batch_size: number of clips per forward pass.

    Returns:
        Tensor of shape (batch, class), or (batch,) where `forward_func` gives one score per clip.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import mixed_outputs
        >>> inputs = torch.tensor([[[4.0, 2.0]]])
        >>> mixed_outputs(lambda clips: clips[:, 0], inputs, torch.zeros_like(inputs), torch.tensor([0.25, 1.0]))
        tensor([[1., 2.]])
    """
    arguments = _format_additional_forward_args(additional_forward_args)
    fills = fills.to(inputs)
    shares = shares.to(inputs).expand_as(inputs)
    layout = _memory_format(inputs)
    outputs = []
    with torch.no_grad():
        for clips in torch.arange(len(inputs), device=inputs.device).split(batch_size):
            batch = torch.lerp(fills[clips], inputs[clips], shares[clips]).to(memory_format=layout)
            outputs.append(_outputs(forward_func, batch, clips, arguments, len(inputs)))
    return torch.cat(outputs)


def selected(outputs: Tensor, target: Any) -> Tensor:
    """The target's score in each output.

    Args:
        outputs: outputs of the model, shape (clip, class), or (clip,) without a target.
        target: the class to follow, in any form that Captum takes.

    Returns:
        Tensor of shape (clip,).

    Raises:
        ValueError: the target does not select one score per clip.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.passes import selected
        >>> selected(torch.tensor([[0.25, 0.75], [0.5, 0.5]]), target=[1, 0])
        tensor([0.7500, 0.5000])
    """
    scores = _select_targets(outputs, target.tolist() if isinstance(target, (np.ndarray, np.generic)) else target)
    if scores.shape != outputs.shape[:1]:
        raise ValueError(
            f"expected one score per clip, shape ({len(outputs)},), but got {tuple(scores.shape)}; "
            "`forward_func` returns (batch, class) and `target` selects the class"
        )
    return scores


def check_clips(inputs: Tensor, grid: Tensor) -> None:
    """Refuses inputs that the grid does not fit.

    Args:
        inputs: inputs of the model, (batch, channel, frequency, time), (batch, channel, sample) or (batch, sample).
        grid: the region that each bin belongs to, int64, shape (frequency, time), or (samples,).

    Raises:
        TypeError: the inputs are not a tensor, or the grid is not int64.
        ValueError: there is no clip, or the last axes of the inputs are not those of the grid.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.passes import check_clips
        >>> check_clips(torch.zeros(0, 1, 3), grid=torch.tensor([0, 1, 1]))
        Traceback (most recent call last):
        ValueError: expected `inputs` of shape (batch, channel, 3), the last axes as in `grid`, but got (0, 1, 3)
    """
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
    """Refuses fills that do not fit the inputs, and a batch size below 1.

    Args:
        inputs: inputs of the model, (batch, channel, frequency, time), (batch, channel, sample) or (batch, sample).
        fills: values that replace the inputs, shape of the inputs.
        batch_size: number of masked clips per forward pass.

    Raises:
        TypeError: the fills are not a tensor.
        ValueError: the fills have another shape than the inputs, or the batch size is below 1.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.passes import check_fills
        >>> check_fills(torch.zeros(2, 1, 3), fills=torch.zeros(3), batch_size=32)
        Traceback (most recent call last):
        ValueError: expected `fills` of shape (2, 1, 3), as the inputs, but got (3,)
    """
    if not isinstance(fills, Tensor):
        raise TypeError(
            f"expected `fills` to be a tensor, but got {type(fills).__name__}; call the fill on the inputs first"
        )
    if fills.shape != inputs.shape:
        raise ValueError(
            f"expected `fills` of shape {tuple(inputs.shape)}, as the inputs, but got {tuple(fills.shape)}"
        )
    whole_number(batch_size, "batch_size", least=1)


def check_target(target: Any, n_clips: int) -> None:
    """Refuses a list or a tensor of several targets with another length than the number of clips.

    Captum would accept it where the number of masked clips in a batch happens to equal the length.

    Args:
        target: the class to follow, in any form that Captum takes.
        n_clips: number of clips.

    Raises:
        ValueError: the length is not the number of clips.

    Example:
        >>> from captum_apex.metrics.passes import check_target
        >>> check_target([0, 1], n_clips=3)
        Traceback (most recent call last):
        ValueError: expected `target` with one class for each of the 3 clips, but got 2
    """
    several = isinstance(target, list) or (isinstance(target, Tensor) and target.numel() != 1)
    if several and len(target) != n_clips:
        raise ValueError(f"expected `target` with one class for each of the {n_clips} clips, but got {len(target)}")


def _masked_batches(
    inputs: Tensor, fills: Tensor, removed: Tensor, grid: Tensor, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of masked clips, each with the indices of the clips that were masked."""
    clip_of_mask = torch.arange(len(inputs), device=inputs.device).repeat_interleave(removed.shape[1])
    masks = removed.to(inputs.device).flatten(0, 1)  # (clip, mask, region) → (clip · mask, region)
    fills = fills.to(inputs)
    grid = grid.to(inputs.device)
    layout = _memory_format(inputs)
    for clips, regions in zip(clip_of_mask.split(batch_size), masks.split(batch_size), strict=True):
        batch = masked(
            inputs.index_select(0, clips),
            fills.index_select(0, clips),
            _bin_mask(regions, grid, inputs.dim()),  # without a name, so that it is freed before the model runs
        )
        yield clips, batch.to(memory_format=layout)


def _memory_format(inputs: Tensor) -> torch.memory_format:
    """The memory format of the inputs; indexing loses it, and a convolution would then convert every batch."""
    # With a single channel both formats are contiguous, so the stride has to decide.
    channels_last = (
        inputs.dim() == 4 and inputs.stride(1) == 1 and inputs.is_contiguous(memory_format=torch.channels_last)
    )
    return torch.channels_last if channels_last else torch.preserve_format


def _bin_mask(removed: Tensor, grid: Tensor, n_axes: int) -> Tensor:
    """Region masks (mask, region) as bin masks (mask, 1, frequency, time), with the inputs' number of axes."""
    per_bin = removed.gather(1, grid.flatten().expand(len(removed), -1))
    channel = (1,) * (n_axes - 1 - grid.dim())
    return per_bin.reshape(len(removed), *channel, *grid.shape)


def _outputs(
    forward_func: Callable[..., Tensor], batch: Tensor, clips: Tensor, arguments: tuple[Any, ...] | None, n_clips: int
) -> Tensor:
    """The outputs for one batch, after a check that there is one per clip."""
    with held(forward_func):
        output = _run_forward(forward_func, batch, None, _arguments_of(clips, arguments, n_clips))
    if checked_output(output, forward_func).shape[:1] != clips.shape:
        raise ValueError(
            f"expected `forward_func` to give one output per clip, shape ({len(clips)}, class), but got "
            f"{tuple(output.shape)}"
        )
    with naming_clips(lambda index: f"clip {int(clips[index])}"):
        check_not_nan(output, "the outputs")
    return output


def _arguments_of(clips: Tensor, arguments: tuple[Any, ...] | None, n_clips: int) -> tuple[Any, ...] | None:
    """The further arguments for one batch; a tensor with one entry per clip is indexed by the batch's clips."""
    if arguments is None:
        return None
    per_clip = [isinstance(each, Tensor) and each.dim() > 0 and len(each) == n_clips for each in arguments]
    return tuple(
        each[clips.to(each.device)] if follows_clip else each
        for each, follows_clip in zip(arguments, per_clip, strict=True)
    )


def _target_of(clips: Tensor, target: Any) -> Any:
    """The target for one batch, in the caller's form."""
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
