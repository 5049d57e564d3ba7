"""The layer that is explained, and the model around it.

- `cell_places`: where the cells of a layer lie along an axis of the input.
- `changes`: changes of a model and of torch's modes that an interruption cannot leave behind.
- `chosen_run`: a model in which one run of a module can be explained that runs several times in a pass.
- `fitted_on`: whether a layer is the one that features were computed with.
- `holding`: the flags of a model that is held still, counted over everyone who holds it.
- `hooks`: read or change a layer's output in a forward pass.
- `kinds`: what a module says about the axes of its output by what it is.
- `layer_output`: the tensor in what a layer gives: the first one of a tuple, or the steps of a packed sequence.
- `layout`: the layer's output as a grid (clip, channel, frequency, time).
- `models`: the module behind a forward function, the name of a layer, a fingerprint of the weights, fast paths.
- `normalisation`: normalisations with a constant variance, for gradients.
- `origin`: a record of the layer, the model and the dataset that features were computed with.
- `padding`: the columns of the grid that belong to a clip, where shorter clips are padded.
- `pooled_norm`: the norm behind the pooling, applied to the grid before it.
- `probe`: a clip that is changed at one end of an axis, to see which axis of an output follows.
- `proposals`: the modules that can be explained, among those that ran.
- `selected_output`: a model whose scores are one entry of what it returns.
- `still_models`: blocks in which a model is in evaluation mode, and its parameters are constants.
- `suggestions`: the layers that can be explained, with their layouts, as a table.
- `values`: checks of numbers, of NaN and infinity, and of a model's output; conversion from half precision.
- `visits`: what each module gives in a forward pass.
"""

from captum_apex.layers.chosen_run import ChosenRun
from captum_apex.layers.hooks import frozen, watched
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import fingerprint, layer_name, model_of, on_one_device
from captum_apex.layers.origin import Origin
from captum_apex.layers.padding import Columns, checked_columns
from captum_apex.layers.pooled_norm import PooledNorm, explained_grid
from captum_apex.layers.selected_output import SelectedOutput
from captum_apex.layers.suggestions import LayerSuggestion, LayerSuggestions, suggest_layers
from captum_apex.layers.values import at_least_float32, check_finite

__all__ = [
    "ChosenRun",
    "Columns",
    "LayerSuggestion",
    "LayerSuggestions",
    "Layout",
    "Origin",
    "PooledNorm",
    "SelectedOutput",
    "at_least_float32",
    "check_finite",
    "checked_columns",
    "explained_grid",
    "fingerprint",
    "frozen",
    "layer_name",
    "model_of",
    "on_one_device",
    "suggest_layers",
    "watched",
]
