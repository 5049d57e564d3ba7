"""Variants of APEX that were tried against its defaults, on training clips alone.

They are judged where a run is told `--part train --add benchmarks/variants.py` and their names.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.methods import Query, method
from benchmarks.methods.prototype_maps import integrated, two_sided
from captum_apex import APEX, SCHEMES, Scheme
from captum_apex.attribution.decomposition import Decomposition

SHARE = 0.8  # of the positive contributions, for the evidence that grows until it has them
MORE = {", n=10": 10, ", n=20": 20}  # channels of the two-sided occlusion
SIZES = {"both sides": (5, "both"), "n=10": (10, "positive"), "n=20": (20, "positive")}


def enough(parts: Decomposition) -> Tensor:
    """The fewest channels, largest first, that make up `SHARE` of all active channels' positive contributions, bool (clip, channel)."""
    able = (parts.contributions > 0) & (parts.activations > 0)
    sorted_, order = parts.contributions.where(able, torch.zeros(())).sort(dim=1, descending=True)
    before = sorted_.cumsum(1) - sorted_  # what the larger ones have already
    chosen = before < SHARE * sorted_.sum(1, keepdim=True)
    return torch.zeros_like(able).scatter(1, order, chosen) & able


def _attributed(query: Query, scheme: Scheme, size: str, through: bool) -> Tensor:
    projection = partial(integrated, baseline=query.fill) if through else None
    apex = APEX(query.model, query.layer, query.bases[scheme], projection=projection)
    n_channels, sides = SIZES[size]
    return apex.attribute(query.inputs, query.target, n_channels=n_channels, sides=sides)


def _enough(query: Query, scheme: Scheme, through: bool) -> Tensor:
    """Clip by clip: the numbers of channels differ."""
    projection = partial(integrated, baseline=query.fill) if through else None
    apex = APEX(query.model, query.layer, query.bases[scheme], projection=projection)
    chosen = enough(apex.layer_apex.decompose(query.inputs, query.target))[0]
    return apex.attribute(query.inputs, query.target, channels=chosen.nonzero()[:, 0].tolist())


for _scheme in SCHEMES:
    for _end, _through in (("", False), (", through IG", True)):
        for _size in SIZES:
            _run = partial(_attributed, scheme=_scheme, size=_size, through=_through)
            method(f"APEX {_scheme}, {_size}{_end}", uses_fill=_through)(_run)
        method(f"APEX {_scheme}, {SHARE:.0%} of the evidence{_end}", uses_fill=_through, batch=1)(
            partial(_enough, scheme=_scheme, through=_through)
        )


LARGER: dict[str, tuple[Scheme, int | None]] = {
    f"APEX {scheme}{size}, two-sided": (scheme, n) for scheme in SCHEMES for size, n in MORE.items()
}


@method(*LARGER, uses_fill=True, uses_grid=True)
def _two_sided(query: Query) -> list[Tensor]:
    return two_sided(query, [LARGER[name] for name in query.names])
