"""The page in the frame of a notebook."""

import html
import re

from captum_apex import ExplainedClips
from captum_apex.report import Page, write
from captum_apex.report.notebook import framed
from tests import explained


def page():
    clip = explained.clip_of(explained.QUERY[0], "dog")
    return Page(clip, [explained.explained("time")], explained.Recorded(), explained.CLASSES)


def framed_page(text):
    return html.unescape(re.search(r'srcdoc="([^"]*)"', text)[1])


def test_the_frame_holds_the_page(tmp_path):
    shown = page()
    written = write(tmp_path / "page.html", [shown]).read_text()
    without_date = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")
    for text in (shown._repr_html_(), ExplainedClips((shown,))._repr_html_(), framed([shown])):
        assert without_date.sub("", framed_page(text)) == without_date.sub("", written)


def test_a_page_says_what_it_is():
    explanation = explained.explained("time")
    assert repr(page()) == f"Page of dog, query.wav: $5 bell, score {explanation.score:.3g} (time)"


def test_no_clips_are_shown_as_text():
    assert ExplainedClips(())._repr_html_() is None
