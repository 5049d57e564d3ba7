"""The pictures on the pages, as indices of colours."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from captum_apex.audio.clip import Clip
from captum_apex.figures.colours import LEVELS, SIGNED
from captum_apex.figures.panels import as_array
from captum_apex.figures.signed_maps import channel_map, map_scale, signed_map

__all__ = ["Picture", "channel_picture", "level_picture", "level_span", "loudest", "map_picture"]

_LARGEST_MAP = (64, 128)  # rows and columns of the picture of a channel's map
_SPANS = (30.0, 80.0)  # smallest and largest span of the colours, in dB
_SPAN_STEP = 5.0  # in dB
_SAME_LEVEL = 0.1  # in dB
_QUANTILES = (0.05, 0.999)  # of the levels of a clip, which the colours show


@dataclass(frozen=True)
class Picture:
    """A picture to store.

    Args:
        pixels: indices of colours, uint8 (frequency, time), the lowest frequency first.
        colours: name of the colour map, of 256 colours.
        clear: whether the middle of the colours is transparent, and the ends are opaque.

    Example:
        >>> import numpy as np
        >>> from captum_apex.report.page_pictures import Picture
        >>> Picture(np.zeros((2, 3), dtype=np.uint8), "magma").pixels.shape
        (2, 3)
    """

    pixels: NDArray[np.uint8]
    colours: str
    clear: bool = False


def level_picture(clip: Clip, span: float) -> Picture:
    """The spectrogram of a clip, from the loudest level down, so that a quiet clip is as legible as a loud one.

    The lowest level of the clip, which is that of digital silence, has the lowest colour, as have the frames after the
    end of the sound, which the page hatches.

    Args:
        clip: the clip.
        span: the levels that the colours show, in dB below the loudest level.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.report.page_pictures import level_picture
        >>> clip = Clip(torch.tensor([[-60.0] * 2000, [-20.0] * 2000, [0.0] * 2000]), SpectrogramAxes(8000, 4, 4))
        >>> level_picture(clip, 80.0).pixels[:, 0].tolist()
        [0, 191, 255]
    """
    levels = as_array(clip.decibels).astype(float)
    shares = 1 - (loudest(clip) - levels) / span
    shares[:, clip.heard.shape[1] :] = 0.0
    lowest = as_array(clip.heard).min()
    return Picture(_colour_indices(np.where(levels <= lowest + _SAME_LEVEL, 0.0, shares)), LEVELS)


def loudest(clip: Clip) -> float:
    """The level of a clip that has the highest colour, in dB: the quantile 0.999 of all levels.

    Args:
        clip: the clip.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.report.page_pictures import loudest
        >>> loudest(Clip(torch.full((9, 100), -20.0), SpectrogramAxes(8000, 16, 80)))
        -20.0
    """
    return float(np.quantile(as_array(clip.heard), _QUANTILES[1]))


def level_span(clips: Iterable[Clip]) -> float:
    """The span of the colours for clips that are compared, in dB: that of a typical clip, without digital silence.

    Args:
        clips: the clips; a clip that occurs several times counts once.

    Returns:
        A multiple of 5 dB, from 30 to 80 dB.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.report.page_pictures import level_span
        >>> level_span([Clip(torch.linspace(-52.0, 0.0, 900).view(9, 100), SpectrogramAxes(8000, 16, 80))])
        50.0
    """
    spans = []
    for clip in dict.fromkeys(clips):
        levels = as_array(clip.heard)
        heard = levels[levels > levels.min() + _SAME_LEVEL]
        low = np.quantile(heard, _QUANTILES[0]) if heard.size else levels.min()
        spans.append(loudest(clip) - float(low))
    typical = _SPAN_STEP * round(statistics.median(spans) / _SPAN_STEP)
    return min(max(typical, _SPANS[0]), _SPANS[1])


def map_picture(values: ArrayLike | Tensor, name: str, clip: Clip) -> Picture:
    """An attribution map with zero in the middle of its colours, averaged where it is finer than the clip's picture.

    Args:
        values: attribution of the whole input, as in `Page.maps`.
        name: name of the map, for messages.
        clip: the clip.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.report.page_pictures import map_picture
        >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80))
        >>> map_picture(torch.tensor([[-1.0, 0.0, 1.0]]), "IG", clip).pixels.tolist()
        [[0, 128, 255]]
    """
    attribution = signed_map(values, name, clip)
    return _signed_picture(attribution[::-1] if clip.flipped else attribution, clip.decibels.shape)


def channel_picture(values: Tensor, clip: Clip) -> Picture:
    """The map of a channel, to lay over the clip's picture.

    Args:
        values: the map, (frequency, time).
        clip: the clip.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.report.page_pictures import channel_picture
        >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80))
        >>> channel_picture(torch.ones(200, 300), clip).pixels.shape
        (64, 128)
    """
    return _signed_picture(channel_map(values, clip), _LARGEST_MAP, clear=True)


def _signed_picture(values: NDArray[np.float64], largest: Sequence[int], *, clear: bool = False) -> Picture:
    """A map with zero in the middle of its colours, averaged where it has more rows or columns than the largest."""
    n_rows, n_columns = map(min, values.shape, largest)
    averaged = adaptive_avg_pool2d(torch.from_numpy(np.ascontiguousarray(values))[None], (n_rows, n_columns))[0].numpy()
    return Picture(_colour_indices(0.5 + averaged / (2 * (map_scale(averaged) or 1.0))), SIGNED, clear)


def _colour_indices(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Indices of the 256 colours of a colour map; shares of 0 and 1 are its ends."""
    return np.clip(np.round(shares * 255), 0, 255).astype(np.uint8)
