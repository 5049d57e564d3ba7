"""Warnings point to the line of the user."""

import io
import linecache
import re
import sys
import warnings
from pathlib import Path

import pytest
import soundfile
import torch
from torch import nn
from tqdm import tqdm

import captum_apex
from captum_apex import FeatureBank, Recordings
from captum_apex.caller import warn_caller

PACKAGE = Path(captum_apex.__file__).parent


def line_of(warning):
    assert warning.filename == __file__
    return linecache.getline(__file__, warning.lineno).strip()


def test_a_warning_from_a_hook_of_torch_points_to_the_call_of_the_model():
    model = nn.Sequential(nn.Linear(2, 2))
    # The hook has the name of a module of the package, as those have that the package registers.
    names = {"__name__": "captum_apex.layers.hooks", "warn_caller": warn_caller}
    exec("def hook(*_):\n    warn_caller('seen')", names)
    model[0].register_forward_hook(names["hook"])
    with pytest.warns(UserWarning, match="seen") as caught:
        model(torch.zeros(1, 2))
    assert line_of(caught[0]) == "model(torch.zeros(1, 2))"


def test_warnings_of_recordings_and_fits_point_to_the_call(tmp_path):
    for name in ("frog", "owl"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", torch.zeros(800).numpy(), 8000)
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match="left out of") as caught:
        folder = Recordings.in_folder(tmp_path)
    assert line_of(caught[0]) == "folder = Recordings.in_folder(tmp_path)"
    assert len(folder) == 2
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.LazyLinear(2))
    with torch.no_grad():
        model(torch.zeros(1, 1, 4, 4))
    bank = FeatureBank.from_dataset(model, model[0], torch.rand(3, 1, 4, 4))
    with pytest.warns(UserWarning, match="3 clips are fewer than 100 prototypes") as caught:
        captum_apex.fit_basis(bank, "time", epochs=1)
    assert line_of(caught[0]) == 'captum_apex.fit_basis(bank, "time", epochs=1)'


def test_the_package_warns_in_no_other_way():
    for path in PACKAGE.rglob("*.py"):
        if path != PACKAGE / "caller.py":
            assert not re.search(r"warnings\.warn\(", path.read_text()), path


def test_a_warning_stands_on_a_line_of_its_own_beside_a_progress_bar(monkeypatch):
    """The bar is cleared before the line and drawn again after it."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    with tqdm(total=2, file=written, desc="explaining", mininterval=0) as bar, warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_: written.write(f"{message}\n"))
        bar.update()
        warn_caller("files are resampled")
    before, _, after = written.getvalue().partition("files are resampled\n")
    assert before.rpartition("explaining")[2].endswith("\r")
    assert "explaining" in after


@pytest.mark.parametrize("name", [None, 3])
def test_code_without_a_name_of_its_module_is_no_error(name):
    run = {"__name__": name, "warn_caller": warn_caller}
    with warnings.catch_warnings(record=True, action="always"):
        exec("warn_caller('seen')\nran = True", run)
    assert run["ran"]
