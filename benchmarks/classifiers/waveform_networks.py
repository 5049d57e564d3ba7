"""The reference classifiers with their log-mels inside: they take waveforms, and the clips' spectra are explained."""

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
    """The log-mels of a task as a module: waveforms (clip, sample) → normalised log-mels (clip, 1, mel, frame).

    Args:
        log_mel: the transform from waveforms to log-mels in dB.
        normalise: the map from dB to the values that the classifiers are trained on.
    """

    def __init__(self, log_mel: LogMel, normalise: Normalisation) -> None:
        super().__init__()
        self.transform = log_mel.transform
        self.log_mel = log_mel
        self.normalise = normalise

    def forward(self, waveforms: Tensor) -> Tensor:
        """Waveforms (clip, sample) → normalised log-mels (clip, 1, mel, frame)."""
        return self.normalise(self.log_mel.floored(self.transform(waveforms)))[:, None]


class Spectra(ClipDataset):
    """The clips of one split of a task as spectra, (2, frequency, time), computed when a clip is read.

    Args:
        task: the task with log-mels.
        split: the split of the task.
    """

    def __init__(self, task: Task, split: Split) -> None:
        clips: ClipDataset = getattr(task, split)
        super().__init__(clips.log_mels, clips.labels)
        self._waveform = task.waveform
        self._split = split
        self._inverse = inverse_of(task)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._inverse.spectra(self._waveform(self._split, index)[None])[0], int(self.labels[index])

    def fingerprint(self) -> str:
        """A digest of the log-mels of the same clips, and of the kind of the inputs."""
        return f"spectra {super().fingerprint()}"


def inverse_of(task: Task) -> InverseSTFT:
    """The inverse of the Fourier transform in the task's log-mels; a frame is at the same time in both."""
    log_mel = task.log_mel
    return InverseSTFT(len(task.waveform("train", 0)), log_mel.n_fft, log_mel.hop, log_mel.window)


def waveform_task(task: Task) -> Task:
    """The same task with its clips as spectra.

    The truth covers every bin that overlaps with a mel band of the truth. `schemes` is None: the table that uses
    it compares cells of the layer, which divide the log-mels.
    """
    log_mel = task.log_mel
    truth = task.truth
    shares = SpectrogramAxes(log_mel.sample_rate, log_mel.n_fft, log_mel.hop).shares_of(task.axes)
    return replace(
        task,
        silence=0.0,
        train=Spectra(task, "train"),
        test=Spectra(task, "test"),
        truth=None if truth is None else lambda index: on_bins(truth(index), shares),
        schemes=None,
        band_shares=shares,
    )


def waveform_model(task: Task, network: nn.Module) -> nn.Module:
    """A model from spectra over waveforms and log-mels to the logits of a network that is trained on the task."""
    front = nn.Sequential(inverse_of(task), LogMelInside(task.log_mel, task.normalisation))
    front.to(next(network.parameters()).device)
    return nn.Sequential(*front, network).eval()


def on_bins(masks: Tensor, band_shares: Tensor) -> Tensor:
    """Masks of mel bands as masks of all bins that overlap with them: bool (..., band, time) → (..., bin, time).

    Args:
        masks: the masks of mel bands.
        band_shares: how much of each mel band lies on each bin, (bin, band).

    Example:
        >>> import torch
        >>> from benchmarks.classifiers.waveform_networks import on_bins
        >>> band_shares = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
        >>> on_bins(torch.tensor([[True], [False]]), band_shares)
        tensor([[ True],
                [ True],
                [False]])
    """
    return band_shares @ masks.to(band_shares) > 0
