"""A function of NumPy arrays as a module, for models of which only the outputs are at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_apex.numbers import whole_number

__all__ = ["ArrayFunction"]


class ArrayFunction(nn.Module):
    """A function of NumPy arrays, such as an ONNX session or a remote service, as a module of torch.

    The module can be the model of a `Classifier`, the `forward_func` of `captum_apex.metrics` and of `occlusion`, and
    that of Captum's methods that need no gradient. It has no layer and gives no gradient, so that APEX, Grad-CAM and
    Integrated Gradients cannot explain it; see `EmbeddedWindows` for a function that gives embeddings.

    Args:
        function: function from float32 arrays (clip, ...) to scores or embeddings (clip, class), an array or whatever
            NumPy makes one of. It gets copies, which it may change.
        batch_size: largest number of clips that the function gets at once; 1 for a model that takes a single clip.

    Raises:
        TypeError: the function cannot be called, or the batch size is no integer.
        ValueError: the batch size is below 1; or, when it is called, the function does not give one row for each clip.

    Example:
        >>> import torch
        >>> from captum_apex.pretrained import ArrayFunction
        >>> loudness = ArrayFunction(lambda waveforms: (waveforms**2).mean(axis=1, keepdims=True), batch_size=1)
        >>> loudness(torch.tensor([[1.0, -1.0], [0.0, 2.0]]))
        tensor([[1.],
                [2.]])
    """

    def __init__(self, function: Callable[[NDArray[np.float32]], Any], batch_size: int = 32) -> None:
        super().__init__()
        if not callable(function):
            raise TypeError(f"expected a function of NumPy arrays, but got {type(function).__name__}")
        self.batch_size = whole_number(batch_size, "batch_size", least=1)
        self._function = (function,)  # in a tuple, so that a module is not registered: its weights are out of sight
        self.eval()

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """What the function gives for each clip, float32 (clip, class), on the device of the inputs."""
        batches = inputs.detach().to("cpu", torch.float32).split(self.batch_size)
        return torch.cat([self._rows(batch.numpy().copy()) for batch in batches]).to(inputs.device)

    def _rows(self, batch: NDArray[np.float32]) -> Tensor:
        n_clips = len(batch)
        given = self._function[0](batch)
        given = given.detach().cpu() if isinstance(given, Tensor) else given
        try:
            rows = np.array(given, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected the function to give an array, but got {type(given).__name__}") from error
        if rows.ndim == 2 and len(rows) == n_clips:
            return torch.from_numpy(rows)
        hint = "return output[None]" if rows.ndim == 1 and n_clips == 1 else "return one row of numbers for each clip"
        raise ValueError(
            f"expected the function to give an array ({n_clips}, class) for an array {batch.shape}, but got shape "
            f"{rows.shape}; {hint}"
        )
