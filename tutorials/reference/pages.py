"""Writes the pages of the documentation and its configuration: `python tutorials/reference/pages.py FOLDER`.

The folder gets `mkdocs.yml`, which is the project's with a navigation, and `pages/`: the guides, the notebooks with
their stored outputs, the pages of the benchmark and of the project, and a page of the reference for every room of the
library. The exit status is 1 where a docstring describes a parameter that does not exist.
"""

from __future__ import annotations

import logging
import logging.handlers
import posixpath
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import griffe
import nbformat
import yaml
from nbconvert import MarkdownExporter

sys.path.insert(0, str(Path(__file__).parent))
from public_names import copy_arguments, documented, identifiers, import_line, linked, public_objects, room_identifiers

ROOT = Path(__file__).parents[2]
ROOMS = {
    "explaining": "Explaining in one call",
    "attribution": "Attribution",
    "examination": "Examination",
    "locating": "Locating",
    "explanations": "Explanations",
    "bases": "Bases",
    "classifiers": "Classifiers",
    "audio": "Audio",
    "recordings": "Recordings",
    "datasets": "Data sets",
    "masking": "Masking",
    "metrics": "Metrics",
    "figures": "Figures",
    "listening": "Listening",
    "report": "Report",
    "pretrained": "Pretrained models",
    "layers": "Layers",
    "spectra": "Spectra",
    "demonstration": "Demonstration",
}
GUIDES = (
    "first_explanations",
    "your_own_model",
    "fitting_in_closed_form",
    "choose_a_layer",
    "data_sets",
    "read_an_explanation",
    "does_the_model_listen_to_a_hum",
    "several_labels",
    "clips_of_several_lengths",
    "waveform_models",
    "hugging_face",
    "published_models",
    "black_boxes",
    "long_recordings",
    "command_line",
    "benchmark",
    "writing_a_method",
    "prototype_quality",
    "glossary",
    "faq",
    "when_something_is_wrong",
)
# Pages that lie outside of the folder `tutorials`, by their path in the project, and where the site has them.
PROJECT_PAGES = {
    "benchmarks/README.md": "benchmarks/index.md",
    "benchmarks/RESULTS.md": "benchmarks/results.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
# The start page has these sections of the README.
README_SECTIONS = ("Installation", "A complete example")
_README_LINE = re.compile(r"^The \[README\]\(.*\n", re.MULTILINE)
_ASSETS = ("tutorials/pictures/*.png", "benchmarks/**/*.png", "tutorials/reference/*.css", "tutorials/reference/*.js")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_package = griffe.load("captum_apex", search_paths=[str(ROOT)])
copy_arguments(_package)
_names = identifiers(_package)


def write(folder: Path) -> None:
    """Writes all pages, what they show, and the configuration; what was in the folder is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = _guides_and_project_pages()
    texts = {site: _for_site((ROOT / path).read_text(), path, pages) for path, site in pages.items()}
    texts["index.md"] = _start_page(pages)
    texts |= {"reference/index.md": _reference_index()} | {f"reference/{name}.md": _room_page(name) for name in ROOMS}
    for site, text in texts.items():
        _write(folder / "pages" / site, text.encode())
    for path in sorted((ROOT / "tutorials").glob("*.ipynb")):
        _write_notebook(path, folder / "pages", pages)
    for asset in (path for pattern in _ASSETS for path in ROOT.glob(pattern)):
        _write(folder / "pages" / _in_site(str(asset.relative_to(ROOT)), pages), asset.read_bytes())
    _write(folder / "mkdocs.yml", yaml.safe_dump(_configuration(pages), sort_keys=False).encode())


def _guides_and_project_pages() -> dict[str, str]:
    """The pages that are written by hand, by their path in the project, and where the site has them."""
    guides = {path.stem for path in (ROOT / "tutorials/guides").glob("*.md")}
    order = [name for name in GUIDES if name in guides] + sorted(guides - set(GUIDES))
    pages = {"tutorials/index.md": "index.md"} | {f"tutorials/guides/{name}.md": f"guides/{name}.md" for name in order}
    return pages | {path: site for path, site in PROJECT_PAGES.items() if (ROOT / path).is_file()}


def _configuration(pages: dict[str, str]) -> dict:
    """The project's `mkdocs.yml` with absolute paths and a navigation."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text().replace("{root}", str(ROOT)))
    sites = list(pages.values())
    notebooks = sorted(path.with_suffix(".md").name for path in (ROOT / "tutorials").glob("*.ipynb"))
    sections = {
        "Guides": [site for site in sites if site.startswith("guides/")],
        "Notebooks": notebooks,
        "Reference": ["reference/index.md", *({title: f"reference/{name}.md"} for name, title in ROOMS.items())],
        "Benchmark": [site for site in sites if site.startswith("benchmarks/")],
        "Project": [site for site in sites if site in ("contributing.md", "changelog.md")],
    }
    navigation = [{"Start": "index.md"}, *({title: pages} for title, pages in sections.items() if pages)]
    return settings | {"docs_dir": "pages", "site_dir": "site", "nav": navigation}


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_notebook(path: Path, folder: Path, pages: dict[str, str]) -> None:
    """A notebook as a page, with its stored outputs and their pictures."""
    notebook = nbformat.read(path, as_version=4)
    text, resources = MarkdownExporter().from_notebook_node(notebook, {"output_files_dir": f"pictures/{path.stem}"})
    _write(folder / f"{path.stem}.md", _for_site(text, str(path.relative_to(ROOT)), pages).encode())
    for name, content in resources["outputs"].items():
        _write(folder / name, content)


def _for_site(text: str, path: str, pages: dict[str, str]) -> str:
    """A page of the project with links to pages of the site, and with links of names in backticks to the reference."""
    names = {name: place for name, place in _names.items() if not (name == "explain" and "command_line" in path)}
    return _outside_fences(text, lambda prose: linked(_with_site_links(prose, path, pages), names))


def _start_page(pages: dict[str, str]) -> str:
    """The start page with sections of the README in place of the line that leads to them on GitHub."""
    before, after = _README_LINE.split((ROOT / "tutorials/index.md").read_text())
    sections = {}
    for section in re.split(r"^## ", (ROOT / "README.md").read_text(), flags=re.MULTILINE):
        sections[section.partition("\n")[0]] = section
    readme = "\n".join(f"## {sections[title].strip()}\n" for title in README_SECTIONS)
    pieces = ((before, "tutorials/index.md"), (readme, "README.md"), (after, "tutorials/index.md"))
    return "".join(_for_site(text, path, pages) for text, path in pieces)


def _outside_fences(text: str, change: Callable[[str], str]) -> str:
    """Changes what is not in a fenced block of code."""
    pieces = []
    end = 0
    for fence in _FENCE.finditer(text):
        pieces += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, change(text[end:])])


def _with_site_links(text: str, path: str, pages: dict[str, str]) -> str:
    """Makes links to files of the project links in the site; a file that the site does not have is only named."""

    def link(match: re.Match[str]) -> str:
        mark, label, target = match.groups()
        file, hash_sign, anchor = target.partition("#")
        in_project = posixpath.normpath(posixpath.join(posixpath.dirname(path), file))
        in_tutorials = in_project.startswith("tutorials/")
        if "://" in target or not file or not (in_tutorials or (ROOT / in_project).exists()):
            return match[0]  # the builder reports a file that is missing
        if in_project not in pages and not in_tutorials and not in_project.endswith(".png"):
            return label if in_project in label else f"{label} (`{in_project}`)"
        relative = posixpath.relpath(_in_site(in_project, pages), posixpath.dirname(_in_site(path, pages)) or ".")
        return f"{mark}[{label}]({relative}{hash_sign}{anchor})"

    return _LINK.sub(link, text)


def _in_site(path: str, pages: dict[str, str]) -> str:
    """Where the site has a file of the project."""
    return pages.get(path, path.removeprefix("tutorials/").replace(".ipynb", ".md"))


def _room_page(name: str) -> str:
    """The page of a room: what it is for, how to import it, its names in a table, and each of them in full."""
    room = _package.modules[name]
    objects = public_objects(room)
    names = _names | room_identifiers(room)
    description = linked(room.docstring.value, names) if room.docstring else ""
    rows = [f"| [`{entry.name}`][{entry.path}] | {linked(_summary(entry), names)} |" for entry in objects]
    table = ["| name | what it is |", "|---|---|", *rows]
    entries = [f"::: {entry.path}\n" for entry in objects]
    head = [f"# {ROOMS[name]}", "", description, "", f"```python\n{import_line(room, objects)}\n```", ""]
    return "\n".join([*head, *table, "", *entries])


def _reference_index() -> str:
    """The first page of the reference: the rooms, and where to find each name."""
    lines = ["# Reference", "", "Every public name of the library, built from its docstrings.", ""]
    lines += ["| page | names |", "|---|---|"]
    for name, title in ROOMS.items():
        objects = public_objects(_package.modules[name])
        lines.append(f"| [{title}]({name}.md) | {', '.join(f'[`{entry.name}`][{entry.path}]' for entry in objects)} |")
    return "\n".join(lines)


def _summary(entry: griffe.Object) -> str:
    """The first line of an object's docstring; the value of a constant without one."""
    text = (
        entry.docstring.value.splitlines()[0] if entry.docstring else f"`{entry.value}`" if entry.is_attribute else ""
    )
    return text.replace("|", "\\|")


def docstring_warnings(package: griffe.Module) -> list[str]:
    """What the parser of a package's docstrings objects to, such as a parameter that the function does not have."""
    logger = logging.getLogger("griffe")
    logger.propagate = False
    messages = []
    for entry in documented(package):
        handler = logging.handlers.BufferingHandler(capacity=1000)
        logger.addHandler(handler)
        entry.docstring.parse("google", returns_multiple_items=False)
        logger.removeHandler(handler)
        messages += [record.getMessage() for record in handler.buffer if not _is_about_an_attribute(record, entry)]
    return [message for message in messages if "returned value" not in message]


def _is_about_an_attribute(record: logging.LogRecord, entry: griffe.Object) -> bool:
    """Whether a warning is about an attribute that a class lists among its parameters, but does not take."""
    name = re.search(r"[Pp]arameter '(\w+)'", record.getMessage())
    return name is not None and name[1] in entry.members


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    warnings = docstring_warnings(_package)
    print("\n".join(warnings), file=sys.stderr, end="\n" if warnings else "")
    sys.exit(bool(warnings))
