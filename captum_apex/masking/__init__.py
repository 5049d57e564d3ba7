"""Coarse regions of an input, what is put in their place, and which region goes first."""

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
from captum_apex.masking.grids import GRIDS, check_grid, n_regions, named_grid, region_grid, region_sums
from captum_apex.masking.rankings import check_attributions, ranking

__all__ = [
    "FILLS",
    "GRIDS",
    "Fill",
    "blur_fill",
    "check_attributions",
    "check_grid",
    "masked",
    "mean_fill",
    "n_regions",
    "named_fill",
    "named_grid",
    "noise_fill",
    "own_phase",
    "ranking",
    "region_grid",
    "region_sums",
    "silence_fill",
]
