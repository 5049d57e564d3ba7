"""The norm of a head behind pooling, moved from the pooled vector to the grid before the pooling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from captum_apex.layers.chosen_run import named_layers
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import layer_name, model_of
from captum_apex.layers.origin import Origin
from captum_apex.layers.padding import checked_columns, column_mask
from captum_apex.layers.values import at_least_float32

__all__ = ["PooledNorm", "explained_grid", "pooled_grid"]


@dataclass(frozen=True, eq=False)
class PooledNorm:
    """A normalisation of the pooled vector, applied to the grid before the pooling: `z' = γ ⊙ (z − μ) / σ + β`.

    `μ` and `σ` are those of the pooled vector of the clip (layer normalisation), or the stored ones (batch
    normalisation in evaluation mode). Both are the same at every position of the grid, so the mean of `z'` over the
    grid is the norm of the pooled vector, and a linear layer behind the norm is linear in `z'`.

    Args:
        module: the norm of the model, an `nn.LayerNorm` over the channels or a batch normalisation.
        name: name of the norm in the model.

    Raises:
        ValueError: the module is another one, or a batch normalisation without stored statistics.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.layers import PooledNorm
        >>> norm = PooledNorm(nn.LayerNorm(2, elementwise_affine=False), "norm")
        >>> grid = torch.tensor([[[[1.0, 3.0]], [[6.0, 6.0]]]])  # pooled: 2 and 6, so μ = 4 and σ = 2
        >>> norm.on_grid(grid).round(decimals=3).tolist()
        [[[[-1.5, -0.5]], [[1.0, 1.0]]]]
        >>> norm.module(grid.mean((2, 3))).round(decimals=3).tolist()  # the mean of it over the grid
        [[-1.0, 1.0]]

    Source: the published code of EPIC (arXiv 2505.12897), for ConvNeXt.
    """

    module: nn.Module
    name: str

    def __post_init__(self) -> None:
        one_axis = isinstance(self.module, nn.LayerNorm) and len(self.module.normalized_shape) == 1
        stored = isinstance(self.module, _BatchNorm) and self.module.running_mean is not None
        if not one_axis and not stored:
            raise ValueError(
                f"expected the norm {self.name!r} to be an nn.LayerNorm over the channels, or a batch normalisation "
                f"with stored statistics, but got {self.module}; leave out `norm`"
            )

    @classmethod
    def of(cls, forward_func: Callable, layer: nn.Module, origin: Origin) -> PooledNorm | None:
        """The norm that an origin names, in this model.

        Args:
            forward_func: the model, or a function that calls it.
            layer: the explained layer. Its name here and its name in the origin show how names differ where the model
                is wrapped in another module.
            origin: the record of what features were computed with.

        Returns:
            The norm; None where the origin names none.

        Raises:
            ValueError: the model has no module of this name, or the module is no norm that can be moved.
        """
        if not origin.norm:
            return None
        model = model_of(forward_func)
        name = _renamed(origin.norm, origin.layer, layer_name(forward_func, layer))
        module = None if model is None else dict(named_layers(model)).get(name)
        if module is None:
            raise ValueError(
                f"expected a model with the norm {name!r}, because the basis was fitted on the grid that this norm "
                f"normalises, but found none in {type(model or forward_func).__name__}"
            )
        return cls(module, name)

    def on_grid(self, grid: Tensor, columns: Tensor | None = None) -> Tensor:
        """The normalised grid.

        Args:
            grid: the grid of the layer, (clip, channel, frequency, time).
            columns: number of columns of each clip without padding, int64 (clip,); None where no clip is padded.

        Returns:
            Tensor of the same shape; values in the padding have no meaning.

        Raises:
            ValueError: the norm has another number of channels than the grid.
        """
        self._check_width(grid)
        centre, scale, bias = self._affine(grid, columns)
        return (grid - centre) * scale + bias

    def spread(self, gradient: Tensor, grid: Tensor, columns: Tensor | None = None) -> Tensor:
        """The gradient at the normalised grid: that at the norm's output, in equal shares at every position.

        Args:
            gradient: gradient at the output of the norm, (clip, channel) with further axes of size 1.
            grid: the normalised grid, (clip, channel, frequency, time).
            columns: number of columns of each clip without padding, as in `on_grid`.

        Returns:
            Tensor of the shape of the grid, zero in the padding.
        """
        gradient = gradient.to(grid.dtype).flatten(1)[:, :, None, None]
        if columns is None:
            return (gradient / (grid.shape[2] * grid.shape[3])).expand_as(grid)
        n_positions = grid.shape[2] * columns.to(grid.device)[:, None, None, None]
        return torch.where(column_mask(grid, columns), gradient / n_positions, 0.0).expand_as(grid)

    def check(self, means: Tensor, output: Tensor, layer: str, dtype: torch.dtype) -> None:
        """Raises an error where the mean of the normalised grid is not what the norm gives in the model.

        Args:
            means: mean of the normalised grid of each clip, (clip, channel).
            output: output of the norm in the model, (clip, channel) with further axes of size 1.
            layer: name of the explained layer.
            dtype: dtype of the layer's output, whose precision limits that of the mean.

        Raises:
            ValueError: they differ by more than rounding.
        """
        output = output.detach().flatten(1).to(means)
        fits = output.shape == means.shape
        difference = (means - output).abs().amax(1) if fits else means.new_full((1,), torch.inf)
        # Half of the digits: the mean over the grid and the division by σ make rounding errors larger.
        tolerance = max(torch.finfo(dtype).eps, torch.finfo(means.dtype).eps) ** 0.5
        if not (difference <= tolerance * output.abs().amax(1)).all():
            raise ValueError(
                f"expected {self.name!r} to normalise the mean of {layer!r} over its grid, and nothing between the "
                "two, but its output is another; leave out `norm`, or name the norm behind the pooling of this layer"
            )

    def _check_width(self, grid: Tensor) -> None:
        norm: Any = self.module
        width = norm.normalized_shape[0] if isinstance(norm, nn.LayerNorm) else norm.num_features
        if grid.shape[1] != width:
            raise ValueError(
                f"expected a grid of {width} channels, as the norm {self.name!r} has, but got {grid.shape[1]}"
            )

    def _affine(self, grid: Tensor, columns: Tensor | None) -> tuple[Tensor, Tensor, Tensor | float]:
        """The centre, the scale and the bias of each channel, each (clip or 1, channel or 1, 1, 1)."""
        norm: Any = self.module
        if isinstance(norm, nn.LayerNorm):
            pooled = pooled_grid(grid, columns)
            centre = pooled.mean(1, keepdim=True)
            variance = pooled.var(1, correction=0, keepdim=True)
        else:
            centre = norm.running_mean[None].to(grid)
            variance = norm.running_var[None].to(grid)
        scale = (variance + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.to(grid)
        bias = 0.0 if norm.bias is None else norm.bias.to(grid)[:, None, None]
        return centre[:, :, None, None], scale[:, :, None, None], bias


def explained_grid(
    value: Tensor,
    layout: Layout,
    norm: PooledNorm | None = None,
    layer: str = "the layer",
    columns: Tensor | None = None,
) -> Tensor:
    """The grid on which a basis acts: the layer's output as a grid, normalised where the basis was fitted so.

    Args:
        value: output of the layer.
        layout: layout of the output, `basis.origin.layout`.
        norm: the norm to apply, `PooledNorm.of(model, layer, basis.origin)`.
        layer: name of the layer, for error messages.
        columns: number of columns of each clip without padding, int64 (clip,); None where no clip is padded.

    Returns:
        Tensor (clip, channel, frequency, time). A normalised grid is at least in float32.

    Raises:
        ValueError: the layout or the norm does not fit the output.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.layers import Layout, PooledNorm, explained_grid
        >>> tokens = torch.tensor([[[1.0, 6.0], [3.0, 6.0]]])  # (clip, time, channel)
        >>> layout = Layout("n t c -> n c 1 t")
        >>> explained_grid(tokens, layout).tolist()
        [[[[1.0, 3.0]], [[6.0, 6.0]]]]
        >>> explained_grid(tokens, layout, PooledNorm(nn.LayerNorm(2), "norm")).round(decimals=3).tolist()
        [[[[-1.5, -0.5]], [[1.0, 1.0]]]]
    """
    grid = layout.grid(value, repr(layer))
    return grid if norm is None else norm.on_grid(at_least_float32(grid), columns)


def pooled_grid(grid: Tensor, columns: Tensor | None = None) -> Tensor:
    """The mean of each channel over the grid of its clip.

    Args:
        grid: (clip, channel, frequency, time).
        columns: number of columns of each clip without padding, int64 (clip,); None where no clip is padded.

    Returns:
        Tensor (clip, channel).

    Example:
        >>> import torch
        >>> from captum_apex.layers.pooled_norm import pooled_grid
        >>> pooled_grid(torch.tensor([[[[1.0, 3.0, 100.0]]]]), torch.tensor([2]))
        tensor([[2.]])
    """
    if columns is None:
        return grid.mean((2, 3))
    unpadded = grid.where(column_mask(grid, checked_columns(columns, grid)), 0.0)
    return unpadded.sum((2, 3)) / (grid.shape[2] * columns.to(grid.device)[:, None])


def _renamed(norm: str, recorded_layer: str, layer: str) -> str:
    """The name of the norm in a model that calls the layer by another name, because one of the two is wrapped."""
    if recorded_layer and layer.endswith(f".{recorded_layer}"):
        return layer.removesuffix(recorded_layer) + norm
    if recorded_layer.endswith(f".{layer}"):
        return norm.removeprefix(recorded_layer.removesuffix(layer))
    return norm
