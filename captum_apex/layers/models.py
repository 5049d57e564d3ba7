"""The model around a layer: its module, its device, the layer's name, a fingerprint of its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from types import MethodType

import torch
from torch import nn

__all__ = ["fingerprint", "layer_name", "model_of", "on_one_device"]


def on_one_device(forward_func: Callable) -> Callable:
    """The model that a data-parallel one copies to several devices; else the function itself.

    The copies run at once, each with a part of the batch: a layer that is watched would run several times.
    """
    inside = _uncompiled_module(forward_func) if isinstance(forward_func, nn.Module) else forward_func
    if isinstance(inside, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return inside.module
    return forward_func


def model_of(forward_func: Callable) -> nn.Module | None:
    """The module behind a forward function: itself, a bound method's owner, what a partial, parallel or compiled one wraps; or None."""
    forward_func = on_one_device(forward_func)
    if isinstance(forward_func, nn.Module):
        return _uncompiled_module(forward_func)
    if isinstance(forward_func, partial):
        return model_of(forward_func.func)
    if isinstance(forward_func, MethodType) and isinstance(forward_func.__self__, nn.Module):
        return forward_func.__self__
    return None


def layer_name(forward_func: Callable, layer: nn.Module) -> str:
    """The layer's name in its model.

    Raises:
        TypeError: where the layer is not a module.
        ValueError: where the layer is not part of the model.
    """
    if not isinstance(layer, nn.Module):
        raise TypeError(f"expected `layer` to be a torch.nn.Module, but got {type(layer).__name__}")
    model = model_of(forward_func)
    if model is None:
        return type(layer).__name__
    for name, module in model.named_modules():
        if module is layer:
            return name or type(layer).__name__
    raise ValueError(
        f"expected `layer` to be part of the model {type(model).__name__}, but this {type(layer).__name__} is not"
    )


def fingerprint(forward_func: Callable) -> str:
    """A SHA-256 of the model's floating-point weights and buffers, in order; empty for a plain function.

    It is the same in float32 and float64, and where the model is wrapped (in a `Sequential` with a softmax, say).
    """
    model = model_of(forward_func)
    if model is None:
        return ""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.detach().to("cpu", torch.float32).contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _uncompiled_module(model: nn.Module) -> nn.Module:
    return getattr(model, "_orig_mod", model)  # where torch.compile keeps the model
