"""Where a recording is digitally silent: its samples are zeros there, which no microphone gives."""

from __future__ import annotations

from bisect import bisect_right

from torch import Tensor
from torch.nn.functional import pad

__all__ = ["DigitalSilence"]

_LARGEST = 1e-6  # of full scale, −120 dB: below the noise of every recorder, above what a decoder leaves in silence
_SHORTEST = 0.01  # s


class DigitalSilence:
    """The runs of digital silence in the windows of a recording.

    A run lasts at least 10 ms, and none of its samples is larger than 10⁻⁶ of full scale (−120 dB).

    Args:
        sample_rate: sample rate of the windows, in Hz.

    Example:
        >>> import torch
        >>> from captum_apex.explanations.digital_silence import DigitalSilence
        >>> silence = DigitalSilence(100)
        >>> waveform = torch.zeros(300)
        >>> waveform[100:150] = 0.5
        >>> silence.add(0, waveform[:200])
        >>> silence.add(100, waveform[100:])
        >>> silence.covers(0.5, 1.0), silence.covers(0.5, 1.1), silence.covers(1.5, 3.0)
        (True, False, True)
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.starts: list[int] = []  # the first sample of each run
        self.ends: list[int] = []  # the sample after its last one
        self._seen = 0  # the sample after the last one of all windows so far

    def add(self, start: int, waveform: Tensor) -> None:
        """Adds a window; the windows come in the order of time.

        Args:
            start: the first sample of the window, counted from the start of the recording.
            waveform: the samples of the window, (sample,).
        """
        first = max(start, self._seen)
        silent = pad((waveform[first - start :].abs() <= _LARGEST).int(), (1, 1)).diff()
        starts = (first + (silent == 1).nonzero()[:, 0]).tolist()
        ends = (first + (silent == -1).nonzero()[:, 0]).tolist()
        for run_start, run_end in zip(starts, ends, strict=True):
            if self.ends and run_start == self.ends[-1]:
                self.ends[-1] = run_end
            elif run_end - run_start >= _SHORTEST * self.sample_rate:
                self.starts.append(run_start)
                self.ends.append(run_end)
        self._seen = max(self._seen, start + len(waveform))

    def covers(self, start: float, end: float) -> bool:
        """Whether one run lasts from a time to another, in s."""
        first = round(start * self.sample_rate)
        run = bisect_right(self.starts, first) - 1
        return run >= 0 and round(end * self.sample_rate) <= self.ends[run]
