"""Whether a channel fires on no sound: on silence, at the border of the clip, or where a sound ends."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from captum_apex.layers.cell_places import CellPlaces

__all__ = ["NO_SOUNDS", "fires_on"]

NO_SOUNDS = ("", "silence", "the border", "the end of a sound", "the beginning of a sound")
"""What a channel can fire on where that is no sound; the first for a sound."""

_QUIET = 0.05  # a bin is silent up to this share of the range of levels above the lowest one
_MOSTLY = 0.9  # share of a region's bins that must be silent
_HALF = 0.5  # share of a channel's value from which on the channel still fires


def fires_on(
    mask: Tensor,
    levels: Tensor,
    channel: Tensor,
    silent: Callable[[], Tensor],
    shifted: Callable[[], Tensor],
    attribution: Tensor | None = None,
    places: CellPlaces | None = None,
) -> str:
    """What a channel fires on in its region, where that is no sound.

    - `"the border"`: the region touches an edge of the clip. The channel fires there as before when the clip is shifted
      by half of its duration, and not where the sound went; or, for a region over the whole time, it fires in the
      outer rows of a silent clip and not in the others. Padded convolutions make such channels.
    - `"silence"`: nine tenths of what counts in the region are silent, and in a silent clip the channel has at least
      half of its value there.
    - `"the end of a sound"`, `"the beginning of a sound"`: the region is silent, but the channel does not fire in a
      silent clip; there is sound before the region, or only after it.

    Args:
        mask: the region, bool (frequency, time) over the bins of the clip.
        levels: level of each bin, (frequency, time).
        channel: the channel on the grid of the layer for the clip, (row, column).
        silent: gives the same for a silent clip; called only where the region is silent, or a band at the border.
        shifted: gives the same for the clip, shifted cyclically by half of its duration; called only where the region
            touches the beginning or the end of the clip.
        attribution: map of the channel at the input, (frequency, time): how much a bin of the region counts when its
            silent share is measured; None to count all bins alike.
        places: where the cells lie on the axes of the clip; None where they fill it.

    Returns:
        One of the four texts, or an empty text for a sound.

    Example:
        >>> import torch
        >>> from captum_apex.locating.nothing import fires_on
        >>> levels = torch.tensor([[-10.0, -20.0, -80.0, -80.0]])
        >>> in_silence = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        >>> fires_on(levels < -60, levels, in_silence, lambda: torch.ones(1, 4), lambda: in_silence.roll(2, 1))
        'silence'
    """
    cells = _cells(mask, channel, places or CellPlaces())
    here = channel[cells].sum().item()
    if here <= 0:
        return ""
    if _is_border(mask, cells, channel, silent, shifted, here):
        return "the border"
    lowest = levels.min()
    highest = levels.max()
    quiet = levels <= lowest + _QUIET * (highest - lowest)
    counts = _counts(mask, attribution)
    if counts[quiet].sum().item() < _MOSTLY * counts.sum().item():
        return ""
    if silent()[cells].sum().item() >= _HALF * here:
        return "silence"
    first = int(mask.any(0).nonzero()[0])
    return "the end of a sound" if (~quiet[:, :first]).any() else "the beginning of a sound"


def _counts(mask: Tensor, attribution: Tensor | None) -> Tensor:
    """How much each bin of the region counts, (frequency, time): its positive attribution, or all alike."""
    if attribution is not None and (attribution[mask] > 0).any():
        return attribution.clamp_min(0.0).where(mask, 0.0)
    return mask.float()


def _cells(mask: Tensor, channel: Tensor, places: CellPlaces) -> Tensor:
    """The cells of the grid that lie in the region for the most part, or touch it where there are none."""
    n_rows, n_columns = channel.shape
    rows = places.rows(n_rows).shares(mask.shape[0])
    columns = places.columns(n_columns).shares(mask.shape[1])
    shares = rows @ mask.double() @ columns.T
    inside = shares > 0.5
    return inside if inside.any() else shares > 0


def _is_border(
    mask: Tensor,
    cells: Tensor,
    channel: Tensor,
    silent: Callable[[], Tensor],
    shifted: Callable[[], Tensor],
    here: float,
) -> bool:
    columns = mask.any(0)
    rows = mask.any(1)
    if not columns.all():
        if not (columns[0] or columns[-1]):
            return False
        on_shifted = shifted()
        half = channel.shape[1] // 2
        stays = on_shifted[cells].sum().item() >= _HALF * here
        follows = on_shifted[cells.roll(half, 1)].sum().item() >= _HALF * here
        return stays and not follows
    if rows.all() or not (rows[0] or rows[-1]):
        return False
    on_silent = silent()
    others = on_silent[~cells].mean().item()
    at_edge = on_silent[cells].mean().item()
    return on_silent[cells].sum().item() >= _HALF * here and others < _HALF * at_edge
