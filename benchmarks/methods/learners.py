"""Networks that methods learn from the training clips, beside the frozen model: how they are registered and trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

import torch
from torch import Tensor, nn

from benchmarks.methods.query import ClassifiedClips


@dataclass(frozen=True, kw_only=True)
class TrainingClips(ClassifiedClips):
    """The training clips of a task with a copy of the frozen model; `target` is the class that the model predicts.

    Attributes:
        labels: index of the true class of each clip, int64 (clip,).
    """

    labels: Tensor


Build = Callable[[ClassifiedClips], nn.Module]
Train = Callable[[nn.Module, TrainingClips], object]


@dataclass(frozen=True)
class Learner:
    """How a network is made and trained.

    Attributes:
        build: function from clips, whose number and values do not matter, to the network before its training.
        train: function that trains the network in place.
        code: modules on which the weights depend, beside those of the two functions; a change of them, too, means a new
            training.
    """

    build: Build
    train: Train
    code: tuple[ModuleType, ...] = ()


LEARNERS: dict[str, Learner] = {}
"""All registered learners by name."""


def learner(name: str, build: Build, code: tuple[ModuleType, ...] = ()) -> Callable[[Train], Train]:
    """Registers a function that trains a network for methods; a decorator.

    A run calls it once for each frozen model, with one thread on the CPU, with torch's random number generator set to
    the seed of the run, and with a model whose parameters take no gradients. It keeps the weights in the cache. Only
    runs with a method that needs the network train it.

    Args:
        name: name of the network, for `learned` of `benchmarks.methods.method` and for `Query.network`.
        build: makes the network before its training, from clips of the same shape as those of the training.
        code: modules on which the weights depend, beside those of the two functions; see `Learner`.

    Returns:
        A decorator that registers the function and returns it unchanged. The function gets the network and the
        `TrainingClips`, and trains the network in place.

    Raises:
        ValueError: a learner of this name is registered already.

    Example:
        >>> from torch import nn
        >>> from benchmarks.methods import LEARNERS, learner
        >>> @learner("mean clip", build=lambda clips: nn.BatchNorm2d(1, momentum=None, affine=False))
        ... def train(network, clips):
        ...     network.train()(clips.inputs)
        >>> "mean clip" in LEARNERS
        True
        >>> del LEARNERS["mean clip"]  # leaves the registry as it was
    """

    def register(train: Train) -> Train:
        if name in LEARNERS:
            raise ValueError(f"expected a new name for a learner, but {name!r} is registered already")
        LEARNERS[name] = Learner(build, train, code)
        return train

    return register


class FailedTrainingError(RuntimeError):
    """The network that a method needs was not trained; the text is the status of the method.

    Example:
        >>> from benchmarks.methods.learners import FailedTrainingError, LearnedNetwork
        >>> try:
        ...     LearnedNetwork(failure="unsupported (the clips have no twins)").network("twin network", None)
        ... except FailedTrainingError as error:
        ...     print(error)
        unsupported (the clips have no twins)
    """


@dataclass(frozen=True)
class LearnedNetwork:
    """A network after its training, as its weights, or what happened instead; it is sent to the workers as it is.

    Only parameters and buffers are kept, not other attributes of the network.

    Attributes:
        weights: state dictionary of the network.
        seconds: how long the training took, also where the weights are from the cache.
        failure: the status of the methods that need it; empty if the training was finished.
    """

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    seconds: float = float("nan")
    failure: str = ""

    def network(self, name: str, clips: ClassifiedClips) -> nn.Module:
        """The network, in evaluation mode on the device of the clips.

        Args:
            name: name of the learner.
            clips: clips of the shape of the training clips.

        Raises:
            FailedTrainingError: there is no network; the text says why.
        """
        if self.failure:
            raise FailedTrainingError(self.failure)
        with torch.random.fork_rng():
            network = LEARNERS[name].build(clips)
        network.load_state_dict(self.weights)
        return network.to(clips.inputs.device).eval().requires_grad_(False)
