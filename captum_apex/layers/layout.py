"""The output of a layer as a grid of channels over frequency and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einops import EinopsError, rearrange
from torch import Tensor

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """How the axes of a layer's output become a grid (clip, channel, frequency, time).

    Args:
        pattern: an einops pattern that ends in `n c f t`, such as `"n t c -> n c 1 t"` for a transformer over frames.
        sizes: the axis sizes that the pattern leaves open, such as `{"f": 12}` for `"n (f t) c -> n c f t"`.
        class_tokens: number of entries at the start of axis 1 that belong to no position in the clip; they are left out
            of the grid.

    Example:
        >>> import torch
        >>> from captum_apex.layers import Layout
        >>> tokens = torch.arange(5.0).reshape(1, 5, 1)  # a class token, then two rows of two columns
        >>> Layout("n (f t) c -> n c f t", {"f": 2}, class_tokens=1).grid(tokens)
        tensor([[[[1., 2.],
                  [3., 4.]]]])
    """

    pattern: str = "n c f t -> n c f t"
    sizes: Mapping[str, int] | None = None
    class_tokens: int = 0

    @classmethod
    def of(cls, layout: Layout | str | tuple[str, Mapping[str, int]] | None) -> Layout:
        """The layout in any of the forms that a user may write it.

        Args:
            layout: a `Layout`, a pattern, a pair (pattern, sizes), or None for (clip, channel, frequency, time).

        Raises:
            TypeError: if `layout` has another type.

        Example:
            >>> from captum_apex.layers import Layout
            >>> Layout.of("n t c -> n c 1 t")
            Layout(pattern='n t c -> n c 1 t', sizes=None, class_tokens=0)
        """
        if layout is None or isinstance(layout, cls):
            return layout or cls()
        if isinstance(layout, str):
            return cls(layout)
        if isinstance(layout, tuple) and len(layout) == 2:
            return cls(layout[0], dict(layout[1]))
        raise TypeError(f"expected `layout` to be an einops pattern or (pattern, sizes), but got {layout!r}")

    def grid(self, output: Tensor, layer: str = "the layer") -> Tensor:
        """A layer's output as a grid (clip, channel, frequency, time).

        Args:
            output: output of the layer; its axes are those on the left side of the pattern.
            layer: name of the layer, for error messages.

        Raises:
            ValueError: if the pattern does not fit the shape of the output, or if only class tokens are left.
        """
        self._check_class_tokens(output, layer)
        try:
            grid = rearrange(output[:, self.class_tokens :], self.pattern, **(self.sizes or {}))
        except EinopsError as error:
            raise ValueError(
                f"expected {layer} to give a tensor that fits {self.pattern!r}, but got shape {tuple(output.shape)}; "
                'pass `layout`, an einops pattern to "n c f t", such as "n t c -> n c 1 t" for tokens over time'
            ) from error
        if grid.dim() != 4:
            raise ValueError(
                "expected `layout` to give 4 axes (clip, channel, frequency, time), "
                f"but {self.pattern!r} gives {grid.dim()}"
            )
        return grid

    def _check_class_tokens(self, output: Tensor, layer: str) -> None:
        if self.class_tokens and not 0 < self.class_tokens < output.shape[1]:
            raise ValueError(
                f"expected `class_tokens` from 0 to {output.shape[1] - 1}, because {layer} gives "
                f"{output.shape[1]} entries on axis 1, but got {self.class_tokens}"
            )
