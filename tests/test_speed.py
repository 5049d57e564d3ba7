"""The table of ratios is whole; the ratios themselves are not tested, they are the machine's."""

from benchmarks import speed


def test_speed_measures_everything_it_promises(monkeypatch):
    monkeypatch.setattr(speed, "FIT_CLIPS", 100)
    monkeypatch.setattr(speed, "BATCH", 2)
    timings = speed.measure(repeats=1)
    assert [timing.limit for timing in timings] == [1.5, 1.0, 1.1, 1.15, 1.15, 1.15] * 2 + [15.0, 4.0, 4.0, 4.0]
    assert all(timing.seconds > 0 for timing in timings)
    printed = speed.table(timings)
    assert all(timing.what in printed for timing in timings)
