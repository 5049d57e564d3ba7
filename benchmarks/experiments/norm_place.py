"""The place of the norm: bases of the grid of the layer, and of the grid that the norm behind the pooling normalises.

ConvNeXt has a LayerNorm between the pooling and the last linear layer. EPIC's code applies it to the grid before `U`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import pandas as pd

from benchmarks.experiments.channels import NamedBasis, channel_removal_table, raw_channels
from benchmarks.runs.subject import Subject, prepare

PLACES = ("layer", "norm")
"""The grid of the layer, and the grid that the norm behind the pooling normalises."""
N_CHANNELS = 5  # channels that are removed, or kept alone


def norm_place_table(tasks: Iterable[str], seeds: Sequence[int] = (0,), progress: bool = False) -> pd.DataFrame:
    """Compares both places with the ConvNeXt of each task.

    Args:
        tasks: names of tasks.
        seeds: seeds of clips, training and fitting.
        progress: whether to show progress bars.

    Returns:
        The lines of `place_lines`, with the columns `task`, `place` ("layer", "norm") and `seed`.
    """
    tables = []
    for task, place, seed in itertools.product(tasks, PLACES, seeds):
        subject = prepare(task, "convnext", seed=seed, at_norm=place == "norm", progress=progress)
        lines = place_lines(subject)
        lines.insert(0, "task", task)
        lines.insert(2, "place", place)
        lines.insert(3, "seed", seed)
        tables.append(lines)
    return pd.concat(tables, ignore_index=True)


def place_lines(subject: Subject) -> pd.DataFrame:
    """Purity of the bases of a subject, and how far predictions rest on the strongest channels.

    Args:
        subject: the classifier and its bases.

    Returns:
        One line per `scheme`:

        - `purity_raw`, `purity`: mean purity of the prototypes with the raw channels, and after the fit.
        - `removed`: by how much the probability of the predicted class falls without the `N_CHANNELS` strongest
          channels; `removed_raw` with the raw channels.
        - `alone`: by how much it falls with only these channels, and `alone_raw`. These two cannot be compared between
          the places: on the grid of the layer, the norm still follows and scales the few channels up.
        - `contribution`: share of the positive contributions that these channels have.
    """
    bases = [raw_channels(subject.bank)]
    bases += [NamedBasis(str(scheme), basis) for scheme, basis in subject.bases.items()]
    table = channel_removal_table(subject, (N_CHANNELS,), bases).set_index(["basis", "kind"])
    lines = []
    for scheme, basis in subject.bases.items():
        lines.append(
            {
                "scheme": str(scheme),
                "purity_raw": basis.purity_history[0].item(),
                "purity": basis.purity_history[-1].item(),
                "removed_raw": table.loc[("raw", "removed"), "drop"],
                "removed": table.loc[(str(scheme), "removed"), "drop"],
                "alone_raw": table.loc[("raw", "kept"), "drop"],
                "alone": table.loc[(str(scheme), "kept"), "drop"],
                "contribution": table.loc[(str(scheme), "kept"), "contribution"],
            }
        )
    return pd.DataFrame(lines)
