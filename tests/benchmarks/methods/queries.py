"""Queries about random clips on small copies of the networks, and what a test needs to check a method's map."""

import copy
import dataclasses
import warnings
from functools import cache

import numpy as np
import torch
from torch import nn

from benchmarks.classifiers.networks import PlainCNN, convnext, explained_layer
from benchmarks.methods import LEARNERS, METHODS, Query
from captum_apex import SCHEMES, PrototypeBasis
from captum_apex.masking.grids import region_grid

SIZE = (64, 32)  # bands, frames


@cache
def network(name, dtype=torch.float32, biased=True):
    """With random weights and statistics, and logits of about one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = {"cnn": PlainCNN, "convnext": convnext}[name](5).to(dtype).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    if not biased:
        for parts in (model.named_parameters(), model.named_buffers()):
            for _, tensor in ((part, tensor) for part, tensor in parts if part.endswith(("bias", "running_mean"))):
                tensor.data.zero_()
    return model


def random_query(name="cnn", dtype=torch.float32, clips=2, grid=(2, 3), biased=True):
    """A query about random clips, on a copy of the network."""
    model = copy.deepcopy(network(name, dtype, biased))
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(clips, 1, *SIZE, generator=draw).to(dtype)
    fill = (0.3 * torch.randn(clips, 1, *SIZE, generator=draw) - 1).to(dtype)
    with torch.no_grad():
        target = model(inputs).argmax(1)
    width = 128 if name == "cnn" else 192
    bases = {
        scheme: PrototypeBasis(torch.linalg.qr(torch.randn(width, width, generator=draw))[0].to(dtype), scheme)
        for scheme in SCHEMES
    }
    query = query_of(model, explained_layer(model), inputs, target, fill, region_grid(SIZE, *grid), bases)
    return dataclasses.replace(query, learned=untrained(query), twins=inputs.flip(3))


def untrained(query):
    """The networks of all learners, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = {name: each.build(query).to(query.inputs).eval() for name, each in LEARNERS.items()}
    return {name: each.requires_grad_(False) for name, each in networks.items()}


def query_of(model, layer, inputs, target, fill, grid, bases):
    """With silence at -2 and the seed 0."""
    clips = {"inputs": inputs, "target": target, "fill": fill}
    return Query(model=model, layer=layer, **clips, grid=grid, silence=-2.0, bases=bases, seed=0)


def run(name, query, seed=0):
    """What the runner does: generators set, Captum's notes on hooks and gradients unheard."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        names = dict.fromkeys((name, *METHODS[name].names))
        return METHODS[name].maps(dataclasses.replace(query, names=tuple(names)))


def maps(name, query, seed=0):
    """The map of a method, and after it those that share its passes, without deltas."""
    return [result[0] if isinstance(result, tuple) else result for result in run(name, query, seed)]


def logit(query, inputs, clip):
    with torch.no_grad():
        return query.model(inputs[clip : clip + 1])[0, query.target[clip]].item()


def without(query, regions):
    """The clips with some regions replaced by the fill, bin by bin."""
    changed = query.inputs.clone()
    for y in range(query.grid.shape[0]):
        for x in range(query.grid.shape[1]):
            if int(query.grid[y, x]) in regions:
                changed[:, :, y, x] = query.fill[:, :, y, x]
    return changed
