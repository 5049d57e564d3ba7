"""The structure of the two packages: imports run downward, no file name occurs twice."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "captum_apex": (
        {
            "caller",
            "choices",
            "defaults",
            "extras",
            "interruption",
            "numbers",
            "progress",
            "result_tables",
            "texts",
            "version",
        },
        {"files", "layers", "masking", "audio", "recordings"},
        {"metrics", "bases", "classifiers", "datasets", "spectra", "listening"},
        {"attribution", "pretrained"},
        {"locating", "examination"},
        {"explanations"},
        {"figures"},
        {"report"},
        {"explaining"},
        {"demonstration"},
        {"cli"},
        {"__main__"},
    ),
    "benchmarks": (
        {"cache", "statistics", "threads"},
        {"tasks"},
        {"classifiers", "published"},
        {"methods"},
        {"runs"},
        {"experiments"},
        {"reports"},
        {"commands"},
        {"__main__"},
    ),
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in FLOORS
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imported(module):
    """The modules of the two packages that a module imports, wherever in its text it does so."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            names |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else node.module
                for alias in node.names
            }
    return {name for name in names if name in MODULES}


def floor(module):
    """The floor of a module's room; None for the packages themselves, which collect names from everywhere."""
    package, *rooms = module.split(".")
    if not rooms:
        return None
    (number,) = (number for number, rooms_of_floor in enumerate(FLOORS[package]) if rooms[0] in rooms_of_floor)
    return number


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_has_one_floor(package):
    rooms = Counter(room for rooms_of_floor in FLOORS[package] for room in rooms_of_floor)
    assert set(rooms) == {name.split(".")[1] for name in MODULES if name.startswith(f"{package}.")}
    assert set(rooms.values()) == {1}


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_what_lies_below_it(module):
    package, *rooms = module.split(".")
    for other in imported(module):
        other_package, *other_rooms = other.split(".")
        if package != other_package:
            assert (package, other_package) == ("benchmarks", "captum_apex"), f"{module} imports {other}"
        elif rooms and not other_rooms:
            assert package == "benchmarks", f"{module} imports the whole package"
        elif rooms and rooms[0] != other_rooms[0]:
            assert floor(other) < floor(module), f"{module} imports {other}, which lies on the same floor or above it"


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: imported(module) - {module} for module in MODULES}
    while leaves := {module for module, others in graph.items() if not others}:
        graph = {module: others - leaves for module, others in graph.items() if module not in leaves}
    # What is left are circles and what imports them. A room's `__init__` collects the names of its files.
    assert not graph


def test_no_file_name_occurs_twice():
    names = Counter(path.stem for path in MODULES.values() if path.stem not in ("__init__", "__main__"))
    assert [name for name, count in names.items() if count > 1] == []


def test_the_tests_mirror_the_packages():
    for package in FLOORS:
        for folder in (ROOT / "tests" / package).rglob("*/"):
            if folder.name != "__pycache__":
                assert (ROOT / folder.relative_to(ROOT / "tests")).is_dir(), f"{folder} mirrors no folder"
