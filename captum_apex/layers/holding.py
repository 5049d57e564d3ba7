"""The flags of a model that are changed while it is held still, counted over everyone who holds it.

Flags are changed only where they have to be: a model in evaluation mode is not touched, so other threads can go on
calling it. Each flag is restored by the last of its holders.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from captum_apex.layers.changes import LOCK, THREAD

__all__ = [
    "ABOUT_SHAPES",
    "ConstantParameters",
    "Holder",
    "check_held",
    "constant_arguments",
    "hold",
    "join",
    "release",
    "released",
    "removed",
]

# The names that timm, transformers, torchvision's and Microsoft's Swin, and fairseq give to the switch of gradient
# checkpointing. A checkpointed module runs again on the way back, where no hook and no mode of ours is active any more.
_CHECKPOINTING = {"grad_checkpointing", "gradient_checkpointing", "use_checkpoint", "checkpoint_activations", "with_cp"}

_PATIENCE = 60.0  # s that a call in another thread waits for the flags of a model in training mode


class Holder:
    """One who holds a model still.

    Attributes:
        seen: the modules that `hold` has looked at, each with its children.

    Example:
        >>> from captum_apex.layers.holding import Holder
        >>> Holder() == Holder()
        False
    """

    def __init__(self) -> None:
        self.seen: list[tuple[nn.Module, list[nn.Module | None]]] = []


@dataclass(eq=False)
class _Held:
    """Something that stays changed as long as anyone holds it."""

    restore: Callable[[], object]
    is_changed: Callable[[], bool]
    holders: set[Holder] = field(default_factory=set)


_HELD: dict[tuple[int, str], _Held] = {}  # (id of the module, name of the flag) → who holds it; guarded by the lock
# Entered as `with LOCK`: a condition enters its lock in Python code, where Ctrl-C could leave it taken.
_RELEASED = threading.Condition(LOCK)


def hold(models: Iterable[nn.Module], holder: Holder) -> None:
    """Puts models into evaluation mode, and switches gradient checkpointing and compiled code off.

    Args:
        models: the models.
        holder: the one for whom this is done; the flags stay so until `release` is called for it.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.holding import Holder, hold, release
        >>> model = nn.Dropout()
        >>> first, second = Holder(), Holder()
        >>> hold([model], first), hold([model], second), release(first)
        (None, None, None)
        >>> model.training
        False
        >>> release(second)
        >>> model.training
        True
    """
    modules = list(dict.fromkeys(module for model in models for module in model.modules()))
    holder.seen = [(module, list(module._modules.values())) for module in modules]
    with LOCK:
        if any(map(_trains, modules)):
            _change(holder, (0, "calls"), _wait_in_other_threads, _no_waiting, lambda: True)
        for module in modules:
            if _trains(module):
                _hold_flag(module, "training", holder)
            if not _CHECKPOINTING.isdisjoint(vars(module)):
                for flag in vars(module).keys() & _CHECKPOINTING:
                    if getattr(module, flag) is True or (id(module), flag) in _HELD:
                        _hold_flag(module, flag, holder)
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and the import would take a second
            _hold_stance(holder)


def join(holder: Holder, other: Holder) -> bool:
    """Holds for another one what somebody holds already, if the model is still what it was then.

    Args:
        holder: the one who holds it.
        other: the one for whom it stays so until `release` is called for it, too.

    Returns:
        False where a module has got another child or is in training mode since; then nothing has been done.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.holding import Holder, hold, join, release
        >>> model = nn.Dropout()
        >>> first, second = Holder(), Holder()
        >>> hold([model], first), join(first, second), release(first)
        (None, True, None)
        >>> model.training
        False
        >>> release(second)
    """
    if any(module.training or list(module._modules.values()) != children for module, children in holder.seen):
        return False
    other.seen = holder.seen
    with LOCK:
        for held in _HELD.values():
            if holder in held.holders:
                held.holders.add(other)
    return True


def _trains(module: nn.Module) -> bool:
    """Whether the user has left a module in training mode."""
    return module.training or (id(module), "training") in _HELD


def _hold_flag(module: nn.Module, flag: str, holder: Holder) -> None:
    set_flag = partial(setattr, module, flag)  # keeps the module alive as long as it is held
    key = (id(module), flag)
    _change(holder, key, partial(set_flag, False), partial(set_flag, True), lambda: not getattr(module, flag))


def _hold_stance(holder: Holder) -> None:
    """Runs uncompiled code; the setting is one for the whole process."""
    key = (0, "compiler")
    if key in _HELD:
        _HELD[key].holders.add(holder)
        return
    stance: Any = torch.compiler.set_stance("force_eager")  # sets it at once
    _change(holder, key, lambda: None, partial(stance.__exit__, None, None, None), lambda: True)


def _change(
    holder: Holder,
    key: tuple[int, str],
    change: Callable[[], object],
    restore: Callable[[], object],
    is_changed: Callable[[], bool],
) -> None:
    """Notes how the change is undone, and then makes it."""
    if key not in _HELD:
        _HELD[key] = _Held(restore, is_changed)
    _HELD[key].holders.add(holder)
    change()


def release(holder: Holder) -> None:
    """Restores all that nobody holds any more; it may be called several times.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.holding import Holder, hold, release
        >>> model = nn.Dropout()
        >>> holder = Holder()
        >>> hold([model], holder)
        >>> release(holder)
        >>> model.training
        True
    """
    with LOCK:
        for key, held in list(_HELD.items()):
            held.holders.discard(holder)
            if not held.holders:
                held.restore()
                _HELD.pop(key, None)
        _RELEASED.notify_all()


@contextmanager
def released(model: nn.Module) -> Iterator[None]:
    """A block in which nobody holds the model; it waits until then.

    Args:
        model: the model.

    Raises:
        RuntimeError: others hold the model for a minute.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.holding import released
        >>> model = nn.Dropout()
        >>> with released(model):
        ...     model.training
        True
    """
    modules = list(model.modules())
    with LOCK:
        _wait_for(lambda: all(map(_is_free, modules)))
        yield


def check_held(holder: Holder) -> None:
    """Raises an error if someone else has changed what is held.

    Raises:
        RuntimeError: a flag is not as `hold` has set it.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.holding import Holder, check_held, hold, release
        >>> model = nn.Dropout()
        >>> holder = Holder()
        >>> hold([model], holder)
        >>> _ = model.train()
        >>> try:
        ...     check_held(holder)
        ... except RuntimeError as error:
        ...     print(str(error)[:80])
        expected the model to stay in evaluation mode while it is explained, but its `tr
        >>> release(holder)
    """
    with LOCK:
        changed = [flag for (_, flag), held in _HELD.items() if holder in held.holders and not held.is_changed()]
    if changed:
        raise RuntimeError(
            f"expected the model to stay in evaluation mode while it is explained, but its `{changed[0]}` was set to "
            "True meanwhile, by another thread or by the model itself; explain a copy of a model that is trained, "
            "`copy.deepcopy(model)`"
        )


def _wait_in_other_threads() -> None:
    if _wait not in torch_module._global_forward_pre_hooks.values():
        torch_module.register_module_forward_pre_hook(_wait)


def _no_waiting() -> None:
    removed(torch_module._global_forward_pre_hooks, _wait)


def _wait(module: nn.Module, _: tuple) -> None:
    """Before a module runs: waits while other threads hold it in another mode than the one that its user has set."""
    if _is_free(module):
        return
    with LOCK:
        _wait_for(partial(_is_free, module))


def _wait_for(is_free: Callable[[], bool]) -> None:
    if not _RELEASED.wait_for(is_free, _PATIENCE):
        raise RuntimeError(
            f"expected the model to be free, but other threads have held it in evaluation mode for {_PATIENCE:g} s to "
            "explain it; set it to evaluation mode, `model.eval()`, or explain a copy of it"
        )


def _is_free(module: nn.Module) -> bool:
    """Whether the module has its user's flags, or this thread itself holds it."""
    held = _HELD.get((id(module), "training"))
    if held is None or not held.holders.isdisjoint(THREAD.runs) or not held.holders.isdisjoint(THREAD.prepared):
        return True
    # Autograd runs checkpointed modules again in a thread of its own, to which it passes the modes.
    return not THREAD.runs and ConstantParameters.is_active()


def removed(hooks: dict[int, Callable], hook: Callable) -> None:
    """Takes a hook out of those of a module; nothing where it is not among them.

    Example:
        >>> from captum_apex.layers.holding import removed
        >>> hooks = {0: print, 1: abs}
        >>> removed(hooks, print)
        >>> hooks
        {1: <built-in function abs>}
    """
    for key, each in list(hooks.items()):
        if each is hook:
            hooks.pop(key, None)


ABOUT_SHAPES = frozenset(
    (
        *(Tensor.dim, Tensor.size, Tensor.numel, Tensor.stride, Tensor.is_floating_point, torch.is_floating_point),
        *(Tensor.shape.__get__, Tensor.ndim.__get__, Tensor.dtype.__get__, Tensor.device.__get__),  # type: ignore[attr-defined]
        *(Tensor.is_cuda.__get__, Tensor.layout.__get__),  # type: ignore[attr-defined]
    )
)
"""What torch calls to look at a tensor, without its values and its gradient."""


class ConstantParameters(TorchFunctionMode):
    """Inside this context, parameters are constants for autograd, in this thread only.

    No graph is kept for them, and none of the model's flags is changed.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.layers.holding import ConstantParameters
        >>> model = nn.Linear(2, 1)
        >>> inputs = torch.ones(1, 2)
        >>> with ConstantParameters():
        ...     output = model(inputs)
        >>> output.requires_grad, model(inputs).requires_grad
        (False, True)
    """

    @staticmethod
    def is_active() -> bool:
        """Whether this thread is inside such a context, or works for one on autograd's way back."""
        return any(isinstance(mode, ConstantParameters) for mode in _get_current_function_mode_stack())

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs a torch function with parameters without gradients."""
        args, kwargs = constant_arguments(func, args, kwargs)
        return func(*args, **kwargs)


def constant_arguments(
    func: Callable, args: Sequence[Any], kwargs: dict[str, Any] | None
) -> tuple[Sequence[Any], dict[str, Any]]:
    """The arguments of a torch function, with parameters that are constants for autograd.

    Example:
        >>> import torch
        >>> from captum_apex.layers.holding import constant_arguments
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> constant_arguments(torch.add, (weight, 2), None)
        ([tensor([1.]), 2], {})
    """
    if func in ABOUT_SHAPES or _changes_its_tensor(getattr(func, "__name__", "")):
        return args, kwargs or {}
    return [_constant(value) for value in args], {name: _constant(value) for name, value in (kwargs or {}).items()}


@cache
def _changes_its_tensor(name: str) -> bool:
    """Whether a function changes its first argument, which then must not be another tensor.

    Captum's LRP, for example, sets `weight.data` in a hook.
    """
    in_place = (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")
    return in_place or name in ("__set__", "__setitem__", "__delete__", "register_hook", "retain_grad")


def _constant(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.is_inference() and not torch.is_inference_mode_enabled():  # a model that was made in that mode
            return value.clone()
        return value.detach() if value.requires_grad and isinstance(value, nn.Parameter) else value
    if type(value) in (list, tuple):  # the weights of recurrent layers
        return type(value)(_constant(each) for each in value)
    return value
