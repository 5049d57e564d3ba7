"""`python -m benchmarks published` where packages are missing, and the rows that a table keeps."""

import re
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_info

from benchmarks.__main__ import main
from benchmarks.commands import published_command
from benchmarks.published.published_models import PUBLISHED_MODELS
from benchmarks.reports import bat_tables, published_tables

ROW = {"layer": "conv", "channels": 4, "rows": 1, "columns": 8, "purity_raw": 0.2, "purity": 0.4, "delta": 0.1}
MEASURES = {"error": 1e-7, "shared": 0.5, "shared_5": 0.4, "random": 0.3}
REGIONS = {f"{name}{end}": 0.5 for name in ("met", "inside", "iou") for end in ("", "_random")}
ELSEWHERE = {"scheme": "time", "channels": 9, "elsewhere": 0.5, "level": 0.2, "region_met": 0.9, "cell_met": 0.1}
MATCHES = dict.fromkeys(("precision", "precision_random", "recall", "recall_random", "iou"), 0.5)
EVENTS = {"scheme": "time", "refined": False, "events": 3, "calls": 4, **MATCHES}
TABLES = (published_tables.NAME, published_tables.REGIONS, bat_tables.ELSEWHERE, bat_tables.EVENTS)
EVENTS |= dict.fromkeys(("start", "end", "low", "high"), 0.001)


@pytest.fixture
def installed(monkeypatch):
    """The packages that are there; nothing is measured."""
    names = list(PUBLISHED_MODELS)

    def version(package):
        if package not in names:
            raise PackageNotFoundError(package)
        return "9.9"

    def lines(model, subject):
        schemes = subject.schemes or ["square", "time"]
        about = {"package": model.package, "statements": 3}
        return pd.DataFrame([about | ROW | MEASURES | {"scheme": scheme} for scheme in schemes])

    monkeypatch.setattr(published_command, "version", version)
    monkeypatch.setattr(published_tables, "version", version)
    monkeypatch.setattr(published_command, "measured", lambda model, **_: SimpleNamespace(schemes=model.schemes))
    monkeypatch.setattr(published_command, "published_lines", lines)
    table = pd.DataFrame([{"scheme": "time", "regions": 7} | REGIONS])
    monkeypatch.setattr(published_command, "region_lines", lambda subject: table)
    monkeypatch.setattr(published_command, "elsewhere_lines", lambda subject: pd.DataFrame([ELSEWHERE]))
    monkeypatch.setattr(published_command, "event_lines", lambda subject: pd.DataFrame([EVENTS]))
    return names


def rows(text):
    """The package, version and scheme of each row of the table of models."""
    return re.findall(r"^\| ([\w-]+) ([\d.]+) \|.*?(\w[\w-]*) \| 0.20", text, re.MULTILINE)


def test_models_of_packages_that_are_missing_are_left_out(installed, capsys):
    del installed[1:]
    assert main(["published"]) == 0
    printed = capsys.readouterr()
    assert rows(printed.out) == [("torchcrepe", "9.9", "time")]
    missing = ", ".join(list(PUBLISHED_MODELS)[1:])
    assert printed.err == f"left out, because {missing} are not installed: run `make install` in a checkout\n"


@pytest.mark.parametrize("arguments", [[], ["--packages", "torchcrepe", "batdetect2"]])
def test_without_the_packages_the_error_says_what_to_install(installed, capsys, arguments):
    del installed[1 if arguments else 0 :]
    assert main(["published", *arguments]) == 2
    what = "batdetect2 is not" if arguments else "torchcrepe, pesto-pitch, .*, batdetect2 are not"
    assert re.search(rf"expected the packages of the models, but {what} installed: run `make", capsys.readouterr().err)


def test_it_measures_with_the_seed_and_with_one_thread(installed, monkeypatch):
    del installed[1:]
    threads = []

    def measured(model, seed, progress):
        threads.append((seed, torch.get_num_threads(), {each["num_threads"] for each in threadpool_info()}))
        return SimpleNamespace(schemes=model.schemes)

    monkeypatch.setattr(published_command, "measured", measured)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert main(["published", "--seed", "3"]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert threads == [(3, 1, {1})]


def test_rows_of_models_and_schemes_that_were_not_measured_stay(installed, tmp_path, capsys):
    path = tmp_path / "table.md"
    marks = [f"<!-- {name} -->\n<!-- end of {name} -->\n" for name in TABLES]
    path.write_text("before\n" + "between\n".join(marks) + "behind\n")
    assert main(["published", "--packages", "torchcrepe", "batdetect2", "--out", str(path)]) == 0
    first = path.read_text().replace(" 9.9 ", " 1.0 ").replace("| time | 7 |", "| square | 7 |")
    path.write_text(first)
    assert main(["published", "--packages", "batdetect2", "speechmos", "--schemes", "time", "--out", str(path)]) == 0
    text = path.read_text()
    expected = ["torchcrepe 1.0 time", "speechmos 9.9 time", "batdetect2 9.9 time", "batdetect2 1.0 square"]
    assert [" ".join(row) for row in rows(text)] == expected
    assert re.findall(r"^\| (\w+) \| 7 \|", text, re.MULTILINE) == ["square", "time"]
    assert text.startswith("before\n<!-- Published")
    assert text.endswith("behind\n")
    capsys.readouterr()
