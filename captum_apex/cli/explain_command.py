"""`explain`: explains clips in one HTML page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.class_names import class_index
from captum_apex.classifiers.classifier import Classifier
from captum_apex.cli.factory import load_classifier
from captum_apex.cli.loading import check_output_folder, list_left_out, training_recordings
from captum_apex.cli.types import add_evidence_arguments, positive_integer, positive_number, probability
from captum_apex.explaining.classifier_bases import load_bases
from captum_apex.explaining.explainer import Explainer
from captum_apex.locating.region_search import RegionSearch

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
        help="explain all classes with a probability (sigmoid) of at least P, for models that give a clip several "
        "labels",
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
    _check_page_path(options.out)
    classifier = load_classifier(options.model, options.device, options.convert)
    targets = [_target(name, classifier.class_names) for name in options.target or ()]
    bases = load_bases(options.basis, options.layer)
    explainer = _explainer(classifier, bases, options)
    explained = explainer.explain(
        options.clips,
        targets or None,
        threshold=options.threshold,
        n_channels=options.channels,
        n_prototypes=options.prototypes,
        sides=options.sides,
        search=None if options.cells else RegionSearch(cross=options.cross),
        skip_bad=options.skip_bad,
        progress=True,
    )
    list_left_out(explained.left_out, len(options.clips))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    explained.write(options.out, title=options.title, limit=options.limit)
    print(options.out)
    return 0


def _explainer(classifier: Classifier, bases: Mapping[Path, PrototypeBasis], options: argparse.Namespace) -> Explainer:
    folder = options.data
    if folder is None:
        print("without --data, the folder that the bases were fitted on, the page has no prototypes", file=sys.stderr)
        return Explainer(classifier, bases)
    return Explainer(classifier, bases, training_recordings(classifier, folder, options.skip_bad))


def _check_page_path(path: Path) -> None:
    check_output_folder(path)
    if path.suffix.lower() not in PAGE_SUFFIXES:  # so that a slip overwrites no recording and no basis
        raise ValueError(f"expected --out to end in {PAGE_SUFFIXES[0]}, but got {path}")


def _target(text: str, class_names: Sequence[str]) -> int:
    """The index of a class given by name or number."""
    try:
        return class_index(text, class_names)
    except ValueError as error:
        raise ValueError(f"--target: {error}") from error
