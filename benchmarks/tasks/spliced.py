"""Spliced digits: recordings of the Free Spoken Digit Dataset in which one part is vocoded, at a place that is known.

Every recording gives a *real* clip and its *spliced* twin. In the twin, a stretch of time, a band of frequencies, or a
rectangle of both is replaced by the same stretch or band of the vocoded recording (`benchmarks.tasks.vocoded`). All
else is the real recording, sample by sample, up to one gain and the rounding to 16 bits. The task is to detect spliced
speech. The part is the exact truth: in time for the `time` scheme, in frequency for `frequency`, and in both for
`square` and `time-frequency`.

The place of the part is random, but not in a pause: it is the first of some random ones whose level is at most 15 dB
below the loudest of them. The part has the energy of what it replaces,
and its borders are cross-faded. Both twins get the same mean, fades, power and 16-bit steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal
from zlib import crc32

import torch
from torch import Tensor
from torch.nn.functional import pad

from benchmarks.tasks.digits import LOG_MEL, RATE, SAMPLES
from benchmarks.tasks.recorded_task import Recording, data_folder, read_resampled, recorded_task
from benchmarks.tasks.task import Split, Task
from benchmarks.tasks.vocoded import FADE, LEVEL, N_FFT, TEST_TAKES, TRAIN_TAKES, finished, other_twin, vocoded
from captum_apex.audio.frequency_scales import from_mel, to_mel

CLASSES = ("real", "spliced")
Kind = Literal["time", "band", "rectangle"]
SCHEMES: Mapping[Kind, tuple[str, ...]] = {
    "time": ("time",),
    "band": ("frequency",),
    "rectangle": ("square", "time-frequency"),
}
"""The kinds of parts, which are used in turn, and the schemes that each is made for."""
ITERATIONS = (1, 2, 4)  # numbers of Griffin–Lim iterations, used in turn
SHARES = (0.3, 0.5)  # shortest and longest part, as a share of the recording
LOWEST = 150.0  # Hz; no band begins below
HIGHEST = 3_900.0  # Hz; no band ends above
WIDTH = 1 / 3  # width of a band, as a share of the mels between `LOWEST` and `HIGHEST`
PLACES = 8  # random places of a part, of which the first one is taken that is not faint
FAINT = 15.0  # dB by which a faint place lies below the loudest one, at least
CROSS_FADE = 80  # samples of the cross-fade at either border in time, 10 ms
SLOPE = 60.0  # Hz from nothing to all of the vocoded sound at either border in frequency


@dataclass(frozen=True)
class Part:
    """The part of a recording that is replaced.

    Attributes:
        start: its first sample.
        end: the sample after its last one.
        low: lower border in Hz; 0 for a part of all frequencies.
        high: upper border in Hz; infinity for a part of all frequencies.
    """

    start: int
    end: int
    low: float = 0.0
    high: float = math.inf

    def in_time(self, samples: int) -> Tensor:
        """How much of each sample is vocoded, (sample,): 0.5 at the borders, which are cross-faded."""
        position = torch.arange(samples) + 0.5
        rising = (position - self.start) / CROSS_FADE + 0.5 if self.start > 0 else torch.ones(samples)
        falling = (self.end - position) / CROSS_FADE + 0.5 if self.end < samples else torch.ones(samples)
        return _smooth(torch.minimum(rising, falling))

    def in_frequency(self, hertz: Tensor) -> Tensor:
        """How much of each frequency in Hz is vocoded, of the same shape: 0.5 at the borders."""
        rising = (hertz - self.low) / SLOPE + 0.5 if self.low > 0 else torch.ones_like(hertz)
        falling = (self.high - hertz) / SLOPE + 0.5
        return _smooth(torch.minimum(rising, falling))

    def of(self, sound: Tensor) -> Tensor:
        """The part of a sound (sample,): what lies within the borders in time and in frequency."""
        padded = 2 * len(sound)  # so that the filter does not carry one end to the other
        spectrum = torch.fft.rfft(sound.double(), padded)
        hertz = torch.fft.rfftfreq(padded, 1 / RATE, dtype=torch.float64)
        band = torch.fft.irfft(spectrum * self.in_frequency(hertz), padded)[: len(sound)]
        return band * self.in_time(len(sound))


@dataclass(frozen=True)
class SplicedTwin(Recording):
    """One of the two clips that are made of a recording.

    Attributes:
        kind: what is replaced in the spliced twin: a stretch of time, a band of frequencies, or a rectangle of both.
        iterations: number of Griffin–Lim iterations; 0 for the real clip.
    """

    kind: Kind
    iterations: int

    def waveform(self, sample_rate: int, samples: int) -> Tensor:
        """The waveform of the clip, float32 (sample,), with zeros after it.

        Raises:
            ValueError: the recording is too short for the vocoder, or silent.
        """
        sound = self._recording(sample_rate, samples)
        if self.iterations:
            sound = spliced(sound, self.part, self.iterations, seed=self._seed)
        return pad(finished(sound), (0, samples - len(sound)))

    @cached_property
    def part(self) -> Part:
        """The part that is replaced in the spliced twin; the same for both twins."""
        return chosen_part(self._recording(RATE, SAMPLES), self.kind, seed=self._seed)

    @property
    def key(self) -> list[str | int | float]:
        """What the clip depends on besides the rate and the length, for the key of a cache entry."""
        settings = (N_FFT, FADE, LEVEL, *SHARES, LOWEST, HIGHEST, WIDTH, PLACES, FAINT, CROSS_FADE, SLOPE)
        return [*super().key, self.kind, self.iterations, *settings]

    @property
    def _seed(self) -> int:
        return crc32(self.path.stem.encode())

    def _recording(self, sample_rate: int, samples: int) -> Tensor:
        sound = read_resampled(self.path, sample_rate)[:samples]  # without padding: the vocoder must not see zeros
        if len(sound) <= N_FFT:
            raise ValueError(f"expected a recording of more than {N_FFT} samples, but {self.path} has {len(sound)}")
        if sound.min() == sound.max():
            raise ValueError(f"expected a recording with sound in it, but {self.path} is silent")
        return sound - sound.mean()


def read_spliced() -> Task:
    """The task of distinguishing real digits from digits of which a part is vocoded.

    The clips of a split are pairs of twins, the real one first. `Task.schemes` tells what kind of part a clip has.

    Raises:
        FileNotFoundError: the recordings are not there.

    Example:
        >>> from benchmarks.tasks.spliced import read_spliced
        >>> task = read_spliced()  # doctest: +SKIP
        >>> task.classes, task.twin(6), task.schemes(7)  # doctest: +SKIP
        (('real', 'spliced'), 7, ('time',))
    """
    folder = data_folder("fsdd", "{digit}_{speaker}_{take}.wav")
    twins = [twin for path in sorted(folder.glob("*.wav")) for twin in _twins(path)]
    task = recorded_task("spliced", CLASSES, twins, LOG_MEL, SAMPLES)
    tested = [twin for twin in twins if twin.split == "test"]
    return replace(task, truth=_truth(tested), twin=other_twin, schemes=lambda index: SCHEMES[tested[index].kind])


def chosen_part(sound: Tensor, kind: Kind, *, seed: int) -> Part:
    """The first of `PLACES` random parts of a recording that is not faint, see `FAINT`.

    Args:
        sound: waveform (sample,).
        kind: whether the part is a stretch of time, a band of frequencies, or a rectangle of both.
        seed: seed of the places; the global random state does not change.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = [_random_part(len(sound), kind, torch.rand(3, generator=generator).tolist()) for _ in range(PLACES)]
    powers = [part.of(sound).square().sum().item() / (part.end - part.start) for part in parts]
    return next(part for part, power in zip(parts, powers, strict=True) if power >= max(powers) * 10 ** (-FAINT / 10))


def spliced(sound: Tensor, part: Part, iterations: int, *, seed: int) -> Tensor:
    """A sound of which one part is vocoded; the part keeps its energy.

    Args:
        sound: waveform (sample,) with more than `benchmarks.tasks.vocoded.N_FFT` samples.
        part: what is replaced.
        iterations: number of iterations of the vocoder.
        seed: seed of the vocoder.

    Returns:
        Tensor (sample,): `sound − part of sound + gain · part of the vocoded sound`.
    """
    before = part.of(sound)
    after = part.of(vocoded(sound, iterations, seed=seed))
    gain = (before.square().sum() / after.square().sum()).sqrt()
    return (sound.double() - before + gain * after).to(sound)


def _random_part(samples: int, kind: Kind, draws: list[float]) -> Part:
    """A part, by three random numbers in [0, 1): of its length, its start and its band."""
    if kind == "band":
        start = 0
        end = samples
    else:
        length = round(samples * (SHARES[0] + (SHARES[1] - SHARES[0]) * draws[0]))
        start = round(draws[1] * (samples - length))
        end = start + length
    if kind == "time":
        return Part(start, end)
    lowest, highest = to_mel(torch.tensor([LOWEST, HIGHEST], dtype=torch.float64), "htk").tolist()
    width = WIDTH * (highest - lowest)
    low = lowest + draws[2] * (highest - lowest - width)
    return Part(start, end, *from_mel(torch.tensor([low, low + width], dtype=torch.float64), "htk").tolist())


def _twins(path: Path) -> list[SplicedTwin]:
    """Both clips of a recording; none if its take belongs to no split."""
    digit, _, take = path.stem.split("_")
    split: Split
    if int(take) in TEST_TAKES:
        split = "test"
        takes = TEST_TAKES
    elif int(take) in TRAIN_TAKES:
        split = "train"
        takes = TRAIN_TAKES
    else:
        return []
    # Each pair of a kind and a number of iterations is equally frequent in a split, or nearly so.
    number = int(digit) * len(takes) + takes.index(int(take))
    kind = list(SCHEMES)[number % len(SCHEMES)]
    iterations = ITERATIONS[number // len(SCHEMES) % len(ITERATIONS)]
    return [SplicedTwin(path, label, split, kind, count) for label, count in enumerate((0, iterations))]


def _truth(twins: list[SplicedTwin]) -> Callable[[int], Tensor]:
    """The truth of the task, a function from the index of a test clip to a bool mask (mel, frame).

    For a spliced clip, these are the bins whose centre lies in the part. For a real clip there are none.
    """
    axes = LOG_MEL.axes

    def truth(index: int) -> Tensor:
        twin = twins[index]
        hertz = axes.bin_centres
        seconds = axes.frame_centres(SAMPLES // LOG_MEL.hop + 1)
        part = twin.part
        rows = (hertz >= part.low) & (hertz <= part.high)
        columns = (seconds >= part.start / RATE) & (seconds <= part.end / RATE)
        return rows[:, None] & columns & (twin.iterations > 0)

    return truth


def _smooth(ramp: Tensor) -> Tensor:
    """A ramp from 0 to 1 as the square of a sine, which has no corners."""
    return torch.sin(torch.pi / 2 * ramp.clamp(0, 1)) ** 2
