"""Small networks that the tests explain, one for every kind of head and of layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_apex import PrototypeBasis
from captum_apex.layers.layout import Layout
from captum_apex.layers.origin import Origin


class PoolingHead(nn.Module):
    """Convolutions, mean over the grid, linear: EPIC's case. ReLU in place after the last convolution."""

    def __init__(self, width: int = 6, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.features = nn.Conv2d(5, width, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(width, classes)

    def forward(self, clips: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        features = self.relu(self.features(self.stem(clips)))
        return self.classifier(self.dropout(features.mean((2, 3)))) * gain


class NormHead(PoolingHead):
    """A normalisation between the pooling and the linear layer, as ConvNeXt has."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.LayerNorm, width: int = 6, classes: int = 4) -> None:
        super().__init__(width, classes)
        self.norm = norm(width)

    def forward(self, clips: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        features = self.relu(self.features(self.stem(clips)))
        return self.classifier(self.norm(features.mean((2, 3)))) * gain


class NonLinearHead(PoolingHead):
    """A head that is not affine in the pooled features."""

    def forward(self, clips: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        features = self.features(self.stem(clips))
        return self.classifier(torch.tanh(features).mean((2, 3)) ** 2) * gain


class AttentionPooling(PoolingHead):
    """A mean over the grid whose weights depend on the grid, as audio taggers have it."""

    def __init__(self, width: int = 6, classes: int = 4) -> None:
        super().__init__(width, classes)
        self.attention = nn.Conv2d(width, 1, 1)

    def forward(self, clips: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        features = self.relu(self.features(self.stem(clips)))
        weights = self.attention(features).flatten(2).softmax(-1)  # (clip, 1, position)
        return self.classifier((features.flatten(2) * weights).sum(-1)) * gain


class StatisticsPooling(PoolingHead):
    """Mean and standard deviation over time of every row's mean, as speaker and deepfake models have it."""

    def __init__(self, width: int = 6, classes: int = 4) -> None:
        super().__init__(width, classes)
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, clips: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        columns = self.relu(self.features(self.stem(clips))).mean(2)  # (clip, channel, time)
        return self.classifier(torch.cat([columns.mean(2), columns.std(2)], 1)) * gain


class Tokens(nn.Module):
    """A transformer over frames: the layer gives (clip, frame, channel)."""

    def __init__(self, width: int = 6, classes: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, width)
        self.encoder = nn.TransformerEncoderLayer(width, 2, 12, batch_first=True)
        self.classifier = nn.Linear(width, classes)

    def forward(self, clips: Tensor) -> Tensor:
        return self.classifier(self.encoder(self.embedding(clips[:, 0].transpose(1, 2))).mean(1))


@dataclass(frozen=True)
class Network:
    make: Callable[[], nn.Module]
    layer: str
    layout: str | None = None
    affine_head: bool = True


NETWORKS = {
    "pooling": Network(PoolingHead, "features", affine_head=False),  # a ReLU follows the layer
    "pooling after relu": Network(PoolingHead, "relu"),
    "layer norm": Network(NormHead, "relu"),
    "rms norm": Network(lambda: NormHead(nn.RMSNorm), "relu"),
    "group norm": Network(lambda: NormHead(lambda width: nn.GroupNorm(2, width)), "relu"),
    "nonlinear": Network(NonLinearHead, "features", affine_head=False),
    "attention pooling": Network(AttentionPooling, "relu", affine_head=False),
    "statistics pooling": Network(StatisticsPooling, "relu", affine_head=False),
    "tokens": Network(Tokens, "encoder", "n t c -> n c 1 t"),
}


def build(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, nn.Module]:
    """A network in evaluation mode, with random weights, and its layer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = NETWORKS[name]
        model = network.make().to(dtype).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2.0)
    return model, model.get_submodule(network.layer)


def clips(n: int = 3, rows: int = 8, columns: int = 10, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random clips (clip, 1, frequency, time)."""
    return torch.randn(n, 1, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        dtype
    )


def invertible(width: int = 6, seed: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    """A well-conditioned invertible matrix that is far from the identity and not orthogonal."""
    noise = torch.randn(width, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.matrix_exp(0.7 * noise / noise.norm(2)).to(dtype) * 1.3


def bare_basis(name: str, scheme: str = "square", U: Tensor | None = None) -> PrototypeBasis:
    """A basis without prototypes, with the network's layout."""
    return PrototypeBasis(
        invertible() if U is None else U, scheme, origin=Origin(layout=Layout.of(NETWORKS[name].layout))
    )
