"""What a process of `python -m tests.fuzz` does."""

from __future__ import annotations

import faulthandler
import os
import resource
from collections import Counter

import torch

from tests.fuzz.outcomes import FailedCaseError, outcome
from tests.fuzz.targets import TARGETS

ADDRESSES = 12 * 2**30  # bytes of memory that a process may ask for, so that no case can take the machine's


def prepare() -> None:
    """Limits the process, and lets it say where it was if it is killed."""
    faulthandler.enable(os.fdopen(os.dup(2), "w"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the decoder of MP3 writes there about every damaged file
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))


def run(name: str, numbers: range) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Runs the cases of a target; how often each outcome came, and the texts of the failures."""
    outcomes: Counter[tuple[str, str]] = Counter()
    failures = []
    for number in numbers:
        try:
            outcomes[name, outcome(name, TARGETS[name][0], number)] += 1
        except FailedCaseError as error:
            outcomes[name, "failure"] += 1
            failures.append(str(error))
    return outcomes, failures
