"""The networks that methods learn from the training clips: trained once for each frozen model, and cached."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks.cache import cached_tensors
from benchmarks.classifiers import trained_heads
from benchmarks.methods import LEARNERS
from benchmarks.methods.learners import LearnedNetwork, TrainingClips
from benchmarks.methods.query import ClassifiedClips
from benchmarks.runs.maps import status_of
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from captum_apex.layers.models import fingerprint, layer_name

SECONDS = "seconds of training"  # stored with the weights; no parameter of a module has a name with spaces


def learned_networks(subject: Subject, names: Iterable[str]) -> dict[str, LearnedNetwork]:
    """The networks of these learners for a subject, from the cache if they were trained before.

    Args:
        subject: the frozen model with its task.
        names: names in `benchmarks.methods.LEARNERS`.
    """
    return {name: _learned(subject, name) for name in dict.fromkeys(names)}


def learned_table(networks: Mapping[str, LearnedNetwork]) -> pd.DataFrame:
    """One line for each network: its learner, the seconds of its training, and `ok` or the reason of a failure."""
    lines = [(name, each.seconds, each.failure or "ok") for name, each in networks.items()]
    return pd.DataFrame(lines, columns=["learner", "seconds", "status"])


def training_clips(subject: Subject) -> TrainingClips:
    """All training clips of a subject's task, with the classes that the model predicts."""
    stage = Stage.of(subject, len(subject.task.train), "train")
    shared = {each.name: getattr(stage, each.name) for each in fields(ClassifiedClips)}
    return TrainingClips(**shared, labels=torch.tensor(stage.labels, device=stage.inputs.device))


def _learned(subject: Subject, name: str) -> LearnedNetwork:
    try:
        tensors = dict(cached_tensors("learned", _key(subject, name), lambda: _trained(subject, name)))
    except Exception as error:  # a method that cannot be trained must not end the run
        return LearnedNetwork(failure=status_of(error))
    seconds = tensors.pop(SECONDS).item()
    return LearnedNetwork(tensors, seconds)


def _trained(subject: Subject, name: str) -> dict[str, Tensor]:
    clips = training_clips(subject).copy()
    clips.model.requires_grad_(False)
    start = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(subject.seed)
        network = LEARNERS[name].build(clips).to(clips.inputs.device).train()
        LEARNERS[name].train(network, clips)
    weights = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    return {**weights, SECONDS: torch.tensor(time.perf_counter() - start, dtype=torch.float64)}


def _key(subject: Subject, name: str) -> dict[str, Any]:
    """Everything that the weights depend on; of the code, the modules that build and train it, and the heads."""
    functions = (LEARNERS[name].build, LEARNERS[name].train)
    modules = [inspect.getmodule(getattr(function, "func", function)) for function in functions]  # also of a partial
    return {
        "learner": name,
        "code": [inspect.getsource(module) for module in dict.fromkeys([*modules, trained_heads]) if module],
        "weights": fingerprint(subject.model),
        "layer": layer_name(subject.model, subject.layer),
        "clips": subject.task.train.fingerprint(),
        "seed": subject.seed,
        "device": next(subject.model.parameters()).device.type,
    }
