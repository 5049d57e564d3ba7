"""What the channels of a basis are worth: how much the model leans on them, how pure they are, whether they lie on the truth."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import ortho_group
from sklearn.decomposition import PCA, FastICA
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from benchmarks.classifiers.networks import head
from benchmarks.methods.registry import CLIPS_AT_ONCE
from benchmarks.runs.subject import Subject, fitted
from benchmarks.statistics import holm, interval, paired_test
from captum_apex import FeatureBank, LayerAPEX, PrototypeBasis, Scheme, basis_from_matrix
from captum_apex.attribution.decomposition import Decomposition, select_channels

N_POSITIONS = 10_000  # of the training clips' grids, that PCA and ICA look at
ICA_ITERATIONS = 200
TINY = torch.finfo(torch.float32).tiny  # instead of a divisor that is zero
KINDS = ("removed", "kept")  # the evidence, and all that is left is the other part
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
    test part serves all bases; after that only what follows the layer runs. The features of a few clips are in memory at a
    time.

    Args:
        subject: the classifier; the whole test part is used.
        ns: sizes of the evidence.

    Returns:
        One line per basis, size and kind ("removed", "kept"). `probability_before`, `probability_after`: of the predicted class, means over
        clips; `drop`: their difference, with its 95% interval `low`, `high`; `over_raw`: the drop less that of the raw channels, paired by
        clip, with its 95% interval `over_raw_low`, `over_raw_high` and `p_holm`, of Wilcoxon's signed-rank test, adjusted for the bases
        that are compared with the raw channels at this size and kind. `accuracy_after`: share of clips whose prediction stays. `energy`:
        share of the features' sum of squares that the evidence makes; `contribution`: share of the positive contributions that it has, both
        means over clips. `purity`: the mean over all channels, in the basis's own scheme, of bases without one in `square`. `status`: how
        making the basis went.
    """
    bases = list(channel_bases(subject))
    clips = subject.test_clips(len(subject.task.test))[1]
    columns: dict[tuple[str, int, str], list[Tensor]] = {}
    for batch in clips.split(CLIPS_AT_ONCE):
        raw = taken_apart(subject, batch)
        for channels in bases:
            parts = in_basis(raw, channels.basis)
            for n in ns:
                for kind, found in _effects(subject, raw, parts, channels.basis, n).items():
                    columns.setdefault((channels.name, n, kind), []).append(found)
    effects = {key: torch.cat(found, 1).double().cpu().numpy() for key, found in columns.items()}
    return pd.DataFrame([line for n in ns for kind in KINDS for line in _lines(bases, effects, n, kind)])


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


def taken_apart(subject: Subject, inputs: Tensor) -> Decomposition:
    """Features, gradients and outputs in the raw channels, for each clip's predicted class."""
    raw = PrototypeBasis(torch.eye(subject.bank.n_channels), Scheme.SQUARE, origin=subject.bank.origin)
    return LayerAPEX(subject.model, subject.layer, raw).decompose(inputs, predicted=True)


def in_basis(raw: Decomposition, basis: PrototypeBasis) -> Decomposition:
    """The same pass, taken apart into the channels of another basis: `Ẑ = U Z`, `R = U⁻ᵀ G ⊙ Ẑ`."""
    features = torch.einsum("kc,ncft->nkft", basis.U.to(raw.features), raw.features)
    gradient = torch.einsum("ck,ncft->nkft", basis.inverse.to(raw.gradient), raw.gradient)
    return replace(raw, features=features, relevance=gradient * features)


@torch.no_grad()
def probability_after(
    rest: nn.Module, raw: Decomposition, parts: Decomposition, basis: PrototypeBasis, chosen: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """The probabilities when the evidence's part `U⁻¹ (1_E ⊙ Ẑ)` is taken out of the layer's features, and when it is all that is left.

    Args:
        rest: what follows the layer, from features (clip, channel, frequency, time) to logits.
        raw: the pass in raw channels.
        parts: the same in the basis.
        basis: whose channels.
        chosen: the evidence, bool (clip, channel).

    Returns:
        For "removed" and "kept" a tensor (clip, class); and the evidence's share of the features' energy, (clip,).
    """
    part = torch.einsum("ck,nkft->ncft", basis.inverse.to(parts.features), parts.features * chosen[:, :, None, None])
    energy = part.flatten(1).square().sum(1) / raw.features.flatten(1).square().sum(1).clamp_min(TINY)
    return dict(zip(KINDS, (rest(raw.features - part).softmax(1), rest(part).softmax(1)), strict=True)), energy


def _basis(bank: FeatureBank, U: Tensor) -> PrototypeBasis:
    return basis_from_matrix(bank, Scheme.SQUARE, U)


def _effects(
    subject: Subject, raw: Decomposition, parts: Decomposition, basis: PrototypeBasis, n: int
) -> dict[str, Tensor]:
    """For each kind (5, clip): the predicted class's probability before and after, whether it stays, the evidence's shares."""
    chosen = select_channels(parts.contributions, parts.activations, n)
    positive = parts.contributions.clamp_min(0)
    contribution = (positive * chosen).sum(1) / positive.sum(1).clamp_min(TINY)  # 0 where nothing speaks for the class
    after, energy = probability_after(head(subject.model, subject.layer), raw, parts, basis, chosen)
    before = raw.output.softmax(1)
    predicted = before.argmax(1, keepdim=True)
    return {
        kind: torch.stack(
            [
                before.gather(1, predicted)[:, 0],
                own.gather(1, predicted)[:, 0],
                own.argmax(1) == predicted[:, 0],
                energy,
                contribution,
            ]
        )
        for kind, own in after.items()
    }


def _lines(bases: Sequence[Channels], effects: dict, n: int, kind: str) -> list[dict]:
    """The table's lines of one size and kind, one per basis."""
    raw, lines = _drop(effects["raw", n, kind]), []
    for channels in bases:
        found = effects[channels.name, n, kind]
        before, after, stays, energy, contribution = found.mean(1)
        (low, high), (over_low, over_high) = interval(_drop(found)), interval(_drop(found) - raw)
        line = {"basis": channels.name, "n": n, "kind": kind, "probability_before": before, "probability_after": after}
        line |= {"drop": before - after, "low": low, "high": high}
        line |= {"over_raw": (_drop(found) - raw).mean(), "over_raw_low": over_low, "over_raw_high": over_high}
        line |= {"p_holm": float("nan") if channels.name == "raw" else paired_test(_drop(found), raw)}
        line |= {"accuracy_after": stays, "energy": energy, "contribution": contribution}
        lines.append(line | {"purity": _mean_purity(channels.basis), "status": channels.status})
    adjusted = holm([line["p_holm"] for line in lines])
    return [line | {"p_holm": float(p)} for line, p in zip(lines, adjusted, strict=True)]


def _mean_purity(basis: PrototypeBasis) -> float:
    return float("nan") if basis.positive is None else basis.positive.purities.mean().item()


def _drop(found: np.ndarray) -> np.ndarray:
    return found[0] - found[1]
