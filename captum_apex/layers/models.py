"""The model around a layer: its module, its device, the layer's name, a fingerprint of its weights."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FunctionType, MethodType

import torch
from torch import nn

__all__ = ["device_of", "fingerprint", "layer_name", "model_of", "models_of", "on_one_device"]


def on_one_device(forward_func: Callable) -> Callable:
    """The model inside a data-parallel wrapper; anything else is returned unchanged.

    A data-parallel model runs several copies at once, each with a share of the batch. A hook on its layer would be
    called several times.

    Args:
        forward_func: a model or a function.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers import on_one_device
        >>> on_one_device(nn.DataParallel(nn.ReLU()))
        ReLU()
    """
    inside = _uncompiled_module(forward_func) if isinstance(forward_func, nn.Module) else forward_func
    if isinstance(inside, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return inside.module
    return forward_func


def model_of(forward_func: Callable) -> nn.Module | None:
    """The module behind a forward function, or None if it cannot be found.

    Args:
        forward_func: a module, a method of a module, or a partial, data-parallel or compiled version of one.

    Example:
        >>> from functools import partial
        >>> from torch import nn
        >>> from captum_apex.layers import model_of
        >>> model_of(partial(nn.ReLU().forward))
        ReLU()
        >>> print(model_of(lambda inputs: inputs))
        None
    """
    forward_func = on_one_device(forward_func)
    if isinstance(forward_func, nn.Module):
        return _uncompiled_module(forward_func)
    if isinstance(forward_func, partial):
        return model_of(forward_func.func)
    if isinstance(forward_func, MethodType) and isinstance(forward_func.__self__, nn.Module):
        return forward_func.__self__
    return None


def models_of(forward_func: Callable) -> list[nn.Module]:
    """The modules behind a forward function: the model itself, or the modules that a function or an object uses.

    Args:
        forward_func: as in `model_of`; or a function that uses modules, or objects with modules as attributes, as
            global variables or those of the functions around it; or such an object or a method of it.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.models import models_of
        >>> model = nn.ReLU()
        >>> models_of(lambda inputs: model(inputs).softmax(1))
        [ReLU()]
    """
    model = model_of(forward_func)
    if model is not None:
        return [model]
    used = _used_by(forward_func, set())
    attributes = [value for each in used if not _is_code(each) for value in getattr(each, "__dict__", {}).values()]
    modules = [_uncompiled_module(each) for each in (*used, *attributes) if isinstance(each, nn.Module)]
    return list(dict.fromkeys(modules))


def _used_by(forward_func: object, seen: set[int]) -> list[object]:
    """The variables of a function and of the functions that it uses; the object of a method; any other object."""
    while isinstance(forward_func, partial):
        forward_func = forward_func.func
    if not isinstance(forward_func, FunctionType):
        return [getattr(forward_func, "__self__", forward_func)]
    seen.add(id(forward_func))
    names = forward_func.__code__.co_names
    variables = [forward_func.__globals__[name] for name in names if name in forward_func.__globals__]
    for cell in forward_func.__closure__ or ():
        with suppress(ValueError):  # a variable that has no value yet
            variables.append(cell.cell_contents)
    used = list(variables)
    for each in variables:
        # A function of another module, such as one of torch, does not know the user's model.
        of_user = isinstance(each, FunctionType) and each.__module__ == forward_func.__module__
        if (of_user or "__wrapped__" in vars(forward_func)) and id(each) not in seen:
            used += _used_by(each, seen)
    return used


def _is_code(value: object) -> bool:
    """Whether a value is no object of the user's: a Python module, a class or a function; or is a model itself."""
    return inspect.ismodule(value) or inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, nn.Module)


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter, or else of its first buffer; the CPU for a model without any.

    Args:
        model: the model.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.models import device_of
        >>> device_of(nn.Linear(4, 3, device="meta"))
        device(type='meta')
        >>> device_of(nn.ReLU())
        device(type='cpu')
    """
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def layer_name(forward_func: Callable, layer: nn.Module) -> str:
    """The name of a layer in its model; the name of its type if the model cannot be found.

    Args:
        forward_func: the model, or a function that calls it.
        layer: a module of the model.

    Raises:
        TypeError: if `layer` is not a module.
        ValueError: if `layer` is not a module of this model.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers import layer_name
        >>> model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
        >>> layer_name(model, model[1][1])
        '1.1'
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
    """A SHA-256 hash of the model's floating-point weights and buffers; empty if the model cannot be found.

    The weights are hashed in order, in float32. The fingerprint is the same for a float64 copy of the model, and for a
    wrapper around it (a `Sequential` with a softmax, for example).

    Args:
        forward_func: the model, or a function that calls it.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers import fingerprint
        >>> model = nn.BatchNorm1d(2)
        >>> fingerprint(model)[:12]
        'cec4bd7a6999'
        >>> fingerprint(nn.Sequential(model, nn.Softmax(1))) == fingerprint(model)
        True
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
    return getattr(model, "_orig_mod", model)  # the attribute in which torch.compile stores the model
