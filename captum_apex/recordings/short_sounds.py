"""Sounds that are shorter than the clips of a model."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

__all__ = ["SHORT", "lengthened"]

SHORT = ("pad", "repeat", "keep")
"""What can be done with a sound that is too short: zeros after its end, the sound again and again, or nothing."""


def lengthened(waveform: Tensor, length: int, short: str) -> Tensor:
    """A sound that has at least a length, unless short sounds are kept as they are.

    Args:
        waveform: the sound, (sample,).
        length: the length, in samples.
        short: `"pad"`, `"repeat"` or `"keep"`.

    Example:
        >>> import torch
        >>> from captum_apex.recordings.short_sounds import lengthened
        >>> lengthened(torch.tensor([1.0, 2.0]), 5, "repeat"), lengthened(torch.tensor([1.0, 2.0]), 3, "pad")
        (tensor([1., 2., 1., 2., 1.]), tensor([1., 2., 0.]))
    """
    missing = length - len(waveform)
    if missing <= 0 or short == "keep":
        return waveform
    if short == "pad":
        return pad(waveform, (0, missing))
    return waveform.repeat(-(-length // len(waveform)))[:length]
