"""Writes the pages as one HTML file: the pictures and sounds encoded, the facts as JSON, style and script inside."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image

from captum_apex import listening
from captum_apex.figures import colours
from captum_apex.files import replaced
from captum_apex.report.audit import audit_trail
from captum_apex.report.content import Content, Sound, content
from captum_apex.report.page import Page
from captum_apex.report.page_pictures import Picture
from captum_apex.report.without_script import without_script

__all__ = ["write"]

_MEGABYTE = 1_000_000
_SCRIPTS = (
    "elements.js",
    "roving.js",
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
) -> Path:
    """Writes one HTML file that opens from disk and needs nothing else; its policy forbids every request.

    The file is written beside the target first and then renamed, so that an interruption leaves an old file as it was.

    The file holds each picture once, and the sound of each region of a clip once: a picture in at most 1.4 bytes
    per bin of the spectrogram, a sound in at most 0.4 bytes per sample (more in FLAC, for sample rates that MP3
    lacks), and 2 kB for either. The map of a channel is a picture of at most
    64 × 128 bins. The sounds are the clip and its prototypes and, for each region, the region alone,
    cut to its time, and the clip without it: at most 201 for a page of four schemes, five channels and four
    prototypes. So a page of one second at 8 kHz takes at most about 1.3 MB, a page of five seconds at 32 kHz about
    15 MB.

    Args:
        path: path of the file.
        pages: one page per clip, in the order of the list.
        title: title of the whole.
        limit: largest size of the file in MB (a million bytes); browsers become slow past some hundred.
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
    if not pages:
        raise ValueError("expected at least one page, but got none")
    text = _document(content(pages, title), audit_trail(pages, date)).encode()
    if len(text) > limit * _MEGABYTE:
        raise ValueError(
            f"expected a file of at most {limit:g} MB, but got {len(text) / _MEGABYTE:.1f} MB for {len(pages)} "
            "clip(s): give fewer clips, schemes, channels or prototypes, or a larger `limit`"
        )
    with replaced(path) as beside:
        beside.write_bytes(text)
    return Path(path)


def _document(content: Content, trail: Sequence[tuple[str, str]]) -> str:
    pictures = {name: _encoded_picture(picture) for name, picture in content.pictures.items()}
    sounds = {name: _encoded_sound(sound) for name, sound in content.sounds.items()}
    style = _filled(_source("page.css"), _STYLE)
    script = "".join(map(_source, _SCRIPTS))
    picture_bytes = sum(map(len, pictures.values()))
    sound_bytes = sum(len(sound["data"]) for sound in sounds.values())
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
    return _filled(template, values | {"size": _size(size)})


def _encoded_picture(picture: Picture) -> str:
    """The picture as a PNG with a palette, in a data URI."""
    image = Image.fromarray(picture.pixels[::-1])  # the highest frequency on top
    image.putpalette(mpl.colormaps[picture.colours](np.arange(256), bytes=True)[:, :3].tobytes())
    file = io.BytesIO()
    opacity = np.abs(np.linspace(-255, 255, 256)).astype(np.uint8).tobytes()
    options = {"transparency": opacity} if picture.clear else {}
    image.save(file, "PNG", optimize=True, **options)
    return f"data:image/png;base64,{_base64(file.getvalue())}"


def _encoded_sound(sound: Sound) -> dict[str, str]:
    """The media type of a sound, and its file in base64."""
    assert sound.clip.waveform is not None
    samples = sound.clip.waveform.detach().cpu()
    full_scale = samples.abs().max().clamp_min(1)  # the same for all sounds of a clip, so that their levels compare
    if sound.region is not None:
        change = listening.remove if sound.without else listening.isolate
        samples = change(sound.clip, sound.region).detach().cpu()
    samples = (samples[sound.first : sound.last] / full_scale).clamp(-1, 1)
    kind = listening.playable_format(round(sound.clip.sample_rate))
    encoded = listening.encoded(samples, sound.clip.sample_rate, kind)
    return {"type": listening.MEDIA_TYPES[kind], "data": _base64(encoded)}


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
    return "sha256-" + _base64(hashlib.sha256(text.encode()).digest())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _size(n_bytes: int) -> str:
    """A size for readers.

    >>> from captum_apex.report.document import _size
    >>> _size(12_345), _size(4_560_000)
    ('12 kB', '4.6 MB')
    """
    return f"{n_bytes / _MEGABYTE:.1f} MB" if n_bytes >= _MEGABYTE else f"{n_bytes / 1000:.0f} kB"


def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
