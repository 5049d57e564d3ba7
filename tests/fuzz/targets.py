"""All targets, with the share of the cases that each gets."""

from __future__ import annotations

from tests.fuzz.arguments import arguments
from tests.fuzz.commands import commands
from tests.fuzz.folders import folders
from tests.fuzz.labels import labels
from tests.fuzz.models import models
from tests.fuzz.outcomes import Target
from tests.fuzz.sounds import sounds
from tests.fuzz.stored import banks, bases
from tests.fuzz.tables import tables

TARGETS: dict[str, tuple[Target, float]] = {
    "models": (models, 0.12),
    "labels": (labels, 0.15),
    "arguments": (arguments, 0.25),
    "sounds": (sounds, 0.2),
    "bases": (bases, 0.1),
    "banks": (banks, 0.06),
    "commands": (commands, 0.02),
    "tables": (tables, 0.06),
    "folders": (folders, 0.04),
}
"""Name → target and its share."""


def counts(n_cases: int) -> dict[str, int]:
    """How many cases each target gets of a number of cases."""
    return {name: max(1, round(n_cases * share)) for name, (_, share) in TARGETS.items()}
