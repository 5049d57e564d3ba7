"""What the channels of a basis are worth: how much the model leans on them, how pure they are, whether they lie on the truth."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import ortho_group
from sklearn.decomposition import PCA, FastICA
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from benchmarks.classifiers import head
from benchmarks.methods.prototypes import integrated
from benchmarks.methods.registry import CLIPS_AT_ONCE
from benchmarks.statistics import interval
from benchmarks.subject import Subject, fitted
from captum_apex import APEX, FeatureBank, LayerAPEX, PrototypeBasis, Region, Scheme, explain
from captum_apex.evidence import Decomposition, evidence_mask
from captum_apex.masking import mean_fill

N_LOCATED = 40  # clips per perspective whose evidence is compared with the truth
N_POSITIONS = 20_000  # of the training clips' grids, that PCA and ICA look at
ICA_ITERATIONS = 200
ICA_VARIANCE = 0.99  # share of the variance that ICA sees: in the directions of the rest, which are mostly noise, it does not settle


# --- evidence per channel -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Channels:
    """A way to cut the layer's features into channels.

    Attributes:
        name: for the table.
        basis: its `U`; the scheme plays no part here.
        status: `ok`, or what went wrong while it was made.
    """

    name: str
    basis: PrototypeBasis
    status: str = "ok"


def evidence_table(subject: Subject, ns: Sequence[int] = (1, 3, 5, 10)) -> pd.DataFrame:
    """What becomes of the prediction when the top channels are taken out of the layer's features, or nothing else is left.

    The evidence is chosen in each basis by contribution, among the channels with `c_k > 0` and `a_k > 0`. One pass with gradients over the
    test part serves all bases; after that only what follows the layer runs.

    Args:
        subject: the classifier; the whole test part is used.
        ns: sizes of the evidence.

    Returns:
        One line per basis, size and kind ("removed", "kept"): the mean probability of the predicted class before and after, the mean drop
        with its 95% interval over clips, the share of clips whose prediction stays, the basis's mean purity (NaN where it was not fitted)
        and how making the basis went.
    """
    raw = taken_apart(subject, subject.test_clips(len(subject.task.test))[1])
    return pd.DataFrame([line for channels in channel_bases(subject) for line in _lines(subject, channels, raw, ns)])


def channel_bases(subject: Subject) -> Iterator[Channels]:
    """All bases that are compared: four that know nothing of purity, then both kinds of fitted ones for every scheme.

    The sign of a random, principal or independent direction means nothing, but only a channel with positive activation counts as evidence.
    So each is turned to have a positive mean over the training clips.
    """
    bank, positions = subject.bank, positions_of(subject.bank, subject.seed)
    independent, converged = independent_directions(positions, subject.seed)
    turned = {
        "rotation": torch.from_numpy(ortho_group.rvs(bank.n_channels, random_state=subject.seed)),
        "PCA": principal_directions(positions),
        "ICA": independent,
    }
    yield Channels("raw", _basis(bank, torch.eye(bank.n_channels)))
    for name, U in turned.items():
        status = "ok" if converged or name != "ICA" else f"not converged ({ICA_ITERATIONS} iterations)"
        yield Channels(name, _basis(bank, upright(U, bank.means)), status)
    for scheme in subject.bases:
        yield Channels(f"APEX {scheme}", fitted(subject, scheme))
        yield Channels(f"APEX {scheme}, invertible", fitted(subject, scheme, orthogonal=False))


def positions_of(bank: FeatureBank, seed: int) -> np.ndarray:
    """The features at grid positions of the training clips, float64 (position, channel); a random part where there are many."""
    cells = bank.sequences(Scheme.SQUARE)[0]  # (clip, channel, cell)
    n_positions = cells.shape[0] * cells.shape[2]
    chosen = np.random.default_rng(seed).choice(n_positions, min(N_POSITIONS, n_positions), replace=False)
    clips, places = (torch.from_numpy(part).to(cells.device) for part in np.divmod(chosen, cells.shape[2]))
    return cells[clips, :, places].double().cpu().numpy()


def principal_directions(positions: np.ndarray) -> Tensor:
    """PCA's components as rows, (channel, channel): orthogonal. A change of basis only: nothing is centred when it is applied.

    Args:
        positions: (position, channel), at least as many positions as channels.
    """
    return torch.from_numpy(PCA().fit(positions).components_)


def independent_directions(positions: np.ndarray, seed: int) -> tuple[Tensor, bool]:
    """FastICA's unmixing with its whitening, as rows, and whether it converged.

    Whitening divides by standard deviations, and a ReLU layer may have channels that are always zero. So ICA works on the first principal
    directions, which hold 99% of the variance; the others stay as they are. So the matrix is invertible.

    Args:
        positions: (position, channel), at least as many positions as channels.
        seed: of the start.

    Returns:
        (channel, channel), and a bool.
    """
    pca = PCA().fit(positions)
    seen = int((pca.explained_variance_ratio_.cumsum() < ICA_VARIANCE).sum()) + 1
    U = pca.components_.copy()
    ica = FastICA(whiten="unit-variance", max_iter=ICA_ITERATIONS, random_state=seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        ica.fit(positions @ U[:seen].T)
    U[:seen] = ica.components_ @ U[:seen]
    return torch.from_numpy(U), not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def upright(U: Tensor, means: Tensor) -> Tensor:
    """The rows of `U`, each turned so that its channel's mean over clips is not negative.

    Args:
        U: (channel, channel).
        means: of each clip over the grid, (clip, channel).

    >>> upright(torch.tensor([[1.0, 0.0], [0.0, -1.0]]), torch.tensor([[2.0, 3.0]]))
    tensor([[1., 0.],
            [-0., 1.]])
    """
    return U.where((means.to(U).mean(0) @ U.T >= 0)[:, None], -U)


def taken_apart(subject: Subject, inputs: Tensor) -> list[Decomposition]:
    """Features, gradients and outputs in the raw channels, a few clips at a time, for each clip's predicted class."""
    at_layer = LayerAPEX(subject.model, subject.layer, _basis(subject.bank, torch.eye(subject.bank.n_channels)))
    return [at_layer.decompose(batch, predicted=True) for batch in inputs.split(CLIPS_AT_ONCE)]


def in_basis(raw: Decomposition, basis: PrototypeBasis) -> Decomposition:
    """The same pass, taken apart into the channels of another basis: `Ẑ = U Z`, `R = U⁻ᵀ G ⊙ Ẑ`."""
    features = torch.einsum("kc,ncft->nkft", basis.U.to(raw.features), raw.features)
    gradient = torch.einsum("ck,ncft->nkft", basis.inverse.to(raw.gradient), raw.gradient)
    return replace(raw, features=features, relevance=gradient * features)


@torch.no_grad()
def probability_after(
    rest: nn.Module, raw: Decomposition, parts: Decomposition, basis: PrototypeBasis, n_channels: int
) -> dict[str, Tensor]:
    """The probabilities when the evidence's part `U⁻¹ (1_E ⊙ Ẑ)` is taken out of the layer's features, and when it is all that is left.

    Args:
        rest: what follows the layer, from features (clip, channel, frequency, time) to logits.
        raw: the pass in raw channels.
        parts: the same in the basis.
        basis: whose channels.
        n_channels: size of the evidence.

    Returns:
        For "removed" and "kept" a tensor (clip, class).
    """
    chosen = evidence_mask(parts.contributions, parts.activations, n_channels)
    part = torch.einsum("ck,nkft->ncft", basis.inverse.to(parts.features), parts.features * chosen[:, :, None, None])
    return {"removed": rest(raw.features - part).softmax(1), "kept": rest(part).softmax(1)}


def _basis(bank: FeatureBank, U: Tensor) -> PrototypeBasis:
    return PrototypeBasis(U, Scheme.SQUARE, origin=bank.origin)


def _lines(subject: Subject, channels: Channels, raw: Sequence[Decomposition], ns: Sequence[int]) -> Iterator[dict]:
    """The table's lines of one basis."""
    rest, basis = head(subject.model), channels.basis
    parts = [in_basis(batch, basis) for batch in raw]
    before = torch.cat([batch.output.softmax(1) for batch in raw])
    purity = basis.purity_history[-1].item() if len(basis.purity_history) else float("nan")
    for n in ns:
        after = [probability_after(rest, *batch, basis, n) for batch in zip(raw, parts, strict=True)]
        for kind in after[0]:
            found = _effect(before, torch.cat([batch[kind] for batch in after]))
            yield {"basis": channels.name, "n": n, "kind": kind, **found, "purity": purity, "status": channels.status}


def _effect(before: Tensor, after: Tensor) -> dict[str, float]:
    """Means over clips, from the probabilities (clip, class) before and after."""
    predicted = before.argmax(1, keepdim=True)
    own_before, own_after = (probabilities.gather(1, predicted)[:, 0].double().cpu().numpy() for probabilities in (before, after))
    low, high = interval(own_before - own_after)
    return {
        "probability_before": own_before.mean(),
        "probability_after": own_after.mean(),
        "drop": (own_before - own_after).mean(),
        "low": low,
        "high": high,
        "accuracy_after": (after.argmax(1, keepdim=True) == predicted).double().mean().item(),
    }


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


# --- truth ----------------------------------------------------------------------------------------------------------------

TRUTH_COLUMNS = ("scheme", "channel", "enlarged", "integrated", "random", "clips")


def truth_table(subject: Subject) -> pd.DataFrame:
    """How often the evidence meets the truth, one line per scheme, over test clips of the classes made for it.

    Returns:
        Shares of clips. `channel`: the strongest channel's region (a cell, a strip, a band, or where strip and band cross) has a bin in
        common with the truth. `enlarged`: the place where the enlarged map of five channels is largest has one. `integrated`: likewise for
        the five channels' map through Integrated Gradients, against the clip's mean per band. `random`: chance, exactly: the mean over all
        places of the same shape. No lines where no truth is known.
    """
    task = subject.task
    if task.truth is None or not task.perspectives:
        return pd.DataFrame(columns=TRUTH_COLUMNS)
    indices, inputs = subject.test_clips(len(task.test))
    made_for = [task.perspectives.get(task.classes[task.test[index][1]]) for index in indices]
    lines = []
    for scheme in subject.bases:
        own = [i for i, perspective in enumerate(made_for) if perspective == scheme][:N_LOCATED]
        if own:
            met = _on_truth(subject, scheme, inputs[own], [task.truth(indices[i]) for i in own])
            lines.append({"scheme": str(scheme), **met, "clips": len(own)})
    return pd.DataFrame(lines, columns=TRUTH_COLUMNS)


def _on_truth(subject: Subject, scheme: Scheme, clips: Tensor, truths: Sequence[Tensor]) -> dict[str, float]:
    basis, at_layer = subject.bases[scheme], LayerAPEX(subject.model, subject.layer, subject.bases[scheme])
    with torch.no_grad():
        target = subject.model(clips).argmax(1)
    projections = {"enlarged": None, "integrated": partial(integrated, baseline=mean_fill(clips))}
    maps = {name: APEX(subject.model, subject.layer, basis, projection=way).attribute(clips, target) for name, way in projections.items()}
    regions = [
        found.evidence[0].region if found.evidence else Region(())
        for found in explain(at_layer, clips, n_channels=1, n_prototypes=1, intersection=True)
    ]
    shares = {name: _share_met(_strongest_places(found, scheme, basis), truths) for name, found in maps.items()}
    chances = [_chance(truth, scheme, basis) for truth in truths]
    return {"channel": _share_met(regions, truths), **shares, "random": sum(chances) / len(chances)}


def _strongest_places(maps: Tensor, scheme: Scheme, basis: PrototypeBasis) -> list[Region]:
    """Where each map (clip, 1, mel, frame) is largest, in the cells that the scheme sees on the layer's grid."""
    n_rows, n_columns = _grid(basis)
    cells = scheme.cells(F.adaptive_avg_pool2d(maps, (n_rows, n_columns)))
    peaks = torch.stack([sequence[:, 0].argmax(1) for sequence in cells], 1)  # (clip, sequence)
    return [scheme.region(place, n_rows, n_columns, intersection=True) for place in peaks.tolist()]


def _share_met(regions: Sequence[Region], truths: Sequence[Tensor]) -> float:
    """Share of clips whose region has a bin in common with the truth."""
    met = [bool((region.mask(*truth.shape) & truth).any()) for region, truth in zip(regions, truths, strict=True)]
    return sum(met) / len(met)


def _chance(truth: Tensor, scheme: Scheme, basis: PrototypeBasis) -> float:
    """Share of all places of a region of the scheme's shape that meet the truth."""
    n_rows, n_columns = _grid(basis)
    rows = range(n_rows) if scheme != Scheme.TIME else [0]
    columns = range(n_columns) if scheme != Scheme.FREQUENCY else [0]
    cells = {
        Scheme.SQUARE: lambda row, column: [row * n_columns + column],
        Scheme.TIME: lambda _, column: [column],
        Scheme.FREQUENCY: lambda row, _: [row],
        Scheme.TIME_FREQUENCY: lambda row, column: [column, row],  # in the order of the scheme's sequences
    }[scheme]
    places = [scheme.region(cells(row, column), n_rows, n_columns, intersection=True) for row in rows for column in columns]
    return _share_met(places, [truth] * len(places))


def _grid(basis: PrototypeBasis) -> tuple[int, int]:
    assert basis.origin.grid is not None  # a fitted basis knows its grid; for the type checker
    return basis.origin.grid
