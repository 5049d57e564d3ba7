"""How the events that are found in recordings agree with the annotated ones, beside the same events at random times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.experiments.published_events import compared
from benchmarks.published.bat_calls import Call
from captum_apex import Classifier, Event, Scheme, explain_recording
from captum_apex.attribution.apex import APEX
from captum_apex.explaining.recording_tables import window_and_hop
from captum_apex.recordings import AnnotatedRecordings, Annotation


def annotated_event_lines(
    classifier: Classifier, apexes: dict[Scheme, APEX], annotated: AnnotatedRecordings, threshold: float = 0.5
) -> pd.DataFrame:
    """How the events of each scheme agree with the annotations of their classes.

    Recordings without annotations, and events of classes that are annotated nowhere, do not count.

    Args:
        classifier: the classifier.
        apexes: the attribution object of each scheme.
        annotated: the recordings with their annotations.
        threshold: least probability of a detected class.

    Returns:
        One line per `scheme`, with the measures of `benchmarks.experiments.published_events.compared`.
    """
    window, hop = window_and_hop(classifier, None, None)
    heard = [index for index, annotations in enumerate(annotated.annotations) if annotations]
    calls = [_calls(annotated.annotations[index]) for index in heard]
    classes = {call.species for of_recording in calls for call in of_recording}
    lines = []
    for scheme, apex in apexes.items():
        found = [
            explain_recording(
                apex, annotated.recordings.path(index), window, hop, classifier=classifier, threshold=threshold
            )
            for index in heard
        ]
        events = [_events(each.events, classes) for each in found]
        lines.append({"scheme": str(scheme)} | compared(events, calls, [each.duration for each in found]))
    return pd.DataFrame(lines)


def _calls(annotations: Sequence[Annotation]) -> list[Call]:
    return [Call(each.start, each.end, _edge(each.low), _edge(each.high), each.label) for each in annotations]


def _events(events: Sequence[Event], classes: set[str]) -> list[Call]:
    return [
        Call(each.start, each.end, _edge(each.low), _edge(each.high), each.name)
        for each in events
        if each.name in classes
    ]


def _edge(hertz: float | None) -> float:
    return np.nan if hertz is None else hertz
