"""Types of arguments, and the arguments of commands that explain."""

from __future__ import annotations

import argparse

import torch

from captum_apex.attribution.decomposition import N_CHANNELS

__all__ = ["add_evidence_arguments", "device", "positive_integer", "probability"]


def positive_integer(text: str) -> int:
    """An integer of at least 1.

    Example:
        >>> from captum_apex.cli.types import positive_integer
        >>> positive_integer("12")
        12
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, but got {text!r}")
    return int(text)


def probability(text: str) -> float:
    """A number from 0 to 1.

    Example:
        >>> from captum_apex.cli.types import probability
        >>> probability("0.5")
        0.5
    """
    try:
        if 0 <= float(text) <= 1:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, but got {text!r}")


def device(text: str) -> str:
    """The name of a device that this machine has.

    Example:
        >>> from captum_apex.cli.types import device
        >>> device("cpu")
        'cpu'
    """
    try:
        torch.empty(0, device=torch.device(text))
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"expected a device that is here, but got {text!r}") from error
    return text


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
