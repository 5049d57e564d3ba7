"""The table of `shortcuts`: means and ranges over seeds."""

import pandas as pd

from benchmarks.experiments.shortcuts import COLUMNS
from benchmarks.reports.shortcuts_table import NAME, shortcuts_section

NAN = float("nan")


def line(trained, seed, evidence, level=-40.0, plant="hum"):
    values = dict.fromkeys(COLUMNS, 0.5) | {"trained": trained, "scheme": "time", "evidence": evidence}
    return {"task": "digits", "network": "cnn", "seed": seed, "plant": plant, "level": level, **values}


def test_each_classifier_has_one_line_over_its_seeds():
    lines = [
        line("with it", 0, 0.75),
        line("without it", 0, NAN),
        line("with it", 1, 0.25),
        line("with it", 1, NAN, -60),
        line("with it", 0, 0.125, plant="click"),
    ]
    table = shortcuts_section(pd.DataFrame(lines)).tables[NAME]
    assert table["trained"].tolist() == ["with it", "without it", "with it", "with it"]
    assert table["plant"].tolist() == ["hum", "hum", "hum", "click"]
    assert table["level"].tolist() == ["-40", "-40", "-60", "-40"]
    assert table["evidence"].tolist() == ["0.500 (0.250 to 0.750)", "–", "–", "0.125"]
    assert table["examples chance"].tolist()[1] == "0.500"
    assert table["seeds"].tolist() == ["0, 1", "0", "1", "0"]
