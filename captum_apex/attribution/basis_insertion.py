"""A copy of the model with the disentanglement module inside, as in the paper: U after the layer, U⁻¹ in the head."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import copied, frozen
from captum_apex.layers.models import model_of, on_one_device
from captum_apex.layers.pooled_norm import PooledNorm
from captum_apex.layers.selected_output import selected_as
from captum_apex.layers.values import checked_output

__all__ = ["ChannelMatrix", "GridNorm", "insert_basis"]


class ChannelMatrix(nn.Module):
    """Multiplies the channels, axis 1 of (clip, channel, ...), by a matrix at every position.

    Args:
        matrix: the matrix, (output channel, input channel).

    Example:
        >>> import torch
        >>> from captum_apex import ChannelMatrix
        >>> ChannelMatrix(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))(torch.tensor([[1.0, 2.0]]))
        tensor([[2., 1.]])
    """

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, features: Tensor) -> Tensor:
        """The features in the other basis.

        Args:
            features: (clip, channel, ...).

        Returns:
            Tensor of the same shape for a square matrix.
        """
        return torch.einsum("kc,nc...->nk...", self.matrix, features)


class GridNorm(nn.Module):
    """Applies the norm behind the pooling to the grid before it, as `captum_apex.layers.PooledNorm` does.

    Args:
        norm: a layer normalisation over the channels, or a batch normalisation.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.attribution.basis_insertion import GridNorm
        >>> grid = torch.tensor([[[[1.0, 3.0]], [[6.0, 6.0]]]])  # pooled: 2 and 6, so μ = 4 and σ = 2
        >>> GridNorm(nn.LayerNorm(2, bias=False))(grid).detach().round(decimals=3).tolist()
        [[[[-1.5, -0.5]], [[1.0, 1.0]]]]
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, grid: Tensor) -> Tensor:
        """The normalised grid.

        Args:
            grid: (clip, channel, frequency, time).

        Returns:
            Tensor of the same shape and dtype.
        """
        return PooledNorm(self.norm, "norm").on_grid(grid)


@restored
def insert_basis(model: nn.Module, layer: nn.Module, basis: PrototypeBasis, inputs: Tensor | None = None) -> nn.Module:
    """A deep copy of the model whose layer gives disentangled channels and whose outputs are the same.

    Between the layer and the next module with weights there may be only modules that treat all channels alike, such as
    pooling, flattening and dropout, because `U` passes through them. If the next module with weights is a linear layer,
    its weights become `A U⁻¹`. Otherwise (a normalisation) `U⁻¹` is placed before it.

    For a basis of the normalised grid, the norm moves from the place behind the pooling to the place before `U`, and
    `U⁻¹` goes into the linear layer behind the norm, as in EPIC's code for ConvNeXt.

    Args:
        model: the classifier; it is not changed.
        layer: the module that the basis was fitted on, with output (clip, channel, frequency, time).
        basis: the basis, usually from `fit_basis`.
        inputs: an example batch of inputs; by default two random inputs of the shape that the basis was fitted on.

    Returns:
        The copy, in evaluation mode where the model is; for a `SelectedOutput`, the copy with that selection. The
        module with the layer's name is `Sequential(layer, ChannelMatrix(U))`; for a basis of the normalised grid
        `Sequential(layer, GridNorm(norm), ChannelMatrix(U))`, and that with the norm's name is an `nn.Identity`.

    Raises:
        TypeError: the model is not a module.
        ValueError: the basis does not fit, or the outputs of the copy differ from those of the model.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import PrototypeBasis, insert_basis
        >>> layer = nn.Identity()
        >>> head = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(head.weight)
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        >>> basis = PrototypeBasis(torch.tensor([[2.0, 0.0], [0.0, 4.0]]), "time")
        >>> inputs = torch.tensor([[[[1.0, 3.0]], [[0.0, 1.0]]]])  # (clip, channel, frequency, time)
        >>> inserted = insert_basis(model, layer, basis, inputs)
        >>> inserted[0](inputs)  # the layer and U
        tensor([[[[2., 6.]],
        <BLANKLINE>
                 [[0., 4.]]]])
        >>> inserted[3].weight  # A U⁻¹
        Parameter containing:
        tensor([[0.5000, 0.2500]], requires_grad=True)
        >>> torch.equal(inserted(inputs), model(inputs))
        True

    Source: APEX (arXiv 2605.10153), Figure 2; EPIC (arXiv 2505.12897), the purification module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected `model` to be a torch.nn.Module, but got {type(model).__name__}")
    at_layer = LayerAPEX(model, layer, basis)  # checks the layer, the norm and the weights
    name = at_layer.layer_name
    norm_name = "" if at_layer.norm is None else at_layer.norm.name
    if basis.origin.at_input:
        raise ValueError(f"expected a basis of the output of {name!r}, but it was fitted on its input")
    if layer is model:
        raise ValueError("expected `layer` to be a part of the model, but it is the whole model")
    given = on_one_device(model)
    model = model_of(model) or model  # without a wrapper that compiles it or copies it to several devices
    inputs = _example_inputs(model, basis) if inputs is None else inputs
    inserted = copied(model)
    training = {place: module.training for place, module in inserted.named_modules()}
    with torch.no_grad(), frozen(model, layer), frozen(inserted, inserted):
        expected = checked_output(selected_as(given, model)(inputs), model)
        head_name = _first_weighted_after(inserted, norm_name or name, inputs)
        head = inserted.get_submodule(head_name)
        U, inverse = (matrix.to(next(head.parameters())) for matrix in (basis.U, basis.inverse))
        inserted.set_submodule(head_name, _with_inverse(head, inverse, basis, training[head_name]))
        modules = [inserted.get_submodule(name), *_moved_norm(inserted, norm_name, training), ChannelMatrix(U)]
        inserted.set_submodule(name, _sequence(training[name], *modules))
        with_output = selected_as(given, inserted)
        _check_same(expected, _outputs(with_output, inputs, name, head_name), name, head_name)
    return with_output


def _example_inputs(model: nn.Module, basis: PrototypeBasis) -> Tensor:
    shape = basis.origin.input_shape
    if shape is None:
        raise ValueError(
            "expected a basis that knows the shape of the model's inputs; pass an example batch as `inputs`"
        )
    like = next(model.parameters())
    values = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return values.to(like)


def _first_weighted_after(model: nn.Module, name: str, inputs: Tensor) -> str:
    """The name of the first module after the layer that itself has parameters."""
    order: list[str] = []
    reached: list[bool] = []

    def note(module_name: str) -> Callable:
        return lambda *_: order.append(module_name) if reached else None

    handles = [
        module.register_forward_pre_hook(note(module_name))
        for module_name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    handles.append(model.get_submodule(name).register_forward_hook(lambda *_: reached.append(True)))
    try:
        model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not reached:
        raise ValueError(f"expected the layer {name!r} to run in the forward pass, but it never did")
    if not order:
        raise ValueError(f"expected a module with weights after the layer {name!r}, but there is none")
    return order[0]


def _with_inverse(head: nn.Module, inverse: Tensor, basis: PrototypeBasis, training: bool) -> nn.Module:
    """The head after `U⁻¹`: a linear layer with changed weights, or the head with a matrix before it."""
    if isinstance(head, nn.Linear) and head.in_features == basis.n_channels:
        head.weight.copy_((head.weight.double() @ basis.inverse.to(head.weight.device)).to(head.weight))
        return head
    return _sequence(training, ChannelMatrix(inverse), head)


def _moved_norm(model: nn.Module, name: str, training: dict[str, bool]) -> list[nn.Module]:
    """The norm for the grid, after an identity has taken its place; none where there is no name."""
    if not name:
        return []
    norm = model.get_submodule(name)
    model.set_submodule(name, nn.Identity().train(training[name]))
    return [GridNorm(norm)]


def _sequence(training: bool, *modules: nn.Module) -> nn.Module:
    """The modules in sequence; the sequence and its new modules get the training flag, the others keep theirs."""
    sequence = nn.Sequential(*modules)
    for module in (sequence, *(module for module in modules if isinstance(module, (ChannelMatrix, GridNorm)))):
        module.training = training
    return sequence


def _outputs(inserted: nn.Module, inputs: Tensor, name: str, head_name: str) -> Tensor:
    try:
        return inserted(inputs)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"expected {name!r} to give, and {head_name!r} to take, its channels on axis 1, one per channel of the "
            "basis, such as after pooling over the grid; the copy with the basis inside does not run"
        ) from error


def _check_same(expected: Tensor, got: Tensor, name: str, head_name: str) -> None:
    scale = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    difference = ((got - expected).abs().max() / scale).item()
    if not difference <= 1e3 * torch.finfo(expected.dtype).eps:
        raise ValueError(
            f"expected only pooling between {name!r} and {head_name!r}, but with the basis inside the outputs differ "
            f"by {difference:.1e} (relative): something there does not treat all channels alike, such as an "
            "activation; take a layer after it"
        )
