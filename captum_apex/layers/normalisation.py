"""Normalisation layers with a constant variance, for gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C import DisableTorchFunction
from torch._C._functorch import is_batchedtensor
from torch._ops import OpOverloadPacket
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from captum_apex.layers.holding import ABOUT_SHAPES, ConstantParameters, constant_arguments
from captum_apex.layers.values import at_least_float32

__all__ = ["ConstantRest", "ConstantVariance"]


class ConstantVariance(TorchFunctionMode):
    """Inside this context, layer, group, instance, RMS and L2 normalisation have the gradient of a fixed scaling.

    A normalisation does not change when its input is scaled, so the sum of gradient × activation through it is zero.
    If the variance is held constant, the normalisation is affine, and the sum is what the input adds to the output.

    The values computed are bit for bit those of the model. Only gradients differ, and only of calls whose input
    requires a gradient. The model itself is not changed: calls to torch are intercepted, whichever module makes them,
    also under `torch.vmap`. They are:

    - layer, RMS, group and instance normalisation: the variance or mean square is constant.
    - `torch.nn.functional.normalize`, with every `p`, and the cosine similarity: the norms of vectors are constant.
    - a tensor divided by its own length, such as `x / x.norm(dim=1, keepdim=True)`: the length is constant, also with a
      small number that is added to it, or below which it does not fall.
    - local response normalisation: the divisor is constant.
    - batch normalisation with the statistics of the batch (`track_running_stats=False`): mean and variance are
      constant, as stored ones are. The scores of such a model depend on the other clips of the batch, so here the sum
      counts from the constant mean and not from zero, and the convergence delta shows the difference.

    Batch normalisation with stored statistics is affine already and stays as it is. So does the normalisation of
    weights (`torch.nn.utils.parametrizations.weight_norm`), because weights do not depend on the layer.

    Another normalisation that a model computes itself, such as one from `var`, `std` or a sum of squares, cannot be
    recognised, and neither can one inside a TorchScript function or a custom kernel. The sum is then about 0, which is
    a warning, or differs from the output in another way, which the convergence delta shows.

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

    def __init__(self) -> None:
        super().__init__()
        self.lengths = WeakTensorKeyDictionary()  # the length of a tensor → the tensor

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs a torch function; a normalisation gets the gradient of its affine version."""
        kwargs = kwargs or {}
        if func in _LOOKS or not torch.is_grad_enabled() or not _any_needs_gradient(*args, *kwargs.values()):
            return func(*args, **kwargs)
        affine = _WITH_CONSTANT_VARIANCE.get(func)
        if affine is None:
            return self._by_hand(func, args, kwargs)
        surrogate = affine(*args, **kwargs)
        if surrogate is None:
            return func(*args, **kwargs)
        with torch.no_grad():
            value = func(*args, **kwargs)
        if isinstance(value, tuple):  # torch.native_layer_norm and its like give the statistics too
            return (_with_gradient_of(surrogate, value[0]), *value[1:])
        return _with_gradient_of(surrogate, value)

    def _by_hand(self, func: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Runs another torch function; a length by which its own tensor is divided is a constant."""
        name = getattr(func, "__name__", "").partition(".")[0]  # operators of an exported graph end in ".default"
        first, *others = args or (None,)
        tensors = [each for each in args if isinstance(each, Tensor)]
        if name in _DIVISIONS and len(tensors) == 2 and self.lengths.get(tensors[1]) is first:
            args = (first, tensors[1].detach())
        value = func(*args, **kwargs)
        if name in _LENGTHS and isinstance(first, Tensor):
            self.lengths[value] = first
        elif name in _STILL_LENGTHS and first in self.lengths and not _any_needs_gradient(*others, *kwargs.values()):
            self.lengths[value] = self.lengths[first]
        return value


class ConstantRest(ConstantVariance, ConstantParameters):
    """Both in one mode: constant variances, and parameters that are constants for autograd.

    torch calls every mode for every function, so one mode costs half of two.

    Example:
        >>> import torch
        >>> from captum_apex.layers.normalisation import ConstantRest
        >>> x = torch.tensor([[1.0, 2.0, 6.0]], requires_grad=True)
        >>> norm = torch.nn.LayerNorm(3)
        >>> with ConstantRest():
        ...     largest = norm(x)[0, 2]
        >>> round((torch.autograd.grad(largest, x, retain_graph=True)[0] * x).sum().item(), 4)
        1.3887
        >>> torch.autograd.grad(largest, norm.weight, allow_unused=True)
        (None,)
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs a torch function with constant parameters; a normalisation gets the gradient of its affine version."""
        args, kwargs = constant_arguments(func, args, kwargs)
        return ConstantVariance.__torch_function__(self, func, types, args, kwargs)


_LENGTHS = frozenset({"norm", "linalg_norm", "linalg_vector_norm"})
_STILL_LENGTHS = frozenset({"add", "clamp", "clamp_min", "clip", "maximum", "unsqueeze", "expand"})
"""What leaves a length what it is."""
_DIVISIONS = frozenset({"div", "divide", "true_divide"})


_LOOKS = ABOUT_SHAPES | {Tensor.requires_grad.__get__}  # type: ignore[attr-defined]


def _any_needs_gradient(*arguments: Any) -> bool:
    """Whether an argument is a tensor with a gradient; inside `torch.vmap` a tensor does not say so of itself."""
    parameters = False
    with DisableTorchFunction():  # other modes need not see the look at each tensor
        for argument in arguments:
            if isinstance(argument, Tensor) and (argument.requires_grad or is_batchedtensor(argument)):
                if not isinstance(argument, nn.Parameter):
                    return True
                parameters = True
    return parameters and not ConstantParameters.is_active()


def _with_gradient_of(surrogate: Tensor, value: Tensor) -> Tensor:
    return _ValueWithGradientOf.apply(value, surrogate.to(value.dtype))


class _ValueWithGradientOf(torch.autograd.Function):
    """The first tensor, with the gradient of the second one."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, surrogate: Tensor) -> Tensor:  # noqa: ARG004 - only for its gradient
        return value.clone()  # a view of it could not be changed in place by the modules that follow

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Nothing of the forward pass is needed in the backward pass."""

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
    return _affine(scaled, _per_channel(weight, input), _per_channel(bias, input))


def _native_group_norm(
    input: Tensor,  # noqa: A002
    weight: Tensor | None,
    bias: Tensor | None,
    N: int,  # noqa: ARG001
    C: int,  # noqa: ARG001
    HxW: int,  # noqa: ARG001
    group: int,
    eps: float,
) -> Tensor:
    return _group_norm(input, group, weight, bias, eps)


def _instance_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None = None,  # noqa: ARG001
    running_var: Tensor | None = None,  # noqa: ARG001
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
    *_: Any,
    **__: Any,
) -> Tensor | None:
    return _group_norm(input, input.shape[1], weight, bias, eps) if use_input_stats else None


def _batch_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None = None,  # noqa: ARG001
    running_var: Tensor | None = None,  # noqa: ARG001
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
    *_: Any,
    **__: Any,
) -> Tensor | None:
    if not training:
        return None
    x = at_least_float32(input)
    variance, mean = torch.var_mean(x.detach(), (0, *range(2, x.dim())), correction=0, keepdim=True)
    scaled = (x - mean) * (variance + eps).rsqrt()
    return _affine(scaled, _per_channel(weight, input), _per_channel(bias, input))


def _per_channel(parameter: Tensor | None, input: Tensor) -> Tensor | None:  # noqa: A002
    return None if parameter is None else parameter.reshape(-1, *[1] * (input.dim() - 2))


def _in_order_of_torch(affine: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
    """A function of `torch.nn.functional` as one of `torch`, where the weights stand before the statistics."""

    def reordered(
        input: Tensor,  # noqa: A002
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        *settings: Any,
        **named: Any,
    ) -> Tensor | None:
        return affine(input, running_mean, running_var, weight, bias, *settings, **named)

    return reordered


def _normalize(
    input: Tensor,  # noqa: A002
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
    *_: Any,
    **__: Any,
) -> Tensor:
    return input / input.detach().norm(p, dim, keepdim=True).clamp_min(eps)


def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    x1, x2 = torch.broadcast_tensors(at_least_float32(x1), at_least_float32(x2))
    lengths = [x.detach().norm(dim=dim).clamp_min(eps) for x in (x1, x2)]
    return (x1 * x2).sum(dim) / (lengths[0] * lengths[1])


def _local_response_norm(
    input: Tensor,  # noqa: A002
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> Tensor:
    squares = input.detach().square().reshape(len(input), 1, input.shape[1], -1)  # (clip, 1, channel, position)
    neighbours = F.pad(squares, (0, 0, size // 2, (size - 1) // 2))
    mean = F.avg_pool2d(neighbours, (size, 1), stride=1).reshape(input.shape)
    return input / (alpha * mean + k) ** beta


# Every normalisation → a version with constant statistics, for its gradient; it gives None for a call that is affine.
_WITH_CONSTANT_VARIANCE: dict[Callable, Callable[..., Tensor | None]] = {
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    torch.native_layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    torch.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    torch.group_norm: _group_norm,
    torch.native_group_norm: _native_group_norm,
    F.instance_norm: _instance_norm,
    torch.instance_norm: _in_order_of_torch(_instance_norm),
    F.batch_norm: _batch_norm,
    torch.batch_norm: _in_order_of_torch(_batch_norm),
    torch.native_batch_norm: _in_order_of_torch(_batch_norm),
    F.normalize: _normalize,
    torch.cosine_similarity: _cosine_similarity,
    F.local_response_norm: _local_response_norm,
}

# The operators that an exported or traced graph calls have the same arguments.
for _function in tuple(_WITH_CONSTANT_VARIANCE):
    if isinstance(_operator := getattr(torch.ops.aten, _function.__name__, None), OpOverloadPacket):
        for _called in (_operator, _operator.default):
            _WITH_CONSTANT_VARIANCE[_called] = _WITH_CONSTANT_VARIANCE[getattr(torch, _function.__name__)]
