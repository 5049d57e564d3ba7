"""Variants of APEX that were compared with its defaults, on training clips alone.

A run includes them with `--part train --add benchmarks/methods/variants.py` and their names.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.methods import Query, method
from benchmarks.methods.prototype_maps import integrated, two_sided
from captum_apex import APEX, SCHEMES, Scheme
from captum_apex.attribution.decomposition import Decomposition

SHARE = 0.8  # share of the positive contributions that the evidence has to reach
MORE = {", n=10": 10, ", n=20": 20}  # numbers of channels of the two-sided occlusion
SIZES = {"both sides": (5, "both"), "n=10": (10, "positive"), "n=20": (20, "positive")}


def fewest_channels(decomposition: Decomposition) -> Tensor:
    """The fewest channels that together have `SHARE` of the positive contributions of all active channels.

    Returns:
        bool tensor (clip, channel).
    """
    eligible = (decomposition.contributions > 0) & (decomposition.activations > 0)
    sorted_, order = decomposition.contributions.where(eligible, torch.zeros(())).sort(dim=1, descending=True)
    sum_of_larger = sorted_.cumsum(1) - sorted_
    chosen = sum_of_larger < SHARE * sorted_.sum(1, keepdim=True)
    return torch.zeros_like(eligible).scatter(1, order, chosen) & eligible


def _attributed(query: Query, scheme: Scheme, size: str, through: bool) -> Tensor:
    projection = partial(integrated, baseline=query.fill) if through else None
    apex = APEX(query.model, query.layer, query.bases[scheme], projection=projection)
    n_channels, sides = SIZES[size]
    return apex.attribute(query.inputs, query.target, n_channels=n_channels, sides=sides)


def _attributed_to_fewest(query: Query, scheme: Scheme, through: bool) -> Tensor:
    """For a query of one clip, since the number of channels differs between clips."""
    projection = partial(integrated, baseline=query.fill) if through else None
    apex = APEX(query.model, query.layer, query.bases[scheme], projection=projection)
    chosen = fewest_channels(apex.layer_apex.decompose(query.inputs, query.target))[0]
    return apex.attribute(query.inputs, query.target, channels=chosen.nonzero()[:, 0].tolist())


for _scheme in SCHEMES:
    for _end, _through in (("", False), (", through IG", True)):
        for _size in SIZES:
            _run = partial(_attributed, scheme=_scheme, size=_size, through=_through)
            method(f"APEX {_scheme}, {_size}{_end}", uses_fill=_through)(_run)
        method(f"APEX {_scheme}, {SHARE:.0%} of the evidence{_end}", uses_fill=_through, batch=1)(
            partial(_attributed_to_fewest, scheme=_scheme, through=_through)
        )


LARGER: dict[str, tuple[Scheme, int | None]] = {
    f"APEX {scheme}{size}, two-sided": (scheme, n) for scheme in SCHEMES for size, n in MORE.items()
}


@method(*LARGER, uses_fill=True, uses_grid=True)
def _two_sided(query: Query) -> list[Tensor]:
    return two_sided(query, [LARGER[name] for name in query.names])
