"""Vocoded digits: recordings of the Free Spoken Digit Dataset, and the same recordings made from their magnitudes.

Every recording gives a *real* clip and its *vocoded* twin, which has the magnitudes of the recording's short-time
Fourier transform and the phases that the Griffin–Lim algorithm reconstructs from a random start. The task is to detect
vocoded speech, and it is known where the twins differ.

Nothing but the vocoder distinguishes the classes. Both twins are made of the same samples. The vocoder processes the
recording only; the zeros after it are added later. Both twins get the same mean, fades, power and 16-bit steps. The
real clip needs no synthesis: with the recording's phases, the inverse transform returns the recording exactly, up to
its edges.

Two choices are based on measurements. The magnitudes are linear: with 80 mel bands in between, which blur the
harmonics, the reference CNN made no error after training on 1,000 clips. The vocoder's frames overlap by half, not by
the usual three quarters: with more overlap, 64 iterations leave a difference in 1% of the bins of the log-mels instead
of 6%.

The remaining differences are caused by the vocoder: noise and beats between the harmonics and between the frames, and,
not visible in log-mels, peaks that are slightly lower (by 6% in the median) and symmetric around zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.transforms import GriffinLim, Spectrogram

from benchmarks.tasks.digits import LOG_MEL, SAMPLES
from benchmarks.tasks.recorded_task import Recording, data_folder, read_resampled, recorded_task
from benchmarks.tasks.task import Split, Task

CLASSES = ("real", "vocoded")
ITERATIONS = (4, 16, 64)  # numbers of Griffin–Lim iterations, used in turn
TEST_TAKES = range(5)  # takes of each digit and speaker in the usual test split
TRAIN_TAKES = range(5, 25)  # with their twins they are as many clips as in the other tasks
N_FFT = 512  # length of the vocoder's Fourier transform in samples, 64 ms
HOP = 256  # samples from one frame of the vocoder to the next, 32 ms
FADE = 40  # samples of the fade at either end, 5 ms
LEVEL = 0.05  # root mean square of every recording, before the zeros after it
TRUTH_DIFFERENCE = 3.0  # smallest difference of the twins that counts, in dB: a factor of two in power
TRUTH_RANGE = 40.0  # a bin counts as audible down to this level below the maximum of both twins, in dB


@dataclass(frozen=True)
class Twin(Recording):
    """One of the two clips that are made of a recording.

    Attributes:
        iterations: number of Griffin–Lim iterations; 0 for the real clip.
    """

    iterations: int

    def waveform(self, sample_rate: int, samples: int) -> Tensor:
        """The waveform of the clip, float32 (sample,), with zeros after it.

        Raises:
            ValueError: the recording is too short for the vocoder, or silent.
        """
        sound = read_resampled(self.path, sample_rate)[:samples]  # without padding: the vocoder must not see zeros
        if len(sound) <= N_FFT:
            raise ValueError(f"expected a recording of more than {N_FFT} samples, but {self.path} has {len(sound)}")
        if sound.min() == sound.max():
            raise ValueError(f"expected a recording with sound in it, but {self.path} is silent")
        sound = sound - sound.mean()
        if self.iterations:
            sound = vocoded(sound, self.iterations, seed=crc32(self.path.stem.encode()))
        return pad(finished(sound), (0, samples - len(sound)))

    @property
    def key(self) -> list[str | int | float]:
        """What the clip depends on besides the rate and the length, for the key of a cache entry."""
        return [*super().key, self.iterations, N_FFT, HOP, FADE, LEVEL]


def read_vocoded() -> Task:
    """The task of distinguishing real from vocoded digits.

    The clips of a split are pairs of twins, the real one first.

    Raises:
        FileNotFoundError: the recordings are not there.

    Example:
        >>> from benchmarks.tasks.vocoded import read_vocoded
        >>> task = read_vocoded()  # doctest: +SKIP
        >>> task.classes, task.twin(6)  # doctest: +SKIP
        (('real', 'vocoded'), 7)
    """
    folder = data_folder("fsdd", "{digit}_{speaker}_{take}.wav")
    twins = [twin for path in sorted(folder.glob("*.wav")) for twin in _twins(path)]
    task = recorded_task("vocoded", CLASSES, twins, LOG_MEL, SAMPLES)
    return replace(task, truth=_truth(task), twin=other_twin)


def vocoded(sound: Tensor, iterations: int, *, seed: int) -> Tensor:
    """A sound with the magnitudes of the given one, reconstructed by Griffin–Lim (torchaudio's, with momentum 0.99).

    During the reconstruction the sound is continued at both ends by its mirror image. Without that, fewer frames
    overlap at the ends, and the result is too loud there (by 4 dB in the last 8 ms): that would show where a clip was
    cut, not that it was vocoded. The length of the continuation at the beginning is random, so that the positions of
    the vocoder's frames in the clip do not identify vocoded clips either.

    Args:
        sound: waveform (sample,) with more than `N_FFT` samples.
        iterations: number of iterations; with more, the magnitudes come closer to those of the sound.
        seed: seed of the positions of the frames and of the initial phases; the global random state does not change.

    Returns:
        Tensor (sample,) of the same length.

    Source: Griffin and Lim, Signal estimation from modified short-time Fourier transform, 1984; Perraudin, Balazs and
    Søndergaard, A fast Griffin-Lim algorithm, 2013.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        before = N_FFT // 2 + int(torch.randint(HOP, ()))
        margined = pad(sound[None], (before, N_FFT), mode="reflect")  # (sample,) → (1, sample)
        power = Spectrogram(N_FFT, hop_length=HOP)(margined)
        reconstructed = GriffinLim(N_FFT, n_iter=iterations, hop_length=HOP, length=margined.shape[1])(power)
    return reconstructed[0, before : before + len(sound)]


def finished(sound: Tensor) -> Tensor:
    """The sound (sample,) with mean 0, a fade at either end, the root mean square `LEVEL`, and the steps of 16 bits."""
    ramp = torch.sin(torch.linspace(0, torch.pi / 2, FADE)) ** 2
    gain = torch.cat([ramp, torch.ones(len(sound) - 2 * FADE), ramp.flip(0)])
    sound = gain * (sound - (gain * sound).sum() / gain.sum())
    steps = 2**15 * LEVEL * sound / sound.square().mean().sqrt()
    return steps.round().clamp(-(2**15), 2**15 - 1) / 2**15


def difference(task: Task, index: int) -> Tensor:
    """The effect of the vocoder: the log-mel of the vocoded clip minus that of its real twin, in dB, (mel, frame).

    Args:
        task: the task that `read_vocoded` returns.
        index: index of one of the twins in the test split; the result is the same for both.
    """
    real, synthetic = _pair(task, index)
    return synthetic - real


def other_twin(index: int) -> int:
    """The index of the other clip of a recording.

    Example:
        >>> from benchmarks.tasks.vocoded import other_twin
        >>> other_twin(6), other_twin(7)
        (7, 6)
    """
    return index ^ 1  # pairs begin at even indices


def _twins(path: Path) -> list[Twin]:
    """Both clips of a recording; none if its take belongs to no split."""
    digit, _, take = path.stem.split("_")
    split: Split
    if int(take) in TEST_TAKES:
        split = "test"
    elif int(take) in TRAIN_TAKES:
        split = "train"
    else:
        return []
    # Each number of iterations is equally frequent among the takes of a digit and among the digits of a take.
    iterations = ITERATIONS[(int(digit) + int(take)) % len(ITERATIONS)]
    return [Twin(path, label, split, count) for label, count in enumerate((0, iterations))]


def _pair(task: Task, index: int) -> tuple[Tensor, Tensor]:
    """Log-mels of the real and the vocoded twin in dB, each (mel, frame)."""
    real, synthetic = task.normalisation.decibels(task.test.log_mels[sorted((index, other_twin(index))), 0])
    return real, synthetic


def _truth(task: Task) -> Callable[[int], Tensor]:
    """The truth of the task, a function from the index of a test clip to a bool mask (mel, frame).

    For a vocoded clip, these are the bins that differ and are audible in at least one of the twins. For a real clip
    there are none, since it was not changed.
    """

    def truth(index: int) -> Tensor:
        real, synthetic = _pair(task, index)
        louder = torch.maximum(real, synthetic)
        audible = louder > louder.max() - TRUTH_RANGE
        changed = ((synthetic - real).abs() > TRUTH_DIFFERENCE) & audible
        return changed & (task.test.labels[index] == CLASSES.index("vocoded"))

    return truth
