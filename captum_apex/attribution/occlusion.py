"""Two-sided occlusion: what each region of a clip adds to the score, with and without the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_apex.masking.grids import n_regions
from captum_apex.metrics.passes import check_clips, masked_scores

__all__ = ["two_sided_occlusion"]


def two_sided_occlusion(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    fills: Tensor,
    grid: Tensor,
    target: Any = None,
    additional_forward_args: Any = None,
    batch_size: int = 32,
) -> Tensor:
    """How much the score falls without a region, plus how much it rises when the region is added to the fill.

    It needs the scores alone, so that it also explains models without layers or gradients, such as `ArrayFunction`. For
    `n` regions it takes `2 n + 2` forward passes of each clip.

    Args:
        forward_func: the model, or a function of its inputs that returns scores of shape (batch, class), or (batch,)
            without a target.
        inputs: inputs of the model, shape (batch, channel, frequency, time), or (batch, channel, samples) or
            (batch, samples).
        fills: values that replace the inputs, shape of the inputs; see `captum_apex.masking`.
        grid: the region that each bin belongs to, int64, shape (frequency, time) or (samples,); see `region_grid`.
        target: the class to explain, in any form that Captum takes.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        batch_size: number of masked clips per forward pass.

    Returns:
        Tensor of the shape of the inputs with one channel. The sum over a region is the value of the region, which is
        spread evenly over its bins.

    Raises:
        TypeError: inputs or fills are not tensors, or the grid is not int64.
        ValueError: shapes do not fit each other, there is not one output per clip, or a score is NaN or infinite.

    Example:
        >>> import torch
        >>> from captum_apex.attribution import two_sided_occlusion
        >>> waveforms = torch.tensor([[1.0, 1.0, 2.0, 0.0]])
        >>> grid = torch.tensor([0, 0, 1, 1])
        >>> two_sided_occlusion(lambda clips: clips.sum(1), waveforms, torch.zeros_like(waveforms), grid)
        tensor([[2., 2., 2., 2.]])
    """
    check_clips(inputs, grid)
    regions = n_regions(grid)
    none_removed = torch.zeros(1, regions, dtype=torch.bool)
    one_removed = torch.eye(regions, dtype=torch.bool)
    removed = torch.cat([none_removed, one_removed, ~none_removed, ~one_removed])  # (mask, region)
    removed = removed.expand(len(inputs), -1, -1)
    scores = masked_scores(forward_func, inputs, fills, removed, grid, target, additional_forward_args, batch_size)
    clip, without, fill, alone = scores.split([1, regions, 1, regions], 1)
    per_bin = (clip - without + alone - fill) / grid.flatten().bincount().to(scores.device)
    attributions = per_bin[:, grid.to(scores.device)]  # (clip, region) → (clip, frequency, time)
    return attributions if inputs.dim() == grid.dim() + 1 else attributions[:, None]
