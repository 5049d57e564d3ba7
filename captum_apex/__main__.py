"""The command line: fits bases on a folder of audio, explains clips in a page, lists the events of recordings."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from captum_apex.cli.parser import parser, program_name

INTERRUPTED = 130  # the status that shells report for an interruption


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the command and its arguments; by default those that the program was started with.

    Returns:
        The exit status: 0 for success, 2 for wrong arguments, files or models, 130 for an interruption.
    """
    try:
        options = parser().parse_args(arguments)
        with _plain_warnings():
            return options.run(options)
    except (OSError, ValueError, ImportError) as error:
        print(f"{program_name()}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Inside, a warning of this package is one line without a place in its code, as its errors are."""
    usual = warnings.formatwarning
    package = os.path.dirname(__file__)

    def plain(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if filename.startswith(package + os.sep):
            return f"{program_name()}: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = usual


if __name__ == "__main__":
    sys.exit(main())
