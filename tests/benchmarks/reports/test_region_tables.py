"""The tables of the command `regions`."""

import math

import pandas as pd

from benchmarks.reports.region_tables import GROUPS, region_sections


def lines():
    columns = [name for names in GROUPS.values() for name in names]
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
    means, by_seed = region_sections(lines())
    table = means.tables["Regions"]
    assert list(table["scheme"]) == ["time", "square"]
    assert list(table["meets truth: cell / found / random"]) == ["0.50 / 0.50 / 0.50", "– / – / –"]
    assert set(table["probability falls: cell / found / random"]) == {"0.50 / 0.40 / 0.00"}
    assert set(table["found : random"]) == {"400"}  # 0.4 to 0.001, the smallest that counts
    assert set(table["seeds"]) == {"0, 1"}
    seeds = by_seed.tables["Regions by seed"]
    assert list(seeds["seed"]) == ["0", "0", "1", "1"]
    assert list(seeds["found : random"]) == ["200", "200", "6", "6"]
