"""Counting the operations of torch, and the numbers that leave the device, while code runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {"_local_scalar_dense", "nonzero"}  # a GPU ends its queue before the result of these is known
READS = {Tensor.tolist, Tensor.numpy, Tensor.cpu}


class Operations(TorchDispatchMode):
    """The operations of torch inside the block.

    Attributes:
        counts: how often each operation ran, by its name.
        n_reads: how often values were read by the CPU, as by `item`, `bool`, `tolist` or `nonzero`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.lists = _Lists()
        self.stack = ExitStack()

    @property
    def n_reads(self) -> int:
        return self.lists.n_reads + sum(self.counts[name] for name in WAITS)

    def __enter__(self) -> Operations:
        self.stack.enter_context(self.lists)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.stack.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


class _Lists(TorchFunctionMode):
    """Counts what reads a tensor of the CPU without an operation of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.n_reads = 0

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.n_reads += func in READS
        return func(*args, **(kwargs or {}))


def passes(module: nn.Module, run: Callable[[], object]) -> list[Tensor]:
    """The first argument of each call of a module while a function runs, in the order of the calls."""
    inputs: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0].detach().clone()))
    try:
        run()
    finally:
        handle.remove()
    return inputs


def operations(run: Callable[[], object]) -> Operations:
    """The operations of a function, which has run once before so that caches are filled."""
    run()
    with Operations() as counted:
        run()
    return counted
