"""The explained layer: held still, watched, and seen as a grid of channels over frequency and time."""

from captum_apex.layers.hooks import frozen, watched
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import fingerprint, layer_name, model_of, on_one_device
from captum_apex.layers.origin import Origin
from captum_apex.layers.padding import Columns, checked_columns
from captum_apex.layers.values import at_least_float32, check_finite

__all__ = [
    "Columns",
    "Layout",
    "Origin",
    "at_least_float32",
    "check_finite",
    "checked_columns",
    "fingerprint",
    "frozen",
    "layer_name",
    "model_of",
    "on_one_device",
    "watched",
]
