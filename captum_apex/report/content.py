"""What is on the pages, as plain data: texts and numbers as JSON takes them, and the pictures and sounds to store."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from captum_apex.audio.clip import Clip
from captum_apex.audio.regions import Box, Place, Region, in_order
from captum_apex.explanations.evidence import Evidence, Prototype
from captum_apex.explanations.explanation import Explanation
from captum_apex.figures.charts import remainders
from captum_apex.figures.colours import DASHED, LEVELS, REGIONS, SIGNED, colour_steps
from captum_apex.figures.effects import dashed, effect_lines
from captum_apex.figures.outlines import outline
from captum_apex.figures.panels import as_array
from captum_apex.figures.ticks import hertz_ticks, second_ticks
from captum_apex.locating.region_effect import RegionEffect
from captum_apex.report.page import Page
from captum_apex.report.page_pictures import (
    Picture,
    channel_picture,
    level_picture,
    level_span,
    loudest,
    map_picture,
)
from captum_apex.texts import encodable, second_digits, short_names

__all__ = ["Content", "Picture", "Sound", "content"]

_N_SCORES = 5  # the highest scores that a page lists
_DIGITS = 6  # significant digits of places, as in the tables of the evidence: both are rounded further alike
_DIGITS_OF_ENDS = 2  # significant digits of the numbers at the ends of a frequency axis
_QUIET = 0.15  # seconds before and after the sound of a region


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
    span = level_span(clip for page in pages for clip in (page.clip, *page.shown_prototypes.values()))
    collector = _Collector(span)
    names = short_names([page.clip.name for page in pages])
    facts: dict[str, Any] = {
        "title": encodable(title),
        "level": {"span": span, "colours": colour_steps(LEVELS)},
        "signed": colour_steps(SIGNED),
        "lines": list(REGIONS),
        "dashes": list(DASHED[1]),
        "pages": [collector.page(page) | {"name": name} for page, name in zip(pages, names, strict=True)],
        "clips": collector.clips,
    }
    facts["digits"] = second_digits(max((clip["duration"] for clip in collector.clips.values()), default=0.0))
    return Content(facts, collector.pictures, collector.sounds)


class _Collector:
    """Turns pages into facts, and collects the clips, pictures and sounds that they refer to.

    Args:
        span: the levels that the colours show, in dB below the loudest level of each clip.
    """

    def __init__(self, span: float) -> None:
        self.span = span
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
            "probability": page.probability,
            "exclusive": page.exclusive,
            "first": page.first_choice,
            "detects": page.detects,
            "right": page.right,
            "silence": page.silence_doubt,
            "scores": _highest_scores(page),
            "perspectives": [self._perspective(page, explanation) for explanation in page.explanations],
            "maps": [
                {"name": encodable(name), "picture": self._picture(map_picture(values, name, page.clip))}
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
            "basis": explanation.record.get("basis", ""),
        }

    def _evidence(self, page: Page, evidence: Evidence) -> dict[str, Any]:
        located = self._region(page.clip, evidence.region)
        return {
            "channel": evidence.channel,
            "side": evidence.side,
            "contribution": evidence.contribution,
            "purity": evidence.purity,
            **located,
            **self._effect(page.clip, evidence),
            "elsewhere": _boxes(page.clip, page.clip.folded(evidence.elsewhere)),
            "without": None if located["silent"] else self._sound(page.clip, evidence.region, without=True),
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
        region = clip.folded(region)
        silent = clip.is_silent(region)
        places = clip.places(region)
        boxes = [clip.on_picture(box) for box in region.boxes]
        leftmost = min(boxes, key=lambda box: (box.start, -box.high))
        return {
            "outline": _svg_path(boxes),
            "tagged": [leftmost.start, 1 - leftmost.high, leftmost.end, 1 - leftmost.low],
            "thinnest": _rounded(min(min(box.end - box.start, box.high - box.low) for box in boxes)),
            "boxes": _boxes(clip, region),
            "ends": _ends(places),
            "silent": silent,
            "region": None if silent else self._sound(clip, region),
        }

    def _effect(self, clip: Clip, located: Evidence | Prototype) -> dict[str, Any]:
        """What masking the region takes away, whether its outline is dashed, and the map of the channel."""
        shown = None if located.map is None else self._picture(channel_picture(located.map, clip))
        lines = {"effect": effect_lines(located.effect), "dashed": dashed(located.effect)}
        return {**lines, "masking": _masking(located.effect), "map": shown}

    def _clip(self, clip: Clip) -> str:
        """The name of a clip."""
        if clip not in self._clip_names:
            picture = self._picture(level_picture(clip, self.span))
            facts = _clip_facts(clip) | {"picture": picture, "loudest": loudest(clip), "sound": self._sound(clip)}
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
        input_axes = (clip.axes, clip.decibels.shape, clip.of_samples, clip.flipped)
        name = _name_of((self._waveform_names[clip], *input_axes, region, without))
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
    places = clip.places(region)
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
    n_heard = clip.heard.shape[1]
    start = axes.frame_position(0.0) / n_frames
    seconds = second_ticks(axes.seconds(float(n_frames)))
    return {
        "title": clip.title,
        "name": encodable(clip.name),
        "file": PurePath(encodable(clip.name)).name,
        "label": encodable(clip.label),
        "duration": clip.duration,
        "filled": None if n_heard == n_frames else n_heard / n_frames,
        "filled_text": clip.filled_text,
        "start": start,
        "rate": axes.frame_position(1.0) / n_frames - start,
        "seconds": _ticks(seconds, lambda value: axes.frame_position(value) / n_frames),
        "hertz": _ticks(hertz_ticks(axes), lambda value: axes.bin_position(value) / n_bins),
        "band": [float(f"{axes.hertz(float(end)):.{_DIGITS_OF_ENDS}g}") for end in (0, n_bins)],
    }


def _ticks(values: Sequence[float], place: Callable[[float], float]) -> list[dict[str, float]]:
    """The values that lie on the picture, with their places as shares of its side."""
    return [{"value": value, "at": place(value)} for value in values if 0 <= place(value) <= 1]


def _highest_scores(page: Page) -> list[dict[str, Any]]:
    """The highest scores, and the score of the explained class where it is not among them."""
    order = sorted(range(len(page.scores)), key=lambda label: -page.scores[label])
    probabilities: Sequence[float | None] = page.probabilities or [None] * len(page.scores)
    listed = [label for rank, label in enumerate(order) if rank < _N_SCORES or label == page.explained]
    return [
        {
            "name": page.class_name(label),
            "score": float(page.scores[label]),
            "probability": probabilities[label],
            "rank": order.index(label) + 1,
            "explained": label == page.explained,
        }
        for label in listed
    ]


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


def _boxes(clip: Clip, region: Region) -> list[dict[str, Any]]:
    return [_sides(box, place) for box, place in in_order(region.boxes, clip.places(region))]


def _sides(box: Box, place: Place) -> dict[str, Any]:
    """The sides of a box in Hz and seconds; None for an axis that it covers."""
    return {
        "hertz": None if box.low <= 0 and box.high >= 1 else [_rounded(place.low), _rounded(place.high)],
        "seconds": None if box.start <= 0 and box.end >= 1 else [_rounded(place.start), _rounded(place.end)],
    }


def _ends(places: Sequence[Place]) -> dict[str, float]:
    """The time and the band from the first to the last box of a region, in seconds and Hz."""
    return {
        "start": _rounded(min(place.start for place in places)),
        "end": _rounded(max(place.end for place in places)),
        "low": _rounded(min(place.low for place in places)),
        "high": _rounded(max(place.high for place in places)),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _masking(effect: RegionEffect | None) -> dict[str, Any] | None:
    """What masking a region takes away, as numbers; None where it is not known."""
    if effect is None:
        return None
    return {
        "channel": effect.channel,
        "random": effect.mean_random if effect.random else None,
        "score": effect.score,
        "doubts": ", ".join(effect.doubts),
    }
