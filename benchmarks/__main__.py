"""The benchmark's command line: `python -m benchmarks run`, `report`, `overview`, `list`, `speed`, `events`, `pictures`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from joblib.externals.loky.process_executor import TerminatedWorkerError

from benchmarks.classifiers.networks import LayerError
from benchmarks.commands.options import command_parser
from benchmarks.commands.run_command import add_methods
from benchmarks.runs.results import FolderError

INTERRUPTED = 130  # as shells report it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 where it worked, 2 where the arguments, the recordings or the folder are not right, 130 where interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        sources = add_methods(arguments)
        options = command_parser().parse_args(arguments)
        options.sources, options.typed = sources, shlex.join(["python", "-m", "benchmarks", *arguments])
        return options.command(options)
    except (FileNotFoundError, FolderError, LayerError) as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    except TerminatedWorkerError as error:
        print(
            f"python -m benchmarks: the system ended a worker, for want of memory as a rule; try fewer --jobs ({error})",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
