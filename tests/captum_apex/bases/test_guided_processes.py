"""The guide's script for several processes, as it stands there, started by torchrun with two processes."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from captum_apex import FeatureBank, PrototypeBasis, fit_basis
from captum_apex.demonstration import EveningSounds, classifier

ROOT = Path(__file__).parents[3]
SECTION = "### Several processes, GPUs or machines\n"
PARTS = ("part-0-of-2", "part-1-of-2")


def blocks():
    """The script of the guide, the command that runs it, and what it prints."""
    section = (ROOT / "tutorials" / "guides" / "your_own_model.md").read_text().split(SECTION)[1]
    return [
        re.search(rf"^```{kind}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[1] for kind in ("py", "sh", "text")
    ]


def run(folder):
    """Runs the command of the guide in a folder, and returns what it prints."""
    script, command, _ = blocks()
    program, *arguments = shlex.split(command)
    assert program == "torchrun"
    Path(folder, arguments[-1]).write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def printed(folder):
    return run(folder)


@pytest.fixture(scope="module")
def whole():
    pond = classifier()
    return FeatureBank.from_dataset(pond.model, pond.layer, pond.dataset(EveningSounds("test")))


def test_the_script_prints_what_the_guide_shows(printed):
    assert printed == blocks()[2]


def test_the_joined_bank_is_that_of_one_pass_bit_for_bit(folder, printed, whole):
    joined = FeatureBank.load(folder / "features")
    assert {path.name for path in (folder / "features").iterdir()} == set(PARTS)
    assert torch.equal(joined.means, whole.means)
    assert torch.equal(joined.labels, whole.labels)
    assert joined.origin == whole.origin
    for sequence, cells in whole.cells.items():
        assert torch.equal(joined.cells[sequence], cells)


def test_the_basis_is_that_of_one_process_and_has_regions(folder, printed, whole):
    expected = fit_basis(whole, "time", n_prototypes=(50, 5))
    (path,) = (folder / "bases").iterdir()
    found = PrototypeBasis.load(path)
    torch.testing.assert_close(found.U, expected.U, rtol=0, atol=1e-4)
    assert found.origin == expected.origin
    for side in ("positive", "negative"):
        ours, theirs = getattr(found, side), getattr(expected, side)
        assert torch.equal(ours.indices, theirs.indices)
        located = ours.boxes[:, :, 0, 0] >= 0
        assert located[:, 0].all()
        assert not located[:, 1:].any()
