"""A model whose layer is the embeddings of the windows of a clip, for networks that give only embeddings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_apex.numbers import whole_number
from captum_apex.pretrained.array_function import ArrayFunction

__all__ = ["EmbeddedWindows"]

_REMEMBERED = 4096  # embeddings, the most recent ones


class EmbeddedWindows(nn.Module):
    """A function that gives embeddings, over the windows of a clip, with a head that gives scores.

    It makes a model for APEX from what gives one embedding for a stretch of sound and nothing else: a TFLite or ONNX
    file, a library, a remote service. The embeddings of the windows of a clip are the layer `embeddings`, with one row
    and as many columns as the clip has windows; the head reads their mean. So the schemes `time` and `square` can be
    fitted, and a region is a window (with a shorter hop, its middle). What happens inside a window cannot be explained
    by a basis.

    The same window is embedded once: the 4096 most recent embeddings are remembered. So the windows that neighbouring
    clips of a long recording have in common take no further call.

    Args:
        embed: function from windows, a float32 array (window, sample), to their embeddings (window, dimension).
        head: module from embeddings (clip, dimension) to scores (clip, class), such as the last linear layer of the
            network. See `from_embeddings` for one that is fitted.
        window: length of a window, in samples: what `embed` takes.
        hop: samples from the start of one window to that of the next; by default `window`. Samples after the last whole
            window of a clip are not heard.
        batch_size: largest number of windows that `embed` gets at once; 1 for a network that takes a single window.

    Attributes:
        embeddings: the layer to explain, whose output is (clip, dimension, 1, window).
        accuracy: share of unseen clips that the head classifies correctly, in [0, 1]; None where it was not measured.

    Raises:
        TypeError: `embed` cannot be called, the head is not a module, or a number is no integer.
        ValueError: a number is below 1; or, when it is called, the clips are shorter than a window, are not
            (clip, sample), or `embed` does not give one row for each window.

    Example:
        >>> import torch
        >>> from captum_apex.pretrained import EmbeddedWindows
        >>> head = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.ones_(head.weight)
        >>> model = EmbeddedWindows(lambda windows: windows.max(axis=1, keepdims=True), head, window=2)
        >>> model(torch.tensor([[1.0, 2.0, 3.0, 0.0]])).detach()  # the mean of 2 and 3
        tensor([[2.5000]])
    """

    def __init__(
        self,
        embed: Callable[[NDArray[np.float32]], Any],
        head: nn.Module,
        window: int,
        hop: int | None = None,
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        if not isinstance(head, nn.Module):
            raise TypeError(f"expected `head` to be a torch.nn.Module, but got {type(head).__name__}")
        self.window = whole_number(window, "window", least=1)
        self.hop = self.window if hop is None else whole_number(hop, "hop", least=1)
        self.embed = ArrayFunction(embed, batch_size)
        self.embeddings = nn.Identity()
        self.head = head
        self.accuracy: float | None = None
        self._remembered: OrderedDict[bytes, Tensor] = OrderedDict()
        self.eval()

    def forward(self, waveforms: Tensor) -> Tensor:
        """The scores of clips (clip, sample), (clip, class)."""
        if waveforms.dim() != 2 or waveforms.shape[1] < self.window:
            raise ValueError(
                f"expected waveforms (clip, sample) with at least the {self.window} samples of a window, but got "
                f"shape {tuple(waveforms.shape)}"
            )
        windows = waveforms.detach().unfold(1, self.window, self.hop)  # (clip, sample) → (clip, window, sample)
        rows = self._embedded(windows.flatten(0, 1)).to(waveforms.device)
        grid = rows.unflatten(0, windows.shape[:2]).transpose(1, 2)  # → (clip, dimension, window)
        return self.head(self.embeddings(grid[:, :, None]).mean((2, 3)))

    def extra_repr(self) -> str:
        """The windows and the accuracy, as torch shows them."""
        accuracy = "" if self.accuracy is None else f", accuracy on unseen clips={self.accuracy:.2f}"
        return f"window={self.window}, hop={self.hop}{accuracy}"

    def _embedded(self, windows: Tensor) -> Tensor:
        """The embedding of each window (window, sample), (window, dimension); only new windows are embedded."""
        windows = windows.to("cpu", torch.float32)
        keys = [blake2b(window.numpy().tobytes()).digest() for window in windows]
        known = {key: self._remembered[key] for key in keys if key in self._remembered}
        new = {key: place for place, key in enumerate(keys) if key not in known}
        if new:
            known.update(zip(new, self.embed(windows[list(new.values())]), strict=True))
        self._remembered.update(known)
        for key in known:
            self._remembered.move_to_end(key)
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return torch.stack([known[key] for key in keys])
