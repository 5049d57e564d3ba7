"""The networks that methods learn from the training clips: trained once for each frozen model, and cached."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks.cache import cached_tensors
from benchmarks.classifiers import trained_heads
from benchmarks.methods import LEARNERS
from benchmarks.methods.learners import LearnedNetwork, TrainingClips
from benchmarks.methods.query import ClassifiedClips
from benchmarks.runs.maps import seeded, status_of
from benchmarks.runs.results import digest_of, versions
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from benchmarks.threads import one_thread
from captum_apex.files import locked, replaced
from captum_apex.layers.models import fingerprint, layer_name

LEARNED = "learned.csv"  # in the folder of a run
SECONDS = "seconds of training"  # stored with the weights; no parameter of a module has a name with spaces


def learned_networks(subject: Subject, names: Iterable[str]) -> dict[str, LearnedNetwork]:
    """The networks of these learners for a subject, from the cache if they were trained before.

    Args:
        subject: the frozen model with its task.
        names: names in `benchmarks.methods.LEARNERS`.
    """
    return {name: _learned(subject, name) for name in dict.fromkeys(names)}


def write_learned(folder: Path, networks: Mapping[str, LearnedNetwork]) -> None:
    """Adds networks to the table of a run's folder: the learner, the seconds of its training, and `ok` or the failure.

    Args:
        folder: the folder of the run.
        networks: the networks by the names of their learners; lines of others stay.
    """
    lines = [(name, each.seconds, each.failure or "ok") for name, each in networks.items()]
    table = pd.DataFrame(lines, columns=["learner", "seconds", "status"])
    path = folder / LEARNED
    with locked(folder):
        if path.exists():
            before = pd.read_csv(path)
            table = pd.concat([before[~before["learner"].isin(table["learner"])], table])
        with replaced(path) as unfinished:
            table.to_csv(unfinished, index=False)


def training_clips(subject: Subject) -> TrainingClips:
    """All training clips of a subject's task, with the classes that the model predicts."""
    stage = Stage.of(subject, len(subject.task.train), "train")
    shared = {each.name: getattr(stage, each.name) for each in fields(ClassifiedClips)}
    return TrainingClips(**shared, labels=torch.tensor(stage.labels, device=stage.inputs.device))


def _learned(subject: Subject, name: str) -> LearnedNetwork:
    try:
        tensors = dict(cached_tensors("learned", _key(subject, name), lambda: _trained(subject, name)))
        learned = LearnedNetwork(tensors, tensors.pop(SECONDS).item())
        learned.network(name, Stage.of(subject, 1, "train"))  # whether the weights fit a network of other clips, too
    except (Exception, SystemExit) as error:  # a method that cannot be trained must not end the run
        return LearnedNetwork(failure=status_of(error))
    return learned


def _trained(subject: Subject, name: str) -> dict[str, Tensor]:
    clips = training_clips(subject).copy()
    clips.model.requires_grad_(False)
    start = time.perf_counter()
    with seeded(subject.seed), nullcontext() if clips.inputs.is_cuda else one_thread():
        network = LEARNERS[name].build(clips).to(clips.inputs.device).train()
        LEARNERS[name].train(network, clips)
    weights = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    return {**weights, SECONDS: torch.tensor(time.perf_counter() - start, dtype=torch.float64)}


def _key(subject: Subject, name: str) -> dict[str, Any]:
    """Everything that the weights depend on; of the code, the modules that build and train it, and the heads."""
    learner = LEARNERS[name]
    functions = (learner.build, learner.train)
    modules = [inspect.getmodule(getattr(function, "func", function)) for function in functions]  # also of a partial
    modules += [trained_heads, *learner.code]
    return {
        "learner": name,
        "code": [inspect.getsource(module) for module in dict.fromkeys(modules) if module],
        "settings": [repr((getattr(each, "args", ()), getattr(each, "keywords", {}))) for each in functions],
        "weights": fingerprint(subject.model),
        "layer": layer_name(subject.model, subject.layer),
        "bases": [digest_of(basis.U) for basis in subject.bases.values()],
        "clips": subject.task.train.fingerprint(),
        "seed": subject.seed,
        "device": next(subject.model.parameters()).device.type,
        "versions": versions(),
    }
