"""Clips of annotated recordings with a user's classifier: what methods explain, and where the sounds lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import torch
from captum.attr import LayerActivation
from torch import Tensor, nn

from benchmarks.methods import Query
from benchmarks.methods.query import ClassifiedClips, logits
from benchmarks.runs.arranged_model import ArrangedModel
from captum_apex import APEX, Classifier, PrototypeBasis, Recordings, Scheme
from captum_apex.classifiers.spectrogram_inputs import input_letters
from captum_apex.cli.loading import chosen_layer
from captum_apex.explaining.basis_apexes import apexes_of, named_bases
from captum_apex.layers.cell_places import CellPlaces
from captum_apex.layers.layout import Layout, check_layout
from captum_apex.layers.models import device_of, layer_name
from captum_apex.layers.placing import cell_places
from captum_apex.masking.fills import named_fill
from captum_apex.masking.grids import named_grid
from captum_apex.metrics import annotated_bins, time_segments
from captum_apex.recordings import SUFFIXES, AnnotatedRecordings, Annotation, Slices
from captum_apex.recordings.slices import LONGER, file_duration


@dataclass(frozen=True)
class AnnotatedClip:
    """A clip of a recording, and the class that is explained in it.

    Attributes:
        recording: index of the recording.
        start: second of the recording at which the clip begins.
        label: name of the class.
        event: the annotation that the clip is around; None for a recording that is one clip.
    """

    recording: int
    start: float
    label: str
    event: Annotation | None = None


@dataclass(frozen=True)
class AnnotatedStage:
    """Clips of annotated recordings with the classifier that is explained.

    Attributes:
        classified: the clips, the model and the annotated classes, as methods get them. Waveforms have one bin of
            frequency, and a sample is a frame.
        model: the model that methods get, with its own axes.
        truth: bins in which the class is annotated, bool (clip, frequency, time).
        segments: segment of each frame, int64 (time,).
        clips: recording, start and class of each clip.
        names: path of each recording.
        apexes: attribution object of each scheme that has a basis.
        n_found: number of clips in which the class has the largest score of all classes.
    """

    classified: ClassifiedClips
    model: ArrangedModel
    truth: Tensor
    segments: Tensor
    clips: tuple[AnnotatedClip, ...]
    names: tuple[str, ...]
    apexes: Mapping[Scheme, APEX]
    n_found: int

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        annotated: AnnotatedRecordings,
        bases: Mapping[Path, PrototypeBasis],
        *,
        layer: str | None = None,
        n_clips: int = 100,
        seconds: float = 0.1,
        seed: int = 0,
    ) -> AnnotatedStage:
        """The clips of annotated recordings.

        Args:
            classifier: the classifier, whose inputs are spectrograms or waveforms.
            annotated: the recordings with their annotations.
            bases: bases of the classifier by their paths; may be empty.
            layer: name of the layer that is explained where there is no basis; None for the classifier's.
            n_clips: largest number of clips, evenly spaced among all.
            seconds: duration of a segment, in s.
            seed: seed of random methods.

        Raises:
            ValueError: there is no layer, a basis does not fit the model, or the inputs are no spectrograms or
                waveforms of one shape.
        """
        classifier = replace(classifier, columns=None)  # the clips have one length, so that none is padded
        apexes = apexes_of(classifier, named_bases(bases)) if bases else {}
        module = next((apex.layer_apex.layer for apex in apexes.values()), None) or chosen_layer(classifier, layer)
        clips = evenly(clips_of(classifier, annotated), n_clips)
        own, truth, segments = _inputs_and_truth(classifier, annotated, clips, seconds)
        own = own.to(device_of(classifier.model))
        axes = ["n", *input_letters(own.shape[1:], classifier.input_layout)]
        model = ArrangedModel(classifier.model, axes)
        inputs = model.arranged(own)
        labels = [list(classifier.class_names).index(clip.label) for clip in clips]
        classified = ClassifiedClips(
            model=model,
            layer=module,
            inputs=inputs,
            target=torch.tensor(labels, device=inputs.device),
            silence=_silence(classifier, own),
            bases={scheme: apex.basis for scheme, apex in apexes.items()},
            seed=seed,
            places=_places(classifier, module, own[:1], axes, apexes),
            layout=_layout(classifier, module, own[:1], apexes),
        )
        scores = logits(model, inputs)
        if scores.shape != (len(clips), len(classifier.class_names)):
            raise ValueError(
                f"expected a model that gives scores of shape (batch, {len(classifier.class_names)}), but got "
                f"{tuple(scores.shape)}"
            )
        n_found = int((scores.argmax(1) == classified.target).sum())
        return cls(classified, model, truth, segments, tuple(clips), annotated.recordings.names, apexes, n_found)

    @property
    def usual_grid(self) -> str:
        """Name of the region grid that is used unless another one is named: waveforms have no bands."""
        return "time" if self.truth.shape[1] == 1 else "square"

    def query(self, grid: str, fill: str) -> Query:
        """What a method gets, with the region grid and the fill of these names."""
        inputs = self.classified.inputs
        regions = named_grid(grid, tuple(inputs.shape[2:])).to(inputs.device)
        values = named_fill(fill, self.classified.silence)(inputs)
        return Query(**vars(self.classified), grid=regions, fill=values)


def recordings_at(path: Path, classifier: Classifier) -> Recordings:
    """The audio files of a folder and of all folders in it, of a CSV file with a column of files, or one audio file.

    Args:
        path: the folder or the file.
        classifier: the classifier, by whose classes a column of labels is read.

    Raises:
        FileNotFoundError: there is no audio file.
    """
    if path.suffix.lower() == ".csv":
        listed = Recordings.from_csv(path, class_names=classifier.class_names, background=classifier.background)
        return Recordings(listed.folder, listed.names)
    if path.is_file():
        return Recordings(path.parent, (path.name,))
    found = (each for each in sorted(path.rglob("*")) if each.suffix.lower() in SUFFIXES and each.is_file())
    names = tuple(each.relative_to(path).as_posix() for each in found if not each.name.startswith("."))
    if not names:
        raise FileNotFoundError(
            f"expected audio files, which end in {', '.join(SUFFIXES)}, at {path}, but there is none"
        )
    return Recordings(path, names)


def clips_of(classifier: Classifier, annotated: AnnotatedRecordings) -> list[AnnotatedClip]:
    """The clips of annotated recordings: one for each class of a short recording, or each event of a long one.

    A recording is long if it does not fit into a clip of the classifier. The clip of an event has the event in its
    middle, or lies at the start or the end of the recording.

    Args:
        classifier: the classifier.
        annotated: the recordings with their annotations.
    """
    seconds = None if classifier.length is None else classifier.length / classifier.sample_rate
    clips = []
    for index, events in enumerate(annotated.annotations):
        duration = file_duration(annotated.recordings.path(index)) if events else 0.0
        if seconds is None or duration <= seconds * LONGER:
            labels = dict.fromkeys(each.label for each in events)
            clips += [AnnotatedClip(index, 0.0, label) for label in labels]
            continue
        for event in events:
            start = min(max((event.start + event.end - seconds) / 2, 0.0), duration - seconds)
            clips.append(AnnotatedClip(index, start, event.label, event))
    return clips


def evenly(clips: Sequence[AnnotatedClip], most: int) -> list[AnnotatedClip]:
    """At most so many of the clips, evenly spaced.

    Example:
        >>> from benchmarks.runs.annotated_clips import evenly
        >>> evenly(["a", "b", "c", "d", "e"], 3)
        ['a', 'c', 'e']
    """
    n_clips = min(most, len(clips))
    return [clips[index] for index in torch.linspace(0, len(clips) - 1, n_clips).round().long().tolist()]


def _inputs_and_truth(
    classifier: Classifier, annotated: AnnotatedRecordings, clips: Sequence[AnnotatedClip], seconds: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs (clip, channel, frequency, time), the truth (clip, frequency, time) and the segments (time,)."""
    recordings = Recordings(annotated.recordings.folder, annotated.recordings.names)  # without labels
    places = tuple((clip.recording, clip.start) for clip in clips)
    length = classifier.length
    if length is None:
        dataset = classifier.dataset(recordings)
        indices = [clip.recording for clip in clips]
    else:
        dataset = classifier.dataset(Slices(recordings, places, length / classifier.sample_rate, None))
        indices = list(range(len(clips)))
    inputs = [dataset.input(index) for index in indices]
    masks = []
    for index, clip in zip(indices, clips, strict=True):
        drawn = dataset.clip(index)
        masks.append(annotated_bins(annotated.annotations[clip.recording], drawn, [clip.label], start=clip.start)[0])
    names = [annotated.recordings.names[clip.recording] for clip in clips]
    _check_inputs(classifier, inputs, names, masks[0].shape[-1])
    if not any(mask.any() for mask in masks):
        _no_bins(annotated, clips[0])
    shape = (len(masks), -1, masks[0].shape[-1])  # (clip, sample) of a model of waveforms → (clip, 1, sample)
    return torch.stack(inputs), torch.stack(masks).reshape(shape), time_segments(drawn, seconds)


def _no_bins(annotated: AnnotatedRecordings, clip: AnnotatedClip) -> NoReturn:
    """Raises where no bin is annotated: the bands of all annotations lie beside the model's, or are no Hz."""
    example = clip.event or next(each for each in annotated.annotations[clip.recording] if each.label == clip.label)
    raise ValueError(
        f"expected annotations, of frequencies in Hz, that have bins of the model's input, but none has: "
        f"{example.place} is of {example.low} to {example.high} Hz; --times-only takes the times alone"
    )


def _check_inputs(classifier: Classifier, inputs: Sequence[Tensor], names: Sequence[str], n_frames: int) -> None:
    """Raises where the inputs are no spectrograms with known axes and no waveforms, or not of one shape."""
    letters = input_letters(inputs[0].shape, classifier.input_layout)
    shape = tuple(inputs[0].shape)
    if len(letters) != len(shape) or ("f" in letters and classifier.axes is None):
        raise ValueError(
            "expected a Classifier of waveforms, or of spectrograms with `axes`, because the maps of all methods are "
            f"compared over bins at known times, but its inputs have the shape {shape} and its `axes` are "
            f"{classifier.axes}; waveforms with a channel axis need input_layout='n c t'"
        )
    if shape[letters.index("t")] != n_frames:
        raise ValueError(
            f"expected inputs with an entry for each of the {n_frames} "
            f"{'frames' if 'f' in letters else 'samples'} of a clip, in which the sounds are annotated, but the "
            f"transform gives {shape[letters.index('t')]} (shape {shape})"
        )
    for each, name in zip(inputs, names, strict=True):
        if each.shape != inputs[0].shape:
            raise ValueError(
                f"expected inputs of one shape, but the transform gives {tuple(each.shape)} for {name} and "
                f"{tuple(inputs[0].shape)} for {names[0]}; give the Classifier a `length`, in samples"
            )


def _silence(classifier: Classifier, inputs: Tensor) -> float:
    """The value of a bin of digital silence.

    Where the transform gives none, it is the smallest value of all spectrograms, and 0 in waveforms.
    """
    n_samples = classifier.length or classifier.sample_rate
    value = classifier.inputs(torch.zeros(n_samples), "digital silence").median()
    if value.isfinite():
        return value.item()
    return inputs.min().item() if "f" in input_letters(inputs.shape[1:], classifier.input_layout) else 0.0


def _layout(classifier: Classifier, layer: nn.Module, clip: Tensor, apexes: Mapping[Scheme, APEX]) -> Layout:
    """How the output of the layer becomes a grid, which bases know.

    Raises:
        ValueError: the classifier's layout does not fit the layer.
    """
    of_basis = next((apex.basis.origin.layout for apex in apexes.values()), None)
    if of_basis is not None:
        return Layout.of(of_basis)
    layout = Layout.of(classifier.layout)
    output = LayerActivation(classifier.model, layer).attribute(clip)
    check_layout(layout, layer, output, repr(layer_name(classifier.model, layer)))
    layout.grid(output)
    return layout


def _places(
    classifier: Classifier, layer: nn.Module, clip: Tensor, axes: Sequence[str], apexes: Mapping[Scheme, APEX]
) -> CellPlaces:
    """Where the cells of the layer lie on the input, which bases know; without a basis they are searched for."""
    if apexes:
        return next(iter(apexes.values())).basis.origin.places or CellPlaces()
    layout = Layout.of(classifier.layout)
    return cell_places(classifier.model, layer, clip, layout=layout, input_layout=" ".join(axes))
