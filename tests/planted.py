"""A network that finds one planted sound: its layer averages patches of the input and fires above a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from captum_apex import APEX, Evidence, FeatureBank, LayerAPEX, RegionSearch, basis_from_matrix, explain

LOUD = 6.0
"""Level of a planted sound; the clip around it is at 0."""


class Detector(nn.Module):
    """The mean of a patch, above a threshold, averaged over the grid."""

    def __init__(
        self,
        patch: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        threshold: float = 1.0,
    ) -> None:
        super().__init__()
        template = nn.Conv2d(1, 1, patch, stride, padding)
        template.weight.data.fill_(1 / template.weight.numel())
        template.bias.data.fill_(-threshold)
        self.layer = nn.Sequential(template, nn.ReLU())
        self.head = nn.Linear(1, 1, bias=False)
        self.head.weight.data.fill_(3.0)

    def forward(self, clips: Tensor) -> Tensor:
        return self.head(self.layer(clips).mean((2, 3)))


def planted(size: tuple[int, int], *boxes: tuple[int, int, int, int], loud: float = LOUD) -> Tensor:
    """A clip (1, 1, frequency, time) that is loud in rectangles: first row, end row, first column, end column."""
    clip = torch.zeros(1, 1, *size)
    for low, high, start, end in boxes:
        clip[..., low:high, start:end] = loud
    return clip


def attribution(model: nn.Module, clips: Sequence[Tensor], scheme: str, kind: type = LayerAPEX) -> APEX | LayerAPEX:
    """An attribution object with the channels of the layer as its basis; the clips are its prototypes."""
    model.eval()
    bank = FeatureBank.from_dataset(model, model.layer, list(clips))
    basis = basis_from_matrix(bank, scheme, torch.eye(bank.means.shape[1]), n_prototypes=len(clips))
    return kind(model, model.layer, basis)


def evidence_of(model: nn.Module, clip: Tensor, scheme: str, search: RegionSearch | None = None) -> Evidence:
    """The first channel of the explanation of a clip."""
    apex = attribution(model, [clip[0]], scheme)
    return explain(apex, clip, 0, n_prototypes=1, search=search or RegionSearch())[0].evidence[0]


def bins_of(evidence: Evidence, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """The boxes of a region in bins, from left to right; they must end at edges of bins."""
    boxes = []
    for box in sorted(evidence.region.boxes, key=lambda box: (box.start, box.low)):
        edges = (box.low * size[0], box.high * size[0], box.start * size[1], box.end * size[1])
        assert all(abs(edge - round(edge)) < 1e-6 for edge in edges), f"{box} ends inside a bin"
        boxes.append(tuple(round(edge) for edge in edges))
    return boxes
