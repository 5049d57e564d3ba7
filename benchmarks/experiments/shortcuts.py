"""Whether APEX finds a shortcut: a hum in all training clips of one class, which gives the class away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.classifiers.networks import explained_layer
from benchmarks.classifiers.recipes import Recipe
from benchmarks.classifiers.training import accuracy, train_classifier
from benchmarks.methods.registry import CLIPS_AT_ONCE
from benchmarks.tasks import ClipDataset, Split, Task
from captum_apex import FeatureBank, LayerAPEX, PrototypeBasis, Scheme, fit_basis
from captum_apex.attribution import select_channels
from captum_apex.bases.prototype_choice import activations_of

N_CHANNELS = 5  # channels of an explanation
FALL = 0.5  # a channel is on the hum if its prototypes lose at least this share of its activation without the hum


@dataclass(frozen=True)
class Hum:
    """A steady tone.

    Attributes:
        frequency: its frequency in Hz.
        level: its level in dB, relative to a sine of full scale.
        label: the class whose training clips have it.
    """

    frequency: float = 1000.0
    level: float = -40.0
    label: int = 0

    def added_to(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """The waveform (sample,) with the hum."""
        seconds = torch.arange(len(waveform), dtype=torch.float64) / sample_rate
        tone = 10 ** (self.level / 20) * torch.sin(2 * torch.pi * self.frequency * seconds)
        return waveform + tone.to(waveform)


def hummed(task: Task, split: Split, hum: Hum, indices: Sequence[int]) -> ClipDataset:
    """A split with the hum in some of its clips; the normalisation is that of the clips without it.

    Args:
        task: the task.
        split: the split.
        hum: the hum.
        indices: indices of the clips that get it.
    """
    clips: ClipDataset = getattr(task, split)
    log_mels = clips.log_mels.clone()
    for index in indices:
        waveform = hum.added_to(task.waveform(split, index), task.sample_rate)
        log_mels[index] = task.normalisation(task.log_mel.decibels([waveform[None]])[0])
    return ClipDataset(log_mels, clips.labels)


def shortcut_table(
    task: Task, network: str, hum: Hum, schemes: Sequence[Scheme | str], *, seed: int = 0, recipe: Recipe | None = None
) -> pd.DataFrame:
    """How many channels and prototypes are on a hum, for a classifier that was trained with it and for one without.

    Both are explained on the training clips with the hum, so that the second one is a control: a channel of any
    classifier may hear a hum.

    Args:
        task: the task.
        network: a name in `benchmarks.classifiers.networks.NETWORKS`.
        hum: the hum.
        schemes: the schemes for which bases are fitted.
        seed: seed of training and fitting.
        recipe: settings of the training, as in `train_classifier`.

    Returns:
        One line for each classifier (`trained`: "with hum", "without hum") and scheme:

        - `accuracy`: on test clips without the hum; `fooled`: share of test clips of other classes that get the class
          of the hum when it is added to them.
        - `channels`: channels on the hum, whose prototypes lose at least half of the activation without it.
        - `prototypes`: share of all prototypes that are clips with the hum, of such channels.
        - `shown`: share of the test clips with the hum whose explanation of the class of the hum has such a channel.
    """
    of_class = (task.train.labels == hum.label).nonzero()[:, 0].tolist()
    with_hum = replace(task, train=hummed(task, "train", hum, of_class))
    noisy_test = hummed(task, "test", hum, range(len(task.test)))
    lines = []
    for trained, of_training in {"with hum": with_hum, "without hum": task}.items():
        model = train_classifier(of_training, network, seed=seed, recipe=recipe)
        about = {"trained": trained, "accuracy": accuracy(model, task.test), "fooled": _fooled(model, noisy_test, hum)}
        layer = explained_layer(model)
        banks = [FeatureBank.from_dataset(model, layer, each.train, places=False) for each in (with_hum, task)]
        for scheme in schemes:
            basis = fit_basis(banks[0], scheme, method="closed-form", n_prototypes=_numbers(banks[0].n_clips))
            falls = channel_falls(basis, banks[1].means)
            counts = _counts(basis, falls >= FALL, hum)
            shown = _shown(LayerAPEX(model, layer, basis), noisy_test, hum, falls >= FALL)
            lines.append({**about, "scheme": str(scheme), **counts, "shown": shown})
    return pd.DataFrame(lines)


def channel_falls(basis: PrototypeBasis, clean: Tensor) -> Tensor:
    """What share of its activation each channel loses in its prototypes when these are replaced by other clips.

    Args:
        basis: the basis, with prototypes.
        clean: means over the grid of the clips that replace those of the dataset, in its order, (clip, channel).

    Returns:
        Tensor (channel,): `1 − Σ_p a'_kp / Σ_p a_kp`; 0 where the channel is not active.
    """
    assert basis.positive is not None  # always there after a fit; this line is for the type checker
    before = basis.positive.activations.sum(1)
    after = activations_of(clean, basis.U.to(clean), basis.positive.indices).sum(1)
    return (1 - after / before).where(before > 0, 0.0)


def _numbers(n_clips: int) -> tuple[int, int]:
    return min(20, n_clips), min(5, n_clips)


@torch.no_grad()
def _fooled(model: nn.Module, noisy: ClipDataset, hum: Hum) -> float:
    others = noisy.labels != hum.label
    scores = torch.cat([model(clips) for clips in noisy.log_mels[others].split(CLIPS_AT_ONCE)])
    return (scores.argmax(1) == hum.label).double().mean().item()


def _counts(basis: PrototypeBasis, on_hum: Tensor, hum: Hum) -> dict[str, float]:
    assert basis.positive is not None  # always there after a fit; these lines are for the type checker
    assert basis.positive.labels is not None
    of_class = basis.positive.labels == hum.label  # (channel, prototype)
    return {"channels": on_hum.sum().item(), "prototypes": (of_class & on_hum[:, None]).double().mean().item()}


def _shown(apex: LayerAPEX, noisy: ClipDataset, hum: Hum, on_hum: Tensor) -> float:
    """Share of the clips whose explanation of the class of the hum has a channel on the hum."""
    shown = []
    for clips in noisy.log_mels.split(CLIPS_AT_ONCE):
        found = apex.decompose(clips, hum.label)
        shown.append((select_channels(found.contributions, found.activations, N_CHANNELS) & on_hum).any(1))
    return torch.cat(shown).double().mean().item()
