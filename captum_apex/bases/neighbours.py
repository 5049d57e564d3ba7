"""Notices models whose features of a clip depend on the other clips of its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from captum_apex.bases.bank_writer import BankWriter
from captum_apex.bases.part_writer import PartWriter
from captum_apex.bases.schemes import Scheme
from captum_apex.caller import warn_caller
from captum_apex.layers.hooks import captured, frozen
from captum_apex.layers.models import models_of
from captum_apex.layers.padding import Columns

__all__ = ["warn_of_neighbours"]

_TOLERANCE = 0.02  # of the features, as a share; above what TF32 and other kernels for other batches change
_TOLERANCE_OF_HALF = 0.1


@torch.no_grad()
def warn_of_neighbours(
    model: Callable,
    layer: nn.Module,
    writer: BankWriter | PartWriter,
    clip: Sequence[Any],
    columns: Columns | None = None,
    *,
    at_input: bool = False,
) -> None:
    """Runs the first clip of a bank alone, up to the layer, and warns where that gives other features than its batch.

    Prototypes and purity of such a model depend on the order of the dataset, and explanations of one clip do not fit
    them. Differences that rounding can make are allowed: 2%, or 10% in half precision.

    Args:
        model: the model.
        layer: the layer.
        writer: the features of the bank.
        clip: the inputs of the first clip, and its further arguments, each with one row.
        columns: function from lengths to columns for batches of padded clips.
        at_input: whether the layer's input is explained.

    Example:
        >>> import warnings
        >>> import torch
        >>> from captum_apex import Scheme
        >>> from captum_apex.bases.bank_writer import BankWriter
        >>> from captum_apex.bases.neighbours import warn_of_neighbours
        >>> from captum_apex.layers import Layout
        >>> model = torch.nn.Sequential(torch.nn.BatchNorm2d(1, track_running_stats=False), torch.nn.Flatten()).eval()
        >>> clips = torch.tensor([[[[1.0, 2.0]]], [[[5.0, 9.0]]]])
        >>> writer = BankWriter(2, [Scheme.TIME], "0", Layout())
        >>> writer.write(model[0](clips), labels=None, n_inputs=2)
        >>> with warnings.catch_warnings(record=True, action="always") as caught:
        ...     warn_of_neighbours(model, model[0], writer, [clips[:1]])
        >>> print(str(caught[0].message)[:73])
        the features of a clip depend on the other clips of its batch: those of t
    """
    if writer.n_clips == 1:
        return

    def alone() -> BankWriter:
        inputs, *arguments = clip
        features = BankWriter(1, writer.sequences, writer.layer, writer.layout, norm=writer.norm)
        with captured(layer, writer.layer, at_input=at_input, stop=True) as capture, frozen(model, layer):
            model(inputs.clone(), *arguments)  # a model may work in place
        features.write(capture.value, None, 1, None if columns is None else columns(arguments[0].cpu()))
        return features

    try:
        once = alone()
    except Exception as error:  # it is the user's code and may raise anything
        warn_caller(
            f"the model does not run on one clip alone ({type(error).__name__}: {error}), as explanations of one clip "
            f"do{_statistics(model)}"
        )
        return
    difference = _difference(writer, once)
    if difference > once.rounding(_TOLERANCE, _TOLERANCE_OF_HALF):
        is_random = _difference(once, alone()) > difference / 2
        warn_caller(_of_runs(difference) if is_random else _of_neighbours(difference, model))


def _of_runs(difference: float) -> str:
    return (
        f"the model gives other features when a clip runs a second time, by {difference:.0%} for the first clip; "
        "prototypes and purity are then those of one run: switch off what is random in it"
    )


def _of_neighbours(difference: float, model: Callable) -> str:
    return (
        "the features of a clip depend on the other clips of its batch: those of the first clip differ by "
        f"{difference:.0%} from those of the clip alone; prototypes and purity then depend on the order of the dataset"
        f"{_statistics(model)}; pass batch_size=1, which runs every clip alone, or give the model fixed statistics, "
        "such as those of its training data"
    )


def _statistics(model: Callable) -> str:
    """The first batch normalisation that uses the statistics of the batch, for a message; empty where there is none."""
    for root in models_of(model):
        for name, module in root.named_modules():
            if isinstance(module, _BatchNorm) and module.running_mean is None:
                return f", because {name!r}, a {type(module).__name__}, normalises with the statistics of the batch"
    return ""


def _difference(writer: BankWriter | PartWriter, alone: BankWriter) -> float:
    """The difference of the features of the first clip, as a share."""
    assert alone.grid is not None
    pairs = [(writer.means[0], alone.means[0])]
    for sequence, cells in alone.cells.items():
        n_rows = 1 if sequence is Scheme.TIME else alone.grid[0]
        shape = (n_rows, -1)
        expected = cells[0].unflatten(1, shape)
        # Clips that are longer than the first one have made the arrays wider.
        pairs.append((writer.cells[sequence][0].unflatten(1, shape)[..., : expected.shape[2]], expected))
    return max(_share(*(torch.nan_to_num(each).double() for each in pair)) for pair in pairs)


def _share(one: torch.Tensor, other: torch.Tensor) -> float:
    """The length of the difference of two tensors, divided by the larger of their lengths."""
    length = max(one.norm().item(), other.norm().item())
    return (one - other).norm().item() / length if length else 0.0
