"""What a module says about the axes of its output by what it is: a convolution has its channels on axis 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

__all__ = ["KnownAxes", "channel_counts", "is_script", "kind_name", "known_axes", "takes_hooks"]

_ELEMENTWISE = (nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Dropout, nn.Sigmoid, nn.Tanh)
"""Modules that leave the axes of their input as they are."""
_TRANSFORMERS = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.TransformerDecoder, nn.TransformerDecoderLayer)
_KINDS = {
    kind.__name__: kind
    for kind in (
        *(nn.Sequential, nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, *_ELEMENTWISE, *_TRANSFORMERS),
        *(nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.BatchNorm1d, nn.BatchNorm2d),
        *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.MultiheadAttention, nn.GRU, nn.LSTM, nn.RNN),
    )
}
"""The kinds that are recognised in TorchScript, which keeps only the name of a module's class."""


@dataclass(frozen=True)
class KnownAxes:
    """The axes of an output that the kind of a module fixes.

    Args:
        channels: index of the axis of the channels.
        clips: index of the axis of the clips; None where the kind takes the clips on any axis, as a `Linear` does.
        kind: name of the module's class.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.kinds import known_axes
        >>> known_axes(nn.Conv1d(8, 16, 3), (2, 16, 30))
        KnownAxes(channels=1, clips=0, kind='Conv1d')
    """

    channels: int
    clips: int | None
    kind: str


def known_axes(module: nn.Module, shape: Sequence[int], at_input: bool = False) -> KnownAxes | None:
    """The axes of an output that the kind of its module fixes; None where the kind fixes none.

    A container is as its last module that is not elementwise. The shape decides where a kind occurs in two forms: the
    `LayerNorm2d` of timm and torchvision is a `LayerNorm` with its channels on axis 1.

    Args:
        module: the module.
        shape: shape of the output.
        at_input: take `shape` for the shape of the input of the module.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.kinds import known_axes
        >>> known_axes(nn.TransformerEncoderLayer(16, 2), (30, 2, 16))
        KnownAxes(channels=2, clips=1, kind='TransformerEncoderLayer')
        >>> print(known_axes(nn.ReLU(), (2, 16, 30)))
        None
    """
    kind = _kind(module)
    if issubclass(kind, nn.Sequential):
        children = list(module.children())
        for child in children if at_input else reversed(children):
            known = known_axes(child, shape, at_input)
            if known is not None or not issubclass(_kind(child), _ELEMENTWISE):
                return known
        return None
    name = kind_name(module)
    if issubclass(kind, (*_TRANSFORMERS, nn.MultiheadAttention, nn.RNNBase)):
        return KnownAxes(len(shape) - 1, 0 if _batch_first(module) else 1, name) if len(shape) == 3 else None
    count = _count(module, at_input)
    places: dict[int, int | None] = {}  # axis of the channels → axis of the clips
    if issubclass(kind, (_ConvNd, _NormBase, nn.GroupNorm)):
        places = {1: 0}
    elif issubclass(kind, (nn.LayerNorm, nn.RMSNorm)):
        places = {len(shape) - 1: None, 1: 0}
    elif issubclass(kind, nn.Linear):
        places = {len(shape) - 1: None}
    for channels, clips in places.items():
        if 0 < channels < len(shape) and count in (None, shape[channels]):
            return KnownAxes(channels, clips, name)
    return None


def kind_name(module: nn.Module) -> str:
    """The name of a module's class; in TorchScript that of the class which it was made from.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.kinds import kind_name
        >>> kind_name(nn.ReLU())
        'ReLU'
    """
    return getattr(module, "original_name", type(module).__name__)


def is_script(module: nn.Module | None) -> bool:
    """Whether a module is TorchScript, so that no hook reaches the modules inside it.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.kinds import is_script
        >>> is_script(nn.ReLU())
        False
    """
    return isinstance(module, torch.jit.ScriptModule)


def takes_hooks(module: nn.Module) -> bool:
    """Whether the output of a module can be read; that of a module which `torch.jit.script` made cannot.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.kinds import takes_hooks
        >>> takes_hooks(nn.ReLU())
        True
    """
    return not isinstance(module, torch.jit.RecursiveScriptModule)


def channel_counts(module: nn.Module) -> dict[int, str]:
    """The numbers of channels that a module and the modules inside it have, with the name of one module for each.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.kinds import channel_counts
        >>> channel_counts(nn.Sequential(nn.Conv1d(8, 16, 3), nn.ReLU(), nn.Linear(30, 4)))
        {16: 'Conv1d', 4: 'Linear'}
    """
    counts: dict[int, str] = {}
    for inner in module.modules():
        count = _count(inner)
        if count is not None and count > 0:
            counts.setdefault(count, kind_name(inner))
    return counts


def _kind(module: nn.Module) -> type:
    """The class of a module; in TorchScript the class of torch that has its name."""
    return _KINDS.get(kind_name(module), type(module)) if hasattr(module, "original_name") else type(module)


def _batch_first(module: nn.Module) -> bool:
    flags = [inner.batch_first for inner in module.modules() if isinstance(getattr(inner, "batch_first", None), bool)]
    return bool(flags and flags[0])


def _count(module: nn.Module, at_input: bool = False) -> int | None:
    """The number of channels that a module gives or takes; None if it is not known, -1 if there is no such axis."""
    kind = _kind(module)
    weight = getattr(module, "weight", None)
    if issubclass(kind, (nn.LayerNorm, nn.RMSNorm)):
        shape = tuple(getattr(module, "normalized_shape", ()) or getattr(weight, "shape", ()))
        return int(shape[0]) if len(shape) == 1 else -1
    names = {_ConvNd: "channels", nn.Linear: "features", _NormBase: "num_features", nn.GroupNorm: "num_channels"}
    for base, name in names.items():
        if issubclass(kind, base):
            side = "" if name.startswith("num_") else "in_" if at_input else "out_"
            # Traced modules have weights, but no attributes.
            axis = int(bool(side) and at_input != issubclass(kind, _ConvTransposeNd))
            from_weight = None if weight is None or (at_input and axis) else weight.shape[axis]
            return getattr(module, f"{side}{name}", from_weight) or None  # lazy modules have 0 before they run
    return None
