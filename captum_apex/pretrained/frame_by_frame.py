"""A model that takes one frame after another and carries a state, over all frames of a clip."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FrameByFrame"]


class FrameByFrame(nn.Module):
    """A step of a streaming model, such as a TorchScript decoder or an `nn.GRUCell`, over the frames of whole clips.

    A streaming model is called once for each frame: it takes the frame and the state that the frame before has left,
    and gives an output and the next state. A layer inside the step would run many times in a pass, and cannot be
    explained. What stands before this module runs once for all frames, and can.

    Args:
        step: module from a frame (clip, ...) and a state to (output, state), or to the state alone, which is then the
            output, as of `nn.GRUCell`. An `nn.LSTMCell` is taken as well: its output is the first tensor of its state.
        state: the state before the first frame, as the step takes it; None where it takes None.

    Raises:
        TypeError: the step is no module.

    Example:
        >>> import torch
        >>> from captum_apex.pretrained import FrameByFrame
        >>> class Sum(torch.nn.Module):
        ...     def forward(self, frame, total):
        ...         return 10 * frame, frame if total is None else frame + total
        >>> frames = torch.tensor([[[1.0], [2.0], [3.0]]])  # (clip, frame, channel)
        >>> FrameByFrame(Sum())(frames)
        tensor([[[10.],
                 [20.],
                 [30.]]])
    """

    def __init__(self, step: nn.Module, state: Any = None) -> None:
        super().__init__()
        if not isinstance(step, nn.Module):
            raise TypeError(f"expected `step` to be a torch.nn.Module, but got {type(step).__name__}")
        self.step = step
        self.state = state

    def forward(self, frames: Tensor) -> Tensor:
        """The outputs of the step, (clip, frame, ...).

        Args:
            frames: (clip, frame, ...), with at least one frame.
        """
        state = self.state
        outputs = []
        for frame in frames.unbind(1):
            given = self.step(frame, state)
            if isinstance(self.step, nn.LSTMCell):
                given = (given[0], given)
            output, state = given if isinstance(given, tuple) else (given, given)
            outputs.append(output)
        return torch.stack(outputs, 1)
