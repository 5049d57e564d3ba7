"""The benchmark's report and figures, on synthetic runs with known numbers."""

import json
import re
import shlex
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from benchmarks import statistics
from benchmarks.reports import markup, run_figures, run_report, sections, standings

GRIDS, FILLS = ["time", "frequency"], ["silence", "mean"]
ODD = "50% & more_x"
MEANS = {
    "APEX time": 0.4,
    "APEX time, through IG": 0.3,
    "LayerGradCam": 0.2,
    "Saliency": 0.25,
    "energy": 0.1,
    "random": 0.0,
}
PASSES = {
    "APEX time": 1.2,
    "APEX time, through IG": 61.0,
    "LayerGradCam": 2.0,
    "Saliency": 3.0,
    "energy": 0.0,
    "random": 0.0,
}
REASON = "unsupported (no rule for <class 'Norm'> | *see* the_list)"
POINTS = np.linspace(0, 1, 5)


def cell(method, grid, fill, mean, n_clips=6, **values):
    """A cell whose scores are the mean ± 0.05 in turn; its curves' areas are its deletion and insertion."""
    clips = np.arange(n_clips)
    deletion = np.full(n_clips, 0.5)
    insertion = 0.5 + mean + 0.05 * (-1.0) ** clips
    line = {"method": method, "grid": grid, "fill": fill, "status": "ok", "clip": 7 * clips, "label": 1, "predicted": 1}
    line |= {
        "deletion": deletion,
        "insertion": insertion,
        "deletion_logit": 3.0,
        "aopc": insertion - deletion,
        "infidelity": 0.00012345,
    }
    line |= {
        "pointing": [0.0, np.nan] * (n_clips // 2),
        "sensitivity": np.nan,
        "passes": 1.0,
        "memory": 2e6,
        "seconds": 0.004,
    }
    line |= {"fraction": numbers(POINTS), "deletion_curve": [numbers(1 - POINTS)] * n_clips}
    line |= {"insertion_curve": [numbers(2 * area * POINTS) for area in insertion]}
    return pd.DataFrame(line | values)


def failed(method, grid, fill, status=REASON):
    return pd.DataFrame(
        {"method": [method], "grid": grid, "fill": fill, "status": status, "clip": -1, "label": -1, "predicted": -1}
    )


def numbers(values):
    return " ".join(repr(float(value)) for value in values)


def cells_of_a_run():
    parts = {}
    for grid in GRIDS:
        for fill in FILLS:
            parts |= {
                (name, grid, fill): cell(name, grid, fill, mean + 0.1 * (fill == "mean"), passes=PASSES[name])
                for name, mean in MEANS.items()
            }
            parts["greedy oracle", grid, fill] = cell(
                "greedy oracle", grid, fill, 0.8 + 0.1 * (fill == "mean"), n_clips=2, passes=300.0
            )
            parts[ODD, grid, fill] = cell(
                ODD, grid, fill, 0.15 + 0.1 * (fill == "mean"), status="axiom violated (0.23)", passes=8.0
            )
            parts["LRP", grid, fill] = failed("LRP", grid, fill)
    return parts


def start(folder, **settings):
    methods = [*MEANS, "greedy oracle", ODD, "LRP"]
    about = {
        "task": "scenes",
        "network": "cnn",
        "seed": 0,
        "device": "cpu",
        "clips": 6,
        "points": 5,
        "methods": methods,
        "grids": GRIDS,
    }
    about |= {"fills": FILLS, "reference": "LayerGradCam", "accuracy": 0.875, "limit": None, **settings}
    key = {"part": "test", "files": {}, "fit": {"epochs": 20}}
    (folder / "run.json").write_text(
        json.dumps({"key": key, "settings": about, "versions": {"python": "3.12.1", "torch": "2.11.0"}})
    )
    return folder


@pytest.fixture(scope="module")
def rows():
    return pd.concat(cells_of_a_run().values(), ignore_index=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory, rows):
    """A whole run's folder, with all tables beside the rows; and what the terminal shows."""
    folder = start(tmp_path_factory.mktemp("run"))
    rows.to_csv(folder / "rows.csv", index=False)
    drop = {
        "probability_before": 0.9,
        "probability_after": 0.5,
        "drop": 0.4,
        "low": 0.35,
        "high": 0.456,
        "accuracy_after": 0.6,
        "purity": 0.3,
    }
    pd.DataFrame([{"basis": "raw_channels", "n": 5, "kind": "removed", **drop}]).to_csv(
        folder / "evidence.csv", index=False
    )
    pd.DataFrame([{"scheme": "time", "raw": 0.25, "orthogonal": 0.31, "invertible": 0.48, "condition": 27.31}]).to_csv(
        folder / "purity.csv", index=False
    )
    test = {"drop": 0.2, "drop_random": 0.05, "difference": 0.15, "low": 0.1, "high": 0.2, "p": 1e-7, "accuracy": 0.6}
    pd.DataFrame([{"scheme": "time", "fill": "mean", "region": "found", "clips": 40, "share": 0.03, **test}]).to_csv(
        folder / "masking_test.csv", index=False
    )
    pd.DataFrame([{"model": "as it is", "largest_difference": 4e-6}]).to_csv(folder / "invariance.csv", index=False)
    (folder / "truth.csv").write_text("scheme,cell,found,enlarged,integrated,random,clips\n")  # no truth is known
    return folder, run_report.write(folder)


@pytest.fixture(scope="module")
def markdown(run):
    return (run[0] / "report.md").read_text()


@pytest.fixture(scope="module")
def tables(markdown):
    """Caption or section → head and lines of each table."""
    found, caption = {}, ""
    for block in markdown.split("\n\n"):
        if block.startswith(("**", "## ")):
            caption = block.strip("*# ")
        elif block.startswith("| "):
            lines = [
                [entry.strip() for entry in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.strip().splitlines()
            ]
            found[caption] = [lines[0], *lines[2:]]
    return found


def line(table, name):
    return next(entries for entries in table if entries[0] == name)


def test_a_report_writes_its_files(run):
    written = {path.name for path in run[0].iterdir()} - {"run.json", "rows.csv", *sections.TABLES}
    assert written == {
        "report.md",
        "report.tex",
        "cells.csv",
        "comparison.csv",
        "best.png",
        "scores.png",
        "curves.png",
        "ranks.png",
        "price.png",
    }


def test_the_cells_hold_the_means_of_the_rows(run, rows):
    cells = pd.read_csv(run[0] / "cells.csv").set_index(["method", "grid", "fill"])
    own = cells.loc[("Saliency", "time", "mean")]
    assert (own["difference"], own["clips"], own["infidelity"], own["pointing"]) == (
        pytest.approx(0.35),
        6,
        pytest.approx(0.00012345),
        0,
    )
    values = rows[(rows["method"] == "Saliency") & (rows["grid"] == "time") & (rows["fill"] == "mean")]
    ends = statistics.interval((values["insertion"] - values["deletion"]).to_numpy())
    assert (own["low"], own["high"]) == pytest.approx(ends)
    assert len(cells) == 36


def test_the_comparison_file_is_that_of_the_statistics(run, rows):
    found = pd.read_csv(run[0] / "comparison.csv")
    assert list(found.columns) == list(standings.COMPARED)
    own = found[(found["method"] == "Saliency") & (found["fill"] == "mean") & (found["grid"] == "time")].iloc[0]
    assert (own["difference"], own["wins"], own["coverage"]) == (pytest.approx(0.05), 6, 1.0)
    assert set(found[found["method"] == "greedy oracle"]["coverage"]) == {2 / 6}


def test_the_report_says_how_to_repeat_the_run(markdown, tables):
    typed = shlex.split(markdown.split("```")[1].removeprefix("sh\n"))
    assert typed[:6] == ["python", "-m", "benchmarks", "run", "--task", "scenes"]
    assert typed[typed.index("--methods") + 1 :] == [*MEANS, "greedy oracle", ODD, "LRP"]
    assert typed[typed.index("--fill") + 1 :][:2] == FILLS
    settings = dict(tables["Settings"][1:])
    assert (settings["accuracy"], settings["versions"], settings["fit"]) == (
        "0.875",
        "python 3.12.1, torch 2.11.0",
        "epochs 20",
    )
    assert not {"files", "limit"} & set(settings)


def test_the_command_is_shown_as_it_was_typed(tmp_path):
    folder = start(tmp_path, methods=["random"], command="python -m benchmarks run --methods random")
    cell("random", "time", "mean", 0.1, n_clips=2).to_csv(folder / "rows.csv", index=False)
    run_report.write(folder)
    assert "```sh\npython -m benchmarks run --methods random\n```" in (folder / "report.md").read_text()


def test_the_report_says_who_leads_and_by_how_much(tables):
    head, *lines = tables["Winners"]
    assert [entries[:2] for entries in lines] == [[grid, fill] for grid in GRIDS for fill in (*FILLS, "all fills")]
    own = dict(zip(head, lines[0], strict=True))
    assert (own["best"], own["family"], own["its family"], own["clips"]) == ("APEX time", "APEX", "other methods", "6")
    assert (own["best of another family"], own["lead"]) == ("Saliency", "0.150 [0.150, 0.150]")
    assert own["score"].startswith("0.40 [0.3")


def test_scores_stand_in_the_order_of_their_means(tables):
    names = [entries[0] for entries in tables["Mean scores"][1:]]
    assert names == [
        "greedy oracle",
        *sorted(MEANS, key=MEANS.get, reverse=True)[:4],
        ODD,
        "energy",
        "random",
        "LRP (no score)",
    ]
    assert line(tables["Mean scores"], "APEX time")[1:] == ["0.450", "6", "0.400", "0.500", "0.400", "0.500"]
    low, high = statistics.interval(0.4 + 0.05 * (-1.0) ** np.arange(6))
    assert line(tables["time regions, with 95% intervals"], "APEX time")[1] == f"0.40 [{low:.2f}, {high:.2f}]"


def test_shares_of_the_oracle_are_on_its_clips(tables):
    """On the first two clips the means are 0.4 and 0.8, then 0.5 and 0.9."""
    assert [entry.split()[0] for entry in line(tables["Share, time regions"], "APEX time")[1:]] == ["50%", "56%"]


def test_the_reference_is_compared_with_all_others(tables):
    head, *lines = tables["Cells where p < 0.05 after Holm"]
    assert head == ["method", "better", "not decided", "worse", "coverage"]
    assert line(lines, "APEX time") == [
        "APEX time",
        "0",
        "4",
        "0",
        "100%",
    ]  # six clips cannot show more: p 1/32, by seven methods
    own = line(tables["Difference to LayerGradCam, time regions"], "APEX time")[1]
    assert own == "0.20 [0.20, 0.20], p 0.219, 6/0/0"


def compared(p_values, n_clips, grid="time"):
    columns = {"grid": grid, "fill": "mean", "method": [f"M{k}" for k in range(len(p_values))], "clips": n_clips}
    return pd.DataFrame(columns | {"p": p_values})


def test_where_no_test_can_be_significant_the_report_says_so():
    """Eight clips and 71 tests: 71 × 2/2⁸ = 0.55; seven tests would do: 7 × 2/2⁸ = 0.055 would not, six: 0.047."""
    assert sections.undecidable(compared([0.5] * 6, 8)) == []
    for n_tests in (7, 71):
        (text,) = sections.undecidable(compared([0.5] * n_tests, 8))
        assert f"No p-value can be below 0.05 in: time, mean (8 clips, {n_tests} tests)." in text
    missing = compared([0.5] * 6 + [np.nan] * 65, 8)  # methods without scores are not tested
    assert sections.undecidable(missing) == []
    both = pd.concat([compared([0.5], 1), compared([0.5] * 7, 12, "square")])
    assert "in: time, mean (1 clip, 1 test). " in sections.undecidable(both)[0]


def test_the_report_says_what_few_clips_and_one_classifier_cannot_show(markdown):
    assert "No p-value can be below 0.05 in: time, silence (6 clips, 7 tests);" in markdown
    assert "All numbers are those of one trained classifier and of bases that were fitted once (seed 0)." in markdown


def test_the_masking_test_says_where_it_cannot_reject(tmp_path):
    lines = pd.DataFrame({"scheme": ["time"] * 24, "clips": 8, "p": 0.01, "p_holm": 0.24})
    lines.to_csv(tmp_path / "masking_test.csv", index=False)
    (section,) = sections.experiment_sections(tmp_path)
    assert "No p-value can be below 0.05 in: this table (8 clips, 24 tests)." in section.text[1]
    lines.assign(clips=40).to_csv(tmp_path / "masking_test.csv", index=False)
    assert len(sections.experiment_sections(tmp_path)[0].text) == 1


def test_ranks_leave_the_oracle_out(tables):
    assert line(tables["Mean ranks by regions"], "APEX time")[1:] == ["1.0 [1.0, 1.0]"] * 2
    assert all(entries[0] != "greedy oracle" for entries in tables["Mean ranks by regions"])


def test_measures_say_which_way_is_better_and_leave_out_what_was_not_measured(tables):
    head, *lines = tables["Measures, part 1 of 1"]
    assert head == ["method", "deletion ↓", "insertion ↑", "deletion logit ↓", "aopc ↑", "infidelity ↓", "pointing ↑"]
    assert line(lines, "APEX time")[1:] == ["0.5", "0.95", "3", "0.45", "0.000123", "0"]


def test_statuses_are_reported_unchanged(tables, markdown):
    _, *lines = tables["Statuses"]
    assert [re.sub(r"\\(.)", r"\1", entry) for entry in line(lines, "LRP")] == ["LRP", "all 4 cells", REASON, "no"]
    assert line(lines, ODD) == [ODD, "all 4 cells", "axiom violated (0.23)", "yes"]
    assert "not finished" not in markdown


def test_experiments_have_a_section_if_the_run_has_their_table(tables, markdown):
    assert tables["Channel removal"][1] == [
        "raw_channels",
        "5",
        "removed",
        "0.9",
        "0.5",
        "0.40 [0.35, 0.46]",
        "0.6",
        "0.3",
    ]
    assert tables["Purity"][1] == ["time", "0.25", "0.31", "0.48", "27.3"]
    assert tables["Masking test"][1][5:] == ["0.2", "0.05", "0.15 [0.10, 0.20]", "< 0.001", "0.6"]
    assert tables["Output invariance"][1] == ["as it is", "4e-06"]
    assert "Known truth" not in markdown


def test_every_table_of_the_markdown_is_rectangular(tables):
    assert all(len({len(entries) for entries in table}) == 1 for table in tables.values())


def test_the_price_is_given_by_regions(tables):
    assert tables["Price by regions"][0] == ["method", "passes, time", "passes, frequency", "ms per clip", "MB held"]
    assert line(tables["Price by regions"], "APEX time, through IG")[1:] == ["61", "61", "4", "2"]


def test_the_terminal_shows_the_scores(run):
    shown = run[1].splitlines()
    assert shown[0].split() == ["time", "time", "frequency", "frequency", "passes"]
    assert shown[1].split() == ["silence", "mean", "silence", "mean", "/", "clip"]
    assert shown[2].split() == ["greedy", "oracle", "0.800", "0.900", "0.800", "0.900", "300", "2", "clips"]
    assert shown[3].split() == ["APEX", "time", "0.400", "0.500", "0.400", "0.500", "1.2"]
    assert re.fullmatch(r"LRP( +–){5}  unsupported \(no rule .* \(4 of 4 cells\)", shown[10])
    assert "time, all fills: APEX time 0.45" in shown[12]
    assert shown[12].endswith("ahead of Saliency, the best of another family, by 0.150 [0.150, 0.150]")


def test_latex_is_escaped_and_rectangular(run):
    text = (run[0] / "report.tex").read_text()
    assert text.isascii()
    assert r"50\% \& more\_x" in text
    assert "more_x" not in text
    assert r"unsupported (no rule for \textless{}class 'Norm'\textgreater{} \textbar{} *see* the\_list)" in text
    begun, ended = (Counter(re.findall(rf"\\{word}{{(\w+)}}", text)) for word in ("begin", "end"))
    assert begun == ended
    assert begun["longtable"] >= 15
    for body in re.findall(r"\\begin{longtable}(.*?)\\end{longtable}", text, flags=re.DOTALL):
        n_columns = len(re.findall(r"P{[\d.]+cm}", body))
        lines = [
            part
            for part in body.split("\n")
            if part.endswith(r"\\") and "multicolumn" not in part and "caption" not in part
        ]
        assert {len(re.findall(r"(?<!\\)&", part)) for part in lines} == {n_columns - 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50% & more_x", r"50\% \& more\_x"),
        ("a\\b{c}~^#$", r"a\textbackslash{}b\{c\}\textasciitilde{}\textasciicircum{}\#\$"),
        ("é → 漢\n[x]", r"e $\to$ ? {[}x{]}"),
    ],
)
def test_escape(text, expected):
    assert markup.escape(text) == expected


def test_an_unfinished_run_lists_what_is_missing(tmp_path):
    """From the files of its cells alone; Saliency lacks a fill, random is not begun."""
    folder = start(tmp_path)
    (folder / "cells").mkdir()
    kept = {
        key: part for key, part in cells_of_a_run().items() if key[0] != "random" and key[::2] != ("Saliency", "mean")
    }
    for i, part in enumerate(kept.values()):
        part.to_csv(folder / "cells" / f"{len(kept) - i:02}.csv", index=False)
    shown = run_report.write(folder)
    told = (
        "This run is not finished. 6 cells are not computed yet: Saliency (time: mean; frequency: mean); "
        "random (all 4 cells)."
    )
    assert shown.endswith(told)
    assert told in (folder / "report.md").read_text()
    assert "| Saliency (partly) | 0.250 | 6 | 0.250 | – | 0.250 | – |" in (folder / "report.md").read_text()
    cells = pd.read_csv(folder / "cells.csv")
    assert list(dict.fromkeys(cells["method"])) == [
        name for name in [*MEANS, "greedy oracle", ODD, "LRP"] if name != "random"
    ]
    assert list(cells["fill"][:2]) == FILLS


def test_a_run_in_which_nothing_could_be_scored(tmp_path):
    folder = start(tmp_path, methods=["LRP"])
    rows = pd.concat([failed("LRP", grid, fill) for grid in GRIDS for fill in FILLS])
    rows = rows.assign(**dict.fromkeys(("deletion", "insertion", "passes", "memory", "seconds"), np.nan))
    rows.to_csv(folder / "rows.csv", index=False)
    assert "unsupported (no rule" in run_report.write(folder)
    text = (folder / "report.md").read_text()
    assert "Nothing was scored" in text
    assert "There is nothing to compare: LayerGradCam" in text
    assert "![" not in text


def test_rows_come_from_the_file_or_from_the_cells(tmp_path, rows):
    with pytest.raises(FileNotFoundError, match=r"expected rows.csv or cells/\*.csv in .*, but there is neither"):
        run_report.read_rows(tmp_path)
    (tmp_path / "cells").mkdir()
    for i, part in enumerate(cells_of_a_run().values()):
        part.to_csv(tmp_path / "cells" / f"{i:03}.csv", index=False)
    columns = list(rows.columns)
    pd.testing.assert_frame_equal(run_report.read_rows(tmp_path)[columns], rows[columns], check_dtype=False)
    rows[:3].to_csv(tmp_path / "rows.csv", index=False)
    assert len(run_report.read_rows(tmp_path)) == 3


def test_a_run_without_a_finished_cell_is_refused(tmp_path, rows):
    folder = start(tmp_path)
    rows[:0].to_csv(folder / "rows.csv", index=False)
    with pytest.raises(ValueError, match="expected a run with finished cells, but .* has none"):
        run_report.write(folder)


def test_a_picture_of_the_run_as_it_was_before_does_not_stay(tmp_path, rows):
    folder = start(tmp_path)
    rows.to_csv(folder / "rows.csv", index=False)
    run_report.write(folder)
    assert (folder / "best.png").exists()
    rows[rows["method"] == "Saliency"].to_csv(folder / "rows.csv", index=False)  # nothing to compare it with
    run_report.write(folder)
    assert not (folder / "best.png").exists()
    assert "best.png" not in (folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("value", "shown"), [(-0.0001, "0.00"), (0.316, "0.32"), (-0.5, "-0.50"), (float("nan"), "–"), (float("inf"), "–")]
)
def test_numbers(value, shown):
    assert markup.number(value) == shown


# The figures: what is drawn where, not its pixels.


@pytest.fixture(scope="module")
def cells(rows):
    return standings.summary(rows)


def many_cells(n_methods):
    """Cells of methods of two families, with the controls; APEX 0 leads on time, Other 0 on frequency."""
    names = [f"{kind} {i}" for i in range(n_methods) for kind in ("APEX", "Other")] + [
        "random",
        "energy",
        "LayerGradCam",
    ]
    random = np.random.default_rng(0)
    lines = [
        (name, grid, fill, "ok", 6, value, value - 0.02, value + 0.02, 10 ** random.uniform(0, 3))
        for name in names
        for grid in GRIDS
        for fill in FILLS
        for value in [
            0.9
            if (name, grid) in {("APEX 0", "time"), ("Other 0", "frequency")}
            else 0.0
            if name[-1] == "0"
            else random.uniform(0, 0.5)
        ]
    ]
    return pd.DataFrame(
        lines, columns=["method", "grid", "fill", "status", "clips", "difference", "low", "high", "passes"]
    )


def test_a_figure_shows_the_best_of_both_sides():
    cells = many_cells(30)
    shown = run_figures.leading(cells, "LayerGradCam", most=20)
    assert len(shown) == 20
    assert {"random", "energy", "LayerGradCam", "APEX 0", "Other 0"} <= set(shown)
    counts = Counter(map(standings.family, shown))
    assert counts["controls"] == 2
    assert abs(counts["APEX"] - counts["other methods"]) <= 3
    means = cells.groupby("method")["difference"].mean()
    assert shown == sorted(shown, key=means.get, reverse=True)
    assert len(run_figures.leading(cells, "LayerGradCam", most=100)) == 63
    last = means.idxmin()
    assert last not in shown
    with_last = run_figures.leading(cells, "LayerGradCam", most=20, added=[last])
    assert (len(with_last), with_last[-1]) == (20, last)


def test_scores_are_drawn_at_their_means_with_their_intervals(cells):
    order = run_figures.leading(cells, "LayerGradCam")
    drawn = run_figures.scores(cells, order, "title")
    assert [panel.get_title() for panel in drawn.axes] == ["time regions", "frequency regions"]
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()][::-1] == order
    points, _, (bars,) = drawn.axes[0].containers[1]  # the second fill
    own = cells[(cells["grid"] == "time") & (cells["fill"] == "mean")].set_index("method").loc[order[::-1]]
    assert points.get_xdata() == pytest.approx(own["difference"])
    assert np.round(points.get_ydata()).tolist() == list(range(len(order)))
    ends = np.array([path[:, 0] for path in bars.get_segments()])
    assert ends == pytest.approx(own[["low", "high"]].to_numpy())
    colours = {panel_points[0].get_color() for panel_points in drawn.axes[0].containers}
    assert len(colours) == len(FILLS)


def test_bold_is_apex_and_italic_a_control(cells):
    drawn = run_figures.scores(cells, run_figures.leading(cells, "LayerGradCam"), "title")
    styles = {
        text.get_text(): (text.get_fontweight(), text.get_fontstyle()) for text in drawn.axes[0].get_yticklabels()
    }
    assert (styles["APEX time"], styles["random"], styles["Saliency"]) == (
        ("bold", "normal"),
        ("normal", "italic"),
        ("normal", "normal"),
    )


def test_ranks_are_drawn_in_their_own_order(rows):
    found = {
        grid: standings.average_ranks(rows[(rows["grid"] == grid) & (rows["method"] != "greedy oracle")])
        for grid in GRIDS
    }
    drawn = run_figures.ranks(found, [*MEANS, ODD], "title")
    panel = drawn.axes[0]
    names = [text.get_text() for text in panel.get_yticklabels()]
    assert names[::-1] == list(found["time"]["method"])
    expected = found["time"].set_index("method")["rank"]
    for container in panel.containers:
        x, y = container[0].get_data()
        assert x == pytest.approx([expected[names[int(place)]] for place in y])
    assert sum(len(container[0].get_xdata()) for container in panel.containers) == 7


def test_roles(cells):
    assert run_figures.roles(cells, "LayerGradCam")["time"] == {
        "best of APEX": "APEX time",
        "best of other methods": "Saliency",
        "reference": "LayerGradCam",
        "random": "random",
        "greedy oracle": "greedy oracle",
    }
    assert "reference" not in run_figures.roles(cells, "Magic")["time"]
    own = run_figures.roles(cells, "LayerGradCam", ["energy", "LayerGradCam", "not scored"])["time"]
    assert own.pop("best of --add") == "LayerGradCam"  # which scores higher than energy
    assert own == run_figures.roles(cells, "LayerGradCam")["time"]


def test_curves_are_means_over_the_clips_that_all_have(rows):
    own = rows[rows["grid"] == "time"]
    found, n_clips = run_figures.mean_curves(own, ["APEX time", "greedy oracle", "LRP"])
    assert (list(found), n_clips) == (["APEX time", "greedy oracle"], 2)
    x, middle, low, high = found["APEX time"]["insertion"]
    assert x == pytest.approx(POINTS)
    assert middle == pytest.approx(2 * 0.95 * POINTS)  # clips 0 and 1, both fills: 0.5 + 0.45 ± 0.05
    assert (low[-1], high[-1]) == pytest.approx(statistics.interval(np.array([2 * 0.9, 2 * 1.0])))
    assert found["APEX time"]["deletion"][1] == pytest.approx(1 - POINTS)


def test_curves_of_unequal_shares_are_read_off_at_common_ones():
    """A curve that is a straight line stays one, wherever its points are."""
    rows = cell("A", "time", "mean", 0.0, n_clips=2)
    other = np.array([0, 0.1, 0.2, 0.7, 1.0])
    rows.loc[1, ["fraction", "deletion_curve"]] = numbers(other), numbers(1 - other)
    found, _ = run_figures.mean_curves(rows, ["A"])
    x, middle, *_ = found["A"]["deletion"]
    assert x == pytest.approx((POINTS + other) / 2)
    assert middle == pytest.approx(1 - x)


def test_a_method_without_a_fill_has_no_curve(rows):
    own = rows[(rows["grid"] == "time") & ~((rows["method"] == "random") & (rows["fill"] == "mean"))]
    found, n_clips = run_figures.mean_curves(own, ["APEX time", "Saliency", "random"])
    assert (list(found), n_clips) == (["APEX time", "Saliency"], 6)


def test_drawn_curves_are_labelled_by_method_and_role(rows, cells):
    drawn = run_figures.curves(rows, run_figures.roles(cells, "Saliency"), "title")
    labels = [text.get_text() for text in drawn.axes[4].get_legend().get_texts()]
    assert labels == [
        "APEX time (best of APEX)",
        "Saliency (best of other methods, reference)",
        "random",
        "greedy oracle",
    ]
    assert drawn.axes[0].get_title() == "time regions, 2 clips"
    assert len(drawn.axes[0].lines) == len(drawn.axes[2].lines) == 4


def test_prices_are_drawn_with_their_front(cells):
    drawn = run_figures.price(cells, "LayerGradCam", "title")
    panel = drawn.axes[0]
    expected = {(PASSES[name], round(mean + 0.05, 9)) for name, mean in MEANS.items()} | {(300.0, 0.85), (8.0, 0.2)}
    points = [tuple(np.round(point, 9)) for scatter in panel.collections for point in scatter.get_offsets().tolist()]
    assert (set(points), len(points)) == (expected, len(expected))
    assert panel.lines[0].get_xdata().tolist() == [0.0, 1.2]  # energy costs nothing; APEX time beats all the rest
    assert panel.lines[0].get_ydata() == pytest.approx([0.15, 0.45])
    assert {text.get_text() for text in panel.texts} == {*MEANS, ODD, "greedy oracle"}


def test_names_hide_neither_points_nor_each_other():
    drawn = run_figures.price(many_cells(30), "LayerGradCam", "title")
    for panel in drawn.axes:
        drawn.draw_without_rendering()
        boxes = [text.get_bbox_patch().get_window_extent() for text in panel.texts]
        assert len(boxes) >= 12
        assert {"APEX 0"} <= {text.get_text() for text in drawn.axes[0].texts}
        places = np.concatenate([panel.transData.transform(scatter.get_offsets()) for scatter in panel.collections])
        for i, box in enumerate(boxes):
            assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in places)
            assert not any(box.overlaps(other.padded(-2)) for other in boxes[:i])
            assert panel.bbox.x0 - 2 <= box.x0 < box.x1 <= panel.bbox.x1 + 2
