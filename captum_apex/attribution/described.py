"""What an attribution object says of itself when it is printed."""

from __future__ import annotations

from collections.abc import Callable

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.summaries import layer_in_words
from captum_apex.result_tables import counted

__all__ = ["Described"]


class Described:
    """An attribution object that names its model, its layer and its basis.

    Example:
        >>> import torch
        >>> from captum_apex import LayerAPEX, PrototypeBasis
        >>> model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten())
        >>> LayerAPEX(model, model[0], PrototypeBasis(torch.eye(2), "time"))
        LayerAPEX of Sequential
          layer: 0
          basis: 'time', 2 channels
    """

    forward_func: Callable
    basis: PrototypeBasis
    layer_name: str

    def __repr__(self) -> str:
        model = getattr(self.forward_func, "__name__", type(self.forward_func).__name__)
        lines = [
            f"{type(self).__name__} of {model}",
            f"  layer: {layer_in_words(self.basis.origin) if self.basis.origin.layer else self.layer_name}",
            f"  basis: {str(self.basis.scheme)!r}, {counted(self.basis.n_channels, 'channel')}",
        ]
        return "\n".join([*lines, *(f"  {name}: {text}" for name, text in self._settings())])

    def _settings(self) -> list[tuple[str, str]]:
        """Further settings, as pairs of a name and a text."""
        return []
