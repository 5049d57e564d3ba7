"""The command line: fit bases on a folder of audio, explain clips by them in one page, list the events of long recordings."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from captum_apex.cli.events_command import events_command
from captum_apex.cli.explain_command import explain_command
from captum_apex.cli.fit_command import fit_command
from captum_apex.cli.parser import parser

INTERRUPTED = 130  # as shells report it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 where it worked, 2 where the arguments, the files or the model are not right, 130 where interrupted."""
    try:
        options = parser().parse_args(arguments)
        with _plain_warnings():
            return {"fit": fit_command, "explain": explain_command, "events": events_command}[options.command](options)
    except (OSError, ValueError, ImportError) as error:
        print(f"python -m captum_apex: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Inside, the library's own warnings are one line, like its errors, without a place in its code; those of others are as ever."""
    usual, package = warnings.formatwarning, os.path.dirname(__file__)

    def plain(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if filename.startswith(package + os.sep):
            return f"python -m captum_apex: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = usual


if __name__ == "__main__":
    sys.exit(main())
