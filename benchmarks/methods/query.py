"""What a method gets: clips and a classifier, and in each cell of the benchmark a fill and a region grid."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from captum.attr import LayerActivation
from torch import Tensor, nn

from captum_apex import PrototypeBasis, Scheme
from captum_apex.layers.cell_places import CellPlaces
from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import held
from captum_apex.layers.layout import Layout

CLIPS_AT_ONCE = 32  # clips in one forward pass


@restored
@torch.no_grad()
def logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """The logits (clip, class) of any number of clips, without a graph, in evaluation mode.

    Args:
        model: the classifier.
        inputs: inputs of the model; the first axis is the clip.

    Example:
        >>> import torch
        >>> from benchmarks.methods.query import logits
        >>> logits(torch.nn.Flatten(), torch.ones(40, 1, 1, 2)).shape
        torch.Size([40, 2])
    """
    with held(model):
        return torch.cat([model(batch) for batch in inputs.split(CLIPS_AT_ONCE)])


@dataclass(frozen=True, kw_only=True)
class ClassifiedClips:
    """Clips, the classifier, and the classes that are explained: what a `Query` and a run's `Stage` have in common.

    Attributes:
        model: the classifier, in evaluation mode.
        layer: the explained layer, a module of `model`.
        inputs: log-mels (clip, 1, frequency, time), or spectra (clip, 2, frequency, time), real and imaginary parts; of
            a user's model, its spectrograms, or its waveforms (clip, 1, 1, sample).
        target: index of the class that is explained in each clip, int64 (clip,).
        silence: value of a bin without sound.
        bases: the fitted basis of each scheme.
        seed: seed of the random number generators of methods, masks and ties.
        band_shares: how much of each mel band of the model lies on each bin of the inputs, (bin, band), if the inputs
            are spectra; None if they are log-mels. See `benchmarks.methods.region_maps.enlarged`.
        places: where the cells of the layer lie on the log-mels, also if the inputs are spectra.
        twins: input of the twin of each clip, of the shape of `inputs`; None if clips have no twins.
        layout: how the output of the layer becomes a grid (clip, channel, row, column).
    """

    model: nn.Module
    layer: nn.Module
    inputs: Tensor
    target: Tensor
    silence: float
    bases: Mapping[Scheme, PrototypeBasis]
    seed: int
    band_shares: Tensor | None = None
    places: CellPlaces = field(default_factory=CellPlaces)
    twins: Tensor | None = None
    layout: Layout = field(default_factory=Layout)

    def clips(self, selection: slice) -> Self:
        """The same with the selected clips only."""
        twins = None if self.twins is None else self.twins[selection]
        return replace(self, inputs=self.inputs[selection], target=self.target[selection], twins=twins)

    def copy(self) -> Self:
        """The same with a copy of every tensor, the bases and the model; `layer` is the copied model's layer."""
        copies: dict[int, Any] = {}  # one for all fields, so that the layer is copied as a module of the model
        return replace(self, **{each.name: _copied(getattr(self, each.name), copies) for each in fields(self)})


def features_of(clips: ClassifiedClips, inputs: Tensor) -> Tensor:
    """The output of the explained layer for these inputs, without a graph, (clip, channel, row, column)."""
    return clips.layout.grid(LayerActivation(clips.model, clips.layer).attribute(inputs).detach())


@dataclass(frozen=True, kw_only=True)
class Query(ClassifiedClips):
    """What a method explains: classified clips, with the fill and the region grid of a cell.

    Each call of a method gets a copy of the model and the tensors, so that no method can change them for the next one.
    torch's and numpy's global random number generators are set to `seed` before the call.

    A query has the attributes of `ClassifiedClips`, among them `model`, `layer`, `inputs` and `target`, and these:

    Attributes:
        fill: the values that replace masked bins, of the shape of `inputs`; the baseline of methods that take one.
        grid: the region of each bin, int64 (frequency, time). Where clips have grids of their own, it is (clip,
            frequency, time), and a method that is registered with `uses_grid` gets one clip at a time and its grid.
        names: names of the maps to compute, for a function that is registered under several names.
        learned: networks that were trained for the method on the training clips, by the names of their learners; see
            `benchmarks.methods.learner`. What could not be trained is the error that says why.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from benchmarks.methods import Query
        >>> model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
        >>> inputs = torch.ones(3, 1, 4, 6)
        >>> query = Query(
        ...     model=model,
        ...     layer=model[0],
        ...     inputs=inputs,
        ...     target=torch.tensor([0, 1, 0]),
        ...     silence=-1.0,
        ...     bases={},
        ...     seed=0,
        ...     fill=torch.full_like(inputs, -1.0),
        ...     grid=torch.arange(6).expand(4, 6) // 3,
        ... )
        >>> query.clips(slice(1, 3)).target
        tensor([1, 0])
    """

    fill: Tensor
    grid: Tensor
    names: tuple[str, ...] = ()
    learned: Mapping[str, nn.Module | Exception] = field(default_factory=dict)

    def network(self, name: str) -> nn.Module:
        """The network that was trained by the learner of this name.

        Raises:
            ValueError: it was not trained: the method is registered without `learned=name`, or not explained by a run.
            Exception: the training failed; in a run, the text is the status of the method.
        """
        if name not in self.learned:
            raise ValueError(
                f"expected a network that was trained by the learner {name!r}, which only a run trains, for a method "
                f"that is registered with `learned`; there are: {', '.join(self.learned) or 'none'}"
            )
        network = self.learned[name]
        if isinstance(network, Exception):
            raise network
        return network

    def clips(self, selection: slice) -> Self:
        """The same query with the selected clips only."""
        grid = self.grid if self.grid.dim() == 2 else self.grid[selection]
        return replace(super().clips(selection), fill=self.fill[selection], grid=grid)

    def batches(self, size: int = CLIPS_AT_ONCE) -> list[Query]:
        """The same query for at most `size` clips at a time."""
        return [self.clips(slice(start, start + size)) for start in range(0, len(self.inputs), size)]


def _copied(value: Any, copies: dict[int, Any]) -> Any:
    """A copy that shares no memory; of a tensor only the elements are copied, not the memory that it is a view of."""
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value, copies)
