"""The processes of a group of `torch.distributed`, which compute a fit together; or this process alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Processes", "check_same"]


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

    @property
    def device(self) -> torch.device:
        """A device that the group's backend takes: a GPU for NCCL alone, else the CPU."""
        return torch.device("cpu" if self.group is None or distributed.get_backend(self.group) != "nccl" else "cuda")

    def records(
        self, record: Mapping[str, Any], error: Exception | None = None, device: torch.device | str | None = None
    ) -> list[dict[str, Any]]:
        """A record of every process, by rank, as JSON holds it; an error of one process is raised in all.

        Args:
            record: what this process says, in lists, dictionaries, texts and numbers, which stay bit for bit; other
                values become texts.
            error: what went wrong in this process. All go on to this call, so that none waits for it in vain.
            device: a device that the group's backend takes; None for the `device` of the processes.

        Raises:
            ValueError: there was an error in a process of a group; without a group, the error itself is raised.
            RuntimeError: another process has ended, or does not answer.
        """
        if self.group is None:
            if error is not None:
                raise error
            return [dict(record)]
        about = {"record": record, "problem": None if error is None else _in_words(error)}
        answers = [json.loads(text) for text in self.texts(json.dumps(about, default=str), device or self.device)]
        for rank, answer in enumerate(answers):
            if answer["problem"] is not None:
                raise ValueError(f"in process {rank} of the group: {answer['problem']}") from error
        return [answer["record"] for answer in answers]

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Waits at the end of the block for all processes; an error in the block of one is raised in all.

        Raises:
            ValueError: there was an error in the block of a process of a group.
            RuntimeError: another process has ended, or does not answer.

        Example:
            >>> from captum_apex.bases.processes import Processes
            >>> with Processes().failing_together():
            ...     print("work")
            work
        """
        problem = None
        try:
            yield
        except Exception as error:  # the block may run the user's code
            problem = error
        self.records({}, problem)

    def _together(self, exchange: Callable[[], object]) -> None:
        try:
            exchange()
        except RuntimeError as error:
            raise RuntimeError(
                f"expected all {self.number} processes of the group to go on together, but another one has ended or "
                f"does not answer; its own error says why ({error})"
            ) from error


def check_same(settings: Sequence[Mapping[str, Any]], in_words: Mapping[str, str] | None = None) -> None:
    """Raises where the processes have other settings.

    Args:
        settings: the settings of each process by name, as `Processes.records` gives them.
        in_words: what a setting is called in the error, where that is not its name.

    Raises:
        ValueError: a process has others than the first.

    Example:
        >>> from captum_apex.bases.processes import check_same
        >>> try:
        ...     check_same([{"epochs": 3}, {"epochs": 5}])
        ... except ValueError as error:
        ...     print(error)
        expected the same epochs in all processes of the group, but process 1 has 5, and process 0 3
    """
    for rank, of_process in enumerate(settings[1:], start=1):
        for name, value in settings[0].items():
            if of_process.get(name) != value:
                raise ValueError(
                    f"expected the same {(in_words or {}).get(name, name)} in all processes of the group, but process "
                    f"{rank} has {of_process.get(name)}, and process 0 {value}"
                )


def _in_words(error: Exception) -> str:
    """What an error says; with its type where the message may not stand alone, and with its notes."""
    text = str(error) if isinstance(error, ValueError) and str(error) else f"{type(error).__name__}: {error}"
    return "\n".join([text, *getattr(error, "__notes__", [])])
