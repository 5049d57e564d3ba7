"""The masking benchmark's command line: `python -m benchmarks COMMAND`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from joblib.externals.loky.process_executor import TerminatedWorkerError

from benchmarks.classifiers.networks import LayerError
from benchmarks.commands import measure_command, regions_command, run_command, show_command
from benchmarks.runs.results import FolderError

EXAMPLES = """examples:
  python -m benchmarks run                                        the embedded scenes, every method
  python -m benchmarks run --task environment --network convnext --clips 80
  python -m benchmarks run --task digits --methods "APEX time" LayerGradCam random --grid time --fill silence --clips 20
  python -m benchmarks run --add my_method.py --methods "my method" LayerGradCam
  python -m benchmarks report results/scenes-cnn-1a2b3c4d         tables and figures of a run, also of an unfinished one
  python -m benchmarks overview results/*                         several runs side by side
  python -m benchmarks regions --tasks scenes digits --seeds 0 1  the regions of the evidence
  python -m benchmarks speed

A run that is interrupted goes on where it stopped when the same command is given again. More methods, grids or fills
can be added to a finished one in the same way.
"""
INTERRUPTED = 130  # exit status after an interruption, as in shells


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: arguments of the command line; those of the process if left out.

    Returns:
        The exit status: 0 after success, 1 if the system ended a worker, 2 if the arguments, the recordings or a folder
        are wrong, 130 after an interruption.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        sources = run_command.add_methods(arguments)
        options = command_parser().parse_args(arguments)
        options.sources = sources
        options.typed = shlex.join(["python", "-m", "benchmarks", *arguments])
        return options.command(options)
    except (FileNotFoundError, FolderError, LayerError) as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    except TerminatedWorkerError as error:
        print(
            "python -m benchmarks: the system ended a worker, most likely for lack of memory; try fewer --jobs "
            f"({error})",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return INTERRUPTED


def command_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    run_command.add_run_parser(commands)
    show_command.add_report_parser(commands)
    show_command.add_overview_parser(commands)
    show_command.add_list_parser(commands)
    measure_command.add_speed_parser(commands)
    measure_command.add_events_parser(commands)
    measure_command.add_norm_parser(commands)
    regions_command.add_regions_parser(commands)
    show_command.add_pictures_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
