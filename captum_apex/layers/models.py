"""The model around a layer: its module, its device, the layer's name, a fingerprint of its weights, its fast paths."""

from __future__ import annotations

import difflib
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import FunctionType, MethodType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_apex.layers.chosen_run import ChosenRun, named_layers
from captum_apex.layers.selected_output import SelectedOutput

__all__ = [
    "device_of",
    "fingerprint",
    "layer_name",
    "model_name",
    "model_of",
    "models_of",
    "on_one_device",
    "plain_paths",
]

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
_MOST_NAMES = 8  # of modules in a message
_SIMILAR = 0.5  # from which on a name is one that the user may have meant, as of `difflib`
_RECURRENT = frozenset({torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu})


def on_one_device(forward_func: Callable) -> Callable:
    """The model inside a data-parallel wrapper; anything else is returned unchanged.

    A data-parallel model runs several copies at once, each with a share of the batch. A hook on its layer would be
    called several times.

    Args:
        forward_func: a model or a function.

    Raises:
        TypeError: it is a program of `torch.export`, which cannot be called.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers import on_one_device
        >>> on_one_device(nn.DataParallel(nn.ReLU()))
        ReLU()
    """
    if type(forward_func).__name__ == "ExportedProgram":
        raise TypeError(
            "expected a model with modules, but got an ExportedProgram of torch.export; explain the model "
            "`torch.export.unflatten(program)`, whose modules have the names that they had before the export"
        )
    inside = _uncompiled_module(forward_func) if isinstance(forward_func, nn.Module) else forward_func
    if isinstance(inside, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return inside.module
    if isinstance(inside, (ChosenRun, SelectedOutput)):
        model = on_one_device(inside.model)
        return forward_func if model is inside.model else inside.around(cast(nn.Module, model))
    return forward_func


def model_of(forward_func: Callable) -> nn.Module | None:
    """The module behind a forward function, or None if it cannot be found.

    Args:
        forward_func: a module, a method of a module, or a partial, data-parallel or compiled version of one. Behind a
            `SelectedOutput` it is the user's model.

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
        return _without_selection(_uncompiled_module(forward_func))
    if isinstance(forward_func, partial):
        return model_of(forward_func.func)
    if isinstance(forward_func, MethodType) and isinstance(forward_func.__self__, nn.Module):
        return _without_selection(forward_func.__self__)
    return None


def model_name(forward_func: Callable) -> str:
    """The name of the class of the user's model, also where the package has put it into a module of its own.

    Args:
        forward_func: a forward function, as in `model_of`.

    Example:
        >>> from torch import nn
        >>> from captum_apex import SelectedOutput
        >>> from captum_apex.layers.models import model_name
        >>> model_name(SelectedOutput(nn.ReLU(), 0))
        'ReLU'
    """
    model: Any = model_of(forward_func) or on_one_device(forward_func)
    while type(model).__module__.startswith("captum_apex.") and isinstance(getattr(model, "model", None), nn.Module):
        model = model.model
    return type(model).__name__


def _without_selection(module: nn.Module) -> nn.Module | None:
    """The model of which a module selects the output; any other module itself."""
    return model_of(module.model) if isinstance(module, SelectedOutput) else module


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
        hint = _module_named(forward_func, layer)
        raise TypeError(f"expected `layer` to be a torch.nn.Module, but got {type(layer).__name__}{hint}")
    model = model_of(forward_func)
    if model is None:
        return type(layer).__name__
    for name, module in named_layers(model):
        if module is layer:
            return name or type(layer).__name__
    raise ValueError(
        f"expected `layer` to be part of the model {type(model).__name__}, but this {type(layer).__name__} is not"
    )


def _module_named(forward_func: Callable, name: object) -> str:
    """How to give the module that has a name, or those of similar names, as the end of a message."""
    model = model_of(forward_func)
    if not isinstance(name, str) or model is None:
        return ""
    names = [each for each, _ in named_layers(model) if each]
    close = [name] if name in names else difflib.get_close_matches(name, names, _MOST_NAMES, _SIMILAR)
    if close == [name]:
        return f" {name!r}; give the module of this name: model.get_submodule({name!r})"
    listed = ", ".join(close or names[:_MOST_NAMES])
    return f" {name!r}; give a module, as model.get_submodule(…) does by one of the names {listed}, …"


def fingerprint(forward_func: Callable) -> str:
    """A SHA-256 hash of the model's weights and stored buffers; empty if the model cannot be found.

    Floating-point weights are hashed in order, in float32. The fingerprint is the same for a float64 copy of the model,
    and for a wrapper around it (a `Sequential` with a softmax, for example). Quantised, complex and sparse tensors
    count too, as do small integers, which hold packed weights, and the numbers that `get_extra_state` gives. Skipped
    are masks and int64 (counters and indices), whatever else the extra state holds, and tensors without values, such
    as those on the meta device. The modules are read one by one, so a `state_dict` of the user's own is not called.

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
    for _, module in model.named_modules(remove_duplicate=False):
        for values in _arrays_in(_state_of(module)):
            digest.update(str(values.shape).encode())
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _state_of(module: nn.Module) -> dict[str, Any]:
    """The parameters, the stored buffers and the extra state of a module without its submodules."""
    state: dict[str, Any] = {}
    with suppress(Exception):  # the user's `get_extra_state` may fail; by then the weights are in the dictionary
        module._save_to_state_dict(state, "", keep_vars=True)
    return state


def _arrays_in(state: Any) -> Iterator[np.ndarray]:
    """The values of a state that are hashed, in order."""
    if isinstance(state, torch.ScriptObject):  # the packed weights of a quantised module
        with suppress(RuntimeError, AttributeError):
            state = state.__getstate__()
    if isinstance(state, Mapping):
        state = list(state.values())
    if isinstance(state, (list, tuple)):
        for value in state:
            yield from _arrays_in(value)
    elif isinstance(state, (Tensor, np.ndarray, np.generic, float)):
        with suppress(RuntimeError, TypeError, ValueError):  # a tensor without values, or an array of objects
            yield from _values_of(torch.as_tensor(state).detach())


def _values_of(tensor: Tensor) -> Iterator[np.ndarray]:
    """A tensor as the dense arrays that it consists of; floating-point ones in float32."""
    if tensor.is_nested:
        yield from (values for part in tensor.unbind() for values in _values_of(part))
    elif tensor.layout in _SPARSE:
        tensor = tensor.to_sparse_coo().coalesce()
        yield from (tensor.indices().numpy(force=True), *_values_of(tensor.values()))
    elif tensor.is_quantized:
        yield from _values_of(tensor.dequantize())
    elif tensor.is_complex():
        yield from _values_of(torch.view_as_real(tensor.resolve_conj()))
    elif tensor.is_floating_point():
        yield tensor.to("cpu", torch.float32).to_dense().numpy(force=True)
    elif tensor.dtype not in (torch.bool, torch.int64):
        yield tensor.numpy(force=True)


def plain_paths(models: Sequence[nn.Module]) -> TorchFunctionMode | None:
    """A mode in which hooks and gradients reach every module of the models, whose values stay the same.

    - Without gradients, torch's transformer encoders take a fast path that calls no hooks and gives padded clips to
      their layers as nested tensors. They do not take it while a function mode is active.
    - Recurrent layers on a GPU have a gradient only in training mode, because cuDNN does not store what it needs
      otherwise. They are called as if in training mode, without dropout.

    Only calls of this thread are changed. None for models without such modules.

    Args:
        models: the models; an empty list if they are not known.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.layers.models import plain_paths
        >>> layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
        >>> encoder = nn.TransformerEncoder(layer, 1)
        >>> handle = encoder.layers[0].register_forward_hook(lambda module, inputs, output: print(output.is_nested))
        >>> with torch.no_grad(), plain_paths([encoder]):
        ...     _ = encoder(torch.zeros(1, 3, 4), src_key_padding_mask=torch.tensor([[False, False, True]]))
        False
    """
    kinds = (nn.RNNBase, nn.MultiheadAttention)
    needed = not models or any(isinstance(module, kinds) for model in models for module in model.modules())
    return _PlainPaths() if needed else None


class _PlainPaths(TorchFunctionMode):
    """A mode by whose presence torch leaves out its fast paths; it makes recurrent layers differentiable."""

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs a torch function, a recurrent layer as in training mode if a gradient is needed."""
        if func in _RECURRENT and not kwargs and _any_requires_grad(args):
            # The first bool says whether there are biases; the next three are the number of layers, dropout, training.
            biases = next(i for i, argument in enumerate(args) if isinstance(argument, bool))
            if not args[biases + 3]:
                args = (*args[: biases + 2], 0.0, True, *args[biases + 4 :])
        return func(*args, **(kwargs or {}))


def _any_requires_grad(arguments: Sequence[Any]) -> bool:
    if not torch.is_grad_enabled():
        return False
    tensors = (value for a in arguments for value in (a if isinstance(a, (list, tuple)) else (a,)))
    return any(isinstance(value, Tensor) and value.requires_grad for value in tensors)


def _uncompiled_module(model: nn.Module) -> nn.Module:
    return getattr(model, "_orig_mod", model)  # the attribute in which torch.compile stores the model
