"""The command `demonstration`: trains the classifier of `captum_apex.demonstration` and fits its bases."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

import captum_apex.demonstration
from benchmarks.classifiers.demonstration_training import spectrograms, trained_network
from benchmarks.commands.options import Commands
from captum_apex import Explainer
from captum_apex.cli.types import seed
from captum_apex.demonstration import EveningSounds
from captum_apex.demonstration.pond_network import WEIGHTS, pond_classifier
from captum_apex.files import replaced

PACKAGE = Path(captum_apex.demonstration.__file__).parent
N_LOCATED = 4  # prototypes per channel whose regions are stored, as many as a page shows


def add_demonstration_parser(commands: Commands) -> None:
    """Adds the parser of `demonstration`."""
    parser = commands.add_parser(
        "demonstration",
        help="train the classifier of the package's demonstration, and fit its bases",
        description="Trains the classifier of the demonstration on sounds that are made from formulas, says how good "
        "it is, and writes its weights and bases. It takes some minutes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of the training and of the fit")
    parser.add_argument("--out", type=Path, default=PACKAGE, metavar="FOLDER", help="the folder to write")
    parser.set_defaults(command=demonstration_command)


def demonstration_command(options: argparse.Namespace) -> int:
    """Trains the classifier, fits and locates its bases, and writes all of it."""
    network = trained_network(options.seed, progress=True)
    for part in ("train", "test", "demo"):
        inputs, labels = spectrograms(part)
        with torch.no_grad():
            share = (network(inputs).argmax(1) == labels).double().mean().item()
        print(f"{part}: {share:.1%} of {len(labels)} clips are right")
    options.out.mkdir(parents=True, exist_ok=True)
    with replaced(options.out / WEIGHTS) as beside:
        save_file(network.state_dict(), beside)
    sounds = EveningSounds("train")
    explainer = Explainer.fit(pond_classifier(network), sounds, seed=options.seed, progress=True)
    for path in explainer.located(N_LOCATED, progress=True).save(options.out):
        print(path)
    return 0
