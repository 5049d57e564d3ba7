"""`fit`: bases of a model on a folder of audio."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from captum_apex.bases.features import FeatureBank
from captum_apex.bases.fitting import fit_basis
from captum_apex.bases.schemes import SCHEMES, Scheme
from captum_apex.classifiers.classifier import InputDataset
from captum_apex.cli.factory import made_classifier
from captum_apex.cli.loading import check_output_folder, chosen_layer, class_scores
from captum_apex.cli.parser import SUFFIX
from captum_apex.recordings.folders import Recordings


def fit_command(options: argparse.Namespace) -> int:
    """Fits a basis for each scheme on a folder of audio, and writes them."""
    schemes = tuple(map(Scheme, dict.fromkeys(options.scheme or SCHEMES)))
    if options.out.suffix == SUFFIX and (not options.scheme or len(schemes) > 1):
        raise ValueError(
            f"expected --out to be a folder, which gets a file per scheme, or one --scheme, but got {options.out}"
        )
    if options.out.suffix != SUFFIX and options.out.is_file():
        raise ValueError(
            f"expected --out to be a folder, or a file that ends in {SUFFIX}, but {options.out} is another file"
        )
    check_output_folder(options.out if options.out.suffix == SUFFIX else options.out / SUFFIX)
    classifier = made_classifier(options.model, options.device, options.convert)
    layer = chosen_layer(classifier, options.layer)
    recordings = Recordings.in_folder(options.data, classifier.class_names)
    inputs = classifier.dataset(recordings)
    schemes = _supported(layer, inputs, schemes, chosen=bool(options.scheme))
    print(f"{len(recordings)} recordings in {options.data}", file=sys.stderr)
    bank = FeatureBank.from_dataset(
        classifier.model,
        layer,
        inputs,
        schemes=schemes,
        layout=classifier.layout,
        batch_size=options.batch_size,
        columns=classifier.columns,
        progress=True,
    )
    bank = replace(bank, origin=replace(bank.origin, dataset=recordings.fingerprint())).to(options.device)
    paths = {
        scheme: options.out if options.out.suffix == SUFFIX else options.out / f"{scheme}{SUFFIX}" for scheme in schemes
    }
    for scheme, path in paths.items():
        kept = (min(100, len(recordings)), min(5, len(recordings)))
        settings = {
            "orthogonal": not options.invertible,
            "epochs": options.epochs,
            "n_prototypes": kept,
            "seed": options.seed,
        }
        basis = fit_basis(bank, scheme, **settings, progress=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        basis.save(path)
        print(path)
    return 0


def _supported(layer: nn.Module, inputs: InputDataset, schemes: Iterable[Scheme], chosen: bool) -> tuple[Scheme, ...]:
    """The schemes to fit, found out with the first input, before the long pass; all that the layer supports unless they were chosen."""
    classifier, first = inputs.classifier, inputs.input(0)
    class_scores(classifier, first, inputs.recordings.name(0))
    origin = FeatureBank.from_dataset(classifier.model, layer, [first], layout=classifier.layout).origin
    assert origin.grid is not None
    if chosen:
        for scheme in schemes:
            scheme.check(*origin.grid, layer=repr(origin.layer))
    return tuple(scheme for scheme in schemes if scheme.supports(*origin.grid))
