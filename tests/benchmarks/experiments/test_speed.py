"""The table of ratios is whole; the ratios themselves are not tested, they are the machine's."""

import math

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.experiments import speed, timing
from benchmarks.experiments.huge_bank import RandomFeatures
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
    monkeypatch.setattr(speed, "HUGE", (300, (4, 2, 8)))
    monkeypatch.setattr(
        speed, "in_separate_process", lambda measured, *arguments: measured(*arguments)
    )  # it would not see the sizes
    with pytest.warns(UserWarning, match="20 clips are fewer than 100 prototypes"):
        timings = {part: list(speed.measure(part, repeats=1)) for part in speed.PARTS}
    limits = {part: [timing.limit for timing in rows if not math.isnan(timing.limit)] for part, rows in timings.items()}
    of_network = {
        "attribution": [1.15, 1.0, 1.4],
        "explanations": [2.2, 3.0, 2.2, 3.0],
        "projection": [1.15],
        "regions": [40.0],
        "bank": [1.1],
        "masking": [1.15, 1.15, 1.15],
    }
    assert limits == {
        **{f"{name}-{network}": of_part for network in ("cnn", "convnext") for name, of_part in of_network.items()},
        "fits": [15.0, 4.0, 4.0, 4.0, 2.0, 0.5, 0.5, 0.5],
        "attribution-large": [1.15],
        "pages": [25.0, 15.0],
        "fits-wide-gradient": [300.0, 300.0],
        "fits-wide-closed-form": [12.0, 12.0],
        "fits-widest": [90.0, 90.0],
        "fits-fine": [10.0],
        "events": [12.0],
        "candidates": [],
    }
    every = [timing for rows in timings.values() for timing in rows]
    separate = [
        timing
        for part, rows in timings.items()
        for timing in rows
        if part.startswith(("fits-", "events", "candidates"))
    ]
    assert len(separate) == 12
    assert all(timing.megabytes > 100 for timing in separate)
    assert all(timing.seconds > 0 for timing in every)
    assert all(str(timing).startswith(timing.what) for timing in every)


def test_clips_of_the_huge_bank_have_levels_of_their_own_that_stay():
    clips = RandomFeatures(200, (3, 2, 4))
    assert torch.equal(clips[5], clips[5])
    levels = torch.stack([clips[5 + 64 * turn].sum((1, 2)) / clips.grids[5].sum((1, 2)) for turn in range(3)])
    assert levels.flatten().unique().numel() == 9  # clips of one grid
    assert not torch.equal(clips[5] / levels[0][:, None, None], clips[6] / levels[0][:, None, None])


PLAIN = speed.Timing("fit", 0.25, "", math.nan, 0.5)
RATIO = speed.Timing("attribution", 0.5, "a forward pass", 1.5, math.nan, 120.0)


def test_rows_are_printed_as_they_are_measured_and_finished_parts_are_kept(tmp_path, monkeypatch, capsys):
    measured = []
    said = []

    def measure(part, *, repeats, device):
        measured.append((part, repeats, device))
        yield PLAIN
        said.append(capsys.readouterr())
        assert str(PLAIN) in said[-1].out  # before the next one
        if part == "pages" and len(measured) < 3:
            raise KeyboardInterrupt
        yield RATIO

    monkeypatch.setattr(speed, "measure", measure)
    arguments = ["speed", "--csv", str(tmp_path / "new" / "speed.csv"), "--parts", "fits", "pages"]
    assert main(arguments) == 130
    assert main(arguments) == 0
    assert measured == [("fits", 5, "cpu"), ("pages", 5, "cpu"), ("pages", 5, "cpu")]
    assert "fits: from" in said[-1].err
    capsys.readouterr()
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [timing.HEADER, *map(str, [PLAIN, RATIO, PLAIN, RATIO])]
    assert main([*arguments, "--repeats", "2"]) == 0
    assert measured[3:] == [("fits", 2, "cpu"), ("pages", 2, "cpu")]


def test_a_file_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "other.csv").write_text("part,device\n")
    assert main(["speed", "--csv", str(tmp_path / "other.csv")]) == 2
    assert "but it lacks the column repeats" in capsys.readouterr().err


def held(amount):
    kept = b"x" * amount
    return [speed.Timing("held", len(kept), "", math.nan, 0.0, speed.most_megabytes())]


def test_memory_is_that_of_a_separate_process():
    little, much = (timing.in_separate_process(held, amount)[0].megabytes for amount in (0, 300 * 2**20))
    assert much - little == pytest.approx(300, abs=30)
