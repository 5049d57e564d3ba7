"""The search for the peak cells of channels in clips, on grids of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from captum_apex.bases.schemes import peak_cells

__all__ = ["cells_at_hand", "peaks_of_pairs", "thinned"]

_GATHERED_BYTES = {"cpu": 2**21}  # bounds the copies of cells (pair, channel, cell)
_FINE_CELLS = 4096  # a grid is fine if its clips have more cells, and more than `_FINE_VALUES` values
_FINE_VALUES = 2**18  # (channel, cell)
_MOST_CELLS = 2**15  # that remain of the cells of a clip
_MOST_COPIED = 2**32  # bytes of chosen cells; more of them stay where they are, such as in a mapped file


def peaks_of_pairs(sequence: Tensor, clips: Tensor, directions: Tensor) -> Tensor:
    """The peak cells of pairs of a channel and a clip.

    The cells of a few pairs at a time are copied, which fit into the cache of a CPU. In a fine grid not even two clips
    do; the cells of each clip are then taken in place, for all pairs of the clip at once.

    Args:
        sequence: cells of all clips, (clip, channel, cell); NaN is padding.
        clips: index of each pair's clip, int64 (pair,).
        directions: row of `U` for each pair's channel, negated for the negative side, (pair, channel).

    Returns:
        Index of the peak cell, int64 (pair,), as `peak_cells` gives it.

    Example:
        >>> import torch
        >>> from captum_apex.bases.peak_search import peaks_of_pairs
        >>> sequence = torch.tensor([[[1.0, 3.0, 2.0]], [[5.0, 0.0, 4.0]]])
        >>> peaks_of_pairs(sequence, torch.tensor([1, 0, 1]), torch.tensor([[1.0], [1.0], [-1.0]]))
        tensor([0, 1, 1])
    """
    bytes_at_once = _GATHERED_BYTES.get(sequence.device.type, 2**28)
    pairs_at_once = max(1, bytes_at_once // (sequence[0].numel() * directions.element_size()))
    if pairs_at_once == 1 and _is_fine(sequence):
        return _peaks_in_place(sequence, clips, directions)
    batches = zip(clips.split(pairs_at_once), directions.split(pairs_at_once), strict=True)
    # The copies have the dtype of the directions; the cells of some banks have half precision.
    return torch.cat([peak_cells(sequence.index_select(0, batch).to(rows.dtype), rows) for batch, rows in batches])


def cells_at_hand(sequences: Sequence[Tensor], clips: Tensor) -> tuple[Sequence[Tensor], Tensor]:
    """A copy of the cells of some clips of a large bank, so that each clip is read once, however often it occurs.

    Args:
        sequences: cells of each of the scheme's sequences, each (clip, channel, cell).
        clips: indices of the clips, int64 (...); −1 for one that another process has.

    Returns:
        The cells of the clips that occur, in their order in the bank, and the indices of the clips in these. Both as
        they were given where the bank is small or on a GPU, and where the copy would have more than 4 GiB.

    Example:
        >>> import torch
        >>> from captum_apex.bases.peak_search import cells_at_hand
        >>> sequence = torch.ones(1).expand(2**21, 8, 128)  # a bank of 8 GiB
        >>> (cells,), clips = cells_at_hand([sequence], torch.tensor([900, -1, 7, 900]))
        >>> cells.shape, clips
        (torch.Size([2, 8, 128]), tensor([ 1, -1,  0,  1]))
    """
    if all(sequence.nbytes <= _MOST_COPIED or sequence.device.type != "cpu" for sequence in sequences):
        return sequences, clips
    here = clips >= 0
    distinct, places = clips[here].unique(return_inverse=True)
    if not 0 < len(distinct) * sum(sequence[0].nbytes for sequence in sequences) <= _MOST_COPIED:
        return sequences, clips
    clips = clips.clone()
    clips[here] = places
    return tuple(sequence.index_select(0, distinct) for sequence in sequences), clips


def thinned(sequence: Tensor, n_columns: int) -> Tensor:
    """Every n-th cell of a grid of more than 2¹⁵ cells, so that no more remain of each clip; else all cells.

    Args:
        sequence: cells of all clips, (clip, channel, cell), row by row.
        n_columns: number of columns of the grid. It has no common divisor with n, because all chosen cells would
            otherwise lie in a few columns, between which there is room for short sounds.

    Returns:
        Tensor (clip, channel, chosen cell); the first cell, which is never padding, is among them.

    Example:
        >>> import torch
        >>> from captum_apex.bases.peak_search import thinned
        >>> thinned(torch.zeros(3, 4, 128 * 256), 256).shape, thinned(torch.zeros(3, 4, 256 * 256), 256).shape
        (torch.Size([3, 4, 32768]), torch.Size([3, 4, 21846]))
    """
    n_cells = sequence.shape[2]
    if n_cells <= _MOST_CELLS:
        return sequence
    step = math.ceil(n_cells / _MOST_CELLS)
    while math.gcd(step, n_columns) > 1:
        step += 1
    some = sequence[:, :, ::step]
    return some.contiguous() if some.nbytes <= _MOST_COPIED else some


def _is_fine(sequence: Tensor) -> bool:
    return sequence.shape[2] > _FINE_CELLS and sequence[0].numel() > _FINE_VALUES


def _peaks_in_place(sequence: Tensor, clips: Tensor, directions: Tensor) -> Tensor:
    peaks = torch.empty_like(clips)
    for clip in clips.unique().tolist():
        # As many pairs at a time as there are channels, so that the levels take no more memory than the clip.
        for pairs in (clips == clip).nonzero()[:, 0].split(sequence.shape[1]):
            peaks[pairs] = peak_cells(sequence[clip].to(directions.dtype), directions[pairs])
    return peaks
