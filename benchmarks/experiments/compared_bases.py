"""The bases whose prototypes are compared: APEX's, and changes of basis that were not made for prototypes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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
    "dictionary": "the linear map of the features that is nearest to the codes of a sparse dictionary",
    "APEX orthogonal": "fitted by gradient, U = exp(A − Aᵀ)",
    "APEX closed form": "fitted in closed form, orthogonal",
    "APEX invertible": "fitted by gradient, U = exp(A)",
}
DICTIONARY: Mapping[str, Any] = {
    "alpha": 1.0,
    "batch_size": 256,
    "max_iter": 20,
    "tol": 0.0,
    "max_no_improvement": None,  # with `tol`: all passes over the positions, which scikit-learn's defaults cut short
    "fit_algorithm": "cd",
    "transform_algorithm": "lasso_cd",  # the codes that the atoms are learnt for; the default is another pursuit
}
"""Settings of the sparse dictionary, for features whose standard deviation is 1.

`alpha` is about 1.2 / √m for m features of norm 1, as in Mairal et al. (2009); smaller ones miss planted sources.
"""
CONDITION = 30  # largest condition number of the dictionary's map, about that of ICA


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
    """The directions whose channels are nearest to the codes of a sparse dictionary, by least squares.

    Sparse codes `A` are no linear function of the features `Z`, but a change of basis is one. The linear map with the
    least error is `argmin ‖Z W − A‖²`. The inverse of the atoms would be that map only if the codes described the
    features without an error; it enlarges the error, the more alike the atoms are.

    As for ICA, the dictionary is one of the first principal directions, which hold 99% of the variance; the others stay
    principal directions. An atom whose code is zero at all positions has no such direction; it is its own instead, as
    long as the others are in the median.
    Where no code depends on some direction of little variance, `W` hardly has an inverse: its singular values are
    raised to at least 1 / `CONDITION` of the largest one.

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
    values /= values.std()
    atoms, codes = sparse_codes(values, seed)
    nearest = np.linalg.lstsq(values, codes)[0].T  # (atom, direction)
    fires = np.any(codes, axis=0)
    size = np.median(np.linalg.norm(nearest[fires], axis=1))
    left, sizes, right = np.linalg.svd(np.where(np.expand_dims(fires, 1), nearest, size * atoms))
    U[:n_directions] = left * sizes.clip(min=sizes[0] / CONDITION) @ right @ U[:n_directions]
    return torch.from_numpy(U)


def sparse_codes(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A sparse dictionary with as many atoms as directions, and the codes of all positions, by the lasso.

    Args:
        values: features (position, direction) with a standard deviation of 1.
        seed: seed of the order of the positions and of the first atoms.

    Returns:
        The atoms as rows, (atom, direction), and the codes (position, atom).
    """
    learning = MiniBatchDictionaryLearning(values.shape[1], random_state=seed, **DICTIONARY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        codes = learning.fit_transform(values)
    return learning.components_, codes
