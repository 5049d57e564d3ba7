"""The output of a layer as a grid of channels over frequency and time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from einops import EinopsError, rearrange
from torch import Tensor, nn

from captum_apex.caller import warn_caller
from captum_apex.layers.kinds import KnownAxes, channel_counts, known_axes

__all__ = ["Layout", "LayoutError", "check_layout", "default_axes", "input_axes", "layout_of_kind", "pattern_of"]

_HINT = "pass `layout`: captum_apex.examine(model, inputs) lists the layout of each layer"


class LayoutError(ValueError):
    """A layout that does not fit the output of the layer.

    Args:
        fault: what does not fit.
        hint: what to pass instead.

    Example:
        >>> from captum_apex.layers.layout import LayoutError
        >>> print(LayoutError("expected channels on axis 1", "pass another layout"))
        expected channels on axis 1; pass another layout
    """

    def __init__(self, fault: str, hint: str = _HINT) -> None:
        super().__init__(f"{fault}; {hint}")
        self.fault = fault

    def with_layout(self, layout: Layout, input_layout: str) -> LayoutError:
        """The same error with the layout that fits, where the axes of the inputs are those of `input_layout`."""
        needs_axes = "f" in layout.pattern.split("->")[0]
        return LayoutError(self.fault, f"{layout.hint}, for inputs {input_layout!r}" if needs_axes else layout.hint)


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

    @property
    def channel_axis(self) -> int | None:
        """The axis of the channels in the layer's output; None where they share their axis with others."""
        axes = _axes(self.pattern)
        return axes.index("c") if "c" in axes else None

    @property
    def code(self) -> str:
        """The layout as it is written in a program, in its shortest form."""
        if self.class_tokens:
            sizes = f", {_code(self.sizes)}" if self.sizes else ""
            return f'Layout("{self.pattern}"{sizes}, class_tokens={self.class_tokens})'
        return f'("{self.pattern}", {_code(self.sizes)})' if self.sizes else f'"{self.pattern}"'

    @property
    def hint(self) -> str:
        """What to pass, for messages."""
        if self == Layout():
            return "pass no `layout`"
        return f"pass {self.code} as `layout`" + (", from captum_apex.layers" if self.class_tokens else "")

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
            raise LayoutError(
                f"expected {layer} to give a tensor that fits {self.pattern!r}, but got shape {tuple(output.shape)}",
                _HINT if output.dim() > 2 else _NO_PLACES,
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


def pattern_of(axes: Sequence[str]) -> str:
    """The pattern of an output with these axes.

    Args:
        axes: axes of the output: `n`, `c`, and `t`, `f` or both; or the two in brackets, such as `(f t)`.

    Example:
        >>> from captum_apex.layers.layout import pattern_of
        >>> pattern_of(["t", "n", "c"]), pattern_of(["n", "(f t)", "c"])
        ('t n c -> n c 1 t', 'n (f t) c -> n c f t')
    """
    letters = " ".join(axes)
    return f"{letters} -> n c {'f' if 'f' in letters else '1'} {'t' if 't' in letters else '1'}"


_NO_PLACES = (
    "take a layer before the pooling, whose output still has frequency and time: captum_apex.examine(model, inputs) "
    "or captum-apex examine lists them"
)


def check_layout(layout: Layout, module: nn.Module, output: Tensor, layer: str = "the layer") -> None:
    """Refuses a layout that contradicts what the layer is: the channels of a convolution are on axis 1, for instance.

    Where the layer is of a kind that says nothing, there is a warning if the layout takes an axis for frequency or time
    that has the size of the layer's channels.

    Args:
        layout: the layout.
        module: the layer.
        output: output of the layer, or its input where that is explained.
        layer: name of the layer, for error messages.

    Raises:
        LayoutError: the layout takes another axis for the channels or the clips than the layer, or does not fit the
            output. It is a ValueError.

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
    axes = _axes(layout.pattern)
    known = known_axes(module, output.shape)
    if known is None:
        _warn_of_swapped_channels(axes, module, output, layer, layout.pattern)
        return
    hint = layout_of_kind(known, output.dim()).hint if output.dim() > 2 else _NO_PLACES
    if len(axes) != output.dim():
        raise LayoutError(
            f"expected {layer} to give a tensor that fits {layout.pattern!r}, but got shape {tuple(output.shape)} of a "
            f"{known.kind}",
            hint,
        )
    for what, letter, axis in (("channels", "c", known.channels), ("clips", "n", known.clips)):
        if axis is not None and letter in axes and axes.index(letter) != axis:
            raise LayoutError(
                f"expected {what} on axis {axis} of {layer}, a {known.kind}, but {layout.pattern!r} has axis "
                f"{axes.index(letter)}",
                hint,
            )


def layout_of_kind(known: KnownAxes, n_axes: int) -> Layout:
    """The layout of an output by the axes that the kind of its layer fixes; the others are frequency and time.

    Args:
        known: the axes that are known.
        n_axes: number of axes of the output, 3 or 4; others give a layout that fits no grid.

    Example:
        >>> from captum_apex.layers.kinds import KnownAxes
        >>> from captum_apex.layers.layout import layout_of_kind
        >>> layout_of_kind(KnownAxes(channels=2, clips=1, kind="GRU"), 3).pattern
        't n c -> n c 1 t'
    """
    letters = {known.clips or 0: "n", known.channels: "c"}
    others = iter("ft"[-max(n_axes - 2, 1) :])
    return Layout(pattern_of([letters[axis] if axis in letters else next(others, "t") for axis in range(n_axes)]))


def _warn_of_swapped_channels(axes: list[str], module: nn.Module, output: Tensor, layer: str, pattern: str) -> None:
    """Warns where another axis than that of the channels has the size of the channels inside a layer."""
    counts = channel_counts(module)
    if len(axes) != output.dim() or "c" not in axes or output.shape[axes.index("c")] in counts:
        return
    for letter, what in {"t": "time", "f": "frequency"}.items():
        size = output.shape[axes.index(letter)] if letter in axes else None
        if size in counts:
            swapped = [{"c": letter, letter: "c"}.get(axis, axis) for axis in axes]
            warn_caller(
                f"{layer} gives {size} entries on axis {axes.index(letter)}, which {pattern!r} takes for {what}, and a "
                f"{counts[size]} inside it has {size} channels; if these are the channels, pass "
                f'"{pattern_of(swapped)}" as `layout`'
            )
            return


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


def default_axes(inputs: Tensor, n_rows: int) -> list[str] | None:
    """The axes of inputs whose layout was not given, from their shape; None where it is ambiguous.

    Args:
        inputs: inputs of the model.
        n_rows: number of frequency rows of the layer's grid.

    Example:
        >>> import torch
        >>> from captum_apex.layers.layout import default_axes
        >>> default_axes(torch.zeros(1, 1, 64, 128), n_rows=4), default_axes(torch.zeros(1, 64, 128), n_rows=4)
        (['n', 'c', 'f', 't'], None)
    """
    layouts = {2: ["n", "t"], 4: ["n", "c", "f", "t"]}
    if n_rows == 1 or inputs.shape[1] == 1:
        layouts[3] = ["n", "c", "t"]
    return layouts.get(inputs.dim())


def _axes(pattern: str) -> list[str]:
    """The axes on the left side of a pattern; axes in brackets are one axis."""
    left = pattern.split("->")[0]
    return re.findall(r"\([^)]*\)|\S+", left)


def _code(sizes: Mapping[str, int] | None) -> str:
    return "{" + ", ".join(f'"{axis}": {size}' for axis, size in (sizes or {}).items()) + "}"
