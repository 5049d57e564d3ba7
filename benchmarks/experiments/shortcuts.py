"""Whether APEX finds a shortcut: a sound in all training clips of one class, which gives the class away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.classifiers.networks import explained_layer
from benchmarks.classifiers.recipes import Recipe
from benchmarks.classifiers.training import accuracy, train_classifier, trained_classifier
from benchmarks.experiments.planted_sounds import PlantedSound, planted
from benchmarks.methods.registry import CLIPS_AT_ONCE
from benchmarks.tasks import ClipDataset, Task
from captum_apex import APEX, FeatureBank, PrototypeBasis, Scheme, fit_basis
from captum_apex.attribution import select_channels
from captum_apex.bases.prototype_choice import activations_of
from captum_apex.metrics import relevance_mass

N_CHANNELS = 5  # channels of an explanation
AUDIBLE = 1.0  # dB; a bin belongs to the sound if it is raised by at least this
COLUMNS = (
    *("trained", "scheme", "accuracy", "recall", "fooled", "channels", "prototypes", "shown"),
    *("clips", "lost", "evidence", "mass", "bins", "examples", "examples_chance"),
)
"""Columns of the lines of `shortcut_table`."""
FALL = 0.5  # a channel is on the sound if its prototypes lose at least this share of its activation without it


def shortcut_table(
    task: Task,
    network: str,
    sound: PlantedSound,
    schemes: Sequence[Scheme | str],
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
) -> pd.DataFrame:
    """How many channels and prototypes are on a planted sound, for classifiers that were trained with and without it.

    Both are explained on the training clips with the sound, so that the second one is a control: a channel of any
    classifier may hear it.

    Args:
        task: the task.
        network: a name in `benchmarks.classifiers.networks.NETWORKS`.
        sound: the planted sound.
        schemes: the schemes for which bases are fitted.
        seed: seed of training and fitting.
        recipe: settings of the training, as in `train_classifier`; None for trained classifiers of the cache.

    Returns:
        One line for each classifier (`trained`: "with it", "without it") and scheme:

        - `accuracy`: on test clips without the sound; `recall`: the same, of the class of the sound alone; `fooled`:
          share of test clips of other classes that get the class when the sound is added to them. A classifier goes by
          the sound if the first two fall and the third rises.
        - `channels`: channels on the sound, whose prototypes lose at least half of the activation without it.
        - `prototypes`: share of all prototypes that are clips with the sound, of such channels.
        - `shown`: share of the test clips with the sound whose explanation of the class has such a channel.

        And, over the test clips with the sound that get its class (`clips`):

        - `lost`: mean fall of the probability of the class without the sound.
        - `evidence`: share of the positive contributions to the class that comes from channels on the sound.
        - `mass`, `bins`: share of the positive relevance of the enlarged map of five channels on the bins that the
          sound raises by at least 1 dB, and share of the bins that these are.
        - `examples`: share of the prototypes that an explanation shows, of its channels, that are clips with the sound;
          `examples_chance`: share of the training clips that have it.
    """
    of_class = (task.train.labels == sound.label).nonzero()[:, 0].tolist()
    with_sound = replace(task, train=planted(task, "train", sound, of_class))
    noisy_test = planted(task, "test", sound, range(len(task.test)))
    lines = []
    for trained, of_training in {"with it": with_sound, "without it": task}.items():
        model = _classifier(of_training, network, seed, recipe)
        about = {"trained": trained, **_answers(model, task.test, noisy_test, sound)}
        layer = explained_layer(model)
        banks = [FeatureBank.from_dataset(model, layer, each.train, places=False) for each in (with_sound, task)]
        for scheme in schemes:
            basis = fit_basis(banks[0], scheme, method="closed-form", n_prototypes=_numbers(banks[0].n_clips))
            on_sound = channel_falls(basis, banks[1].means) >= FALL
            apex = APEX(model, layer, basis)
            found = _reliance(apex, task, noisy_test, sound, on_sound)
            counts = _counts(basis, on_sound, sound) | {"shown": _shown(apex, noisy_test, sound, on_sound)}
            lines.append({**about, "scheme": str(scheme), **counts, **found, "examples_chance": _share(task, sound)})
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


def _classifier(task: Task, network: str, seed: int, recipe: Recipe | None) -> nn.Module:
    if recipe is None:
        return trained_classifier(task, network, seed=seed)
    return train_classifier(task, network, seed=seed, recipe=recipe)


def _answers(model: nn.Module, clean: ClipDataset, noisy: ClipDataset, sound: PlantedSound) -> dict[str, float]:
    """The accuracy without the sound, of all classes and of that of the sound, and how many it fools."""
    of_class = clean.labels == sound.label
    return {
        "accuracy": accuracy(model, clean),
        "recall": accuracy(model, ClipDataset(clean.log_mels[of_class], clean.labels[of_class])),
        "fooled": _fooled(model, noisy, sound),
    }


@torch.no_grad()
def _fooled(model: nn.Module, noisy: ClipDataset, sound: PlantedSound) -> float:
    others = noisy.labels != sound.label
    scores = torch.cat([model(clips) for clips in noisy.log_mels[others].split(CLIPS_AT_ONCE)])
    return (scores.argmax(1) == sound.label).double().mean().item()


def _counts(basis: PrototypeBasis, on_sound: Tensor, sound: PlantedSound) -> dict[str, float]:
    assert basis.positive is not None  # always there after a fit; these lines are for the type checker
    assert basis.positive.labels is not None
    of_class = basis.positive.labels == sound.label  # (channel, prototype)
    return {"channels": on_sound.sum().item(), "prototypes": (of_class & on_sound[:, None]).double().mean().item()}


def _share(task: Task, sound: PlantedSound) -> float:
    return (task.train.labels == sound.label).double().mean().item()


def _shown(apex: APEX, noisy: ClipDataset, sound: PlantedSound, on_sound: Tensor) -> float:
    """Share of the clips whose explanation of the class of the sound has a channel on the sound."""
    shown = []
    for clips in noisy.log_mels.split(CLIPS_AT_ONCE):
        shown.append((_explained(apex, clips, sound)[1] & on_sound).any(1))
    return torch.cat(shown).double().mean().item()


def _explained(apex: APEX, clips: Tensor, sound: PlantedSound) -> tuple[Tensor, Tensor]:
    """The contributions to the class of the sound, and the channels of the explanation, both (clip, channel)."""
    found = apex.layer_apex.decompose(clips, sound.label)
    return found.contributions, select_channels(found.contributions, found.activations, N_CHANNELS)


def _reliance(apex: APEX, task: Task, noisy: ClipDataset, sound: PlantedSound, on_sound: Tensor) -> dict[str, float]:
    """What the explanations of the clips with the sound that get its class rest on; NaN where there is no such clip."""
    assert apex.basis.positive is not None  # always there after a fit; these lines are for the type checker
    assert apex.basis.positive.labels is not None
    with_sound = (apex.basis.positive.labels == sound.label).double().mean(1)  # (channel,)
    values: dict[str, list[Tensor]] = {name: [] for name in ("lost", "evidence", "mass", "bins", "examples")}
    for clips, clean in zip(*(each.log_mels.split(CLIPS_AT_ONCE) for each in (noisy, task.test)), strict=True):
        before, after = _probabilities(apex.forward_func, clips, clean)
        fooled = before.argmax(1) == sound.label
        if not fooled.any():
            continue
        explained_clips = clips[fooled]
        contributions, explained = _explained(apex, explained_clips, sound)
        positive = contributions.clamp_min(0)
        rise = (explained_clips - clean[fooled])[:, 0] * task.normalisation.std  # (clip, frequency, time)
        changed = rise >= AUDIBLE
        values["lost"].append((before - after)[fooled, sound.label])
        values["evidence"].append((positive * on_sound).sum(1) / positive.sum(1))
        values["mass"].append(_mass(apex, explained_clips, sound, changed))
        values["bins"].append(changed.double().mean((1, 2)))
        values["examples"].append((explained * with_sound).sum(1) / explained.sum(1))
    joined = {name: torch.cat(parts).double() if parts else torch.empty(0) for name, parts in values.items()}
    return {"clips": len(joined["lost"]), **{name: each.nanmean().item() for name, each in joined.items()}}


def _mass(apex: APEX, clips: Tensor, sound: PlantedSound, changed: Tensor) -> Tensor:
    return relevance_mass(apex.attribute(clips, sound.label, n_channels=N_CHANNELS), changed)


@torch.no_grad()
def _probabilities(model: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The probabilities (clip, class) of several inputs."""
    return [model(each).softmax(1) for each in inputs]
