"""How AudioProtoPNet's head with the asymmetric loss is learned, on the frozen model's features."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.classifiers import sigmoid_heads
from benchmarks.classifiers.sigmoid_heads import SIGMOID_HEADS, SigmoidHead, train_sigmoid_head
from benchmarks.methods.learners import TrainingClips, learner
from benchmarks.methods.query import CLIPS_AT_ONCE, ClassifiedClips, features_of, logits
from benchmarks.methods.trained_head_maps import head_learner


def _build(clips: ClassifiedClips, name: str) -> SigmoidHead:
    n_channels = features_of(clips, clips.inputs[:1]).shape[1]
    return SIGMOID_HEADS[name](n_channels, logits(clips.model, clips.inputs[:1]).shape[1])


def _train(network: nn.Module, clips: TrainingClips) -> None:
    assert isinstance(network, SigmoidHead)  # this line is for the type checker
    features = torch.cat([features_of(clips, inputs) for inputs in clips.inputs.split(CLIPS_AT_ONCE)])
    train_sigmoid_head(network, features, F.one_hot(clips.labels, len(network.bias)))


for _name in SIGMOID_HEADS:
    learner(head_learner(_name), partial(_build, name=_name), code=(sigmoid_heads,))(_train)
