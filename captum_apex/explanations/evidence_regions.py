"""The regions of evidence and of its prototypes, found at the input of their clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from captum._utils.typing import TargetType
from torch import Tensor
from torch.utils.data import Dataset

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.decomposition import Decomposition
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.audio.regions import Region
from captum_apex.explanations.clip_channels import at_layer_of, channels_by_contribution
from captum_apex.explanations.evidence import Evidence, Prototype
from captum_apex.explanations.prototype_regions import PrototypeRegions
from captum_apex.layers.values import naming_clips
from captum_apex.locating.region_search import LocatedRegion, RegionSearch

__all__ = ["SEARCH", "EvidenceRegions"]

SEARCH = RegionSearch()
"""The search for regions by default."""


class EvidenceRegions:
    """Finds the regions of the evidence of a batch of clips, and those of its prototypes where their clips are at hand.

    Args:
        apex: the attribution object.
        inputs: inputs of the model for the batch.
        arguments: additional arguments of the model for the batch.
        search: how regions are found; None leaves the peak cells.
        dataset: the dataset that the basis was fitted on; None leaves the regions of the prototypes.

    Raises:
        ValueError: the dataset is not that of the basis, as far as their numbers of clips show.

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
        dataset: Dataset | None,
    ) -> None:
        self.apex = apex
        self.inputs = inputs
        self.arguments = arguments
        self.search = search
        self.prototypes = None
        if search is not None and dataset is not None:
            self.prototypes = PrototypeRegions(apex, dataset, search)

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
        return tuple(self._with_region(each, region) for each, region in zip(evidence, found, strict=True))

    def _cell(self, decomposition: Decomposition, clip: int, channel: int) -> Region:
        """The cell in which a channel adds most to the score."""
        columns = None if decomposition.columns is None else int(decomposition.columns[clip])
        relevance = decomposition.relevance[clip, channel, :, :columns]
        basis = at_layer_of(self.apex).basis
        peaks = [int(cells.argmax()) for cells in basis.scheme.cells(relevance[None, None])]
        assert self.search is not None
        cross = self.search.cross
        return basis.scheme.region(peaks, *relevance.shape, intersection=not cross, places=basis.origin.places)

    def _with_region(self, evidence: Evidence, found: LocatedRegion) -> Evidence:
        prototypes = tuple(self._located_prototype(each, evidence) for each in evidence.prototypes)
        return replace(evidence, region=found.region, effect=found.effect, map=found.map, prototypes=prototypes)

    def _located_prototype(self, prototype: Prototype, evidence: Evidence) -> Prototype:
        if self.prototypes is None:
            return prototype
        found = self.prototypes.of(prototype.index, evidence.channel, evidence.side)
        return replace(prototype, region=found.region, effect=found.effect, map=found.map)
