"""The command line: fits bases on recordings, explains clips in a page, lists the events of recordings."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from captum_apex.caller import ApexWarning
from captum_apex.cli.exit_status import as_process, exit_status
from captum_apex.cli.parser import parser, program_name
from captum_apex.interruption import interruptions


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the command and its arguments; by default those that the program was started with, and then the
            process is taken to have no other work.

    Returns:
        The exit status: 0 for success, 1 for a defect of this package, 2 for wrong arguments, files or models, 130 for
        an interruption, 141 where the reader of the output has gone.
    """
    if arguments is None:
        return as_process(lambda: main(sys.argv[1:]))

    def command() -> int:
        with interruptions.ended_at_once():
            options = parser().parse_args(arguments)
            if sys.stderr.isatty() and hasattr(options, "model"):
                print("loading torch", file=sys.stderr)
            module = import_module(f"captum_apex.cli.{options.command}_command")
        with _plain_warnings():
            return module.run(options)

    return exit_status(command, program_name())


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Inside, a warning of this package is one line without a place in its code, as its errors are, and shown once.

    Python shows a warning again after any library has changed the filters of warnings for a while.
    """
    usual = warnings.formatwarning
    shown: set[str] = set()

    def plain(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if issubclass(category, ApexWarning):
            text = f"{program_name()}: {message}\n"
            is_new = text not in shown
            shown.add(text)
            return text if is_new else ""
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = usual


if __name__ == "__main__":
    sys.exit(main())
