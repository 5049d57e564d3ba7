"""What CONTRIBUTING.md promises of the code and can be measured: short functions, one statement a line, examples."""

import ast
import builtins
import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_BODY = 30
LONGEST_MODULE = 400
PACKAGES = ("captum_apex", "benchmarks")
FILES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
EXAMPLE_WITH_A_VALUE = re.compile(r"^\s*>>> .*\n(?:\s*(?:>>>|\.\.\.)(?: .*)?\n)*\s*(?!>>>|\.\.\.)\S", re.MULTILINE)


def nodes(path, *kinds):
    return [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, kinds)]


def body_length(function):
    """Lines of a function's body, its docstring not counted."""
    statements = function.body
    if ast.get_docstring(function) is not None:
        statements = statements[1:]
    return statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0


def public_definitions(path):
    """The functions and classes that a module defines and lists in `__all__`."""
    tree = ast.parse((ROOT / path).read_text())
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names |= set(ast.literal_eval(node.value))
    return [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_functions_and_modules_are_short(path):
    long = {
        function.name: body_length(function)
        for function in nodes(path, ast.FunctionDef, ast.AsyncFunctionDef)
        if body_length(function) > LONGEST_BODY
    }
    assert not long
    assert len((ROOT / path).read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("path", FILES, ids=str)
def test_there_is_one_assignment_a_line(path):
    packed = [
        ast.unparse(node)
        for node in nodes(path, ast.Assign)
        if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
    ]
    assert not packed


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "captum_apex"], ids=str)
def test_everything_public_has_an_example_that_shows_a_value(path):
    without = [
        node.name
        for node in public_definitions(path)
        if not EXAMPLE_WITH_A_VALUE.search(f"{ast.get_docstring(node) or ''}\n")
    ]
    assert not without


def unbound_names(docstring):
    """The names that the examples of a docstring use without importing or defining them."""
    used, bound = set(), set(dir(builtins))
    for example in doctest.DocTestParser().get_examples(docstring):
        for node in ast.walk(ast.parse(example.source)):
            if isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler):
                bound.add(node.name)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
    return used - bound


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "captum_apex"], ids=str)
def test_examples_run_when_they_are_pasted_alone(path):
    """The doctests themselves run in the namespace of their module, which hides a missing import."""
    incomplete = {
        node.name: unbound_names(docstring)
        for node in nodes(path, ast.FunctionDef, ast.ClassDef)
        if not node.name.startswith("_")
        and (docstring := ast.get_docstring(node)) is not None
        and unbound_names(docstring)
    }
    assert not incomplete
