"""The region of each channel in a clip, found at the input, with what masking it takes away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from captum._utils.typing import TargetType
from torch import Tensor

from captum_apex.audio.regions import Region
from captum_apex.bases.schemes import Scheme
from captum_apex.locating.bins import Rectangle
from captum_apex.locating.candidates import boxes_around_peaks, widened
from captum_apex.locating.channel_values import ChannelValues
from captum_apex.locating.nothing import fires_on
from captum_apex.locating.placement import elsewhere
from captum_apex.locating.region_effect import RegionEffect
from captum_apex.masking.fills import Fill, blur_fill, masked
from captum_apex.numbers import real_number, whole_number

__all__ = ["LocatedRegion", "RegionSearch"]

Shape = tuple[Rectangle, ...]
"""A region as rectangles of bins."""

_POSITIONS = (0.25, 0.75)  # of the two gradients, from the fill to the clip: Integrated Gradients in two steps
_LEVELS = (0.5, 0.1)  # levels of the candidates' boxes in the mean of the two maps
_LEVEL_NEAR_CLIP = 0.25  # level of the boxes in the map that is nearer to the clip
_LARGEST = 0.25  # largest share of the clip that a candidate covers, where there is such a one
_LARGEST_OF_ALL = 0.5  # the same where all candidates are larger, as for a long sound
_BLUR = 0.25  # standard deviation of the fill's blur, as a share of the axis


@dataclass(frozen=True)
class LocatedRegion:
    """The region of a channel in a clip.

    Args:
        region: the region.
        effect: what masking it takes away; None where the channel has no positive value in the clip, so that there is
            nothing to take away.
        map: map of the channel at the input, float32 (frequency, time) over the bins that were masked; None where no
            gradient reaches the input.

    Example:
        >>> from captum_apex import Box, Region
        >>> from captum_apex.locating import LocatedRegion, RegionEffect
        >>> located = LocatedRegion(Region((Box(0.0, 1.0, 0.25, 0.5),)), RegionEffect(channel=0.75))
        >>> located.effect.channel
        0.75
    """

    region: Region
    effect: RegionEffect | None = None
    map: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class RegionSearch:
    """Settings of the search for the region of a channel, and the search itself.

    The search takes candidates for the region, masks each of them in the clip, and measures how much the value of the
    channel falls. The candidates are the peak cell of the channel and boxes around the parts of its map at the input
    that stand out (gradient × (clip − fill) in two steps). The region is the smallest candidate whose fall is at least
    80% of the largest one. Boxes are then masked with a margin of a sixty-fourth of the axis as well, and the choice is
    made again, because some channels keep their value as long as the ends of a sound are left. Then the region is
    compared with random places of its shape.

    For `n` channels the search takes at most `11 n + 4` passes of one clip up to the layer, 37 for three channels: 2
    forward passes and `2 n` backward passes that count twice, `4 n` candidates and `n` candidates with a margin, which
    go on to the score of an explained class, `2 n` random places, and a silent and a shifted clip where a region is
    quiet or touches the border.

    Args:
        fill: function from inputs (clip, channel, frequency, time) to what replaces masked bins. None blurs the clip
            along the axis in which the scheme looks for the region, with a standard deviation of a quarter of the
            axis: along frequency for `frequency`, along time for the other schemes. So a sound is replaced by what is
            around it. (The mean of a band over time would leave a steady band as it is.)
        smallest: share of the largest fall that the region must keep, in (0, 1].
        cross: whether the region for `time-frequency` is the cross of a strip and a band, as in the paper, instead of
            the rectangle in which they meet.
        n_random: number of random places.
        batch_size: largest number of masked copies in a forward pass.

    Raises:
        ValueError: `smallest` is not in (0, 1], or a number is too small.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import FeatureBank, LayerAPEX, RegionSearch, basis_from_matrix, explain
        >>> layer = nn.Sequential(nn.AvgPool2d((1, 4)), nn.ReLU())
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> clip = torch.zeros(1, 1, 2, 16)
        >>> clip[..., 5:8] = 6.0  # a burst in the second of four columns
        >>> bank = FeatureBank.from_dataset(model, layer, list(clip))
        >>> apex = LayerAPEX(model, layer, basis_from_matrix(bank, "time", torch.eye(1), n_prototypes=1))
        >>> evidence = explain(apex, clip, n_prototypes=1, search=RegionSearch(n_random=3))[0].evidence[0]
        >>> evidence.region.boxes, evidence.cell.boxes
        ((Box(low=0.0, high=1.0, start=0.3125, end=0.5),), (Box(low=0.0, high=1.0, start=0.25, end=0.5),))

    Source: the numbers were chosen on training clips of the benchmark's tasks (see the guide "Read an explanation").
    """

    fill: Fill | None = None
    smallest: float = 0.8
    cross: bool = False
    n_random: int = 2
    batch_size: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "smallest", real_number(self.smallest, "smallest"))
        if not 0 < self.smallest <= 1:
            raise ValueError(f"expected `smallest` in (0, 1], but got {self.smallest}")
        for name, least in (("n_random", 0), ("batch_size", 1)):
            object.__setattr__(self, name, whole_number(getattr(self, name), name, least))

    def fill_for(self, scheme: Scheme) -> Fill:
        """The function that gives what replaces masked bins for a scheme."""
        if self.fill is not None:
            return self.fill
        return partial(blur_fill, sigma=(_BLUR, 0.0) if scheme is Scheme.FREQUENCY else (0.0, _BLUR))

    def locate(
        self,
        channels: ChannelValues,
        cells: Sequence[Region],
        target: TargetType = None,
        *,
        score: float | None = None,
    ) -> list[LocatedRegion]:
        """The region of each channel in a clip.

        Args:
            channels: the channels of the clip.
            cells: region of the peak cell of each channel, which is one of its candidates.
            target: index of the class that is explained.
            score: score of the class for the clip, to measure by how much it falls; None to leave that out.

        Returns:
            One region per channel.
        """
        if not len(cells):
            return []
        search = _Search(self, channels, None if score is None else (target, score))
        maps = channels.maps(search.fill, _POSITIONS)
        maps = None if maps is None else maps.cpu()
        chosen = search.chosen(search.candidates(maps, cells))
        random = search.random_falls(chosen)
        located = []
        for index, shape in enumerate(chosen):
            effect = None
            heat_map = None if maps is None else maps[:, index].mean(0).float()
            if search.values[index] > 0:
                fall = search.score_falls.get(shape)
                nothing = search.fires_on(index, shape, heat_map)
                effect = RegionEffect(search.falls[index], tuple(random[index]), fall, nothing)
            located.append(LocatedRegion(Region(tuple(map(channels.bins.box, shape))), effect, heat_map))
        return located


class _Search:
    """The search in one clip.

    Args:
        settings: the settings.
        channels: the channels of the clip.
        explained: the class that is explained and its score for the clip; None without a class.

    Attributes:
        values: value of each channel for the clip, (channel,).
        falls: fall of each channel when its chosen region is masked, as a share of its value.
        score_falls: fall of the score of the explained class under each candidate.
    """

    def __init__(
        self, settings: RegionSearch, channels: ChannelValues, explained: tuple[TargetType, float] | None
    ) -> None:
        assert channels.on_clip is not None
        self.settings = settings
        self.channels = channels
        self.explained = explained
        self.on_clip = channels.on_clip.cpu()  # (channel, row, column)
        self.values = self.on_clip.sum((1, 2))
        self.bins = channels.bins
        self.scheme = channels.at_layer.basis.scheme
        self.fill = self.bins.filled(settings.fill_for(self.scheme))
        self.falls: list[float] = []
        self.score_falls: dict[Shape, float] = {}
        self._other_clips: dict[str, Tensor] = {}

    def candidates(self, maps: Tensor | None, cells: Sequence[Region]) -> list[list[Shape]]:
        """The candidates of each channel: its peak cell, and boxes around the parts of its maps that stand out."""
        candidates = [[self._cell(cell)] for cell in cells]
        if maps is None:
            return candidates
        by_level = [boxes_around_peaks(maps.mean(0), self.scheme, level) for level in _LEVELS]
        by_level.append(boxes_around_peaks(maps[-1], self.scheme, _LEVEL_NEAR_CLIP))
        for of_channel, found in zip(candidates, zip(*by_level, strict=True), strict=True):
            of_channel += self._small_enough([self._shape(boxes) for boxes in found if boxes])
        return candidates

    def chosen(self, candidates: Sequence[Sequence[Shape]]) -> list[Shape]:
        """For each channel the smallest of its candidates that keeps most of the largest fall.

        The boxes that are chosen are masked once more with a margin. Where a part of a sound is enough for a channel to
        have its whole value, boxes that leave the ends of the sound take almost nothing.
        """
        falls = self._falls_by_shape(candidates)
        wider = [self._wider(of_channel, known[0]) for of_channel, known in zip(falls, candidates, strict=True)]
        for of_channel, of_wider in zip(falls, self._falls_by_shape(wider), strict=True):
            of_channel.update(of_wider)
        chosen = [self._smallest(of_channel) for of_channel in falls]
        self.falls = [of_channel[shape] for of_channel, shape in zip(falls, chosen, strict=True)]
        return chosen

    def random_falls(self, shapes: Sequence[Shape]) -> list[list[float]]:
        """For each channel the falls when its region is masked at random places."""
        n_random = self.settings.n_random
        if not n_random:
            return [[] for _ in shapes]
        masks = [mask for shape in shapes for mask in self._elsewhere(shape, n_random)]
        after = torch.cat([self.channels.of(batch) for batch in self._masked_batches(masks)])
        falls = self._falls(after).unflatten(0, (len(shapes), n_random))  # (region, place, channel)
        return [falls[index, :, index].tolist() for index in range(len(shapes))]

    def fires_on(self, channel: int, shape: Shape, heat_map: Tensor | None) -> str:
        """What a channel fires on in its region, where that is no sound."""
        silent, shifted = (partial(self._on_other_clip, channel, name) for name in ("silent", "shifted"))
        places = self.channels.at_layer.basis.origin.places
        return fires_on(self.mask(shape), self._levels, self.on_clip[channel], silent, shifted, heat_map, places)

    @cached_property
    def _levels(self) -> Tensor:
        return self.bins.levels.cpu()

    def _on_other_clip(self, channel: int, name: str) -> Tensor:
        """A channel on the grid for the silent or the shifted clip, which runs when the first channel asks for it."""
        if name not in self._other_clips:
            other = self.bins.silent if name == "silent" else self.bins.values.roll(self.bins.n_columns // 2, 3)
            self._other_clips[name] = self.channels.on_grid(other)[0].cpu()
        return self._other_clips[name][channel]

    def mask(self, shape: Shape) -> Tensor:
        """The bins of some rectangles, bool (frequency, time)."""
        inside = torch.zeros(self.bins.n_rows, self.bins.n_columns, dtype=torch.bool)
        for low, high, start, end in shape:
            inside[low:high, start:end] = True
        return inside

    def _size(self, shape: Shape) -> float:
        """The share of the clip that a region covers."""
        return self.mask(shape).float().mean().item()

    def _small_enough(self, shapes: list[Shape]) -> list[Shape]:
        """The regions of at most a quarter of the clip; where there are none, the smallest of at most half of it."""
        small = [shape for shape in shapes if self._size(shape) <= _LARGEST]
        of_long_sound = [shape for shape in shapes if self._size(shape) <= _LARGEST_OF_ALL]
        return small or sorted(of_long_sound, key=self._size)[:1]

    def _smallest(self, falls: dict[Shape, float]) -> Shape:
        """The smallest region that keeps most of the largest fall."""
        largest = max(falls.values())
        enough = [shape for shape, fall in falls.items() if fall >= min(self.settings.smallest * largest, largest)]
        return min(enough, key=self._size)

    def _wider(self, falls: dict[Shape, float], cell: Shape) -> list[Shape]:
        """The smallest such region with a margin, unless it is the peak cell, known already or too large."""
        shape = self._smallest(falls)
        wider = tuple(widened(shape, self.bins.n_rows, self.bins.n_columns))
        largest = _LARGEST if self._size(shape) <= _LARGEST else _LARGEST_OF_ALL
        return [] if shape == cell or wider in falls or self._size(wider) > largest else [wider]

    def _elsewhere(self, shape: Shape, n_places: int) -> list[Tensor]:
        """The region at random places; the strip and the band of a cross move independently."""
        # Every region has its own generator, so that its places do not depend on the other channels of the search.
        generator = torch.Generator().manual_seed(0)
        parts = [self.mask((box,)) for box in shape] if self._is_cross() else [self.mask(shape)]
        return [torch.stack([elsewhere(part, generator) for part in parts]).any(0) for _ in range(n_places)]

    def _is_cross(self) -> bool:
        return self.settings.cross and self.scheme is Scheme.TIME_FREQUENCY

    def _shape(self, boxes: Sequence[Rectangle]) -> Shape:
        if not self._is_cross():
            return tuple(boxes)
        low, high, start, end = boxes[0]
        return (0, self.bins.n_rows, start, end), (low, high, 0, self.bins.n_columns)

    def _cell(self, cell: Region) -> Shape:
        return tuple(
            (
                *_bins_between(box.low, box.high, self.bins.n_rows),
                *_bins_between(box.start, box.end, self.bins.n_columns),
            )
            for box in cell.boxes
        )

    def _falls_by_shape(self, shapes: Sequence[Sequence[Shape]]) -> list[dict[Shape, float]]:
        """For each channel the fall that masking each of its shapes gives; equal shapes are masked once."""
        different = list(dict.fromkeys(shape for of_channel in shapes for shape in of_channel))
        if not different:
            return [{} for _ in shapes]
        batches = self._masked_batches([self.mask(shape) for shape in different])
        if self.explained is None:
            after = torch.cat([self.channels.of(batch) for batch in batches])
        else:
            target, score = self.explained
            values, scores = zip(*(self.channels.with_scores(batch, target) for batch in batches), strict=True)
            after = torch.cat(values)
            self.score_falls.update(zip(different, (score - torch.cat(scores)).tolist(), strict=True))
        falls = self._falls(after)  # (shape, channel)
        return [
            {shape: falls[different.index(shape), channel].item() for shape in of_channel}
            for channel, of_channel in enumerate(shapes)
        ]

    def _falls(self, after: Tensor) -> Tensor:
        """The fall of each channel as a share of its value, from its values under masks; 0 without a value.

        Args:
            after: (mask, channel).
        """
        after = after.cpu()
        return torch.where(self.values > 0, (self.values - after) / self.values, torch.zeros_like(after))

    def _masked_batches(self, masks: Sequence[Tensor]) -> Iterator[Tensor]:
        """Copies of the clip, each with the bins of one mask replaced; only one batch is in memory at a time."""
        size = self.settings.batch_size
        for first in range(0, len(masks), size):
            batch = torch.stack(list(masks[first : first + size]))[:, None]  # (copy, 1, frequency, time)
            yield masked(self.bins.values, self.fill, batch.to(self.fill.device))


def _bins_between(first: float, last: float, n_bins: int) -> tuple[int, int]:
    """The first bin of a part of an axis that is given by fractions, and the bin after the last; at least one bin."""
    start = round(first * n_bins)
    stop = round(last * n_bins)
    if start < stop:
        return start, stop
    middle = min(int((first + last) / 2 * n_bins), n_bins - 1)
    return middle, middle + 1
