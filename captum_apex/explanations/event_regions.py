"""The regions of the events of a recording, found at the input of one window each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.audio.regions import Box, Region
from captum_apex.bases.schemes import Scheme
from captum_apex.classifiers.classifier import Classifier
from captum_apex.explanations.clip_channels import at_layer_of, channels_by_contribution
from captum_apex.explanations.events import ChannelEvent
from captum_apex.explanations.merging import EventInWindow
from captum_apex.layers.cell_places import CellLine
from captum_apex.layers.models import device_of, model_of
from captum_apex.layers.padding import lengths_of
from captum_apex.locating.bins import Bins, Rectangle
from captum_apex.locating.region_search import LocatedRegion, RegionSearch
from captum_apex.progress import bar_settings
from captum_apex.recordings.windows import Windows

__all__ = ["EventRegions"]

_LARGEST = 0.25  # largest share of a window that an event may fill if its effect is compared with random places


class EventRegions:
    """Finds the regions of events of channels at the input, and gives the events the edges of their regions.

    Args:
        apex: the attribution object.
        classifier: the classifier.
        windows: the windows of the recording.
        search: how regions are found. An event is a rectangle, so the search is for rectangles, whatever its `cross`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import Classifier, LayerAPEX, PrototypeBasis, RegionSearch
        >>> from captum_apex.explanations import ChannelEvent
        >>> from captum_apex.explanations.event_regions import EventRegions
        >>> from captum_apex.explanations.merging import EventInWindow
        >>> from captum_apex.recordings.windows import Windows
        >>> layer = nn.Sequential(nn.AvgPool2d((1, 4)), nn.ReLU())
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> classifier = Classifier(model, lambda waveform: waveform[None, None], 1, ["dog"])
        >>> waveform = torch.zeros(32)
        >>> waveform[21:24] = 6.0
        >>> windows = Windows.of(waveform, 1, 16.0, 16.0)
        >>> apex = LayerAPEX(model, layer, PrototypeBasis(torch.eye(1), "time"))
        >>> event = ChannelEvent(20.0, 24.0, None, None, 0, "dog", 0.9, channel=0, side=1, contribution=1.0)
        >>> regions = EventRegions(apex, classifier, windows, RegionSearch())
        >>> refined = regions.refined([EventInWindow(event, 16.0, columns=(1, 2), rows=(0, 1), n_rows=1)])
        >>> refined[0].start, refined[0].end, refined[0].effect.better_than_random
        (21.0, 24.0, True)
    """

    def __init__(self, apex: APEX | LayerAPEX, classifier: Classifier, windows: Windows, search: RegionSearch) -> None:
        self.apex = apex
        self.at_layer = at_layer_of(apex)
        if isinstance(apex, LayerAPEX) and classifier.input_layout is not None:
            self.apex = APEX(
                apex.forward_func,
                apex.layer,
                apex.basis,
                input_layout=classifier.input_layout,
                columns=apex.columns,
            )
        self.classifier = classifier
        self.windows = windows
        self.search = replace(search, cross=False)

    def refined(self, events: Sequence[EventInWindow], *, progress: bool = False) -> list[ChannelEvent]:
        """The events with the edges and the effects of their regions, in the same order.

        Args:
            events: the events with their windows.
            progress: whether to show a progress bar.

        Raises:
            ValueError: the model or the search fails for a window.
        """
        groups: dict[tuple[float, int], list[int]] = {}
        for index, each in enumerate(events):
            groups.setdefault((each.window, each.event.label), []).append(index)
        refined = [each.event for each in events]
        with tqdm(
            total=len(events), unit="channel", desc="refining each channel of the events", **bar_settings(progress)
        ) as bar:
            for (start, label), indices in sorted(groups.items()):
                # The search runs the user's model on altered inputs, which can raise anything.
                try:
                    of_window = self._refined_in_window(start, label, [events[index] for index in indices])
                except Exception as error:
                    raise ValueError(
                        f"expected regions that can be found by masking, but the search in the window at {start:g} s "
                        f"raised {type(error).__name__}: {error}; leave out `search` (--refine on the command line)"
                    ) from error
                for index, event in zip(indices, of_window, strict=True):
                    refined[index] = event
                bar.update(len(indices))
        return refined

    def _refined_in_window(self, start: float, label: int, events: Sequence[EventInWindow]) -> list[ChannelEvent]:
        """The events of one class in a window that begins at `start`, in s."""
        target = label if len(self.classifier.class_names) > 1 else None
        inputs, arguments = self._inputs(start)
        decomposition = self.at_layer.decompose(inputs, target, arguments or None)
        channels = [each.event.channel for each in events]
        values = channels_by_contribution(
            self.apex, inputs, arguments, decomposition, 0, channels, self.search.batch_size
        )
        n_rows, n_columns = values.weights.shape[1:]
        spans = [self._columns_around(each, n_columns) for each in events]
        inside = torch.stack([_between(*span, n_columns) for span in spans])[:, None].to(values.weights)
        assert values.on_clip is not None
        values = replace(values, weights=values.weights * inside, on_clip=values.on_clip * inside)
        places = self.at_layer.basis.origin.places
        lines = places.rows(n_rows), places.columns(n_columns)
        rectangles = [_rectangle(each, span, *lines, values.bins) for each, span in zip(events, spans, strict=True)]
        cells = [_cell(rectangle, values.bins) for rectangle in rectangles]
        located = self.search.locate(values, cells, target, score=decomposition.score.item())
        return [
            self._with_region(each, region, rectangle, values.bins, lines[1])
            for each, region, rectangle in zip(events, located, rectangles, strict=True)
        ]

    def _inputs(self, start: float) -> tuple[Tensor, tuple]:
        """The input of the model for a window, (1, ...), and the further arguments of the model."""
        waveform = self.windows.waveform(round(start * self.windows.sample_rate))
        device = device_of(model_of(self.at_layer.forward_func) or self.at_layer.layer)
        inputs = self.classifier.inputs(waveform, f"the window at {start:g} s")[None].to(device)
        return inputs, lengths_of(self.at_layer.columns, inputs)

    def _columns_around(self, each: EventInWindow, n_columns: int) -> tuple[int, int]:
        """The columns of an event in its window and one more on each side, into which the sound may reach."""
        if self.at_layer.basis.scheme is Scheme.FREQUENCY:
            return 0, n_columns
        first, end = each.columns
        return max(min(first, n_columns - 1) - 1, 0), min(end + 1, n_columns)

    def _with_region(
        self, each: EventInWindow, located: LocatedRegion, rectangle: Rectangle, bins: Bins, columns: CellLine
    ) -> ChannelEvent:
        """An event with its region.

        Args:
            each: the event and its window.
            located: the region.
            rectangle: the columns and rows around the event, as bins.
            bins: the bins of the window.
            columns: where the layer's columns lie in the window.
        """
        event = each.event
        effect = located.effect
        if effect is None:
            return event
        if located.region.boxes == (bins.box(rectangle),):  # no smaller region takes away as much
            # A random place of a larger rectangle would overlap it, so that its effect has nothing to compare with.
            is_small = _area(rectangle) <= _LARGEST * bins.n_rows * bins.n_columns
            return replace(event, effect=effect) if is_small else event
        first, end = columns.sides(*each.columns)
        boxes = [box for box in located.region.boxes if box.start < end and first < box.end]
        if not boxes:
            return event
        if not effect.better_than_random:
            return replace(event, effect=effect)
        start, stop = self._times(each, boxes, bins.n_columns)
        low, high = self._band(event, boxes)
        return replace(event, start=start, end=stop, low=low, high=high, effect=effect)

    def _times(self, each: EventInWindow, boxes: Sequence[Box], n_frames: int) -> tuple[float, float]:
        """The start and the end of the boxes, in s; those of the event at the ends of the window, or beyond them."""
        first = min(box.start for box in boxes)
        last = max(box.end for box in boxes)
        event = each.event
        rate = self.windows.sample_rate
        start = each.window + self._seconds(first, n_frames)
        end = min(each.window + self._seconds(last, n_frames), self.windows.n_samples / rate)
        start = start if first > 0 else event.start
        end = end if last < 1 else event.end
        # Columns of the recording begin up to half a column beside those of the window.
        return (start, end) if start < end else (event.start, event.end)

    def _seconds(self, fraction: float, n_frames: int) -> float:
        """The time at a fraction of a window, in s from its start."""
        duration = self.windows.seconds
        axes = self.classifier.axes
        return fraction * duration if axes is None else min(axes.seconds(fraction * n_frames), duration)

    def _band(self, event: ChannelEvent, boxes: Sequence[Box]) -> tuple[float | None, float | None]:
        """The lower and the upper edge of the boxes, in Hz; those of the event where bands have no meaning."""
        axes = self.classifier.axes
        if axes is None or self.at_layer.basis.scheme is Scheme.TIME:
            return event.low, event.high
        low = min(box.low for box in boxes)
        high = max(box.high for box in boxes)
        if (low, high) == (0, 1):
            return None, None
        lower, upper = sorted((axes.hertz(low * axes.n_bins), axes.hertz(high * axes.n_bins)))
        return lower, upper


def _between(first: int, end: int, n_columns: int) -> Tensor:
    """The columns from `first` to `end`, exclusive, bool (time,)."""
    columns = torch.arange(n_columns)
    return (first <= columns) & (columns < end)


def _rectangle(each: EventInWindow, span: tuple[int, int], rows: CellLine, columns: CellLine, bins: Bins) -> Rectangle:
    """The bins of some columns, and of the rows of an event and one more on each side."""
    rows = CellLine.spread(1) if each.n_rows == 1 else rows
    low, high = rows.sides(max(each.rows[0] - 1, 0), min(each.rows[1] + 1, each.n_rows))
    start, end = columns.sides(*span)
    return (
        math.floor(round(low * bins.n_rows, 6)),
        math.ceil(round(high * bins.n_rows, 6)),
        math.floor(round(start * bins.n_columns, 6)),
        math.ceil(round(end * bins.n_columns, 6)),
    )


def _cell(rectangle: Rectangle, bins: Bins) -> Region:
    """A rectangle of bins as a region, in fractions of the bins."""
    low, high, start, end = rectangle
    return Region((Box(low / bins.n_rows, high / bins.n_rows, start / bins.n_columns, end / bins.n_columns),))


def _area(rectangle: Rectangle) -> int:
    low, high, start, end = rectangle
    return (high - low) * (end - start)
