"""The wheel and the source distribution: what is in them, and that the library runs from the wheel alone."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import captum_apex

ROOT = Path(__file__).parents[1]
DATA = ("py.typed", "report/page.html", "report/page.css", "report/page.js", "report/elements.js", "report/player.js")
WRITE_A_PAGE = """
import torch
import captum_apex
from captum_apex import Clip, Explanation, Scheme, report

clip = Clip.from_waveform(torch.zeros(8000), 8000, name="silence.wav")
explanation = Explanation(Scheme.TIME, target=0, score=1.0, score_without_layer=0.0, evidence=(), total=1.0)
report.write("page.html", [report.Page(clip, [explanation], {}, ["silence"], [1.0])])
print(captum_apex.__file__)
"""


def run(*command, folder, **settings):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_citation_names_this_version_and_both_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == captum_apex.__version__
    assert citation["authors"] == [{"name": "The captum-apex developers"}]
    assert citation["license"] == "BSD-3-Clause"
    papers = {reference["identifiers"][0]["value"] for reference in citation["references"]}
    assert papers == {"arXiv:2605.10153", "arXiv:2505.12897"}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The source distribution, and the wheel that is built from it; without a network, from all files that git sees."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("distributions")
    for name in tracked_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(source), folder=built)
    return built


def tracked_files():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """A folder with the wheel alone; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = distributions.glob("*.whl")
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(folder)]
    run(sys.executable, "-m", "pip", "install", *options, str(wheel), folder=folder)
    return folder


def test_the_wheel_has_the_library_with_its_data_and_nothing_else(distributions):
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    assert {f"captum_apex/{name}" for name in DATA} <= names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "captum_apex").rglob("*.py")}
    assert modules <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"captum_apex"}
    assert "# captum-apex" in metadata  # the README
    assert re.search(r"^License(-Expression)?: BSD-3-Clause$", metadata, flags=re.MULTILINE)


def test_the_source_distribution_has_what_a_build_needs(distributions):
    (source,) = distributions.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "setup.cfg", "pyproject.toml", *(f"captum_apex/{name}" for name in DATA)} <= names


def test_the_console_script_shows_its_help(installed, tmp_path):
    script = installed / "bin" / "captum-apex"
    printed = run(sys.executable, str(script), "--help", folder=tmp_path, PYTHONPATH=str(installed))
    assert all(f"captum-apex {command}" in printed for command in ("fit", "explain", "events"))


def test_a_page_is_written_from_the_wheel(installed, tmp_path):
    printed = run(sys.executable, "-c", WRITE_A_PAGE, folder=tmp_path, PYTHONPATH=str(installed))
    assert Path(printed.strip()).is_relative_to(installed)
    assert "silence.wav" in (tmp_path / "page.html").read_text()
