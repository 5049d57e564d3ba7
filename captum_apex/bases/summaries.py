"""What a bank or a basis is, in pairs of a name and a text, for people."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_apex.layers.origin import Origin
from captum_apex.result_tables import counted

__all__ = ["is_orthogonal", "layer_in_words", "prototypes_in_words"]

_TOLERANCE = 1e-3  # of U Uᵀ, for matrices in float32


def is_orthogonal(matrix: Tensor) -> bool:
    """Whether a matrix is orthogonal, up to rounding.

    Args:
        matrix: the matrix, (channel, channel).

    Example:
        >>> import torch
        >>> from captum_apex.bases.summaries import is_orthogonal
        >>> is_orthogonal(torch.eye(2)), is_orthogonal(2 * torch.eye(2))
        (True, False)
    """
    product = matrix.double() @ matrix.double().T
    return bool((product - torch.eye(len(matrix), dtype=product.dtype, device=product.device)).abs().max() < _TOLERANCE)


def layer_in_words(origin: Origin) -> str:
    """The layer with the size of its grid.

    Args:
        origin: the record of the layer.

    Example:
        >>> from captum_apex.bases.summaries import layer_in_words
        >>> from captum_apex.layers import Origin
        >>> layer_in_words(Origin(layer="features", grid=(4, 15)))
        'features, grid of 4 rows and 15 columns'
    """
    name = origin.layer or "not known"
    at_input = " (its input)" if origin.at_input else ""
    norm = f", normalised by {origin.norm}" if origin.norm else ""
    if origin.grid is None:
        return f"{name}{at_input}{norm}"
    n_rows, n_columns = origin.grid
    return f"{name}{at_input}{norm}, grid of {counted(n_rows, 'row')} and {counted(n_columns, 'column')}"


def prototypes_in_words(purities: Tensor | None, boxes: Tensor | None, origin: Origin) -> str:
    """The prototypes of a side of a basis: how many, of how many clips, how pure, and whether their regions are known.

    Args:
        purities: purity of each prototype, (channel, prototype); None for a basis without prototypes.
        boxes: their regions, (channel, prototype, box, 4), as in `Prototypes`; None without regions.
        origin: the record of the dataset.

    Example:
        >>> import torch
        >>> from captum_apex.bases.summaries import prototypes_in_words
        >>> from captum_apex.layers import Origin
        >>> prototypes_in_words(torch.ones(2, 3), None, Origin(n_clips=9))
        '3 per channel, of 9 clips, mean purity 1.00, without regions'
    """
    if purities is None:
        return "none"
    clips = f", of {counted(origin.n_clips, 'clip')}" if origin.n_clips else ""
    mean = f", mean purity {purities.double().mean():.2f}" if purities.numel() else ""
    n_located = 0 if boxes is None else int((boxes[:, :, 0, 0] >= 0).any(0).sum())
    regions = f"regions of {n_located}" if n_located else "without regions"
    return f"{purities.shape[1]} per channel{clips}{mean}, {regions}"
