"""A copy of the model with the disentanglement module inside, as in the paper: U after the layer, U⁻¹ in the head."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from captum_apex.attribution.channel_matrices import ChannelMatrix, MatrixBefore, MatrixThenModule
from captum_apex.attribution.channel_readers import (
    ChannelReader,
    Taken,
    are_close,
    arguments_taken,
    next_reader,
    relative_difference,
    weighted_modules,
)
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.layers.changes import restored
from captum_apex.layers.chosen_run import named_layers
from captum_apex.layers.hooks import copied, frozen, watched
from captum_apex.layers.models import model_of, on_one_device
from captum_apex.layers.pooled_norm import PooledNorm
from captum_apex.layers.selected_output import selected_as
from captum_apex.layers.values import checked_output
from captum_apex.result_tables import listed

__all__ = ["ChannelMatrix", "GridNorm", "insert_basis"]

_ILL_CONDITIONED = 1e3  # condition number from which on rounding alone may change the outputs by the tolerance


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

    Between the layer and the next modules with weights there may be only modules and functions that treat all channels
    alike, such as pooling, flattening and dropout, because `U` passes through them. A linear layer then gets the
    weights `A U⁻¹`. Before any other module, such as a normalisation, a recurrent layer, or an attention whose query,
    key and value are all computed from the layer, `U⁻¹` is placed for each argument that comes from the layer. If
    several modules read the layer, as behind a skip connection, it is placed before each of them.

    For a basis of the normalised grid, the norm moves from the place behind the pooling to the place before `U`, and
    `U⁻¹` goes into the linear layer behind the norm, as in EPIC's code for ConvNeXt.

    Args:
        model: the classifier; it is not changed.
        layer: the module that the basis was fitted on. Its channels are on axis 1, or on that of the basis' layout.
        basis: the basis, usually from `fit_basis`.
        inputs: an example batch of inputs; by default two random inputs of the shape that the basis was fitted on.

    Returns:
        The copy, in evaluation mode where the model is; for a `SelectedOutput`, the copy with that selection. The
        module with the layer's name is `Sequential(layer, ChannelMatrix(U))`; for a basis of the normalised grid
        `Sequential(layer, GridNorm(norm), ChannelMatrix(U))`, and that with the norm's name is an `nn.Identity`.

    Raises:
        TypeError: the model is not a module.
        ValueError: the basis does not fit; or the inverse cannot be placed, because an activation or another function
            of single channels comes first. The message names the module that takes something else than channels.

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
    if basis.origin.at_input:
        raise ValueError(f"expected a basis of the output of {name!r}, but it was fitted on its input")
    if layer is model:
        raise ValueError("expected `layer` to be a part of the model, but it is the whole model")
    given = on_one_device(model)
    model = model_of(model) or model  # without a wrapper that compiles it or copies it to several devices
    inputs = _example_inputs(model, basis) if inputs is None else inputs
    inserted = copied(model)
    training = {place: module.training for place, module in named_layers(inserted)}
    with torch.no_grad(), frozen(model, layer), frozen(inserted, inserted):
        expected = checked_output(selected_as(given, model)(inputs), model)
        weighted = weighted_modules(inserted)
        weighted.pop(basis.origin.norm, None)
        with watched(inserted.get_submodule(name), name, lambda _: None):  # raises where the layer does not run
            taken = arguments_taken(inserted, inputs, weighted)
        matrix = ChannelMatrix(_probe(inserted, basis), _channel_axis(at_layer))
        modules = [inserted.get_submodule(name), *_moved_norm(inserted, basis.origin.norm, training), matrix]
        inserted.set_submodule(name, _sequence(training[name], *modules))
        readers = _readers(inserted, inputs, weighted, taken, matrix, name)
        for reader in readers:
            _place_inverse(inserted, reader, weighted[reader.name], basis, training[reader.name])
        matrix.matrix = basis.U.to(matrix.matrix)
        with_output = selected_as(given, inserted)
        got = checked_output(with_output(inputs), with_output)
    _check_same(expected, got, name, readers, basis)
    return with_output


def _probe(model: nn.Module, basis: PrototypeBasis) -> Tensor:
    """A fixed orthogonal matrix in place of `U`: it is far from the identity, which passes through all modules."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(basis.n_channels, basis.n_channels, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(noise).Q.to(next(model.parameters()))


def _channel_axis(at_layer: LayerAPEX) -> int:
    """The axis of the channels in the output of the layer."""
    layout = at_layer.basis.origin.layout
    if layout.channel_axis is None:
        raise ValueError(
            f"expected {at_layer.layer_name!r} to give its channels on an axis that holds nothing else, but its layout "
            f"is {layout.pattern!r}"
        )
    return layout.channel_axis


def _readers(
    model: nn.Module,
    inputs: Tensor,
    weighted: dict[str, nn.Module],
    expected: Taken,
    matrix: ChannelMatrix,
    name: str,
) -> list[ChannelReader]:
    """The modules that take channels of the layer, each after the inverse of the matrix was put before it.

    They are searched one after the other, because the inverse before the first may be all that the others need.
    """
    readers: list[ChannelReader] = []
    with ExitStack() as hooks:
        while True:
            try:
                taken = arguments_taken(model, inputs, weighted)
            except (AttributeError, RuntimeError, TypeError) as error:
                raise ValueError(
                    f"expected {name!r} to give one tensor with {len(matrix.matrix)} channels on axis {matrix.axis}, "
                    "one per channel of the basis, but the copy with the basis inside does not run "
                    f"({type(error).__name__}: {error})"
                ) from error
            reader = next_reader(expected, taken, matrix.matrix, [reader.name for reader in readers], name)
            if reader is None:
                return readers
            readers.append(reader)
            hooks.callback(_multiplying(weighted[reader.name], matrix.matrix.T, reader).remove)


def _multiplying(module: nn.Module, matrix: Tensor, reader: ChannelReader) -> RemovableHandle:
    """Multiplies what a module takes, while the module itself stays where the model may read its attributes."""
    before = MatrixBefore(module, matrix, reader.axes)

    def multiplied(_: nn.Module, arguments: tuple, named: dict[str, Any]) -> tuple:
        return before.multiplied(arguments, named)

    return module.register_forward_pre_hook(multiplied, with_kwargs=True)


def _place_inverse(
    model: nn.Module, reader: ChannelReader, head: nn.Module, basis: PrototypeBasis, training: bool
) -> None:
    """Puts `U⁻¹` into the weights of a linear layer, or before any other module that takes channels of the layer."""
    inverse = basis.inverse.to(next(head.parameters()))
    if _can_fold(model, head, reader):
        weight = cast(Tensor, head.weight)
        weight.copy_((weight.double() @ basis.inverse.to(weight.device)).to(weight))
        placed = head
    elif reader.is_single:
        placed = MatrixThenModule(ChannelMatrix(inverse, reader.axes[0]), head)
        placed.training = placed[0].training = training
    else:
        placed = MatrixBefore(head, inverse, reader.axes)
        placed.training = training
        placed.matrices.train(training)
    model.set_submodule(reader.name, placed)


def _can_fold(model: nn.Module, head: nn.Module, reader: ChannelReader) -> bool:
    """Whether a matrix can go into the weights of the module: a plain linear layer that shares them with no other."""
    weight = head._parameters.get("weight")  # a parametrised layer has none: it computes its weight from others
    return (
        type(head).forward is nn.Linear.forward
        and reader.is_single
        and reader.is_on_last_axis
        and weight is not None
        and sum(weight is each for module in model.modules() for each in module._parameters.values()) == 1
    )


def _example_inputs(model: nn.Module, basis: PrototypeBasis) -> Tensor:
    shape = basis.origin.input_shape
    if shape is None:
        raise ValueError(
            "expected a basis that knows the shape of the model's inputs; pass an example batch as `inputs`"
        )
    like = next(model.parameters())
    values = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return values.to(like)


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


def _check_same(
    expected: Tensor, got: Tensor, name: str, readers: Sequence[ChannelReader], basis: PrototypeBasis
) -> None:
    if are_close(expected, got):
        return
    difference = f"with the basis inside, the outputs differ by {relative_difference(expected, got):.1e} (relative)"
    condition = torch.linalg.cond(basis.U.double()).item()
    if readers and condition > _ILL_CONDITIONED:
        raise ValueError(
            f"expected an inverse of U without large rounding errors, but {difference}, and the condition number of U "
            f"is {condition:.1e}: fit an orthogonal basis, or use LayerAPEX, which "
            f"needs no changed copy; or a function reads the channels of {name!r} past "
            f"{listed(reader.name for reader in readers)}"
        )
    if readers:
        raise ValueError(
            f"expected the channels of {name!r} to be used by {listed(reader.name for reader in readers)} alone, but "
            f"{difference}: a function reads them past it; take a layer after that, or use LayerAPEX, which needs no "
            "changed copy"
        )
    raise ValueError(
        f"expected a module with weights to take the channels of {name!r}, so that U⁻¹ can be placed before it, but "
        f"none does, and {difference}: they are computed from the channels by functions, by modules without weights, "
        "or with the weights of a module around the layer; use LayerAPEX, which needs no changed copy"
    )
