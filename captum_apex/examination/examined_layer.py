"""A layer with the places and receptive fields of its cells, and how linear the rest of the model is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import Scheme
from captum_apex.layers.cell_places import CellLine, CellPlaces
from captum_apex.layers.layout import Layout
from captum_apex.layers.origin import Origin
from captum_apex.layers.placing import cell_places
from captum_apex.layers.suggestions import LayerSuggestion

__all__ = ["FAILURES", "ExaminedLayer", "with_delta", "with_places"]

FAILURES = (RuntimeError, ValueError, AssertionError, LookupError, ArithmeticError, TimeoutError)
"""What a model or a check of this package raises for values that it does not take; others are defects, and go on."""

_NO_CHANGE = 1e-6  # of the score, below which a layer does not change it
_DIGITS = 9  # of a time in s, beyond which there are rounding errors


@dataclass(frozen=True)
class ExaminedLayer:
    """A layer that can be explained, with what was measured of it.

    Args:
        suggestion: the layer, with its name, module, layout, number of channels and grid.
        places: where the cells lie on the axes of the input, and how far they hear, in steps of the input.
        columns_per_second: number of columns in a second of sound; None where a step is not known in seconds.
        first_second: centre of the first column, in s; None likewise. It may lie before the clip.
        receptive_field_seconds: how much of the clip a column hears, in s; None likewise.
        effect: what the layer does to the score: the score, less that where the layer gives zeros. None where it was
            not measured.
        delta: the contributions of all channels, less the effect. It is a rounding error where the rest of the model is
            linear but for its bias.
        fault: why something was not measured, in words; empty where everything was.

    Example:
        >>> import torch
        >>> from captum_apex import examine
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Conv1d(1, 4, 9, stride=4), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> layer = examine(model, torch.rand(2, 1, 100)).layers[0]
        >>> layer.name, layer.places.time.first, layer.places.time.step, layer.places.time.receptive_field
        ('0', 4.5, 4.0, 9)
        >>> layer.linear
        True
    """

    suggestion: LayerSuggestion
    places: CellPlaces = field(default_factory=CellPlaces)
    columns_per_second: float | None = None
    first_second: float | None = None
    receptive_field_seconds: float | None = None
    effect: float | None = None
    delta: float | None = None
    fault: str = ""

    @property
    def name(self) -> str:
        """The name of the module in the model."""
        return self.suggestion.name

    @property
    def delta_share(self) -> float | None:
        """The size of the delta as a share of the effect; None where there is no effect or it was not measured."""
        if self.effect is None or self.delta is None or self.effect == 0:
            return None
        return abs(self.delta / self.effect)

    @property
    def linear(self) -> bool | None:
        """Whether the delta is below 1% of the effect; None where it was not measured."""
        return None if self.delta_share is None else self.delta_share < 0.01

    @property
    def texts(self) -> tuple[str, ...]:
        """The layer as a row of a table, in the order of `HEADER`."""
        rows, columns = self.suggestion.grid
        return (
            self.name,
            str(self.suggestion.channels),
            f"{rows} × {columns}",
            self.suggestion.layout_code,
            _along_axes(self.places, _heard, self.receptive_field_seconds) or self._why_empty,
            _along_axes(self.places, _first, self.first_second) or self._why_empty,
            "" if self.columns_per_second is None else _rate(self.columns_per_second),
            "" if self.delta_share is None else _percent(self.delta_share),
        )

    @property
    def _why_empty(self) -> str:
        """What stands in place of numbers; the fault of a layer says why they are not known."""
        return "not known" if self.fault else "not measured"


HEADER = ("layer", "channels", "grid", "layout", "a cell hears", "first cell at", "columns / s", "delta")


def with_places(
    layer: ExaminedLayer,
    model: Callable,
    clip: Tensor,
    input_layout: str | None,
    seconds: Callable[[float], float] | None,
    until: float = math.inf,
) -> ExaminedLayer:
    """The layer with the places of its cells, as far as they are found in time.

    Args:
        layer: the layer.
        model: the model, or a function that runs it.
        clip: inputs of one clip; the first axis has size 1.
        input_layout: axes of the inputs.
        seconds: function from a place on the time axis of the inputs, in steps, to s; None where it is not known.
        until: the end of the search, on the clock of `time.monotonic`.

    Example:
        >>> import torch
        >>> from captum_apex import suggest_layers
        >>> from captum_apex.examination.examined_layer import ExaminedLayer, with_places
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv1d(1, 4, 8, stride=4), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        >>> clip = torch.rand(1, 1, 128)
        >>> layer = ExaminedLayer(suggest_layers(model, clip)[0])
        >>> layer = with_places(layer, model, clip, "n c t", lambda position: position / 128)  # a clip of 1 s
        >>> layer.columns_per_second, layer.first_second, layer.receptive_field_seconds
        (32.0, 0.03125, 0.0625)
    """
    layouts: dict[str, Any] = {"layout": Layout.of(layer.suggestion.layout), "input_layout": input_layout}
    try:
        places = cell_places(model, layer.suggestion.module, clip, until=until, **layouts)
    except TimeoutError:
        return _with_fault(layer, f"where its cells lie was not found in time; {_MORE_TIME}")
    except FAILURES as error:
        return _with_fault(layer, f"the model does not run on altered copies of a clip: {_in_words(error)}")
    if places.time is None and layer.suggestion.grid[1] > 1:
        layer = _with_fault(layer, _NO_PLACES)
    if places.time is None or seconds is None:
        return replace(layer, places=places)
    return replace(layer, places=places, **_in_seconds(places.time, seconds))


_MORE_TIME = "`seconds=` gives it more"
_NO_PLACES = (
    "where its columns lie is not known, and they are taken to fill the clip: each hears the whole clip and no part of "
    "it most, or none hears anything, or the model gives other values when a clip runs a second time"
)


def _with_fault(layer: ExaminedLayer, fault: str) -> ExaminedLayer:
    return replace(layer, fault="; ".join(each for each in (layer.fault, fault) if each))


def _in_seconds(line: CellLine, seconds: Callable[[float], float]) -> dict[str, Any]:
    """The fields of a layer that are in seconds; all steps are taken to be as long as one in the middle of the clip."""
    middle = line.size / 2
    step = seconds(middle + 0.5) - seconds(middle - 0.5)  # beyond the ends of the clip there are no seconds
    return {
        "columns_per_second": 1 / (step * line.step),
        "first_second": round(seconds(middle) + step * (line.first - middle), _DIGITS) + 0.0,  # no −0
        "receptive_field_seconds": None if line.receptive_field is None else step * line.receptive_field,
    }


def with_delta(layer: ExaminedLayer, model: Callable, clip: Tensor, target: int | None) -> ExaminedLayer:
    """The layer with the contributions of all its channels against what the layer does to a score.

    Args:
        layer: the layer.
        model: as in `with_places`.
        clip: as in `with_places`.
        target: index of the class; None for a model that gives one score per clip.

    Example:
        >>> import torch
        >>> from captum_apex import suggest_layers
        >>> from captum_apex.examination.examined_layer import ExaminedLayer, with_delta
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv1d(1, 4, 8, stride=4), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        >>> clip = torch.rand(1, 1, 128)
        >>> layer = with_delta(ExaminedLayer(suggest_layers(model, clip)[0]), model, clip, target=0)
        >>> abs(layer.effect - model(clip)[0, 0].item()) < 1e-6, layer.linear  # the score is the mean of channel 0
        (True, True)
    """
    suggestion = layer.suggestion
    dtype = clip.dtype if clip.is_floating_point() else torch.float32
    origin = Origin(layout=Layout.of(suggestion.layout))
    channels = torch.eye(suggestion.channels, dtype=dtype, device=clip.device)
    try:
        apex = LayerAPEX(model, suggestion.module, PrototypeBasis(channels, Scheme.SQUARE, origin=origin))
        decomposition = apex.decompose(clip, target)
        effect = decomposition.score - apex.score_without_layer(clip, target)
        delta = decomposition.relevance.sum((1, 2, 3)) - effect
    except FAILURES as error:
        return _with_fault(layer, f"no contributions: {_in_words(error)}")
    if abs(effect.item()) <= _NO_CHANGE * abs(decomposition.score.item()):
        return _with_fault(replace(layer, effect=0.0, delta=delta.item()), "zeros in it do not change the score")
    return replace(layer, effect=effect.item(), delta=delta.item())


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _rate(number: float) -> str:
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def _time(seconds: float) -> str:
    """A time in s, or in ms where it would be as small as 6.25e-05 s."""
    return f"{seconds:.3g} s" if seconds == 0 or abs(seconds) >= 0.001 else f"{1000 * seconds:.3g} ms"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0095 or share < 0.0005 else f"{share:.1%}"


def _along_axes(places: CellPlaces, text: Callable[[CellLine, str], str], seconds: float | None) -> str:
    """A text for each axis on which the cells are placed; in seconds where they are known."""
    rows = [] if places.frequency is None else [text(places.frequency, "bin")]
    columns = [] if places.time is None else [text(places.time, "step") if seconds is None else _time(seconds)]
    return ", ".join(rows + columns)


def _heard(line: CellLine, unit: str) -> str:
    if line.receptive_field is None:
        return f"unknown {unit}s"
    about = "" if line.exact else "about "
    return f"all {unit}s" if line.receptive_field >= line.size else f"{about}{line.receptive_field:g} {unit}s"


def _first(line: CellLine, unit: str) -> str:
    return f"{unit} {line.first:.4g}" if line.exact else f"about {unit} {line.first:.3g}"
