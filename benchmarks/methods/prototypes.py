"""APEX in its four schemes: the evidence's map enlarged, and the evidence score attributed to the input by other methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from captum.attr import IntegratedGradients, LayerActivation
from torch import Tensor

from benchmarks.methods.regions import spread
from benchmarks.methods.registry import CLIPS_AT_ONCE, Query, in_batches, method
from captum_apex import APEX, SCHEMES, LayerAPEX, Scheme
from captum_apex.masking import masked, n_regions

STEPS = 16  # of Integrated Gradients, in every method that uses it
EVIDENCE = {"": 5, ", n=1": 1, ", n=3": 3}  # what a name says of the evidence, and how many channels that is

ENLARGED = {f"APEX {scheme}{size}": (scheme, n) for scheme in SCHEMES for size, n in {**EVIDENCE, ", all": None}.items()}
# As a score, all channels together are the same in every basis, so there is one for all schemes, and it comes last.
SCORED: dict[str, tuple[Scheme, int | None]] = {
    **{f"APEX {scheme}{size}": (scheme, n) for scheme in SCHEMES for size, n in EVIDENCE.items()},
    "APEX all": (SCHEMES[0], None),
}


def integrated(score: Callable, inputs: Tensor, additional_forward_args: tuple | None, baseline: Tensor) -> Tensor:
    """Integrated Gradients of a score, as `APEX` takes it for a projection."""
    at_once = max(CLIPS_AT_ONCE, len(inputs))  # Captum warns of anything smaller than the batch
    return IntegratedGradients(score).attribute(
        inputs, baseline, additional_forward_args=additional_forward_args, n_steps=STEPS, internal_batch_size=at_once
    )


def _enlarged(query: Query, scheme: Scheme, n_channels: int | None) -> Tensor:
    return APEX(query.model, query.layer, query.bases[scheme]).attribute(query.inputs, query.target, n_channels=n_channels)


def _integrated(query: Query, scheme: Scheme, n_channels: int | None) -> Tensor:
    projection = partial(integrated, baseline=query.fill)
    apex = APEX(query.model, query.layer, query.bases[scheme], projection=projection)
    return apex.attribute(query.inputs, query.target, n_channels=n_channels)


for _name, (_scheme, _n) in ENLARGED.items():
    method(_name)(in_batches(partial(_enlarged, scheme=_scheme, n_channels=_n)))
for _name, (_scheme, _n) in SCORED.items():
    method(f"{_name}, through IG", uses_fill=True)(in_batches(partial(_integrated, scheme=_scheme, n_channels=_n)))


@method(*(f"{name}, through Occlusion" for name in SCORED), uses_fill=True, uses_grid=True)
@in_batches
def _occluded(query: Query) -> list[Tensor]:
    """What each evidence score `Σ w ⊙ φ(x)` loses with each region: one pass up to the layer serves all scores."""
    features = partial(_features, LayerActivation(query.model, query.layer), query)
    weights, whole = _weights(query, EVIDENCE), features(query.inputs)
    drops = [
        torch.einsum("nkcft,ncft->nk", weights, whole - features(masked(query.inputs, query.fill, query.grid == region)))
        for region in range(n_regions(query.grid))
    ]
    return [spread(of_score, query.grid) for of_score in torch.stack(drops).permute(2, 1, 0)]  # (region, clip, score) → (clip, region)


@method(*(f"APEX {scheme}, two-sided" for scheme in SCHEMES), uses_fill=True, uses_grid=True)
@in_batches
def _two_sided(query: Query) -> list[Tensor]:
    """What the evidence score loses with each region, and what the region alone adds to the score of the fill."""
    features = partial(_features, LayerActivation(query.model, query.layer), query)
    weights = _weights(query, {"": 5})[:, :-1]
    whole, empty, sums = features(query.inputs), features(query.fill), []
    for region in range(n_regions(query.grid)):
        own = query.grid == region
        without, alone = features(masked(query.inputs, query.fill, own)), features(masked(query.fill, query.inputs, own))
        sums.append(torch.einsum("nkcft,ncft->nk", weights, whole - without + alone - empty))
    return [spread(of_scheme, query.grid) for of_scheme in torch.stack(sums).permute(2, 1, 0)]


def _features(activation: LayerActivation, query: Query, inputs: Tensor) -> Tensor:
    return query.bases[SCHEMES[0]].origin.layout.grid(activation.attribute(inputs))


def _weights(query: Query, sizes: Mapping[str, int]) -> Tensor:
    """The weights of the scores of each scheme and size, and at last of all channels, (clip, score, channel, frequency, time).

    One pass per scheme.
    """
    weights = []
    for scheme in SCHEMES:
        apex = LayerAPEX(query.model, query.layer, query.bases[scheme])
        parts = apex.decompose(query.inputs, query.target)
        weights += [apex.weights(parts, apex.evidence(parts, n)) for n in sizes.values()]
    return torch.stack([*weights, apex.weights(parts, apex.evidence(parts, None))], 1)
