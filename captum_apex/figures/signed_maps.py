"""An attribution map as it is drawn over a clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_apex.audio.clip import Clip

__all__ = ["map_scale", "signed_map"]

_QUANTILE = 0.995  # of the absolute values: a few bins far above the others would leave the rest of a map white


def signed_map(values: ArrayLike | Tensor, name: str, clip: Clip) -> NDArray:
    """A map as (frequency, time); samples are added up in frames, because there are more of them than a picture has dots.

    Args:
        values: of the whole input, (…, frequency, time), the leading axes of size 1; (…, sample) too where the model takes waveforms.
        name: for messages.
        clip: the explained one.

    Raises:
        ValueError: for another shape, NaN or infinity.
    """
    given = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    own = given.astype(float)
    while own.ndim > (1 if clip.of_samples else 2) and own.shape[0] == 1:
        own = own[0]
    if not own.size or own.ndim > 2 or own.ndim < (1 if clip.of_samples else 2):
        wanted = "(…, sample)" if clip.of_samples else "(…, frequency, time)"
        raise ValueError(
            f"expected the map {name!r} of shape {wanted} with leading axes of size 1, but got {given.shape}"
        )
    if not np.isfinite(own).all():
        raise ValueError(f"expected the map {name!r} to be finite, but there is NaN or infinity")
    if own.ndim == 1:
        own = np.stack([part.sum() for part in np.array_split(own, min(len(own), clip.decibels.shape[1]))])[None]
    return own


def map_scale(values: NDArray) -> float:
    """Where a signed map has full colour: the 99.5 % quantile of its absolute values, or the largest where that is zero."""
    sizes = np.abs(values)
    return float(np.quantile(sizes, _QUANTILE) or sizes.max())
