"""Normalisations whose variance is held constant while gradients are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode

from captum_apex.layers.values import at_least_float32

__all__ = ["ConstantVariance"]


class ConstantVariance(TorchFunctionMode):
    """Inside this context, layer, group, instance, RMS and L2 normalisation have the gradient of a fixed scaling.

    A normalisation does not change when its input is scaled, so gradient × activation through it sums to zero. With its
    variance taken as a constant it is affine, and the sum is what the input adds to the output. The values computed are
    bit for bit those of the model; only gradients differ, and only of calls whose input requires one. The model itself is
    not touched: the calls to `torch.nn.functional` are caught, whichever module makes them. Batch normalisation in
    evaluation mode is affine already and left alone. A normalisation that a model writes out by hand, from means and squares, cannot be
    recognised: there the total stays short of the output, which the convergence delta shows.

    Source: the same idea as LRP's rule for LayerNorm (Ali et al. 2022, "XAI for Transformers").
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Catches every torch call; those that normalise get the surrogate's gradient."""
        kwargs = kwargs or {}
        linear = _LINEAR.get(func)
        if linear is None or not torch.is_grad_enabled() or not (args[0] if args else kwargs["input"]).requires_grad:
            return func(*args, **kwargs)
        with torch.no_grad():
            value = func(*args, **kwargs)
        return _ValueWithGradientOf.apply(value, linear(*args, **kwargs).to(value.dtype))


class _ValueWithGradientOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, surrogate: Tensor) -> Tensor:  # noqa: ARG004 - the surrogate gives the gradient only
        return value.view_as(value)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[None, Tensor]:  # noqa: ARG004
        return None, gradients[0]


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _centred_and_scaled(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    x = at_least_float32(x)  # as torch does inside
    variance = x.detach().var(dims, correction=0, keepdim=True)
    return (x - x.mean(dims, keepdim=True)) * (variance + eps).rsqrt()


def _layer_norm(
    input: Tensor,  # noqa: A002 - the names are those of torch.nn.functional
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
    **__: Any,
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    return _affine(_centred_and_scaled(input, dims, eps), weight, bias)


def _rms_norm(
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *_: Any,
    **__: Any,
) -> Tensor:
    dims, x = tuple(range(-len(normalized_shape), 0)), at_least_float32(input)  # as torch does inside
    mean_square = x.detach().square().mean(dims, keepdim=True)
    return _affine(x * (mean_square + (torch.finfo(x.dtype).eps if eps is None else eps)).rsqrt(), weight, None)


def _group_norm(
    input: Tensor,  # noqa: A002
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
    **__: Any,
) -> Tensor:
    grouped = input.reshape(input.shape[0], num_groups, -1)
    scaled = _centred_and_scaled(grouped, (-1,), eps).reshape(input.shape)
    per_channel = (-1,) + (1,) * (input.dim() - 2)
    return _affine(scaled, *(None if p is None else p.reshape(per_channel) for p in (weight, bias)))


def _instance_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *_: Any,
    **__: Any,
) -> Tensor:
    if not use_input_stats:  # affine already
        return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    return _group_norm(input, input.shape[1], weight, bias, eps)


def _torch_instance_norm(
    input: Tensor,  # noqa: A002
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *settings: Any,
    **named: Any,
) -> Tensor:
    """The same with the order of arguments that `torch.instance_norm` has."""
    return _instance_norm(input, running_mean, running_var, weight, bias, *settings, **named)


def _normalize(
    input: Tensor,  # noqa: A002
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
    *_: Any,
    **__: Any,
) -> Tensor:
    return input / input.detach().norm(p, dim, keepdim=True).clamp_min(eps)


_LINEAR: dict[Callable, Callable[..., Tensor]] = {
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    torch.group_norm: _group_norm,
    F.instance_norm: _instance_norm,
    torch.instance_norm: _torch_instance_norm,
    F.normalize: _normalize,
}
