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

    Without it, each of these blocks looks at every module of the model. The block itself is no run: hooks that were
    made around it see the runs inside it.

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
        forward_func: the model, or a function that calls it.
        layer: the explained layer.
        is_known: whether the modules behind the function are known; otherwise the layer alone is held.
        paths: the mode in which hooks reach every module; None where none is needed.
    """

    def __init__(
        self, forward_func: Callable, layer: nn.Module | None, is_known: bool, paths: TorchFunctionMode | None
    ) -> None:
        self.forward_func = forward_func
        self.layer = layer
        self.is_known = is_known
        self.paths = paths

    def covers(self, forward_func: Callable, layer: nn.Module | None) -> bool:
        """Whether a block for this function and this layer holds nothing else."""
        return self.forward_func is forward_func and (self.is_known or self.layer is layer)


@contextmanager
def _holding(forward_func: Callable, layer: nn.Module | None) -> Iterator[_StillModel]:
    """Holds the model still; what this thread holds already is only joined."""
    others = (each for each in (*THREAD.prepared, *THREAD.runs) if isinstance(each, _StillModel))
    joined = next((each for each in others if each.covers(forward_func, layer)), None)
    if joined is not None:
        holder = _StillModel(forward_func, layer, joined.is_known, joined.paths)
        with noted(partial(release, holder)):
            join(joined, holder)
            yield holder
        return
    known = models_of(forward_func)
    holder = _StillModel(forward_func, layer, bool(known), plain_paths(known))
    with noted(partial(release, holder)):
        hold(known or ([] if layer is None else [layer]), holder)
        yield holder


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
