"""Encodes the pictures and sounds of the pages: side by side, with progress, and within a limit."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from captum_apex import listening
from captum_apex.audio.cutting import Cut, cuts
from captum_apex.figures.panels import as_array
from captum_apex.progress import bar_settings
from captum_apex.report.content import Content, Picture, Sound

__all__ = ["Encoded", "TooLargeError", "base64_text", "encode"]

_BASE64 = 4 / 3
_LOSSLESS_SAMPLES = 2_500_000  # up to so many samples in all, sounds are kept as they are: at most 7 MB of the page
_SHARES = {"mp3": 0.35, "flac": 1.2, "wav": 2.0}  # usual bytes per sample
_PICTURE_SHARE = 0.8  # usual bytes per bin
_PICTURE_BYTES = 1500  # of the palette and the format
_SECONDS_WITHOUT_BAR = 2.0


class TooLargeError(Exception):
    """The pictures and sounds are larger than the limit.

    Args:
        n_bytes: how large they would be all together, as far as it is known.

    Example:
        >>> from captum_apex.report.encoding import TooLargeError
        >>> TooLargeError(70_000_000).n_bytes
        70000000
    """

    def __init__(self, n_bytes: float) -> None:
        super().__init__(n_bytes)
        self.n_bytes = n_bytes


class Encoded(NamedTuple):
    """The pictures and sounds of the pages as a page holds them.

    Args:
        pictures: a data URI per name of a picture.
        sounds: per name of a sound: the media type, the file in base64 and the sample rate in Hz of the sound of a
            clip, or else what to cut out of the sound of a clip.

    Example:
        >>> from captum_apex.report.encoding import Encoded
        >>> Encoded({}, {"clip": {"type": "audio/flac", "data": "ZkxhQw==", "rate": 8000}}).sounds["clip"]["rate"]
        8000
    """

    pictures: dict[str, str]
    sounds: dict[str, dict[str, Any]]


def encode(content: Content, limit: float, *, progress: bool = True) -> Encoded:
    """Encodes all pictures and sounds.

    Only the sound of a whole clip is a file. The sounds of its regions are cut out of it when they are played, which
    `cutting.js` does. So the sounds are kept without loss (FLAC) where a page is short, and in MP3 of a fine
    variable bit rate otherwise.

    Args:
        content: what is on the pages.
        limit: the most bytes that pictures and sounds may take.
        progress: whether to show a progress bar, if it takes more than two seconds.

    Raises:
        TooLargeError: they take more.

    Example:
        >>> import torch
        >>> from captum_apex import Clip
        >>> from captum_apex.report.content import Content, Sound
        >>> from captum_apex.report.encoding import encode
        >>> clip = Clip.from_waveform(torch.ones(8000), 8000)
        >>> encode(Content({}, sounds={"clip": Sound(clip)}), 10_000).sounds["clip"]["type"]
        'audio/flac'
    """
    whole = {name: sound for name, sound in content.sounds.items() if sound.region is None}
    lossless = sum(map(_n_samples, whole.values())) <= _LOSSLESS_SAMPLES
    jobs = [_Job(partial(_encoded_sound, sound, lossless), _usual(sound, lossless)) for sound in whole.values()]
    jobs += [
        _Job(partial(_encoded_picture, picture), _BASE64 * (_PICTURE_SHARE * picture.pixels.size + _PICTURE_BYTES))
        for picture in content.pictures.values()
    ]
    regions = {name: _region(sound) for name, sound in content.sounds.items() if sound.region is not None}
    files = _done(jobs, limit, progress)
    sounds = {
        name: {"type": listening.MEDIA_TYPES[_kind(sound, lossless)], "data": file, "rate": sound.clip.sample_rate}
        for (name, sound), file in zip(whole.items(), files, strict=False)
    }
    pictures = {
        name: f"data:image/png;base64,{file}" for name, file in zip(content.pictures, files[len(whole) :], strict=True)
    }
    return Encoded(pictures, {name: sounds.get(name) or regions[name] for name in content.sounds})


def base64_text(data: bytes) -> str:
    """Bytes as ASCII text.

    Args:
        data: the bytes.

    Example:
        >>> from captum_apex.report.encoding import base64_text
        >>> base64_text(b"fLaC")
        'ZkxhQw=='
    """
    return base64.b64encode(data).decode("ascii")


class _Job(NamedTuple):
    """A file to encode.

    Args:
        encoded: gives the file in base64.
        usual: how many bytes such a file usually takes in base64.
    """

    encoded: Callable[[], str]
    usual: float


def _done(jobs: list[_Job], limit: float, progress: bool) -> list[str]:
    """The files of all jobs, which threads encode side by side: the encoders let Python go on."""
    files = []
    usual = sum(job.usual for job in jobs)
    n_bytes = 0
    usual_so_far = 0.0
    executor = ThreadPoolExecutor()
    bar = tqdm(
        executor.map(lambda job: job.encoded(), jobs),
        total=len(jobs),
        desc=f"writing about {usual / 1e6:.1f} MB",
        unit="file",
        delay=_SECONDS_WITHOUT_BAR,
        **bar_settings(progress),
    )
    try:
        for job, file in zip(jobs, bar, strict=True):
            files.append(file)
            n_bytes += len(file)
            usual_so_far += job.usual
            if n_bytes > limit:
                raise TooLargeError(n_bytes * usual / usual_so_far)
    finally:
        bar.close()
        executor.shutdown(cancel_futures=True)  # after an error or an interruption, what has not begun is left
    return files


def _encoded_picture(picture: Picture) -> str:
    """The picture as a PNG with a palette."""
    image = Image.fromarray(picture.pixels[::-1])  # the highest frequency on top
    image.putpalette(mpl.colormaps[picture.colours](np.arange(256), bytes=True)[:, :3].tobytes())
    file = io.BytesIO()
    opacity = np.abs(np.linspace(-255, 255, 256)).astype(np.uint8).tobytes()
    options = {"transparency": opacity} if picture.clear else {}
    image.save(file, "PNG", optimize=True, **options)
    return base64_text(file.getvalue())


def _encoded_sound(sound: Sound, lossless: bool) -> str:
    """The file of a whole clip, with its levels, unless its peak is above full scale."""
    assert sound.clip.waveform is not None
    # Without torch, whose reductions fail in the threads of a process that was forked.
    samples = as_array(sound.clip.waveform)
    samples = np.clip(samples / max(np.abs(samples).max(), 1), -1, 1)
    return base64_text(listening.encoded(torch.from_numpy(samples), sound.clip.sample_rate, _kind(sound, lossless)))


def _kind(sound: Sound, lossless: bool) -> str:
    kind = listening.playable_format(round(sound.clip.sample_rate))
    return "flac" if lossless and kind == "mp3" else kind  # FLAC has the sample rates of MP3


def _n_samples(sound: Sound) -> int:
    assert sound.clip.waveform is not None
    return len(sound.clip.waveform)


def _usual(sound: Sound, lossless: bool) -> float:
    """How many bytes a sound usually takes in base64."""
    return _BASE64 * _SHARES[_kind(sound, lossless)] * _n_samples(sound)


def _region(sound: Sound) -> dict[str, Any]:
    """What `cutting.js` cuts out of the sound of a clip."""
    assert sound.region is not None
    assert sound.last is not None
    rate = sound.clip.sample_rate
    return {
        "of": sound.whole,
        "cuts": [_cut(cut) for cut in cuts(sound.clip, sound.region)],
        "without": sound.without,
        "first": sound.first / rate,
        "last": sound.last / rate,
    }


def _cut(cut: Cut) -> dict[str, float | None]:
    """The sides of a box in Hz and seconds, None for one at the end of the input, and the window in seconds."""
    sides = {name: None if math.isinf(side) else side for name, side in cut.place._asdict().items()}
    return {**sides, "window": cut.window}
