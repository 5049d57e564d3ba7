"""From the layer's grid to the input: a map enlarged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor

__all__ = ["enlarged", "enlarged_alone"]


def enlarged(relevance: Tensor, inputs: Tensor, input_layout: str | None) -> Tensor:
    """A map on the layer's grid, enlarged linearly to the inputs' shape; its total is spread over the input's bins.

    The total is kept exactly where the sizes divide, and else up to what the interpolation gives the outer cells: 0.3% for one such cell
    of 15 columns on 126 frames. An axis that is finer at the layer than at the input is averaged first.

    Args:
        relevance: (clip, frequency, time).
        inputs: of which only the shape counts.
        input_layout: the axes of the inputs, such as `"n c f t"`; without `f` the map's rows are added up.

    Raises:
        ValueError: where the layout does not fit, or none is given and the inputs' axes could mean several things.

    >>> enlarged(torch.ones(1, 2, 3), torch.zeros(1, 1, 4, 6), None).sum()
    tensor(6.)
    """
    axes = (input_layout or _guessed_layout(relevance, inputs)).split()
    if len(axes) != inputs.dim() or axes[0] != "n" or set(axes[1:]) - set("cft") or "t" not in axes:
        raise ValueError(
            f"expected `input_layout` to name the {inputs.dim()} axes of the inputs by n, c, f and t, such as 'n c f t', "
            f"but got {input_layout!r}"
        )
    if "f" not in axes:
        relevance = relevance.sum(1, keepdim=True)
    size = [inputs.shape[axes.index(axis)] if axis in axes else 1 for axis in "ft"]
    coarse = (min(relevance.shape[1], size[0]), min(relevance.shape[2], size[1]))  # where bilinear would skip cells
    large = F.interpolate(
        F.adaptive_avg_pool2d(relevance[:, None], coarse), size, mode="bilinear", align_corners=False
    )[:, 0]
    large = large * (relevance[0].numel() / inputs[0].numel())
    source, large = ("n f t", large) if "f" in axes else ("n t", large[:, 0])
    channels = {"c": inputs.shape[axes.index("c")]} if "c" in axes else {}
    return repeat(large, f"{source} -> {' '.join(axes)}", **channels)


def enlarged_alone(
    relevance: Tensor, inputs: Tensor, input_layout: str | None, columns: Sequence[int], lengths: Sequence[int]
) -> Tensor:
    """As `enlarged`, for clips that are padded: each clip's map on its own part of the input, as if it were alone; zero in the padding.

    Args:
        relevance: (clip, frequency, time).
        inputs: as in `enlarged`.
        input_layout: as in `enlarged`.
        columns: of the grid, each clip's own.
        lengths: of the clips, in steps of the input's time axis.

    Raises:
        ValueError: as `enlarged`, and where a clip is longer than the inputs, naming it.
    """
    layout = input_layout or _guessed_layout(relevance, inputs)
    time = layout.split().index("t")
    whole = torch.zeros(inputs.shape, dtype=relevance.dtype, device=relevance.device)
    for clip, (n_columns, length) in enumerate(zip(columns, lengths, strict=True)):
        if not 0 < length <= inputs.shape[time]:
            raise ValueError(
                f"expected lengths from 1 to the inputs' {inputs.shape[time]} steps of time, but got {length} for clip {clip}"
            )
        part = slice(clip, clip + 1)
        own = inputs[part].narrow(time, 0, length)
        whole[part].narrow(time, 0, length).copy_(enlarged(relevance[part, :, :n_columns], own, layout))
    return whole


def _guessed_layout(relevance: Tensor, inputs: Tensor) -> str:
    layouts = {2: "n t", 4: "n c f t"} | ({3: "n c t"} if relevance.shape[1] == 1 or inputs.shape[1] == 1 else {})
    if inputs.dim() not in layouts:
        raise ValueError(
            f"expected inputs (clip, channel, frequency, time) or (clip, time), but got shape {tuple(inputs.shape)}; "
            "say with `input_layout` which axis is which, such as 'n f t'"
        )
    return layouts[inputs.dim()]
