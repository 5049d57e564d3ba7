"""A long recording, cut into windows of one length that are read one by one."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from captum_apex.recordings.decoding import as_waveform, sound_library

__all__ = ["Windows"]

_MARGIN = 0.05  # seconds that are read beyond both ends of a window, so that resampling meets sound there and no edge


@dataclass(frozen=True)
class Windows:
    """Where the windows of a recording begin, and their sound.

    They begin every `hop` samples; the last one ends where the recording does, and so may overlap the one before it by more than the others
    do. A recording that is shorter than a window is one window, with zeros after its end.

    Args:
        source: a waveform (sample,) at `rate`, or an audio file.
        rate: of the source, in Hz.
        n_samples: of the whole recording, at `sample_rate`.
        sample_rate: of the windows, in Hz.
        length: of a window, in samples.
        hop: from one window to the next, in samples.
        convert: whether a file of another rate or with several channels is converted, with a warning, or refused.
    """

    source: Tensor | Path
    rate: int
    n_samples: int
    sample_rate: int
    length: int
    hop: int
    convert: bool = True

    @classmethod
    def of(
        cls, recording: Tensor | str | os.PathLike, sample_rate: int, window: float, hop: float, *, convert: bool = True
    ) -> Self:
        """The windows of a waveform or of a file, of which no sound is read yet.

        Args:
            recording: a waveform (sample,) at the sample rate, or the path of a file of any rate.
            sample_rate: of the windows, in Hz.
            window: their length, in s.
            hop: from one to the next, in s; at most the window, so that nothing is passed over.
            convert: as above.

        Raises:
            TypeError: the recording is neither a waveform of floats nor a path.
            ValueError: it is empty, no audio, or has another shape; window or hop is out of range, or shorter than a sample.
            FileNotFoundError: there is no such file.
            ImportError: soundfile is missing.
        """
        if not 0 < hop <= window < math.inf:
            raise ValueError(f"expected 0 < `hop` <= `window`, in s, but got a hop of {hop} and a window of {window}")
        length, step = round(window * sample_rate), round(hop * sample_rate)
        if step < 1:
            raise ValueError(f"expected a `hop` of at least one sample, {1 / sample_rate:.6f} s, but got {hop}")
        if isinstance(recording, Tensor):
            if recording.dim() != 1 or not len(recording) or not recording.is_floating_point():
                raise ValueError(
                    f"expected a waveform of floats of shape (sample,), but got {recording.dtype} of shape {tuple(recording.shape)}; "
                    "`captum_apex.recordings.as_waveform` mixes down and resamples"
                )
            return cls(recording, sample_rate, len(recording), sample_rate, length, step)
        if not isinstance(recording, (str, os.PathLike)):
            raise TypeError(f"expected a waveform or the path of a file, but got {type(recording).__name__}")
        path = Path(recording)
        with _opened(path) as sound:
            n_samples = sound.frames * sample_rate // sound.samplerate
            rate = sound.samplerate
        if n_samples < 1:
            raise ValueError(f"expected {path} to hold sound, but it is empty")
        return cls(path, rate, n_samples, sample_rate, length, step, convert)

    @property
    def starts(self) -> range | list[int]:
        """The first sample of each window."""
        last = self.n_samples - self.length
        if last <= 0:
            return [0]
        regular = range(0, last + 1, self.hop)
        return regular if regular[-1] == last else [*regular, last]

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """The first sample of each window, and its waveform, float32 (sample,).

        Raises:
            ValueError: a window holds NaN or infinity, naming where; or must not be converted.
        """
        if isinstance(self.source, Tensor):
            for start in self.starts:
                yield start, self._whole(self.source[start : start + self.length], start)
            return
        with _opened(self.source) as sound:
            for start in self.starts:
                yield start, self._read(sound, start)

    def _read(self, sound: Any, start: int) -> Tensor:
        """One window of a file: of another rate it is read from a place on, which falls on a sample of both rates."""
        if self.rate == self.sample_rate:
            first, end, skipped = start, start + self.length, 0
        else:
            grid = math.gcd(
                self.rate, self.sample_rate
            )  # so many times in a second, a sample of one rate is one of the other
            place = max(0, math.floor((start / self.sample_rate - _MARGIN) * grid))
            first, end = (
                place * (self.rate // grid),
                math.ceil(((start + self.length) / self.sample_rate + _MARGIN) * self.rate),
            )
            skipped = start - place * (self.sample_rate // grid)
        sound.seek(first)
        samples = torch.from_numpy(sound.read(end - first, dtype="float32", always_2d=True).T)  # (channel, sample)
        if not samples.isfinite().all():
            raise ValueError(
                f"expected {self.source} to hold sound, but got NaN or infinity after {start / self.sample_rate:g} s"
            )
        waveform = as_waveform(samples, self.rate, self.sample_rate, convert=self.convert, name=str(self.source))
        return self._whole(waveform[skipped : skipped + self.length], start)

    def _whole(self, waveform: Tensor, start: int) -> Tensor:
        if not waveform.isfinite().all():
            raise ValueError(f"expected finite samples, but got NaN or infinity after {start / self.sample_rate:g} s")
        padded = torch.zeros(self.length)
        padded[: len(waveform)] = waveform
        return padded


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A sound file of libsndfile's, which is given the opened file: it cannot open one whose name is not Unicode."""
    soundfile = sound_library()
    if not path.is_file():
        raise FileNotFoundError(f"expected an audio file at {path}, but there is none")
    try:
        with open(path, "rb") as opened, soundfile.SoundFile(opened) as sound:
            yield sound
    except soundfile.SoundFileError as error:
        raise ValueError(f"expected {path} to be audio, but it cannot be read: {error}") from error
