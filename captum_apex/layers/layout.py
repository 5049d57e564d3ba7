"""The output of a layer as a grid of channels over frequency and time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from einops import EinopsError, rearrange
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

__all__ = ["Layout", "check_layout", "input_axes"]

_ELEMENTWISE = (nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Dropout, nn.Sigmoid, nn.Tanh)
"""Modules that leave the axes of their input as they are."""


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

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or self.pattern.count("->") != 1:
            raise ValueError(
                f"expected `layout` to be an einops pattern such as 'n t c -> n c 1 t', but got {self.pattern!r}"
            )

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
        except (EinopsError, IndexError) as error:  # an output of one axis has no axis to cut
            raise ValueError(
                f"expected {layer} to give a tensor that fits {self.pattern!r}, but got shape {tuple(output.shape)}; "
                'pass `layout`, an einops pattern to "n c f t", such as "n t c -> n c 1 t" for tokens over time, or '
                '"n c t -> n c 1 t" for a convolution over time'
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


def check_layout(layout: Layout, module: nn.Module, output: Tensor, layer: str = "the layer") -> None:
    """Refuses a layout that contradicts what the layer is: the channels of a convolution are on axis 1, for instance.

    Args:
        layout: the layout.
        module: the layer.
        output: output of the layer, or its input where that is explained.
        layer: name of the layer, for error messages.

    Raises:
        ValueError: the layout takes another axis for the channels than the layer, or does not fit the output.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.layers.layout import Layout, check_layout
        >>> layer = nn.Conv1d(1, 4, 3)
        >>> try:
        ...     check_layout(Layout("n t c -> n c 1 t"), layer, torch.zeros(2, 4, 8))
        ... except ValueError as error:
        ...     print(str(error).split("; ")[1])
        pass "n c t -> n c 1 t" as `layout`
    """
    axis, kind = _channel_axis(module, output.dim())
    axes = _axes(layout.pattern)
    patterns = {1: "n c t -> n c 1 t", 2: "n t c -> n c 1 t"} if output.dim() == 3 else {}
    suggestion = f'; pass "{patterns[axis]}" as `layout`' if axis in patterns else "; pass `layout`"
    if axis is not None and len(axes) != output.dim():
        raise ValueError(
            f"expected {layer} to give a tensor that fits {layout.pattern!r}, but got shape {tuple(output.shape)} of a "
            f"{kind}{suggestion}"
        )
    if axis is not None and "c" in axes and axes.index("c") != axis:
        raise ValueError(
            f"expected channels on axis {axis} of {layer}, a {kind}, but {layout.pattern!r} has axis "
            f"{axes.index('c')}{suggestion}"
        )


def input_axes(input_layout: str) -> list[str]:
    """The axes of a model's inputs, by letter.

    Args:
        input_layout: `n` clip, then some of `c` channel, `f` frequency and `t` time, such as `"n c f t"`.

    Raises:
        TypeError: the layout is no string.
        ValueError: the layout does not begin with `n`, has no `t`, another letter, or a letter twice.

    Example:
        >>> from captum_apex.layers.layout import input_axes
        >>> input_axes("n f t")
        ['n', 'f', 't']
    """
    expected = "expected `input_layout` to name the axes of the inputs by n, c, f and t, such as 'n c f t'"
    if not isinstance(input_layout, str):
        raise TypeError(f"{expected}, but got {type(input_layout).__name__}")
    axes = input_layout.split()
    if axes[:1] != ["n"] or "t" not in axes or set(axes) - set("ncft") or len(set(axes)) < len(axes):
        raise ValueError(f"{expected}, but got {input_layout!r}")
    return axes


def _axes(pattern: str) -> list[str]:
    """The axes on the left side of a pattern; axes in brackets are one axis."""
    left = pattern.split("->")[0]
    return re.findall(r"\([^)]*\)|\S+", left)


def _channel_axis(module: nn.Module, n_axes: int) -> tuple[int | None, str]:
    """The axis of the output that has the channels, and the kind of the module that says so; None where none does."""
    kind = type(module).__name__
    if isinstance(module, (_ConvNd, _NormBase, nn.GroupNorm)):
        return 1, kind
    if isinstance(module, (nn.Linear, nn.LayerNorm, nn.RMSNorm)):
        return n_axes - 1, kind
    if isinstance(module, nn.Sequential):
        for child in reversed(module):
            axis, kind = _channel_axis(child, n_axes)
            if axis is not None or not isinstance(child, _ELEMENTWISE):
                return axis, kind
    return None, kind
