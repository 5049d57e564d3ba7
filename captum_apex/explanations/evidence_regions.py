"""The regions of evidence and of its prototypes, found at the input of their clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from captum._utils.typing import TargetType
from torch import Tensor
from torch.utils.data import Dataset

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.decomposition import Decomposition
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.audio.regions import Box, Region
from captum_apex.explanations.clip_channels import at_layer_of, channels_by_contribution
from captum_apex.explanations.evidence import Evidence, Prototype
from captum_apex.explanations.prototype_regions import PrototypeRegions
from captum_apex.layers.values import naming_clips
from captum_apex.locating.region_search import LocatedRegion, RegionSearch

__all__ = ["SEARCH", "EvidenceRegions"]

SEARCH = RegionSearch()
"""The search for regions by default."""

_COUNTS = 0.5  # share of the largest relevance of a cell from which on the strongest cell counts as well


class EvidenceRegions:
    """Finds the regions of the evidence of a batch of clips, and those of its prototypes where their clips are at hand.

    Args:
        apex: the attribution object.
        inputs: inputs of the model for the batch.
        arguments: additional arguments of the model for the batch.
        search: how regions are found; None leaves the peak cells.
        dataset: the dataset that the basis was fitted on, or the regions that are found in it; None leaves the regions
            of the prototypes.

    Raises:
        ValueError: the dataset is not that of the basis, as far as their numbers of clips show; or the regions are
            those of another basis or of another search.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import Evidence, LayerAPEX, PrototypeBasis, Region
        >>> from captum_apex.explanations.evidence_regions import SEARCH, EvidenceRegions
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> apex = LayerAPEX(model, layer, PrototypeBasis(torch.eye(1), "time"))
        >>> clip = torch.tensor([[[[0.0, 0.0, 0.0, 4.0]]]])
        >>> evidence = Evidence(0, 1, contribution=1.0, activation=1.0, purity=1.0, region=Region(()), prototypes=())
        >>> regions = EvidenceRegions(apex, clip, (), SEARCH, dataset=None)
        >>> regions.located([evidence], apex.decompose(clip, 0), clip=0, target=0)[0].region.boxes
        (Box(low=0.0, high=1.0, start=0.75, end=1.0),)
    """

    def __init__(
        self,
        apex: APEX | LayerAPEX,
        inputs: Tensor | tuple[Tensor, ...],
        arguments: tuple,
        search: RegionSearch | None,
        dataset: Dataset | PrototypeRegions | None,
    ) -> None:
        self.apex = apex
        self.inputs = inputs
        self.arguments = arguments
        self.search = search
        self.prototypes = None
        if search is not None and dataset is not None:
            self.prototypes = _regions(apex, dataset, search)

    def located(
        self, evidence: Sequence[Evidence], decomposition: Decomposition, clip: int, target: TargetType
    ) -> tuple[Evidence, ...]:
        """The evidence of one clip with the regions that were found.

        Args:
            evidence: the evidence with its peak cells.
            decomposition: decomposition of the batch for the explained class.
            clip: index of the clip in the batch.
            target: the explained class of the clip.
        """
        if self.search is None or not evidence:
            return tuple(evidence)
        channels = [each.channel for each in evidence]
        with naming_clips(lambda _: f"clip {clip}"):
            values = channels_by_contribution(
                self.apex, self.inputs, self.arguments, decomposition, clip, channels, self.search.batch_size
            )
            cells = [self._cell(decomposition, clip, channel) for channel in channels]
            found = self.search.locate(values, cells, target, score=decomposition.score[clip].item())
        found = [
            self._compared(each, region, decomposition, clip) for each, region in zip(evidence, found, strict=True)
        ]
        if self.prototypes is not None:
            self.prototypes.find_all(
                (one.index, each.channel, each.side) for each in evidence for one in each.prototypes
            )
        return tuple(self._with_region(each, region) for each, region in zip(evidence, found, strict=True))

    def _cell(self, decomposition: Decomposition, clip: int, channel: int) -> Region:
        """The cell in which a channel adds most to the score."""
        relevance = _on_grid(decomposition.relevance, decomposition, clip, channel)
        basis = at_layer_of(self.apex).basis
        peaks = [int(cells.argmax()) for cells in basis.scheme.cells(relevance)]
        assert self.search is not None
        return basis.region(peaks, *relevance.shape[2:], intersection=not self.search.cross)

    def _compared(
        self, evidence: Evidence, found: LocatedRegion, decomposition: Decomposition, clip: int
    ) -> LocatedRegion:
        """A region whose effect says whether the channel is strongest elsewhere, in a cell that counts less."""
        if found.effect is None or evidence.cell is None or not _apart(evidence.cell, found.region):
            return found
        scheme = at_layer_of(self.apex).basis.scheme
        levels = _on_grid(decomposition.features, decomposition, clip, evidence.channel) * evidence.side
        counts = _on_grid(decomposition.relevance, decomposition, clip, evidence.channel)
        pairs = zip(scheme.cells(levels), scheme.cells(counts), strict=True)
        elsewhere = any(count[0, 0, level.argmax()] < _COUNTS * count.max() for level, count in pairs)
        return replace(found, effect=replace(found.effect, fires_elsewhere=elsewhere))

    def _with_region(self, evidence: Evidence, found: LocatedRegion) -> Evidence:
        prototypes = tuple(self._located_prototype(each, evidence) for each in evidence.prototypes)
        return replace(evidence, region=found.region, effect=found.effect, map=found.map, prototypes=prototypes)

    def _located_prototype(self, prototype: Prototype, evidence: Evidence) -> Prototype:
        if self.prototypes is None:
            return prototype
        found = self.prototypes.of(prototype.index, evidence.channel, evidence.side)
        return replace(prototype, region=found.region, effect=found.effect, map=found.map)


def _regions(apex: APEX | LayerAPEX, dataset: Dataset | PrototypeRegions, search: RegionSearch) -> PrototypeRegions:
    """The regions of prototypes that are kept, or those of a dataset, of which none is found yet."""
    if not isinstance(dataset, PrototypeRegions):
        return PrototypeRegions(apex, dataset, search)
    if dataset.apex is not apex or dataset.search != search:
        raise ValueError(
            "expected the `PrototypeRegions` of this attribution object and of this search, but got those of another "
            f"{'search' if dataset.apex is apex else 'attribution object'}; make them anew"
        )
    return dataset


def _on_grid(maps: Tensor, decomposition: Decomposition, clip: int, channel: int) -> Tensor:
    """The map of a channel in a clip without padding, (1, 1, frequency, time)."""
    columns = None if decomposition.columns is None else int(decomposition.columns[clip])
    return maps[clip, channel, :, :columns][None, None]


def _apart(one: Region, other: Region) -> bool:
    """Whether no part of one region lies in the other; of two crosses, whether their strips or bands are apart."""
    if len(one.boxes) == len(other.boxes) == 2:
        return not all(map(_overlap, one.boxes, other.boxes))
    return not any(_overlap(mine, its) for mine, its in product(one.boxes, other.boxes))


def _overlap(one: Box, other: Box) -> bool:
    in_frequency = one.low < other.high and other.low < one.high
    return in_frequency and one.start < other.end and other.start < one.end
