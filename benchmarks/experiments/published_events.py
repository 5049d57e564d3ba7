"""Events of captum-apex in recordings of bats, beside the calls that batdetect2's own detector gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from benchmarks.experiments.published_rows import Measured
from benchmarks.published.bat_calls import RATE, SAMPLES, Call, detected_calls, recordings
from captum_apex import APEX, PrototypeBasis, RegionSearch, explain_recording

WINDOW = SAMPLES / RATE  # s
N_PLACES = 200  # random places of the events of a recording
NEAR = 0.003  # s between the starts of a call and of its event at most, where they do not overlap


def event_lines(subject: Measured, refined: Sequence[bool] = (False, True)) -> pd.DataFrame:
    """How the events agree with the calls that the detector gives by its own post-processing.

    An event and a call are a pair where both have the same species and overlap in time, or begin within 3 ms of each
    other. Each belongs to one pair at most; near starts come first.

    Args:
        subject: batdetect2 with its bases.
        refined: whether regions are found by masking, one line for each.

    Returns:
        One line per `scheme` and entry of `refined`:

        - `events`, `calls`: their numbers.
        - `precision`, `recall`: share of the events, and of the calls, that have a partner; `precision_random` and
          `recall_random` for the same events at random times.
        - `iou`: median of intersection over union in time, of the pairs.
        - `start`, `end`: median differences of the pairs, event less call, in s.
        - `low`, `high`: the same in Hz, of the pairs whose event has a band.
    """
    heard = recordings()
    calls = [detected_calls(samples) for _, samples, _ in heard]
    lines = []
    for basis in subject.bases:
        for search in refined:
            events = [_events(subject, basis, samples, search) for _, samples, _ in heard]
            durations = [len(samples) / RATE for _, samples, _ in heard]
            lines.append({"scheme": str(basis.scheme), "refined": search} | compared(events, calls, durations))
    return pd.DataFrame(lines)


def compared(
    events: Sequence[Sequence[Call]], calls: Sequence[Sequence[Call]], durations: Sequence[float]
) -> dict[str, float]:
    """The measures of `event_lines` for the events and the calls of each recording.

    Args:
        events: events of each recording; those without a band have NaN as their frequencies.
        calls: calls of each recording.
        durations: duration of each recording, in s.

    Example:
        >>> from benchmarks.experiments.published_events import compared
        >>> from benchmarks.published.bat_calls import Call
        >>> call = Call(0.5, 0.75, 20e3, 40e3, "bat")
        >>> event = Call(0.625, 0.75, 21e3, 40e3, "bat")
        >>> measures = compared([[event]], [[call, call]], [1.0])
        >>> measures["precision"], measures["recall"], measures["iou"], measures["start"]
        (1.0, 0.5, 0.5, 0.125)
    """
    of_pairs = [pairs(mine, theirs) for mine, theirs in zip(events, calls, strict=True)]
    matched = [pair for each in of_pairs for pair in each]
    n_events = sum(map(len, events))
    n_calls = sum(map(len, calls))
    random = _matched_at_random(events, calls, durations)
    differences = [[mine - theirs for mine, theirs in zip(event[:4], call[:4], strict=True)] for event, call in matched]
    medians = pd.DataFrame(differences, columns=list(Call._fields[:4]), dtype=float).median()  # of those that are known
    return {
        "events": n_events,
        "calls": n_calls,
        "precision": len(matched) / max(n_events, 1),
        "precision_random": random / max(n_events, 1),
        "recall": len(matched) / max(n_calls, 1),
        "recall_random": random / max(n_calls, 1),
        "iou": float(np.median([_iou(*pair) for pair in matched])) if matched else np.nan,
        **{str(name): median for name, median in medians.items()},
    }


def pairs(events: Sequence[Call], calls: Sequence[Call]) -> list[tuple[Call, Call]]:
    """The events and the calls that belong together, each once, those with the nearest starts first.

    Args:
        events: events of a recording.
        calls: calls of the recording.

    Example:
        >>> from benchmarks.experiments.published_events import pairs
        >>> from benchmarks.published.bat_calls import Call
        >>> bat, other = Call(0.5, 0.75, 20e3, 40e3, "bat"), Call(0.5, 0.75, 20e3, 40e3, "other bat")
        >>> len(pairs([bat], [bat])), len(pairs([bat], [other])), len(pairs([bat, bat], [bat]))
        (1, 0, 1)
    """
    candidates = [
        (abs(event.start - call.start), i, j)
        for i, event in enumerate(events)
        for j, call in enumerate(calls)
        if event.species == call.species and _together(event, call)
    ]
    chosen: list[tuple[int, int]] = []
    for _, i, j in sorted(candidates):
        if all(i != mine and j != theirs for mine, theirs in chosen):
            chosen.append((i, j))
    return [(events[i], calls[j]) for i, j in chosen]


def _events(subject: Measured, basis: PrototypeBasis, samples: torch.Tensor, refined: bool) -> list[Call]:
    classifier = subject.classifier
    assert classifier.layer is not None
    apex = APEX(classifier.model, classifier.layer, basis)
    search = RegionSearch() if refined else None
    found = explain_recording(apex, samples, WINDOW, WINDOW / 2, classifier=classifier, search=search)
    return [
        Call(event.start, event.end, event.low or np.nan, event.high or np.nan, event.name) for event in found.events
    ]


def _matched_at_random(
    events: Sequence[Sequence[Call]], calls: Sequence[Sequence[Call]], durations: Sequence[float]
) -> float:
    """The mean number of pairs where each event lies at a random time of its recording."""
    generator = np.random.default_rng(0)
    n_pairs = 0
    for mine, theirs, duration in zip(events, calls, durations, strict=True):
        for _ in range(N_PLACES):
            starts = [generator.uniform(0, duration - (event.end - event.start)) for event in mine]
            moved = [
                event._replace(start=start, end=start + event.end - event.start)
                for event, start in zip(mine, starts, strict=True)
            ]
            n_pairs += len(pairs(moved, theirs))
    return n_pairs / N_PLACES


def _together(event: Call, call: Call) -> bool:
    overlap = event.start < call.end and call.start < event.end
    return overlap or abs(event.start - call.start) <= NEAR


def _iou(event: Call, call: Call) -> float:
    common = max(min(event.end, call.end) - max(event.start, call.start), 0.0)
    return common / (max(event.end, call.end) - min(event.start, call.start))
