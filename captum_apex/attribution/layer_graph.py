"""A forward pass whose graph starts at the explained grid, the gradient of a score there, and where gradients stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import _engine_run_backward
from torch.utils.checkpoint import CheckpointError

from captum_apex.caller import warn_caller
from captum_apex.layers.chosen_run import named_layers
from captum_apex.layers.hooks import Capture, captured
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import model_of
from captum_apex.layers.pooled_norm import PooledNorm, explained_grid, pooled_grid
from captum_apex.layers.values import at_least_float32

__all__ = ["LayerGraph", "gradient_stop", "gradients_at", "no_checkpointing", "recorded_graph"]


@dataclass(frozen=True, eq=False)
class LayerGraph:
    """The output of the layer in one forward pass, as a leaf of the graph that computes the model's output.

    Args:
        layer: name of the layer, for error messages.
        features: the output of the layer.
        norm: the norm that is applied to the grid before the pooling; None for the grid of the layer itself.
        normed: the output of the norm, a second leaf; None without a norm.
        is_recurrent: whether the layer is a recurrent one of torch, which gives a state beside its output.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.attribution.layer_graph import recorded_graph
        >>> from captum_apex.layers import Layout
        >>> layer = nn.Identity()
        >>> with recorded_graph(layer, "layer") as graph:
        ...     score = 3 * layer(torch.ones(1, 1, 1, 2)).sum((1, 2, 3))
        >>> graph.grids(score, Layout())
        (tensor([[[[1., 1.]]]]), tensor([[[[3., 3.]]]]))
    """

    layer: str
    features: Capture
    norm: PooledNorm | None = None
    normed: Capture | None = None
    is_recurrent: bool = False

    def grids(
        self,
        score: Tensor,
        layout: Layout,
        columns: Tensor | None = None,
        keep_graph: bool = False,
        on_way_back: AbstractContextManager | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The explained grid, and the gradient of a score at it.

        Args:
            score: the score of each clip, (clip,), computed in the recorded pass.
            layout: layout of the output of the layer.
            columns: number of columns of each clip without padding, int64 (clip,); None where no clip is padded.
            keep_graph: keep the graph for the gradient of another score.
            on_way_back: block in which the gradient is computed, because checkpointed modules run again then.

        Returns:
            `Z` and `G`, both (clip, channel, frequency, time); values in the padding have no meaning.

        Raises:
            ValueError: the score does not depend on the layer, or the model does not pool the grid and apply the norm.
        """
        grid = explained_grid(self.features.value.detach(), layout, self.norm, self.layer, columns)
        if self.norm is None or self.normed is None:
            with on_way_back or nullcontext():
                gradient = self._gradients(score, keep_graph, self.features)[0]
            gradient = layout.grid(gradient, repr(self.layer))
            if self.is_recurrent and not gradient.any():
                warn_caller(f"{_NO_OUTPUT_READ.format(repr(self.layer))}; {_BEFORE_IT}")
            _warn_of_no_total(at_least_float32(grid) * at_least_float32(gradient), self.layer)
            return grid, gradient
        self.norm.check(pooled_grid(grid, columns), self.normed.value, self.layer, self.features.value.dtype)
        with on_way_back or nullcontext():
            gradient, beside = self._gradients(score, keep_graph, self.normed, self.features)
        if beside.any():
            raise ValueError(
                f"expected the layer {self.layer!r} to reach the output only through {self.norm.name!r}, but there is "
                "another path; leave out `norm`"
            )
        return grid, self.norm.spread(gradient, grid, columns)

    def check_reached(
        self, output: Tensor, forward_func: Callable, layer: nn.Module, run: Callable[[], object]
    ) -> None:
        """Raises an error where no gradient of the output can reach the layer.

        Args:
            output: the output of the model in the recorded pass.
            forward_func: the model, or a function that calls it.
            layer: the layer.
            run: function that runs the recorded pass once more.

        Raises:
            ValueError: the output has no gradient; the message names the module that takes it away.
        """
        if not output.requires_grad:
            stop = gradient_stop(model_of(forward_func), run, after=layer)
            raise ValueError(
                f"expected the output to depend on the layer {self.layer!r}, but no gradient reaches it: {stop}"
            )

    def _gradients(self, score: Tensor, keep_graph: bool, *places: Capture) -> list[Tensor]:
        """The gradients at the places; zeros where no gradient reaches any but the first."""
        leaves = [place.value for place in places]
        gradients: list[Tensor | None] = [None]
        if score.requires_grad:
            gradients = gradients_at(leaves, score.sum(), keep_graph=keep_graph)
        if gradients[0] is None:
            raise ValueError(f"expected the output to depend on the layer {self.layer!r}, but no gradient reaches it")
        return [
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves, gradients, strict=True)
        ]


_NO_OUTPUT_READ = (
    "all contributions of the recurrent layer {} are 0: the scores do not depend on its output, nor on its last state, "
    "but on a state inside it, or what follows is 0 for these clips"
)
_BEFORE_IT = "explain the module before the recurrent layer"


def _warn_of_no_total(contributions: Tensor, layer: str) -> None:
    """Warns where the contributions (clip, channel, frequency, time) of every clip cancel out.

    They always do if the model scales the layer by its own size, up to the small number that it adds to that size. By
    chance they do in about one of a thousand calls.
    """
    in_channel = contributions.sum((2, 3))
    size = in_channel.abs().sum(1)
    in_cells = contributions.abs().sum((1, 2, 3))
    is_active = in_cells > 0
    tolerance = torch.where(is_active.sum() > 1, 1e-3, 1e-4)  # one clip alone cancels out by chance more often
    cancels = (in_channel.sum(1).abs() <= tolerance * size) | (size <= tolerance * in_cells)
    if (cancels.all() & is_active.any()).item():  # a clip without contributions cancels out too
        warn_caller(
            f"the contributions of all channels of {layer!r} add up to 0, and not to what the layer adds to the score. "
            "The usual cause is a normalisation that the model itself computes after the layer, as by x.std(); "
            "replace it by one of torch, such as torch.nn.functional.normalize, nn.LayerNorm or nn.RMSNorm, whose "
            "variance is held constant here. `return_convergence_delta=True` gives what is missing"
        )


@contextmanager
def recorded_graph(
    layer: nn.Module, name: str, norm: PooledNorm | None = None, *, at_input: bool = False
) -> Iterator[LayerGraph]:
    """Makes the output of a layer a leaf of the graph in the forward pass that runs inside the block.

    Args:
        layer: the layer.
        name: name of the layer, for error messages.
        norm: the norm that is applied to the grid; its output becomes a leaf too.
        at_input: take the input of the layer instead of its output.

    Raises:
        ValueError: the layer or the norm does not give one tensor of floating-point values, runs twice, or not at all.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.attribution.layer_graph import recorded_graph
        >>> layer = nn.ReLU()
        >>> with recorded_graph(layer, "relu") as graph:
        ...     output = layer(torch.tensor([[-1.0, 2.0]]))
        >>> graph.features.value
        tensor([[0., 2.]], requires_grad=True)
    """
    at_norm: AbstractContextManager[Capture | None] = nullcontext()
    if norm is not None:
        at_norm = captured(norm.module, norm.name, prepare=partial(_leaf, norm.name), replace=True)
    leaf = partial(_leaf, name)
    with captured(layer, name, at_input=at_input, prepare=leaf, replace=True) as features, at_norm as normed:
        yield LayerGraph(name, features, norm, normed, isinstance(layer, nn.RNNBase))


def gradients_at(
    leaves: Sequence[Tensor], output: Tensor, weights: Tensor | None = None, *, keep_graph: bool = False
) -> list[Tensor | None]:
    """The gradients of an output at leaves of the graph; None where none reaches a leaf.

    Args:
        leaves: the leaves.
        output: the output, a single value where there are no weights.
        weights: weights of the values of the output, in its shape.
        keep_graph: keep the graph for further gradients.

    Raises:
        ValueError: a module that is checkpointed gives something else when it runs again on the way back.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.layer_graph import gradients_at
        >>> leaf = torch.tensor([2.0, 3.0], requires_grad=True)
        >>> gradients_at([leaf], leaf.square().sum())
        [tensor([4., 6.])]
    """
    weights = torch.ones_like(output) if weights is None else weights
    try:
        # What `torch.autograd.grad` calls. In that function itself torch takes our modes off its stack, so checkpointed
        # modules would run again without them.
        return list(
            _engine_run_backward(
                (output,), (weights,), keep_graph, False, tuple(leaves), allow_unreachable=True, accumulate_grad=False
            )
        )
    except CheckpointError as error:
        raise ValueError(no_checkpointing(error)) from error
    except RuntimeError as error:
        if "heckpoint" in str(error):  # the reentrant kind of checkpoint raises no error class of its own
            raise ValueError(no_checkpointing(error)) from error
        raise


def no_checkpointing(error: RuntimeError) -> str:
    """The message for an error of torch's gradient checkpointing.

    Example:
        >>> from captum_apex.attribution.layer_graph import no_checkpointing
        >>> no_checkpointing(RuntimeError("a different number of tensors was saved"))[:73]
        'expected a model without gradient checkpointing around the explained laye'
    """
    first_line = str(error).strip().splitlines()[0]
    return (
        "expected a model without gradient checkpointing around the explained layer, but `torch.utils.checkpoint` runs "
        f"it, and it gives something else when it runs again on the way back ({first_line}); switch checkpointing off, "
        "which only saves memory in training"
    )


def _leaf(name: str, output: Tensor) -> Tensor:
    if not output.is_floating_point():
        raise ValueError(
            f"expected {name!r} to give floating-point values, because only they have a gradient, but got "
            f"{output.dtype}; explain a model that is not quantised, or a module after it"
        )
    torch.set_grad_enabled(True)  # also where the model itself runs these modules under no_grad
    return output.detach().clone().requires_grad_()


def gradient_stop(model: nn.Module | None, run: Callable[[], Any], after: nn.Module | None = None) -> str:
    """The place where a forward pass loses the gradient, for an error message. The pass runs once more.

    Args:
        model: the model; None if it is not known.
        run: function that runs the forward pass.
        after: the module behind which the gradient is lost; by default that may be anywhere.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.attribution.layer_graph import gradient_stop
        >>> class Rounded(nn.Module):
        ...     def forward(self, inputs):
        ...         return inputs.detach().round()
        >>> model = nn.Sequential(nn.ReLU(), Rounded())
        >>> gradient_stop(model, lambda: model(torch.ones(1, requires_grad=True)))
        "'1' gives a result without a gradient, such as one that is detached, rounded or an index"
    """
    reached = after is None
    stops: list[str] = []
    untouched: list[str] = []

    def before(name: str, _: nn.Module, *inputs: Any) -> None:
        if reached and not torch.is_grad_enabled():
            mode = "inference_mode" if torch.is_inference_mode_enabled() else "no_grad"
            (stops if _has_gradient(inputs) else untouched).append(f"{name!r} runs under `torch.{mode}()`")

    def behind(name: str, module: nn.Module, *inputs_and_output: Any) -> None:
        nonlocal reached
        if reached and _has_gradient(inputs_and_output[:-1]) and not _has_gradient(inputs_and_output[-1]):
            stops.append(
                f"{name!r} gives a result without a gradient, such as one that is detached, rounded or an index"
            )
        reached = reached or module is after

    with ExitStack() as hooks, suppress(Exception):
        for name, module in () if model is None else named_layers(model):
            name = name or type(module).__name__
            for handle in (
                module.register_forward_pre_hook(partial(before, name), with_kwargs=True),
                module.register_forward_hook(partial(behind, name), with_kwargs=True),
            ):
                hooks.callback(handle.remove)
        run()
    return [*stops, *untouched, _between_modules(after)][0]


def _between_modules(after: nn.Module | None) -> str:
    """Why no gradient reaches a module where none of the modules behind it takes the gradient away."""
    if isinstance(after, nn.RNNBase):
        return f"`forward` takes it away between two modules, such as by `detach`; {_BEFORE_IT}"
    return "`forward` takes it away between two modules, such as by `torch.no_grad()`, `detach` or NumPy"


def _has_gradient(value: Any) -> bool:
    """Whether a tensor with a gradient is anywhere in a structure of tuples, lists and dictionaries."""
    if isinstance(value, dict):
        return _has_gradient(list(value.values()))
    if isinstance(value, (tuple, list)):
        return any(_has_gradient(each) for each in value)
    return isinstance(value, Tensor) and value.requires_grad
