"""How well heads that are trained on frozen features predict, beside the network's own head, and what they show."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from benchmarks.classifiers.trained_heads import PrototypeHead, TrainedHead
from benchmarks.methods.query import features_of
from benchmarks.methods.registry import CLIPS_AT_ONCE
from benchmarks.methods.trained_head_maps import head_learner
from benchmarks.runs.learning import learned_networks
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from benchmarks.tasks import Split
from captum_apex.metrics import classification_scores
from captum_apex.metrics.prototypes import class_share

OWN = "own head"
"""The network's own head, which APEX explains and leaves as it is."""
N_PROTOTYPES = 5  # clips that are most similar to a prototype
MEASURES = ("top_1", "mean_average_precision", "auroc", "equal_error_rate", "agreement", "classes", "classes_unseen")
COLUMNS = (*MEASURES, "seconds")
"""Columns of the lines of `head_line`."""


def head_line(subject: Subject, name: str) -> pd.DataFrame:
    """How well a head predicts the classes of the test clips.

    Args:
        subject: the frozen network and its task.
        name: `OWN`, or a name in `benchmarks.classifiers.trained_heads.HEADS` or
            `benchmarks.classifiers.sigmoid_heads.SIGMOID_HEADS`, which is trained unless it is cached.

    Returns:
        One line:

        - the measures of `captum_apex.metrics.classification_scores`; `equal_error_rate` is NaN for more than two
          classes.
        - `agreement`: share of the test clips for which the head predicts what the network's own head does.
        - `classes`, `classes_unseen`: share of the most frequent class among the five training or test clips that are
          most similar to a prototype, as a mean over prototypes; NaN for a head without prototypes.
        - `seconds`: how long the training took, without the features.

    Raises:
        FailedTrainingError: the training failed.
    """
    stages: dict[Split, Stage] = {split: _stage(subject, split) for split in ("train", "test")}
    scores = _by_batches(stages["test"], lambda inputs, _: subject.model(inputs))
    own = scores.argmax(1)
    line = dict.fromkeys(COLUMNS, float("nan"))
    if name != OWN:
        learned = learned_networks(subject, [head_learner(name)])[head_learner(name)]
        head = learned.network(head_learner(name), stages["test"])
        scores = _by_batches(stages["test"], lambda _, features: head(features))
        line["seconds"] = learned.seconds
        if isinstance(head, PrototypeHead):
            line["classes"], line["classes_unseen"] = (_classes(head, stage) for stage in stages.values())
    line |= classification_scores(scores, torch.tensor(stages["test"].labels))
    line["agreement"] = (scores.argmax(1) == own).double().mean().item()
    return pd.DataFrame([line], columns=COLUMNS)


def _stage(subject: Subject, split: Split) -> Stage:
    return Stage.of(subject, len(getattr(subject.task, split)), split)


@torch.no_grad()
def _by_batches(stage: Stage, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What a function gives for the inputs and the features of all clips of a stage."""
    return torch.cat(
        [function(inputs, features_of(stage, inputs)) for inputs in stage.inputs.split(CLIPS_AT_ONCE)]
    ).cpu()


def _classes(head: TrainedHead, stage: Stage) -> float:
    assert isinstance(head, PrototypeHead)  # this line is for the type checker
    similarities = _by_batches(stage, lambda _, features: head.similarities(features).amax((3, 4)).flatten(1))
    nearest = similarities.topk(min(N_PROTOTYPES, len(similarities)), dim=0).indices.T  # (prototype, clip)
    return class_share(torch.tensor(stage.labels)[nearest]).mean().item()
