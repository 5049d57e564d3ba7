"""`fit`: fits bases of a model on recordings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.polar_fit import check_method
from captum_apex.bases.schemes import SCHEMES, Scheme
from captum_apex.classifiers.classifier import Classifier
from captum_apex.cli.command_results import print_path, print_results
from captum_apex.cli.factory import load_classifier, said_where_slow
from captum_apex.cli.loading import (
    check_output_folder,
    chosen_layer,
    naming_skip_bad,
    submodule,
    training_recordings,
)
from captum_apex.defaults import BASIS_SUFFIX, KEPT_PROTOTYPES
from captum_apex.explaining.classifier_bases import fit_bases, recognised
from captum_apex.explaining.explainer import Explainer
from captum_apex.recordings.folders import AudioDataset


@naming_skip_bad()
def run(options: argparse.Namespace) -> int:
    """Fits a basis for each scheme on recordings, and writes the bases."""
    _check_options(options, tuple(map(Scheme, dict.fromkeys(options.scheme or SCHEMES))))
    classifier = load_classifier(options.model, options.device, options.convert)
    layer = chosen_layer(classifier, options.layer)
    recordings = training_recordings(classifier, options.data, options.skip_bad, options.slice, options.annotations)
    with said_where_slow("trying the model on some of the recordings …"):
        facts = {"n_recordings": len(recordings), "recognised": recognised(classifier.dataset(recordings))}
    print(_counted(facts, options.data, recordings), file=sys.stderr)
    bases = fit_bases(
        classifier,
        recordings,
        options.scheme and tuple(dict.fromkeys(options.scheme)),
        layer=layer,
        norm=None if options.norm is None else submodule(classifier.model, options.norm, "--norm"),
        method=options.method,
        orthogonal=not options.invertible,
        epochs=options.epochs,
        **_of_bank(options),
        seed=options.seed,
        progress=True,
    )
    written = _written(options, classifier, recordings, bases)
    rows = [_row(path, basis) for path, basis in written.items()]
    print_results("bases", rows, written, as_json=options.as_json, digits=2, **facts)
    return 0


def _of_bank(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the bank."""
    loading = {"batch_size": options.batch_size, "num_workers": options.workers}
    return {**loading, "bank": options.bank, "half": options.half, "candidates": options.candidates}


def _counted(facts: Mapping[str, Any], folder: Path, recordings: AudioDataset) -> str:
    """What is known of the recordings before the fit; they may have several labels each."""
    place = "the current folder" if folder == Path() else folder
    text = f"{facts['n_recordings']} recordings in {place}"
    if facts["recognised"] is None:
        return text
    right, tried = facts["recognised"]
    text += f"; the model recognises {right} of the {tried} that were tried"
    if any(isinstance(label, tuple) for label in (() if recordings.labels is None else recordings.labels)):
        text += " (its best class is one of their labels)"
    if right < tried / 2:
        text += (
            ": few, if it was trained on such recordings; its weights, the transform or the order of the class names "
            "may not be those of the training"
        )
    return text


def _written(
    options: argparse.Namespace, classifier: Classifier, recordings: AudioDataset, bases: Iterable[PrototypeBasis]
) -> dict[Path, PrototypeBasis]:
    """Writes each basis when it is fitted, and again with the regions of its prototypes where they are asked for."""
    written: dict[Path, PrototypeBasis] = {}
    with _telling_what_is_finished(options, written):
        for basis in bases:
            path = _basis_path(options.out, basis.scheme)
            explainer = Explainer(classifier, {path: basis}, recordings)
            basis.save(path)
            written[path] = basis
            if options.locate is not None:
                written[path] = _locate(explainer, options.locate, path)
            print_path(path, options.as_json)
    return written


@contextmanager
def _telling_what_is_finished(options: argparse.Namespace, written: Mapping[Path, PrototypeBasis]) -> Iterator[None]:
    """An interruption gets a note of the files that are there and of how to go on."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        interruption.add_note(_what_is_finished(options, written))
        raise


def _what_is_finished(options: argparse.Namespace, written: Mapping[Path, PrototypeBasis]) -> str:
    """The files that were written, and how to go on after an interruption."""
    if not written:
        if options.bank is None:
            return "no basis is finished; with --bank FOLDER the features are kept, and the same command goes on"
        return f"no basis is finished; the same command goes on with the features in {options.bank}"
    lines = []
    for path, basis in written.items():
        is_whole = options.locate is None or _n_located(basis)
        without = "" if is_whole else ", without regions of prototypes: explain searches for those that it shows"
        lines.append(f"finished: {path}{without}")
    if options.out.suffix != BASIS_SUFFIX:
        lines.append("for the others: the same command with --scheme and the schemes that have no file yet")
    return "\n".join(lines)


def _n_located(basis: PrototypeBasis) -> int:
    """How many prototypes of each channel have regions."""
    assert basis.positive is not None
    boxes = basis.positive.boxes
    return 0 if boxes is None else int((boxes[:, :, 0, 0] >= 0).any(0).sum())


def _row(path: Path, basis: PrototypeBasis) -> dict[str, Any]:
    """One basis in the table at the end."""
    assert basis.positive is not None
    return {
        "file": str(path),
        "scheme": str(basis.scheme),
        "layer": basis.origin.layer,
        "channels": basis.n_channels,
        "prototypes": basis.positive.indices.shape[1],
        "mean_purity": basis.positive.purities.mean().item(),
        "located": _n_located(basis),
    }


def _locate(explainer: Explainer, n_prototypes: int, path: Path) -> PrototypeBasis:
    """Finds the regions of the prototypes of a basis that has been written, and writes it again with them."""
    try:
        (located,) = explainer.located(n_prototypes, progress=True).bases.values()
    except Exception as error:  # the search runs the user's model on altered inputs, which can raise anything
        raise ValueError(
            f"{path} is written without regions, because the search for them raised {type(error).__name__}: {error}; "
            "leave out --locate, and give explain --cells"
        ) from error
    located.save(path)
    return located


def _check_options(options: argparse.Namespace, schemes: tuple[Scheme, ...]) -> None:
    """Refuses what the parser cannot, before the model is loaded."""
    _check_output(options, schemes)
    _check_locate(options.locate)
    check_method(options.method, not options.invertible)


def _check_locate(n_prototypes: int | None) -> None:
    if n_prototypes is not None and n_prototypes > KEPT_PROTOTYPES:
        raise ValueError(
            f"expected --locate to be at most {KEPT_PROTOTYPES}, the prototypes of a channel in a basis, but got "
            f"{n_prototypes}"
        )


def _check_output(options: argparse.Namespace, schemes: tuple[Scheme, ...]) -> None:
    is_basis = options.out.suffix == BASIS_SUFFIX
    if is_basis and (not options.scheme or len(schemes) > 1):
        raise ValueError(
            f"expected --out to be a folder, which gets a file per scheme, or one --scheme, but got {options.out}"
        )
    if not is_basis and options.out.is_file():
        raise ValueError(
            f"expected --out to be a folder, or a file that ends in {BASIS_SUFFIX}, but {options.out} is another file"
        )
    for scheme in schemes:
        check_output_folder(_basis_path(options.out, scheme))


def _basis_path(out: Path, scheme: Scheme) -> Path:
    return out if out.suffix == BASIS_SUFFIX else out / f"{scheme}{BASIS_SUFFIX}"
