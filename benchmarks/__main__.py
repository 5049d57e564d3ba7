"""The masking benchmark's command line: `python -m benchmarks COMMAND`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from captum_apex import interruption  # noqa: F401  # before all that takes seconds to import

# isort: split
from benchmarks.commands import (
    demonstration_command,
    fits_command,
    heads_command,
    leaderboard_command,
    measure_command,
    naming_command,
    prototypes_command,
    published_command,
    regions_command,
    run_command,
    shortcuts_command,
    show_command,
    truth_command,
)
from captum_apex.cli.exit_status import as_process, exit_status

PROGRAM = "python -m benchmarks"
EXAMPLES = """examples:
  python -m benchmarks run                                        the embedded scenes, every method
  python -m benchmarks run --task environment --network convnext --clips 80
  python -m benchmarks run --task digits --methods "APEX time" LayerGradCam random --grid time --fill silence --clips 20
  python -m benchmarks run --add my_method.py --methods "my method" LayerGradCam
  python -m benchmarks report results/scenes-cnn-1a2b3c4d         tables and figures of a run, also of an unfinished one
  python -m benchmarks overview results/*                         several runs side by side
  python -m benchmarks regions --tasks scenes digits --seeds 0 1  the regions of the evidence
  python -m benchmarks speed
  python -m benchmarks truth --model my_model:classifier --recordings field --annotations selections --basis bases

A run that is interrupted goes on where it stopped when the same command is given again. More methods, grids or fills
can be added to a finished one in the same way.
"""
INTERRUPTED = "interrupted: what is finished is kept, and the same command goes on from there"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: arguments of the command line; by default those of the process, which is then taken to have no other
            work.

    Returns:
        The exit status: 0 after success, 1 for a defect of the benchmark, 2 if the arguments, the recordings or a
        folder are wrong or the memory is not enough, 130 after an interruption, 141 where the reader of the output has
        gone.
    """
    if arguments is None:
        return as_process(lambda: main(sys.argv[1:]))

    def command() -> int:
        sources = run_command.add_methods(arguments)
        options = command_parser().parse_args(arguments)
        options.sources = sources
        options.typed = shlex.join(["python", "-m", "benchmarks", *arguments])
        return options.command(options)

    return exit_status(command, PROGRAM, INTERRUPTED)


def command_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        PROGRAM,
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
    fits_command.add_fits_parser(commands)
    heads_command.add_heads_parser(commands)
    leaderboard_command.add_leaderboard_parser(commands)
    prototypes_command.add_prototypes_parser(commands)
    naming_command.add_naming_parser(commands)
    regions_command.add_regions_parser(commands)
    shortcuts_command.add_shortcuts_parser(commands)
    published_command.add_published_parser(commands)
    truth_command.add_truth_parser(commands)
    demonstration_command.add_demonstration_parser(commands)
    show_command.add_pictures_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
