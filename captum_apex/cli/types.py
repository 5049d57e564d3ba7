"""Types of arguments, and the arguments of commands that explain."""

from __future__ import annotations

import argparse
import math
import sys

from captum_apex.defaults import N_CHANNELS

__all__ = [
    "add_evidence_arguments",
    "add_part_argument",
    "device",
    "part",
    "pause",
    "positive_integer",
    "positive_number",
    "probability",
    "seconds",
    "seed",
    "share",
]

_LARGEST_INTEGER = 2**31 - 1
_LARGEST_SEED = 2**32 - 1  # of NumPy and scikit-learn
_ABOVE_0 = math.ulp(0.0)  # the smallest number above 0
_LONGEST = 3600.0  # seconds; a window is held in memory as a whole


def positive_integer(text: str) -> int:
    """An integer from 1 to 2147483647.

    Example:
        >>> from captum_apex.cli.types import positive_integer
        >>> positive_integer("12")
        12
    """
    number = _integer(text)
    if number is None or number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, but got {text!r}")
    if number > _LARGEST_INTEGER:
        raise argparse.ArgumentTypeError(f"expected a number of at most {_LARGEST_INTEGER}, but got {text!r}")
    return number


def seed(text: str) -> int:
    """The seed of a random number generator, an integer from 0 to 4294967295.

    Example:
        >>> from captum_apex.cli.types import seed
        >>> seed("0")
        0
    """
    number = _integer(text)
    if number is None or number > _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {_LARGEST_SEED}, but got {text!r}")
    return number


def part(text: str) -> tuple[int, int]:
    """The index of a part and the number of parts.

    Example:
        >>> from captum_apex.cli.types import part
        >>> part("3/4")
        (3, 4)
    """
    index, _, n_parts = text.partition("/")
    numbers = (_integer(index), _integer(n_parts))
    if numbers[0] is None or numbers[1] is None or numbers[0] >= numbers[1]:
        raise argparse.ArgumentTypeError(
            f"expected I/N with a part I from 0 to N − 1, such as 0/4, the first of four, but got {text!r}"
        )
    return numbers[0], numbers[1]


def _integer(text: str) -> int | None:
    """The number that up to 18 digits mean; None for any other text."""
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def positive_number(text: str) -> float:
    """A finite number above 0.

    Example:
        >>> from captum_apex.cli.types import positive_number
        >>> positive_number("0.5")
        0.5
    """
    return _number(text, "a number above 0", _ABOVE_0, sys.float_info.max)


def seconds(text: str) -> float:
    """A number of seconds above 0, at most an hour.

    Example:
        >>> from captum_apex.cli.types import seconds
        >>> seconds("2.5")
        2.5
    """
    return _number(text, f"seconds above 0, at most {_LONGEST:g}", _ABOVE_0, _LONGEST)


def pause(text: str) -> float:
    """A number of seconds from 0 to an hour.

    Example:
        >>> from captum_apex.cli.types import pause
        >>> pause("0.5")
        0.5
    """
    return _number(text, f"seconds from 0 to {_LONGEST:g}", 0, _LONGEST)


def share(text: str) -> float:
    """A number above 0, at most 1.

    Example:
        >>> from captum_apex.cli.types import share
        >>> share("1")
        1.0
    """
    return _number(text, "a number above 0, at most 1", _ABOVE_0, 1)


def probability(text: str) -> float:
    """A number from 0 to 1.

    Example:
        >>> from captum_apex.cli.types import probability
        >>> probability("0.5")
        0.5
    """
    return _number(text, "a number from 0 to 1", 0, 1)


def _number(text: str, expected: str, low: float, high: float) -> float:
    """The number that a text means, after a check that it is from `low` to `high`; other texts are refused."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan  # in no range
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"expected {expected}, but got {text!r}")
    return number


def device(text: str) -> str:
    """The name of a device that this machine has, and that can compute: `meta` cannot.

    Example:
        >>> from captum_apex.cli.types import device
        >>> device("cpu")
        'cpu'
    """
    if text == "cpu":  # without torch, whose import takes seconds
        return text
    import torch

    try:
        torch.ones(1, device=torch.device(text)).item()
    except Exception as error:  # each backend has its own
        raise argparse.ArgumentTypeError(f"expected a device that is here, but got {text!r}") from error
    return text


def add_part_argument(parser: argparse.ArgumentParser) -> None:
    """Declares which part of the files a process takes.

    Example:
        >>> import argparse
        >>> from captum_apex.cli.types import add_part_argument
        >>> parser = argparse.ArgumentParser()
        >>> add_part_argument(parser)
        >>> parser.parse_args(["--part", "3/4"]).part
        (3, 4)
    """
    parser.add_argument(
        "--part",
        type=part,
        metavar="I/N",
        help="take every N-th file from the I-th on, counted from 0, for N processes or machines that write one table; "
        "the last one that ends writes it",
    )


def add_evidence_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares how many channels are evidence, and on which sides.

    Example:
        >>> import argparse
        >>> from captum_apex.cli.types import add_evidence_arguments
        >>> parser = argparse.ArgumentParser()
        >>> add_evidence_arguments(parser)
        >>> parser.parse_args([]).channels
        5
    """
    parser.add_argument(
        "--channels",
        type=positive_integer,
        metavar="N",
        default=N_CHANNELS,
        help="channels of evidence per scheme and class (%(default)s)",
    )
    parser.add_argument(
        "--sides",
        choices=["positive", "both"],
        default="positive",
        help="both also takes channels that support the class by a negative activation (%(default)s)",
    )
