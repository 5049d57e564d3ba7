"""What a command ends in: an exit status, and one line on the error stream where it failed."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from safetensors import SafetensorError

from captum_apex.interruption import INTERRUPTED, interruptions

__all__ = ["BROKEN_PIPE", "DEFECT", "WRONG_INPUT", "as_process", "exit_status", "input_fault"]

DEFECT = 1
WRONG_INPUT = 2
BROKEN_PIPE = 141  # the status that shells report where the reader of a pipe has gone

_OURS = ("captum_apex", "benchmarks")
_LOADED = "benchmarks.methods.loaded_"  # modules of the user's own methods
_INPUT_ERRORS = (OSError, ImportError, UnicodeError, json.JSONDecodeError, SafetensorError, Warning)
"""Exceptions of files and packages, and warnings, which are raised under `python -W error`."""
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "Cannot allocate memory")  # torch's and the system's
_LIBRARIES = tuple(os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))


def exit_status(command: Callable[[], int], program: str, interrupted: str = "interrupted") -> int:
    """Runs a command. Where it fails, the error is one line and a status, without a traceback.

    The traceback of a defect is written to a file, which its line names.

    Args:
        command: the command, which returns its exit status.
        program: the program as the user started it, for the beginning of the line.
        interrupted: what is said after an interruption.

    Returns:
        The status of the command; 1 for a defect of this package, 2 for wrong arguments, files or models, 130 after an
        interruption, 141 where the reader of the output has gone.

    Example:
        >>> import sys
        >>> from unittest.mock import patch
        >>> from captum_apex.cli.exit_status import exit_status
        >>> with patch.object(sys, "stderr", sys.stdout):
        ...     exit_status(lambda: open("none.wav"), "captum-apex")
        captum-apex: [Errno 2] No such file or directory: 'none.wav'
        2
    """
    status = INTERRUPTED
    notes: list[str] = []
    try:
        status = command()
    except KeyboardInterrupt as interruption:
        notes = getattr(interruption, "__notes__", [])  # such as the files that are finished
    except BrokenPipeError:
        return BROKEN_PIPE
    except Exception as error:
        if not interruptions.seen:  # otherwise it may be what a library made of the interruption
            return _say_error(error, program)
    if status == INTERRUPTED or interruptions.seen:
        _say("\n".join([f"\n{interrupted}", *notes]))
        return INTERRUPTED
    return status


def _say_error(error: Exception, program: str) -> int:
    """Says in one line why a command failed; returns its exit status."""
    fault = input_fault(error)
    if fault is not None:
        notes = [f"{note}: " for note in getattr(error, "__notes__", ())]  # such as the clip, of the library
        _say(f"{program}: {''.join(notes)}{fault}")
        return WRONG_INPUT
    text = f"{program}: this is a defect of the program and not of your input: {_type_and_message(error)}"
    text += f" {_place(traceback.extract_tb(error.__traceback__)[-1])}; please report it where you got the program from"
    path = _stored_traceback(error)
    _say(text + (f", with the file {path}, which holds the traceback" if path else ""))
    return DEFECT


def input_fault(error: Exception) -> str | None:
    """What is wrong with the arguments, files or model of the user; None where an exception is a defect of ours.

    Args:
        error: an exception with its traceback.

    Example:
        >>> import torch
        >>> from captum_apex.cli.exit_status import input_fault
        >>> try:
        ...     torch.nn.Linear(3, 2)(torch.zeros(1, 4))
        ... except RuntimeError as error:
        ...     print(input_fault(error).partition(":")[0])
        the model raised RuntimeError
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    below = frames[1 + max((index for index, frame in enumerate(frames) if _is_ours(frame)), default=-1) :]
    if _is_out_of_memory(error):
        return f"the memory is not enough: {_one_line(str(error)) or type(error).__name__}"
    expected = isinstance(error, ValueError) or (isinstance(error, TypeError) and str(error).startswith("expected"))
    if isinstance(error, _INPUT_ERRORS) or (expected and not below):
        return _one_line(str(error)) or type(error).__name__
    if any(map(_runs_the_model, below)):
        lines = traceback.extract_tb(error.__traceback__)[-len(below) :]
        users = [line for line, frame in zip(lines, below, strict=True) if _is_the_users(frame)]
        return f"the model raised {_type_and_message(error)} {_place((users or lines)[-1])}"
    return None


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] in _OURS and not name.startswith(_LOADED)


def _runs_the_model(frame: FrameType) -> bool:
    """Whether a frame is the call of a module or the way back through it, or code of the user."""
    name = frame.f_globals.get("__name__", "")
    return name == "torch.nn.modules.module" or name.startswith("torch.autograd") or _is_the_users(frame)


def _is_the_users(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return not path.startswith("<") and not os.path.realpath(path).startswith(_LIBRARIES) and not _is_ours(frame)


def _is_out_of_memory(error: Exception) -> bool:
    of_torch = getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)  # torch may not be imported yet
    return isinstance(error, (MemoryError, of_torch)) or any(words in str(error) for words in _OUT_OF_MEMORY)


def _type_and_message(error: Exception) -> str:
    return f"{type(error).__name__}: {_one_line(str(error))}".removesuffix(": ")


def _one_line(text: str) -> str:
    return re.sub(r"\s*[\r\n]+\s*", " ", text.strip())


def _place(line: traceback.FrameSummary) -> str:
    return f"({line.filename}, line {line.lineno})"


def _stored_traceback(error: Exception) -> str:
    """Path of a new file with the traceback; empty where none can be written."""
    try:
        descriptor, path = tempfile.mkstemp(".txt", "captum-apex-")
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return ""
    return path


def _say(line: str) -> None:
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    with suppress(OSError):  # nobody reads
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr, flush=True)


def as_process(main: Callable[[], int]) -> int:
    """Runs a program as the only work of the process: its streams are made safe, and their last words are written.

    Args:
        main: runs the program and returns its exit status.

    Returns:
        The exit status of the program, or that of an interruption or of output that cannot be written.

    Example:
        >>> from captum_apex.cli.exit_status import as_process
        >>> as_process(lambda: 0)
        0
    """
    try:
        interruptions.working = True
        _check_streams()
        status = main()
    except SystemExit as error:  # of the parser: 0 after --help, 2 for wrong arguments
        interruptions.working = False
        status = error.code if isinstance(error.code, int) else WRONG_INPUT
    except KeyboardInterrupt:  # a second one, while the first was handled
        interruptions.working = False
        status = INTERRUPTED
    interruptions.working = False
    return _written(status)


def _check_streams() -> None:
    """Opens the standard streams that are closed, and lets the output take every name.

    Without the former, a file that is opened later gets the number of a closed stream, and what is said its bytes.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        # The bytes of a file name that is no Unicode are printed as they are.
        is_unicode = sys.stdout.encoding.lower() in ("utf-8", "utf8")
        sys.stdout.reconfigure(errors="surrogateescape" if is_unicode else "backslashreplace")


def _written(status: int) -> int:
    """The status of a program after its output is written; that of the failure where it cannot be."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = BROKEN_PIPE
    except OSError as error:
        _say(f"the output cannot be written: {error}")
        status = WRONG_INPUT
    else:
        return status
    # Python writes what is left at its end, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
