"""The argument parser of the whole command line: its commands, and what they share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType

from captum_apex.cli import (
    demo_arguments,
    describe_arguments,
    events_arguments,
    examine_arguments,
    explain_arguments,
    fit_arguments,
    layers_arguments,
)
from captum_apex.cli.command_results import add_json_argument
from captum_apex.cli.types import device
from captum_apex.version import __version__

__all__ = ["parser", "program_name"]

COMMANDS = {
    "demo": demo_arguments,
    "examine": examine_arguments,
    "layers": layers_arguments,
    "fit": fit_arguments,
    "explain": explain_arguments,
    "events": events_arguments,
    "describe": describe_arguments,
}
COLUMNS = {
    "explain": 'tutorials/guides/first_explanations.md, "The columns of evidence.csv"',
    "events": 'tutorials/guides/long_recordings.md, "The columns of the files of events"',
}
"""Where the columns of the tables that a command writes are explained."""

CONSOLE_SCRIPT = "captum-apex"
DESCRIPTION = (
    "Explains an audio classifier by prototypes: examines models, lists layers, fits bases on recordings, explains "
    "clips, lists events, describes files."
)
FACTORY = """--model names a factory: a function without arguments, in a module that can be imported from here, which
returns a captum_apex.Classifier: the model, its transform, its class names. This is a complete my_model.py:

  import torch
  from captum_apex import Classifier, SpectrogramAxes
  from my_network import Network  # your model; it gives a score (logit) for each class
  from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

  def classifier():
      class_names = ["siren", "dog", "rain"]  # in the order of the model's scores
      model = Network(len(class_names))
      model.load_state_dict(torch.load("checkpoint.pt", weights_only=True))
      mel = MelSpectrogram(16_000, n_fft=512, hop_length=160, n_mels=64)
      decibels = AmplitudeToDB(top_db=80)
      return Classifier(
          model,
          transform=lambda waveform: decibels(mel(waveform))[None],  # (sample,) -> (1, mel, frame), the model's input
          decibels=lambda inputs: inputs[0],  # back to a spectrogram in dB, to draw it
          axes=SpectrogramAxes.from_transform(mel),  # None for a model that takes waveforms
          sample_rate=16_000,  # Hz
          length=16_000,  # samples of a clip; None takes files as long as they are
          class_names=class_names,
          exclusive=True,  # one class per clip (softmax); False for any number of them (sigmoid)
      )

For a Hugging Face model the function is one line, `return captum_apex.from_transformers("folder or name")`, and
--layer is not needed.
"""


def program_name() -> str:
    """The program as the user started it, for usage and error lines.

    Example:
        >>> import sys
        >>> from unittest.mock import patch
        >>> from captum_apex.cli.parser import program_name
        >>> with patch.object(sys, "argv", ["/usr/bin/captum-apex"]):
        ...     program_name()
        'captum-apex'
        >>> with patch.object(sys, "argv", ["captum_apex/__main__.py"]):
        ...     program_name()
        'python -m captum_apex'
    """
    return CONSOLE_SCRIPT if Path(sys.argv[0]).stem == CONSOLE_SCRIPT else "python -m captum_apex"


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; the options that it gives hold the name of the chosen command as `command`.

    Example:
        >>> from captum_apex.cli.parser import parser
        >>> arguments = ["fit", "recordings", "--model", "my_model:classifier", "--out", "bases"]
        >>> parser().parse_args(arguments).batch_size
        32
    """
    examples = [example for command in COMMANDS.values() for example in command.EXAMPLES]
    whole = argparse.ArgumentParser(
        program_name(),
        description=DESCRIPTION,
        epilog=_epilog(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"captum-apex {__version__}")
    commands = whole.add_subparsers(required=True, metavar="command")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=_epilog(command.EXAMPLES, COLUMNS.get(name, ""), with_factory=_needs_model(command)),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if _needs_model(command):
            _add_model_argument(subparser)
        command.add_arguments(subparser)
        if _needs_model(command):
            _add_shared_arguments(subparser)
        subparser.set_defaults(command=name)
    return whole


def _needs_model(command: ModuleType) -> bool:
    return getattr(command, "NEEDS_MODEL", True)


def _add_model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        required=True,
        metavar="MODULE:FACTORY",
        help="the factory: the module's name, a colon, the function's name; an example is at the end of this text",
    )


def _add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-convert",
        dest="convert",
        action="store_false",
        help="refuse files of another rate or with several channels, instead of converting them with a warning",
    )
    add_json_argument(parser)
    parser.add_argument(
        "--device", type=device, metavar="NAME", default="cpu", help="where the model runs, such as cuda (%(default)s)"
    )


def _epilog(examples: list[str], columns: str = "", *, with_factory: bool = True) -> str:
    lines = "".join(f"  {program_name()} {example}\n" for example in examples)
    explained = f"\nThe columns of the tables are explained in the guide {columns}.\n" if columns else ""
    return f"examples:\n{lines}{explained}" + (f"\n{FACTORY}" if with_factory else "")
