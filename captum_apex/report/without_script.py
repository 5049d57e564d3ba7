"""The pictures and numbers of the pages as plain HTML, for browsers and readers that run no scripts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from captum_apex.texts import band_text, times_text

__all__ = ["without_script"]

_N_DIGITS = 4


def without_script(facts: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """All clips one below the other: picture with outlines, scores, evidence; then every other picture.

    Each picture is there once. The script of the page takes the pictures from here.

    Args:
        facts: texts and numbers, as in `Content`.
        pictures: a data URI per name of a picture.

    Example:
        >>> from captum_apex.report.without_script import without_script
        >>> without_script({"pages": [], "clips": {}}, {"a": "data:image/png;base64,"})
        '<div hidden><img id="picture-a" src="data:image/png;base64," alt=""></div>'
    """
    left = dict(pictures)
    parts = [_page(page, facts, left) for page in facts["pages"]]
    if parts:
        parts.append("<h2>Prototypes</h2>")
    parts += [_prototype(clip, facts, left) for clip in facts["clips"].values() if clip["picture"] in left]
    rest = "".join(f'<img id="picture-{name}" src="{source}" alt="">' for name, source in left.items())
    return "".join([*parts, f"<div hidden>{rest}</div>" if rest else ""])


def _page(page: Mapping[str, Any], facts: Mapping[str, Any], left: dict[str, str]) -> str:
    clip = facts["clips"][page["clip"]]
    explained = page["explained"] or "the only output"
    likely = "" if page["probability"] is None else f", probability {_number(page['probability'])}"
    lines = [f"Explained: {explained}, score {_number(page['score'])}{likely}."]
    if page["first"]:
        lines.append(f"The model’s first choice is {page['first']}.")
    if page.get("detects") is False:
        lines.append("The model detects no class: no probability is above 0.5.")
    if page.get("silence"):
        lines.append(f"{page['silence'].capitalize()}.")
    if clip["label"]:
        lines.append(f"The clip is labelled {clip['label']}.")
    if clip.get("filled") is not None:
        lines.append(f"The sound ends before the picture does; the rest is {clip['filled_text']}.")
    shown = left.pop(clip["picture"], None)
    picture = _picture(clip, facts, shown) if shown else "<p>Its picture is above.</p>"
    tables = "".join(_table(perspective, facts) for perspective in page["perspectives"])
    title = escape(clip["title"] or "Clip")
    return f"<section><h2>{title}</h2><p>{escape(' '.join(lines))}</p>{picture}{tables}</section>"


def _table(perspective: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in ("channel", "adds", "purity", "region", "prototypes"))
    rows = [
        (
            str(channel["channel"]),
            _number(channel["contribution"]),
            _number(channel["purity"]),
            _place(channel, facts) + _elsewhere(channel, facts),
            "; ".join(_prototype_text(prototype, facts) for prototype in channel["prototypes"]),
        )
        for channel in perspective["evidence"]
    ]
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    caption = f"Perspective {perspective['scheme']}: without the layer {_number(perspective['before'])}"
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _prototype_text(prototype: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    clip = facts["clips"][prototype["clip"]]
    name = ", ".join(text for text in (prototype["class"], clip["file"]) if text) or f"clip {prototype['index']}"
    return f"{name} ({_place(prototype, facts)})"


def _elsewhere(channel: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Where the channel fires more strongly than in its region."""
    places = " and ".join(_box(box, facts) for box in channel["elsewhere"])
    return f"; fires more strongly at {places}" if places else ""


def _place(region: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The time and the band of each place of a region; without those that span the clip."""
    boxes = " and ".join(_box(box, facts) for box in region["boxes"])
    return "silence" if region["silent"] else boxes or "nowhere"


def _box(box: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    seconds = box["seconds"]
    hertz = box["hertz"]
    time = times_text(seconds[0], seconds[1], facts["digits"]) if seconds else ""
    band = band_text(*hertz) if hertz else ""
    return ", ".join(filter(None, (time, band))) or "all of the clip"


def _picture(clip: Mapping[str, Any], facts: Mapping[str, Any], source: str) -> str:
    alt = escape(f"Spectrogram of {clip['title'] or 'a clip'}, {clip['duration']:.{facts['digits']}f} s")
    return f'<p><img id="picture-{clip["picture"]}" src="{source}" alt="{alt}"></p>'


def _prototype(clip: Mapping[str, Any], facts: Mapping[str, Any], left: dict[str, str]) -> str:
    title = escape(clip["title"] or "Clip")
    return f"<figure>{_picture(clip, facts, left.pop(clip['picture']))}<figcaption>{title}</figcaption></figure>"


def _number(value: float) -> str:
    return f"{value:.{_N_DIGITS}g}".replace("-", "−")
