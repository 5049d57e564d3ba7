"""What an explanation costs: the arithmetic and the memory of everything that torch does while a meter is on."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
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

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: tuple = (), kwargs: Mapping | None = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += count(*args, **kwargs, out_val=output)
        given = {_address(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor) and _address(leaf) not in given:  # neither a view nor changed in place
                self._hold(leaf)
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


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
