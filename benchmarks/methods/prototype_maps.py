"""APEX in its four schemes: the evidence's map enlarged, and the evidence score attributed to the input by other methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from captum.attr import IntegratedGradients, LayerActivation
from captum.attr._utils.approximation_methods import approximation_parameters
from torch import Tensor

from benchmarks.methods.region_maps import enlarged, spread
from benchmarks.methods.registry import CLIPS_AT_ONCE, Query, method
from captum_apex import APEX, SCHEMES, LayerAPEX, Scheme
from captum_apex.layers.hooks import captured, frozen
from captum_apex.masking.fills import masked
from captum_apex.masking.grids import n_regions

STEPS = 16  # of Integrated Gradients, in every method that uses it
EVIDENCE = {"": 5, ", n=1": 1, ", n=3": 3}  # what a name says of the evidence, and how many channels that is

ENLARGED = {
    f"APEX {scheme}{size}": (scheme, n) for scheme in SCHEMES for size, n in {**EVIDENCE, ", all": None}.items()
}
# As a score, all channels together are the same in every basis, so there is one for all schemes, and it comes last.
SCORED: dict[str, tuple[Scheme, int | None]] = {
    **{f"APEX {scheme}{size}": (scheme, n) for scheme in SCHEMES for size, n in EVIDENCE.items()},
    "APEX all": (SCHEMES[0], None),
}
THROUGH_IG = {f"{name}, through IG": scored for name, scored in SCORED.items()}
THROUGH_OCCLUSION = {f"{name}, through Occlusion": scored for name, scored in SCORED.items()}
TWO_SIDED: dict[str, tuple[Scheme, int | None]] = {
    **{f"APEX {scheme}, two-sided": (scheme, 5) for scheme in SCHEMES},
    "APEX all, two-sided": (SCHEMES[0], None),
}


def integrated(score: Callable, inputs: Tensor, additional_forward_args: tuple | None, baseline: Tensor) -> Tensor:
    """Integrated Gradients of a score, as `APEX` takes it for a projection."""
    at_once = max(CLIPS_AT_ONCE, len(inputs))  # Captum warns of anything smaller than the batch
    return IntegratedGradients(score).attribute(
        inputs, baseline, additional_forward_args=additional_forward_args, n_steps=STEPS, internal_batch_size=at_once
    )


def _enlarged(query: Query, scheme: Scheme, n_channels: int | None) -> Tensor:
    if query.band_shares is not None:  # the rows of the inputs are not the layer's, enlarged
        at_layer = LayerAPEX(query.model, query.layer, query.bases[scheme])
        return enlarged(at_layer.attribute(query.inputs, query.target, n_channels=n_channels), query)
    return APEX(query.model, query.layer, query.bases[scheme]).attribute(
        query.inputs, query.target, n_channels=n_channels
    )


for _name, (_scheme, _n) in ENLARGED.items():
    method(_name)(partial(_enlarged, scheme=_scheme, n_channels=_n))


@method(*THROUGH_IG, uses_fill=True)
def _integrated(query: Query) -> list[Tensor]:
    """Captum's Integrated Gradients of each evidence score `Σ w ⊙ φ(x)`: one pass up to the layer serves all scores, and each goes back."""
    weights = _weights(query, [THROUGH_IG[name] for name in query.names]).unbind(1)
    shares, steps = (part(STEPS) for part in approximation_parameters("gausslegendre"))
    way, totals = query.inputs - query.fill, [torch.zeros_like(query.inputs) for _ in weights]
    for step, share in zip(steps, shares, strict=True):
        place = (query.fill + step * way).requires_grad_()
        features = _traced_features(query, place)
        for own, total in zip(weights, totals, strict=True):
            total += share * torch.autograd.grad(features, place, own, retain_graph=True)[0]
    return [way * total for total in totals]


@method(*THROUGH_OCCLUSION, uses_fill=True, uses_grid=True)
def _occluded(query: Query) -> list[Tensor]:
    """What each evidence score loses with each region: one pass up to the layer serves all scores."""
    features = partial(_features, LayerActivation(query.model, query.layer), query)
    weights, whole = _weights(query, [THROUGH_OCCLUSION[name] for name in query.names]), features(query.inputs)
    drops = [
        torch.einsum(
            "nkcft,ncft->nk", weights, whole - features(masked(query.inputs, query.fill, query.grid == region))
        )
        for region in range(n_regions(query.grid))
    ]
    return [
        spread(of_score, query.grid) for of_score in torch.stack(drops).permute(2, 1, 0)
    ]  # (region, clip, score) → (clip, region)


@method(*TWO_SIDED, uses_fill=True, uses_grid=True)
def _two_sided(query: Query) -> list[Tensor]:
    return two_sided(query, [TWO_SIDED[name] for name in query.names])


def two_sided(query: Query, scored: Sequence[tuple[Scheme, int | None]]) -> list[Tensor]:
    """What each evidence score loses with each region, and what the region alone adds to the score of the fill."""
    features = partial(_features, LayerActivation(query.model, query.layer), query)
    weights = _weights(query, scored)
    whole, empty, sums = features(query.inputs), features(query.fill), []
    for region in range(n_regions(query.grid)):
        own = query.grid == region
        without, alone = (
            features(masked(query.inputs, query.fill, own)),
            features(masked(query.fill, query.inputs, own)),
        )
        sums.append(torch.einsum("nkcft,ncft->nk", weights, whole - without + alone - empty))
    return [spread(of_score, query.grid) for of_score in torch.stack(sums).permute(2, 1, 0)]


def _features(activation: LayerActivation, query: Query, inputs: Tensor) -> Tensor:
    return query.bases[SCHEMES[0]].origin.layout.grid(activation.attribute(inputs))


def _traced_features(query: Query, inputs: Tensor) -> Tensor:
    """The same with their graph."""
    with frozen(query.model, query.layer), captured(query.layer, "of the query") as capture:
        query.model(inputs)
    return query.bases[SCHEMES[0]].origin.layout.grid(capture.value)


def _weights(query: Query, scored: Sequence[tuple[Scheme, int | None]]) -> Tensor:
    """The weights of the scores of some schemes and sizes, (clip, score, channel, frequency, time); one pass per scheme."""
    weights: dict[tuple[Scheme, int | None], Tensor] = {}
    for scheme in dict.fromkeys(scheme for scheme, _ in scored):
        apex = LayerAPEX(query.model, query.layer, query.bases[scheme])
        parts = apex.decompose(query.inputs, query.target)
        weights |= {own: apex.weights(parts, apex.evidence(parts, own[1])) for own in scored if own[0] == scheme}
    return torch.stack([weights[own] for own in scored], 1)
