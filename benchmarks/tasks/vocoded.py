"""Vocoded digits: recordings of the Free Spoken Digit Dataset, and the same recordings re-synthesised from their magnitudes alone.

Every recording gives a *real* clip and its *vocoded* twin: the magnitudes of its short-time Fourier transform, with phases that
Griffin–Lim finds again from a random start. So a detector of vocoded speech is asked for, and where the two twins differ is measured.

Nothing but the vocoder tells the classes apart. Both twins come from the same samples; the vocoder sees the recording only, and the
zeros behind it are added afterwards; both are brought to the same mean, the same fades, the same power and 16 bits. No
re-synthesis of the real clip with its own phases is needed beside that: the transform's inverse gives the recording back, to its edges.

Two choices were measured. The magnitudes are linear: with 80 mel bands in between, which smear the harmonics, 1,000 clips taught the
reference CNN to make no error at all. And the vocoder's frames overlap by half, not by the usual three quarters: with more overlap the
twins grow alike, after 64 iterations all but 1% of the log-mel's bins, against 6% that still differ.

What is left is the vocoder's own doing: noise and beats between the harmonics and between the frames; and, where no log-mel shows it,
peaks that are a little lower (by 6% in the median) and as high on one side as on the other.
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
from benchmarks.tasks.recorded_task import Recording, data_folder, excerpt, lengthened, recorded_task
from benchmarks.tasks.task import Split, Task

CLASSES = ("real", "vocoded")
ITERATIONS = (4, 16, 64)  # of Griffin–Lim, taken in turn
TEST_TAKES = range(5)  # of each digit and speaker, the customary test part
TRAIN_TAKES = range(5, 25)  # with their twins they are as many clips as the other tasks have
N_FFT, HOP = 512, 256  # of the vocoder, in samples: 64 ms and 32 ms
FADE = 40  # samples, 5 ms, at either end
LEVEL = 0.05  # root mean square of every recording, before the zeros behind it
TRUTH_DIFFERENCE = 3.0  # dB: a factor of two in power
TRUTH_RANGE = 40.0  # dB below the maximum of the two twins that still count as audible


@dataclass(frozen=True)
class Twin(Recording):
    """One of the two clips that are made of a recording.

    Attributes:
        iterations: of Griffin–Lim; 0 for the real one.
    """

    iterations: int

    def waveform(self, sample_rate: int, samples: int) -> Tensor:
        """The clip as it sounds, float32 of shape (sample,), zeros behind it.

        Raises:
            ValueError: the recording is too short for the vocoder, or silent.
        """
        sound = excerpt(self.path, sample_rate, samples)
        if len(sound) <= N_FFT:
            raise ValueError(f"expected a recording of more than {N_FFT} samples, but {self.path} has {len(sound)}")
        if sound.min() == sound.max():
            raise ValueError(f"expected a recording with sound in it, but {self.path} is silent")
        sound = sound - sound.mean()
        if self.iterations:
            sound = vocoded(sound, self.iterations, seed=crc32(self.path.stem.encode()))
        return lengthened(finished(sound), samples)

    @property
    def key(self) -> list[str | int | float]:
        """What the clip depends on, beside the rate and the length, to name a cache entry by."""
        return [*super().key, self.iterations, N_FFT, HOP, FADE, LEVEL]


def read_vocoded() -> Task:
    """The task of telling real from vocoded digits.

    The clips of a part come in pairs, the real one first, and both twins are always in the same part.

    Raises:
        FileNotFoundError: the recordings are not there.
    """
    folder = data_folder("fsdd", "{digit}_{speaker}_{take}.wav")
    task = recorded_task(
        "vocoded", CLASSES, [twin for path in sorted(folder.glob("*.wav")) for twin in _twins(path)], LOG_MEL, SAMPLES
    )
    return replace(task, truth=_truth(task), twin=_other)


def vocoded(sound: Tensor, iterations: int, *, seed: int) -> Tensor:
    """The sound that Griffin–Lim finds for a sound's magnitudes (torchaudio's, with momentum 0.99).

    While it is found, the sound goes on beyond either end, mirrored: at a real end fewer frames overlap, and what is found is too loud
    (by 4 dB in the last 8 ms), which is a sign of where a clip was cut, not of the vocoder. How far it goes on before the beginning is
    random, so that the vocoder's frames begin anywhere, and their places in the clip are no sign either.

    Args:
        sound: shape (sample,), more than `N_FFT` of them.
        iterations: the more, the closer the magnitudes of what is found come to those that were given.
        seed: of the frames' places and of the phases that it begins with; the global random state is left alone.

    Returns:
        Tensor of shape (sample,).

    Source: Griffin and Lim, Signal estimation from modified short-time Fourier transform, 1984; Perraudin, Balazs and Søndergaard,
    A fast Griffin-Lim algorithm, 2013.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        before = N_FFT // 2 + int(torch.randint(HOP, ()))
        margined = pad(sound[None], (before, N_FFT), mode="reflect")  # (sample,) → (1, sample)
        power = Spectrogram(N_FFT, hop_length=HOP)(margined)
        found = GriffinLim(N_FFT, n_iter=iterations, hop_length=HOP, length=margined.shape[1])(power)
    return found[0, before : before + len(sound)]


def finished(sound: Tensor) -> Tensor:
    """The sound as every clip of both classes has it: mean 0, faded in and out, at `LEVEL`, in the steps of 16 bits; (sample,)."""
    ramp = torch.sin(torch.linspace(0, torch.pi / 2, FADE)) ** 2
    gain = torch.cat([ramp, torch.ones(len(sound) - 2 * FADE), ramp.flip(0)])
    sound = gain * (sound - (gain * sound).sum() / gain.sum())
    steps = 2**15 * LEVEL * sound / sound.square().mean().sqrt()
    return steps.round().clamp(-(2**15), 2**15 - 1) / 2**15


def difference(task: Task, index: int) -> Tensor:
    """What the vocoder did: the vocoded clip's log-mel less its real twin's, in dB, shape (mel, frame); the same for both twins.

    Args:
        task: made by `read_vocoded`.
        index: of either twin, in the test part.
    """
    real, fake = _pair(task, index)
    return fake - real


def _twins(path: Path) -> list[Twin]:
    """Both clips of a recording; none where its take is in neither part."""
    digit, _, take = path.stem.split("_")
    split: Split
    if int(take) in TEST_TAKES:
        split = "test"
    elif int(take) in TRAIN_TAKES:
        split = "train"
    else:
        return []
    iterations = ITERATIONS[
        (int(digit) + int(take)) % len(ITERATIONS)
    ]  # as many of each among the takes of a digit as among its digits
    return [Twin(path, label, split, count) for label, count in enumerate((0, iterations))]


def _other(index: int) -> int:
    return index ^ 1  # pairs begin at even places


def _pair(task: Task, index: int) -> tuple[Tensor, Tensor]:
    """Log-mels of the real and the vocoded twin in dB, each (mel, frame)."""
    real, fake = task.normalisation.decibels(task.test.log_mels[sorted((index, _other(index))), 0])
    return real, fake


def _truth(task: Task) -> Callable[[int], Tensor]:
    """For a vocoded clip the bins that are audible in one twin or the other, and differ; for a real one none: nothing was done to it."""

    def truth(index: int) -> Tensor:
        real, fake = _pair(task, index)
        louder = torch.maximum(real, fake)
        found = ((fake - real).abs() > TRUTH_DIFFERENCE) & (louder > louder.max() - TRUTH_RANGE)
        return found & (task.test.labels[index] == CLASSES.index("vocoded"))

    return truth
