"""The tables of `prototypes`: means over seeds, and the widest of their intervals."""

import pandas as pd

from benchmarks.experiments.prototype_quality import CHANCES, MEASURES
from benchmarks.reports.prototypes_table import CHANCE, NAME, OF_CHANNELS, OF_PLACES, TABLES, prototypes_section


def line(basis, seed, value, spread=0.125):
    values = {"task": "digits", "network": "cnn", "seed": seed, "basis": basis, "scheme": "time"}
    for name in MEASURES:
        values |= {name: value, f"{name}_low": value - spread, f"{name}_high": value + spread}
    for name in ("part", "part_at_random", "consistency", "stability"):
        values |= {name: float("nan"), f"{name}_low": float("nan"), f"{name}_high": float("nan")}
    return values | dict.fromkeys(CHANCES, 0.25)


SECTION = prototypes_section(pd.DataFrame([line("raw", 0, 0.25), line("PCA", 0, 0.5), line("raw", 1, 0.5)]))


def test_every_measure_is_in_one_table():
    names = [name for table in TABLES.values() for name in table]
    assert sorted(names) == sorted(MEASURES)
    assert SECTION.title == NAME
    assert list(SECTION.tables) == [CHANCE, *TABLES]


def test_entries_are_means_with_the_widest_interval_of_the_seeds():
    raw, pca = SECTION.tables[OF_CHANNELS].to_dict("records")
    assert (raw["basis"], raw["purity"], raw["seeds"]) == ("raw", "0.375 [0.125, 0.625]", "0, 1")
    assert (pca["basis"], pca["purity"], pca["seeds"]) == ("PCA", "0.500 [0.375, 0.625]", "0")
    assert SECTION.tables["Explanations"]["channels"].tolist() == ["0.4 [0.1, 0.6]", "0.5 [0.4, 0.6]"]


def test_what_a_task_does_not_have_is_a_dash():
    assert SECTION.tables[OF_PLACES]["part"].tolist() == ["–", "–"]
    assert SECTION.tables[OF_PLACES]["fall"].tolist()[1] == "0.500 [0.375, 0.625]"


def test_the_chances_stand_once_per_task():
    assert SECTION.tables[CHANCE].to_dict("records") == [
        {"task": "digits", "network": "cnn", "class": "0.250", "class_unseen": "0.250", "overlap": "0.250"}
    ]


def test_a_single_value_has_no_interval():
    alone = line("raw", 0, 0.5, spread=float("nan"))
    table = prototypes_section(pd.DataFrame([alone])).tables[OF_CHANNELS]
    assert table["purity"].tolist() == ["0.500"]
