"""The tables of the command `published` on batdetect2: where its channels fire, and its events."""

from __future__ import annotations

import math

import pandas as pd

from benchmarks.experiments.published_rows import N_CHANNELS
from benchmarks.reports.markup import Section, number

ELSEWHERE = "Channels of bat calls"
EVENTS = "Events of bat calls"
ABOUT_ELSEWHERE = (
    f"The {N_CHANNELS} strongest channels of each window with a call of the predicted species. Elsewhere: share of the "
    "channels whose effect says that they fire more strongly elsewhere. Of these: the median level of the channel "
    "where it counts most, as a share of its peak (below 0 where its activation is negative there); and the share "
    "whose region, and whose peak cell meets a box of the species."
)
ABOUT_EVENTS = (
    "Events beside the calls of batdetect2's own post-processing, in the three whole recordings. Regions: whether "
    "events have the edges of regions that are found by masking (by a search). An event and a call are a pair "
    "where they have the same species, and overlap or begin within 3 ms of each other. Precision and recall: share of "
    "the events and of the calls in a pair; in brackets, the same events at random times. IoU: in time, median of the "
    "pairs. Start, end, low and high: median of event less call, of the pairs."
)


def elsewhere_section(lines: pd.DataFrame) -> Section:
    """The section on channels that fire elsewhere, with one line per scheme.

    Args:
        lines: the lines of `benchmarks.experiments.published_regions.elsewhere_lines`.
    """
    table = pd.DataFrame(
        {
            "scheme": lines["scheme"],
            "channels": lines["channels"].astype(str),
            "elsewhere": lines["elsewhere"].map(_percent),
            "level where it counts": lines["level"].map(_percent),
            "region meets a call": lines["region_met"].map(_percent),
            "peak cell meets a call": lines["cell_met"].map(_percent),
        }
    )
    return Section(ELSEWHERE, [ABOUT_ELSEWHERE], {ELSEWHERE: table})


def events_section(lines: pd.DataFrame) -> Section:
    """The section on events, with two lines per scheme.

    Args:
        lines: the lines of `benchmarks.experiments.published_events.event_lines`.
    """
    entries = [
        {
            "scheme": line["scheme"],
            "regions": "yes" if line["refined"] else "no",
            "events": str(line["events"]),
            "calls": str(line["calls"]),
            "precision": f"{number(line['precision'])} ({number(line['precision_random'])})",
            "recall": f"{number(line['recall'])} ({number(line['recall_random'])})",
            "IoU": number(line["iou"]),
            "start": _difference(1000 * line["start"], "ms"),
            "end": _difference(1000 * line["end"], "ms"),
            "low": _difference(line["low"] / 1000, "kHz"),
            "high": _difference(line["high"] / 1000, "kHz"),
        }
        for line in lines.to_dict("records")
    ]
    return Section(EVENTS, [ABOUT_EVENTS], {EVENTS: pd.DataFrame(entries)})


def _difference(value: float, unit: str) -> str:
    return "" if math.isnan(value) else f"{value:+.1f} {unit}".replace("-", "−")


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{share:.0%}".replace("-", "−")
