"""APEX as Captum attribution classes.

- `decomposition`: a forward pass decomposed into the channels of a basis, and the choice of the evidence's channels.
- `layer_apex`: `LayerAPEX`, maps on the grid of a layer.
- `apex`: `APEX`, maps of the shape of the input.
- `layer_graph`: a forward pass whose graph starts at the layer, and the gradient of a score there.
- `projection`: a map enlarged from the grid of the layer to the input.
- `evidence_score`: the evidence as a scalar function of the input, for any other attribution method.
- `basis_insertion`: a copy of the model with the basis inside.
- `channel_matrices`: modules that multiply channels by a matrix, as this copy has them.
- `channel_outputs`: the values of all channels as a function of the input.
- `occlusion`: two-sided occlusion, for models of which only the scores are at hand.
- `arguments`: inputs and additional arguments in the forms that Captum accepts.
"""

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.basis_insertion import insert_basis
from captum_apex.attribution.channel_matrices import ChannelMatrix
from captum_apex.attribution.channel_outputs import ChannelOutputs
from captum_apex.attribution.decomposition import N_CHANNELS, Decomposition, select_channels
from captum_apex.attribution.evidence_score import EvidenceScore
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.attribution.occlusion import two_sided_occlusion

__all__ = [
    "APEX",
    "N_CHANNELS",
    "ChannelMatrix",
    "ChannelOutputs",
    "Decomposition",
    "EvidenceScore",
    "LayerAPEX",
    "insert_basis",
    "select_channels",
    "two_sided_occlusion",
]
