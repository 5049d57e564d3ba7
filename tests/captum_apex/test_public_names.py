"""The names of the package: imported at their first use, known to type checkers, and without torch before that."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import captum_apex

TREE = ast.parse(Path(captum_apex.__file__).read_text())


def imports_for_type_checkers():
    """The module of each name that the block for type checkers imports, without the name of the package."""
    (block,) = (node for node in TREE.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {
        alias.name: node.module.removeprefix("captum_apex").removeprefix(".")
        for node in block.body
        for alias in node.names
    }


def test_type_checkers_see_the_names_that_there_are():
    of_modules = {name for name, module in imports_for_type_checkers().items() if not module}
    assert imports_for_type_checkers() == {**captum_apex._MODULES, **dict.fromkeys(of_modules, "")}
    assert set(captum_apex.__all__) == imports_for_type_checkers().keys()


@pytest.mark.parametrize("name", captum_apex.__all__)
def test_every_name_is_that_of_its_module(name):
    module = captum_apex._MODULES.get(name)
    if module is None:
        assert getattr(captum_apex, name) is importlib.import_module(f"captum_apex.{name}")
    else:
        assert getattr(captum_apex, name) is getattr(importlib.import_module(f"captum_apex.{module}"), name)


def printed(source):
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_torch_is_imported_with_the_first_name_that_needs_it():
    source = "import sys, captum_apex; print('torch' in sys.modules, 'PrototypeBasis' in dir(captum_apex)); "
    source += "print(captum_apex.layers.Origin().layer == '', captum_apex.Box.__name__, 'torch' in sys.modules)"
    assert printed(source) == ["False True", "True Box True"]


def test_a_star_gives_all_names():
    assert printed("from captum_apex import *; print(Explainer.__name__, metrics.__name__)") == [
        "Explainer captum_apex.metrics"
    ]


@pytest.mark.parametrize("name", ["explian", "__wrapped__", "_MODULE"])
def test_a_name_that_does_not_exist_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module 'captum_apex' has no attribute '{name}'"):
        getattr(captum_apex, name)
    with pytest.raises(ImportError, match="cannot import name 'explian' from 'captum_apex'"):
        from captum_apex import explian  # noqa: F401


def test_the_error_of_a_missing_package_is_not_taken_for_a_missing_name():
    source = "import sys, captum_apex; sys.modules['matplotlib.axes'] = None\n"
    source += "try: captum_apex.figures\nexcept ImportError as error: print('matplotlib.axes' in str(error))"
    assert printed(source) == ["True"]
