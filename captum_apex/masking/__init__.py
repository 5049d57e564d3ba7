"""Masking of inputs region by region.

- `grids`: region grids, which say which region each bin of an input belongs to; sums of an attribution per region.
- `segments`: region grids with given boundaries, such as those of phonemes, which differ from clip to clip.
- `rankings`: the order in which the regions are masked, by their attribution.
- `fills`: what replaces masked bins: silence, the mean, a blurred copy, noise.
"""

from captum_apex.masking.fills import (
    FILLS,
    Fill,
    blur_fill,
    masked,
    mean_fill,
    named_fill,
    noise_fill,
    own_phase,
    silence_fill,
)
from captum_apex.masking.grids import GRIDS, TILE, check_grid, n_regions, named_grid, region_grid, region_sums
from captum_apex.masking.rankings import check_attributions, ranking
from captum_apex.masking.segments import discretised, region_means, segment_grid

__all__ = [
    "FILLS",
    "GRIDS",
    "TILE",
    "Fill",
    "blur_fill",
    "check_attributions",
    "check_grid",
    "discretised",
    "masked",
    "mean_fill",
    "n_regions",
    "named_fill",
    "named_grid",
    "noise_fill",
    "own_phase",
    "ranking",
    "region_grid",
    "region_means",
    "region_sums",
    "segment_grid",
    "silence_fill",
]
