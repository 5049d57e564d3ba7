"""Purity of the bases' prototypes."""

from __future__ import annotations

import pandas as pd
import torch

from benchmarks.runs.subject import Subject, fitted

# --- purity ---------------------------------------------------------------------------------------------------------------


def purity_table(subject: Subject) -> pd.DataFrame:
    """Mean purity of the prototypes, in [-1, 1]: of the raw channels and of both kinds of fitted ones, one line per scheme.

    `condition` is the condition number of the invertible `U`; it is 1 for an orthogonal one.
    """
    lines = []
    for scheme in subject.bases:
        orthogonal, invertible = fitted(subject, scheme), fitted(subject, scheme, orthogonal=False)
        lines.append(
            {
                "scheme": str(scheme),
                "raw": orthogonal.purity_history[0].item(),
                "orthogonal": orthogonal.purity_history[-1].item(),
                "invertible": invertible.purity_history[-1].item(),
                "condition": torch.linalg.cond(invertible.U.double()).item(),
            }
        )
    return pd.DataFrame(lines)
