"""A long recording as windows of equal length, which are read one by one."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from captum_apex.numbers import full_scale, real_number, whole_number
from captum_apex.recordings.audio_file import AudioFile, opened_audio
from captum_apex.recordings.decoding import as_waveform
from captum_apex.recordings.resampling import filter_reach
from captum_apex.recordings.short_sounds import lengthened

__all__ = ["Windows"]

_LONGEST = 2**30  # samples of a window, 4 GB
_MARGIN = 0.05  # seconds read before and after a window, so that the resampling filter gets real samples there


@dataclass(frozen=True)
class Windows:
    """The windows of a recording: where they begin, and their sound.

    A window begins every `hop` samples. The last window ends with the recording, so it may overlap the one before it
    by more than the others do. A recording shorter than a window is one window, with zeros after its end, repeated, or
    kept as short as it is.

    Args:
        source: a waveform of shape (sample,) with the sample rate `rate`, or an audio file.
        rate: sample rate of the source, in Hz.
        n_samples: length of the whole recording, in samples at `sample_rate`.
        sample_rate: sample rate of the windows, in Hz.
        length: length of a window, in samples.
        hop: distance from the start of one window to the start of the next, in samples.
        convert: whether a file with another sample rate or with several channels is converted, with a warning. False
            raises an error instead.
        short: what is done with a recording shorter than a window, `"pad"`, `"repeat"` or `"keep"`.

    Example:
        >>> import torch
        >>> from captum_apex.recordings.windows import Windows
        >>> for start, waveform in Windows.of(torch.arange(9.0), sample_rate=2, window=2.0, hop=1.5):
        ...     print(start, waveform.tolist())
        0 [0.0, 1.0, 2.0, 3.0]
        3 [3.0, 4.0, 5.0, 6.0]
        5 [5.0, 6.0, 7.0, 8.0]
        >>> Windows.of(torch.arange(9.0), sample_rate=2, window=2.0, hop=1.5).waveform(3)
        tensor([3., 4., 5., 6.])
        >>> Windows.of(torch.tensor([1.0, 2.0, 3.0]), 2, window=2.0, hop=2.0, short="repeat").waveform(0)
        tensor([1., 2., 3., 1.])
    """

    source: Tensor | Path
    rate: int
    n_samples: int
    sample_rate: int
    length: int
    hop: int
    convert: bool = True
    short: str = "pad"

    @classmethod
    def of(
        cls,
        recording: Tensor | str | os.PathLike,
        sample_rate: int,
        window: float,
        hop: float,
        *,
        convert: bool = True,
        short: str = "pad",
    ) -> Self:
        """The windows of a waveform or of a file, of which only the first window is read.

        Args:
            recording: a waveform of shape (sample,) at `sample_rate`, or the path of a file at any sample rate.
            sample_rate: sample rate of the windows, in Hz.
            window: length of a window, in seconds.
            hop: distance from the start of one window to the start of the next, in seconds; at most `window`, so that
                there are no gaps.
            convert: whether a file with another sample rate or with several channels is converted, with a warning.
                False raises an error instead.
            short: what is done with a recording shorter than a window: `"pad"` puts zeros after its end, `"repeat"`
                repeats it from its start, `"keep"` leaves it as it is.

        Raises:
            TypeError: if the recording is neither a tensor nor a path.
            ValueError: if the recording is empty, is not audio or has another shape, or if `window` or `hop` is out of
                range or shorter than a sample.
            FileNotFoundError: if there is no such file.
            ImportError: if soundfile is missing.
        """
        sample_rate = whole_number(sample_rate, "sample_rate", least=1)
        window = real_number(window, "window")
        hop = real_number(hop, "hop")
        if not 0 < hop <= window:
            raise ValueError(f"expected 0 < `hop` <= `window`, in s, but got a hop of {hop} and a window of {window}")
        if window * sample_rate > _LONGEST:
            raise ValueError(f"expected a `window` of at most {_LONGEST / sample_rate:.0f} s, but got {window}")
        length = round(window * sample_rate)
        step = round(hop * sample_rate)
        if step < 1:
            raise ValueError(f"expected a `hop` of at least one sample, {1 / sample_rate:.6f} s, but got {hop}")
        if isinstance(recording, Tensor):
            _check_waveform(recording)
            return cls(recording, sample_rate, len(recording), sample_rate, length, step, short=short)
        if not isinstance(recording, (str, os.PathLike)):
            raise TypeError(f"expected a waveform or the path of a file, but got {type(recording).__name__}")
        path = Path(recording)
        with _opened(path) as sound:
            rate = sound.rate
            n_frames = sound.n_frames
            if not n_frames:
                raise ValueError(f"expected {path} to hold sound, but {sound.what_is_missing()}")
            first_window = min(n_frames, math.ceil(length / sample_rate * rate))
            n_read = sound.read(0, first_window).shape[1]
        if n_read < first_window:  # the file is shorter than its header says, and than a window
            n_frames = n_read
        n_samples = max(1, n_frames * sample_rate // rate)
        return cls(path, rate, n_samples, sample_rate, length, step, convert, short)

    @property
    def starts(self) -> range | list[int]:
        """The first sample of each window."""
        last = self.n_samples - self.length
        if last <= 0:
            return [0]
        regular = range(0, last + 1, self.hop)
        return regular if regular[-1] == last else [*regular, last]

    @property
    def is_repeated(self) -> bool:
        """Whether the recording is shorter than a window, and repeated to its length."""
        return self.short == "repeat" and self.n_samples < self.length

    @property
    def seconds(self) -> float:
        """Duration of each window, in s; that of a shorter recording where it is kept as it is."""
        n_samples = min(self.length, self.n_samples) if self.short == "keep" else self.length
        return n_samples / self.sample_rate

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """The first sample of each window, and its waveform, a float32 tensor of shape (sample,).

        If a file ends before its header says so, or cannot be decoded further, a warning says where, and the last
        window ends there.

        Raises:
            ValueError: if a window has NaN or infinity (the error says where), or would need a conversion although
                `convert` is False.
        """
        if isinstance(self.source, Tensor):
            for start in self.starts:
                yield start, self.waveform(start)
            return
        with _opened(self.source) as sound:
            before = None
            for start in self.starts:
                window = self._read(sound, start)
                end = start + len(window)
                if len(window) == self.length or end >= self.n_samples:
                    before = start
                    yield start, self._padded(window, start)
                    continue
                last = max(0, end - self.length)
                if before is None or last > before:
                    yield last, self._padded(self._read(sound, last), last)
                return

    def waveform(self, start: int) -> Tensor:
        """The waveform of one window, a float32 tensor of shape (sample,).

        Args:
            start: the first sample of the window.

        Raises:
            ValueError: the window has NaN or infinity, would need a conversion although `convert` is False, or lies
                where the file cannot be read.
        """
        if isinstance(self.source, Tensor):
            return self._padded(self.source[start : start + self.length], start)
        with _opened(self.source) as sound:
            window = self._read(sound, start)
        if not len(window):
            raise ValueError(f"expected {self.source} to hold sound after {start / self.sample_rate:g} s, but it ends")
        return self._padded(window, start)

    def _read(self, sound: AudioFile, start: int) -> Tensor:
        """The window of a file that begins at a sample; shorter where the file ends."""
        first, end, surplus = self._frames(start)
        samples = sound.read(first, end - first)  # (channel, sample)
        if not samples.numel():
            if not start:
                raise ValueError(f"expected {self.source} to hold sound, but {sound.what_is_missing()}")
            return torch.empty(0)
        if not samples.isfinite().all():
            raise ValueError(
                f"expected {self.source} to hold sound, but got NaN or infinity after {start / self.sample_rate:g} s"
            )
        waveform = as_waveform(samples, self.rate, self.sample_rate, convert=self.convert, name=str(self.source))
        return waveform[surplus : surplus + self.length]

    def _frames(self, start: int) -> tuple[int, int, int]:
        """The samples of a file to read for a window.

        If the file has another sample rate, they begin at a time where both rates have a sample, so that the resampled
        windows are sections of the resampled file.

        Returns:
            The first sample of the file, the end, and the number of samples before the window, after resampling.
        """
        if self.rate == self.sample_rate:
            return start, start + self.length, 0
        common_rate = math.gcd(self.rate, self.sample_rate)  # both rates have a sample at every 1 / common_rate s
        margin = max(_MARGIN, filter_reach(self.rate, self.sample_rate))
        common_sample = max(0, math.floor((start / self.sample_rate - margin) * common_rate))
        first = common_sample * (self.rate // common_rate)
        end = math.ceil(((start + self.length) / self.sample_rate + margin) * self.rate)
        return first, end, start - common_sample * (self.sample_rate // common_rate)

    def _padded(self, waveform: Tensor, start: int) -> Tensor:
        """A window with zeros after its end, or repeated, up to the length of all windows, unless it is kept short."""
        if not waveform.isfinite().all():
            raise ValueError(f"expected finite samples, but got NaN or infinity after {start / self.sample_rate:g} s")
        window = lengthened(waveform, self.length, self.short)
        return torch.zeros(len(window)).copy_(window)


def _check_waveform(waveform: Tensor) -> None:
    if waveform.dim() != 1 or not len(waveform) or not waveform.is_floating_point():
        raise ValueError(
            "expected a waveform of floats of shape (sample,), "
            f"but got {waveform.dtype} of shape {tuple(waveform.shape)}"
            + (full_scale(waveform.dtype) or "; `captum_apex.recordings.as_waveform` mixes down and resamples")
        )


@contextmanager
def _opened(path: Path) -> Iterator[AudioFile]:
    """An audio file to read from."""
    if not path.is_file():
        raise FileNotFoundError(f"expected an audio file at {path}, but there is none")
    with open(path, "rb") as file, opened_audio(file, str(path)) as sound:
        yield sound
