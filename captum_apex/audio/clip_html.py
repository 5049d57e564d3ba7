"""A clip as HTML for notebooks: its picture and a player."""

from __future__ import annotations

import base64
import html
import io
import wave

import numpy as np
from torch import Tensor

__all__ = ["clip_html", "player_html"]

_WIDTH = 640  # pixels
_HEIGHT = 160
_COLOURS = "magma"  # as in the figures


def clip_html(title: str, decibels: Tensor, limits: tuple[float, float]) -> str | None:
    """The picture of a clip below its title; None without matplotlib.

    Args:
        title: the title, in plain text.
        decibels: the spectrogram in dB, (frequency, time).
        limits: the levels of the darkest and the brightest colour, in dB.

    Example:
        >>> import torch
        >>> from captum_apex.audio.clip_html import clip_html
        >>> clip_html("<bark>", torch.zeros(5, 20), (-80.0, 0.0))[:59]
        '<figure style="margin:0"><figcaption>&lt;bark&gt;</figcapti'
    """
    try:
        from matplotlib.image import imsave
    except ImportError:
        return None
    picture = io.BytesIO()
    levels = decibels.detach().cpu().float().numpy()
    imsave(picture, levels, vmin=limits[0], vmax=limits[1], cmap=_COLOURS, origin="lower", format="png")
    size = f"width:{_WIDTH}px;max-width:100%;height:{_HEIGHT}px;image-rendering:pixelated"
    source = _uri("image/png", picture.getvalue())
    return (
        f'<figure style="margin:0"><figcaption>{html.escape(title)}</figcaption>'
        f'<img alt="spectrogram" style="{size}" src="{source}"></figure>'
    )


def player_html(waveform: Tensor, sample_rate: float) -> str:
    """A player of a sound, as a WAV file of 16 bits; what is beyond full scale is cut, not made quieter.

    Args:
        waveform: the sound, (sample,).
        sample_rate: its sample rate in Hz.

    Example:
        >>> import torch
        >>> from captum_apex.audio.clip_html import player_html
        >>> player_html(torch.zeros(80), 8000)[:46]
        '<audio controls src="data:audio/wav;base64,Ukl'
    """
    samples = waveform.detach().cpu().float().clamp(-1, 1).numpy()
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(round(sample_rate))
        written.writeframes((samples * 32767).round().astype(np.dtype("<i2")).tobytes())
    return f'<audio controls src="{_uri("audio/wav", file.getvalue())}"></audio>'


def _uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
