"""What the page's script shows: facts only, as JSON takes them; the words are the script's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from captum_apex.audio.clip import Clip, level_limits
from captum_apex.audio.regions import Box, Region
from captum_apex.explanations.explanation import Evidence, Explanation, Prototype
from captum_apex.figures.outlines import outline
from captum_apex.figures.ticks import hertz_ticks, second_ticks
from captum_apex.report.media import LEVELS, SIGNED, Media, colours
from captum_apex.report.page import Page

__all__ = ["content"]

TOP = 5


def content(pages: Sequence[Page], title: str) -> dict[str, Any]:
    """Everything that the page knows.

    Args:
        pages: one per clip.
        title: of the whole.

    Returns:
        Texts, numbers, lists and dictionaries; every picture, sound and clip is there once, and is referred to by its name.
    """
    level = level_limits(clip for page in pages for clip in (page.clip, *page.shown_prototypes.values()))
    facts = _Facts(Media(level))
    told = [facts.page(page) for page in pages]
    return {
        "title": title,
        "level": {"low": level[0], "high": level[1], "colours": colours(LEVELS)},
        "signed": colours(SIGNED),
        "pages": told,
        "clips": facts.clips,
        "pictures": facts.media.pictures,
        "sounds": facts.media.sounds,
    }


class _Facts:
    """Collects the clips and their media while the pages are told.

    Args:
        media: where pictures and sounds go.
    """

    def __init__(self, media: Media) -> None:
        self.media = media
        self.clips: dict[str, dict[str, Any]] = {}
        self._names: dict[Clip, str] = {}

    def page(self, page: Page) -> dict[str, Any]:
        return {
            "clip": self._clip(page.clip),
            "explained": page.class_name(page.explained if page.explained is not None else page.target),
            "score": page.explanations[0].score,
            "scores": _scores(page),
            "perspectives": [self._perspective(page, explanation) for explanation in page.explanations],
            "maps": [
                {"name": name, "picture": self.media.map(values, name, page.clip)} for name, values in page.maps.items()
            ],
        }

    def _perspective(self, page: Page, explanation: Explanation) -> dict[str, Any]:
        return {
            "scheme": str(explanation.scheme),
            "evidence": [self._evidence(page, part) for part in explanation.evidence],
            "before": explanation.score_without_layer,
            "others": explanation.total - sum(part.contribution for part in explanation.evidence),
            "missing": -explanation.completeness,
            "score": explanation.score,
        }

    def _evidence(self, page: Page, part: Evidence) -> dict[str, Any]:
        return {
            "channel": part.channel,
            "side": part.side,
            "contribution": part.contribution,
            "purity": part.purity,
            **self._region(page.clip, part.region),
            "without": self.media.without(page.clip, part.region),
            "prototypes": [self._prototype(page, prototype) for prototype in part.prototypes],
        }

    def _prototype(self, page: Page, prototype: Prototype) -> dict[str, Any]:
        clip = page.shown_prototypes[prototype.index]
        return {
            "index": prototype.index,
            "clip": self._clip(clip),
            "class": page.class_name(prototype.label) or clip.label,
            "purity": prototype.purity,
            **self._region(clip, prototype.region),
        }

    def _region(self, clip: Clip, region: Region) -> dict[str, Any]:
        boxes = [_on_picture(clip, box) for box in region.boxes]
        leftmost = min(boxes, key=lambda box: box.start)
        return {
            "outline": _path(boxes),
            "corner": [leftmost.start, 1 - leftmost.high],
            "boxes": [_place(clip, box) for box in region.boxes],
            "region": self.media.region(clip, region),
        }

    def _clip(self, clip: Clip) -> str:
        if clip not in self._names:
            told = _told(clip) | {"picture": self.media.spectrogram(clip), "sound": self.media.whole(clip)}
            self._names[clip] = hashlib.sha256(repr(told).encode(errors="replace")).hexdigest()[:16]
            self.clips[self._names[clip]] = told
        return self._names[clip]


def _told(clip: Clip) -> dict[str, Any]:
    """A clip's texts, and the ticks and the time axis of its picture: where second 0 lies on it, and how much of it a second takes."""
    axes, (bins, frames) = clip.axes, clip.decibels.shape
    start, second = (axes.frame_position(seconds) / frames for seconds in (0.0, 1.0))
    return {
        "title": clip.title,
        "label": clip.label,
        "duration": clip.duration,
        "start": start,
        "rate": second - start,
        "seconds": _marks(second_ticks(axes.seconds(float(frames))), lambda value: axes.frame_position(value) / frames),
        "hertz": _marks(hertz_ticks(axes), lambda value: axes.bin_position(value) / bins),
    }


def _marks(values: Sequence[float], at: Callable[[float], float]) -> list[dict[str, float]]:
    """Ticks with their places on the picture, as fractions."""
    return [{"value": value, "at": at(value)} for value in values if 0 <= at(value) <= 1]


def _scores(page: Page) -> list[dict[str, Any]]:
    """The highest scores, and the explained class where it is not among them."""
    order = sorted(range(len(page.scores)), key=lambda label: -page.scores[label])
    shown = [label for rank, label in enumerate(order) if rank < TOP or label == page.explained]
    return [
        {"name": page.class_name(label), "score": float(page.scores[label]), "rank": order.index(label) + 1}
        | {"explained": label == page.explained}
        for label in shown
    ]


def _on_picture(clip: Clip, box: Box) -> Box:
    """A box as fractions of the picture: the input's own, or, where the input is a waveform, those of its spectrogram."""
    if not clip.of_samples:
        return box
    bins, frames = clip.decibels.shape
    low, high = (clip.axes.bin_position(clip.hertz(side)) / bins for side in (box.low, box.high))
    start, end = (clip.axes.frame_position(clip.seconds(side)) / frames for side in (box.start, box.end))
    return Box(max(low, 0.0), min(high, 1.0), start, min(end, 1.0))


def _path(boxes: Sequence[Box]) -> str:
    """The line around boxes as an SVG path; x to the right and y downward, both from 0 to 1.

    >>> _path([Box(low=0.0, high=0.5, start=0.25, end=0.5)])
    'M0.25 1L0.5 1L0.5 0.5L0.25 0.5Z'
    """
    return "".join("M" + "L".join(f"{_digits(x)} {_digits(1 - y)}" for x, y in loop) + "Z" for loop in outline(boxes))


def _digits(value: float) -> str:
    return f"{value:.5f}".rstrip("0").rstrip(".")


def _place(clip: Clip, box: Box) -> dict[str, Any]:
    """Where a box lies in Hz and seconds; None for an axis that it covers."""
    place = clip.place(box)
    return {
        "hertz": None if box.low <= 0 and box.high >= 1 else [place.low, place.high],
        "seconds": None if box.start <= 0 and box.end >= 1 else [place.start, place.end],
    }
