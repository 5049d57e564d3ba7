"""BatDetect2: 17 British bats in a map over frequency and time; the weights are for non-commercial use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor
from torchaudio.functional import resample

from benchmarks.published.held_clips import HeldClips
from benchmarks.published.wheels import without
from benchmarks.tasks.recorded_task import data_folder
from captum_apex import Box, Classifier, SelectedOutput, SpectrogramAxes
from captum_apex.recordings import read

RATE = 256_000  # Hz
N_FFT = 512
HOP = 128
COLUMNS = 64  # of the input, of two frames each
SAMPLES = (2 * COLUMNS - 1) * HOP + N_FFT  # 65.5 ms
LOWEST = 10_000.0  # Hz
HIGHEST = 120_000.0  # Hz
SPLIT = 0.3  # s; what lies before is for the prototypes, what lies behind is explained
STEP = 0.008  # s between two windows
STEPS = 32  # columns of which the network takes multiples
SIDES = ("start_times", "end_times", "low_freqs", "high_freqs")  # of a call, in seconds and Hz


class Call(NamedTuple):
    """A box that is published beside a recording: seconds, Hz, and the species."""

    start: float
    end: float
    low: float
    high: float
    species: str


class Window(NamedTuple):
    """A clip of a recording: its name, its begin in seconds, its samples, and the calls that lie inside."""

    name: str
    start: float
    samples: Tensor
    calls: list[Call]

    @property
    def species(self) -> str:
        """The species of the calls, joined by `+`."""
        return "+".join(sorted({call.species for call in self.calls}))


def load() -> Any:
    """The network with its weights; `class_names` are the species."""
    with without("librosa", "librosa.core", "librosa.core.spectrum", "audioread"):
        from batdetect2.utils.detector_utils import load_model
    model, settings = load_model(device=torch.device("cpu"))
    model.class_names = settings["class_names"]
    return model.eval()


def classifier(bats: Any) -> Classifier:
    """The lines that a user writes."""
    axes = SpectrogramAxes(RATE, N_FFT, HOP, f_min=10_500, f_max=120_000, center=False)
    against_background = SelectedOutput(
        bats, lambda output: (output.pred_class_un_norm[:, :-1] - output.pred_class_un_norm[:, -1:]).amax((2, 3))
    )
    return Classifier(
        against_background,  # the largest logit of each species against that of the background
        spectrogram,
        RATE,
        bats.class_names,
        axes.flipped().resized((220, 2 * COLUMNS), (128, COLUMNS)),
        lambda inputs: 20 * inputs[0].clamp_min(0.01).log10(),
        length=SAMPLES,
        layer=bats.conv_op_bn,
        exclusive=False,
    )


def spectrogram(waveform: Tensor) -> Tensor:
    """The input of the network for a window, (1, row, column); see `whole_spectrogram`."""
    return whole_spectrogram(waveform)[..., :COLUMNS]


def whole_spectrogram(waveform: Tensor) -> Tensor:
    """The spectrogram of a sound of any length: (1, row, column), the highest frequency first, from 10 to 120 kHz.

    It is what the package computes by librosa: magnitudes with per-channel energy normalisation (Wang et al. 2017,
    arXiv 1607.05666), less the mean of each row, halved in both directions.
    """
    window = torch.hann_window(N_FFT)
    magnitudes = torch.stft(waveform, N_FFT, HOP, window=window, center=False, return_complex=True).abs()
    rows = magnitudes[20 + 1 : 240 + 1].flip(0).numpy() * 2.0**31
    smoothing = (np.sqrt(1 + 4 * 20**2) - 1) / (2 * 20**2)  # of a time constant of 20 frames
    begin = np.full((len(rows), 1), 1 - smoothing)
    level = lfilter([smoothing], [1, smoothing - 1], rows, zi=begin)[0]
    normalised = np.sqrt(rows / (1e-6 + level) ** 0.98 + 2) - np.sqrt(2)
    cleaned = (normalised - normalised.mean(1, keepdims=True)).clip(0).astype(np.float32)
    size = (128, cleaned.shape[1] // 2)
    return torch.nn.functional.interpolate(torch.from_numpy(cleaned)[None, None], size, mode="bilinear")[0]


def recordings() -> list[tuple[Path, Tensor, list[Call]]]:
    """Each recording with its samples at 256 kHz and its boxes."""
    paths = sorted(data_folder("bats", "{name}.wav").glob("*.wav"))
    return [(path, _samples(path), _calls(path)) for path in paths]


def clips(part: str, n_per_speaker: int = 0) -> HeldClips:
    """Windows of the recordings that begin every 8 ms; the group is the species of the calls that lie inside.

    To explain, only those with a call.
    """
    del n_per_speaker
    kept = [window for window in windows(part) if window.calls or part == "train"]
    return HeldClips(
        [window.samples for window in kept], [window.name for window in kept], [window.species for window in kept]
    )


def likeness(prepared: Classifier, explained: HeldClips, prototypes: HeldClips) -> Tensor:
    """Whether the prototype has a call of the species that the model hears in the clip, 0 or 1, (clip, prototype)."""
    with torch.no_grad():
        scores = prepared.model(torch.stack([spectrogram(waveform) for waveform in explained.waveforms]))
    heard = [prepared.class_names[index] for index in scores.argmax(1).tolist()]
    return torch.tensor([[float(species in other.split("+")) for other in prototypes.groups] for species in heard])


def box_of(call: Call, start: float) -> Box:
    """The box of a call as fractions of the input of a window; the first row is the highest frequency."""
    seconds = 2 * HOP / RATE  # of a column
    first = (N_FFT - HOP) / 2 / RATE  # the first column begins where its first frame's middle half-hop lies
    place = [(time - start - first) / seconds / COLUMNS for time in (call.start, call.end)]
    height = [(HIGHEST - hertz) / (HIGHEST - LOWEST) for hertz in (call.high, call.low)]
    return Box(max(height[0], 0.0), min(height[1], 1.0), max(place[0], 0.0), min(place[1], 1.0))


def windows(part: str) -> Iterator[Window]:
    """The windows of a part of each recording, one every 8 ms."""
    first, last = (0.0, SPLIT) if part == "train" else (SPLIT, 0.5)
    for path, samples, calls in recordings():
        for start in np.arange(first, last - SAMPLES / RATE, STEP).tolist():
            inside = [call for call in calls if start <= call.start and call.end <= start + SAMPLES / RATE]
            begin = round(start * RATE)
            yield Window(f"{path.name} at {start:.3f} s", start, samples[begin : begin + SAMPLES], inside)


def detected_calls(samples: Tensor) -> list[Call]:
    """The calls that the package finds in a recording by its own post-processing, with its own network.

    Those are kept that a species explains better than the background does, as for events with `threshold=0.5`.

    Args:
        samples: a recording at 256 kHz; it is lengthened by zeros to a whole number of the network's steps.
    """
    bats = load()
    with without("librosa", "librosa.core", "librosa.core.spectrum", "audioread"):
        from batdetect2.detector.parameters import DEFAULT_PROCESSING_CONFIGURATIONS as SETTINGS
        from batdetect2.detector.post_process import run_nms
    n_frames = -(-len(samples) // (2 * HOP * STEPS)) * 2 * STEPS
    padded = torch.nn.functional.pad(samples, (0, (n_frames - 1) * HOP + N_FFT - len(samples)))
    with torch.no_grad():
        (found,), _ = run_nms(bats(whole_spectrogram(padded)[None]), SETTINGS, torch.tensor([float(RATE)]))
    calls = []
    boxes = np.stack([found[name] for name in SIDES], axis=1)  # (call, side)
    for (start, end, low, high), probabilities in zip(boxes.tolist(), found["class_probs"].T, strict=True):
        species = int(probabilities[:-1].argmax())
        if probabilities[species] >= probabilities[-1]:
            calls.append(Call(start, end, low, high, bats.class_names[species]))
    return calls


def _calls(path: Path) -> list[Call]:
    boxes = json.loads(path.with_suffix(".json").read_text())["annotation"]
    keys = ("start_time", "end_time", "low_freq", "high_freq", "class")
    return [Call(*(box[key] for key in keys)) for box in boxes]


def _samples(path: Path) -> Tensor:
    import soundfile

    rate = soundfile.info(path).samplerate
    return resample(read(path, rate), rate, RATE)


GLUE = (classifier,)
