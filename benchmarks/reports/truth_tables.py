"""The tables of the command `truth`: maps, regions and events beside annotations."""

from __future__ import annotations

import math

import pandas as pd

from benchmarks.experiments.annotated_truth import MEASURES
from benchmarks.reports.markup import NOTHING, Section, between, number

NAME = "Annotations as truth"
EVENTS = "Events beside annotations"
HEADS = {
    "segment_auroc": "AUC, segments",
    "bin_auroc": "AUC, bins",
    "threshold_iou": "IoU at the threshold",
    "best_iou": "best IoU",
    "frame_f1": "frame F1",
    "pointing": "pointing game",
    "relevance_mass": "relevance mass",
}
FEWEST = 3  # clips of a mean that has an interval
ABOUT = (
    "Mean over the clips with its 95% interval; in brackets the chance, the mean over random places of the same map. "
    "↑ marks a mean whose difference from chance has an interval above zero. Intervals are wide where there are few "
    "clips, and may reach beyond what is possible; fewer than three clips have none."
)
ABOUT_EVENTS = (
    "An event and an annotation are a pair where they have the same class and overlap in time; each is in one pair. "
    "Precision and recall: share of the events and of the annotations in a pair; in brackets, the same events at "
    "random times. IoU: in time, median of the pairs. Start and end: median of event less annotation, in s. Recordings "
    "without annotations do not count, nor do events of classes that are annotated nowhere."
)


def truth_section(lines: pd.DataFrame, about: str) -> Section:
    """The section of maps and regions, with one line per method and one column per measure.

    Args:
        lines: the lines of `benchmarks.experiments.annotated_truth.truth_lines`.
        about: what was measured, in words.
    """
    measured = lines[lines["clips"] > 0]
    entries = []
    for method in measured["method"].drop_duplicates():
        of_method = measured[measured["method"] == method].set_index("measure")
        cells = {HEADS[name]: _cell(of_method.loc[name]) for name in MEASURES if name in of_method.index}
        entries.append({"method": method} | cells)
    table = pd.DataFrame(entries, columns=["method", *HEADS.values()]).astype(object).fillna(NOTHING)
    failed = lines[lines["clips"] == 0].drop_duplicates("method")
    missing = failed[~failed["method"].isin(set(measured["method"]))]
    n_clips = lines["clips"].max()
    counts = measured.groupby("measure")["clips"].max()
    few = [f"{HEADS[name]} ({counts[name]})" for name in MEASURES if counts.get(name, n_clips) < n_clips]
    why = "since the sound is everywhere or nowhere, or a map is nowhere positive, in the others"
    defined = [f"Over fewer clips, {why}: {', '.join(few)}."] if few else []
    left_out = [f"Not measured: {line.method}: {_reason(str(line.status))}." for line in missing.itertuples()]
    return Section(NAME, [about, ABOUT, *defined, *left_out], {NAME: table})


def annotated_events_section(lines: pd.DataFrame) -> Section:
    """The section of events, with one line per scheme.

    Args:
        lines: the lines of `benchmarks.experiments.annotated_events.annotated_event_lines`.
    """
    entries = [
        {
            "scheme": line["scheme"],
            "events": str(line["events"]),
            "annotations": str(line["calls"]),
            "precision": f"{number(line['precision'])} ({number(line['precision_random'])})",
            "recall": f"{number(line['recall'])} ({number(line['recall_random'])})",
            "IoU": number(line["iou"]),
            "start": number(line["start"]),
            "end": number(line["end"]),
        }
        for line in lines.to_dict("records")
    ]
    return Section(EVENTS, [ABOUT_EVENTS], {EVENTS: pd.DataFrame(entries)})


def _reason(status: str) -> str:
    """Why a method has no value: its status, or where that is `ok`, that no clip has one."""
    return "no measure is defined for any clip" if status == "ok" else status


def _cell(line: pd.Series) -> str:
    """A mean with its interval and its chance; marked where it is above chance."""
    enough = line["clips"] >= FEWEST
    mean = between(line["mean"], line["low"], line["high"]) if enough else number(line["mean"])
    text = f"{mean} ({number(line['chance'])})"
    return f"{text} ↑" if not math.isnan(line["above_low"]) and line["above_low"] > 0 else text
