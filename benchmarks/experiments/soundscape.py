"""How well events are detected in a long recording: test clips of a task in a row, with silence between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.runs.subject import Subject
from benchmarks.tasks import Task
from captum_apex import Classifier, Event, LayerAPEX, RecordingExplanation, Scheme, explain_recording, figures

THRESHOLDS = (0.5, 0.7, 0.9)
SILENCE = 0.8  # length of the silence between two clips, as a share of a clip's length


@dataclass(frozen=True)
class Sound:
    """A clip in the recording.

    Attributes:
        start: start of the clip in the recording, in seconds.
        end: end of the clip in the recording, in seconds.
        label: index of the clip's class.
    """

    start: float
    end: float
    label: int


def soundscape(task: Task, n_clips: int, seed: int = 0) -> tuple[Tensor, list[Sound]]:
    """Test clips in random order, with silence before each clip and after the last one.

    Args:
        task: the task that the clips are taken from.
        n_clips: number of clips.
        seed: seed of the random order.

    Returns:
        The waveform, (sample,), and the clips in it.
    """
    chosen = torch.randperm(len(task.test), generator=torch.Generator().manual_seed(seed))[:n_clips].tolist()
    clips = [task.waveform("test", index) for index in chosen]
    silence = torch.zeros(round(SILENCE * len(clips[0])))
    pieces = [silence]
    sounds = []
    start = len(silence)
    for index, clip in zip(chosen, clips, strict=True):
        end = start + len(clip)
        sounds.append(Sound(start / task.sample_rate, end / task.sample_rate, task.test[index][1]))
        pieces += [clip, silence]
        start = end + len(silence)
    return torch.cat(pieces), sounds


def classifier_of(subject: Subject) -> Classifier:
    """The subject's network as a `Classifier` of waveforms, by the task's log-mel spectrogram."""
    task = subject.task
    return Classifier(
        subject.model,
        lambda waveform: task.normalisation(task.log_mel.decibels([waveform[None]])[0]),
        task.sample_rate,
        task.classes,
        axes=task.axes,
        decibels=lambda inputs: task.normalisation.decibels(inputs[0]),
        exclusive=True,
    )


def explained(subject: Subject, scheme: Scheme, waveform: Tensor, threshold: float) -> RecordingExplanation:
    """The events of a waveform: windows of a clip's length every quarter of it."""
    apex = LayerAPEX(subject.model, subject.layer, subject.bases[scheme])
    window = len(subject.task.waveform("test", 0)) / subject.task.sample_rate
    return explain_recording(
        apex,
        waveform,
        window,
        window / 4,
        classifier=classifier_of(subject),
        threshold=threshold,
        n_channels=3,  # as in the published results
    )


def soundscape_table(subject: Subject, n_clips: int, seed: int = 0) -> pd.DataFrame:
    """How well the events of a soundscape are detected, one row per scheme and threshold.

    Args:
        subject: the classifier and its bases.
        n_clips: number of test clips in the soundscape.
        seed: seed of their random order.

    Returns:
        The columns `scheme` and `threshold`, and those of `event_scores`.
    """
    waveform, sounds = soundscape(subject.task, n_clips, seed)
    rows = []
    for scheme in subject.bases:
        for threshold in THRESHOLDS:
            events = explained(subject, scheme, waveform, threshold).events
            rows.append({"scheme": str(scheme), "threshold": threshold, **event_scores(events, sounds)})
    return pd.DataFrame(rows)


def soundscape_picture(subject: Subject, seed: int = 0) -> Figure:
    """The first five clips of a soundscape with their events."""
    waveform, sounds = soundscape(subject.task, 5, seed)
    explanation = explained(subject, Scheme.SQUARE, waveform, THRESHOLDS[1])
    names = ", ".join(subject.task.classes[sound.label] for sound in sounds)
    return figures.recording(explanation, classifier_of(subject).drawn(waveform, label=f"what sounds: {names}"))


def event_scores(events: Sequence[Event], sounds: Sequence[Sound]) -> dict[str, float]:
    """How well the detected events agree with the sounds of a recording.

    An event meets a sound if the two overlap in time.

    Args:
        events: the detected events.
        sounds: the sounds in the recording.

    Returns:
        A value for each of these names; NaN for a share of nothing.

        - `events`: number of events.
        - `precision`: share of events that meet a sound of their class.
        - `in silence`: share of events that meet no sound.
        - `in others`: share of events that meet only sounds of other classes.
        - `recall`: share of sounds that meet an event of their class.
        - `time`: the events that meet a sound of their class, and the share of their time that lies in such a sound.

    Example:
        >>> events = [Event(1.0, 3.0, None, None, 0, "dog", 0.9, 2.0)]
        >>> event_scores(events, [Sound(2.0, 4.0, 0), Sound(5.0, 6.0, 1)])
        {'events': 1, 'precision': 1.0, 'in silence': 0.0, 'in others': 0.0, 'recall': 0.5, 'time': 0.5}
    """
    shape = (len(events), len(sounds))
    common = torch.tensor([[_common(event, sound) for sound in sounds] for event in events]).reshape(shape).double()
    same = [[event.label == sound.label for sound in sounds] for event in events]
    same_class = torch.tensor(same, dtype=torch.bool).reshape(shape)
    meets_any = (common > 0).any(1)
    meets_its_class = (common > 0) & same_class  # (event, sound)
    right = meets_its_class.any(1)
    lengths = torch.tensor([event.end - event.start for event in events]).double()
    return {
        "events": len(events),
        "precision": _share(right),
        "in silence": _share(~meets_any),
        "in others": _share(meets_any & ~right),
        "recall": _share(meets_its_class.any(0)),
        "time": ((common * same_class).sum(1)[right].sum() / lengths[right].sum()).item(),
    }


def _common(event: Event, sound: Sound) -> float:
    """Length of the overlap in time, in seconds."""
    return max(0.0, min(event.end, sound.end) - max(event.start, sound.start))


def _share(flags: Tensor) -> float:
    return flags.double().mean().item()
