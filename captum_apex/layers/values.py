"""Checks of values and their precision."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["at_least_float32", "check_finite"]


def check_finite(tensor: Tensor, what: str, first_clip: int = 0) -> None:
    """Raises a ValueError that names the first clip with NaN or infinity.

    Args:
        tensor: (clip, ...).
        what: the words for it in the message.
        first_clip: the number of the tensor's first clip.
    """
    if (
        not tensor.is_floating_point() or tensor.sum().isfinite()
    ):  # a sum is several times as fast, and can only overflow beside that
        return
    if not tensor.isfinite().all():
        clip = first_clip + int((~tensor.isfinite().flatten(1).all(1)).nonzero()[0])
        raise ValueError(f"expected finite values, but {what} of clip {clip} have NaN or infinity")


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision becomes float32; the rest stays as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
