"""Heads that are trained on the frozen model's features: how they are learned, and the maps of two of them.

They explain the class that the frozen model predicts, by what their own prediction of that class is made of. So a map
says what the head goes by, which need not be what the model goes by.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.classifiers.trained_heads import HEADS, TrainedHead, train_head
from benchmarks.methods.learners import TrainingClips, learner
from benchmarks.methods.query import CLIPS_AT_ONCE, ClassifiedClips, Query, features_of, logits
from benchmarks.methods.region_maps import enlarged
from benchmarks.methods.registry import method

SHOWN = {"AudioProtoPNet": "AudioProtoPNet, 10 prototypes", "InfoDisent": "InfoDisent"}
"""Names of the methods, and of the heads whose maps they are."""


def head_learner(name: str) -> str:
    """The name of the learner of a head.

    Args:
        name: a name in `benchmarks.classifiers.trained_heads.HEADS`.

    Example:
        >>> from benchmarks.methods.trained_head_maps import head_learner
        >>> head_learner("InfoDisent")
        'head InfoDisent'
    """
    return f"head {name}"


def _build(clips: ClassifiedClips, name: str) -> TrainedHead:
    n_channels = features_of(clips, clips.inputs[:1]).shape[1]
    return HEADS[name](n_channels, logits(clips.model, clips.inputs[:1]).shape[1])


def _train(network: nn.Module, clips: TrainingClips) -> None:
    features = torch.cat([features_of(clips, inputs) for inputs in clips.inputs.split(CLIPS_AT_ONCE)])
    assert isinstance(network, TrainedHead)  # this line is for the type checker
    train_head(network, features, clips.labels)


@torch.no_grad()
def _map(query: Query, head: str) -> Tensor:
    network = query.network(head_learner(head))
    assert isinstance(network, TrainedHead)  # this line is for the type checker
    return enlarged(network.evidence(features_of(query, query.inputs), query.target)[:, None], query)


for _name in HEADS:
    learner(head_learner(_name), partial(_build, name=_name))(_train)
for _method, _head in SHOWN.items():
    method(_method, default=False, learned=[head_learner(_head)])(partial(_map, head=_head))
