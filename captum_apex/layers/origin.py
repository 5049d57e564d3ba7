"""What features were taken from: the layer, its grid, and the weights of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from captum_apex.layers.layout import Layout

__all__ = ["Origin"]


@dataclass(frozen=True)
class Origin:
    """What features were taken from.

    Args:
        layer: the layer's name in the model.
        layout: how its output is seen as a grid.
        grid: (frequency, time), the grid's size; the longest clip's where there are several lengths.
        input_shape: one input's shape, without the batch axis; None where clips have several lengths.
        fingerprint: of the model's weights; empty where the model is not known (a plain function).
        n_clips: clips in the dataset.
        at_input: whether the layer's input was taken, not its output.
        dataset: a fingerprint of the dataset, from whoever can tell one from another; empty where nobody can.
    """

    layer: str = ""
    layout: Layout = field(default_factory=Layout)
    grid: tuple[int, int] | None = None
    input_shape: tuple[int, ...] | None = None
    fingerprint: str = ""
    n_clips: int = 0
    at_input: bool = False
    dataset: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Origin:
        """The inverse of `dataclasses.asdict`, also after a way through JSON, which turns tuples into lists."""
        tuples = {name: None if values[name] is None else tuple(values[name]) for name in ("grid", "input_shape")}
        return cls(**{**values, **tuples, "layout": Layout(**values["layout"])})
