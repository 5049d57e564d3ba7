"""The table of ratios is whole; the ratios themselves are not tested, they are the machine's."""

import math

import pytest

from benchmarks.experiments import speed
from benchmarks.experiments.page_writing import Size


def test_speed_measures_everything_it_promises(monkeypatch):
    monkeypatch.setattr(speed, "FIT_CLIPS", 100)
    monkeypatch.setattr(speed, "BATCH", 2)
    monkeypatch.setattr(speed, "LARGE_INPUT", (1, 64, 64))
    monkeypatch.setattr(speed, "LARGE_BATCH", 1)
    monkeypatch.setattr(speed, "LARGE_NETWORK", "convnext_atto")
    monkeypatch.setattr(speed, "HOUR", 12)
    monkeypatch.setattr(speed, "PAGES", [(Size(2, (0.2, 0.3), 8000), 25.0), (Size(1, (0.3, 0.3), 8000), 15.0)])
    monkeypatch.setattr(speed, "WIDE", (20, 16, 2, 4))
    monkeypatch.setattr(speed, "WIDEST", (20, 32, 2, 4))
    monkeypatch.setattr(speed, "FINE", (20, 8, 16, 32))
    monkeypatch.setattr(
        speed, "_in_separate_process", lambda measured, *arguments: measured(*arguments)
    )  # it would not see the sizes
    with pytest.warns(UserWarning, match="20 clips are fewer than 100 prototypes"):
        timings = speed.measure(repeats=1)
    limits = [timing.limit for timing in timings if not math.isnan(timing.limit)]
    assert limits == [1.5, 1.0, 40.0, 1.1, 1.15, 1.15, 1.15] * 2 + [
        15.0,
        4.0,
        4.0,
        4.0,
        2.0,
        0.5,
        0.5,
        0.5,
        1.5,
        25.0,
        15.0,
        300.0,
        300.0,
        12.0,
        12.0,
        90.0,
        90.0,
        10.0,
        12.0,
    ]
    assert all(timing.megabytes > 100 for timing in timings[-8:])
    assert all(timing.seconds > 0 for timing in timings)
    printed = speed.table(timings)
    assert all(timing.what in printed for timing in timings)


def held(amount):
    kept = b"x" * amount
    return [speed.Timing("held", len(kept), "", math.nan, 0.0, speed.most_megabytes())]


def test_memory_is_that_of_a_separate_process():
    little, much = (speed._in_separate_process(held, amount)[0].megabytes for amount in (0, 300 * 2**20))
    assert much - little == pytest.approx(300, abs=30)
