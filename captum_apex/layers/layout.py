"""How a layer's output is seen as a grid of channels over frequency and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einops import EinopsError, rearrange
from torch import Tensor

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """How a layer's output becomes a grid (clip, channel, frequency, time).

    Args:
        pattern: an einops pattern that ends in `n c f t`, such as `"n t c -> n c 1 t"` for a transformer over frames.
        sizes: the axis sizes that the pattern leaves open, such as `{"f": 12}` for `"n (f t) c -> n c f t"`.
        class_tokens: the first so many entries of axis 1 belong to no place of the clip, and are left out of the grid.

    >>> import torch
    >>> Layout("n (f t) c -> n c f t", {"f": 2}, class_tokens=1).grid(torch.zeros(1, 7, 5)).shape
    torch.Size([1, 5, 2, 3])
    """

    pattern: str = "n c f t -> n c f t"
    sizes: Mapping[str, int] | None = None
    class_tokens: int = 0

    @classmethod
    def of(cls, layout: Layout | str | tuple[str, Mapping[str, int]] | None) -> Layout:
        """The layout that a user wrote: a pattern, a pattern with its sizes, or None for (clip, channel, frequency, time)."""
        if layout is None or isinstance(layout, cls):
            return layout or cls()
        if isinstance(layout, str):
            return cls(layout)
        if isinstance(layout, tuple) and len(layout) == 2:
            return cls(layout[0], dict(layout[1]))
        raise TypeError(f"expected `layout` to be an einops pattern or (pattern, sizes), but got {layout!r}")

    def grid(self, output: Tensor, layer: str = "the layer") -> Tensor:
        """A layer's output as (clip, channel, frequency, time).

        Raises:
            ValueError: naming the layer and the shape of its output, where the pattern does not fit or nothing is left beside class tokens.
        """
        if self.class_tokens and not 0 < self.class_tokens < output.shape[1]:
            raise ValueError(
                f"expected `class_tokens` from 0 to {output.shape[1] - 1}, because {layer} gives {output.shape[1]} entries on axis 1, "
                f"but got {self.class_tokens}"
            )
        try:
            grid = rearrange(output[:, self.class_tokens :], self.pattern, **(self.sizes or {}))
        except EinopsError as error:
            raise ValueError(
                f"expected {layer} to give a tensor that fits {self.pattern!r}, but got shape {tuple(output.shape)}; "
                'pass `layout`, an einops pattern to "n c f t", such as "n t c -> n c 1 t" for tokens over time'
            ) from error
        if grid.dim() != 4:
            raise ValueError(
                f"expected `layout` to give 4 axes (clip, channel, frequency, time), but {self.pattern!r} gives {grid.dim()}"
            )
        return grid
