"""The documentation builds without a warning, has every public name, and has links that work without a network."""

import importlib
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import captum_apex
from tests.browser import chromium, requests, show, wait_until

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "tutorials" / "reference"
ROOMS = (
    *("attribution", "locating", "explanations", "bases", "classifiers", "audio", "recordings", "datasets", "masking"),
    *("metrics", "figures", "listening", "report", "pretrained", "layers", "spectra"),
)
LOADING = {"script": "src", "img": "src", "link": "href", "source": "src", "iframe": "src", "audio": "src"}
SEARCH_FIELD = "document.activeElement.shadowRoot?.activeElement"
NO_FILES = ("canonical", "prev", "next", "edit")


def build(folder):
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(folder / "mkdocs.yml")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write_pages(folder):
    subprocess.run(
        [sys.executable, str(REFERENCE / "pages.py"), str(folder)], check=True, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documentation")
    write_pages(folder)
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def site(folder):
    return folder / "site"


class Elements(HTMLParser):
    """What a page loads, where its links lead, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.links, self.anchors = [], [], {""}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag in LOADING and attributes.get("rel") not in NO_FILES and attributes.get(LOADING[tag]):
            self.loaded.append(attributes[LOADING[tag]])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Elements(path.read_text()) for path in site.rglob("*.html")}


def test_every_guide_and_notebook_is_a_page(site):
    guides = {f"guides/{path.stem}.html" for path in (ROOT / "tutorials" / "guides").glob("*.md")}
    notebooks = {f"{path.stem}.html" for path in (ROOT / "tutorials").glob("*.ipynb")}
    for page in {"index.html", "reference/index.html", "changelog.html", *guides, *notebooks}:
        assert (site / page).is_file()
        if page != "index.html":
            assert page.rpartition("/")[2] in "".join((site / name).read_text() for name in ("index.html", page))


@pytest.mark.parametrize("name", ["1_getting_started", "2_four_perspectives"])
def test_the_players_of_a_notebook_are_on_its_page(name, site):
    stored = (ROOT / "tutorials" / f"{name}.ipynb").read_text()
    page = (site / f"{name}.html").read_text()
    players = re.findall(r'<audio controls[^<>]* src="data:audio/mpeg;base64,[^"]+"[^<>]*></audio>', page)
    assert len(players) == stored.count("data:audio/mpeg;base64,") > 0


def test_the_start_page_has_the_installation_and_the_example_of_the_readme(folder):
    page = (folder / "pages" / "index.md").read_text()
    (example,) = re.findall(r"^```python\n.*?^```$", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    assert page.count(example) == 1
    assert page.index("\n## Installation\n") < page.index(example) < page.index("\n## Guides")
    assert "pip install ." in page


INDEX = (ROOT / "tutorials" / "index.md").read_text()


@pytest.mark.parametrize(("title", "path"), re.findall(r"^(?:-|\d\.) \[(.*?)\]\((.*?)\)", INDEX, flags=re.MULTILINE))
def test_the_start_page_calls_a_page_as_the_page_itself_does(title, path):
    """The navigation of the site has the pages' headings."""
    assert re.search(
        rf'^(?: *")?# {re.escape(title)}(?:\\n",?)?$', (ROOT / "tutorials" / path).read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_has_an_entry(room, site, pages):
    module = importlib.import_module(f"captum_apex.{room}")
    anchors = {anchor.rpartition(".")[2] for anchor in pages[site / "reference" / f"{room}.html"].anchors if anchor}
    assert set(getattr(module, "__all__", ())) <= anchors
    assert anchors


def test_every_public_name_of_the_package_has_an_entry(pages):
    anchors = {
        anchor.rpartition(".")[2] for page in pages.values() for anchor in page.anchors if "captum_apex" in anchor
    }
    assert set(captum_apex.__all__) - set(ROOMS) <= anchors


def test_no_page_loads_anything_from_the_network(site, pages):
    for path, page in pages.items():
        for url in page.loaded:
            assert not re.match(r"(https?:)?//", url), f"{path.relative_to(site)} loads {url}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text()), sheet


def test_every_link_leads_to_a_page_and_to_a_place_on_it(site, pages):
    for path, page in pages.items():
        for link in page.links + page.loaded:
            target, anchor = urldefrag(unquote(link))
            if re.match(r"\w+:", target):
                continue
            assert not target.startswith("/"), f"{path.relative_to(site)} links to {link}, which fails from disk"
            file = (path.parent / target).resolve() if target else path
            assert file.exists(), f"{path.relative_to(site)} links to {link}"
            if file in pages:
                assert anchor in pages[file].anchors | {"__skip", "__search", "__toc"}, (
                    f"{path.relative_to(site)} links to {link}"
                )


def test_names_in_docstrings_are_links_and_examples_are_code(site):
    text = (site / "reference" / "attribution.html").read_text()
    assert re.search(r'href="[^"]*#captum_apex\.attribution\.layer_apex\.LayerAPEX\.attribute"', text)
    assert "<blockquote>" not in text
    assert '<span class="gp">&gt;&gt;&gt; </span>' in text


@pytest.mark.parametrize("width", [1280, 390])
def test_the_search_works_on_a_page_that_is_opened_from_disk(site, tmp_path, width):
    with chromium(tmp_path / "profile") as browser:
        show(browser, site / "index.html", width=width)
        wait_until(lambda: browser.execute_script("return document.querySelector('.md-search__button') !== null"))
        browser.execute_script("document.querySelector('.md-search__button').click()")
        wait_until(lambda: browser.execute_script(f"return {SEARCH_FIELD} != null"))
        browser.execute_script(f"return {SEARCH_FIELD}").send_keys("fit_basis")
        wait_until(lambda: any("#captum_apex.bases.fitting.fit_basis" in address for address in results(browser)))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert requests(browser) == []


def results(browser):
    """The addresses that the search's window lists."""
    script = "return [...document.activeElement.shadowRoot?.querySelectorAll('ol a') ?? []].map((link) => link.href)"
    return browser.execute_script(script)


def test_a_broken_link_fails_the_build(folder, tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.md").write_text("# Start\n\n[nowhere](none.md)\n")
    settings = re.sub(r"^nav:\n(?:[-\s].*\n)+", "", (folder / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(settings)
    done = build(tmp_path)
    assert done.returncode != 0
    assert "page does not exist" in re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)


WRONG = '''
def scaled(values, factor):
    """Multiplies.

    Args:
        values: the numbers.
        scale: the factor.
    """
'''
RIGHT = WRONG.replace("scale: the factor", "factor: the factor")
ATTRIBUTE = '''
class Capture:
    """An output.

    Args:
        value: the output; absent before the layer has run.
    """

    value: int
'''


@pytest.mark.parametrize(("source", "expected"), [(WRONG, ["scale"]), (RIGHT, []), (ATTRIBUTE, [])])
def test_a_parameter_that_does_not_exist_is_reported(source, expected, monkeypatch):
    monkeypatch.syspath_prepend(REFERENCE)
    import griffe

    docstring_warnings = runpy.run_path(str(REFERENCE / "pages.py"))["docstring_warnings"]
    module = griffe.visit("module", Path("module.py"), source)
    messages = [message for message in docstring_warnings(module) if "does not appear" in message]
    assert [re.search(r"'(\w+)'", message)[1] for message in messages] == expected


def test_links_between_files_of_the_project_lead_to_pages_of_the_site(monkeypatch):
    monkeypatch.syspath_prepend(REFERENCE)
    for_site = runpy.run_path(str(REFERENCE / "pages.py"))["_for_site"]
    pages = {"tutorials/guides/faq.md": "guides/faq.md", "CHANGELOG.md": "changelog.md"}
    text = (
        "[changes](../../CHANGELOG.md#new), [code](../../captum_apex/spectra.py), [web](https://captum.ai), `fit_basis`"
    )
    assert for_site(text, "tutorials/guides/faq.md", pages) == (
        "[changes](../changelog.md#new), code (`captum_apex/spectra.py`), [web](https://captum.ai), "
        "[`fit_basis`][captum_apex.bases.fitting.fit_basis]"
    )
    assert for_site("```\n[a](../../CHANGELOG.md)\n```", "tutorials/guides/faq.md", pages).count("CHANGELOG.md") == 1


def test_the_tests_that_the_guides_name_exist():
    named = set()
    for guide in (ROOT / "tutorials" / "guides").glob("*.md"):
        named |= set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", guide.read_text()))
    assert len(named) > 40
    for path, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), flags=re.MULTILINE), f"{path}::{name}"
