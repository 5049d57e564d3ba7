"""Maps of networks that were learned from the training clips; a run computes them only where they are named."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.methods.mask_decoder import MASK_DECODER
from benchmarks.methods.query import Query, features_of
from benchmarks.methods.registry import method
from benchmarks.methods.twin_network import TWIN_NETWORK, twin_difference


@method("L-MAC", default=False, learned=[MASK_DECODER])
@torch.no_grad()
def _listenable(query: Query) -> Tensor:
    """The mask that keeps the prediction; it does not depend on the class that is asked for."""
    return query.network(MASK_DECODER)(features_of(query, query.inputs)).sigmoid()


@method("twin network", default=False, learned=[TWIN_NETWORK])
@torch.no_grad()
def _twin_network(query: Query) -> Tensor:
    """Where a network that was trained on twins says that the clip differs from its twin; the model is not asked."""
    return query.network(TWIN_NETWORK)(query.inputs)


@method("twin difference", default=False)
def _twin_difference(query: Query) -> Tensor:
    """How much the clip differs from its twin, smoothed; the model is not asked."""
    return twin_difference(query)
