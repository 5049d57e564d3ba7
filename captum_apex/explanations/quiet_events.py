"""Events in which nothing sounds: in digital silence, and in the background, of a class that silence gets as well."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from captum_apex.caller import warn_caller
from captum_apex.classifiers.class_names import means_nothing
from captum_apex.classifiers.classifier import Classifier
from captum_apex.classifiers.logits import silence_bar
from captum_apex.explanations.digital_silence import DigitalSilence
from captum_apex.explanations.events import Event
from captum_apex.result_tables import listed
from captum_apex.texts import encodable

__all__ = ["BackgroundLevel", "QuietEvents"]

_FRAME = 0.05  # s
_SHARE = 0.1  # of the frames of a recording that are no louder than its background
_ABOVE = 6  # dB over the background: what is no louder is background, too
_SILENCE = -120  # dB, the level of digital silence, which is no background
_N_LEVELS = 256


class BackgroundLevel:
    """The background of a recording: the level that a tenth of its frames of 50 ms does not exceed, in whole dB.

    Frames of digital silence do not count. A byte is kept for each frame.

    Args:
        sample_rate: sample rate of the windows, in Hz.

    Example:
        >>> import torch
        >>> from captum_apex.explanations.quiet_events import BackgroundLevel
        >>> recording = 0.001 * torch.randn(40000, generator=torch.Generator().manual_seed(0))  # of 40 s
        >>> recording[20000:24000] *= 100
        >>> background = BackgroundLevel(1000)
        >>> background.add(0, recording[:25000])
        >>> background.add(20000, recording[20000:])
        >>> background.covers(5.0, 19.0), background.covers(5.0, 22.0)
        (True, False)
    """

    def __init__(self, sample_rate: int) -> None:
        self.length = max(1, round(_FRAME * sample_rate))  # of a frame, in samples
        self.sample_rate = sample_rate
        self._counts = torch.zeros(_N_LEVELS, dtype=torch.int64)  # frames of each level
        self._levels = bytearray()  # of each frame, in dB above silence
        self._rest = torch.empty(0)  # samples after the last frame
        self._seen = 0  # the sample after the last one of all windows so far

    def add(self, start: int, waveform: Tensor) -> None:
        """Adds a window; the windows come in the order of time, and overlap or touch.

        Args:
            start: the first sample of the window, counted from the start of the recording.
            waveform: the samples of the window, (sample,).
        """
        new = torch.cat([self._rest, waveform[max(0, self._seen - start) :].float().cpu()])
        end = len(new) // self.length * self.length
        self._rest = new[end:].clone()
        self._keep(new[:end])
        self._seen = max(self._seen, start + len(waveform))

    def _keep(self, samples: Tensor) -> None:
        """Keeps and counts the levels of some frames."""
        powers = samples.double().view(-1, self.length).square().mean(1)
        levels = (10 * powers.clamp_min(1e-20).log10() - _SILENCE).floor().clamp(0, _N_LEVELS - 1).long()
        self._counts += levels.bincount(minlength=_N_LEVELS)
        self._levels += bytes(levels.tolist())

    def covers(self, start: float, end: float) -> bool:
        """Whether no frame from a time to another is more than 6 dB above the background.

        It is False where nothing in the recording is louder than that, so that background and sound cannot be told
        apart.

        Args:
            start: the first time, in s.
            end: the last time, in s.
        """
        sounding = self._counts[1:].cumsum(0)
        if not self._levels or not sounding[-1]:
            return False
        bar = 1 + int((sounding >= _SHARE * sounding[-1]).nonzero()[0]) + _ABOVE
        seconds = self.length / self.sample_rate
        within = self._levels[math.floor(round(start / seconds, 6)) : math.ceil(round(end / seconds, 6))]
        return bool(within) and max(within) <= bar < max(self._levels)


class QuietEvents:
    """Marks the events of a recording in which nothing sounds, and warns of them once.

    Args:
        classifier: the classifier; its probabilities in silence take one pass, which is made where an event lies in
            the background.
        sample_rate: sample rate of the windows, in Hz.
        length: length of a window, in samples.
        threshold: probability from which on a class is detected.

    Example:
        >>> import torch
        >>> from captum_apex.demonstration import classifier
        >>> from captum_apex.explanations.quiet_events import QuietEvents
        >>> quiet = QuietEvents(classifier(), 16000, 32000, threshold=0.5)
        >>> quiet.add(0, torch.zeros(32000))
        >>> quiet.marked([])
        []
    """

    def __init__(self, classifier: Classifier, sample_rate: int, length: int, threshold: float) -> None:
        self.classifier = classifier
        self.length = length
        self.threshold = threshold
        self.silence = DigitalSilence(sample_rate)
        self.background = BackgroundLevel(sample_rate)

    def add(self, start: int, waveform: Tensor) -> None:
        """Adds a window, as in `DigitalSilence.add`."""
        self.silence.add(start, waveform)
        self.background.add(start, waveform)

    def marked(self, events: Iterable[Event]) -> list[Event]:
        """The events with their marks."""
        silent = [replace(each, silent=self.silence.covers(each.start, each.end)) for each in events]
        quiet = [not each.silent and self.background.covers(each.start, each.end) for each in silent]
        in_silence = self._in_silence() if any(quiet) else {}
        marked = [
            replace(each, quiet=is_quiet and each.name in in_silence)
            for each, is_quiet in zip(silent, quiet, strict=True)
        ]
        bar = silence_bar(len(self.classifier.class_names), self.classifier.exclusive, clearly=True)
        _warn(marked, {name: value for name, value in in_silence.items() if value > bar}, self.threshold)
        return marked

    def _in_silence(self) -> dict[str, float]:
        """The probability in digital silence of each class that reaches the threshold there, and means a sound."""
        try:
            scores = torch.tensor(self.classifier.silence_scores(self.length))
        except Exception:  # the user's code can raise anything for zeros, such as those that are no sound for it
            return {}
        probabilities = zip(self.classifier.class_names, self.classifier.probabilities(scores).tolist(), strict=True)
        return {name: value for name, value in probabilities if value >= self.threshold and not means_nothing(name)}


def _warn(events: Sequence[Event], in_silence: dict[str, float], threshold: float) -> None:
    """Warns of events in digital silence, or else in the background, of classes that silence clearly gets."""
    silent = [event for event in events if event.silent]
    quiet = [event for event in events if event.quiet and event.name in in_silence]
    if silent:
        warn_caller(
            f"{len(silent)} of {len(events)} events lie in digital silence, such as {silent[0].name} at "
            f"{silent[0].start:g}–{silent[0].end:g} s; they are marked `silent`; "
            "Classifier.silence_probabilities() gives the probability of each class in silence"
        )
    elif quiet:
        classes = listed(f"{encodable(name)} (probability {value:.2f})" for name, value in in_silence.items())
        warn_caller(
            f"digital silence gets {classes}, at least the threshold of {threshold:g}: {len(quiet)} of {len(events)} "
            f"events are no louder than the background, such as {encodable(quiet[0].name)} at {quiet[0].start:.2f}–"
            f"{quiet[0].end:.2f} s, and others can reach into it; they are marked `quiet`; raise the threshold above it"
        )
