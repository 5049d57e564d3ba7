"""`explain`: a page about clips."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.audio.clip import Clip
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.classifier import Classifier
from captum_apex.cli.factory import made_classifier, near
from captum_apex.cli.loading import check_output_folder, class_scores, load_apex, load_bases
from captum_apex.explanations.explanation import Explanation, explain
from captum_apex.recordings.folders import Recordings

PAGE_SUFFIXES = (".html", ".htm")


def explain_command(options: argparse.Namespace) -> int:
    """Explains clips in one HTML page."""
    from captum_apex.report import Page, write

    if options.out.is_dir():
        raise ValueError(f"expected --out to be a file, but {options.out} is a folder")
    if options.out.suffix.lower() not in PAGE_SUFFIXES:  # so that no recording or basis is overwritten by a slip
        raise ValueError(f"expected --out to end in {PAGE_SUFFIXES[0]}, but got {options.out}")
    check_output_folder(options.out)
    classifier = made_classifier(options.model, options.device, options.convert)
    chosen = list(dict.fromkeys(_class(name, classifier.class_names) for name in options.target or ()))
    bases = load_bases(options.basis, options.layer)
    apexes = {path: load_apex(classifier.model, path, basis) for path, basis in bases.items()}
    data = None if options.data is None else _data(classifier, options.data, bases)
    if data is None:
        print("without --data, the folder that the bases were fitted on, the page has no prototypes", file=sys.stderr)
    pages, clips = [], _Prototypes(classifier, data)
    for path in tqdm(options.clips, desc="explaining", unit="clip"):
        waveform = classifier.waveform(path)
        clip, inputs = classifier.drawn(waveform, os.fspath(path)), classifier.inputs(waveform, os.fspath(path))
        scores = class_scores(classifier, inputs, os.fspath(path))
        for target in chosen or _heard(scores, options.threshold):
            try:
                found = [
                    _explanation(apex, inputs.to(options.device), target, options, data is not None)
                    for apex in apexes.values()
                ]
            except ValueError as error:
                raise ValueError(f"{path} cannot be explained: {error}") from error
            pages.append(Page(clip, found, clips.of(found), classifier.class_names, scores))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write(options.out, pages, title=options.title, limit=options.limit)
    print(options.out)
    return 0


def _heard(scores: Sequence[float], threshold: float | None) -> list[int | None]:
    """The classes whose probability reaches the threshold, highest first; None, the model's first choice, where there are none."""
    if threshold is None or len(scores) == 1:
        return [None]
    ordered, labels = torch.tensor(scores).sort(descending=True)
    return labels[ordered.sigmoid() >= threshold].tolist() or [None]


def _explanation(
    apex: LayerAPEX, inputs: Tensor, target: int | None, options: argparse.Namespace, with_prototypes: bool
) -> Explanation:
    assert apex.basis.positive is not None
    kept = apex.basis.positive.indices.shape[1]
    n_prototypes = min(4, kept) if options.prototypes is None else options.prototypes
    found = explain(
        apex, inputs[None], target, n_channels=options.channels, n_prototypes=n_prototypes, sides=options.sides
    )[0]
    if with_prototypes:
        return found
    return replace(found, evidence=tuple(replace(part, prototypes=()) for part in found.evidence))


class _Prototypes:
    """The recordings that explanations point at, each read once."""

    def __init__(self, classifier: Classifier, recordings: Recordings | None) -> None:
        self.inputs = None if recordings is None else classifier.dataset(recordings)
        self.clips: dict[int, Clip] = {}

    def of(self, explanations: Iterable[Explanation]) -> dict[int, Clip]:
        indices = {
            prototype.index for found in explanations for part in found.evidence for prototype in part.prototypes
        }
        return {index: self._clip(index) for index in sorted(indices)}

    def _clip(self, index: int) -> Clip:
        assert self.inputs is not None
        if index not in self.clips:
            self.clips[index] = self.inputs.clip(index)
        return self.clips[index]


def _class(text: str, class_names: Sequence[str]) -> int | None:
    """The index of a class, by its name or its number; None for the only one of a model, whose output may have no axis of classes."""
    index = (
        list(class_names).index(text) if text in class_names else int(text) if text.isdecimal() else len(class_names)
    )
    if index < len(class_names):
        return index if len(class_names) > 1 else None
    there = near(text, class_names)
    raise ValueError(
        f"expected --target to be a class or a number from 0 to {len(class_names) - 1}, but got {text!r}; there are: {there}"
    )


def _data(classifier: Classifier, folder: Path, bases: dict[Path, PrototypeBasis]) -> Recordings:
    """The recordings of a folder, after making sure that they are the ones that the bases were fitted on."""
    recordings = Recordings.in_folder(folder, classifier.class_names)
    fingerprint, shape = recordings.fingerprint(), tuple(classifier.dataset(recordings).shape)
    for path, basis in bases.items():
        origin = basis.origin
        if len(recordings) != origin.n_clips:
            raise ValueError(
                f"expected in {folder} the {origin.n_clips} recordings that {path} was fitted on, but got {len(recordings)}"
            )
        if origin.dataset not in ("", fingerprint):
            raise ValueError(
                f"expected in {folder} the recordings that {path} was fitted on, but names or sizes of files differ"
            )
        if origin.input_shape not in (None, shape):
            raise ValueError(
                f"expected inputs of shape {origin.input_shape}, as {path} was fitted on, but the transform gives {shape}"
            )
        if not origin.dataset:
            print(
                f"{path} does not know its recordings by name: only their number could be compared with {folder}",
                file=sys.stderr,
            )
    return recordings
