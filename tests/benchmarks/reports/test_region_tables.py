"""The tables of the command `regions`."""

import math

import pandas as pd

from benchmarks.reports.region_tables import LINE_COLUMNS, region_sections


def lines():
    common = {"task": "scenes", "network": "cnn", "clips": 40}
    values = [
        {"seed": seed, "scheme": scheme, **dict.fromkeys(LINE_COLUMNS, 0.5), "drop_found": drop, "drop_random": random}
        for seed, drop, random in ((1, 0.6, 0.1), (0, 0.2, -0.1))
        for scheme in ("time", "square")
    ]
    frame = pd.DataFrame([common | line for line in values])
    frame.loc[frame.scheme == "square", ["cell", "found", "random"]] = math.nan
    return frame


def test_regions_are_means_over_seeds_with_the_ratio_of_the_means():
    means, _, _, by_seed = region_sections(lines())
    table = means.tables["Regions"]
    assert list(table["scheme"]) == ["time", "square"]
    assert list(table["meets truth: cell / found / random"]) == ["0.50 / 0.50 / 0.50", "– / – / –"]
    assert set(table["probability falls: cell / found / random"]) == {"0.50 / 0.40 / 0.00"}
    assert set(table["found : random"]) == {"400"}  # 0.4 to 0.001, the smallest that counts
    assert set(table["seeds"]) == {"0, 1"}
    seeds = by_seed.tables["Regions by seed"]
    assert list(seeds["seed"]) == ["0", "0", "1", "1"]
    assert list(seeds["found : random"]) == ["200", "200", "6", "6"]


def test_missed_events_are_listed_by_seed_where_the_truth_is_known():
    frame = lines()
    frame["any_of_three"] = 0.75
    frame["event_missed"] = [-0.02, math.nan, 0.01, math.nan]
    table = region_sections(frame)[2].tables["Missed events"]
    assert list(table["scheme"]) == ["time", "time"]
    assert list(table["seed"]) == ["0", "1"]
    assert set(table["meets truth: strongest / any of three"]) == {"0.50 / 0.75"}
    assert list(table["event masked, channel falls: met / missed"]) == ["0.50 / 0.01", "0.50 / -0.02"]


def test_tasks_without_known_truth_have_no_missed_events():
    frame = lines()
    frame[["cell", "found", "random"]] = math.nan
    assert [section.title for section in region_sections(frame)] == ["Regions", "Regions by fill", "Regions by seed"]


def test_regions_by_fill_have_the_falls_of_each_other_fill():
    frame = lines()
    frame["drop_found_silence"] = frame["drop_found"] + 0.1
    frame["drop_random_silence"] = frame["drop_random"]
    frame["channel_cell_mean"] = 0.25
    table = region_sections(frame)[1].tables["Regions by fill"]
    assert list(table["scheme"]) == ["time", "time", "square", "square"]
    assert list(table["fill"]) == ["silence", "mean"] * 2
    assert list(table["probability falls: cell / found / random"]) == ["0.50 / 0.50 / 0.00", "0.50 / 0.50 / 0.50"] * 2
    assert list(table["channel falls: cell / found / random"]) == ["0.50 / 0.50 / 0.50", "0.25 / 0.50 / 0.50"] * 2
    assert list(table["found : random"]) == ["500", "1"] * 2  # 0.5 to 0.001, the smallest that counts
