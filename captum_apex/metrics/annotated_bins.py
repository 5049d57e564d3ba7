"""The bins of a clip in which annotated sounds lie: the truth that measures of localisation ask for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from captum_apex.audio.clip import Clip
from captum_apex.audio.regions import Box, Place, Region
from captum_apex.numbers import real_number
from captum_apex.recordings.annotation_files import Annotation

__all__ = ["annotated_bins", "time_segments"]

_ROUNDING = 1e-9  # of a segment: a frame this close to an edge lies at the edge


def annotated_bins(
    annotations: Iterable[Annotation], clip: Clip, class_names: Sequence[str], *, start: float = 0.0
) -> Tensor:
    """The bins of the model's input in which each class is annotated.

    A bin belongs to an annotation if its centre lies in it. An annotation that lies between the centres of two bins has
    the bin in which its middle lies, so that a click is not lost. Annotations without frequencies have all of them.
    Where a short file is repeated, its annotations are, too.

    Args:
        annotations: annotations of the recording; those of other classes do not count.
        clip: the clip, as `Classifier.drawn_whole` gives it.
        class_names: names of the classes, in the order of the result.
        start: second of the recording at which the clip begins.

    Returns:
        bool tensor of shape (class, frequency, time); (class, sample) for a model that takes waveforms.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.metrics import annotated_bins
        >>> from captum_apex.recordings import Annotation
        >>> clip = Clip(torch.zeros(3, 4), SpectrogramAxes(4000, 4, 1000))  # 0, 1 and 2 kHz at 0, 0.25, 0.5 and 0.75 s
        >>> bark = Annotation("dog", 10.2, 10.6, low=500.0, high=1500.0)
        >>> annotated_bins([bark], clip, ["dog", "rain"], start=10.0).int()
        tensor([[[0, 0, 0, 0],
                 [0, 1, 1, 0],
                 [0, 0, 0, 0]],
        <BLANKLINE>
                [[0, 0, 0, 0],
                 [0, 0, 0, 0],
                 [0, 0, 0, 0]]], dtype=torch.int32)
    """
    names = list(class_names)
    n_rows, n_columns = (1, _n_samples(clip)) if clip.of_samples else clip.decibels.shape
    bins = torch.zeros(len(names), n_rows, n_columns, dtype=torch.bool)
    for annotation in annotations:
        if annotation.label in names:
            boxes = (clip.box(place) for place in _places(annotation, clip, start))
            kept = tuple(_with_a_centre(box, n_rows, n_columns) for box in boxes if box.low < box.high)
            bins[names.index(annotation.label)] |= Region(kept).mask(n_rows, n_columns)
    return bins[:, 0] if clip.of_samples else bins


def time_segments(clip: Clip, seconds: float = 0.1) -> Tensor:
    """The segment of equal duration in which the centre of each frame of the model's input lies.

    Args:
        clip: the clip; its first segment begins with it.
        seconds: duration of a segment, in s.

    Returns:
        int64 tensor of shape (time,), or (sample,) for a model that takes waveforms.

    Raises:
        ValueError: the duration is not above 0.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.metrics import time_segments
        >>> time_segments(Clip(torch.zeros(3, 6), SpectrogramAxes(4000, 4, 160)), seconds=0.1)  # a frame every 40 ms
        tensor([0, 0, 0, 1, 1, 2])
    """
    if not real_number(seconds, "seconds") > 0:
        raise ValueError(f"expected `seconds` to be larger than 0, but got {seconds}")
    if clip.of_samples:
        centres = (torch.arange(_n_samples(clip), dtype=torch.float64) + 0.5) / clip.sample_rate
    else:
        centres = clip.axes.frame_centres(clip.decibels.shape[1])
    return (centres / seconds + _ROUNDING).floor().long()


def _n_samples(clip: Clip) -> int:
    assert clip.waveform is not None  # there is one in a clip of samples; this line is for the type checker
    return len(clip.waveform)


def _places(annotation: Annotation, clip: Clip, start: float) -> list[Place]:
    """The places of an annotation in the clip, of which there are several where the file is repeated."""
    low = 0.0 if annotation.low is None else annotation.low
    high = math.inf if annotation.high is None else annotation.high
    turns = [0.0] if clip.repeats is None else _turns(clip.repeats, clip.seconds(1.0))
    return [Place(low, high, annotation.start - start + turn, annotation.end - start + turn) for turn in turns]


def _turns(period: float, end: float) -> list[float]:
    return [turn * period for turn in range(math.ceil(end / period))]


def _with_a_centre(box: Box, n_rows: int, n_columns: int) -> Box:
    """The box, or where it lies between the centres of two bins, the bin in which its middle lies."""
    low, high = _side(box.low, box.high, n_rows)
    start, end = _side(box.start, box.end, n_columns)
    return Box(low, high, start, end)


def _side(first: float, last: float, n_bins: int) -> tuple[float, float]:
    next_centre = math.ceil(first * n_bins - 0.5) + 0.5
    if first >= last or next_centre < last * n_bins:
        return first, last
    middle = min(math.floor((first + last) / 2 * n_bins), n_bins - 1)
    return middle / n_bins, (middle + 1) / n_bins
