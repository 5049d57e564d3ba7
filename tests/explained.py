"""A small network, its clips on real axes, and explanations of one of the clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import Tensor, nn

from captum_apex import (
    SCHEMES,
    Clip,
    Explanation,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    SpectrogramAxes,
    basis_from_matrix,
    explain,
)
from tests.networks import build, clips, invertible

AXES = SpectrogramAxes(16000, 512, 160, n_mels=8)
CLASSES = ("dog", "rain", "$5 bell")
TRAINING = clips(15, seed=5)
QUERY = clips(1, seed=6)
TARGET = 2


@dataclass
class Recorded:
    """Training clips; `looked_up` has the indices that were looked up."""

    looked_up: list[int] = field(default_factory=list)

    def __getitem__(self, index: int) -> Clip:
        self.looked_up.append(index)
        return clip_of(TRAINING[index], CLASSES[index % 3])


def clip_of(inputs: Tensor, label: str = "") -> Clip:
    return Clip(10 * inputs[0], AXES, name="a/query.wav", label=label)


@cache
def network() -> tuple[nn.Module, nn.Module, FeatureBank]:
    model, layer = build("pooling after relu")
    return model, layer, FeatureBank.from_dataset(model, layer, [(clip, i % 3) for i, clip in enumerate(TRAINING)])


def basis(scheme: str = "time") -> PrototypeBasis:
    return basis_from_matrix(network()[2], scheme, invertible(), n_prototypes=4)


def explained(scheme: str = "time", n_channels: int = 2, n_prototypes: int = 3, **options: Any) -> Explanation:
    model, layer, _ = network()
    return explain(
        LayerAPEX(model, layer, basis(scheme)),
        QUERY,
        TARGET,
        n_channels=n_channels,
        n_prototypes=n_prototypes,
        **options,
    )[0]


def all_schemes(**sizes: int) -> list[Explanation]:
    return [explained(scheme, **sizes) for scheme in SCHEMES]
