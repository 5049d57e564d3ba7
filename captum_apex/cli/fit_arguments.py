"""The arguments of `fit`."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_apex.cli.slice_arguments import add_slices
from captum_apex.cli.types import positive_integer, seed
from captum_apex.defaults import BASIS_SUFFIX, FIT_EPOCHS, FIT_PROTOTYPES, KEPT_PROTOTYPES, SCHEME_NAMES

SUMMARY = "fit bases on recordings"
DESCRIPTION = (
    "Runs the model once over recordings, of a folder or a CSV file, fits a basis per scheme, and prints the files "
    "that it wrote."
)
EXAMPLES = [
    "fit recordings --model my_model:classifier --layer features --out bases",
    "fit recordings --model my_model:classifier --layer features --scheme time --out time.safetensors",
    "fit recordings.csv --model my_model:classifier --layer features --locate 4 --out bases",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `fit`."""
    _add_files(parser)
    _add_layer_and_schemes(parser)
    _add_fit(parser)
    parser.add_argument(
        "--locate",
        type=positive_integer,
        metavar="N",
        help=f"also find the regions of the N best prototypes of each channel, at most {KEPT_PROTOTYPES}, which the "
        "bases then keep, so that explain need not find them again for each page",
    )
    parser.add_argument(
        "--batch-size", type=positive_integer, metavar="N", default=32, help="recordings per forward pass (%(default)s)"
    )
    _add_bank(parser)
    parser.add_argument(
        "--seed", type=seed, metavar="N", default=0, help="seed of the random number generator of the fit (%(default)s)"
    )


def _add_bank(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=positive_integer,
        metavar="N",
        default=0,
        help="processes that read recordings while the model runs; by default the model waits for each batch",
    )
    parser.add_argument(
        "--bank",
        type=Path,
        metavar="FOLDER",
        help="a folder that keeps what the layer gives for the recordings: after an interruption the same command goes "
        "on where it was, and a fit with other settings does not run the model again",
    )
    parser.add_argument(
        "--half",
        action="store_true",
        help="keep what the layer gives in half precision, which takes half of the room in memory or in --bank; a "
        "purity in an orthogonal basis changes by at most 0.001, unless another cell becomes the peak",
    )
    parser.add_argument(
        "--candidates",
        type=positive_integer,
        metavar="N",
        help="keep the cells of only the N recordings that activate each channel most, for sets that the disk has no "
        "room for: the model runs once for means over all recordings, and again over these; as many as prototypes at "
        f"the start of the fit, or more ({', '.join(f'{n} for {name}' for name, n in FIT_PROTOTYPES.items())})",
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="the recordings: a folder with a sub-folder per class, named like the class; a folder of recordings "
        "alone, without labels; or a CSV file with a column of files and a column of labels, of several with commas "
        "between them ('dog, rain'), or with a column of 0 and 1 for each class, named like the class",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help=f"a folder, which gets SCHEME{BASIS_SUFFIX} for every scheme; or one file that ends in {BASIS_SUFFIX}, "
        "for one scheme",
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out recordings that cannot be read, and list them, instead of stopping at the first; explain then "
        "needs it too",
    )
    add_slices(parser)


def _add_layer_and_schemes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="the layer to explain, by its name in the model, as model.named_modules() gives it, usually the last one "
        "before pooling; not needed if the factory gives a layer",
    )
    parser.add_argument(
        "--norm",
        metavar="NAME",
        help="the norm between the pooling and the classifier, by its name in the model, to explain the grid that it "
        "normalises; for heads of a mean, a norm and a linear layer, such as ConvNeXt's",
    )
    parser.add_argument(
        "--scheme",
        nargs="+",
        choices=SCHEME_NAMES,
        metavar="SCHEME",
        help=f"schemes among {', '.join(SCHEME_NAMES)}; by default all that the layer supports, without "
        "square for a layer of one row or one column",
    )


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        choices=FIT_EPOCHS,
        metavar="METHOD",
        default="gradient",
        help=f"how the fit maximises the purity: {' or '.join(FIT_EPOCHS)}, which takes less time (%(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=positive_integer,
        metavar="N",
        help="passes of the fit over all channels and their prototypes (by default "
        f"{', '.join(f'{epochs} for {method}' for method, epochs in FIT_EPOCHS.items())})",
    )
    parser.add_argument(
        "--invertible",
        action="store_true",
        help="fit an invertible basis, U = exp(A), instead of an orthogonal one: a higher purity, but less faithful "
        "maps",
    )
