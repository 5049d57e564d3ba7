"""Which part of a sound looks like which part of which training clip, as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from captum_apex.audio.clip import Clip
from captum_apex.audio.regions import Box, Place, Region, in_order
from captum_apex.explanations.evidence import Evidence, Prototype
from captum_apex.texts import band_text, second_digits, short_names, times_text

__all__ = ["evidence_text", "prototype_names", "region_text"]

_N_PLACES = 2  # boxes of a region that are listed


def region_text(clip: Clip, region: Region) -> str:
    """Where a region is, in seconds and Hz: each of its boxes, or their number where there are more than two.

    Args:
        clip: the clip.
        region: a region of the model's input.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip, Region
        >>> from captum_apex.report.printed import region_text
        >>> clip = Clip.from_waveform(torch.ones(8000), 8000)
        >>> barks = [Box(0.0, 1.0, start, start + 0.05) for start in (0.1, 0.3, 0.5, 0.7)]
        >>> region_text(clip, Region(tuple(barks[:2])))
        '0.10–0.15 s and 0.30–0.35 s'
        >>> region_text(clip, Region(tuple(barks)))
        '4 places from 0.10 to 0.75 s'
    """
    folded = clip.folded(region)
    places = list(in_order(folded.boxes, clip.places(folded)))
    digits = second_digits(clip.duration)
    if len(places) > _N_PLACES:
        return _number_text([place for _, place in places], folded, digits)
    return " and ".join(_box_text(box, place, digits) for box, place in places) or "nowhere"


def _number_text(places: Sequence[Place], region: Region, digits: int) -> str:
    """How many places there are, from the first to the last; bands where they last as long as the clip."""
    if all(box.start <= 0 and box.end >= 1 for box in region.boxes):
        low = min(place.low for place in places)
        return f"{len(places)} bands from {low:.0f} to {max(place.high for place in places):.0f} Hz"
    start = min(place.start for place in places)
    return f"{len(places)} places from {start:.{digits}f} to {max(place.end for place in places):.{digits}f} s"


def _box_text(box: Box, place: Place, digits: int) -> str:
    time = "" if box.start <= 0 and box.end >= 1 else times_text(place.start, place.end, digits)
    band = "" if box.low <= 0 and box.high >= 1 else band_text(place.low, place.high)
    return ", ".join(filter(None, (time, band))) or "all of the clip"


def prototype_names(clips: Mapping[int, Clip]) -> dict[int, str]:
    """The short name of each training clip: its path without the folder that all share.

    Args:
        clips: the training clips by their index.

    Example:
        >>> import torch
        >>> from captum_apex import Clip
        >>> from captum_apex.report.printed import prototype_names
        >>> names = {7: "/sounds/dog/a.wav", 9: "/sounds/rain/b.wav"}
        >>> prototype_names({i: Clip.from_waveform(torch.ones(800), 8000, name=name) for i, name in names.items()})
        {7: 'dog/a.wav', 9: 'rain/b.wav'}
    """
    shown = short_names([clip.name for clip in clips.values()])
    return {index: name or f"training clip {index}" for index, name in zip(clips, shown, strict=True)}


def evidence_text(clip: Clip, evidence: Evidence, clips: Mapping[int, Clip], names: Mapping[int, str]) -> str:
    """One channel: what it adds and where, and which part of which training clip is like it.

    Args:
        clip: the explained clip.
        evidence: the channel.
        clips: the training clips by their index.
        names: what to call them.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip, Evidence, Prototype, Region
        >>> from captum_apex.report.printed import evidence_text
        >>> clip = Clip.from_waveform(torch.ones(8000), 8000)
        >>> here, there = (Region((Box(0.0, 1.0, start, start + 0.2),)) for start in (0.1, 0.5))
        >>> evidence = Evidence(17, 1, 0.42, 0.5, 0.9, here, (Prototype(7, 0, 1.0, 0.25, there),))
        >>> evidence_text(clip, evidence, {7: clip}, {7: "dog/a.wav"})
        'channel 17: +0.42 at 0.10–0.30 s, like dog/a.wav at 0.50–0.70 s (purity 0.25)'
    """
    side = "" if evidence.side > 0 else " (negative)"
    silent = " (silence)" if evidence.region.boxes and clip.is_silent(evidence.region) else ""
    parts = [f"channel {evidence.channel}{side}: {evidence.contribution:+.3g} at {region_text(clip, evidence.region)}"]
    parts[0] += silent
    parts += [_like(prototype, clips, names) for prototype in evidence.prototypes[:1]]
    if evidence.effect is not None:
        parts += [_doubt(doubt, clip, evidence) for doubt in evidence.effect.doubts]
    return ", ".join(parts)


def _like(prototype: Prototype, clips: Mapping[int, Clip], names: Mapping[int, str]) -> str:
    where = region_text(clips[prototype.index], prototype.region)
    return f"like {names[prototype.index]} at {where} (purity {prototype.purity:.2f})"


def _doubt(doubt: str, clip: Clip, evidence: Evidence) -> str:
    """A doubt of an effect; that the channel is stronger elsewhere says where."""
    is_elsewhere = doubt.endswith("elsewhere") and evidence.elsewhere.boxes
    return f"{doubt} ({region_text(clip, evidence.elsewhere)})" if is_elsewhere else doubt
