"""The tables of `fits`: means and ranges over seeds, and differences to the fit by gradient, case by case."""

import pandas as pd

from benchmarks.reports.fits_table import AGAINST, NAME, differences_table, fits_section


def line(fit, seed, scheme, unseen, seconds, task="digits"):
    subject = {"task": task, "network": "cnn", "seed": seed, "fit": fit, "scheme": scheme}
    return subject | {"purity": 0.5, "unseen": unseen, "removed": 0.25, "alone": 0.125, "seconds": seconds}


LINES = pd.DataFrame(
    [
        line("gradient", 0, "time", 0.2, 2.0),
        line("gradient", 1, "time", 0.3, 4.0),
        line("gradient", 1, "square", 0.9, 8.0),
        line("closed form", 1, "time", 0.4, 1.0),
        line("closed form", 0, "time", 0.25, 1.0),
        line("closed form", 0, "time", 0.25, 1.0, task="scenes"),  # there is nothing to compare it with
        line("closed form", 1, "square", 0.7, 1.0),
    ]
)


def test_differences_are_of_the_same_scheme_and_seed():
    (only,) = differences_table(LINES).to_dict("records")
    assert (only["task"], only["fit"], only["cases"]) == ("digits", "closed form", "3")
    assert only["unseen"] == "-0.017 (-0.200 to 0.100)"  # of 0.1, 0.05 and -0.2
    assert only["purity"] == "0.000 (0.000 to 0.000)"
    assert only["share of the seconds"] == "0.250"  # the middle one of 1/4, 1/2 and 1/8


def test_the_table_has_the_seeds_of_each_line():
    tables = fits_section(LINES).tables
    assert list(tables) == [AGAINST, NAME]
    rows = {(row["task"], row["scheme"], row["fit"]): row for row in tables[NAME].to_dict("records")}
    assert rows["digits", "time", "closed form"]["seeds"] == "0, 1"
    assert rows["digits", "time", "closed form"]["unseen"] == "0.325 (0.250 to 0.400)"
    assert rows["scenes", "time", "closed form"]["unseen"] == "0.250"


def test_without_the_fit_by_gradient_there_are_no_differences():
    assert list(fits_section(LINES[LINES["fit"] == "closed form"]).tables) == [NAME]
