"""The table of `naming`: means and ranges over seeds."""

import pandas as pd

from benchmarks.experiments.channel_naming import MEASURES
from benchmarks.reports.naming_table import ABOUT, NAME, naming_section

NAN = float("nan")


def line(basis, seed, same):
    values = dict.fromkeys(MEASURES, 0.5) | {"same": same}
    return {"task": "scenes", "network": "cnn", "seed": seed, "scheme": "time", "basis": basis, **values}


def test_each_basis_has_one_line_over_its_seeds():
    lines = [line("raw", 0, 0.75), line("PCA", 0, NAN), line("raw", 1, 0.25), line("raw", 2, NAN)]
    section = naming_section(pd.DataFrame(lines))
    table = section.tables[NAME]
    assert table["basis"].tolist() == ["raw", "PCA"]
    assert table["same"].tolist() == ["0.50 (0.25 to 0.75, 2 of 3)", "–"]
    assert table["class event"].tolist() == ["0.50 (0.50 to 0.50)", "0.50"]
    assert table["seeds"].tolist() == ["0, 1, 2", "0"]
    text = " ".join(ABOUT)
    assert all(f"{name.replace('_', ' ')}:" in text.lower() for name in MEASURES)
