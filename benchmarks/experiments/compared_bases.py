"""The bases whose prototypes are compared: APEX's, and changes of basis that were not made for prototypes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import ortho_group
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from benchmarks.experiments.channels import (
    ICA_VARIANCE,
    independent_directions,
    positions_of,
    principal_directions,
    upright,
)
from benchmarks.runs.subject import Subject, fitted
from captum_apex import Scheme, fit_basis

DETERMINISTIC = ("raw", "APEX closed form")
"""Bases that do not depend on a seed."""
BY_SCHEME = ("APEX orthogonal", "APEX closed form", "APEX invertible")
"""Bases that are fitted for a scheme; the others are the same for all."""
BASES: Mapping[str, str] = {
    "raw": "the channels as they are",
    "rotation": "a random orthogonal matrix",
    "PCA": "principal components of the features",
    "ICA": "independent components of the features, by FastICA",
    "dictionary": "a sparse dictionary of the features, whose codes are the channels",
    "APEX orthogonal": "fitted by gradient, U = exp(A − Aᵀ)",
    "APEX closed form": "fitted in closed form, orthogonal",
    "APEX invertible": "fitted by gradient, U = exp(A)",
}
DICTIONARY = {"alpha": 1.0, "batch_size": 256, "max_iter": 20}


def matrix_of(subject: Subject, scheme: Scheme, name: str, seed: int) -> Tensor:
    """The matrix of a basis, float64 (channel, channel).

    Args:
        subject: the classifier and its bank; fits by gradient come from the cache.
        scheme: the scheme that the bases of APEX are fitted for; the others do not depend on it.
        name: a name in `BASES`.
        seed: seed of the basis.
    """
    bank = subject.bank
    if name == "APEX closed form":
        return fit_basis(bank, scheme, method="closed-form").U.double()
    if name in BY_SCHEME:
        orthogonal = name == "APEX orthogonal"
        if seed != subject.seed:  # not one of the bases that the subject has, so from the cache or fitted
            subject = replace(subject, seed=seed, orthogonal=not orthogonal)
        return fitted(subject, scheme, orthogonal=orthogonal).U.double()
    if name == "raw":
        return torch.eye(bank.n_channels, dtype=torch.float64)
    return upright(_directions(subject, name, seed), bank.means.cpu())


def _directions(subject: Subject, name: str, seed: int) -> Tensor:
    """Directions whose sign has no meaning, as rows of a matrix."""
    if name == "rotation":
        return torch.from_numpy(ortho_group.rvs(subject.bank.n_channels, random_state=seed))
    positions = positions_of(subject.bank, seed)
    if name == "PCA":
        return principal_directions(positions)
    return independent_directions(positions, seed)[0] if name == "ICA" else dictionary_directions(positions, seed)


def dictionary_directions(positions: np.ndarray, seed: int) -> Tensor:
    """The directions that give the codes of a sparse dictionary, as far as it describes the features without an error.

    With the atoms as rows of `D`, `z = Dᵀ a`, so `a = D⁻ᵀ z`. Sparse codes leave an error, which `D⁻ᵀ` makes larger the
    more alike the atoms are: where its condition number is in the thousands, the directions give other codes.

    As for ICA, the dictionary is one of the first principal directions, which hold 99% of the variance; the others stay
    principal directions, so that the matrix is invertible.

    Args:
        positions: features (position, channel), at least as many positions as channels.
        seed: seed of the order of the positions and of the first atoms.

    Returns:
        float64 tensor (channel, channel).
    """
    pca = PCA().fit(positions)
    n_directions = int((pca.explained_variance_ratio_.cumsum() < ICA_VARIANCE).sum()) + 1
    U = pca.components_.copy()
    values = positions @ U[:n_directions].T
    learning = MiniBatchDictionaryLearning(n_directions, random_state=seed, **DICTIONARY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        atoms = learning.fit(values / values.std()).components_
    U[:n_directions] = np.linalg.inv(atoms).T @ U[:n_directions]
    return torch.from_numpy(U)
