"""Types of the command line's arguments."""

from __future__ import annotations

import argparse

import torch

__all__ = ["device", "positive_integer", "probability"]


def positive_integer(text: str) -> int:
    """An integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, but got {text!r}")
    return int(text)


def probability(text: str) -> float:
    """A number from 0 to 1."""
    try:
        if 0 <= float(text) <= 1:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, but got {text!r}")


def device(text: str) -> str:
    """A device that is here, by its name."""
    try:
        torch.empty(0, device=torch.device(text))
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"expected a device that is here, but got {text!r}") from error
    return text
