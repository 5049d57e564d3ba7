"""Purity of the prototypes before and after a basis is fitted."""

from __future__ import annotations

import pandas as pd
import torch

from benchmarks.runs.subject import Subject, fitted


def purity_table(subject: Subject) -> pd.DataFrame:
    """Mean purity of the prototypes, in [-1, 1], with the raw channels and with both kinds of fitted bases.

    Args:
        subject: the classifier and its orthogonal bases; the invertible bases are fitted, or read from the cache.

    Returns:
        One line per `scheme`: mean purity with the raw channels (`raw`), with the orthogonal basis (`orthogonal`) and
        with the invertible basis (`invertible`); and `condition`, the condition number of the invertible `U` (that of
        an orthogonal `U` is 1).
    """
    lines = []
    for scheme in subject.bases:
        orthogonal = fitted(subject, scheme)
        invertible = fitted(subject, scheme, orthogonal=False)
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
