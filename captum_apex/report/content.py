"""What is on the pages, as plain data: texts and numbers as JSON takes them, and the pictures and sounds to store."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from captum_apex.audio.clip import Clip, encodable, level_limits
from captum_apex.audio.regions import Box, Region
from captum_apex.explanations.evidence import Evidence, Prototype
from captum_apex.explanations.explanation import Explanation
from captum_apex.figures.charts import remainders
from captum_apex.figures.colours import DASHED, LEVELS, REGIONS, SIGNED, colour_steps
from captum_apex.figures.effects import dashed, effect_lines
from captum_apex.figures.outlines import outline
from captum_apex.figures.panels import Limits, as_array
from captum_apex.figures.signed_maps import channel_map, map_scale, signed_map
from captum_apex.figures.ticks import hertz_ticks, second_ticks
from captum_apex.report.page import Page

__all__ = ["Content", "Picture", "Sound", "content", "level_picture"]

_N_SCORES = 5  # the highest scores that a page lists
_LARGEST_MAP = (64, 128)  # rows and columns of the picture of a channel's map
_QUIET = 0.15  # seconds before and after the sound of a region


@dataclass(frozen=True)
class Picture:
    """A picture to store.

    Args:
        pixels: indices of colours, uint8 (frequency, time), the lowest frequency first.
        colours: name of the colour map, of 256 colours.
        clear: whether the middle of the colours is transparent, and the ends are opaque.

    Example:
        >>> import numpy as np
        >>> from captum_apex.report.content import Picture
        >>> Picture(np.zeros((2, 3), dtype=np.uint8), "magma").pixels.shape
        (2, 3)
    """

    pixels: NDArray[np.uint8]
    colours: str
    clear: bool = False


@dataclass(frozen=True)
class Sound:
    """A sound to store.

    Args:
        clip: the clip, with a waveform.
        region: a region of the clip; None for the whole clip.
        without: whether the sound is the clip without the region; otherwise it is the region alone.
        first: the first sample that is stored.
        last: the sample after the last one that is stored.
        whole: name of the sound of the whole clip, which the sound of a region is cut out of.

    Example:
        >>> import torch
        >>> from captum_apex import Clip
        >>> from captum_apex.report.content import Sound
        >>> Sound(Clip.from_waveform(torch.ones(4000), 8000), last=4000).first
        0
    """

    clip: Clip
    region: Region | None = None
    without: bool = False
    first: int = 0
    last: int | None = None
    whole: str = ""


@dataclass(frozen=True)
class Content:
    """Everything that is on the pages.

    Args:
        facts: texts and numbers, as JSON takes them. They refer to clips, pictures and sounds by name.
        pictures: each picture by its name.
        sounds: each sound by its name.

    Example:
        >>> from captum_apex.report.content import Content
        >>> Content({"title": "Why?"}).facts["title"]
        'Why?'
    """

    facts: dict[str, Any]
    pictures: dict[str, Picture] = field(default_factory=dict)
    sounds: dict[str, Sound] = field(default_factory=dict)


def content(pages: Sequence[Page], title: str) -> Content:
    """Collects everything that is on the pages; equal pictures, sounds and clips are there once.

    Args:
        pages: one page per clip.
        title: title of the whole.

    Returns:
        The content, with names that follow from what they name.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, Explanation, Scheme, SpectrogramAxes
        >>> from captum_apex.report import Page
        >>> from captum_apex.report.content import content
        >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80), name="new.wav")
        >>> time = Explanation(Scheme("time"), 0, score=2.0, score_without_layer=0.5, evidence=(), total=1.5)
        >>> content([Page(clip, [time], {}, ["dog"])], "Why?").facts["pages"][0]["explained"]
        'dog'
    """
    limits = level_limits(clip for page in pages for clip in (page.clip, *page.shown_prototypes.values()))
    collector = _Collector(limits)
    facts = {
        "title": encodable(title),
        "level": {"low": limits[0], "high": limits[1], "colours": colour_steps(LEVELS)},
        "signed": colour_steps(SIGNED),
        "lines": list(REGIONS),
        "dashes": list(DASHED[1]),
        "pages": [collector.page(page) for page in pages],
        "clips": collector.clips,
    }
    return Content(facts, collector.pictures, collector.sounds)


def level_picture(clip: Clip, limits: Limits) -> Picture:
    """The spectrogram of a clip.

    Args:
        clip: the clip.
        limits: lowest and highest level of the colours, in dB.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.report.content import level_picture
        >>> clip = Clip(torch.tensor([[-60.0], [-30.0], [0.0]]), SpectrogramAxes(8000, 4, 4))
        >>> level_picture(clip, (-60.0, 0.0)).pixels.tolist()
        [[0], [128], [255]]
    """
    low, high = limits
    return Picture(_colour_indices((as_array(clip.decibels).astype(float) - low) / (high - low)), LEVELS)


def _map_picture(values: ArrayLike | Tensor, name: str, clip: Clip) -> Picture:
    """An attribution map with zero in the middle of its colours, averaged where it is finer than the clip's picture."""
    return _signed_picture(signed_map(values, name, clip), clip.decibels.shape)


def _channel_picture(values: Tensor, clip: Clip) -> Picture:
    """The map of a channel, to lay over the clip's picture."""
    return _signed_picture(channel_map(values, clip), _LARGEST_MAP, clear=True)


def _signed_picture(values: NDArray[np.float64], largest: Sequence[int], *, clear: bool = False) -> Picture:
    """A map with zero in the middle of its colours, averaged where it has more rows or columns than the largest."""
    n_rows, n_columns = map(min, values.shape, largest)
    averaged = adaptive_avg_pool2d(torch.from_numpy(values)[None], (n_rows, n_columns))[0].numpy()
    return Picture(_colour_indices(0.5 + averaged / (2 * (map_scale(averaged) or 1.0))), SIGNED, clear)


def _colour_indices(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Indices of the 256 colours of a colour map; shares of 0 and 1 are its ends."""
    return np.clip(np.round(shares * 255), 0, 255).astype(np.uint8)


class _Collector:
    """Turns pages into facts, and collects the clips, pictures and sounds that they refer to.

    Args:
        limits: lowest and highest level of the colours, in dB.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.clips: dict[str, dict[str, Any]] = {}
        self.pictures: dict[str, Picture] = {}
        self.sounds: dict[str, Sound] = {}
        self._clip_names: dict[Clip, str] = {}
        self._waveform_names: dict[Clip, str] = {}
        self._regions: dict[tuple[Clip, Region], dict[str, Any]] = {}

    def page(self, page: Page) -> dict[str, Any]:
        return {
            "clip": self._clip(page.clip),
            "explained": page.class_name(page.explained if page.explained is not None else page.target),
            "score": page.explanations[0].score,
            "scores": _highest_scores(page),
            "perspectives": [self._perspective(page, explanation) for explanation in page.explanations],
            "maps": [
                {"name": encodable(name), "picture": self._picture(_map_picture(values, name, page.clip))}
                for name, values in page.maps.items()
            ],
        }

    def _perspective(self, page: Page, explanation: Explanation) -> dict[str, Any]:
        return {
            "scheme": str(explanation.scheme),
            "evidence": [self._evidence(page, channel) for channel in explanation.evidence],
            "before": explanation.score_without_layer,
            "remainders": [{"name": name, "value": value} for name, value in remainders(explanation).items()],
            "score": explanation.score,
        }

    def _evidence(self, page: Page, evidence: Evidence) -> dict[str, Any]:
        return {
            "channel": evidence.channel,
            "side": evidence.side,
            "contribution": evidence.contribution,
            "purity": evidence.purity,
            **self._region(page.clip, evidence.region),
            **self._effect(page.clip, evidence),
            "without": self._sound(page.clip, evidence.region, without=True),
            "prototypes": [self._prototype(page, prototype) for prototype in evidence.prototypes],
        }

    def _prototype(self, page: Page, prototype: Prototype) -> dict[str, Any]:
        clip = page.shown_prototypes[prototype.index]
        return {
            "index": prototype.index,
            "clip": self._clip(clip),
            "class": page.class_name(prototype.label) or encodable(clip.label),
            "purity": prototype.purity,
            **self._region(clip, prototype.region),
            **self._effect(clip, prototype),
        }

    def _region(self, clip: Clip, region: Region) -> dict[str, Any]:
        """Where a region is, and its sound; a prototype stands on many pages with the same region."""
        if (clip, region) not in self._regions:
            self._regions[clip, region] = self._located(clip, region)
        return self._regions[clip, region]

    def _located(self, clip: Clip, region: Region) -> dict[str, Any]:
        boxes = [_box_on_picture(clip, box) for box in region.boxes]
        leftmost = min(boxes, key=lambda box: (box.start, -box.high))
        return {
            "outline": _svg_path(boxes),
            "corner": [leftmost.start, 1 - leftmost.high],
            "boxes": [_place(clip, box) for box in region.boxes],
            "region": self._sound(clip, region),
        }

    def _effect(self, clip: Clip, located: Evidence | Prototype) -> dict[str, Any]:
        """What masking the region takes away, whether its outline is dashed, and the map of the channel."""
        shown = None if located.map is None else self._picture(_channel_picture(located.map, clip))
        return {"effect": effect_lines(located.effect), "dashed": dashed(located.effect), "map": shown}

    def _clip(self, clip: Clip) -> str:
        """The name of a clip."""
        if clip not in self._clip_names:
            picture = self._picture(level_picture(clip, self.limits))
            facts = _clip_facts(clip) | {"picture": picture, "sound": self._sound(clip)}
            name = _name_of(facts)
            self._clip_names[clip] = name
            self.clips[name] = facts
        return self._clip_names[clip]

    def _picture(self, picture: Picture) -> str:
        """The name of a picture."""
        name = _name_of((picture.colours, picture.clear, picture.pixels.shape, _name_of(picture.pixels.tobytes())))
        self.pictures[name] = picture
        return name

    def _sound(self, clip: Clip, region: Region | None = None, *, without: bool = False) -> dict[str, Any] | None:
        """The name of a sound, and the second of the clip at which it begins; None for a clip without a waveform."""
        if clip.waveform is None:
            return None
        if clip not in self._waveform_names:
            self._waveform_names[clip] = _name_of(as_array(clip.waveform).tobytes())
        name = _name_of((self._waveform_names[clip], clip.axes, clip.decibels.shape, clip.of_samples, region, without))
        if name not in self.sounds:
            first, last = (0, len(clip.waveform)) if region is None or without else _samples_around(clip, region)
            whole = "" if region is None else self._sound(clip)["sound"]  # type: ignore[index]  # it has a waveform
            self.sounds[name] = Sound(clip, region, without, first, last, whole)
        return {"sound": name, "start": self.sounds[name].first / clip.sample_rate}


def _name_of(value: Any) -> str:
    """A name that is the same for equal values, and differs for others."""
    data = value if isinstance(value, bytes) else repr(value).encode(errors="replace")
    return hashlib.sha256(data).hexdigest()[:16]


def _samples_around(clip: Clip, region: Region) -> tuple[int, int]:
    """The first sample of a region's time, with some quiet around, and the sample after the last one."""
    assert clip.waveform is not None
    places = [clip.place(box) for box in region.boxes]
    rate = clip.sample_rate
    last = math.ceil((max(place.end for place in places) + _QUIET) * rate)
    first = int((min(place.start for place in places) - _QUIET) * rate)
    # The input of a short clip can be padded: then the region may lie past the end of the waveform.
    first = max(0, min(first, len(clip.waveform) - int(2 * _QUIET * rate)))
    return first, last


def _clip_facts(clip: Clip) -> dict[str, Any]:
    """A clip's texts, the ticks of its picture, and its time axis: where second 0 is, and the width of a second."""
    axes = clip.axes
    n_bins, n_frames = clip.decibels.shape
    start = axes.frame_position(0.0) / n_frames
    seconds = second_ticks(axes.seconds(float(n_frames)))
    return {
        "title": clip.title,
        "label": encodable(clip.label),
        "duration": clip.duration,
        "start": start,
        "rate": axes.frame_position(1.0) / n_frames - start,
        "seconds": _ticks(seconds, lambda value: axes.frame_position(value) / n_frames),
        "hertz": _ticks(hertz_ticks(axes), lambda value: axes.bin_position(value) / n_bins),
    }


def _ticks(values: Sequence[float], place: Callable[[float], float]) -> list[dict[str, float]]:
    """The values that lie on the picture, with their places as shares of its side."""
    return [{"value": value, "at": place(value)} for value in values if 0 <= place(value) <= 1]


def _highest_scores(page: Page) -> list[dict[str, Any]]:
    """The highest scores, and the score of the explained class where it is not among them."""
    order = sorted(range(len(page.scores)), key=lambda label: -page.scores[label])
    listed = [label for rank, label in enumerate(order) if rank < _N_SCORES or label == page.explained]
    return [
        {
            "name": page.class_name(label),
            "score": float(page.scores[label]),
            "rank": order.index(label) + 1,
            "explained": label == page.explained,
        }
        for label in listed
    ]


def _box_on_picture(clip: Clip, box: Box) -> Box:
    """A box as shares of the picture, which for a model that takes waveforms has other axes than the input."""
    if not clip.of_samples:
        return box
    n_bins, n_frames = clip.decibels.shape
    low, high = (clip.axes.bin_position(clip.hertz(side)) / n_bins for side in (box.low, box.high))
    start, end = (clip.axes.frame_position(clip.seconds(side)) / n_frames for side in (box.start, box.end))
    return Box(max(low, 0.0), min(high, 1.0), start, min(end, 1.0))


def _svg_path(boxes: Sequence[Box]) -> str:
    """The outline of boxes as an SVG path; x to the right and y downward, both from 0 to 1.

    >>> from captum_apex import Box
    >>> from captum_apex.report.content import _svg_path
    >>> _svg_path([Box(low=0.0, high=0.5, start=0.25, end=0.5)])
    'M0.25 1L0.5 1L0.5 0.5L0.25 0.5Z'
    """
    loops = ["L".join(f"{_digits(x)} {_digits(1 - y)}" for x, y in loop) for loop in outline(boxes)]
    return "".join(f"M{loop}Z" for loop in loops)


def _digits(value: float) -> str:
    return f"{value:.5f}".rstrip("0").rstrip(".")


def _place(clip: Clip, box: Box) -> dict[str, Any]:
    """The place of a box in Hz and seconds; None for an axis that it covers."""
    place = clip.place(box)
    return {
        "hertz": None if box.low <= 0 and box.high >= 1 else [place.low, place.high],
        "seconds": None if box.start <= 0 and box.end >= 1 else [place.start, place.end],
    }
