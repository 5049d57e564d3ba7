"""What a task is: clips as log-mel spectrograms and as waveforms, with their labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchaudio.transforms import MelSpectrogram

from benchmarks.cache import cached_tensors
from captum_apex.audio.axes import SpectrogramAxes

Split = Literal["train", "test"]
Level = TypeVar("Level", float, Tensor)
SPLITS: tuple[Split, Split] = ("train", "test")
LARGEST_ROUNDING = 0.01  # dB; a stored clip that differs by more is another one


class ClipDataset(Dataset[tuple[Tensor, int]]):
    """A map-style dataset in memory; item `i` is a log-mel (1, mel, frame) in float32 and its label.

    Args:
        log_mels: normalised log-mels, float32 (clip, 1, mel, frame).
        labels: index of the class of each clip, int64 (clip,).

    Raises:
        ValueError: the numbers of clips and labels differ.

    Example:
        >>> import torch
        >>> from benchmarks.tasks import ClipDataset
        >>> ClipDataset(torch.zeros(2, 1, 1, 3), torch.tensor([0, 1]))[1]
        (tensor([[[0., 0., 0.]]]), 1)
    """

    def __init__(self, log_mels: Tensor, labels: Tensor) -> None:
        if len(log_mels) != len(labels):
            raise ValueError(f"expected one label per clip, but got {len(labels)} labels for {len(log_mels)} clips")
        self.log_mels = log_mels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.log_mels[index], int(self.labels[index])

    def fingerprint(self) -> str:
        """A digest of all values and labels, for the key of a cache entry."""
        digest = hashlib.sha256(str(tuple(self.log_mels.shape)).encode())
        for tensor in (self.log_mels, self.labels):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class LogMel:
    """The transform from waveforms to log-mel spectrograms in dB, above an absolute floor.

    The floor is absolute, unlike torchaudio's `top_db`, which is relative to the maximum of each clip: so silence has
    the same value in every clip.

    Attributes:
        sample_rate: sample rate of the waveforms in Hz.
        n_fft: length of the Fourier transform in samples; the window is padded with zeros to it.
        window: length of the Hann window in samples.
        hop: number of samples from one frame to the next.
        lowest: lower edge of the first band in Hz; the last band ends at half the sample rate.
        floor: smallest level in dB, relative to a power of 1.
        bands: number of mel bands.

    Example:
        >>> import torch
        >>> from benchmarks.tasks.task import LogMel
        >>> log_mel = LogMel(8000, n_fft=512, window=256, hop=64, lowest=50.0, floor=-60.0)
        >>> log_mel.floored(torch.tensor([100.0, 0.0]))
        tensor([ 20., -60.])
    """

    sample_rate: int
    n_fft: int
    window: int
    hop: int
    lowest: float
    floor: float
    bands: int = 64

    @property
    def transform(self) -> MelSpectrogram:
        """The transform from waveforms to mel power spectrograms, before the logarithm."""
        return MelSpectrogram(
            self.sample_rate, self.n_fft, self.window, self.hop, f_min=self.lowest, n_mels=self.bands, power=2.0
        )

    @property
    def axes(self) -> SpectrogramAxes:
        """The axes of the log-mels, in Hz and seconds."""
        return SpectrogramAxes.from_transform(self.transform)

    @property
    def key(self) -> dict[str, float]:
        """All parameters, for the key of a cache entry."""
        return asdict(self)

    def decibels(self, batches: Iterable[Tensor]) -> Tensor:
        """Log-mels in dB, at least `floor`: batches of waveforms (clip, sample) → (clip, 1, mel, frame)."""
        transform = self.transform
        with torch.no_grad():
            return torch.cat([self.floored(transform(batch)) for batch in batches])[:, None]

    def floored(self, power: Tensor) -> Tensor:
        """Power in dB, at least `floor`, of the same shape."""
        return 10 * power.clamp_min(10 ** (self.floor / 10)).log10()


def cached_decibels(
    kind: str, key: Mapping[str, Any], log_mel: LogMel, waveform: Callable[[int], Tensor], n_clips: int
) -> Tensor:
    """Log-mels before normalisation, from the cache if it has them.

    The first and the last clip of the cache are compared with those that are made now: a key that lacks something that
    the clips depend on, or a recording that was replaced, would give other clips without a word.

    Args:
        kind: name of a sub-folder of the cache.
        key: everything that the waveforms depend on, of types that JSON can write.
        log_mel: the transform from waveforms to log-mels.
        waveform: function from the index of a clip to its waveform, float32 (sample,).
        n_clips: number of clips.

    Returns:
        Levels in dB, (clip, 1, mel, frame).
    """

    def check(tensors: dict[str, Tensor]) -> None:
        for index in {0, n_clips - 1}:
            stored = tensors["decibels"][index]
            made = log_mel.decibels([waveform(index)[None]])[0]
            if stored.shape != made.shape or not torch.allclose(stored, made, atol=LARGEST_ROUNDING):
                raise ValueError(f"its clip {index} is not the one that is made now")

    def make() -> dict[str, Tensor]:
        return {"decibels": log_mel.decibels(waveform(index)[None] for index in range(n_clips))}

    whole = {**key, "clips": n_clips, "log_mel": log_mel.key}
    return cached_tensors(kind, whole, make, check=check)["decibels"]


@dataclass(frozen=True)
class Normalisation:
    """The affine map from dB that gives the training split the mean 0 and the standard deviation 1.

    Attributes:
        mean: mean of the training split in dB.
        std: standard deviation of the training split in dB.

    Example:
        >>> import torch
        >>> from benchmarks.tasks.task import Normalisation
        >>> normalise = Normalisation.of(torch.tensor([-30.0, -20.0, -10.0]))
        >>> normalise(-10.0)
        1.0
    """

    mean: float
    std: float

    @classmethod
    def of(cls, decibels: Tensor) -> Normalisation:
        """The normalisation by the mean and standard deviation of all bins of these clips, in dB."""
        return cls(decibels.mean(dtype=torch.float64).item(), decibels.std().item())

    def __call__(self, decibels: Level) -> Level:
        """Normalised values of a number or a tensor in dB."""
        return (decibels - self.mean) / self.std

    def decibels(self, log_mels: Tensor) -> Tensor:
        """The values of normalised log-mels in dB."""
        return log_mels * self.std + self.mean


@dataclass(frozen=True)
class Task:
    """Labelled clips in a training and a test split, and what is known about them.

    Attributes:
        name: name of the task, such as "scenes".
        classes: name of each class, in the order of the labels.
        sample_rate: sample rate of the waveforms in Hz.
        log_mel: the transform from waveforms to log-mels in dB.
        normalisation: the map from dB to the values of the clips.
        silence: value of a bin at the dB floor after normalisation.
        train: the training clips; their mean and standard deviation normalise both splits.
        test: the test clips; none has a source in common with a training clip.
        waveform: function from a split and an index to the waveform of the clip, float32 (sample,).
        truth: function from the index of a test clip to the bins on which its class event lies (of a clip with a twin:
            on which the two differ), bool (mel, frame); None if they are unknown for all clips. If no bin is True, they
            are unknown for this clip: it is left out wherever a map is compared with the truth.
        schemes: function from the index of a test clip to the names of the schemes that its class event is made for;
            None if they are unknown.
        twin: function from the index of a clip to the index of the clip of the same split that is the same sound in
            another class, and differs from it only in what makes the class; None if clips have no twins.
        segments: function from the index of a test clip to the times in seconds at which it is divided, such as the
            ends of its words, for the region grids `segments` and `segment-means`; None if they are unknown.
        band_shares: how much of each mel band lies on each bin of the clips' frequency axis, (bin, band); None if the
            bins are the mel bands.

    Example:
        >>> from benchmarks.tasks import load_task
        >>> task = load_task("scenes")  # doctest: +SKIP
        >>> task.test[0][0].shape, task.classes[task.test[0][1]]  # doctest: +SKIP
        (torch.Size([1, 64, 126]), 'rising chirp')
    """

    name: str
    classes: tuple[str, ...]
    sample_rate: int
    log_mel: LogMel
    normalisation: Normalisation
    silence: float
    train: ClipDataset
    test: ClipDataset
    waveform: Callable[[Split, int], Tensor]
    truth: Callable[[int], Tensor] | None = None
    schemes: Callable[[int], Collection[str]] | None = None
    twin: Callable[[int], int] | None = None
    segments: Callable[[int], Sequence[float]] | None = None
    band_shares: Tensor | None = None

    @property
    def axes(self) -> SpectrogramAxes:
        """The axes of the log-mels, in Hz and seconds."""
        return self.log_mel.axes
