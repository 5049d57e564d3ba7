"""Whether APEX finds a shortcut: a hum in all training clips of one class, which gives the class away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.classifiers.networks import explained_layer
from benchmarks.classifiers.recipes import Recipe
from benchmarks.classifiers.training import accuracy, train_classifier
from benchmarks.methods.registry import CLIPS_AT_ONCE
from benchmarks.tasks import ClipDataset, Split, Task
from captum_apex import APEX, FeatureBank, PrototypeBasis, Scheme, fit_basis
from captum_apex.attribution import select_channels
from captum_apex.bases.prototype_choice import activations_of
from captum_apex.metrics import relevance_mass

N_CHANNELS = 5  # channels of an explanation
AUDIBLE = 1.0  # dB; a bin belongs to the hum if it is raised by at least this
COLUMNS = (
    *("trained", "scheme", "accuracy", "fooled", "channels", "prototypes", "shown"),
    *("clips", "lost", "evidence", "mass", "bins", "examples", "examples_chance"),
)
"""Columns of the lines of `shortcut_table`."""
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

        And, over the test clips with the hum that get its class (`clips`):

        - `lost`: mean fall of the probability of the class without the hum.
        - `evidence`: share of the positive contributions to the class that comes from channels on the hum.
        - `mass`, `bins`: share of the positive relevance of the enlarged map of five channels on the bins that the hum
          raises by at least 1 dB, and share of the bins that these are.
        - `examples`: share of the prototypes that an explanation shows, of its channels, that are clips with the hum;
          `examples_chance`: share of the training clips that have it.
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
            on_hum = channel_falls(basis, banks[1].means) >= FALL
            apex = APEX(model, layer, basis)
            found = _reliance(apex, task, noisy_test, hum, on_hum)
            counts = _counts(basis, on_hum, hum) | {"shown": _shown(apex, noisy_test, hum, on_hum)}
            lines.append({**about, "scheme": str(scheme), **counts, **found, "examples_chance": _share(task, hum)})
    return pd.DataFrame(lines, columns=COLUMNS)


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


def _share(task: Task, hum: Hum) -> float:
    return (task.train.labels == hum.label).double().mean().item()


def _shown(apex: APEX, noisy: ClipDataset, hum: Hum, on_hum: Tensor) -> float:
    """Share of the clips whose explanation of the class of the hum has a channel on the hum."""
    shown = []
    for clips in noisy.log_mels.split(CLIPS_AT_ONCE):
        shown.append((_explained(apex, clips, hum)[1] & on_hum).any(1))
    return torch.cat(shown).double().mean().item()


def _explained(apex: APEX, clips: Tensor, hum: Hum) -> tuple[Tensor, Tensor]:
    """The contributions to the class of the hum, and the channels of the explanation, both (clip, channel)."""
    found = apex.layer_apex.decompose(clips, hum.label)
    return found.contributions, select_channels(found.contributions, found.activations, N_CHANNELS)


def _reliance(apex: APEX, task: Task, noisy: ClipDataset, hum: Hum, on_hum: Tensor) -> dict[str, float]:
    """What the explanations of the clips with the hum that get its class rest on; NaN where there is no such clip."""
    assert apex.basis.positive is not None  # always there after a fit; these lines are for the type checker
    assert apex.basis.positive.labels is not None
    with_hum = (apex.basis.positive.labels == hum.label).double().mean(1)  # (channel,)
    values: dict[str, list[Tensor]] = {name: [] for name in ("lost", "evidence", "mass", "bins", "examples")}
    for clips, clean in zip(*(each.log_mels.split(CLIPS_AT_ONCE) for each in (noisy, task.test)), strict=True):
        before, after = _probabilities(apex.forward_func, clips, clean)
        fooled = before.argmax(1) == hum.label
        if not fooled.any():
            continue
        explained_clips = clips[fooled]
        contributions, explained = _explained(apex, explained_clips, hum)
        positive = contributions.clamp_min(0)
        changed = ((explained_clips - clean[fooled]) * task.normalisation.std >= AUDIBLE)[
            :, 0
        ]  # (clip, frequency, time)
        values["lost"].append((before - after)[fooled, hum.label])
        values["evidence"].append((positive * on_hum).sum(1) / positive.sum(1))
        values["mass"].append(_mass(apex, explained_clips, hum, changed))
        values["bins"].append(changed.double().mean((1, 2)))
        values["examples"].append((explained * with_hum).sum(1) / explained.sum(1))
    joined = {name: torch.cat(parts).double() if parts else torch.empty(0) for name, parts in values.items()}
    return {"clips": len(joined["lost"]), **{name: each.nanmean().item() for name, each in joined.items()}}


def _mass(apex: APEX, clips: Tensor, hum: Hum, changed: Tensor) -> Tensor:
    return relevance_mass(apex.attribute(clips, hum.label, n_channels=N_CHANNELS), changed)


@torch.no_grad()
def _probabilities(model: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The probabilities (clip, class) of several inputs."""
    return [model(each).softmax(1) for each in inputs]
