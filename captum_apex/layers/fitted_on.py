"""Whether a layer is the one that features were computed with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from captum_apex.layers.chosen_run import RunOutput, named_layers
from captum_apex.layers.models import fingerprint, layer_name, model_of
from captum_apex.layers.origin import Origin

__all__ = ["check_origin"]


def check_origin(forward_func: Callable, layer: nn.Module, origin: Origin) -> None:
    """Raises where a basis was fitted on another model, or on another layer of this one.

    The name of the layer is compared, also behind a wrapper, which puts a prefix before it. A container and the module
    at its end have the same output, so that they count as one layer. What is not known is not compared, but a chosen
    run of a module is no layer of another name.

    Args:
        forward_func: the model, or a function that calls it.
        layer: the layer to explain.
        origin: the record of the basis.

    Raises:
        ValueError: the weights differ, or the basis is of another layer.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers import Origin
        >>> from captum_apex.layers.fitted_on import check_origin
        >>> model = nn.Sequential(nn.Conv1d(4, 4, 1), nn.Sequential(nn.Conv1d(4, 4, 1), nn.ReLU()))
        >>> check_origin(model, model[1][1], Origin(layer="1"))  # the same output
        >>> try:
        ...     check_origin(model, model[1], Origin(layer="0"))
        ... except ValueError as error:
        ...     print(str(error).partition(';')[0])
        expected the layer '0', on which the basis was fitted, but got '1'
    """
    weights = fingerprint(forward_func)
    if origin.fingerprint and weights and origin.fingerprint != weights:
        raise ValueError(
            f"expected the model that the basis was fitted on (layer {origin.layer!r}), but its weights "
            "differ; fit the basis again on this model"
        )
    if origin.layer and not _is_of_name(forward_func, layer, origin.layer):
        raise ValueError(
            f"expected the layer {origin.layer!r}, on which the basis was fitted, but got "
            f"{layer_name(forward_func, layer)!r}; give that layer, or fit a basis on this one"
        )


def _is_of_name(forward_func: Callable, layer: nn.Module, name: str) -> bool:
    """Whether a layer gives the output of the layer of this name; true where that cannot be told."""
    model = model_of(forward_func)
    if model is None:
        return True
    fitted = [module for path, module in named_layers(model) if path == name or path.endswith(f".{name}")]
    if not fitted and isinstance(layer, RunOutput):
        return layer_name(forward_func, layer).rpartition(".")[2] == name.rpartition(".")[2]
    return not fitted or any(_same_output(each, layer) for each in fitted)


def _same_output(one: nn.Module, other: nn.Module) -> bool:
    return not {*map(id, _ends(one))}.isdisjoint(map(id, _ends(other)))


def _ends(module: nn.Module) -> Iterator[nn.Module]:
    """A module, the last one in it where it is a container, the last one in that, and so on."""
    yield module
    if isinstance(module, nn.Sequential) and len(module):
        yield from _ends(module[-1])
