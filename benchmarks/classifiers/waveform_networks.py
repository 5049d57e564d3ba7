"""The reference classifiers with their spectrogram inside: they hear waveforms, and are explained and masked on the clips' spectra."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.tasks import ClipDataset, Split, Task
from benchmarks.tasks.task import LogMel, Normalisation
from captum_apex import SpectrogramAxes
from captum_apex.spectra import InverseSTFT

ENDING = "-waveform"
WAVEFORM_NETWORKS = tuple(f"{network}{ENDING}" for network in NETWORKS)


class LogMelInside(nn.Module):
    """Waveforms (clip, sample) → the log-mels (clip, 1, mel, frame) that a task's classifiers are trained on."""

    def __init__(self, log_mel: LogMel, normalise: Normalisation) -> None:
        super().__init__()
        self.transform = log_mel.transform
        self.log_mel, self.normalise = log_mel, normalise

    def forward(self, waveforms: Tensor) -> Tensor:
        """Waveforms → normalised log-mels."""
        return self.normalise(self.log_mel.floored(self.transform(waveforms)))[:, None]


class Spectra(ClipDataset):
    """The clips of one part of a task as spectra, (2, frequency, time), made when they are asked for."""

    def __init__(self, task: Task, split: Split) -> None:
        clips: ClipDataset = getattr(task, split)
        super().__init__(clips.log_mels, clips.labels)
        self._waveform, self._split, self._inverse = task.waveform, split, inverse_of(task)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._inverse.spectra(self._waveform(self._split, index)[None])[0], int(self.labels[index])

    def fingerprint(self) -> str:
        """That of the log-mels, which are of the same sounds."""
        return f"spectra {super().fingerprint()}"


def inverse_of(task: Task) -> InverseSTFT:
    """The inverse of the Fourier transform that the task's own log-mels begin with, so that a frame is the same time in both."""
    log_mel = task.log_mel
    return InverseSTFT(len(task.waveform("train", 0)), log_mel.n_fft, log_mel.hop, log_mel.window)


def waveform_task(task: Task) -> Task:
    """The same task, its clips as spectra.

    The truth lies on every bin that a band of it touches. What the scenes were made for is left out: the table that needs it asks about
    the layer's cells, which are those of the log-mels.
    """
    log_mel, known = task.log_mel, task.truth
    shares = SpectrogramAxes(log_mel.sample_rate, log_mel.n_fft, log_mel.hop).shares_of(task.axes)
    return replace(
        task,
        silence=0.0,
        train=Spectra(task, "train"),
        test=Spectra(task, "test"),
        truth=None if known is None else lambda index: on_bins(known(index), shares),
        perspectives={},
        band_shares=shares,
    )


def waveform_model(task: Task, network: nn.Module) -> nn.Module:
    """Spectra → waveforms → log-mels → logits; the network is the task's own, and so are its logits."""
    front = nn.Sequential(inverse_of(task), LogMelInside(task.log_mel, task.normalisation)).to(
        next(network.parameters()).device
    )
    return nn.Sequential(*front, network).eval()


def on_bins(masks: Tensor, band_shares: Tensor) -> Tensor:
    """Masks over mel bands on the bins that they touch: bool (..., band, time) → (..., bin, time)."""
    return band_shares @ masks.to(band_shares) > 0
