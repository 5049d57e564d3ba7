"""The texts above the tables are escaped for Markdown, so that marks in them would be shown as they are typed."""

import ast
from pathlib import Path

import pytest

REPORTS = Path(__file__).parents[3] / "benchmarks" / "reports"


def shown_texts(path):
    """The texts of a module that are neither docstrings nor those of errors."""
    tree = ast.parse(path.read_text())
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    errors = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    documentation |= {id(each) for error in errors for each in ast.walk(error)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.value for node in constants if id(node) not in documentation]


@pytest.mark.parametrize("name", sorted(path.name for path in REPORTS.glob("*.py") if path.name != "markup.py"))
def test_no_text_of_a_report_has_marks_for_code(name):
    assert [text for text in shown_texts(REPORTS / name) if "`" in text] == []


def test_a_text_with_such_marks_would_be_found(tmp_path):
    path = tmp_path / "table.py"
    path.write_text('"""The `table`."""\nABOUT = f"by `names` {1}"\n')
    assert shown_texts(path) == ["by `names` "]
