"""The explanation of a long recording: the classes detected in its windows, merged on one time axis into events."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.decomposition import N_CHANNELS, Decomposition
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.audio.clip import Clip
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.classifier import Classifier
from captum_apex.classifiers.sounds_in_memory import recording_in_memory
from captum_apex.explanations.event_regions import EventRegions
from captum_apex.explanations.events import RecordingExplanation, UnfinishedExplanationError
from captum_apex.explanations.merging import WindowMerger
from captum_apex.explanations.quiet_events import QuietEvents
from captum_apex.layers.models import device_of, model_of
from captum_apex.layers.padding import lengths_of
from captum_apex.layers.values import check_not_nan, naming_clips
from captum_apex.locating.region_search import RegionSearch
from captum_apex.numbers import real_number, whole_number
from captum_apex.progress import bar_settings
from captum_apex.recordings.windows import Windows

__all__ = ["explain_recording"]

_N_PROTOTYPES = 4  # of each channel in an event


def explain_recording(
    apex: APEX | LayerAPEX,
    waveform: Tensor | Clip | tuple[Any, float] | str | os.PathLike,
    window: float,
    hop: float,
    *,
    classifier: Classifier,
    threshold: float = 0.5,
    n_channels: int = N_CHANNELS,
    sides: str = "positive",
    level: float = 0.5,
    gap: float = 0.0,
    search: RegionSearch | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> RecordingExplanation:
    """Explains a recording of any length by windows, and lists the events that the model detects in it.

    The model runs once on every window, for all classes. A class is *detected* in a window where its probability is at
    least `threshold`. The evidence for the class in the window are the channels with the largest contributions to its
    logit, at most `n_channels`. Each has a map `R_k` on the grid of the layer. The columns of the grid continue over
    the whole recording. The first column of a window that begins at `s` is the one that begins nearest to `s`.

    *Merging.* The merged map of a channel for a class, `M(f, t)`, is the mean of its maps in the windows that cover `t`
    and have the channel in the evidence for the class. Such windows form a *stretch* where they overlap or touch.
    Between the stretches there is no map.

    *Channel events* are the runs of columns with `r(t) ≥ level · max r > 0`, where `r(t) = Σ_f M(f, t)`. The maximum is
    taken over the columns of the stretch that are at most the length of a window from `t`. So what lasts over several
    windows is one event, also if it is longer than a window, and a loud sound minutes later does not hide a quiet one.
    The band reaches from the first to the last row with `q(f) ≥ level · max q`, where `q(f)` is the sum of `M` over the
    columns of the event. It is None where it is the whole one: for the scheme `time`, for a classifier without axes,
    and where all rows reach the level. For the scheme `frequency`, each map is spread evenly over its window before
    merging.

    *Events* join the channel events of a class that overlap or touch in time: an event is a longest run of time in
    which at least one channel event of the class lasts. A pause of at most `gap` does not end it. So one sound is one
    event, whatever the number of channels that respond to it; `Event.channels` has them.

    *Digital silence.* An event in which all samples of the recording are 0 (at most 10⁻⁶ of full scale) is marked as
    `silent`, and a warning says how many there are. A classifier that was trained on clips padded with zeros may detect
    a class there; `Classifier.silence_probabilities` says which. An event of such a class is marked as `quiet` where
    it is no louder than the background of the recording, with a warning likewise; it takes one pass of the model.

    *Regions.* The columns and rows of the layer are coarse. With a `search`, the region of each channel event is found
    at the input, in the window that covers most of it (among several, the one with the largest contribution). The
    search explains `c`, the contribution of the channel in the event's columns and one more on each side. The event
    begins, ends and has its band where the boxes of the region do that overlap the event. It keeps its edges where no
    smaller region takes away as much of `c` as these columns and rows do (a smaller region covers at most a quarter of
    the window), or the region is no better than a random place; and each edge at which the region reaches the end of
    the window, because the sound may continue there. `ChannelEvent.effect` says what masking the region takes away.
    Channel events of one sound stay joined where their regions lie apart.

    *Evidence over time* for a class is the sum of the maps of its evidence's channels over frequency, as a mean over
    the windows that cover `t` and in which the class is detected.

    The required memory grows with the detected sounds, not with the duration: it holds the events, two numbers per
    column and class, and the merged map of each stretch that may still continue. A file is read window by window. If it
    ends before its header says so, or cannot be decoded further, a warning says where, and the explanation is that of
    the sound before.

    Args:
        apex: the attribution object, `APEX` or `LayerAPEX`; its basis needs no prototypes.
        waveform: the path of an audio file, samples at the rate of the classifier, (sample,), a pair `(samples,
            sample_rate)`, or a `Clip`.
        window: length of a window, in s, usually that of the model's training clips. The last window ends at the end of
            the recording. A recording that is shorter than a window is padded with zeros, in which no event is
            reported.
        hop: time from the start of one window to the start of the next, in s, at most `window`; usually half of it.
        classifier: the model with its transform, its sample rate, the axes of its input, its class names, and whether
            its classes exclude each other, `exclusive`.
        threshold: probability from which on a class is detected in a window, in [0, 1].
        n_channels: largest number of channels in the evidence for a class in a window, `N_CHANNELS` (5) by default.
        sides: `"positive"`, or `"both"` to add channels that support the class by a negative activation.
        level: share of the largest relevance nearby that an event must reach, in (0, 1]; a smaller level gives longer
            and wider events, and a higher one cuts off what is far from the peak. With a layer whose columns hear a
            whole window, 0.9 and a hop of a tenth of the window bring events nearer to their sounds.
        gap: longest pause inside an event, in s. 0 gives each bark of a dog an event, a second the whole barking.
        search: how the region of each event is found at the input, such as `RegionSearch()`; its `cross` has no meaning
            here. It costs 12 forward-equivalent passes of one window for each channel event, and five for each class of
            a window that shows events. None leaves the events at the columns and rows of the layer.
        batch_size: number of windows per forward pass.
        progress: whether to show a progress bar.

    Returns:
        The events, and the evidence for each detected class over time.

    Raises:
        FileNotFoundError: there is no such file.
        UnfinishedExplanationError: one of the errors below came after windows with detected classes; its `explanation`
            has the events up to there, as without `search`.
        ValueError: an argument is out of range, the classifier does not say whether its classes are exclusive, the
            recording holds NaN or infinity, or it cannot be cut into windows
            (see `Windows`); the model does not give one score for each class; or the search for regions fails, for
            instance because the axes of the inputs are ambiguous and the classifier has no `input_layout`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import Classifier, LayerAPEX, PrototypeBasis, explain_recording
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
        >>> _ = nn.init.eye_(model[3].weight), nn.init.constant_(model[3].bias, -0.25)
        >>> def transform(waveform):  # the mean of each half second, above zero and below: (channel, 1, time)
        ...     means = waveform.reshape(-1, 50).mean(1)
        ...     return torch.stack([means, -means])[:, None]
        >>> classifier = Classifier(model, transform, sample_rate=100, class_names=["dog", "rain"], exclusive=False)
        >>> waveform = torch.zeros(1000)  # 10 s
        >>> waveform[300:450] = 1.0
        >>> apex = LayerAPEX(model, layer, PrototypeBasis(torch.eye(2), "time"))
        >>> explanation = explain_recording(apex, waveform, window=2.0, hop=1.0, classifier=classifier)
        >>> [(event.name, event.start, event.end) for event in explanation.events]
        [('dog', 3.0, 4.5)]

        With a layer of columns of 2 s, and regions found at the input:

        >>> from captum_apex import RegionSearch
        >>> layer = nn.Sequential(nn.AvgPool2d((1, 4)), nn.ReLU())
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), model[3])
        >>> classifier = Classifier(model, transform, sample_rate=100, class_names=["dog", "rain"], exclusive=False)
        >>> apex = LayerAPEX(model, layer, PrototypeBasis(torch.eye(2), "time"))
        >>> waveform = torch.zeros(3000)  # 30 s
        >>> waveform[1050:1250] = 10.0
        >>> for search in (None, RegionSearch()):
        ...     explanation = explain_recording(
        ...         apex, waveform, window=16.0, hop=8.0, classifier=classifier, search=search
        ...     )
        ...     print([(event.name, event.start, event.end) for event in explanation.events])
        [('dog', 10.0, 12.0)]
        [('dog', 10.5, 12.5)]
    """
    threshold, level, gap, batch_size = _checked_settings(classifier, threshold, level, gap, batch_size)
    at_layer = apex.layer_apex if isinstance(apex, APEX) else apex
    windows = _windows(classifier, waveform, window, hop)
    make = partial(WindowMerger.of, classifier, windows, basis=at_layer.basis, level=level, gap=gap)
    quiet = QuietEvents(classifier, windows.sample_rate, windows.length, threshold)
    finish = partial(_finished, basis=at_layer.basis, quiet=quiet)
    merger: WindowMerger | None = None
    explained = 0.0  # s
    with (
        tqdm(total=len(windows), unit="window", desc="explaining", **bar_settings(progress)) as bar,
        _kept(lambda: (merger, explained), finish),
    ):
        for batch in _batches(windows, classifier, batch_size, quiet):
            with naming_clips(partial(_window_name, windows, batch.starts)):
                for label, probability, decomposition in _detected(at_layer, batch.inputs, classifier, threshold):
                    merger = merger or make(batch.inputs, decomposition)
                    selected = at_layer.selected_channels(decomposition, n_channels, sides)
                    for clip in (probability >= threshold).nonzero()[:, 0].tolist():
                        merger.add(batch.starts[clip], label, probability[clip].item(), decomposition, clip, selected)
            explained = batch.starts[-1] + windows.seconds
            bar.update(len(batch.starts))
    windows = _up_to_the_end(windows, batch.starts[-1])
    duration = windows.n_samples / windows.sample_rate
    if merger is None:
        return RecordingExplanation((), {}, torch.empty(0, dtype=torch.float64), duration)
    merger.duration = duration
    regions = None if search is None else EventRegions(apex, classifier, windows, search)
    with _kept(lambda: (merger, duration), finish):
        return finish(merger.explanation(partial(regions.refined, progress=progress) if regions else None))


def _windows(classifier: Classifier, recording: Any, window: float, hop: float) -> Windows:
    rate = classifier.sample_rate
    sound = recording_in_memory(recording, rate, convert=classifier.convert)
    return Windows.of(sound, rate, window, hop, convert=classifier.convert, short=classifier.short)


class _Batch(NamedTuple):
    """Some windows in a row.

    Args:
        starts: start of each window, in s.
        inputs: inputs of the model for them; the first axis is the window.
    """

    starts: list[float]
    inputs: Tensor


@contextmanager
def _kept(
    state: Callable[[], tuple[WindowMerger | None, float]],
    finish: Callable[[RecordingExplanation], RecordingExplanation],
) -> Iterator[None]:
    """Keeps in an error what was explained before it, without a search for regions.

    Args:
        state: function that gives the merged windows, and the end of the last explained batch, in s.
        finish: function that completes the explanation.
    """
    try:
        yield
    except (ValueError, OSError, RuntimeError, MemoryError) as error:  # the last two of the model
        merger, explained = state()
        if merger is None or not explained:
            raise
        merger.duration = explained
        message = str(error) if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {error}"
        raise UnfinishedExplanationError(message, finish(merger.explanation())) from error


def _finished(explanation: RecordingExplanation, basis: PrototypeBasis, quiet: QuietEvents) -> RecordingExplanation:
    """The explanation with the prototypes of the channels and marks at events in which nothing sounds."""
    prototypes = {key: _prototypes(basis, *key) for key in {(e.channel, e.side) for e in explanation.channel_events}}
    events = []
    for event in explanation.events:
        channels = tuple(replace(each, prototypes=prototypes[each.channel, each.side]) for each in event.channels)
        events.append(replace(event, channels=channels))
    return replace(explanation, events=tuple(quiet.marked(events)))


def _prototypes(basis: PrototypeBasis, channel: int, side: int) -> tuple[int, ...]:
    """The training clips that are the prototypes of a channel; none where the basis has none."""
    stored = basis.positive if side > 0 else basis.negative
    return () if stored is None else tuple(stored.indices[channel, :_N_PROTOTYPES].tolist())


def _window_name(windows: Windows, starts: Sequence[float], clip: int) -> str:
    file = "" if isinstance(windows.source, Tensor) else f" of {windows.source}"
    return f"the window at {starts[clip]:g} s{file}"


def _checked_settings(
    classifier: Classifier, threshold: float, level: float, gap: float, batch_size: int
) -> tuple[float, float, float, int]:
    classifier.probabilities(torch.zeros(len(classifier.class_names)))  # an error comes before the work
    numbers = real_number(threshold, "threshold", 0, 1), real_number(level, "level", 0, 1)
    if numbers[1] == 0:
        raise ValueError("expected `level` in (0, 1], but got 0")
    return *numbers, real_number(gap, "gap", 0), whole_number(batch_size, "batch_size", least=1)


def _up_to_the_end(windows: Windows, last_start: float) -> Windows:
    """The windows of a recording whose last window begins at `last_start`, in s: the file may end early."""
    end = round(last_start * windows.sample_rate) + windows.length
    return replace(windows, n_samples=min(windows.n_samples, end))


def _batches(windows: Windows, classifier: Classifier, batch_size: int, quiet: QuietEvents) -> Iterator[_Batch]:
    """The windows batch by batch; what sounds in them is noted."""
    waveforms = iter(windows)
    while samples := list(islice(waveforms, batch_size)):
        starts = []
        inputs = []
        for first, waveform in samples:
            quiet.add(first, waveform)
            starts.append(first / windows.sample_rate)
            inputs.append(classifier.inputs(waveform, f"the window at {starts[-1]:g} s"))
        yield _Batch(starts, torch.stack(inputs))


def _detected(
    at_layer: LayerAPEX, inputs: Tensor, classifier: Classifier, threshold: float
) -> Iterator[tuple[int, Tensor, Decomposition]]:
    """Each class detected in the batch, its probability in each clip, (clip,), and the decomposition."""
    n_classes = len(classifier.class_names)
    of_classes: list[Tensor] = []

    def targets(output: Tensor) -> list[int | None]:
        logits = output[:, None] if output.dim() == 1 else output
        if logits.shape != (len(inputs), n_classes):
            raise ValueError(
                f"expected the model to give one score for each of the {n_classes} classes, but got "
                f"{tuple(output.shape)}"
            )
        check_not_nan(logits, "the scores")
        of_classes.append(classifier.probabilities(logits))
        labels = (of_classes[0] >= threshold).any(0).nonzero()[:, 0].tolist()
        return labels if n_classes > 1 else [None for _ in labels]

    device = device_of(model_of(at_layer.forward_func) or at_layer.layer)
    inputs = inputs.to(device)  # no window is padded
    for decomposition in at_layer.decompose_each(inputs, targets, lengths_of(at_layer.columns, inputs)):
        label = 0 if decomposition.target is None else decomposition.target
        assert isinstance(label, int)
        yield label, of_classes[0][:, label].cpu(), decomposition
