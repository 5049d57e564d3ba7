"""Whether the regions of a channel's prototypes show the same part of the sound, where the parts are annotated.

A part is an event with a name and a place in a clip: a source that was planted there, or an annotated call. Images of
birds have their parts at points; sounds have them in boxes. A region shows a part where the two overlap enough. For
parts that are small beside the region this is the papers' rule, that the point lies in the region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_apex.audio.regions import Box, Region
from captum_apex.numbers import real_number

__all__ = ["PartHits", "part_consistency", "part_hits", "part_purity", "part_stability"]

_ROUNDING = 1e-9  # of an area, and of a share


@dataclass(frozen=True, eq=False)
class PartHits:
    """Which parts the region of each prototype shows, and which its clip has.

    Args:
        names: names of the parts, in alphabetical order.
        hits: whether the region shows the part, bool (channel, prototype, part).
        present: whether the clip has the part, bool (channel, prototype, part).

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import PartHits, part_purity
        >>> hits = torch.tensor([[[True, False], [True, True]]])
        >>> part_purity(PartHits(("call", "wind"), hits, torch.ones_like(hits)))
        tensor([1.], dtype=torch.float64)
    """

    names: tuple[str, ...]
    hits: Tensor
    present: Tensor

    def __post_init__(self) -> None:
        shapes = (tuple(self.hits.shape), tuple(self.present.shape))
        if self.hits.dim() != 3 or shapes[0] != shapes[1] or shapes[0][2] != len(self.names):
            raise ValueError(
                f"expected `hits` and `present` of shape (channel, prototype, part) for {len(self.names)} parts, but "
                f"got {shapes[0]} and {shapes[1]}"
            )


def part_hits(
    regions: Sequence[Sequence[Region | None]],
    indices: Tensor,
    parts: Mapping[int, Mapping[str, Region]] | Sequence[Mapping[str, Region]],
    *,
    least: float = 0.5,
) -> PartHits:
    """Which parts the region of each prototype shows.

    A region `r` shows a part `p` if `|r ∩ p| / min(|r|, |p|) ≥ least`, with the areas as shares of the clip.

    Args:
        regions: region of each prototype by channel and rank, such as those of `PrototypeRegions`, or of
            `PrototypeBasis.region` for its peak cells; None shows nothing.
        indices: indices of the prototypes' clips, integers (channel, prototype).
        parts: by the index of a clip, the region of each of its parts by name. Several events of one name are boxes of
            one region.
        least: smallest overlap, in (0, 1].

    Raises:
        ValueError: there is not one region per prototype, or `least` is out of range.
        KeyError: a prototype's clip has no entry in `parts`.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Region
        >>> from captum_apex.metrics.prototypes import part_hits
        >>> call = Region((Box(low=0.4, high=0.6, start=0.1, end=0.3),))
        >>> early = Region((Box(low=0.0, high=1.0, start=0.0, end=0.5),))
        >>> found = part_hits([[early]], torch.tensor([[7]]), {7: {"call": call}})
        >>> found.names, found.hits.tolist()
        (('call',), [[[True]]])

    Source: Huang et al. (ICCV 2023), "corresponding object parts", and PIP-Net (Nauta et al., CVPR 2023), where the
    region is a square of fixed size and a part is a point.
    """
    least = real_number(least, "least", 0, 1)
    if [len(of_channel) for of_channel in regions] != [indices.shape[1]] * len(indices):
        raise ValueError(f"expected one region for each of {tuple(indices.shape)} prototypes, but their numbers differ")
    clips = indices.tolist()
    names = tuple(sorted({name for of_channel in clips for clip in of_channel for name in parts[clip]}))
    hits = torch.zeros(*indices.shape, len(names), dtype=torch.bool)
    present = torch.zeros_like(hits)
    for channel, of_channel in enumerate(clips):
        for rank, clip in enumerate(of_channel):
            region = regions[channel][rank]
            for number, name in enumerate(names):
                part = parts[clip].get(name)
                present[channel, rank, number] = part is not None
                if region is not None and part is not None:
                    hits[channel, rank, number] = _overlap(region, part) >= least - _ROUNDING
    return PartHits(names, hits, present)


def part_purity(parts: PartHits) -> Tensor:
    """The share of the prototypes of each channel whose regions show the part that they show most consistently.

    `purity_k = max_s Σ_p h_kps / Σ_p e_kps`: of the prototypes in whose clips part `s` exists (`e`), those that show it
    (`h`), for the best part.

    Args:
        parts: what the regions show, from `part_hits`.

    Returns:
        float64 tensor (channel,), in [0, 1]: 1 where a part is in the regions of all prototypes that have it. NaN where
        no clip has a part. A region that covers the clip shows everything, and a part that only one prototype has
        counts as much as others; so compare it with that of the same regions at random places.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import PartHits, part_purity
        >>> hits = torch.tensor([[[True, False], [False, False]], [[False, False], [False, False]]])
        >>> part_purity(PartHits(("call", "wind"), hits, torch.ones_like(hits)))
        tensor([0.5000, 0.0000], dtype=torch.float64)

    Source: PIP-Net (Nauta et al., CVPR 2023), Section 5, "purity of prototypes", as in its published code.
    """
    counts = parts.present.sum(1).to(torch.float64)  # (channel, part)
    shares = (parts.hits & parts.present).sum(1) / counts  # 0 / 0: NaN for a part that no clip has
    if not shares.shape[1]:
        return torch.full((len(shares),), torch.nan, dtype=torch.float64)
    return shares.nan_to_num(0.0).amax(1).where(parts.present.flatten(1).any(1), torch.nan)


def part_consistency(parts: PartHits, threshold: float = 0.8) -> Tensor:
    """Whether each channel shows one part in at least a share of the clips: `part_purity(parts) ≥ threshold`.

    Args:
        parts: what the regions show, from `part_hits`; in the paper, of all unseen clips of a class.
        threshold: smallest share, 0.8 in the paper.

    Returns:
        float64 tensor (channel,), 1 or 0; its mean is the consistency score. NaN where no clip has a part.

    Raises:
        ValueError: the threshold is out of range.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import PartHits, part_consistency
        >>> hits = torch.tensor([[[True], [True]], [[True], [False]]])
        >>> part_consistency(PartHits(("call",), hits, torch.ones_like(hits)))
        tensor([1., 0.], dtype=torch.float64)

    Source: Huang et al., "Evaluation and Improvement of Interpretability for Self-Explainable Part-Prototype Networks"
    (ICCV 2023, arXiv 2212.05946), Section 3.1.
    """
    threshold = real_number(threshold, "threshold", 0, 1)
    purities = part_purity(parts)
    return (purities >= threshold - _ROUNDING).to(torch.float64).where(purities.isfinite(), torch.nan)


def part_stability(parts: PartHits, perturbed: PartHits) -> Tensor:
    """The share of the prototypes of each channel that show the same parts after noise was added to their clips.

    `stability_k = |{p : h_kps = h'_kps for all parts s}| / P`.

    Args:
        parts: what the regions show, from `part_hits`.
        perturbed: what the regions of the same channels show in the same clips with noise.

    Returns:
        float64 tensor (channel,), in [0, 1]; 1 where noise changes nothing.

    Raises:
        ValueError: the two have other parts or prototypes.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import PartHits, part_stability
        >>> hits = torch.tensor([[[True, False], [True, True]]])
        >>> other = torch.tensor([[[True, False], [True, False]]])
        >>> names, present = ("call", "wind"), torch.ones_like(hits)
        >>> part_stability(PartHits(names, hits, present), PartHits(names, other, present))
        tensor([0.5000], dtype=torch.float64)

    Source: Huang et al. (ICCV 2023), Section 3.2; its noise is normal with a deviation of 0.2, cut at ±0.25, on inputs
    of deviation 1.
    """
    if parts.names != perturbed.names or parts.hits.shape != perturbed.hits.shape:
        raise ValueError("expected the same parts of the same prototypes twice, but they differ")
    return (parts.hits == perturbed.hits).all(2).to(torch.float64).mean(1)


def _overlap(region: Region, part: Region) -> float:
    """The area in both regions as a share of the smaller one; 0 where one is empty."""
    boxes = (*region.boxes, *part.boxes)
    if not any(_common(one, other) for one in region.boxes for other in part.boxes):
        return 0.0
    if len(boxes) == 2:
        return _common(*boxes) / min(_common(box, box) for box in boxes)
    rows = _edges([(box.low, box.high) for box in boxes])
    columns = _edges([(box.start, box.end) for box in boxes])
    areas = rows.diff()[:, None] * columns.diff()
    centres = ((rows[1:] + rows[:-1]) / 2, (columns[1:] + columns[:-1]) / 2)
    in_region = _covered(region.boxes, *centres)
    in_part = _covered(part.boxes, *centres)
    smaller = min(areas[in_region].sum().item(), areas[in_part].sum().item())
    return areas[in_region & in_part].sum().item() / smaller if smaller > 0 else 0.0


def _common(one: Box, other: Box) -> float:
    """The area in both boxes."""
    height = min(one.high, other.high) - max(one.low, other.low)
    width = min(one.end, other.end) - max(one.start, other.start)
    return max(height, 0.0) * max(width, 0.0)


def _edges(sides: Sequence[tuple[float, float]]) -> Tensor:
    """The ends of all boxes on one axis, each once, in their order."""
    return torch.tensor(sorted({end for side in sides for end in side}), dtype=torch.float64)


def _covered(boxes: Sequence[Box], rows: Tensor, columns: Tensor) -> Tensor:
    """Whether each point lies in one of the boxes, bool (row, column)."""
    inside = torch.zeros(len(rows), len(columns), dtype=torch.bool)
    for box in boxes:
        inside |= ((box.low <= rows) & (rows < box.high))[:, None] & (box.start <= columns) & (columns < box.end)
    return inside
