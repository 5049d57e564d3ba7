"""Conversion between the frames of a spectrogram and seconds."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["FrameTimes", "Number", "float64", "like"]

Number = TypeVar("Number", float, Tensor)


class FrameTimes:
    """The time axis of a spectrogram, from the fields of `SpectrogramAxes`.

    Example:
        >>> from captum_apex.audio.frame_times import FrameTimes
        >>> class Axes(FrameTimes):
        ...     sample_rate, n_fft, hop_length, center, pad = 8000, 512, 80, True, 0
        >>> Axes().seconds(100.5)  # the centre of frame 100
        1.0
    """

    sample_rate: float
    n_fft: int
    hop_length: float
    center: bool
    pad: float

    def frame_centres(self, n_frames: int) -> Tensor:
        """Centre of each of the first `n_frames` frames in seconds, float64, shape (time,)."""
        return self.seconds(torch.arange(n_frames) + 0.5)

    def frame_edges(self, n_frames: int) -> Tensor:
        """The start of each frame and the end of the last one, in seconds, float64, shape (time + 1,).

        A frame covers half a hop on each side of its centre, although its window is longer.
        """
        return self.seconds(torch.arange(n_frames + 1))

    def seconds(self, position: Number) -> Number:
        """The time at a position in frames, in seconds from the first sample of the clip; clipped at 0.

        Args:
            position: number or tensor; frame `t` covers `[t, t + 1]`, and its centre is `t + 0.5`.

        Returns:
            A float for a number, a float64 tensor of the same shape for a tensor.
        """
        samples = (float64(position) - 0.5) * self.hop_length + self._first_centre
        return like(position, (samples / self.sample_rate).clamp_min(0))

    def frame_position(self, seconds: Number) -> Number:
        """The position of a time, in frames; below 0 if the time is before the first frame.

        Args:
            seconds: number or tensor, in seconds from the first sample of the clip.

        Returns:
            A float for a number, a float64 tensor of the same shape for a tensor.

        Raises:
            ValueError: if a time is below 0.
        """
        time = float64(seconds)
        if not (time >= 0).all():
            raise ValueError(f"expected `seconds` to be at least 0, but got {seconds}")
        return like(seconds, (time * self.sample_rate - self._first_centre) / self.hop_length + 0.5)

    @property
    def _first_centre(self) -> float:
        """The centre of frame 0, in samples of the clip."""
        return (0 if self.center else self.n_fft / 2) - self.pad


def float64(value: float | Tensor) -> Tensor:
    """A number or a tensor as a float64 tensor.

    Example:
        >>> from captum_apex.audio.frame_times import float64
        >>> float64(0.5)
        tensor(0.5000, dtype=torch.float64)
    """
    return torch.as_tensor(value, dtype=torch.float64)


def like(given: Number, value: Tensor) -> Number:
    """A tensor where a tensor was given, and a float where a number was given.

    Args:
        given: what was given.
        value: the result.

    Example:
        >>> import torch
        >>> from captum_apex.audio.frame_times import like
        >>> like(2.0, torch.tensor(0.5)), like(torch.tensor(2.0), torch.tensor(0.5))
        (0.5, tensor(0.5000))
    """
    return value if isinstance(given, Tensor) else value.item()
