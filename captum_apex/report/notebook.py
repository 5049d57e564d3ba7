"""A page in a notebook: the whole HTML file in a frame."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Sequence
from pathlib import Path

from captum_apex.report.document import write
from captum_apex.report.page import Page

__all__ = ["framed"]

_HEIGHT = 720  # pixels, where the notebook does not let the frame ask how high its page is
_HIGHEST = 1400
_FIT = f"const d=this.contentDocument;if(d)this.style.height=Math.min(d.body.scrollHeight+16,{_HIGHEST})+'px'"
_BASE = '<base href="about:srcdoc">'  # before the page's policy; without it, its links lead to those of the notebook


def framed(pages: Sequence[Page]) -> str | None:
    """The page of clips in a frame that is as high as the page, up to 1400 pixels.

    Args:
        pages: the pages.

    Returns:
        HTML; None where there is no page, or a package for sounds is missing.

    Raises:
        ValueError: the page would be larger than 64 MB.

    Example:
        >>> from captum_apex.report.notebook import framed
        >>> framed([]) is None
        True
    """
    if not pages:
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            text = write(Path(folder, "page.html"), pages).read_text(encoding="utf-8")
    except ImportError:
        return None
    text = text.replace("<head>", f"<head>{_BASE}", 1)
    return (
        f'<iframe srcdoc="{html.escape(text)}" title="explanations" loading="lazy" onload="{html.escape(_FIT)}" '
        f'style="width:100%;height:{_HEIGHT}px;border:1px solid #8884;border-radius:4px"></iframe>'
    )
