"""What a fit says of its duration."""

import re

import pytest
import torch

from captum_apex import FeatureBank, Scheme, fit_basis
from captum_apex.bases import fit_progress
from captum_apex.bases.fit_progress import FitProgress, long_fit_text
from captum_apex.defaults import FIT_EPOCHS
from captum_apex.layers.origin import Origin


@pytest.mark.parametrize(
    ("done", "seconds", "said"),
    [
        (100, 0.6, None),  # 166 cells a second: 60 s
        (100, 0.65, "about a minute"),
        (100, 3.0, "about 5 minutes"),
        (50, 3.0, "about 10 minutes"),
        (100, 53.9, "about 90 minutes"),
        (100, 54.1, "about 1.5 hours"),
        (100, 100.0, "about 2.8 hours"),
    ],
)
def test_the_time_follows_from_the_rate_so_far(done, seconds, said):
    text = long_fit_text(Scheme.SQUARE, (128, 256), done, 10_000, seconds)
    assert text.startswith(f"The fit of square on a grid of 128 × 256 will take {said}.") if said else text == ""


def test_a_long_fit_is_told_what_takes_less_time():
    assert "--layer, --scheme time" in long_fit_text(Scheme.SQUARE, (128, 256), 1, 100, 10.0)
    other = long_fit_text(Scheme.TIME, None, 1, 100, 10.0)
    assert other.startswith("The fit of time will take about 17 minutes. A layer with fewer channels")
    assert "--scheme" not in other


@pytest.fixture
def clock(monkeypatch):
    """A clock that is ten seconds further at each look."""
    monkeypatch.setattr(fit_progress, "perf_counter", iter(range(0, 1000, 10)).__next__)


@pytest.mark.usefixtures("clock")
def test_it_is_said_once_after_the_first_step_and_only_where_progress_is_shown(capsys):
    for shown in (False, True):
        with FitProgress(Scheme.SQUARE, (128, 256), 1000, shown) as progress:
            progress.advance(100)
            progress.advance(100)
        text = capsys.readouterr().err
        assert text.count("The fit of square on a grid of 128 × 256 will take about 2 minutes.") == shown
        assert ("fitting square on a grid of 128 × 256:" in text) == shown


@pytest.mark.parametrize("scheme", ["square", "time-frequency"])
def test_the_bar_of_a_fit_names_scheme_and_grid_and_ends_at_its_end(scheme, capsys):
    grids = torch.rand(9, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    cells = {each: each.cells(grids)[0].contiguous() for each in (Scheme.SQUARE, Scheme.TIME, Scheme.FREQUENCY)}
    bank = FeatureBank(cells, grids.mean((2, 3)), None, Origin("layer", grid=(3, 5), n_clips=9))
    for method in FIT_EPOCHS:
        fit_basis(bank, scheme, method=method, epochs=5, n_prototypes=(9, 2), progress=True)
        last = re.split("[\\r\\n]", capsys.readouterr().err.strip())[-1]
        assert last.startswith(f"fitting {scheme} on a grid of 3 × 5: 100%")
        assert re.search(r"\d+:\d+ since the start, \d+:\d+ left$", last)
