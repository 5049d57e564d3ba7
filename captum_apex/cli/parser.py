"""What the command line takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_apex.bases.schemes import SCHEMES
from captum_apex.cli.types import device, positive_integer, probability

__all__ = ["SUFFIX", "parser"]

SUFFIX = ".safetensors"
"""Of a basis."""

EXAMPLES = {
    "fit": """examples:
  python -m captum_apex fit recordings --model my_model:classifier --layer features --out bases
  python -m captum_apex fit recordings --model my_model:classifier --layer features --scheme time --out time.safetensors
""",
    "explain": """examples:
  python -m captum_apex explain new.wav --model my_model:classifier --basis bases --data recordings --out page.html
  python -m captum_apex explain a.wav b.wav --model my_model:classifier --basis time.safetensors --target siren dog --out page.html
""",
    "events": """examples:
  python -m captum_apex events night.wav --model my_model:classifier --basis time.safetensors --raven night.Table.1.selections.txt
  python -m captum_apex events night.wav --model my_model:classifier --basis time.safetensors --window 3 --hop 1 --audacity night.txt
""",
}
FACTORY = """--model names a function without arguments, in a module that can be imported from here, which returns a
captum_apex.Classifier: the model, its transform, its class names. The README has a complete example. For a Hugging Face
model it is captum_apex.from_transformers("folder or name"), which needs no --layer.
"""


def parser() -> argparse.ArgumentParser:
    """Of all commands; what it parses has the name of the one chosen as `command`."""
    whole = argparse.ArgumentParser(
        "python -m captum_apex",
        description="Explains an audio classifier by prototypes: fits bases on a folder of audio, explains clips, lists events.",
        epilog="\n".join([*EXAMPLES.values(), FACTORY]).replace("\n\nexamples:", "\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(required=True, metavar="command")
    fitting = commands.add_parser(
        "fit",
        help="fit bases on a folder of audio",
        description="Runs the model once over a folder of audio, fits a basis per scheme, and prints the files that it wrote.",
        epilog=f"{EXAMPLES['fit']}\n{FACTORY}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fitting.add_argument(
        "data", type=Path, metavar="FOLDER", help="a sub-folder per class, named like it; or files without labels"
    )
    fitting.add_argument(
        "--layer",
        metavar="NAME",
        help="the layer to explain: the last one before pooling, as a rule; the factory may name it",
    )
    fitting.add_argument(
        "--scheme",
        nargs="+",
        choices=[str(scheme) for scheme in SCHEMES],
        metavar="SCHEME",
        help=f"perspectives among {', '.join(SCHEMES)}; all that the layer supports if left out",
    )
    fitting.add_argument(
        "--out", type=Path, required=True, help=f"a folder, for SCHEME{SUFFIX}; or one file, for one scheme"
    )
    fitting.add_argument(
        "--epochs", type=positive_integer, metavar="N", default=20, help="passes of the fit (%(default)s)"
    )
    fitting.add_argument("--invertible", action="store_true", help="U = exp(A), not an orthogonal one")
    fitting.add_argument(
        "--batch-size", type=positive_integer, metavar="N", default=32, help="recordings per forward pass (%(default)s)"
    )
    fitting.add_argument("--seed", type=int, metavar="N", default=0, help="of the fit (%(default)s)")
    fitting.set_defaults(command="fit")
    explaining = commands.add_parser(
        "explain",
        help="explain clips in one HTML page",
        description="Explains clips by fitted bases, with the recordings that show each channel, in one HTML page that needs nothing else.",
        epilog=f"{EXAMPLES['explain']}\n{FACTORY}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explaining.add_argument("clips", type=Path, nargs="+", metavar="CLIP", help="audio files")
    explaining.add_argument(
        "--basis", type=Path, nargs="+", required=True, metavar="BASIS", help="files that `fit` wrote, or their folder"
    )
    explaining.add_argument("--layer", metavar="NAME", help="checked against the bases, which know their layer")
    explaining.add_argument(
        "--data", type=Path, metavar="FOLDER", help="what the bases were fitted on, to show prototypes"
    )
    explaining.add_argument("--out", type=Path, required=True, metavar="PAGE.html", help="the page to write")
    which = explaining.add_mutually_exclusive_group()
    which.add_argument(
        "--target",
        nargs="+",
        metavar="CLASS",
        help="classes to explain, by name or number; each clip's own if left out",
    )
    which.add_argument(
        "--threshold",
        type=probability,
        metavar="P",
        help="explain all classes whose sigmoid reaches P (several labels)",
    )
    explaining.add_argument(
        "--channels",
        type=positive_integer,
        metavar="N",
        default=3,
        help="channels of evidence per scheme (%(default)s)",
    )
    explaining.add_argument(
        "--prototypes",
        type=positive_integer,
        metavar="N",
        help="prototypes per channel (4, or as many as the bases have)",
    )
    explaining.add_argument(
        "--sides", choices=["positive", "both"], default="positive", help="both: also channels below zero"
    )
    explaining.add_argument(
        "--limit", type=float, metavar="MB", default=64, help="the largest page to write (%(default)s)"
    )
    explaining.add_argument("--title", default="Why the model heard that", help="of the page (%(default)s)")
    explaining.set_defaults(command="explain")
    listing = commands.add_parser(
        "events",
        help="list what is heard in a long recording, for Raven and Audacity",
        description="Slides over a recording of any length, and writes what is heard, when and in which band, by which prototype channel.",
        epilog=f"{EXAMPLES['events']}\n{FACTORY}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listing.add_argument("recording", type=Path, metavar="RECORDING", help="an audio file")
    listing.add_argument("--basis", type=Path, required=True, metavar="BASIS", help="a file that `fit` wrote")
    listing.add_argument("--raven", type=Path, metavar="FILE.txt", help="the selection table to write")
    listing.add_argument("--audacity", type=Path, metavar="FILE.txt", help="the label track to write")
    listing.add_argument(
        "--window",
        type=float,
        metavar="S",
        help="what the model hears at once; the length of the factory's clips if left out",
    )
    listing.add_argument(
        "--hop", type=float, metavar="S", help="from one window to the next; half a window if left out"
    )
    listing.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        default=0.5,
        help="the probability of a class that is heard (%(default)s)",
    )
    listing.add_argument(
        "--exclusive", action="store_true", help="one class at a time: probabilities by the softmax, not by the sigmoid"
    )
    listing.add_argument(
        "--channels", type=positive_integer, metavar="N", default=3, help="channels of evidence per class (%(default)s)"
    )
    listing.add_argument(
        "--sides", choices=["positive", "both"], default="positive", help="both: also channels below zero"
    )
    listing.add_argument(
        "--level", type=float, metavar="SHARE", default=0.5, help="of the peak, where an event ends (%(default)s)"
    )
    listing.set_defaults(command="events")
    for command in (fitting, explaining, listing):
        command.add_argument(
            "--model", required=True, metavar="MODULE:FACTORY", help="what returns a captum_apex.Classifier, see below"
        )
        command.add_argument(
            "--no-convert",
            dest="convert",
            action="store_false",
            help="refuse files of another rate or with several channels",
        )
        command.add_argument(
            "--device", type=device, default="cpu", help="where the model runs, such as cuda (%(default)s)"
        )
    return whole
