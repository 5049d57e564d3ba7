"""An attribution map in the form in which it is drawn over a clip."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_apex.audio.clip import Clip
from captum_apex.figures.panels import as_array

__all__ = ["channel_map", "map_scale", "signed_map"]

_QUANTILE = 0.995  # of the absolute values: a few bins far above the others would leave the rest of a map white


def signed_map(values: ArrayLike | Tensor, name: str, clip: Clip) -> NDArray:
    """An attribution map as (frequency, time).

    The values of samples are summed over the time of a frame, because there are more samples than a picture has dots.

    Args:
        values: attribution of the whole input, (…, frequency, time) or, where the model takes waveforms, (…, sample);
            the leading axes have size 1.
        name: name of the map, for messages.
        clip: the explained clip.

    Returns:
        Array (frequency, time), float64; one row for a map of samples.

    Raises:
        ValueError: the map has another shape, or holds NaN or infinity.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.figures.signed_maps import signed_map
        >>> clip = Clip(torch.zeros(5, 2), SpectrogramAxes(8000, 8, 4), torch.zeros(6), of_samples=True)
        >>> signed_map([1.0, 2.0, 3.0, 0.0, 0.0, -1.0], "IntegratedGradients", clip).tolist()
        [[6.0, -1.0]]
    """
    given = as_array(values)
    n_axes = 1 if clip.of_samples else 2  # the smallest number of axes
    attribution = given.astype(float)
    while attribution.ndim > n_axes and attribution.shape[0] == 1:
        attribution = attribution[0]
    if not attribution.size or not n_axes <= attribution.ndim <= 2:
        shape = "(…, sample)" if clip.of_samples else "(…, frequency, time)"
        raise ValueError(
            f"expected the map {name!r} of shape {shape} with leading axes of size 1, but got {given.shape}"
        )
    if not np.isfinite(attribution).all():
        raise ValueError(f"expected the map {name!r} to be finite, but there is NaN or infinity")
    if attribution.ndim == 1:
        frames = np.array_split(attribution, min(len(attribution), clip.decibels.shape[1]))
        attribution = np.stack([samples.sum() for samples in frames])[None]
    return attribution


def channel_map(values: Tensor, clip: Clip) -> NDArray:
    """The map of a channel as (frequency, time) over the picture of its clip.

    Args:
        values: map of the channel, (frequency, time), as in `Evidence.map`. For a clip of samples it lies on the bins
            of a Fourier transform, from 0 Hz to half the sample rate and over the duration of the clip.
        clip: the clip.

    Returns:
        Array (frequency, time), float64, which covers the picture: the map, for a flipped clip upside down; or, for a
        clip of samples, its value at the centre of each bin of the picture.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.figures.signed_maps import channel_map
        >>> clip = Clip(torch.zeros(5, 3), SpectrogramAxes(8000, 8, 4), torch.zeros(12), of_samples=True)
        >>> channel_map(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), clip).tolist()
        [[1.0, 1.0, 2.0], [1.0, 1.0, 2.0], [3.0, 3.0, 4.0], [3.0, 3.0, 4.0], [3.0, 3.0, 4.0]]
    """
    attribution = as_array(values).astype(float)
    if not clip.of_samples:
        return attribution[::-1] if clip.flipped else attribution
    n_bins, n_frames = clip.decibels.shape
    hertz = clip.axes.hertz(torch.arange(n_bins, dtype=torch.float64) + 0.5)
    seconds = [clip.axes.seconds(frame + 0.5) for frame in range(n_frames)]
    rows = _indices(as_array(hertz) / clip.axes.nyquist, attribution.shape[0])
    columns = _indices(np.asarray(seconds) / clip.duration, attribution.shape[1])
    return attribution[rows[:, None], columns]


def _indices(fractions: NDArray, size: int) -> NDArray:
    """The index of the element of an axis at each fraction of the axis."""
    return np.clip((fractions * size).astype(int), 0, size - 1)


def map_scale(values: NDArray) -> float:
    """The value at which a signed map has full colour.

    Args:
        values: the map.

    Returns:
        The 99.5% quantile of the absolute values, or the largest absolute value where the quantile is zero.

    Example:
        >>> from captum_apex.figures.signed_maps import map_scale
        >>> map_scale([0.0, -3.0])
        2.985
    """
    sizes = np.abs(values)
    return float(np.quantile(sizes, _QUANTILE) or sizes.max())
