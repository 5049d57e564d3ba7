"""Writes the pages as one HTML file: the pictures and sounds encoded, the facts as JSON, style and script inside."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from captum_apex.figures import colours
from captum_apex.files import replaced
from captum_apex.numbers import real_number
from captum_apex.report.audit import audit_trail
from captum_apex.report.content import Content, content
from captum_apex.report.encoding import Encoded, TooLargeError, base64_text, encode
from captum_apex.report.page import Page
from captum_apex.report.without_script import without_script

__all__ = ["write"]

_MEGABYTE = 1_000_000
_SCRIPTS = (
    "elements.js",
    "roving.js",
    "cutting.js",
    "player.js",
    "player_bar.js",
    "seeking.js",
    "spectrograms.js",
    "bars.js",
    "channel_names.js",
    "cards.js",
    "clip_view.js",
    "channel_view.js",
    "clip_list.js",
    "evidence_table.js",
    "printing.js",
    "page.js",
)
_STYLE = {
    "towards": colours.TOWARDS,
    "against": colours.AGAINST,
    "pale_towards": colours.PALE_TOWARDS,
    "pale_against": colours.PALE_AGAINST,
    "total": colours.TOTAL,
}


def write(
    path: str | os.PathLike,
    pages: Sequence[Page],
    *,
    title: str = "Why the model heard that",
    limit: float = 64,
    date: datetime | None = None,
    names: Mapping[str, Mapping[int, Mapping[str, str]]] | None = None,
    progress: bool = True,
) -> Path:
    """Writes one HTML file that opens from disk and needs nothing else; its policy forbids every request.

    The file is written beside the target first and then renamed, so that an interruption leaves an old file as it was.

    The file holds each picture and the sound of each clip once: a picture in at most 1.4 bytes per bin of the
    spectrogram and 2 kB, a sound in at most 2.7 bytes per sample without loss, as long as all sounds have at most 2.5
    million samples (more for sample rates that MP3 lacks), and in at most 0.8 bytes per sample in MP3 otherwise. The
    sound of a region and the clip without it are cut out of the sound of the clip when they are played. The map of a
    channel is a picture of at most 64 × 128 bins.

    Pictures and sounds are encoded on all processors. If that takes more than two seconds, a progress bar says how
    large they will be. If they are larger than the limit, the writing stops as soon as this is known.

    Args:
        path: path of the file.
        pages: one page per clip, in the order of the list.
        title: title of the whole.
        limit: largest size of the file in MB (a million bytes); browsers become slow past some hundred.
        names: what the page calls channels, until a reader renames them: fingerprint of the basis → channel → its
            `name` and `note`.
        progress: whether to show a progress bar, if the encoding takes more than two seconds.
        date: when the page is written, which its footer states; None for now. Everything else in the file follows from
            the pages and the versions of captum-apex and torch.

    Returns:
        The path.

    Raises:
        ValueError: there is no page, or the file would be larger than the limit.

    Example:
        >>> from captum_apex import report
        >>> try:
        ...     report.write("page.html", [])
        ... except ValueError as error:
        ...     print(error)
        expected at least one page, but got none
    """
    if not isinstance(title, str):
        raise TypeError(f"expected `title` to be a text, but got {type(title).__name__}")
    limit = real_number(limit, "limit", low=0)
    if not pages:
        raise ValueError("expected at least one page, but got none")
    try:
        collected = content(pages, title)
        collected = replace(collected, facts=collected.facts | {"names": names or {}})
        text = _document(collected, audit_trail(pages, date), limit * _MEGABYTE, progress)
    except TooLargeError as error:
        raise ValueError(
            f"expected a file of at most {limit:g} MB, but got about {error.n_bytes / _MEGABYTE:.1f} MB for "
            f"{len(pages)} clip(s): give fewer clips, schemes, channels or prototypes, or a larger `limit`"
        ) from None
    with replaced(path) as beside:
        beside.write_bytes(text)
    return Path(path)


def _document(content: Content, trail: Sequence[tuple[str, str]], limit: float, progress: bool) -> bytes:
    pictures, sounds = _encoded(content, limit, progress)
    style = _filled(_flush(_source("page.css")), _STYLE)
    script = _flush("".join(map(_source, _SCRIPTS)))
    picture_bytes = sum(map(len, pictures.values()))
    sound_bytes = sum(len(sound.get("data", "")) for sound in sounds.values())
    values = {
        "title": html.escape(content.facts["title"]),
        "policy": f"default-src 'none'; img-src data:; media-src blob:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "facts": _json(content.facts | {"sounds": sounds}),
        "plain": without_script(content.facts, pictures),
        "audit": _definitions(trail),
        "shares": f"pictures {_size(picture_bytes)}, sounds {_size(sound_bytes)}",
    }
    template = _source("page.html")
    size = len(_filled(template, values | {"size": ""}))
    text = _filled(template, values | {"size": _size(size)}).encode()
    if len(text) > limit:
        raise TooLargeError(len(text))
    return text


def _encoded(content: Content, limit: float, progress: bool) -> Encoded:
    """The pictures and sounds, which may take what the texts and numbers leave of the limit."""
    n_bytes = len(_json(content.facts))
    try:
        return encode(content, limit - n_bytes, progress=progress)
    except TooLargeError as error:
        raise TooLargeError(error.n_bytes + n_bytes) from None


def _definitions(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd></div>" for term, text in pairs)


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Puts each value in its place, in one pass: placeholders inside of a value are not replaced."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _json(facts: dict[str, Any]) -> str:
    """JSON that cannot end the HTML element that holds it."""
    return json.dumps(facts, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c")


def _hash(text: str) -> str:
    """The hash of a script or style, in the form of a content security policy."""
    return "sha256-" + base64_text(hashlib.sha256(text.encode()).digest())


def _flush(code: str) -> str:
    r"""Code without indentation and empty lines, which mean nothing where no text has two lines.

    >>> from captum_apex.report.document import _flush
    >>> _flush("if (a) {\n  b();\n\n}\n")
    'if (a) {\nb();\n}\n'
    """
    return re.sub(r"\n\s+", "\n", code)


def _size(n_bytes: int) -> str:
    """A size for readers.

    >>> from captum_apex.report.document import _size
    >>> _size(12_345), _size(4_560_000)
    ('12 kB', '4.6 MB')
    """
    return f"{n_bytes / _MEGABYTE:.1f} MB" if n_bytes >= _MEGABYTE else f"{n_bytes / 1000:.0f} kB"


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
