"""The reference classifiers: a plain CNN and a ConvNeXt, how they are trained, and how well they do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import timm
import torch
from torch import Tensor, nn

CHANNELS = (1, 16, 32, 64, 128)  # few where the spectrogram is still large: there they cost the most
POOLED = (1, 2)  # the convolutions of the plain CNN that max pooling follows


class LayerError(ValueError):
    """The network has no such layer before its pooling."""


class PlainCNN(nn.Module):
    """Convolution, BatchNorm and ReLU four times, mean over the grid, one linear layer.

    The first convolution has a stride of 2, the next two are followed by max pooling: what is dear happens where the grid is small. The
    network is built only of modules that Captum's LRP has rules for, and none is used twice, as its DeepLift asks.

    Args:
        classes: number of logits.

    Example:
        >>> PlainCNN(8).features(torch.zeros(2, 1, 64, 126)).shape
        torch.Size([2, 128, 8, 15])
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for place, (before, after) in enumerate(pairwise(CHANNELS)):
            size, stride = (3, 1) if place else (5, 2)
            layers[f"conv{place}"] = nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
            if place in POOLED:
                layers[f"pool{place}"] = nn.MaxPool2d(2)
            layers[f"norm{place}"] = nn.BatchNorm2d(after)
            layers[f"relu{place}"] = nn.ReLU()
        self.features = nn.Sequential(layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(CHANNELS[-1], classes)

    def forward(self, log_mels: Tensor) -> Tensor:
        """Log-mels (clip, 1, mel, frame) → logits (clip, class)."""
        pooled = torch.flatten(self.pool(self.features(log_mels)), 1)  # (clip, channel, 8, time) → (clip, channel)
        return self.classifier(self.dropout(pooled))


def convnext(classes: int) -> nn.Module:
    """A ConvNeXt of timm's, smaller than its `atto`, with its LayerNorm between pooling and classifier.

    The stem is two overlapping convolutions, and the strides end at 8: so 64 bands × 126 frames leave a grid of 8 × 15 at the last
    stage. The two last stages are dilated instead, and have smaller kernels, so that a position still sees what is around it and not
    the whole clip.
    """
    return timm.create_model(
        "convnext_atto",
        in_chans=1,
        num_classes=classes,
        patch_size=4,
        stem_type="overlap_tiered",
        output_stride=8,
        depths=(1, 1, 2, 1),
        dims=(32, 64, 128, 192),
        kernel_sizes=(7, 7, 5, 3),
        conv_mlp=False,  # linear layers on channels-last tensors, which are faster on the CPU
        ls_init_value=1.0,  # timm's 1e-6 is meant for hundreds of epochs
    )


NETWORKS: dict[str, Callable[[int], nn.Module]] = {"cnn": PlainCNN, "convnext": convnext}


def explained_layer(model: nn.Module, name: str = "") -> nn.Module:
    """The layer whose grid the benchmark explains: the last one before pooling, or an earlier one by its name, such as `features.relu2`.

    Raises:
        TypeError: the model is not one of `NETWORKS`.
        LayerError: it has no such layer before its pooling.
    """
    model = _network(model)
    chain = _chain(model)
    if not name:
        return model.features if isinstance(model, PlainCNN) else model.stages[-1]  # type: ignore[index,return-value]  # of ModuleLists
    layers = {
        own: module
        for own, module in model.named_modules()
        if any(module is link for link in chain[: _n_before_pooling(model)])
    }
    if name not in layers:
        raise LayerError(f"expected the name of a layer before pooling, one of {', '.join(layers)}, but got {name!r}")
    return layers[name]


def head(model: nn.Module, layer: nn.Module) -> nn.Module:
    """What follows a layer: from its output, (clip, channel, frequency, time), to logits. It shares the model's modules.

    Args:
        model: made by one of `NETWORKS`.
        layer: as `explained_layer` gives it.

    Raises:
        TypeError: the model is not one of `NETWORKS`.
    """
    model = _network(model)
    chain = _chain(model)
    last = chain[_n_before_pooling(model) - 1] if layer is getattr(model, "features", None) else layer
    place = next(i for i, link in enumerate(chain) if link is last)
    return nn.Sequential(*chain[place + 1 :]).train(model.training)


def _network(model: nn.Module) -> nn.Module:
    """The network itself, where its spectrogram stands before it."""
    return model[-1] if isinstance(model, nn.Sequential) else model


def _chain(model: nn.Module) -> list[nn.Module]:
    """The modules that make the logits when they are called one after the other."""
    if isinstance(model, PlainCNN):
        return [*model.features, model.pool, nn.Flatten(), model.dropout, model.classifier]
    if isinstance(model, timm.models.ConvNeXt):
        return [model.stem, *model.stages, model.norm_pre, model.head]
    raise TypeError(f"expected a model made by one of {', '.join(NETWORKS)}, but got a {type(model).__name__}")


def _n_before_pooling(model: nn.Module) -> int:
    """How many of the chain keep a grid."""
    return len(_chain(model)) - (4 if isinstance(model, PlainCNN) else 2)
