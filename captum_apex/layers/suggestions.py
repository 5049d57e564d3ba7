"""Proposes the layer to explain, and the layout of its output."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import torch
from torch import Tensor, nn

from captum_apex.layers.changes import restored
from captum_apex.layers.chosen_run import named_layers
from captum_apex.layers.hooks import held
from captum_apex.layers.kinds import is_script
from captum_apex.layers.layout import Layout, input_axes
from captum_apex.layers.models import device_of, model_of, models_of, on_one_device
from captum_apex.layers.probe import Reading, changed_clips
from captum_apex.layers.proposals import candidates
from captum_apex.layers.values import check_finite, checked_output
from captum_apex.layers.visits import Visit, visited
from captum_apex.result_tables import html_table, text_table

__all__ = ["LayerSuggestion", "LayerSuggestions", "example_inputs", "suggest_layers", "suggested_layout"]

_MOST_LINES = 12
_SCRIPT = (
    "it is TorchScript, inside which no hook reaches a module; load it as a Python module, or write a module whose "
    "`forward` calls its parts, with an nn.Identity() where the layer is"
)
_GRAPH = (
    "it is a graph whose modules only hold weights, as torch.export makes it; take `torch.export.unflatten(program)`"
)
_MOST_CHANNELS = 8  # of a waveform; more entries on the axis before time are taken for frequencies


@dataclass(frozen=True)
class LayerSuggestion:
    """A layer that can be explained.

    Args:
        name: name of the module in the model.
        module: the module.
        layout: what to pass as `layout`: None where none is needed, an einops pattern, a pair (pattern, sizes), or a
            `Layout` where there are class tokens.
        channels: number of channels.
        grid: number of frequency rows and of time columns.
        reason: why it is proposed, and how its layout is known.

    Example:
        >>> import torch
        >>> from captum_apex import FeatureBank, suggest_layers
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> clips = torch.rand(6, 1, 90)
        >>> layer = suggest_layers(model, clips)[0]
        >>> layer.name, layer.layout, layer.channels, layer.grid
        ('0', 'n c t -> n c 1 t', 4, (1, 88))
        >>> FeatureBank.from_dataset(model, layer.module, clips, layout=layer.layout).n_channels
        4
    """

    name: str
    module: nn.Module
    layout: Layout | str | tuple[str, dict[str, int]] | None
    channels: int
    grid: tuple[int, int]
    reason: str

    def __repr__(self) -> str:
        rows, columns = self.grid
        return (
            f"{self.name}: {self.channels} channels, {rows} × {columns} cells, layout {self.layout_code}; {self.reason}"
        )

    @property
    def layout_code(self) -> str:
        """The layout as it is written in a program, or `none needed`."""
        return "none needed" if self.layout is None else Layout.of(self.layout).code


class LayerSuggestions(Sequence[LayerSuggestion]):
    """The layers that can be explained, in the order of preference; it is printed as a table.

    Args:
        layers: the layers.
        left_out: why other modules are left out, by their names.
        input_layout: the axes of the inputs as they were read.
        input_shape: shape of one input, without the clip axis.

    Example:
        >>> import torch
        >>> from captum_apex import suggest_layers
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> suggest_layers(model, torch.rand(6, 1, 90))
        layers to explain, the best first; inputs of 1 × 90 are read as "n c t":
        layer  channels  grid    layout              why
            0         4  1 × 88  "n c t -> n c 1 t"  last before pooling; channels by its kind, Conv1d
    """

    def __init__(
        self,
        layers: Sequence[LayerSuggestion],
        left_out: dict[str, str],
        input_layout: str,
        input_shape: Sequence[int],
    ) -> None:
        self.layers = tuple(layers)
        self.left_out = left_out
        self.input_layout = input_layout
        self.input_shape = tuple(input_shape)

    @overload
    def __getitem__(self, index: int) -> LayerSuggestion: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[LayerSuggestion]: ...

    def __getitem__(self, index: int | slice) -> LayerSuggestion | Sequence[LayerSuggestion]:
        if not self.layers and isinstance(index, int):
            raise IndexError(f"expected a layer to explain, but there is none; {self}")
        return self.layers[index]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerSuggestion]:
        return iter(self.layers)

    def __repr__(self) -> str:
        table = [text_table(_HEADER, self._rows)] if self.layers else []
        return "\n".join([self._title, *table, *self._notes()])

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self._notes())
        table = html_table(_HEADER, self._rows) if self.layers else ""
        return f"<div>{html.escape(self._title)}</div>{table}{notes}"

    @property
    def doubt(self) -> str:
        """What speaks against the axes of the inputs as they were read, in words; empty where nothing does."""
        sizes = dict(zip(self.input_layout.split()[1:], self.input_shape, strict=True))
        if sizes.get("f", 0) <= sizes["t"]:
            return ""
        swapped = " ".join({"f": "t", "t": "f"}.get(axis, axis) for axis in self.input_layout.split())
        return (
            f"the inputs have {sizes['f']} entries for frequency and {sizes['t']} for time: if it is the other way "
            f'round, pass input_layout="{swapped}"'
        )

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        return [_cells(layer) for layer in self.layers[:_MOST_LINES]]

    @property
    def _title(self) -> str:
        shape = " × ".join(map(str, self.input_shape))
        what = "layers to explain, the best first" if self.layers else "no module gives a grid that can be explained"
        return f'{what}; inputs of {shape} are read as "{self.input_layout}"' + ":" * bool(self.layers or self.left_out)

    def _notes(self) -> list[str]:
        notes = []
        if len(self.layers) > _MOST_LINES:
            notes.append(f"and {len(self.layers) - _MOST_LINES} earlier ones")
        if self.doubt:
            notes.append(self.doubt)
        left_out = [f"{name}: {reason}" for name, reason in self.left_out.items()]
        notes += [f"left out: {each}" for each in left_out[:_MOST_LINES]]
        if len(left_out) > _MOST_LINES:
            notes.append(f"left out: {len(left_out) - _MOST_LINES} others, see `left_out`")
        return notes


_HEADER = ("layer", "channels", "grid", "layout", "why")


def _cells(layer: LayerSuggestion) -> tuple[str, ...]:
    rows, columns = layer.grid
    return (layer.name, str(layer.channels), f"{rows} × {columns}", layer.layout_code, layer.reason)


@restored
def suggest_layers(model: Callable, example: Any, *, input_layout: str | None = None) -> LayerSuggestions:
    """The layers of a model that can be explained, each with the layout of its output, in the order of preference.

    The last module before the pooling comes first, then earlier stages with finer grids. Where the channels are, a
    module's kind says, or that of the module that takes its output. Which axes are frequency and time is seen by a
    pass over five copies of one clip: they have a noise at the begin, at the end, in low and in high bands, and the
    axis along which the change moves is that axis. A second pass tells which outputs a gradient of the score reaches.
    The model is held in evaluation mode meanwhile, and stays as it is.

    Args:
        model: the classifier, or a function that runs it.
        example: a batch of inputs, as the model takes them; or one input or one item `(input, label)` of a dataset.
        input_layout: axes of the inputs: `n` clip, `c` channel, `f` frequency, `t` time. By default `"n t"`,
            `"n c f t"`, and for three axes `"n f t"`, or `"n c t"` where the second has at most 8 entries.

    Returns:
        The layers; empty where no module gives a grid, with the reasons in `left_out`.

    Raises:
        TypeError: the example has no tensor.
        ValueError: the model takes the example neither as a batch nor as one input, gives no tensor of scores, or the
            input layout does not fit; or the example has NaN or infinity.

    Example:
        >>> import torch
        >>> from captum_apex import suggest_layers
        >>> model = torch.nn.Sequential(
        ...     *(torch.nn.Conv2d(1, 8, 3, stride=2), torch.nn.ReLU()),
        ...     *(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3)),
        ... )
        >>> layer = suggest_layers(model, torch.rand(1, 1, 32, 64))[0]
        >>> layer
        1: 8 channels, 15 × 31 cells, layout none needed; last before pooling
        >>> layer.module is model[1]
        True
    """
    tried = _tried(model, example, input_layout)
    found, left_out = candidates(tried.model, tried.modules, tried.visits, tried.clips[1:2])
    if is_script(model_of(model)):
        left_out["the model"] = _SCRIPT
    elif isinstance(model_of(model), torch.fx.GraphModule) and not found:
        left_out["the model"] = _GRAPH
    layers = [_suggestion(each.visit, each.reading, each.reason) for each in found]
    return LayerSuggestions(layers, left_out, " ".join(tried.axes), tried.clips.shape[1:])


def suggested_layout(model: Callable, layer: nn.Module, example: Any) -> tuple[Layout, str] | None:
    """The layout of one layer, as `suggest_layers` finds it, and the axes of the inputs; None where it finds none.

    Args:
        model: the classifier, or a function that runs it.
        layer: a module of the model.
        example: inputs, as in `suggest_layers`.

    Example:
        >>> import torch
        >>> from captum_apex.layers.suggestions import suggested_layout
        >>> layer = torch.nn.Conv1d(1, 4, 3)
        >>> suggested_layout(torch.nn.Sequential(layer, torch.nn.Flatten()), layer, torch.rand(6, 1, 90))[0].code
        '"n c t -> n c 1 t"'
    """
    tried = _tried(model, example, None)
    for visit in tried.visits.values():
        if visit.module is layer and visit.reading is not None:
            return visit.reading.layout, " ".join(tried.axes)
    return None


@dataclass(frozen=True, eq=False)
class _Tried:
    """A model, its modules, the changed clips that it took, their axes, and what its modules gave."""

    model: Callable
    modules: dict[str, nn.Module]
    clips: Tensor
    axes: list[str]
    visits: dict[str, Visit]


def _tried(model: Callable, example: Any, input_layout: str | None) -> _Tried:
    """Runs the model on an example, which may be a batch or one input."""
    model = on_one_device(model)
    modules = _modules_of(model)
    inputs = example_inputs(example)
    one_clip = [inputs[:1]] if inputs.dim() > 1 and len(inputs) else []
    faults = []
    for clip in (*one_clip, inputs[None]):
        axes = _input_axes(input_layout, clip)
        if axes is None:
            continue
        given: list[Any] = []
        try:
            clips = changed_clips(clip, axes).to(device_of(model_of(model) or next(iter(modules.values()))))
            with held(model):
                visits = visited(modules, partial(_run, model, clips, given))
        except Exception as error:  # the user's code can raise anything
            faults.append(f"{type(error).__name__} for the shape {tuple(clip.shape)}: {error}")
            continue
        scores = checked_output(given[0], model)
        if scores.shape[:1] == clips.shape[:1]:
            return _Tried(model, modules, clips, axes, visits)
        faults.append(f"scores of the shape {tuple(scores.shape)} for {len(clips)} clips {tuple(clip.shape[1:])}")
    if faults:
        raise ValueError(f"expected `example` to be inputs that the model takes, but got {'; and '.join(faults)}")
    raise ValueError(
        "expected `input_layout` to name the axes of the inputs by n, c, f and t, such as 'n c f t', but got "
        f"{input_layout!r} for the shape {tuple(inputs.shape)}"
    )


def example_inputs(example: Any) -> Tensor:
    """The inputs of an example, without a label.

    Args:
        example: inputs, as in `suggest_layers`.

    Raises:
        TypeError: it has no tensor.
        ValueError: the tensor has NaN or infinity.

    Example:
        >>> import torch
        >>> from captum_apex.layers.suggestions import example_inputs
        >>> example_inputs((torch.ones(1, 2), 5))
        tensor([[1., 1.]])
    """
    inputs = example[0] if isinstance(example, (tuple, list)) and len(example) else example
    if not isinstance(inputs, Tensor) and not hasattr(inputs, "__array__"):
        raise TypeError(f"expected `example` to be a tensor of inputs, but got {type(inputs).__name__}")
    tensor = torch.as_tensor(inputs).detach()
    check_finite(tensor, "the inputs")
    return tensor


def _suggestion(visit: Visit, reading: Reading, reason: str) -> LayerSuggestion:
    layout: Any = reading.layout
    if layout == Layout():
        layout = None
    elif not layout.class_tokens:
        layout = (layout.pattern, dict(layout.sizes)) if layout.sizes else layout.pattern
    return LayerSuggestion(visit.name, visit.module, layout, reading.channels, reading.grid, reason)


def _run(model: Callable, clips: Tensor, given: list[Any]) -> None:
    given.append(model(clips))


def _modules_of(model: Callable) -> dict[str, nn.Module]:
    """The modules of a model by name, without the model itself; those of a function with the models that it runs."""
    root = model_of(model)
    modules: dict[str, nn.Module] = {}
    for each in models_of(model):
        inside = [f"{name}." for name, module in named_layers(each) if name and is_script(module)]
        for name, module in named_layers(each):
            if (name or root is None) and not name.startswith(tuple(inside)):
                modules.setdefault(name or type(each).__name__, module)
    if is_script(root):
        return {}
    if not modules:
        raise ValueError(f"expected a model with modules inside it, but got {type(root or model).__name__}")
    return modules


def _input_axes(input_layout: str | None, clip: Tensor) -> list[str] | None:
    """The axes of a clip with its clip axis; None where the layout does not fit."""
    if input_layout is None:
        layouts = {2: "n t", 4: "n c f t"}
        if clip.dim() == 3:
            layouts[3] = "n c t" if clip.shape[1] <= _MOST_CHANNELS else "n f t"
        return layouts[clip.dim()].split() if clip.dim() in layouts else None
    axes = input_axes(input_layout)
    return axes if len(axes) == clip.dim() else None
