"""What an explanation costs: the arithmetic and the memory of everything that torch does while a meter is on."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Meter(TorchDispatchMode):
    """Counts, while it is entered, the floating-point operations of convolutions and matrix products, and the bytes of new tensors.

    Both are counted and not measured: they are the same in every run, on every machine. Counting sees forward and backward passes alike,
    also such that end at a layer. Elementwise operations and pooling count nothing: they cost time, but little arithmetic.

    Attributes:
        flops: floating-point operations so far.
        peak: the most bytes that new tensors held at one time; workspaces inside an operation are not seen.

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
        for tensor in _made(func, output):
            self._hold(tensor)
        return output

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address not in self._storages:
            self._storages.add(address)
            self._held += size
            self.peak = max(self.peak, self._held)
            weakref.finalize(storage, self._release, address, size).atexit = False

    def _release(self, address: int, size: int) -> None:
        self._storages.discard(address)
        self._held -= size


def _made(func: Any, output: Any) -> Iterator[Tensor]:
    """The tensors of an operation's output that are neither views of its arguments nor these themselves, changed in place."""
    several = isinstance(output, tuple)
    for result, new in zip(output if several else (output,), _are_new(func), strict=False):
        if new:
            yield from (
                part for part in (result if isinstance(result, list) else (result,)) if isinstance(part, Tensor)
            )


@cache
def _are_new(func: Any) -> tuple[bool, ...]:
    """Of each thing that an operation returns, whether it has memory of its own: its schema says so."""
    return tuple(result.alias_info is None for result in func._schema.returns)
