"""Frames of a spectrogram after the end of the sound, which a feature extractor has filled."""

from __future__ import annotations

import math

from torch import Tensor

from captum_apex.audio.frame_times import FrameTimes

__all__ = ["blanked", "n_heard_frames"]

_SAME_LEVEL = 0.1  # in dB


def n_heard_frames(decibels: Tensor, axes: FrameTimes, waveform: Tensor | None) -> int:
    """The number of frames up to the end of the sound; those after it are what a transform fills its inputs with.

    A frame is filled where its window begins after the last sample. Where there are such frames, and frames are not
    centred, those whose windows reach beyond the last sample are filled, too, as far as they equal the last one:
    Kaldi's transform gives no frame for them.

    Args:
        decibels: the spectrogram, (frequency, time).
        axes: its axes.
        waveform: the sound, (sample,); None where it is not known, so that all frames count.

    Returns:
        The number of frames, at least 1.

    Example:
        >>> import torch
        >>> from captum_apex import SpectrogramAxes
        >>> from captum_apex.audio.filled_frames import n_heard_frames
        >>> n_heard_frames(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80), torch.ones(4000))
        51
    """
    n_frames = decibels.shape[1]
    if waveform is None:
        return n_frames
    centres = axes.frame_centres(n_frames) * axes.sample_rate
    filled = centres - axes.n_fft / 2 >= len(waveform)
    if not filled[-1]:
        return n_frames
    if not axes.center:
        same = (decibels - decibels[:, -1:]).abs().amax(0) <= _SAME_LEVEL
        filled |= same.cpu() & (centres + axes.n_fft / 2 > len(waveform))
    n_filled = int(filled.flip(0).long().cumprod(0).sum())  # at the end
    return n_frames - n_filled if n_filled < n_frames else n_frames


def blanked(decibels: Tensor, n_heard: int) -> Tensor:
    """A spectrogram with NaN in place of the frames after the end of the sound, for a picture that leaves them blank.

    Args:
        decibels: the spectrogram, (frequency, time).
        n_heard: the number of frames up to the end of the sound.

    Example:
        >>> import torch
        >>> from captum_apex.audio.filled_frames import blanked
        >>> blanked(torch.zeros(1, 3), n_heard=2)
        tensor([[0., 0., nan]])
    """
    if n_heard == decibels.shape[1]:
        return decibels
    shown = decibels.detach().clone()
    shown[:, n_heard:] = math.nan
    return shown
