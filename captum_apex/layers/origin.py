"""A record of the layer, the model and the dataset that features were computed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from captum_apex.layers.cell_places import CellPlaces
from captum_apex.layers.layout import Layout

__all__ = ["Origin"]


@dataclass(frozen=True)
class Origin:
    """The layer, the model and the dataset that features were computed with.

    Args:
        layer: name of the layer in the model.
        layout: layout of the layer's output.
        grid: size of the grid, (frequency, time); that of the longest clip if clips have several lengths.
        input_shape: shape of one input, without the batch axis; None if clips have several lengths.
        fingerprint: hash of the model's weights; empty if the model is a plain function.
        n_clips: number of clips in the dataset.
        at_input: whether the features are the layer's input instead of its output.
        dataset: fingerprint of the dataset; empty if the dataset has none.
        norm: name of the norm behind the pooling that is applied to the grid, see `captum_apex.layers.PooledNorm`;
            empty if the features are those of the layer itself.
        places: where the cells of the layer lie on the axes of the input; in bases of earlier versions they are not
            known, and taken to fill the input.

    Example:
        >>> from dataclasses import asdict
        >>> from captum_apex.layers import Origin
        >>> origin = Origin(layer="features", grid=(4, 15), n_clips=200)
        >>> Origin.from_dict(asdict(origin)) == origin
        True
    """

    layer: str = ""
    layout: Layout = field(default_factory=Layout)
    grid: tuple[int, int] | None = None
    input_shape: tuple[int, ...] | None = None
    fingerprint: str = ""
    n_clips: int = 0
    at_input: bool = False
    dataset: str = ""
    norm: str = ""
    places: CellPlaces = field(default_factory=CellPlaces)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Origin:
        """The inverse of `dataclasses.asdict`, also after saving as JSON, which turns tuples into lists.

        Args:
            values: the fields by name; the layout and the places as dictionaries of their fields.
        """
        tuples = {name: None if values[name] is None else tuple(values[name]) for name in ("grid", "input_shape")}
        places = CellPlaces.from_dict(values.get("places", {}))
        return cls(**{**values, **tuples, "layout": Layout(**values["layout"]), "places": places})
