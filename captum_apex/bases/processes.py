"""The processes of a group of `torch.distributed`, which compute a fit together; or this process alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Processes"]


class Processes:
    """The processes of a group, or this process alone.

    All processes of a group call the same methods in the same order, with tensors of the same shape, dtype and kind of
    device, one that the group's backend takes: a CPU for gloo, a GPU for NCCL.

    Args:
        group: the group; None for this process alone.

    Raises:
        TypeError: the group is no process group.

    Example:
        >>> import torch
        >>> from captum_apex.bases.processes import Processes
        >>> alone = Processes()
        >>> alone.rank, alone.number, alone.total(torch.ones(2)), alone.texts("a")
        (0, 1, tensor([1., 1.]), ['a'])
    """

    def __init__(self, group: ProcessGroup | None = None) -> None:
        if group is not None and not (distributed.is_available() and isinstance(group, distributed.ProcessGroup)):
            raise TypeError(
                "expected `group` to be a process group of torch.distributed, such as torch.distributed.group.WORLD "
                f"after init_process_group, but got {type(group).__name__}"
            )
        self.group = group
        self.rank = 0 if group is None else distributed.get_rank(group)
        self.number = 1 if group is None else distributed.get_world_size(group)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same in each; a tensor of this process alone is returned as it is.

        Args:
            values: values of this process.

        Raises:
            RuntimeError: another process has ended, or does not answer.
        """
        if self.group is None:
            return values
        summed = values.detach().clone(memory_format=torch.contiguous_format)
        self._together(lambda: distributed.all_reduce(summed, group=self.group))
        return summed

    def agreed(self, values: Tensor) -> Tensor:
        """The values of the first process, in each.

        Args:
            values: values of this process, which may differ from those of others by rounding.

        Raises:
            RuntimeError: another process has ended, or does not answer.
        """
        if self.group is None:
            return values
        of_first = values.detach().clone(memory_format=torch.contiguous_format)
        self._together(lambda: distributed.broadcast(of_first, group=self.group, group_src=0))
        return of_first

    def gathered(self, values: Tensor) -> list[Tensor]:
        """The values of every process, by rank.

        Args:
            values: values of this process, of one shape in all.

        Raises:
            RuntimeError: another process has ended, or does not answer.
        """
        if self.group is None:
            return [values]
        found = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(self.number)]
        self._together(lambda: distributed.all_gather(found, values.contiguous(), group=self.group))
        return found

    def texts(self, text: str, device: torch.device | str = "cpu") -> list[str]:
        """A text of every process, by rank; nothing is pickled.

        Args:
            text: the text of this process.
            device: a device that the group's backend takes.

        Raises:
            RuntimeError: another process has ended, or does not answer.
        """
        content = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        sizes = [int(size) for size in self.gathered(torch.tensor(len(content), device=device))]
        padded = torch.zeros(max(sizes), dtype=torch.uint8, device=device)
        padded[: len(content)] = content.to(device)
        found = list(zip(self.gathered(padded), sizes, strict=True))
        self.total(padded)  # all have read the texts before one of them ends because of what it read
        return [bytes(each[:size].tolist()).decode() for each, size in found]

    def _together(self, exchange: Callable[[], object]) -> None:
        try:
            exchange()
        except RuntimeError as error:
            raise RuntimeError(
                f"expected all {self.number} processes of the group to go on together, but another one has ended or "
                f"does not answer; its own error says why ({error})"
            ) from error
