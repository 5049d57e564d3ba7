"""Region grids with given boundaries, such as those of phonemes or words, which differ from clip to clip.

A clip has its own grid: functions that take a grid are called for one clip at a time. `discretised` takes one grid for
each clip.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_apex.masking.grids import check_grid, region_sums

__all__ = ["discretised", "region_means", "segment_grid"]


def segment_grid(shape: Sequence[int], times: Sequence[float] = (), frequencies: Sequence[float] = ()) -> Tensor:
    """Divides an input at given boundaries, along time, frequency or both, and gives the region of each bin.

    The regions are numbered as in `region_grid`: band by band from the lowest bins, and in each band from the first
    frames. A bin belongs to the segment in which its centre lies. A segment without the centre of a bin, such as one
    that is shorter than a frame, gets no number; boundaries outside the input divide nothing.

    Args:
        shape: sizes of the input without batch and channel: (frequency, time), or (sample,) for a waveform.
        times: boundaries on the time axis in frames, in any order, as `SpectrogramAxes.frame_position` gives them; in
            samples for a waveform.
        frequencies: boundaries on the frequency axis in bins, as `SpectrogramAxes.bin_position` gives them.

    Returns:
        int64 tensor of that shape; the regions are numbered from 0 without gaps.

    Raises:
        ValueError: if the shape has another number of axes, or a boundary is not finite.

    Example:
        >>> from captum_apex.masking import segment_grid
        >>> segment_grid((2, 6), times=[1.0, 4.0])
        tensor([[0, 1, 1, 1, 2, 2],
                [0, 1, 1, 1, 2, 2]])
        >>> segment_grid((2, 6), times=[4.0], frequencies=[1.0])
        tensor([[0, 0, 0, 0, 1, 1],
                [2, 2, 2, 2, 3, 3]])
    """
    if len(shape) not in (1, 2):
        raise ValueError(f"expected `shape` to be (frequency, time) or (sample,), but got {tuple(shape)}")
    frequency, time = shape if len(shape) == 2 else (1, *shape)
    row = _segments(frequency, frequencies, "frequencies")
    column = _segments(time, times, "times")
    return (row[:, None] * (int(column.max()) + 1) + column).reshape(*shape)


def region_means(attributions: Tensor, grid: Tensor) -> Tensor:
    """The mean attribution of each region, over its bins, of the sums of all channels.

    A long region does not come first for its length alone, as it does by its sum.

    Args:
        attributions: as in `region_sums`.
        grid: region of each bin, int64, as in `region_sums`.

    Returns:
        float64 tensor of shape (batch, region); 0 for a number that has no bins.

    Example:
        >>> import torch
        >>> from captum_apex.masking import region_means, segment_grid
        >>> region_means(torch.tensor([[[3.0, 1.0, 2.0]]]), segment_grid((1, 3), times=[1.0]))
        tensor([[3.0000, 1.5000]], dtype=torch.float64)
    """
    sums = region_sums(attributions, grid)
    return sums / grid.flatten().bincount(minlength=sums.shape[1]).clamp_min(1).to(sums)


def discretised(attributions: Tensor, grids: Tensor | Sequence[Tensor], *, mean: bool = True) -> Tensor:
    """Maps with one value for each region of a clip, as in phoneme-discretised saliency maps.

    Args:
        attributions: maps of any method, (batch, channel, frequency, time), or without the channel axis; the last axes
            are those of the grids.
        grids: the grid of all clips, or a sequence with one grid for each clip.
        mean: whether each bin gets the mean over its region, which keeps the sum over the region, or that sum itself.

    Returns:
        float64 tensor (batch, 1, frequency, time), or without the channel axis as the attributions.

    Raises:
        ValueError: if there is another number of grids than of clips.

    Example:
        >>> import torch
        >>> from captum_apex.masking import discretised, segment_grid
        >>> maps = torch.tensor([[[3.0, 1.0, 2.0]], [[3.0, 1.0, 2.0]]])
        >>> words = [segment_grid((1, 3), times=[1.0]), segment_grid((1, 3), times=[2.0])]
        >>> discretised(maps, words)[:, 0]
        tensor([[3.0000, 1.5000, 1.5000],
                [2.0000, 2.0000, 2.0000]], dtype=torch.float64)

    Source: Gupta et al., Phoneme Discretized Saliency Maps for Explainable Detection of AI-Generated Voice (arXiv
    2406.10422).
    """
    grids = [grids] * len(attributions) if isinstance(grids, Tensor) else list(grids)
    if len(grids) != len(attributions):
        raise ValueError(f"expected one grid for each of {len(attributions)} clips, but got {len(grids)}")
    values_of = region_means if mean else region_sums
    maps = []
    for clip, grid in zip(attributions.split(1), grids, strict=True):
        check_grid(grid)
        values = values_of(clip, grid)  # (1, region)
        maps.append(values[:, grid.to(values.device)])  # (1, region) → (1, frequency, time)
    has_channels = attributions.dim() == grids[0].dim() + 2
    return torch.cat(maps)[:, None] if has_channels else torch.cat(maps)


def _segments(size: int, boundaries: Sequence[float], name: str) -> Tensor:
    """The number of the segment that each bin of an axis belongs to, int64, shape (bin,)."""
    edges = torch.as_tensor(boundaries, dtype=torch.float64).flatten().sort().values
    if not edges.isfinite().all():
        raise ValueError(f"expected finite `{name}`, but got {edges.tolist()}")
    centres = torch.arange(size, dtype=torch.float64) + 0.5
    segment = torch.searchsorted(edges, centres, right=True)
    return torch.unique(segment, return_inverse=True)[1]
