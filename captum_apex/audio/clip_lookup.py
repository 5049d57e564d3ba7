"""What gives the training clips to the figures of prototypes."""

from __future__ import annotations

from typing import Protocol

from captum_apex.audio.clip import Clip

__all__ = ["ClipLookup"]


class ClipLookup(Protocol):
    """Gives the clip at an index of the dataset that a basis was fitted to.

    A list or a dictionary will do, or any object that loads the clip.

    Example:
        >>> import torch
        >>> from captum_apex import Clip
        >>> from captum_apex.audio import ClipLookup
        >>> class SoundLookup:
        ...     def __getitem__(self, index: int, /) -> Clip:
        ...         return Clip.from_waveform(torch.rand(4000), 8000, name=f"{index}.wav")
        >>> clips: ClipLookup = SoundLookup()
        >>> clips[3].name
        '3.wav'
    """

    def __getitem__(self, index: int, /) -> Clip: ...
