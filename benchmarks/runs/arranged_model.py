"""A model whose inputs have the axes (clip, channel, frequency, time), as methods expect them, made of any other."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor, nn


class ArrangedModel(nn.Module):
    """A model that takes (clip, channel, frequency, time) instead of its own axes; an axis that it lacks has size 1.

    The layers are those of the model, so that a layer and a basis of the model can be used with this one.

    Args:
        model: the model.
        axes: the axes of its own inputs by letter: `n` clip, `c` channel, `f` frequency, `t` time.

    Example:
        >>> import torch
        >>> from benchmarks.runs.arranged_model import ArrangedModel
        >>> model = ArrangedModel(torch.nn.Linear(3, 2), ["n", "t"])  # takes waveforms (clip, sample)
        >>> waveforms = model.arranged(torch.ones(5, 3))
        >>> waveforms.shape, model(waveforms).shape
        (torch.Size([5, 1, 1, 3]), torch.Size([5, 2]))
    """

    def __init__(self, model: nn.Module, axes: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self._own = " ".join(axes)
        self._arranged = " ".join(letter if letter in axes else "1" for letter in "ncft")
        self.training = model.training  # of this module alone: those of the model keep theirs

    def forward(self, inputs: Tensor) -> Tensor:
        """What the model gives for inputs (clip, channel, frequency, time)."""
        return self.model(self.own(inputs))

    def own(self, inputs: Tensor) -> Tensor:
        """Inputs (clip, channel, frequency, time) with the axes of the model."""
        return rearrange(inputs, f"{self._arranged} -> {self._own}")

    def arranged(self, inputs: Tensor) -> Tensor:
        """Inputs with the axes of the model as (clip, channel, frequency, time)."""
        return rearrange(inputs, f"{self._own} -> {self._arranged}")
