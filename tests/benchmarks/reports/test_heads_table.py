"""The table of `heads`: means and ranges over seeds."""

import pandas as pd

from benchmarks.experiments.head_scores import MEASURES
from benchmarks.reports.heads_table import NAME, heads_section


def line(head, seed, top_1, error_rate=float("nan")):
    values = dict.fromkeys(MEASURES, 0.5) | {"top_1": top_1, "equal_error_rate": error_rate}
    return {"task": "digits", "network": "cnn", "seed": seed, "head": head, **values}


def test_each_head_has_one_line_over_its_seeds():
    lines = pd.DataFrame([line("own head", 0, 0.75), line("InfoDisent", 1, 0.5, 0.25), line("own head", 2, 0.25)])
    table = heads_section(lines).tables[NAME]
    assert table["head"].tolist() == ["own head", "InfoDisent"]
    assert table["top-1"].tolist() == ["0.500 (0.250 to 0.750)", "0.500"]
    assert table["EER"].tolist() == ["–", "0.250"]
    assert table["seeds"].tolist() == ["0, 2", "1"]
