"""Normalisation layers with a constant variance, for gradients."""

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

    A normalisation does not change when its input is scaled, so the sum of gradient × activation through it is zero.
    If the variance is held constant, the normalisation is affine, and the sum is what the input adds to the output.

    The values computed are bit for bit those of the model. Only gradients differ, and only of calls whose input
    requires a gradient. The model itself is not changed: calls to `torch.nn.functional` are intercepted, whichever
    module makes them. Batch normalisation in evaluation mode is affine already and stays as it is.

    A normalisation that a model computes itself, from means and squares, cannot be recognised. The sum then differs
    from the output, which the convergence delta shows.

    Example:
        >>> import torch
        >>> from torch.nn.functional import layer_norm
        >>> from captum_apex.layers.normalisation import ConstantVariance
        >>> x = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
        >>> with ConstantVariance():
        ...     largest = layer_norm(x, (3,))[2]
        >>> (gradient,) = torch.autograd.grad(largest, x)
        >>> round(largest.item(), 4), round((gradient * x).sum().item(), 4)  # without the context: 1.3887, 0.0
        (1.3887, 1.3887)

    Source: the same idea as the rule of LRP for LayerNorm (Ali et al. 2022, "XAI for Transformers").
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs a torch function; a normalisation gets the gradient of its affine version."""
        kwargs = kwargs or {}
        affine = _WITH_CONSTANT_VARIANCE.get(func)
        if affine is None or not torch.is_grad_enabled() or not (args[0] if args else kwargs["input"]).requires_grad:
            return func(*args, **kwargs)
        with torch.no_grad():
            value = func(*args, **kwargs)
        return _ValueWithGradientOf.apply(value, affine(*args, **kwargs).to(value.dtype))


class _ValueWithGradientOf(torch.autograd.Function):
    """The first tensor, with the gradient of the second one."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, surrogate: Tensor) -> Tensor:  # noqa: ARG004 - only for its gradient
        return value.view_as(value)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[None, Tensor]:  # noqa: ARG004
        return None, gradients[0]


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _centred_and_scaled(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    x = at_least_float32(x)  # torch normalises half precision in float32 too
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
    dims = tuple(range(-len(normalized_shape), 0))
    x = at_least_float32(input)  # torch normalises half precision in float32 too
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    mean_square = x.detach().square().mean(dims, keepdim=True)
    return _affine(x * (mean_square + eps).rsqrt(), weight, None)


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
    if not use_input_stats:  # with stored statistics it is affine already
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
    """`_instance_norm` with the arguments in the order of `torch.instance_norm`."""
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


# Every normalisation → a version with a constant variance, for its gradient.
_WITH_CONSTANT_VARIANCE: dict[Callable, Callable[..., Tensor]] = {
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
