"""The columns of a grid that belong to a clip, where shorter clips of a batch are padded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Columns", "checked_columns", "column_mask", "lengths_of"]

Columns = Callable[[Tensor], Tensor]
"""A function from the lengths of clips to their numbers of columns in the layer's grid.

Both are int64 tensors of shape (clip,); a length counts the steps of the input's time axis.
"""


def lengths_of(columns: Columns | None, inputs: Tensor) -> tuple[Tensor, ...]:
    """The further arguments of a model for clips without padding: their lengths, where the model takes lengths.

    Args:
        columns: the function of the model; None for a model that takes no lengths.
        inputs: inputs of the clips, (clip, …, time).

    Example:
        >>> import torch
        >>> from captum_apex.layers.padding import lengths_of
        >>> lengths_of(lambda lengths: lengths // 2, torch.zeros(2, 1, 8))
        (tensor([8, 8]),)
        >>> lengths_of(None, torch.zeros(2, 1, 8))
        ()
    """
    return () if columns is None else (torch.full((len(inputs),), inputs.shape[-1], device=inputs.device),)


def column_mask(grid: Tensor, columns: Tensor) -> Tensor:
    """A mask that is True in the columns of each clip, and False in the padding after them.

    Args:
        grid: shape (clip, …, time).
        columns: number of columns of each clip, int64, shape (clip,).

    Returns:
        bool tensor that broadcasts to the shape of the grid.

    Example:
        >>> import torch
        >>> from captum_apex.layers.padding import column_mask
        >>> column_mask(torch.zeros(2, 1, 3), torch.tensor([1, 3])).tolist()
        [[[True, False, False]], [[True, True, True]]]
    """
    in_clip = torch.arange(grid.shape[-1], device=grid.device) < columns.to(grid.device)[:, None]  # (clip, time)
    return in_clip.reshape(len(grid), *[1] * (grid.dim() - 2), grid.shape[-1])


def checked_columns(columns: Tensor, grid: Tensor) -> Tensor:
    """The numbers of columns of padded clips, after a check that the grid has that many.

    Args:
        columns: number of columns of each clip, int64, shape (clip,).
        grid: shape (clip, channel, frequency, time).

    Returns:
        `columns`, unchanged.

    Raises:
        ValueError: if `columns` has another shape or type, or a clip has no column or more than the grid.

    Example:
        >>> import torch
        >>> from captum_apex.layers import checked_columns
        >>> checked_columns(torch.tensor([1, 3]), torch.zeros(2, 8, 4, 3))
        tensor([1, 3])
    """
    if not isinstance(columns, Tensor) or columns.dtype != torch.int64 or columns.shape != (len(grid),):
        got = f"{columns.dtype} {tuple(columns.shape)}" if isinstance(columns, Tensor) else type(columns).__name__
        raise ValueError(
            f"expected `columns` to give int64 of shape {(len(grid),)}, one number per clip, but got {got}"
        )
    wrong = (columns < 1) | (columns > grid.shape[-1])
    if wrong.any():
        clip = int(wrong.nonzero()[0])
        raise ValueError(
            f"expected from 1 to {grid.shape[-1]} columns of the layer for every clip, "
            f"but got {int(columns[clip])} for clip {clip}"
        )
    return columns
