"""What an explanation costs: floating-point operations and memory of the torch operations while a meter is entered."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Meter(TorchDispatchMode):
    """A context that counts floating-point operations of convolutions and matrix products, and bytes of new tensors.

    Both are counted and not measured, so they are the same in every run and on every machine. Forward and backward
    passes count, including passes that end at a layer. Elementwise operations and pooling do not count: they take time,
    but little arithmetic. A profiler or debugger in another thread of the process, which looks at the variables of
    running functions, keeps tensors alive a little longer, and makes `peak` larger.

    Attributes:
        flops: number of floating-point operations so far.
        peak: largest number of bytes that new tensors held at one time, without workspaces inside an operation.

    Example:
        >>> import torch
        >>> with Meter() as meter:
        ...     product = torch.ones(2, 3) @ torch.ones(3, 4)
        >>> meter.flops, meter.peak
        (48, 104)
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.peak = 0
        self._held = 0
        self._storages: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += count(*args, **kwargs, out_val=output)
        for tensor in _new_tensors(func, output):
            self._hold(tensor)
        return output

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        size = storage.nbytes()
        if address not in self._storages:
            self._storages.add(address)
            self._held += size
            self.peak = max(self.peak, self._held)
            weakref.finalize(storage, self._release, address, size).atexit = False

    def _release(self, address: int, size: int) -> None:
        self._storages.discard(address)
        self._held -= size


def _new_tensors(func: Any, output: Any) -> Iterator[Tensor]:
    """The tensors in the output of an operation except views of its arguments and arguments changed in place."""
    results = output if isinstance(output, tuple) else (output,)
    for result, is_new in zip(results, _are_new(func), strict=False):
        if is_new:
            tensors = result if isinstance(result, list) else (result,)
            yield from (tensor for tensor in tensors if isinstance(tensor, Tensor))


@cache
def _are_new(func: Any) -> tuple[bool, ...]:
    """Whether each result of an operation has new memory, according to the schema of the operation."""
    return tuple(result.alias_info is None for result in func._schema.returns)
