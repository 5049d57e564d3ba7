"""The boxes of a region in Hz and seconds, and which axes of the clip each of them covers."""

from __future__ import annotations

from typing import NamedTuple

from captum_apex.audio.clip import Clip
from captum_apex.audio.regions import Box, Place, Region, in_order

__all__ = ["BoxSides", "sides_of"]

_ROUNDING = 1e-9  # of the ends of boxes that are moved out of a repetition
_WHOLE = Region((Box(low=0.0, high=1.0, start=0.0, end=1.0),))


class BoxSides(NamedTuple):
    """A box of a region.

    Attributes:
        place: its place, in Hz and seconds.
        all_times: whether it lasts as long as the clip, or as the file that is repeated to fill the clip.
        all_bands: whether it covers all frequencies.

    Example:
        >>> from captum_apex.audio.box_sides import BoxSides
        >>> from captum_apex.audio.regions import Place
        >>> BoxSides(Place(0.0, 4000.0, 0.5, 1.0), all_times=False, all_bands=True).all_bands
        True
    """

    place: Place
    all_times: bool
    all_bands: bool


def sides_of(clip: Clip, region: Region) -> list[BoxSides]:
    """The boxes of a region, in the order in which they are listed; those in a repetition are given in the file.

    Args:
        clip: the clip.
        region: a region of the model's input.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip, Region, SpectrogramAxes
        >>> from captum_apex.audio.box_sides import sides_of
        >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80), repeats=0.5)  # of 1 s
        >>> [box] = sides_of(clip, Region((Box(low=0.0, high=1.0, start=0.0, end=1.0),)))
        >>> box.all_times, box.all_bands
        (True, True)
    """
    whole = clip.folded(_WHOLE).boxes[0]
    folded = clip.folded(region)
    return [
        BoxSides(
            place,
            all_times=box.start <= whole.start + _ROUNDING and box.end >= whole.end - _ROUNDING,
            all_bands=box.low <= whole.low and box.high >= whole.high,
        )
        for box, place in in_order(folded.boxes, clip.places(folded))
    ]
