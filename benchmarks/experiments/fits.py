"""The two ways of fitting a basis, and variants of the one in closed form: purity, evidence per channel, and time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks.experiments.channels import NamedBasis, channel_removal_table, raw_channels
from benchmarks.runs.subject import Subject
from captum_apex import FeatureBank, PrototypeBasis, Scheme, basis_from_matrix, fit_basis
from captum_apex.bases.polar_fit import SPREAD, channel_weights, mean_directions, polar_factor
from captum_apex.bases.prototype_choice import most_active
from captum_apex.defaults import FIT_EPOCHS, FIT_PROTOTYPES

N_CHANNELS = 5  # channels that are removed, or kept alone
N_PROTOTYPES = 5  # prototypes of a channel, among training clips and among unseen ones


@dataclass(frozen=True)
class Fit:
    """One way of fitting.

    Attributes:
        method: method of `fit_basis`; empty for a variant of the closed form that this module computes.
        epochs: number of epochs.
        n_prototypes: number of prototypes per channel at the start and at the end of the fit.
        reselect_every: number of epochs between two choices of prototypes.
        spread: how far active channels weigh more, as in `ClosedForm`.
        memory: share of the mean directions of earlier epochs in those that the polar factor is taken of.
        weighted: whether the prototypes of a channel count by their activation.
    """

    method: str = ""
    epochs: int = FIT_EPOCHS["closed-form"]
    n_prototypes: tuple[int, int] = (FIT_PROTOTYPES["closed-form"], FIT_PROTOTYPES["closed-form"])
    reselect_every: int = 2
    spread: float = SPREAD
    memory: float = 0.0
    weighted: bool = False


FITS: Mapping[str, Fit] = {
    "raw channels": Fit("closed-form", epochs=0),
    "gradient": Fit("gradient", epochs=20, n_prototypes=(100, N_PROTOTYPES)),
    "gradient, 5 prototypes": Fit("gradient", epochs=20, n_prototypes=(N_PROTOTYPES, N_PROTOTYPES)),
    "closed form": Fit("closed-form"),
    "closed form, equal weights": Fit(spread=0.0),
    "closed form, equal weights, 100 to 5": Fit(spread=0.0, n_prototypes=(100, N_PROTOTYPES)),
    "closed form, spread 0.125": Fit(spread=0.125),
    "closed form, spread 0.5": Fit(spread=0.5),
    "closed form, 100 to 5": Fit(n_prototypes=(100, N_PROTOTYPES)),
    "closed form, 20 to 5": Fit(n_prototypes=(20, N_PROTOTYPES)),
    "closed form, 50 prototypes": Fit(n_prototypes=(50, 50)),
    "closed form, every epoch": Fit(reselect_every=1),
    "closed form, 5 epochs": Fit(epochs=5),
    "closed form, 20 epochs": Fit(epochs=20),
    "closed form, averaged": Fit(memory=0.5),
    "closed form, prototypes weighted": Fit(weighted=True),
}
"""The ways that are compared. `fit_basis` has the settings of `gradient` and `closed form` by default."""


def fit_lines(subject: Subject, name: str) -> pd.DataFrame:
    """One way of fitting, on the bank of a subject.

    Args:
        subject: the classifier and its bank; its own bases are not used.
        name: a name in `FITS`.

    Returns:
        One line per `scheme`:

        - `purity`: mean purity of the prototypes, the training clips that activate each channel most.
        - `unseen`: mean purity of the test clips that activate each channel most.
        - `removed`: by how much the probability of the predicted class falls without the `N_CHANNELS` strongest
          channels; `alone`: by how much it falls with only these.
        - `seconds`: time of the process for the fit.
    """
    unseen = FeatureBank.from_dataset(subject.model, subject.layer, subject.task.test, norm=subject.norm, places=False)
    unseen = unseen.to(subject.bank.means.device)
    bases = {}
    lines: list[dict[str, Any]] = []
    for scheme in subject.bases:
        basis, seconds = fitted_basis(subject.bank, scheme, FITS[name], subject.seed)
        bases[scheme] = basis
        purities = {"purity": mean_purity(basis, subject.bank), "unseen": mean_purity(basis, unseen)}
        lines.append({"scheme": str(scheme), **purities, "seconds": seconds})
    named = [raw_channels(subject.bank), *(NamedBasis(str(scheme), basis) for scheme, basis in bases.items())]
    table = channel_removal_table(subject, (N_CHANNELS,), named).set_index(["basis", "kind"])
    for line, scheme in zip(lines, bases, strict=True):
        line["removed"] = table.loc[(str(scheme), "removed"), "drop"]
        line["alone"] = table.loc[(str(scheme), "kept"), "drop"]
    return pd.DataFrame(lines)


def mean_purity(basis: PrototypeBasis, bank: FeatureBank) -> float:
    """Mean purity of the clips of a bank that activate each channel most.

    Args:
        basis: the basis, which may have been fitted on other clips.
        bank: features of the clips.
    """
    n_prototypes = min(N_PROTOTYPES, bank.n_clips)
    chosen = basis_from_matrix(bank, basis.scheme, basis.U, n_prototypes=n_prototypes).positive
    assert chosen is not None
    return chosen.purities.mean().item()


def fitted_basis(bank: FeatureBank, scheme: Scheme, fit: Fit, seed: int = 0) -> tuple[PrototypeBasis, float]:
    """A basis, and the seconds of this process that its fit took.

    Args:
        bank: features of the training clips.
        scheme: the scheme.
        fit: the way of fitting.
        seed: seed of a fit by gradient.
    """
    first = min(fit.n_prototypes[0], bank.n_clips)
    last = min(N_PROTOTYPES, bank.n_clips)
    start = time.process_time()
    if fit.method:
        basis = fit_basis(
            bank,
            scheme,
            method=fit.method,
            epochs=fit.epochs,
            n_prototypes=(first, last),
            reselect_every=fit.reselect_every,
            seed=seed,
        )
    else:
        U = alternated(bank, scheme, fit)
        basis = basis_from_matrix(bank, scheme, U, n_prototypes=last)
    return basis, time.process_time() - start


@torch.no_grad()
def alternated(bank: FeatureBank, scheme: Scheme, fit: Fit) -> Tensor:
    """The matrix of a variant of the fit in closed form.

    Args:
        bank: features of the training clips.
        scheme: the scheme.
        fit: the variant.
    """
    U = torch.eye(bank.n_channels).to(bank.means)
    average = torch.zeros_like(U)
    n_choices = -(-fit.epochs // fit.reselect_every)
    counts = torch.linspace(*fit.n_prototypes, n_choices).round().int().tolist()
    for epoch in range(fit.epochs):
        if epoch % fit.reselect_every == 0:
            chosen = most_active(bank.means, U, min(counts[epoch // fit.reselect_every], bank.n_clips))
        if fit.weighted:
            directions = weighted_directions(bank, scheme, U, chosen)
        else:
            directions = mean_directions(bank.sequences(scheme), U, chosen)
        directions *= channel_weights(bank.means, U, chosen, fit.spread)[:, None]
        average = fit.memory * average + (1 - fit.memory) * directions
        U = polar_factor(average, near=U)
    return U


def weighted_directions(bank: FeatureBank, scheme: Scheme, U: Tensor, chosen: Tensor) -> Tensor:
    """The mean directions of each channel, with its prototypes weighted by their activation.

    Args:
        bank: features of the training clips.
        scheme: the scheme.
        U: matrix of the basis, (channel, channel).
        chosen: clips of the prototypes, int64 (channel, prototype).
    """
    activations = torch.einsum("kc,kpc->kp", U, bank.means[chosen]).clamp_min(0)
    weights = activations / activations.sum(1, keepdim=True).clamp_min(torch.finfo(U.dtype).tiny)
    ranks = zip(weights.unbind(1), chosen.unbind(1), strict=True)
    each = [weight[:, None] * mean_directions(bank.sequences(scheme), U, clips[:, None]) for weight, clips in ranks]
    return torch.stack(each).sum(0)
