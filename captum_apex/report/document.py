"""The page as one file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from captum_apex.files import replaced
from captum_apex.report.content import content
from captum_apex.report.page import Page

__all__ = ["write"]

_MEGABYTE = 1_000_000
_SCRIPTS = ("elements.js", "player.js", "page.js")


def write(
    path: str | os.PathLike, pages: Sequence[Page], *, title: str = "Why the model heard that", limit: float = 64
) -> Path:
    """Writes one HTML file, beside the target first, then renamed: an interruption leaves an old file whole.

    The file opens from disk and needs nothing else; its own policy forbids every request. It holds each picture and each sound
    once: a picture in at most 1.4 bytes per bin of the spectrogram, a sound in at most 0.4 bytes per sample (FLAC, for rates that
    MP3 does not know, takes more), and 2 kB for either. The sounds are those of the clip and its prototypes and, for each region
    shown, of the region alone, cut to the time that it takes, and of the clip without it: for four schemes, three channels and four
    prototypes at most 121 for each page. So a page of one second at 8 kHz takes about 0.4 MB, one of five seconds at 32 kHz at most
    8 MB.

    Args:
        path: of the file.
        pages: one per clip, in the order of the list.
        title: of the whole.
        limit: in MB (a million bytes); browsers become slow past some hundred.

    Returns:
        The path.

    Raises:
        ValueError: there is no page, or the file would be larger than the limit.
    """
    if not pages:
        raise ValueError("expected at least one page, but got none")
    text = _document(content(pages, title)).encode(errors="replace")  # a file's name may hold what is not Unicode
    if len(text) > limit * _MEGABYTE:
        raise ValueError(
            f"expected a file of at most {limit:g} MB, but got {len(text) / _MEGABYTE:.1f} MB for {len(pages)} clip(s): "
            "give fewer clips, schemes, channels or prototypes, or a larger `limit`"
        )
    with replaced(path) as beside:
        beside.write_bytes(text)
    return Path(path)


def _document(facts: dict[str, Any]) -> str:
    style, script = _part("page.css"), "".join(map(_part, _SCRIPTS))
    pictures = sum(map(len, facts["pictures"].values()))
    sounds = sum(len(sound["data"]) for sound in facts["sounds"].values())
    parts = {
        "title": html.escape(facts["title"]),
        "policy": f"default-src 'none'; img-src data:; media-src blob:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "facts": _json(facts),
        "shares": f"pictures {_size(pictures)}, sounds {_size(sounds)}",
    }
    template = _part("page.html")
    return _filled(template, parts | {"size": _size(len(_filled(template, parts | {"size": ""})))})


def _filled(template: str, parts: dict[str, str]) -> str:
    """Puts each part in its place, in one pass: what a part holds is not looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _json(facts: dict[str, Any]) -> str:
    """JSON that cannot end the element that it stands in."""
    return json.dumps(facts, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c")


def _hash(text: str) -> str:
    """As a content security policy names what it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _size(n_bytes: int) -> str:
    """For people.

    >>> _size(12_345), _size(4_560_000)
    ('12 kB', '4.6 MB')
    """
    return f"{n_bytes / _MEGABYTE:.1f} MB" if n_bytes >= _MEGABYTE else f"{n_bytes / 1000:.0f} kB"


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
