"""Modules that multiply the channels of a layer by a matrix, alone or before another module takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ChannelMatrix", "MatrixBefore", "MatrixThenModule"]


class ChannelMatrix(nn.Module):
    """Multiplies the channels, by default axis 1 of (clip, channel, ...), by a matrix at every position.

    Args:
        matrix: the matrix, (output channel, input channel).
        axis: the axis of the channels, such as 2 for tokens (clip, time, channel).

    Example:
        >>> import torch
        >>> from captum_apex import ChannelMatrix
        >>> ChannelMatrix(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))(torch.tensor([[1.0, 2.0]]))
        tensor([[2., 1.]])
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, axis: int = 1) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.axis = axis

    def forward(self, features: Tensor) -> Tensor:
        """The features in the other basis.

        Args:
            features: (clip, channel, ...), or with the channels on another axis.

        Returns:
            Tensor of the same shape for a square matrix.
        """
        multiplied = torch.einsum("kc,nc...->nk...", self.matrix, features.movedim(self.axis, 1))
        return multiplied.movedim(1, self.axis)


class MatrixBefore(nn.Module):
    """A module of several arguments, some of which are multiplied by a matrix before the module takes them.

    It has the attributes of the module, which the model may read, such as `flatten_parameters` of a recurrent layer.

    Args:
        module: the module.
        matrix: the matrix, (output channel, input channel).
        axes: the axis of the channels in each argument to multiply, by the argument's position or name.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.attribution.channel_matrices import MatrixBefore
        >>> head = nn.Bilinear(1, 1, 1, bias=False)
        >>> _ = nn.init.ones_(head.weight)
        >>> doubled = MatrixBefore(head, torch.tensor([[2.0]]), {1: 1})  # the second argument alone
        >>> doubled(torch.tensor([[3.0]]), torch.tensor([[5.0]])).item()
        30.0
    """

    def __init__(self, module: nn.Module, matrix: Tensor, axes: Mapping[int | str, int]) -> None:
        super().__init__()
        self.module = module
        self.matrices = nn.ModuleDict({str(key): ChannelMatrix(matrix, axis) for key, axis in axes.items()})

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """What the module gives for its multiplied arguments."""
        multiplied, others = self.multiplied(arguments, named)
        return self.module(*multiplied, **others)

    def multiplied(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that the module takes.

        Args:
            arguments: the arguments by position.
            named: the arguments by name.
        """
        by_key = {str(key): value for key, value in (*enumerate(arguments), *named.items())}
        by_key |= {key: matrix(by_key[key]) for key, matrix in self.matrices.items()}
        return tuple(by_key[str(index)] for index in range(len(arguments))), {key: by_key[key] for key in named}

    def __getattr__(self, name: str) -> Any:
        return _attribute(self, name, "module")


class MatrixThenModule(nn.Sequential):
    """A matrix and a module of one argument behind it, of which it has the attributes, as `MatrixBefore` has.

    Args:
        matrix: the matrix.
        module: the module.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.attribution.channel_matrices import ChannelMatrix, MatrixThenModule
        >>> gru = nn.GRU(1, 1, batch_first=True)
        >>> MatrixThenModule(ChannelMatrix(torch.tensor([[2.0]]), 2), gru).batch_first
        True
    """

    def __init__(self, matrix: ChannelMatrix, module: nn.Module) -> None:
        super().__init__(matrix, module)

    def __getattr__(self, name: str) -> Any:
        return _attribute(self, name, "1")


def _attribute(around: nn.Module, name: str, inside: str) -> Any:
    """An attribute of a module, or of one inside it."""
    try:
        return nn.Module.__getattr__(around, name)
    except AttributeError:
        module = around.__dict__.get("_modules", {}).get(inside)  # none while a copy is made
        if module is None:
            raise
        return getattr(module, name)
