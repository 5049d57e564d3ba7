"""The networks of the reference classifiers, a plain CNN and a ConvNeXt, and their layers that can be explained."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import timm
import torch
from torch import Tensor, nn

CHANNELS = (1, 16, 32, 64, 128)  # few in the first layers, where the grid is large and each channel costs most
POOLED = (1, 2)  # indices of the convolutions of the plain CNN with max pooling after them


class LayerError(ValueError):
    """The network has no layer of this name before its pooling."""


class PlainCNN(nn.Module):
    """Four times convolution, BatchNorm and ReLU, then the mean over the grid and one linear layer.

    The first convolution has a stride of 2, and the next two have max pooling after them, so that layers with many
    channels work on a small grid. Captum's LRP has rules for all modules of the network, and no module is used twice,
    as Captum's DeepLift requires.

    Args:
        classes: number of classes.

    Example:
        >>> import torch
        >>> from benchmarks.classifiers.networks import PlainCNN
        >>> PlainCNN(8).features(torch.zeros(2, 1, 64, 126)).shape
        torch.Size([2, 128, 8, 15])
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (n_inputs, n_outputs) in enumerate(pairwise(CHANNELS)):
            size, stride = (3, 1) if i else (5, 2)
            layers[f"conv{i}"] = nn.Conv2d(n_inputs, n_outputs, size, stride, padding=size // 2, bias=False)
            if i in POOLED:
                layers[f"pool{i}"] = nn.MaxPool2d(2)
            layers[f"norm{i}"] = nn.BatchNorm2d(n_outputs)
            layers[f"relu{i}"] = nn.ReLU()
        self.features = nn.Sequential(layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(CHANNELS[-1], classes)

    def forward(self, log_mels: Tensor) -> Tensor:
        """Log-mels (clip, 1, mel, frame) → logits (clip, class)."""
        pooled = torch.flatten(self.pool(self.features(log_mels)), 1)  # (clip, channel, 8, time) → (clip, channel)
        return self.classifier(self.dropout(pooled))


def convnext(classes: int) -> nn.Module:
    """A ConvNeXt of timm, smaller than its `atto`, with a LayerNorm between pooling and classifier.

    The stem is two overlapping convolutions, and the total stride is 8: 64 bands × 126 frames give a grid of 8 × 15 in
    the last stage. The last two stages are dilated instead of strided and have smaller kernels, so that the receptive
    field of a position is its surroundings and not the whole clip.

    Args:
        classes: number of classes.
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
    """The layer that the benchmark explains.

    Args:
        model: a model made by one of `NETWORKS`, alone or with its log-mels inside.
        name: name of a layer before pooling, such as `features.relu2`; empty for the last one.

    Raises:
        TypeError: the model was not made by one of `NETWORKS`.
        LayerError: the model has no layer of this name before its pooling.
    """
    model = _network(model)
    chain = _chain(model)
    if not name:
        # mypy does not know the types of a ModuleList
        return model.features if isinstance(model, PlainCNN) else model.stages[-1]  # type: ignore[index,return-value]
    before_pooling = chain[: _n_before_pooling(model)]
    layers = {
        layer_name: module
        for layer_name, module in model.named_modules()
        if any(module is link for link in before_pooling)
    }
    if name not in layers:
        raise LayerError(f"expected the name of a layer before pooling, one of {', '.join(layers)}, but got {name!r}")
    return layers[name]


def pooled_norm(model: nn.Module) -> nn.Module | None:
    """The norm between the pooling and the last linear layer; None where the network has none.

    Args:
        model: a model made by one of `NETWORKS`, alone or with its log-mels inside.
    """
    return getattr(getattr(_network(model), "head", None), "norm", None)


def head(model: nn.Module, layer: nn.Module, norm: nn.Module | None = None) -> nn.Module:
    """The modules after a layer, from its output (clip, channel, frequency, time) to the logits.

    Args:
        model: a model made by one of `NETWORKS`, alone or with its log-mels inside.
        layer: a layer that `explained_layer` gives.
        norm: the norm behind the pooling, to leave it out: the input is then the grid that it has normalised.

    Returns:
        A module that shares its parameters with the model.

    Raises:
        TypeError: the model was not made by one of `NETWORKS`.
    """
    model = _network(model)
    chain = _chain(model)
    last = chain[_n_before_pooling(model) - 1] if layer is getattr(model, "features", None) else layer
    position = next(i for i, link in enumerate(chain) if link is last)
    after = chain[position + 1 :]
    if norm is not None:
        after = [*after[:-1], *(module for module in after[-1].children() if module is not norm)]
    return nn.Sequential(*after).train(model.training)


def _network(model: nn.Module) -> nn.Module:
    """The network itself if its log-mels are computed by modules before it."""
    return model[-1] if isinstance(model, nn.Sequential) else model


def _chain(model: nn.Module) -> list[nn.Module]:
    """The modules that compute the logits when they are called in this order."""
    if isinstance(model, PlainCNN):
        return [*model.features, model.pool, nn.Flatten(), model.dropout, model.classifier]
    if isinstance(model, timm.models.ConvNeXt):
        return [model.stem, *model.stages, model.norm_pre, model.head]
    raise TypeError(f"expected a model made by one of {', '.join(NETWORKS)}, but got a {type(model).__name__}")


def _n_before_pooling(model: nn.Module) -> int:
    """The number of modules in the chain with a grid as their output."""
    return len(_chain(model)) - (4 if isinstance(model, PlainCNN) else 2)
