"""Training of the reference classifiers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from benchmarks.cache import cached_tensors
from benchmarks.classifiers.networks import CHANNELS, NETWORKS
from benchmarks.classifiers.recipes import Recipe, recipe_of
from benchmarks.tasks import Task, load_task
from benchmarks.threads import one_thread
from captum_apex.layers.hooks import held
from captum_apex.progress import bar_settings


@one_thread()
def train_classifier(
    task: Task,
    network: str,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = False,
    recipe: Recipe | None = None,
) -> nn.Module:
    """Trains a network on the training clips of a task, with one thread, so that its weights do not depend on threads.

    Args:
        task: the task; only its training clips are used.
        network: a name in `NETWORKS`.
        seed: seed of initial weights, order and augmentation; the same seed gives the same network on the CPU.
        device: the torch device on which to train.
        progress: whether to show a progress bar on stderr.
        recipe: the settings of the training; None for those in `benchmarks.classifiers.recipes`. The classifier of
            another task that the training starts from is taken from the cache.

    Returns:
        The network in evaluation mode, on `device`.

    Raises:
        ValueError: there is no network of this name.
    """
    recipe = recipe or recipe_of(task.name, network)
    start = _start(recipe, network, seed, device, progress)
    with _seeded(seed, torch.device(device)):
        model = _build(network, len(task.classes))
        model.load_state_dict({name: start.get(name, value) for name, value in model.state_dict().items()})
        model = model.to(memory_format=torch.channels_last).to(device).train()
        optimiser = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
        steps = recipe.epochs * (len(task.train) // recipe.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.learning_rate, total_steps=steps, pct_start=0.2
        )
        for log_mels, targets in tqdm(
            _batches(task, recipe),
            desc=f"training {network} on {task.name}",
            total=steps,
            **bar_settings(progress),
        ):
            loss = F.cross_entropy(model(log_mels.to(device)), targets.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()


def trained_classifier(
    task: Task, network: str, *, seed: int = 0, device: str | torch.device = "cpu", progress: bool = False
) -> nn.Module:
    """A network trained by `train_classifier`, from the cache if it was trained before on the same clips.

    The channels are the last axis of its weights in memory: on the CPU the plain CNN is twice as fast with that.

    Args:
        task: the task, as in `train_classifier`.
        network: a name in `NETWORKS`.
        seed: seed of initial weights, order and augmentation.
        device: the torch device of the network, and of its training.
        progress: whether to show a progress bar on stderr.

    Returns:
        The network in evaluation mode, on `device`.
    """
    _check_network(network)
    key = {
        "network": network,
        "recipe": asdict(recipe_of(task.name, network)),
        "code": [inspect.getsource(code) for code in (NETWORKS[network], *_TRAINING)],
        "seed": seed,
        "classes": task.classes,
        "channels": CHANNELS,
        "clips": task.train.fingerprint(),
        "device": torch.device(device).type,
    }
    if start := recipe_of(task.name, network).start:
        key["start"] = [load_task(start, seed).train.fingerprint(), asdict(recipe_of(start, network))]

    def make() -> dict[str, Tensor]:
        trained = train_classifier(task, network, seed=seed, device=device, progress=progress)
        return {name: value.cpu() for name, value in trained.state_dict().items()}

    return loaded_classifier(task, network, cached_tensors("classifier", key, make), device=device)


def loaded_classifier(
    task: Task, network: str, weights: Mapping[str, Tensor], *, device: str | torch.device = "cpu"
) -> nn.Module:
    """A network with given weights, in evaluation mode.

    Args:
        task: the task, for the number of its classes.
        network: a name in `NETWORKS`.
        weights: the state dictionary of the network.
        device: the torch device of the network.

    Raises:
        ValueError: there is no network of this name.
    """
    with torch.random.fork_rng([]):
        model = _build(network, len(task.classes))
    model.load_state_dict(weights)
    return model.to(device).to(memory_format=torch.channels_last).eval()


@torch.no_grad()
def accuracy(model: nn.Module, dataset: Dataset[tuple[Tensor, int]], *, batch: int = 64) -> float:
    """The share of clips with the largest logit at their label, in [0, 1].

    Args:
        model: gives logits (clip, class).
        dataset: clips and labels.
        batch: number of clips in one forward pass.
    """
    device = next(model.parameters()).device
    with held(model):
        hits = [model(clips.to(device)).argmax(dim=1).cpu() == labels for clips, labels in DataLoader(dataset, batch)]
    return torch.cat(hits).double().mean().item()


def _build(network: str, classes: int) -> nn.Module:
    _check_network(network)
    return NETWORKS[network](classes)


def _check_network(network: str) -> None:
    if network not in NETWORKS:
        raise ValueError(f"expected `network` to be one of {', '.join(NETWORKS)}, but got {network!r}")


def _start(recipe: Recipe, network: str, seed: int, device: str | torch.device, progress: bool) -> dict[str, Tensor]:
    """The initial weights, except those of the last linear layer; none if the recipe starts with random weights."""
    if not recipe.start:
        return {}
    model = trained_classifier(load_task(recipe.start, seed), network, seed=seed, device=device, progress=progress)
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    return {name: value.cpu() for name, value in model.state_dict().items() if not name.startswith(f"{last}.")}


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Sets the global random state to a seed and restores it afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _batches(task: Task, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented clips (clip, 1, mel, frame) and target distributions (clip, class), for all epochs."""
    targets = F.one_hot(task.train.labels, len(task.classes)).float()
    together = 2 if recipe.twins else 1
    for _ in range(recipe.epochs):
        order = torch.randperm(len(targets) // together)[:, None] * together + torch.arange(together)  # (group, clip)
        for chosen in order.flatten()[: order.numel() // recipe.batch * recipe.batch].split(recipe.batch):
            # (clip, mel, frame) → (group, clip, mel, frame)
            groups = task.train.log_mels[chosen, 0].unflatten(0, (-1, together))
            augmented, mixed = _augment(groups, targets[chosen], recipe)
            yield augmented.flatten(0, 1)[:, None], mixed


def _augment(log_mels: Tensor, targets: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    if recipe.roll:
        log_mels = _rolled(log_mels, recipe.roll)
    if recipe.mixup:
        log_mels, targets = _mixed(log_mels, targets, recipe.mixup)
    if recipe.mask:
        log_mels = _masked(_masked(log_mels, recipe.mask, dim=2), recipe.mask, dim=3)
    return log_mels, targets


def _rolled(log_mels: Tensor, share: float) -> Tensor:
    """Each clip shifted in time, circularly, by up to a share of its length."""
    frames = log_mels.shape[3]
    shifts = ((2 * torch.rand(len(log_mels), 1) - 1) * share * frames).long()
    sources = (torch.arange(frames) - shifts) % frames  # (clip, frame)
    return log_mels.gather(3, sources[:, None, None].expand_as(log_mels))


def _mixed(log_mels: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mixup (arXiv 1710.09412), with one weight per batch."""
    weight = torch.distributions.Beta(alpha, alpha).sample()
    other = torch.randperm(len(log_mels))
    return weight * log_mels + (1 - weight) * log_mels[other], weight * targets + (1 - weight) * targets[other]


def _masked(log_mels: Tensor, share: float, dim: int) -> Tensor:
    """Sets a random interval of one axis of each clip to the mean level, as in SpecAugment (arXiv 1904.08779)."""
    size = log_mels.shape[dim]
    clips = len(log_mels)
    width = torch.rand(clips, 1) * share * size
    start = torch.rand(clips, 1) * (size - width)
    positions = torch.arange(size)
    hidden = (positions >= start) & (positions < start + width)  # (clip, position)
    return log_mels.masked_fill(hidden[:, None, :, None] if dim == 2 else hidden[:, None, None], 0.0)


# The code that the weights of a network depend on besides its recipe
_TRAINING = (train_classifier, _batches, _augment, _rolled, _mixed, _masked)
