"""Architectures that no library has, at their real sizes and with random weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ConvNextConfig, ConvNextModel


class CNN14(nn.Module):
    """From log-mels (clip, 1, time, mel) to logits, all pooled over frequency and time at the end.

    Source: PANNs (Kong et al. 2020, arXiv 1912.10211), Table 2 and Section III; without its spectrogram and without the
        last sigmoid.
    """

    def __init__(self, n_classes: int = 527, n_mels: int = 64) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(n_mels)
        widths = (1, 64, 128, 256, 512, 1024, 2048)
        for i in range(1, 7):
            self.add_module(f"conv_block{i}", _conv_block(widths[i - 1], widths[i], pool=2 if i < 6 else 1))
        self.fc1 = nn.Linear(2048, 2048)
        self.fc_audioset = nn.Linear(2048, n_classes)

    def forward(self, log_mels: Tensor) -> Tensor:
        features = self.bn0(log_mels.transpose(1, 3)).transpose(1, 3)
        for i in range(1, 7):
            features = self.get_submodule(f"conv_block{i}")(features)
        frames = features.mean(3)  # (clip, channel, time, mel) → (clip, channel, time)
        return self.fc_audioset(F.relu(self.fc1(frames.amax(2) + frames.mean(2))))


def _conv_block(inputs: int, outputs: int, pool: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
        *(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()),
        nn.AvgPool2d(pool),
    )


class PrototypeHead(nn.Module):
    """A class's logit: the weighted sum, over its prototypes, of the similarity of the most similar place.

    The similarity is the positive part of the cosine; the weights are not negative. The grid is first enlarged to twice
    its size in both directions, as in the published models.

    Source: AudioProtoPNet (Heinrich et al. 2025, arXiv 2404.10420).
    """

    def __init__(self, width: int = 1024, n_classes: int = 21, n_prototypes: int = 20) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.rand(n_classes * n_prototypes, width, 1, 1))
        self.weight = nn.Parameter(torch.ones(n_classes, n_prototypes))
        self.bias = nn.Parameter(torch.full((n_classes,), -2.0))

    def normalised(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors)

    def forward(self, features: Tensor) -> Tensor:
        places = F.interpolate(features, scale_factor=2, mode="bilinear")
        similarity = F.conv2d(
            self.normalised(places), self.normalised(self.prototypes)
        )  # (clip, prototype, frequency, time)
        strongest = F.relu(similarity).amax((2, 3)).unflatten(1, self.weight.shape)  # (clip, class, prototype)
        return (strongest * F.relu(self.weight)).sum(2) + self.bias


class HandWrittenHead(PrototypeHead):
    """The same head with its normalisation written out from squares, as in the published models."""

    def normalised(self, vectors: Tensor) -> Tensor:
        return vectors / torch.sqrt(torch.sum(vectors**2, dim=1, keepdim=True) + 1e-12)


class AudioProtoPNet(nn.Module):
    """ConvNeXt-Base for one channel, and prototypes on its last stage."""

    def __init__(self, n_classes: int = 21) -> None:
        super().__init__()
        self.backbone = ConvNextModel(
            ConvNextConfig(num_channels=1, depths=[3, 3, 27, 3], hidden_sizes=[128, 256, 512, 1024])
        )
        self.head = PrototypeHead(1024, n_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.backbone(inputs).last_hidden_state)
