"""What a user hands to an attribution method, as Captum takes it: inputs and additional arguments."""

from __future__ import annotations

from typing import Any

import torch
from captum._utils.common import _format_additional_forward_args
from torch import Tensor

from captum_apex.layers.values import check_finite

__all__ = ["Inputs", "arguments_of", "check_inputs", "detached", "first_of", "map_dtype", "only_one"]

Inputs = Tensor | tuple[Tensor, ...]


def first_of(inputs: Inputs) -> Tensor:
    """The inputs themselves, or the first of several."""
    return inputs[0] if isinstance(inputs, tuple) else inputs


def only_one(inputs: Inputs) -> Tensor:
    """The inputs, or the only one of a tuple; what else there is must be passed as `additional_forward_args`."""
    if isinstance(inputs, tuple) and len(inputs) != 1:
        raise ValueError(
            f"expected one input tensor, but got {len(inputs)}; pass the others as `additional_forward_args`"
        )
    only = first_of(inputs)
    if not isinstance(only, Tensor):
        raise TypeError(f"expected `inputs` to be a tensor, but got {type(only).__name__}")
    return only


def detached(inputs: Inputs) -> tuple[Tensor, ...]:
    """Inputs of our own, so that nothing the model does reaches the user's; an inference tensor becomes a normal one."""
    return tuple(tensor.detach().clone() for tensor in (inputs if isinstance(inputs, tuple) else (inputs,)))


def arguments_of(additional_forward_args: Any) -> tuple:
    """As a tuple; an inference tensor becomes a normal one, which autograd can save."""
    arguments = _format_additional_forward_args(additional_forward_args) or ()
    return tuple(value.clone() if isinstance(value, Tensor) and value.is_inference() else value for value in arguments)


def map_dtype(inputs: Tensor, relevance: Tensor) -> torch.dtype:
    """A map has the input's precision; that of integer samples keeps its own."""
    return inputs.dtype if inputs.is_floating_point() else relevance.dtype


def check_inputs(inputs: Inputs) -> None:
    """Refuses inputs that are no tensors, without clips, or with NaN or infinity."""
    for tensor in inputs if isinstance(inputs, tuple) else (inputs,):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"expected `inputs` to be a tensor or a tuple of tensors, but got {type(tensor).__name__}")
        if not len(tensor):
            raise ValueError(f"expected `inputs` with at least one clip, but got shape {tuple(tensor.shape)}")
        check_finite(tensor, "the inputs")
