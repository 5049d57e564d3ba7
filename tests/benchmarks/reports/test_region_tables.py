"""The tables of the command `regions`."""

import math

import pandas as pd

from benchmarks.experiments.region_summary import OTHER_FILLS
from benchmarks.reports.region_tables import FALLS, GROUPS, region_sections


def lines():
    columns = [name for names in GROUPS.values() for name in names]
    columns += [f"{name}_{fill}" for fill in OTHER_FILLS for head in FALLS for name in GROUPS[head]]
    common = {"task": "scenes", "network": "cnn", "clips": 40}
    values = [
        {"seed": seed, "scheme": scheme, **dict.fromkeys(columns, 0.5), "drop_found": drop, "drop_random": random}
        for seed, drop, random in ((1, 0.6, 0.1), (0, 0.2, -0.1))
        for scheme in ("time", "square")
    ]
    frame = pd.DataFrame([common | line for line in values])
    frame.loc[frame.scheme == "square", ["cell", "found", "random"]] = math.nan
    return frame


def test_regions_are_means_over_seeds_with_the_ratio_of_the_means():
    means, _, by_seed = region_sections(lines())
    table = means.tables["Regions"]
    assert list(table["scheme"]) == ["time", "square"]
    assert list(table["meets truth: cell / found / random"]) == ["0.50 / 0.50 / 0.50", "– / – / –"]
    assert set(table["probability falls: cell / found / random"]) == {"0.50 / 0.40 / 0.00"}
    assert set(table["found : random"]) == {"400"}  # 0.4 to 0.001, the smallest that counts
    assert set(table["seeds"]) == {"0, 1"}
    seeds = by_seed.tables["Regions by seed"]
    assert list(seeds["seed"]) == ["0", "0", "1", "1"]
    assert list(seeds["found : random"]) == ["200", "200", "6", "6"]


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
