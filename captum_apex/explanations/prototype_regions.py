"""The regions of prototypes in their own clips: on demand, or for a whole basis, which then keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.arguments import channel_indices
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.audio.regions import Box, Region
from captum_apex.bases.basis import PrototypeBasis, Prototypes
from captum_apex.bases.collation import Collate
from captum_apex.bases.processes import Processes, check_same
from captum_apex.explanations.clip_channels import at_layer_of, channels_by_activation
from captum_apex.explanations.shared_search import found_together
from captum_apex.layers.models import device_of, fingerprint, model_of
from captum_apex.layers.values import naming_clips
from captum_apex.locating.nothing import NO_SOUNDS
from captum_apex.locating.region_effect import RegionEffect
from captum_apex.locating.region_search import LocatedRegion, RegionSearch
from captum_apex.numbers import whole_number
from captum_apex.progress import bar_settings

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["PrototypeRegions", "locate_prototypes", "stored_region", "stored_regions"]

_MOST_VALUES = 2**26  # of the maps that are kept: 256 MB


class PrototypeRegions:
    """Finds the regions of prototypes in their clips, and keeps them; given to several calls of `explain`, for all.

    Regions are kept as long as their maps take at most 256 MB; then the oldest ones are found anew when they are asked
    for.

    Args:
        apex: the attribution object.
        dataset: the dataset that the basis was fitted on.
        search: how regions are found.
        collate_fn: function that makes a batch from a list of items, as in `FeatureBank.from_dataset`.
        with_maps: whether the maps of the channels at the input are kept, too.

    Raises:
        ValueError: the dataset has another number of clips than the one that the basis was fitted on.

    Example:
        >>> import torch
        >>> from captum_apex import LayerAPEX, PrototypeBasis, RegionSearch
        >>> from captum_apex.explanations.prototype_regions import PrototypeRegions
        >>> model = torch.nn.ReLU()
        >>> apex = LayerAPEX(model, model, PrototypeBasis(torch.eye(1), "frequency"))
        >>> dataset = [torch.tensor([[[0.0], [4.0], [0.0]]])]  # one clip (channel, frequency, time)
        >>> band = PrototypeRegions(apex, dataset, RegionSearch()).of(index=0, channel=0, side=1).region.boxes[0]
        >>> round(band.low, 2), round(band.high, 2)
        (0.33, 0.67)
    """

    def __init__(
        self,
        apex: APEX | LayerAPEX,
        dataset: Dataset,
        search: RegionSearch,
        collate_fn: Callable | None = None,
        *,
        with_maps: bool = True,
    ) -> None:
        self.apex = apex
        self.dataset = dataset
        self.search = search
        self.with_maps = with_maps
        self.collate = Collate(collate_fn, padded=at_layer_of(apex).columns is not None)
        self.found: dict[tuple[int, int, int], LocatedRegion] = {}
        n_clips = at_layer_of(apex).basis.origin.n_clips
        if n_clips and len(dataset) != n_clips:  # type: ignore[arg-type]  # torch's Dataset declares no length
            raise ValueError(
                f"expected the dataset of {n_clips} clips that the basis was fitted on, but got one of "
                f"{len(dataset)} clips"  # type: ignore[arg-type]
            )

    def of(self, index: int, channel: int, side: int) -> LocatedRegion:
        """The region of a channel in a training clip.

        Args:
            index: index of the clip in the dataset.
            channel: index of the channel.
            side: 1, or −1 for a clip with a negative activation.
        """
        key = (index, channel, side)
        if key not in self.found:
            self.find(index, [channel], side)
        return self.found[key]

    def find_all(self, prototypes: Iterable[tuple[int, int, int]]) -> None:
        """Finds the regions that are not yet known; those in one clip share the passes of their gradients.

        Args:
            prototypes: index of the clip in the dataset, index of the channel, and side of each prototype.
        """
        missing: dict[tuple[int, int], list[int]] = {}
        for index, channel, side in dict.fromkeys(prototypes):
            if (index, channel, side) not in self.found:
                missing.setdefault((index, side), []).append(channel)
        for (index, side), channels in missing.items():
            self.find(index, channels, side)

    def find(self, index: int, channels: Sequence[int], side: int) -> list[LocatedRegion]:
        """Finds the regions of several channels in a training clip, which share the passes of their gradients.

        Args:
            index: index of the clip in the dataset.
            channels: indices of the channels.
            side: 1, or −1 for a clip with negative activations.
        """
        inputs, _, further = self.collate([self.dataset[index]])
        at_layer = at_layer_of(self.apex)
        device = device_of(model_of(at_layer.forward_func) or at_layer.layer)
        arguments = tuple(each.to(device) if isinstance(each, Tensor) else each for each in further)
        size = self.search.batch_size
        with naming_clips(lambda _: f"clip {index} of the dataset"):
            values = channels_by_activation(self.apex, inputs.to(device), arguments, channels, side, size)
            assert values.on_clip is not None
            found = self.search.locate(values, [self._cell(channel) for channel in values.on_clip])
        if not self.with_maps:
            found = [replace(located, map=None) for located in found]
        self._forget(sum(map(_n_values, found)))
        for channel, located in zip(channels, found, strict=True):
            self.found[index, channel, side] = located
        return found

    def _forget(self, n_values: int) -> None:
        """Forgets the oldest regions, so that the maps of those that are kept and some further values find room."""
        n_values += sum(map(_n_values, self.found.values()))
        while self.found and n_values > _MOST_VALUES:
            n_values -= _n_values(self.found.pop(next(iter(self.found))))

    def _cell(self, channel: Tensor) -> Region:
        basis = at_layer_of(self.apex).basis
        peaks = [int(cells.argmax()) for cells in basis.scheme.cells(channel[None, None])]
        return basis.region(peaks, *channel.shape, intersection=not self.search.cross)


def _n_values(located: LocatedRegion) -> int:
    return 0 if located.map is None else located.map.numel()


def locate_prototypes(
    apex: APEX | LayerAPEX,
    dataset: Dataset,
    *,
    n_prototypes: int = 4,
    channels: Iterable[int] | None = None,
    search: RegionSearch | None = None,
    collate_fn: Callable | None = None,
    group: ProcessGroup | None = None,
    progress: bool | None = False,
) -> PrototypeBasis:
    """Finds the regions of prototypes in their clips, and gives a basis that keeps them, also in its file.

    `explain` shows the regions that the basis of its attribution object keeps. With its `dataset` argument, it finds
    those of the shown prototypes itself, which is less work where few clips are explained.

    Args:
        apex: the attribution object with the basis.
        dataset: the dataset that the basis was fitted on.
        n_prototypes: number of prototypes per channel and side.
        channels: indices of the channels; None for all.
        search: how regions are found, as in `explain`; None for the default.
        collate_fn: function that makes a batch from a list of items, as in `FeatureBank.from_dataset`.
        group: a process group of `torch.distributed`, whose processes all call this function with the same arguments,
            each with the whole dataset. Each searches a share of the clips. All get the basis with all regions: that
            of one process, bit for bit where the processes compute alike.
        progress: whether to show a progress bar; None for one on a terminal and in a notebook, after ten seconds.

    Returns:
        The basis with regions; the basis of `apex` is not changed.

    Raises:
        ValueError: the dataset is not that of the basis, as far as their numbers of clips show; or the basis has no
            prototypes, or fewer than `n_prototypes`; or the processes of a group have other arguments. Every error in a
            process of a group is one, in all processes.
        RuntimeError: another process of the group has ended, or does not answer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import FeatureBank, LayerAPEX, basis_from_matrix, locate_prototypes
        >>> layer = nn.Sequential(nn.AvgPool2d((1, 4)), nn.ReLU())
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> clip = torch.zeros(1, 2, 16)  # (channel, frequency, time)
        >>> clip[..., 5:8] = 6.0  # a burst in the second of four columns
        >>> bank = FeatureBank.from_dataset(model, layer, [clip])
        >>> apex = LayerAPEX(model, layer, basis_from_matrix(bank, "time", torch.eye(1), n_prototypes=1))
        >>> located = locate_prototypes(apex, [clip], n_prototypes=1)
        >>> located.positive.boxes[0, 0, 0].tolist()  # low, high, start, end as fractions
        [0.0, 1.0, 0.3125, 0.5]
    """
    basis = at_layer_of(apex).basis
    processes = Processes(group)
    with processes.failing_together():
        regions = PrototypeRegions(apex, dataset, search or RegionSearch(), collate_fn, with_maps=False)
        clips = _channels_of_clips(basis, n_prototypes, channels)
    if group is not None:
        check_same(processes.records(_settings(regions, clips)))
    total = sum(map(len, clips.values()))
    with tqdm(total=total, unit="region", desc=f"locating {basis.scheme}", **bar_settings(progress)) as bar:
        found = found_together(regions.find, clips, processes, bar.update)
    assert basis.positive is not None
    negative = None if basis.negative is None else _with_regions(basis.negative, found, -1)
    return replace(basis, positive=_with_regions(basis.positive, found, 1), negative=negative)


def _channels_of_clips(
    basis: PrototypeBasis, n_prototypes: int, channels: Iterable[int] | None
) -> dict[tuple[int, int], list[int]]:
    """The channels that each clip is one of the first prototypes of, by clip and side."""
    if basis.positive is None or not 1 <= n_prototypes <= basis.positive.indices.shape[1]:
        available = 0 if basis.positive is None else basis.positive.indices.shape[1]
        raise ValueError(f"expected `n_prototypes` from 1 to the {available} of the basis, but got {n_prototypes}")
    n_prototypes = whole_number(n_prototypes, "n_prototypes")
    selected = range(basis.n_channels) if channels is None else channel_indices(channels, basis.n_channels)
    sides = {1: basis.positive} | ({} if basis.negative is None else {-1: basis.negative})
    clips: dict[tuple[int, int], list[int]] = {}
    for side, prototypes in sides.items():
        for channel in selected:
            for index in prototypes.indices[channel, :n_prototypes].tolist():
                clips.setdefault((index, side), []).append(channel)
    return clips


def _settings(regions: PrototypeRegions, clips: dict[tuple[int, int], list[int]]) -> dict[str, Any]:
    """What the processes of a group must have in common, by name."""
    search = regions.search
    return {
        "basis": at_layer_of(regions.apex).basis.fingerprint,
        "prototypes": sha256(repr(clips).encode()).hexdigest(),
        "weights of the model": fingerprint(at_layer_of(regions.apex).forward_func),
        "search": [search.smallest, search.cross, search.n_random, search.batch_size, search.fill is None],
    }


def _with_regions(prototypes: Prototypes, found: dict[tuple[int, int, int], LocatedRegion], side: int) -> Prototypes:
    """The prototypes of one side with the regions that were found; others keep what they had."""
    places = {
        (channel, rank): found[index, channel, side]
        for channel, indices in enumerate(prototypes.indices.tolist())
        for rank, index in enumerate(indices)
        if (index, channel, side) in found
    }
    stored = stored_regions(prototypes, range(prototypes.indices.shape[0]), prototypes.indices.shape[1])
    kept = {
        (channel, rank): located
        for channel, of_channel in enumerate(stored)
        for rank, located in enumerate(of_channel)
        if located is not None
    }
    return _storing(prototypes, kept | places)


def _storing(prototypes: Prototypes, places: dict[tuple[int, int], LocatedRegion]) -> Prototypes:
    shape = tuple(prototypes.indices.shape)
    n_boxes = max((len(located.region.boxes) for located in places.values()), default=1)
    n_effects = 1 + max((len(located.effect.random) for located in places.values() if located.effect), default=0)
    boxes = torch.full((*shape, n_boxes, 4), -1.0, dtype=torch.float64)
    effects = torch.zeros(*shape, n_effects, dtype=torch.float64)
    fires_on = torch.full(shape, -1)
    for place, located in places.items():
        for number, box in enumerate(located.region.boxes):
            boxes[(*place, number)] = torch.tensor([box.low, box.high, box.start, box.end], dtype=torch.float64)
        if located.effect is not None:
            shares = [located.effect.channel, *located.effect.random]
            shares += [0.0] * (n_effects - len(shares))
            effects[place] = torch.tensor(shares, dtype=torch.float64)
            fires_on[place] = NO_SOUNDS.index(located.effect.fires_on)
    return replace(prototypes, boxes=boxes, effects=effects, fires_on=fires_on)


def stored_region(prototypes: Prototypes, channel: int, rank: int) -> LocatedRegion | None:
    """The region of a prototype that the basis keeps; None where it keeps none.

    Args:
        prototypes: the prototypes of one side.
        channel: index of the channel.
        rank: rank of the prototype, 0 for the best.

    Example:
        >>> import torch
        >>> from captum_apex import Prototypes
        >>> from captum_apex.explanations.prototype_regions import stored_region
        >>> one = torch.ones(1, 1)
        >>> boxes = torch.tensor([[[[0.0, 1.0, 0.25, 0.5]]]], dtype=torch.float64)
        >>> prototypes = Prototypes(torch.zeros(1, 1, dtype=torch.int64), one, one, one[..., None].long(), boxes=boxes)
        >>> stored_region(prototypes, channel=0, rank=0).region.boxes
        (Box(low=0.0, high=1.0, start=0.25, end=0.5),)
    """
    return _stored(prototypes, [channel], slice(rank, rank + 1))[0][0]


def stored_regions(
    prototypes: Prototypes, channels: Sequence[int], n_prototypes: int
) -> list[list[LocatedRegion | None]]:
    """The regions of the prototypes of several channels that the basis keeps, by channel and rank.

    Args:
        prototypes: the prototypes of one side.
        channels: indices of the channels.
        n_prototypes: number of prototypes per channel, the best first.

    Example:
        >>> import torch
        >>> from captum_apex import Prototypes
        >>> from captum_apex.explanations.prototype_regions import stored_regions
        >>> one = torch.ones(1, 1)
        >>> prototypes = Prototypes(torch.zeros(1, 1, dtype=torch.int64), one, one, one[..., None].long())
        >>> stored_regions(prototypes, [0], 1)
        [[None]]
    """
    return _stored(prototypes, channels, slice(n_prototypes))


def _stored(prototypes: Prototypes, channels: Sequence[int], ranks: slice) -> list[list[LocatedRegion | None]]:
    """The stored regions of some ranks of channels, by channel and rank."""
    n_ranks = len(range(prototypes.indices.shape[1])[ranks])
    if prototypes.boxes is None:
        return [[None] * n_ranks for _ in channels]
    rows = torch.tensor(channels, device=prototypes.boxes.device)
    boxes = prototypes.boxes[rows, ranks].tolist()
    effects: list = [[None] * n_ranks for _ in channels]
    fires_on: list = [[-1] * n_ranks for _ in channels]
    if prototypes.effects is not None and prototypes.fires_on is not None:
        effects = prototypes.effects[rows, ranks].tolist()
        fires_on = prototypes.fires_on[rows, ranks].tolist()
    return [list(map(_located, *of_channel)) for of_channel in zip(boxes, effects, fires_on, strict=True)]


def _located(boxes: list[list[float]], shares: list[float], fires_on: int) -> LocatedRegion | None:
    """A region from the numbers that a basis keeps; None where it keeps none."""
    if boxes[0][0] < 0:
        return None
    region = Region(tuple(Box(*box) for box in boxes if box[0] >= 0))
    if fires_on < 0:
        return LocatedRegion(region, None)
    share, *random = shares
    return LocatedRegion(region, RegionEffect(share, tuple(random), None, NO_SOUNDS[fires_on]))
