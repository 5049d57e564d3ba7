"""A check for NaN and infinity, and the conversion from half precision."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["at_least_float32", "check_finite"]


def check_finite(tensor: Tensor, what: str, first_clip: int = 0) -> None:
    """Raises an error that names the first clip with NaN or infinity.

    Args:
        tensor: values of shape (clip, ...).
        what: name of the values in the error message, a plural.
        first_clip: index of the tensor's first clip in the dataset.

    Raises:
        ValueError: if a value is NaN or infinite.

    Example:
        >>> import torch
        >>> from captum_apex.layers import check_finite
        >>> check_finite(torch.tensor([[0.0], [float("nan")]]), "the inputs", first_clip=10)
        Traceback (most recent call last):
            ...
        ValueError: expected finite values, but the inputs of clip 11 have NaN or infinity
    """
    # A sum is several times as fast as `isfinite`; it is also infinite where finite values overflow.
    if not tensor.is_floating_point() or tensor.sum().isfinite():
        return
    if not tensor.isfinite().all():
        clip = first_clip + int((~tensor.isfinite().flatten(1).all(1)).nonzero()[0])
        raise ValueError(f"expected finite values, but {what} of clip {clip} have NaN or infinity")


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it is in half precision; otherwise the tensor itself.

    Args:
        tensor: a tensor of any shape and dtype.

    Example:
        >>> import torch
        >>> from captum_apex.layers import at_least_float32
        >>> at_least_float32(torch.tensor([0.5], dtype=torch.float16)).dtype
        torch.float32
    """
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
