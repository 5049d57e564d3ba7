"""The leaderboard: means over cells, the order of the methods, and what is known of the truth."""

import pandas as pd

from benchmarks.reports.leaderboard_table import (
    COLUMNS,
    KEY,
    SCORES,
    TRUTH,
    leaderboard_lines,
    leaderboard_section,
)

NAN = float("nan")


def line(entry, method, grid, difference, pointing=NAN, mass=NAN):
    values = dict.fromkeys(COLUMNS, "") | {"difference": difference, "pointing": pointing, "relevance_mass": mass}
    return {"version": 1, "entry": entry, "method": method, **values, "grid": grid, "fill": "mean", "passes": 2.0}


LINES = pd.DataFrame(
    [
        line("scenes", "random", "time", 0.0, 0.1, 0.2),
        line("scenes", "mine", "time", 0.5, 0.5, 0.3),
        line("scenes", "mine", "square", 0.25, 1.0, 0.3),
        line("digits", "mine", "time", 0.1),
        line("scenes", "partly", "time", 0.9, 0.0, NAN),
        line("scenes", "partly", "square", NAN, 0.0, NAN),
        line("digits", "random", "time", 0.2),
        line("digits", "best", "time", 0.9),
        line("scenes", "best", "time", 0.4, 0.4, 0.4),
    ]
)


def test_methods_are_in_the_order_of_their_mean_over_entries_and_partial_ones_come_last():
    tables = leaderboard_section(LINES).tables
    scores = {row["method"]: row for row in tables[SCORES].to_dict("records")}
    assert list(scores) == ["best", "mine", "random (control)", "partly"]
    assert scores["mine"]["scenes"] == "0.375"
    assert scores["best"]["digits"] == "0.900"
    assert scores["partly"]["scenes"] == "–"
    assert scores["partly"]["digits"] == "–"
    assert scores["mine"]["passes"] == "2.000"


def test_the_truth_is_shown_where_it_is_known():
    table = leaderboard_section(LINES).tables[TRUTH]
    assert list(table.columns) == ["method", "scenes"]
    rows = dict(zip(table["method"], table["scenes"], strict=True))
    assert rows["mine"] == "0.750, 0.300"
    assert rows["partly"] == "0.000, –"
    assert TRUTH not in leaderboard_section(LINES[LINES["entry"] == "digits"]).tables


def test_lines_hold_the_means_of_a_run_and_what_is_said_about_it():
    rows = pd.DataFrame(
        {
            "method": ["mine", "mine"],
            "grid": ["time", "time"],
            "fill": ["mean", "mean"],
            "status": ["ok", "ok"],
            "clip": [0, 1],
            "label": [0, 0],
            "predicted": [0, 0],
            "deletion": [0.25, 0.5],
            "insertion": [0.75, 0.75],
            "pointing": [1.0, 0.0],
            "relevance_mass": [0.5, 0.25],
            "passes": [3.0, 3.0],
        }
    )
    about = {"version": 1, "entry": "scenes-cnn-0", "exact": True, "source": "a paper", "code": "abc"}
    (found,) = leaderboard_lines(rows, about, {"mine": "1f", "other": "2e"}).to_dict("records")
    assert tuple(found) == (*KEY, *COLUMNS)
    assert (found["difference"], found["pointing"], found["relevance_mass"]) == (0.375, 0.5, 0.375)
    assert (found["clips"], found["source"], found["exact"]) == (2, "a paper", True)
    assert found["file"] == "1f"
    assert found["low"] < 0.375 < found["high"]
