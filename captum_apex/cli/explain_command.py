"""`explain`: explains clips in one HTML page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from captum_apex.attribution.apex import APEX
from captum_apex.audio.clip import Clip
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.classifier import Classifier, InputDataset
from captum_apex.cli.exit_status import input_fault
from captum_apex.cli.factory import closest_names, load_classifier
from captum_apex.cli.loading import (
    check_output_folder,
    class_scores,
    list_left_out,
    load_apex,
    load_bases,
    training_recordings,
)
from captum_apex.cli.types import add_evidence_arguments, positive_integer, positive_number, probability
from captum_apex.explanations.explanation import Explanation, explain
from captum_apex.layers.origin import Origin
from captum_apex.locating.region_search import RegionSearch
from captum_apex.recordings.folders import Recordings

SUMMARY = "explain clips in one HTML page"
DESCRIPTION = (
    "Explains clips by fitted bases, with the recordings that show each channel, in one HTML page that needs nothing "
    "else."
)
EXAMPLES = [
    "explain new.wav --model my_model:classifier --basis bases --data recordings --out page.html",
    "explain a.wav b.wav --model my_model:classifier --basis time.safetensors --target siren dog --out page.html",
    "explain new.wav --model my_model:classifier --basis bases --cells --out page.html",
]
PAGE_SUFFIXES = (".html", ".htm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `explain`."""
    _add_files(parser)
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument(
        "--target",
        nargs="+",
        metavar="CLASS",
        help="the classes to explain, by name or number, predicted or not; by default the one with the largest score",
    )
    classes.add_argument(
        "--threshold",
        type=probability,
        metavar="P",
        help="explain all classes with a probability of at least P, for models that give a clip several labels",
    )
    add_evidence_arguments(parser)
    parser.add_argument(
        "--prototypes",
        type=positive_integer,
        metavar="N",
        help="prototypes per channel (4, or as many as the bases have)",
    )
    _add_regions(parser)
    _add_page(parser)


def _add_regions(parser: argparse.ArgumentParser) -> None:
    regions = parser.add_mutually_exclusive_group()
    regions.add_argument(
        "--cells",
        action="store_true",
        help="show the peak cells of the layer's grid instead of regions that are found by masking: faster, but less "
        "exact",
    )
    regions.add_argument(
        "--cross",
        action="store_true",
        help="for time-frequency: find the cross of a strip and a band instead of the rectangle in which they meet",
    )


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit",
        type=positive_number,
        metavar="MB",
        default=64,
        help="the largest page to write, in megabytes (%(default)s)",
    )
    parser.add_argument(
        "--title", metavar="TEXT", default="Why the model heard that", help="title of the page (%(default)s)"
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP", help="audio files to explain")
    parser.add_argument(
        "--basis",
        type=Path,
        nargs="+",
        required=True,
        metavar="BASIS",
        help="files that fit wrote, or folders of them; one basis per scheme",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="PAGE.html", help="the page to write")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="the folder that the bases were fitted on; without it the page has no prototypes",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="checks that the bases were fitted on this layer; they know their layer without it",
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out clips and recordings of --data that cannot be read, and list them, instead of stopping at the "
        "first",
    )


def run(options: argparse.Namespace) -> int:
    """Explains clips in one HTML page."""
    from captum_apex.report import Page, write  # needs matplotlib, which the other commands do without

    _check_page_path(options.out)
    classifier = load_classifier(options.model, options.device, options.convert)
    targets = list(dict.fromkeys(_target(name, classifier.class_names) for name in options.target or ()))
    bases = load_bases(options.basis, options.layer)
    apexes = [load_apex(classifier, path, basis) for path, basis in bases.items()]
    training_clips = _TrainingClips(classifier, _training_recordings(classifier, options, bases))
    pages = []
    for path, clip, inputs in _clips(classifier, options):
        scores = class_scores(classifier, inputs, os.fspath(path))
        for target in targets or _detected(classifier, scores, options.threshold):
            try:
                explanations = [_explanation(apex, inputs, target, training_clips.inputs, options) for apex in apexes]
            except Exception as error:
                fault = input_fault(error)
                if fault is None:
                    raise
                raise ValueError(f"{path} cannot be explained: {fault}") from error
            prototypes = training_clips.of(explanations)
            pages.append(Page(clip, explanations, prototypes, classifier.class_names, scores))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write(options.out, pages, title=options.title, limit=options.limit)
    print(options.out)
    return 0


def _clips(classifier: Classifier, options: argparse.Namespace) -> Iterator[tuple[Path, Clip, Tensor]]:
    """Each clip with its path and the input of the model; with `--skip-bad` without those that cannot be read."""
    bad = {}
    for path in tqdm(options.clips, desc="explaining", unit="clip"):
        name = os.fspath(path)
        try:
            waveform = classifier.waveform(path)
            clip = classifier.drawn(waveform, name)
            inputs = classifier.inputs(waveform, name)
        except (ValueError, OSError) as error:
            if not options.skip_bad:
                raise
            bad[name] = str(error)
            continue
        yield path, clip, inputs
    list_left_out(bad, len(options.clips))


def _check_page_path(path: Path) -> None:
    check_output_folder(path)
    if path.suffix.lower() not in PAGE_SUFFIXES:  # so that a slip overwrites no recording and no basis
        raise ValueError(f"expected --out to end in {PAGE_SUFFIXES[0]}, but got {path}")


def _target(text: str, class_names: Sequence[str]) -> int | None:
    """The index of a class given by name or number; None for a model of one class, which may have no class axis."""
    index = len(class_names)
    if text in class_names:
        index = list(class_names).index(text)
    elif text.isdecimal():
        index = int(text)
    if index < len(class_names):
        return index if len(class_names) > 1 else None
    names = closest_names(text, class_names)
    raise ValueError(
        f"expected --target to be a class or a number from 0 to {len(class_names) - 1}, but got {text!r}; "
        f"there are: {names}"
    )


def _detected(classifier: Classifier, scores: Sequence[float], threshold: float | None) -> list[int | None]:
    """The classes whose probability reaches the threshold, highest first; [None], the predicted, if there are none."""
    if threshold is None or len(scores) == 1:
        return [None]
    ordered, labels = torch.tensor(scores).sort(descending=True)
    return labels[classifier.probabilities(ordered) >= threshold].tolist() or [None]


def _explanation(
    apex: APEX, inputs: Tensor, target: int | None, dataset: InputDataset | None, options: argparse.Namespace
) -> Explanation:
    """The explanation of one input; without the training recordings it names no prototypes."""
    assert apex.basis.positive is not None
    available = apex.basis.positive.indices.shape[1]
    n_prototypes = min(4, available) if options.prototypes is None else options.prototypes
    explained = partial(
        explain,
        apex,
        inputs[None].to(options.device),
        target,
        n_channels=options.channels,
        n_prototypes=n_prototypes,
        sides=options.sides,
    )
    if options.cells:
        explanation = explained(search=None)[0]
    else:
        stored = _has_regions(apex.basis, n_prototypes, options.sides)
        explanation = _with_regions(explained, options.cross, None if stored else dataset)
    if options.data is not None:
        return explanation
    return replace(explanation, evidence=tuple(replace(channel, prototypes=()) for channel in explanation.evidence))


def _with_regions(
    explained: Callable[..., list[Explanation]], cross: bool, dataset: InputDataset | None
) -> Explanation:
    """The explanation with regions that are found by masking, or an error that names the way without a search."""
    try:
        return explained(search=RegionSearch(cross=cross), dataset=dataset)[0]
    except Exception as error:  # the search runs the user's model on altered inputs, which can raise anything
        explained(search=None)  # raises the errors that the search has nothing to do with
        raise ValueError(
            f"expected regions that can be found by masking, but the search raised {type(error).__name__}: {error}; "
            "--cells explains without a search"
        ) from error


def _has_regions(basis: PrototypeBasis, n_prototypes: int, sides: str) -> bool:
    """Whether the basis keeps the regions of all prototypes that can be shown."""
    prototypes = [basis.positive, basis.negative] if sides == "both" else [basis.positive]
    boxes = [None if of_side is None else of_side.boxes for of_side in prototypes]
    return all(each is not None and bool((each[:, :n_prototypes, 0, 0] >= 0).all()) for each in boxes)


class _TrainingClips:
    """The training clips that explanations name as prototypes; each is read once.

    Args:
        classifier: the classifier, which knows how a recording becomes a clip.
        recordings: the recordings that the bases were fitted on; None where they were not given.
    """

    def __init__(self, classifier: Classifier, recordings: Recordings | None) -> None:
        self.inputs = None if recordings is None else classifier.dataset(recordings)
        self.clips: dict[int, Clip] = {}

    def of(self, explanations: Iterable[Explanation]) -> dict[int, Clip]:
        """The clip of each prototype of the explanations, by its index."""
        channels = [channel for explanation in explanations for channel in explanation.evidence]
        indices = {prototype.index for channel in channels for prototype in channel.prototypes}
        return {index: self._clip(index) for index in sorted(indices)}

    def _clip(self, index: int) -> Clip:
        assert self.inputs is not None
        if index not in self.clips:
            self.clips[index] = self.inputs.clip(index)
        return self.clips[index]


def _training_recordings(
    classifier: Classifier, options: argparse.Namespace, bases: dict[Path, PrototypeBasis]
) -> Recordings | None:
    """The recordings of a folder, after a check that the bases were fitted on them."""
    folder = options.data
    if folder is None:
        print("without --data, the folder that the bases were fitted on, the page has no prototypes", file=sys.stderr)
        return None
    recordings = training_recordings(classifier, folder, options.skip_bad)
    given = Origin(
        n_clips=len(recordings),
        dataset=recordings.fingerprint(),
        input_shape=tuple(classifier.dataset(recordings).shape),
    )
    for path, basis in bases.items():
        _check_origin(given, folder, path, basis.origin)
    return recordings


def _check_origin(given: Origin, folder: Path, path: Path, origin: Origin) -> None:
    """Raises where the basis of a file has another origin than the recordings given, as far as the basis knows."""
    if given.n_clips != origin.n_clips:
        raise ValueError(
            f"expected in {folder} the {origin.n_clips} recordings that {path} was fitted on, but got {given.n_clips}; "
            "--skip-bad leaves out bad files, here as in fit"
        )
    if origin.dataset not in ("", given.dataset):
        raise ValueError(
            f"expected in {folder} the recordings that {path} was fitted on, but names or sizes of files differ"
        )
    if origin.input_shape not in (None, given.input_shape):
        raise ValueError(
            f"expected inputs of shape {origin.input_shape}, as {path} was fitted on, but the transform gives "
            f"{given.input_shape}"
        )
    if not origin.dataset:
        print(
            f"{path} does not know its recordings by name: only their number could be compared with {folder}",
            file=sys.stderr,
        )
