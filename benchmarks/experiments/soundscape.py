"""Long recordings whose events are known: test clips of a task, one after the other with silence between, and how well they are found."""

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
SILENCE = 0.8  # between two sounds, in lengths of a clip


@dataclass(frozen=True)
class Sound:
    """What is to be found: a clip of a class, in s."""

    start: float
    end: float
    label: int


def soundscape(task: Task, n_clips: int, seed: int = 0) -> tuple[Tensor, list[Sound]]:
    """Test clips in random order, silence before each and after the last.

    Returns:
        The waveform, (sample,), and where the clips are in it.
    """
    chosen = torch.randperm(len(task.test), generator=torch.Generator().manual_seed(seed))[:n_clips].tolist()
    clips = [task.waveform("test", index) for index in chosen]
    silence = torch.zeros(round(SILENCE * len(clips[0])))
    parts, sounds, at = [silence], [], len(silence)
    for index, clip in zip(chosen, clips, strict=True):
        sounds.append(Sound(at / task.sample_rate, (at + len(clip)) / task.sample_rate, task.test[index][1]))
        parts += [clip, silence]
        at += len(clip) + len(silence)
    return torch.cat(parts), sounds


def hearing(subject: Subject) -> Classifier:
    """How the subject's classifier hears: the task's log-mels."""
    task = subject.task
    return Classifier(
        subject.model,
        lambda waveform: task.normalisation(task.log_mel.decibels([waveform[None]])[0]),
        task.sample_rate,
        task.classes,
        axes=task.axes,
        decibels=lambda inputs: task.normalisation.decibels(inputs[0]),
    )


def explained(subject: Subject, scheme: Scheme, waveform: Tensor, threshold: float) -> RecordingExplanation:
    """The events of a waveform, by windows of a clip's length at a quarter of it; classes exclude each other."""
    apex = LayerAPEX(subject.model, subject.layer, subject.bases[scheme])
    window = len(subject.task.waveform("test", 0)) / subject.task.sample_rate
    return explain_recording(
        apex,
        waveform,
        window,
        window / 4,
        classifier=hearing(subject),
        threshold=threshold,
        probabilities=lambda logits: logits.softmax(-1),
        n_channels=3,  # as in the published results
    )


def soundscape_table(subject: Subject, n_clips: int, seed: int = 0) -> pd.DataFrame:
    """How well the events of a soundscape are found, one row per scheme and threshold; see `judged`."""
    waveform, sounds = soundscape(subject.task, n_clips, seed)
    rows = []
    for scheme in subject.bases:
        for threshold in THRESHOLDS:
            events = explained(subject, scheme, waveform, threshold).events
            rows.append({"scheme": str(scheme), "threshold": threshold, **judged(events, sounds)})
    return pd.DataFrame(rows)


def soundscape_picture(subject: Subject, seed: int = 0) -> Figure:
    """The first five clips of a soundscape with their events."""
    waveform, sounds = soundscape(subject.task, 5, seed)
    found = explained(subject, Scheme.SQUARE, waveform, THRESHOLDS[1])
    said = ", ".join(subject.task.classes[sound.label] for sound in sounds)
    return figures.recording(found, hearing(subject).drawn(waveform, label=f"what sounds: {said}"))


def judged(events: Sequence[Event], sounds: Sequence[Sound]) -> dict[str, float]:
    """How well events meet the sounds of a recording.

    Returns:
        `events`, their number; `precision`, the share of events that meet a sound of their class; `in silence` and `in others`, the shares
        that meet no sound at all, and sounds of other classes alone; `recall`, the share of sounds that meet an event of their class;
        `time`, the share of the time of the events that meet a sound of their class which lies in such a sound. NaN of nothing.

    >>> judged([Event(1.0, 3.0, 0.0, 8000.0, 0, "dog", 0.9, 5, 1, 2.0)], [Sound(2.0, 4.0, 0), Sound(5.0, 6.0, 1)])
    {'events': 1, 'precision': 1.0, 'in silence': 0.0, 'in others': 0.0, 'recall': 0.5, 'time': 0.5}
    """
    common = (
        torch.tensor([[_common(event, sound) for sound in sounds] for event in events])
        .reshape(len(events), len(sounds))
        .double()
    )
    same = torch.tensor(
        [[event.label == sound.label for sound in sounds] for event in events], dtype=torch.bool
    ).reshape(common.shape)
    met, right = (common > 0).any(1), ((common > 0) & same).any(1)
    lengths = torch.tensor([event.end - event.start for event in events]).double()
    return {
        "events": len(events),
        "precision": _share(right),
        "in silence": _share(~met),
        "in others": _share(met & ~right),
        "recall": _share(((common > 0) & same).any(0)),
        "time": ((common * same).sum(1)[right].sum() / lengths[right].sum()).item(),
    }


def _common(event: Event, sound: Sound) -> float:
    """The time that both have in common, in s."""
    return max(0.0, min(event.end, sound.end) - max(event.start, sound.start))


def _share(flags: Tensor) -> float:
    return flags.double().mean().item()
