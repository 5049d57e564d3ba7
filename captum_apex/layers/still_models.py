"""Blocks in which a model is held still: in evaluation mode, with hooks that reach every module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from captum_apex.layers.changes import THREAD, left, mode_on_stack, noted
from captum_apex.layers.holding import ConstantParameters, Holder, check_held, hold, join, release
from captum_apex.layers.models import models_of, plain_paths

__all__ = ["entered", "frozen", "held", "prepared"]


@contextmanager
def frozen(forward_func: Callable, layer: nn.Module | None = None) -> Iterator[None]:
    """Holds a model still for the length of the block: evaluation mode, and parameters that are constants for autograd.

    Every flag is restored at the end, also after an exception. Blocks of several threads may overlap: the last one
    restores the flags. If the model is in evaluation mode already, nothing is changed that other threads could see, and
    they can run the model at the same time. Otherwise their calls of the model wait until the flags are restored. A
    call that is already on its way in another thread when the block begins may read a changed flag; explain a copy of a
    model while it is trained.

    In the block, modules do not use gradient checkpointing that is switched on by a flag, as in timm and transformers.
    A model that `torch.compile` made runs uncompiled, because code that was compiled before ignores hooks that are
    added later.

    Args:
        forward_func: the model, or a function that calls it; see `captum_apex.layers.models.models_of`.
        layer: the explained layer. If the module behind `forward_func` is not known, only this layer is frozen.

    Raises:
        RuntimeError: another thread has put the model into training mode during the block.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers import frozen
        >>> model = nn.Linear(2, 1)
        >>> with frozen(model, model):
        ...     model.training, model.weight.requires_grad
        (False, False)
        >>> model.training, model.weight.requires_grad
        (True, True)
    """
    with held(forward_func, layer), _constant_parameters():
        yield


@contextmanager
def held(forward_func: Callable, layer: nn.Module | None = None) -> Iterator[None]:
    """As `frozen`, but parameters are not constants: for blocks that run other code of the user too.

    Args:
        forward_func: the model, or a function that calls it.
        layer: the explained layer, as in `frozen`.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.hooks import held
        >>> model = nn.Dropout()
        >>> with held(lambda inputs: model(inputs)):
        ...     model.training
        False
    """
    with _holding(forward_func, layer) as holder, noted(partial(_end, THREAD.runs, holder)):
        paths = holder.paths
        with entered(None if paths is None or mode_on_stack(paths) else paths):
            THREAD.runs.append(holder)
            yield
            check_held(holder)


@contextmanager
def prepared(forward_func: Callable, layer: nn.Module | None = None) -> Iterator[None]:
    """Holds a model still for several runs of it, each in a block of `frozen` or `held`, which then costs little.

    Without it, each of these blocks looks for every module of the model; in it, only at whether the modules are those
    that there were, and still in evaluation mode. The block itself is no run: hooks that were made around it see the
    runs inside it.

    Args:
        forward_func: the model, or a function that calls it.
        layer: the explained layer, as in `frozen`.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.still_models import held, prepared
        >>> model = nn.Dropout()
        >>> with prepared(model):
        ...     with held(model):
        ...         pass
        ...     model.training
        False
    """
    with _holding(forward_func, layer) as holder, noted(partial(_end, THREAD.prepared, holder)):
        THREAD.prepared.append(holder)
        yield


class _StillModel(Holder):
    """One who holds a model still, with what a further block for the same model needs to join in.

    Args:
        known: the modules behind the function; empty where they are not known.
        held: the modules that are held, the explained layer alone where no others are known.
        paths: the mode in which hooks reach every module; None where none is needed.
    """

    def __init__(self, known: list[nn.Module], held: list[nn.Module], paths: TorchFunctionMode | None = None) -> None:
        super().__init__()
        self.known = known
        self.held = held
        self.paths = paths


@contextmanager
def _holding(forward_func: Callable, layer: nn.Module | None) -> Iterator[_StillModel]:
    """Holds the model still; what this thread holds already is only joined."""
    known = models_of(forward_func)
    holder = _StillModel(known, known or ([] if layer is None else [layer]))
    with noted(partial(release, holder)):
        if not _joins(holder):
            holder.paths = plain_paths(known)
            hold(holder.held, holder)
        yield holder


def _joins(holder: _StillModel) -> bool:
    """Whether this thread holds the same modules already, and they are as they were then."""
    for other in (*THREAD.prepared, *THREAD.runs):
        if not isinstance(other, _StillModel) or (other.known, other.held) != (holder.known, holder.held):
            continue
        if join(other, holder):
            holder.paths = other.paths
            return True
    return False


def _end(entries: list[object], entry: object) -> None:
    if entry in entries:
        entries.remove(entry)


@contextmanager
def _constant_parameters() -> Iterator[None]:
    """Parameters are constants in this thread; nothing is done where autograd does not record."""
    needed = torch.is_grad_enabled() and not ConstantParameters.is_active()
    with entered(ConstantParameters() if needed else None):
        yield


@contextmanager
def entered(mode: TorchFunctionMode | None) -> Iterator[None]:
    """A mode of torch for this thread, which an interruption cannot leave behind; nothing for None.

    Example:
        >>> from captum_apex.layers.holding import ConstantParameters
        >>> from captum_apex.layers.still_models import entered
        >>> with entered(ConstantParameters()):
        ...     ConstantParameters.is_active()
        True
    """
    if mode is None:
        yield
        return
    with noted(partial(left, mode)):
        mode.__enter__()
        yield
