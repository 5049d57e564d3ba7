"""The table of `shortcuts`: means and ranges over seeds."""

import pandas as pd

from benchmarks.experiments.shortcuts import COLUMNS
from benchmarks.reports.shortcuts_table import NAME, shortcuts_section

NAN = float("nan")


def line(trained, seed, evidence, level=-40.0):
    values = dict.fromkeys(COLUMNS, 0.5) | {"trained": trained, "scheme": "time", "evidence": evidence}
    return {"task": "digits", "network": "cnn", "seed": seed, "level": level, **values}


def test_each_classifier_has_one_line_over_its_seeds():
    lines = [
        line("with hum", 0, 0.75),
        line("without hum", 0, NAN),
        line("with hum", 1, 0.25),
        line("with hum", 1, NAN, -60),
    ]
    table = shortcuts_section(pd.DataFrame(lines)).tables[NAME]
    assert table["trained"].tolist() == ["with hum", "without hum", "with hum"]
    assert table["level"].tolist() == ["-40", "-40", "-60"]
    assert table["evidence"].tolist() == ["0.500 (0.250 to 0.750)", "–", "–"]
    assert table["examples chance"].tolist()[1] == "0.500"
    assert table["seeds"].tolist() == ["0, 1", "0", "1"]
