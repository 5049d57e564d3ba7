"""The page in the frame of a notebook."""

import html
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from captum_apex import ExplainedClips
from captum_apex.report import Page, notebook, write
from captum_apex.report.notebook import framed
from tests import explained
from tests.browser import chromium, complaints, wait_until


def page():
    clip = explained.clip_of(explained.QUERY[0], "dog")
    return Page(clip, [explained.explained("time")], explained.Recorded(), explained.CLASSES)


def framed_page(text):
    return html.unescape(re.search(r'srcdoc="([^"]*)"', text)[1]).replace(notebook._BASE, "")


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


def test_the_frame_shows_the_page_as_high_as_it_is_and_its_links_stay_in_it(tmp_path):
    """A link to a place on a page in a frame would otherwise lead to the page around it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    (tmp_path / "notebook.html").write_text(
        f'<!doctype html><meta charset="utf-8"><title>notebook</title>{page()._repr_html_()}'
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with chromium(tmp_path / "profile") as browser:
            browser.get(f"http://127.0.0.1:{server.server_port}/notebook.html")
            browser.switch_to.frame(browser.find_element("css selector", "iframe"))
            heading = "return document.querySelector('h2')?.textContent"
            wait_until(lambda: browser.execute_script(heading))
            browser.execute_script("document.querySelector('a[href*=channel]').click()")
            assert browser.execute_script("return document.title") != "notebook"
            wait_until(lambda: "channel" in browser.execute_script("return location.hash"))
            assert browser.execute_script("return location.href.split('#')[0]") == "about:srcdoc"
            browser.switch_to.default_content()
            frame = browser.find_element("css selector", "iframe")
            assert frame.size["height"] > 720
            assert not [line for line in complaints(browser) if "favicon" not in line]
    finally:
        server.shutdown()
        server.server_close()
