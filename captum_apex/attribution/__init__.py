"""APEX as a Captum attribution class at the input."""

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.layer_apex import LayerAPEX

__all__ = ["APEX", "LayerAPEX"]
