"""What can be had of a model that gives embeddings or scores alone, measured on published models."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from captum.attr import InputXGradient, IntegratedGradients
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

from benchmarks.experiments.published_rows import at_layer
from benchmarks.published import crepe_pitch, resemblyzer_speakers, speech_quality
from benchmarks.published.held_clips import HeldClips, spoken_digits
from captum_apex import Classifier, PrototypeBasis, explain
from captum_apex.attribution import two_sided_occlusion
from captum_apex.explaining import fit_bases
from captum_apex.masking import region_grid, region_sums
from captum_apex.metrics import deletion_insertion
from captum_apex.pretrained import ArrayFunction, from_embeddings
from captum_apex.recordings.folders import AudioDataset

WINDOW = 25_600  # samples: 1.6 s, as the encoder of speakers was trained
LENGTH = 4 * WINDOW
N_PROTOTYPES = 4  # of the strongest channel
STEPS = 32  # of Integrated Gradients


def speakers_embedding() -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The embeddings of Resemblyzer, as a function of arrays: (window, sample) to (window, 256)."""
    encoder = resemblyzer_speakers.load()
    mel = MelSpectrogram(16_000, 400, hop_length=160, n_mels=40, norm="slaney", mel_scale="slaney", pad_mode="constant")

    def embed(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        mels = mel(torch.from_numpy(windows)).mT[:, :160]  # (window, frame, mel)
        with torch.no_grad():
            return encoder(mels).numpy()

    return embed


def speech_of(part: str, n_per_speaker: int, halves: bool = False) -> HeldClips:
    """Clips of 6.4 s, of digits one after the other; with `halves`, the second half is of another speaker.

    Args:
        part: "train" or "test".
        n_per_speaker: number of clips of each speaker.
        halves: whether a clip has two speakers; its group is the first one, and its name has both.
    """
    digits = spoken_digits(part, 300 if part == "train" else 50)
    samples = {speaker: [each for other, _, each in digits if other == speaker] for speaker, _, _ in digits}
    length = LENGTH // 2 if halves else LENGTH
    streams = {speaker: _stretches(each, length, n_per_speaker) for speaker, each in samples.items()}
    names = sorted(streams)
    waveforms = []
    titles = []
    for place, (speaker, other) in enumerate(zip(names, names[1:] + names[:1], strict=True)):
        for number, stretch in enumerate(streams[speaker]):
            both = torch.cat([stretch, streams[other][number]]) if halves else stretch
            waveforms.append(both)
            titles.append(f"{speaker} {other} {place}-{number}" if halves else f"{speaker} {part} {number}")
    groups = [title.split()[0] for title in titles]
    return _labelled(waveforms, titles, groups)


def speakers(n_training: int, n_explained: int, hop: int = WINDOW) -> tuple[Classifier, HeldClips, HeldClips]:
    """The classifier of speakers on embeddings, its training clips, and clips with two speakers.

    Args:
        n_training: training clips of each speaker.
        n_explained: explained clips of each speaker, and clips on which the accuracy is measured.
        hop: samples from the start of one window to that of the next.
    """
    training = speech_of("train", n_training)
    unseen = speech_of("test", n_explained)
    classifier = from_embeddings(
        speakers_embedding(), training, unseen, sample_rate=16_000, window=WINDOW, hop=hop, length=LENGTH
    )
    return classifier, training, speech_of("test", n_explained, halves=True)


def embedding_lines(n_training: int = 15, n_explained: int = 4, hop: int = WINDOW) -> pd.DataFrame:
    """What bases on embeddings are worth: one line.

    Args:
        n_training: training clips of each speaker.
        n_explained: explained clips of each speaker.
        hop: samples from the start of one window to that of the next.

    Returns:
        The `accuracy` of the head on unseen clips, and for clips of two speakers, explained for each of them:

        - `purity_raw`, `purity`: mean purity of the prototypes before and after the fit.
        - `same_speaker`: share of the prototypes of the strongest channel that are of the explained speaker.
        - `random`: the same for all training clips.
        - `in_half`, `all_in_half`: share of the windows to which the strongest channel, or all channels together, add
          most, that lie in the half of the explained speaker; a window in both halves counts as one half.
        - `better`, `effect`: share of the regions of the strongest channel that are better than a random place, and the
          median share of the channel that masking takes away.
        - `delta`: median share of the score, less that without the layer, that the contributions miss.
    """
    classifier, training, explained = speakers(n_training, n_explained, hop)
    inputs = torch.stack(list(explained.waveforms))
    lines = []
    for basis in fit_bases(classifier, training, ["time"], progress=False):
        measures = [_speaker_measures(classifier, basis, training, explained, inputs, half) for half in (0, 1)]
        purity = {"purity_raw": basis.purity_history[0].item(), "purity": basis.purity_history[-1].item()}
        about = {"hop": hop, "accuracy": classifier.model.accuracy}
        lines.append(about | purity | pd.DataFrame(measures).mean().to_dict())
    return pd.DataFrame(lines)


def _speaker_measures(
    classifier: Classifier,
    basis: PrototypeBasis,
    training: AudioDataset,
    explained: HeldClips,
    inputs: Tensor,
    half: int,
) -> dict[str, float]:
    names = list(training.class_names)
    target = torch.tensor([names.index(name.split()[half]) for name in explained.names])
    apex = at_layer(classifier, basis)
    decomposition = apex.decompose(inputs, target)
    supporting = decomposition.contributions.where(decomposition.activations > 0, -torch.inf)
    channels = supporting.argmax(1)
    evidence = [each.evidence[0] for each in explain(apex, inputs, target, n_channels=1) if each.evidence]
    effects = [each.effect for each in evidence if each.effect is not None]
    hop: Any = classifier.model.hop
    assert basis.positive is not None
    assert training.labels is not None
    labels = torch.as_tensor(training.labels)
    of_prototypes = labels[basis.positive.indices[channels, :N_PROTOTYPES]]  # (clip, prototype)
    relevance = decomposition.relevance[:, :, 0]  # (clip, channel, window)
    given = decomposition.score - apex.score_without_layer(inputs, target)
    return {
        "same_speaker": (of_prototypes == target[:, None]).double().mean().item(),
        "random": (labels == target[:, None]).double().mean().item(),
        "in_half": _in_half(relevance[torch.arange(len(inputs)), channels], half, hop),
        "all_in_half": _in_half(relevance.sum(1), half, hop),
        "better": statistics.fmean(each.better_than_random for each in effects),
        "effect": statistics.median(each.channel for each in effects),
        "delta": ((decomposition.contributions.sum(1) - given).abs() / given.abs()).median().item(),
    }


def _in_half(relevance: Tensor, half: int, hop: int) -> float:
    """The share of clips whose largest window (clip, window) lies in a half of the clip, 0 or 1."""
    centres = (relevance.argmax(1) * hop + WINDOW / 2) / LENGTH
    side = (centres - 0.5).sign() * (1 if half else -1)  # 0 for a window in both
    return ((side + 1) / 2).double().mean().item()


def occlusion_lines(package: str, n_per_speaker: int = 1, n_regions: int = 32) -> pd.DataFrame:
    """Occlusion of a model as a black box beside gradients of the same model, on the same clips and regions.

    Args:
        package: "torchcrepe", whose clips are frames of 64 ms, or "speechmos", whose clips last 9 s.
        n_per_speaker: clips of each speaker, of the test.
        n_regions: number of regions in time.

    Returns:
        One line for each method: `correlation`, the median rank correlation of its regions with those of occlusion, and
        the areas under the curves, as means over clips: `deletion`, `insertion` and their `difference`. Scores are
        logits, or quality from 1 to 5. The fill is silence.
    """
    module = {"torchcrepe": crepe_pitch, "speechmos": speech_quality}[package]
    classifier = module.classifier(module.load())
    clips = module.clips("test", n_per_speaker)
    dataset = classifier.dataset(clips)
    inputs = torch.stack([dataset.input(index) for index in range(len(dataset))])
    model = classifier.model.requires_grad_(False)
    black_box = ArrayFunction(lambda waveforms: model(torch.from_numpy(waveforms)), batch_size=8)
    target = black_box(inputs).argmax(1) if package == "torchcrepe" else torch.full((len(inputs),), 2)
    grid = region_grid((inputs.shape[1],), 1, n_regions)
    fills = torch.zeros_like(inputs)
    maps = _maps(model, black_box, inputs, fills, grid, target)
    occluded = region_sums(maps["two-sided occlusion"], grid)
    lines = []
    for name, attributions in maps.items():
        curves = deletion_insertion(black_box, inputs, attributions, fills=fills, grid=grid, target=target)
        areas = {"deletion": curves.deletion_auc, "insertion": curves.insertion_auc, "difference": curves.difference}
        means = {key: value.mean().item() for key, value in areas.items()}
        correlation = _rank_correlation(region_sums(attributions, grid), occluded)
        lines.append({"package": package, "clips": len(inputs), "method": name, "correlation": correlation, **means})
    return pd.DataFrame(lines)


def _maps(
    model: Callable[..., Tensor],
    black_box: ArrayFunction,
    inputs: Tensor,
    fills: Tensor,
    grid: Tensor,
    target: Tensor,
) -> dict[str, Tensor]:
    """Maps of the black box by masking, and of the same model by gradients, one clip at a time; and a random one."""
    gradients = IntegratedGradients(model, multiply_by_inputs=True)
    clips = list(zip(inputs.split(1), fills.split(1), target.split(1), strict=True))
    return {
        "two-sided occlusion": two_sided_occlusion(black_box, inputs, fills, grid, target),
        "Integrated Gradients": torch.cat(
            [gradients.attribute(each, fill, one, n_steps=STEPS, internal_batch_size=8) for each, fill, one in clips]
        ).detach(),
        "gradient × input": torch.cat([InputXGradient(model).attribute(each, one) for each, _, one in clips]).detach(),
        "random": torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0)),
    }


def _rank_correlation(first: Tensor, second: Tensor) -> float:
    """The median of Spearman's correlation over clips, of (clip, region) with (clip, region)."""
    ranks = [values.argsort(1).argsort(1).double() for values in (first, second)]
    centred = [each - each.mean(1, keepdim=True) for each in ranks]
    products = (centred[0] * centred[1]).sum(1) / (centred[0].norm(dim=1) * centred[1].norm(dim=1))
    return products.median().item()


def _stretches(waveforms: list[Tensor], length: int, n: int) -> list[Tensor]:
    """The first stretches of some waveforms one after the other, at −30 dB, as Resemblyzer prepares speech."""
    stream = torch.cat(list(itertools.islice(itertools.cycle(waveforms), 10_000)))[: length * n]
    return [each * (10 ** (-30 / 20) / each.square().mean().sqrt()) for each in stream.split(length)]


def _labelled(waveforms: list[Tensor], titles: list[str], groups: list[str]) -> HeldClips:
    """Clips with the index of their group as label."""
    class_names = tuple(sorted(set(groups)))
    labels = [class_names.index(group) for group in groups]
    return HeldClips(waveforms, titles, groups, labels, class_names)
