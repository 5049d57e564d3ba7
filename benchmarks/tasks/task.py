"""What a task is: clips as log-mel spectrograms with their labels, and how to hear them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchaudio.transforms import MelSpectrogram

from captum_apex.audio.axes import SpectrogramAxes

Split = Literal["train", "test"]
Level = TypeVar("Level", float, Tensor)
SPLITS: tuple[Split, Split] = ("train", "test")


class ClipDataset(Dataset[tuple[Tensor, int]]):
    """A map-style dataset in memory; item `i` is a log-mel (1, mel, frame) in float32 and its label.

    Args:
        log_mels: shape (clip, 1, mel, frame), normalised.
        labels: shape (clip,), int64.
    """

    def __init__(self, log_mels: Tensor, labels: Tensor) -> None:
        if len(log_mels) != len(labels):
            raise ValueError(f"expected one label per clip, got {len(labels)} labels for {len(log_mels)} clips")
        self.log_mels = log_mels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.log_mels[index], int(self.labels[index])

    def fingerprint(self) -> str:
        """Changes when a value or a label does; to name a cache entry by."""
        digest = hashlib.sha256(str(tuple(self.log_mels.shape)).encode())
        for tensor in (self.log_mels, self.labels):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class LogMel:
    """Waveforms to log-mel spectrograms in dB, above an absolute floor.

    The floor is absolute, unlike torchaudio's `top_db`, which lies a fixed distance below each clip's own maximum: so
    silence is the same value in every clip.

    Attributes:
        sample_rate: in Hz.
        n_fft: length of the Fourier transform in samples, the window padded with zeros to it.
        window: length of the Hann window in samples.
        hop: samples from one frame to the next.
        lowest: lower edge of the first band in Hz; the last band ends at half the sample rate.
        floor: in dB re a power of 1.
        bands: number of mel bands.
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
        """The mel power spectrogram that the decibels are taken of."""
        return MelSpectrogram(
            self.sample_rate, self.n_fft, self.window, self.hop, f_min=self.lowest, n_mels=self.bands, power=2.0
        )

    @property
    def axes(self) -> SpectrogramAxes:
        """Mel bands and frames in Hz and seconds."""
        return SpectrogramAxes.from_transform(self.transform)

    @property
    def key(self) -> dict[str, float]:
        """All parameters, to name a cache entry by."""
        return asdict(self)

    def decibels(self, batches: Iterable[Tensor]) -> Tensor:
        """Batches of waveforms (clip, sample) → dB, shape (clip, 1, mel, frame), at least `floor`."""
        transform = self.transform
        with torch.no_grad():
            return torch.cat([self.floored(transform(batch)) for batch in batches])[:, None]

    def floored(self, power: Tensor) -> Tensor:
        """Power in dB, at least `floor`."""
        return 10 * power.clamp_min(10 ** (self.floor / 10)).log10()


@dataclass(frozen=True)
class Normalisation:
    """The affine map from dB that gives the training part mean 0 and standard deviation 1."""

    mean: float
    std: float

    @classmethod
    def of(cls, decibels: Tensor) -> Normalisation:
        """The mean and standard deviation over all bins of all clips given, in dB."""
        return cls(decibels.mean(dtype=torch.float64).item(), decibels.std().item())

    def __call__(self, decibels: Level) -> Level:
        """From dB; a number or a tensor."""
        return (decibels - self.mean) / self.std

    def decibels(self, log_mels: Tensor) -> Tensor:
        """Back to dB."""
        return log_mels * self.std + self.mean


@dataclass(frozen=True)
class Task:
    """Labelled clips in a training and a test part, and what is known about them.

    Attributes:
        name: "scenes", "digits", "environment" or "vocoded".
        classes: the name of each label.
        sample_rate: of the waveforms, in Hz.
        log_mel: how the waveforms become the clips.
        normalisation: between dB and the values of the clips.
        silence: what a bin at the dB floor is after normalisation.
        train: the clips to learn from; their mean and standard deviation normalise both parts.
        test: the clips to judge with; no source of a training clip is among them.
        waveform: split and index to the clip as it sounds, float32 of shape (sample,).
        truth: test index to a bool mask (mel, frame) of where the evidence lies; None where nobody knows. A mask without any bin set
            says that for this clip alone nobody does: such a clip is left out wherever a map is held against the truth.
        perspectives: for each class the scheme that its evidence is made for; empty where nobody knows.
        twin: test index to the test index of the same sound in another class, what differs between the two being all that the class
            decides; None where clips have no twins.
        band_shares: how much of each mel band lies on each bin of the clips' frequency axis, (bin, band); None where these are the same.
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
    perspectives: Mapping[str, str] = field(default_factory=dict)
    twin: Callable[[int], int] | None = None
    band_shares: Tensor | None = None

    @property
    def axes(self) -> SpectrogramAxes:
        """Mel bands and frames in Hz and seconds."""
        return self.log_mel.axes
