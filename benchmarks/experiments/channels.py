"""Channel removal: how far a prediction rests on the few channels of a basis that support it most.

The layer's features are rewritten in a basis, the strongest channels are removed (or everything else is), and the rest
of the network gives the probability of the predicted class again. The same is done in bases that were not fitted for
purity: the raw channels, a random rotation, PCA and ICA.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
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

N_POSITIONS = 10_000  # grid positions of the training clips from which PCA and ICA are computed
ICA_ITERATIONS = 200
ICA_VARIANCE = 0.99  # ICA does not converge in the remaining directions, which are mostly noise
TINY = torch.finfo(torch.float32).tiny  # replaces a divisor that is zero
KINDS = ("removed", "kept")  # the selected channels are removed, or only they are kept


@dataclass(frozen=True)
class NamedBasis:
    """A basis that the experiment compares.

    Attributes:
        name: name of the basis in the table.
        basis: the basis; the experiment uses only its `U`, not its scheme.
        status: `ok`, or what went wrong while the basis was computed.
    """

    name: str
    basis: PrototypeBasis
    status: str = "ok"


def channel_removal_table(
    subject: Subject, ns: Sequence[int] = (1, 3, 5, 10), bases: Iterable[NamedBasis] | None = None
) -> pd.DataFrame:
    """Removes the n strongest channels from the layer's features, or all others, and measures the predicted class.

    The channels are selected in each basis by contribution, among those with `c_k > 0` and `a_k > 0`. One pass with
    gradients over the test clips serves all bases; after that only the modules behind the layer run. The features of a
    few clips are in memory at a time.

    Args:
        subject: the classifier and its bases; all test clips of its task are used.
        ns: how many channels are selected; each number gives two lines per basis.
        bases: the bases to compare, one of them named `raw`; by default `named_bases(subject)`.

    Returns:
        One line per basis, number of channels `n` and `kind` ("removed", "kept"), with these columns:

        - `probability_before`, `probability_after`: mean probability of the predicted class over the clips.
        - `drop`: the difference of the two, with its 95% interval `low`, `high`.
        - `over_raw`: the drop minus the drop of the raw channels, paired by clip, with its 95% interval `over_raw_low`,
          `over_raw_high` and `p_holm`, the p-value of Wilcoxon's signed-rank test, adjusted for the number of bases
          that are compared with the raw channels at this `n` and `kind`.
        - `accuracy_after`: share of clips for which the predicted class stays the same.
        - `energy`: sum of squares of the selected channels' features, as a share of that of all features; mean.
        - `contribution`: share of the positive contributions that the selected channels have; mean over clips.
        - `purity`: mean purity over all channels, in the scheme of the basis (`square` for a basis without a scheme).
        - `status`: `ok`, or what went wrong while the basis was computed.
    """
    bases = list(named_bases(subject) if bases is None else bases)
    clips = subject.test_clips(len(subject.task.test))[1]
    batches: dict[tuple[str, int, str], list[Tensor]] = {}
    for inputs in clips.split(CLIPS_AT_ONCE):
        raw = decompose(subject, inputs)
        for named in bases:
            decomposition = in_basis(raw, named.basis)
            for n in ns:
                for kind, effects in _effects(subject, raw, decomposition, named.basis, n).items():
                    batches.setdefault((named.name, n, kind), []).append(effects)
    effects_of = {key: torch.cat(effects, 1).double().cpu().numpy() for key, effects in batches.items()}
    return pd.DataFrame([line for n in ns for kind in KINDS for line in _lines(bases, effects_of, n, kind)])


def named_bases(subject: Subject) -> Iterator[NamedBasis]:
    """All bases that are compared: four that were not fitted for purity, then both kinds of fitted ones per scheme.

    The sign of a random, principal or independent direction has no meaning, but only a channel with a positive
    activation can be selected. So each direction is turned to have a positive mean over the training clips.
    """
    bank = subject.bank
    positions = positions_of(bank, subject.seed)
    independent, converged = independent_directions(positions, subject.seed)
    directions = {
        "rotation": torch.from_numpy(ortho_group.rvs(bank.n_channels, random_state=subject.seed)),
        "PCA": principal_directions(positions),
        "ICA": independent,
    }
    yield raw_channels(bank)
    for name, U in directions.items():
        status = "ok" if converged or name != "ICA" else f"not converged ({ICA_ITERATIONS} iterations)"
        yield NamedBasis(name, _basis(bank, upright(U, bank.means)), status)
    for scheme in subject.bases:
        yield NamedBasis(f"APEX {scheme}", fitted(subject, scheme))
        yield NamedBasis(f"APEX {scheme}, invertible", fitted(subject, scheme, orthogonal=False))


def raw_channels(bank: FeatureBank) -> NamedBasis:
    """The channels as they are, without a change of basis."""
    return NamedBasis("raw", _basis(bank, torch.eye(bank.n_channels)))


def positions_of(bank: FeatureBank, seed: int) -> np.ndarray:
    """The features at the grid positions of the training clips, a random selection where there are many.

    Args:
        bank: features of the training clips.
        seed: seed of the random number generator.

    Returns:
        float64 array (position, channel) of at most `N_POSITIONS` positions.
    """
    cells = bank.sequences(Scheme.SQUARE)[0]  # (clip, channel, cell)
    n_positions = cells.shape[0] * cells.shape[2]
    chosen = np.random.default_rng(seed).choice(n_positions, min(N_POSITIONS, n_positions), replace=False)
    clips, places = (torch.from_numpy(indices).to(cells.device) for indices in np.divmod(chosen, cells.shape[2]))
    return cells[clips, :, places].double().cpu().numpy()


def principal_directions(positions: np.ndarray) -> Tensor:
    """PCA's components as the rows of an orthogonal matrix (channel, channel).

    It is a change of basis only: nothing is centred when the matrix is applied.

    Args:
        positions: features (position, channel), at least as many positions as channels.
    """
    return torch.from_numpy(PCA().fit(positions).components_)


def independent_directions(positions: np.ndarray, seed: int) -> tuple[Tensor, bool]:
    """FastICA's unmixing matrix with its whitening, and whether the algorithm converged.

    Whitening divides by standard deviations, and a layer behind a ReLU may have channels that are always zero. So ICA
    is applied to the first principal directions, which hold 99% of the variance; the others stay principal directions.
    This keeps the matrix invertible.

    Args:
        positions: features (position, channel), at least as many positions as channels.
        seed: seed of the random start.

    Returns:
        The directions as rows, (channel, channel); and whether FastICA converged within `ICA_ITERATIONS`.
    """
    pca = PCA().fit(positions)
    n_directions = int((pca.explained_variance_ratio_.cumsum() < ICA_VARIANCE).sum()) + 1
    U = pca.components_.copy()
    ica = FastICA(whiten="unit-variance", max_iter=ICA_ITERATIONS, random_state=seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        ica.fit(positions @ U[:n_directions].T)
    U[:n_directions] = ica.components_ @ U[:n_directions]
    return torch.from_numpy(U), not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def upright(U: Tensor, means: Tensor) -> Tensor:
    """The rows of `U`, each with the sign for which the mean of its channel over the clips is not negative.

    Args:
        U: a basis, (channel, channel).
        means: mean of each raw channel over each clip's grid, (clip, channel).

    Example:
        >>> upright(torch.tensor([[1.0, 0.0], [0.0, -1.0]]), torch.tensor([[2.0, 3.0]]))
        tensor([[1., 0.],
                [-0., 1.]])
    """
    return U.where((means.to(U).mean(0) @ U.T >= 0)[:, None], -U)


def decompose(subject: Subject, inputs: Tensor) -> Decomposition:
    """One forward and backward pass, decomposed into the raw channels; the target is each clip's predicted class."""
    raw = PrototypeBasis(torch.eye(subject.bank.n_channels), Scheme.SQUARE, origin=subject.bank.origin)
    return LayerAPEX(subject.model, subject.layer, raw).decompose(inputs, predicted=True)


def in_basis(raw: Decomposition, basis: PrototypeBasis) -> Decomposition:
    """The same pass, decomposed into the channels of another basis: `Ẑ = U Z`, `R = U⁻ᵀ G ⊙ Ẑ`."""
    features = torch.einsum("kc,ncft->nkft", basis.U.to(raw.features), raw.features)
    gradient = torch.einsum("ck,ncft->nkft", basis.inverse.to(raw.gradient), raw.gradient)
    return replace(raw, features=features, relevance=gradient * features)


@torch.no_grad()
def probability_after(
    rest: nn.Module, raw: Decomposition, decomposition: Decomposition, basis: PrototypeBasis, chosen: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Probabilities without the selected channels, and with only them.

    In the layer's raw channels, the selected channels hold `U⁻¹ (1_E ⊙ Ẑ)`. This is subtracted from the features
    ("removed"), or it replaces them ("kept").

    Args:
        rest: the modules behind the layer, from features (clip, channel, frequency, time) to logits.
        raw: the pass in raw channels.
        decomposition: the same pass in the channels of `basis`.
        basis: the basis in which the channels are selected.
        chosen: the selected channels, bool (clip, channel).

    Returns:
        The probabilities (clip, class) for "removed" and "kept"; and the energy of the selected channels as a share of
        the energy of the features, (clip,).
    """
    channels = decomposition.features * chosen[:, :, None, None]
    selected = torch.einsum("ck,nkft->ncft", basis.inverse.to(channels), channels)
    energy = selected.flatten(1).square().sum(1) / raw.features.flatten(1).square().sum(1).clamp_min(TINY)
    probabilities = (rest(raw.features - selected).softmax(1), rest(selected).softmax(1))
    return dict(zip(KINDS, probabilities, strict=True)), energy


def _basis(bank: FeatureBank, U: Tensor) -> PrototypeBasis:
    return basis_from_matrix(bank, Scheme.SQUARE, U)


def _effects(
    subject: Subject, raw: Decomposition, decomposition: Decomposition, basis: PrototypeBasis, n: int
) -> dict[str, Tensor]:
    """For each kind (5, clip): probability before and after, same prediction, energy, contribution."""
    chosen = select_channels(decomposition.contributions, decomposition.activations, n)
    positive = decomposition.contributions.clamp_min(0)
    contribution = (positive * chosen).sum(1) / positive.sum(1).clamp_min(TINY)  # 0 where no channel contributes
    rest = head(subject.model, subject.layer, subject.norm)
    after, energy = probability_after(rest, raw, decomposition, basis, chosen)
    before = raw.output.softmax(1)
    predicted = before.argmax(1, keepdim=True)
    effects = {}
    for kind, probabilities in after.items():
        same_prediction = probabilities.argmax(1) == predicted[:, 0]
        of_predicted = [before.gather(1, predicted)[:, 0], probabilities.gather(1, predicted)[:, 0]]
        effects[kind] = torch.stack([*of_predicted, same_prediction, energy, contribution])
    return effects


def _lines(bases: Sequence[NamedBasis], effects: dict, n: int, kind: str) -> list[dict]:
    """The table's lines for one number of channels and one kind, one per basis."""
    raw_drop = _drop(effects["raw", n, kind])
    lines: list[dict] = []
    for named in bases:
        line: dict = {"basis": named.name, "n": n, "kind": kind} | _summary(effects[named.name, n, kind], raw_drop)
        if named.name == "raw":
            line["p_holm"] = float("nan")
        lines.append(line | {"purity": _mean_purity(named.basis), "status": named.status})
    adjusted = holm([line["p_holm"] for line in lines])
    return [line | {"p_holm": float(p)} for line, p in zip(lines, adjusted, strict=True)]


def _summary(effects: np.ndarray, raw_drop: np.ndarray) -> dict[str, float]:
    """The measured columns of a line; `p_holm` is not corrected yet."""
    before, after, same_prediction, energy, contribution = effects.mean(1)
    drop = _drop(effects)
    low, high = interval(drop)
    over_low, over_high = interval(drop - raw_drop)
    return {
        "probability_before": before,
        "probability_after": after,
        "drop": before - after,
        "low": low,
        "high": high,
        "over_raw": (drop - raw_drop).mean(),
        "over_raw_low": over_low,
        "over_raw_high": over_high,
        "p_holm": paired_test(drop, raw_drop),
        "accuracy_after": same_prediction,
        "energy": energy,
        "contribution": contribution,
    }


def _mean_purity(basis: PrototypeBasis) -> float:
    return float("nan") if basis.positive is None else basis.positive.purities.mean().item()


def _drop(effects: np.ndarray) -> np.ndarray:
    """By how much the probability of the predicted class falls, (clip,)."""
    return effects[0] - effects[1]
