"""The experiments beside the scores: channel removal, purity, truth, the masking test, and output invariance."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from benchmarks.classifiers.networks import NETWORKS, PlainCNN, explained_layer, head
from benchmarks.experiments import invariance, missed_events, region_masking, truth
from benchmarks.experiments.channels import (
    NamedBasis,
    channel_removal_table,
    decompose,
    in_basis,
    independent_directions,
    named_bases,
    positions_of,
    principal_directions,
    probability_after,
    upright,
)
from benchmarks.experiments.invariance import invariance_table, metrics
from benchmarks.experiments.located_evidence import (
    SURROUNDINGS,
    EvidenceChannels,
    explanations_of,
    fill_values,
    moved,
    region_masks,
)
from benchmarks.experiments.purity import purity_table
from benchmarks.experiments.region_summary import region_summary
from benchmarks.experiments.truth import TRUTH_COLUMNS, truth_clips, truth_table
from benchmarks.runs import subject
from benchmarks.runs.stage import Stage
from captum_apex import SCHEMES, FeatureBank, LayerAPEX, PrototypeBasis, basis_from_matrix, fit_basis
from captum_apex.attribution.decomposition import select_channels
from captum_apex.locating.placement import elsewhere
from captum_apex.masking.fills import blur_fill, mean_fill
from tests import oracles
from tests.small import small_subject

QUICK = {"epochs": 1, "n_prototypes": (8, 2)}
BASES = [
    "raw",
    "rotation",
    "PCA",
    "ICA",
    *(f"APEX {scheme}{kind}" for scheme in SCHEMES for kind in ("", ", invertible")),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An untrained network on a few scenes, with bases hardly fitted and a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTUM_APEX_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(subject, "FIT", QUICK)
        yield small_subject()


@pytest.fixture(scope="module")
def precise(small):
    """The same in float64."""
    model = PlainCNN(len(small.task.classes)).double().eval()
    model.load_state_dict(small.model.state_dict())
    return dataclasses.replace(small, model=model)


@pytest.fixture(scope="module")
def table(small):
    return channel_removal_table(small, ns=(1, 3))


def random_matrix(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.eye(n, dtype=torch.float64) + 0.3 * torch.randn(n, n, generator=generator, dtype=torch.float64) / n**0.5
    )


def in_time(whole):
    """The subject with one scheme alone."""
    return dataclasses.replace(whole, bases={SCHEMES[1]: whole.bases[SCHEMES[1]]})


def only(frame, **wanted):
    """The one line of a table where the columns have these values."""
    found = frame[np.logical_and.reduce([frame[name] == value for name, value in wanted.items()])]
    assert len(found) == 1
    return found.iloc[0]


# --- channel removal --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_the_head_gives_the_models_logits_from_the_layers_output(network):
    model = NETWORKS[network](5).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.1)
    taken = []
    handle = explained_layer(model).register_forward_hook(lambda module, inputs, output: taken.append(output))
    logits = model(torch.randn(3, 1, 64, 50, generator=torch.Generator().manual_seed(0)))
    handle.remove()
    assert logits.std() > 0
    torch.testing.assert_close(head(model, explained_layer(model))(taken[0]), logits)


@pytest.mark.parametrize("matrix", ["raw", "rotation", "invertible"])
def test_channels_are_removed_and_kept_as_by_hand(precise, matrix):
    """Position by position: into the basis, drop (or keep) the evidence, back, pool, classify."""
    n = precise.bank.n_channels
    U = {
        "raw": torch.eye(n).double(),
        "rotation": torch.linalg.qr(random_matrix(n))[0],
        "invertible": random_matrix(n),
    }[matrix]
    basis, inverse, inputs = PrototypeBasis(U, "square"), torch.linalg.inv(U), precise.test_clips(3)[1].double()
    raw = decompose(precise, inputs)
    parts = in_basis(raw, basis)
    evidence_of_three = select_channels(parts.contributions, parts.activations, 3)
    after, energy = probability_after(head(precise.model, precise.layer), raw, parts, basis, evidence_of_three)
    with torch.no_grad():
        grids, logits = precise.model.features(inputs), precise.model(inputs)
        A, b = precise.model.classifier.weight, precise.model.classifier.bias
        for clip, Z in enumerate(grids):
            rows, columns = Z.shape[1:]
            G = (A[logits[clip].argmax()] / (rows * columns))[:, None, None].expand_as(Z)
            chosen = oracles.evidence(oracles.relevance(Z, G, U), Z, U, 3)
            assert len(chosen) == 3
            left, removed = oracles.in_basis(Z, U), oracles.in_basis(Z, U)
            for k in range(n):
                (removed if k in chosen else left)[k] = 0
            taken = oracles.in_basis(left, inverse)
            assert energy[clip].item() == pytest.approx((taken.square().sum() / Z.square().sum()).item())
            for kind, part in (("removed", removed), ("kept", left)):
                pooled = oracles.in_basis(part, inverse).sum((1, 2)) / (rows * columns)
                torch.testing.assert_close(after[kind][clip], (A @ pooled + b).softmax(0), rtol=1e-9, atol=1e-12)


def test_the_scale_and_the_order_of_channels_do_not_matter(precise):
    """Multiplying a row of U by a positive number changes neither c_k nor the features that the channel stands for."""
    n = precise.bank.n_channels
    U, scales = random_matrix(n), torch.linspace(0.1, 10, n, dtype=torch.float64)[:, None]
    raw = decompose(precise, precise.test_clips(4)[1].double())
    found = []
    for basis in (PrototypeBasis(matrix, "square") for matrix in (U, (U * scales).flip(0))):
        parts = in_basis(raw, basis)
        chosen = select_channels(parts.contributions, parts.activations, 5)
        found.append(probability_after(head(precise.model, precise.layer), raw, parts, basis, chosen)[0])
    first, second = found
    assert (first["removed"] - raw.output.softmax(1)).abs().max() > 1e-5
    for kind in first:
        torch.testing.assert_close(first[kind], second[kind], rtol=1e-9, atol=1e-12)


def test_the_table_holds_every_basis_with_what_the_model_itself_gives(small, table):
    """Raw channels are set to zero at the layer of the whole model, clip by clip."""
    assert list(dict.fromkeys(table.basis)) == BASES
    assert len(table) == len(BASES) * 2 * 2
    assert set(table.status) == {"ok"}
    assert ((table.low <= table["drop"]) & (table["drop"] <= table.high)).all()
    inputs, A = small.test_clips(16)[1], small.model.classifier.weight
    before, after, stays = [], [], []
    for clip in inputs:
        with torch.no_grad():
            logits = small.model(clip[None])[0]
            predicted = int(logits.argmax())
            means = small.model.features(clip[None])[0].mean((1, 2))
            chosen = [
                k
                for k in (A[predicted] * means).argsort(descending=True).tolist()
                if A[predicted, k] > 0 and means[k] > 0
            ][:3]
            keep = torch.ones(1, len(means), 1, 1)
            keep[0, chosen] = 0
            handle = small.model.features.register_forward_hook(lambda module, inputs, output, keep=keep: output * keep)
            without = small.model(clip[None])[0]
            handle.remove()
        before.append(logits.softmax(0)[predicted].item())
        after.append(without.softmax(0)[predicted].item())
        stays.append(int(without.argmax()) == predicted)
    line = only(table, basis="raw", n=3, kind="removed")
    assert line.probability_before == pytest.approx(np.mean(before), abs=1e-6)
    assert line.probability_after == pytest.approx(np.mean(after), abs=1e-6)
    assert line["drop"] == pytest.approx(np.mean(before) - np.mean(after), abs=1e-6)
    assert line.accuracy_after == np.mean(stays)
    raw = basis_from_matrix(small.bank, "square", torch.eye(128))  # it has no scheme of its own
    assert line.purity == pytest.approx(raw.positive.purities.mean().item(), abs=1e-6)
    fitted = only(table, basis="APEX time, invertible", n=1, kind="kept")
    assert fitted.purity == pytest.approx(subject.fitted(small, "time", orthogonal=False).purity_history[-1].item())


def test_bases_are_compared_with_the_raw_channels_clip_by_clip(small, table):
    """The drop of every clip again, from the whole model's logits; Wilcoxon's test and Holm's correction by hand."""
    inputs = small.test_clips(16)[1]
    raw, rest = decompose(small, inputs), head(small.model, small.layer)
    drops, shares = {}, {}
    for channels in named_bases(small):
        parts = in_basis(raw, channels.basis)
        chosen = select_channels(parts.contributions, parts.activations, 3)
        part = torch.einsum("ck,nkft->ncft", channels.basis.inverse.float(), parts.features * chosen[:, :, None, None])
        y = raw.output.argmax(1)
        with torch.no_grad():
            before, after = (
                rest(Z).softmax(1)[range(16), y].double().numpy() for Z in (raw.features, raw.features - part)
            )
        drops[channels.name] = before - after
        positive = parts.contributions.clamp_min(0)
        shares[channels.name] = ((positive * chosen).sum(1) / positive.sum(1)).mean().item()
    p_values = {
        name: stats.wilcoxon(own - drops["raw"], zero_method="pratt").pvalue
        for name, own in drops.items()
        if name != "raw"
    }
    adjusted, largest = {}, 0.0
    for place, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = largest
    for name, own in drops.items():
        line = only(table, basis=name, n=3, kind="removed")
        assert line.over_raw == pytest.approx((own - drops["raw"]).mean(), abs=1e-6)
        assert line.over_raw_low <= line.over_raw <= line.over_raw_high
        assert line.contribution == pytest.approx(shares[name], abs=1e-5)
        assert np.isnan(line.p_holm) if name == "raw" else line.p_holm == pytest.approx(adjusted[name], rel=0.05)


def test_ica_that_does_not_converge_has_this_status(small, monkeypatch):
    monkeypatch.setattr("benchmarks.experiments.channels.ICA_ITERATIONS", 1)
    status = {channels.name: channels.status for channels in named_bases(small)}
    assert status.pop("ICA") == "not converged (1 iterations)"
    assert set(status.values()) == {"ok"}


def test_unfitted_bases_are_what_their_names_say(small):
    bases: dict[str, NamedBasis] = {channels.name: channels for channels in itertools.islice(named_bases(small), 4)}
    matrices, means = (
        {name: channels.basis.U.double() for name, channels in bases.items()},
        small.bank.means.double().mean(0),
    )
    identity = torch.eye(small.bank.n_channels, dtype=torch.float64)
    assert torch.equal(matrices["raw"], identity)
    for name in ("rotation", "PCA"):
        torch.testing.assert_close(matrices[name] @ matrices[name].T, identity, rtol=0, atol=1e-9)
    assert (matrices["rotation"] - identity).abs().max() > 0.5
    assert all((matrix @ means >= 0).all() for matrix in matrices.values())


def test_principal_directions_diagonalise_the_covariance_of_all_positions(small):
    """The small bank has fewer positions than are drawn, so all of them count."""
    positions = positions_of(small.bank, seed=0)
    grids = small.bank.cells[SCHEMES[0]].double().numpy()
    every = np.array([grids[clip, :, cell] for clip in range(24) for cell in range(grids.shape[2])])
    assert positions.shape == every.shape
    np.testing.assert_array_equal(positions[np.lexsort(positions.T)], every[np.lexsort(every.T)])
    mean = sum(every) / len(every)
    covariance = sum(np.outer(position - mean, position - mean) for position in every) / len(every)
    in_pca = principal_directions(positions).numpy() @ covariance @ principal_directions(positions).numpy().T
    variances = np.diag(in_pca)
    assert (np.diff(variances) <= 1e-12).all()
    np.testing.assert_allclose(in_pca, np.diag(variances), atol=1e-9 * variances[0])


def test_many_positions_are_sampled_with_a_seed(small, monkeypatch):
    every = {tuple(position) for position in positions_of(small.bank, seed=0)}
    monkeypatch.setattr("benchmarks.experiments.channels.N_POSITIONS", 100)
    first, again, other = (positions_of(small.bank, seed=seed) for seed in (0, 0, 1))
    assert first.shape == (100, small.bank.n_channels)
    assert {tuple(position) for position in first} <= every
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_ica_finds_the_sources_of_a_mixture():
    """Uniform and exponential sources through a known matrix; U · mixing has one large entry per row and column."""
    random = np.random.default_rng(0)
    sources = np.stack([random.uniform(-1, 1, 5000), random.laplace(size=5000), random.laplace(size=5000) ** 3], 1)
    sources /= sources.std(0)
    mixing = np.array([[1.0, 0.5, 0.2], [0.3, 1.0, -0.4], [-0.2, 0.6, 1.0]])
    U, converged = independent_directions(sources @ mixing.T + 7.0, seed=0)
    found = np.abs(U.numpy() @ mixing)
    assert converged
    assert sorted(found.argmax(1)) == [0, 1, 2]
    np.testing.assert_allclose(np.sort(found, 1), np.tile([0, 0, 1], (3, 1)), atol=0.07)


def test_ica_stays_invertible_where_channels_are_silent(small):
    """And where whitening is possible, it makes variances of one."""
    positions = positions_of(small.bank, seed=0)
    positions[:, 3] = 0
    positions[:, 7] = positions[:, 8]
    U = independent_directions(positions, seed=0)[0]
    assert torch.linalg.matrix_rank(U) == small.bank.n_channels
    assert torch.linalg.cond(U) < 1e4
    variances = (positions @ U.numpy().T).var(0)
    assert (np.abs(variances - 1) < 1e-6).sum() > 5


def test_upright_turns_channels_with_a_negative_mean():
    U, means = torch.tensor([[1.0, -2.0], [1.0, 1.0]]), torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 3.0]])
    assert torch.equal(upright(U, means), torch.tensor([[-1.0, 2.0], [1.0, 1.0]]))


def test_invertible_bases_are_fitted_once(small, monkeypatch):
    assert subject.fitted(small, "time") is small.bases["time"]
    first = subject.fitted(small, "time", orthogonal=False)
    torch.testing.assert_close(
        first.U, fit_basis(small.bank, "time", orthogonal=False, epochs=1, n_prototypes=(8, 2)).U
    )
    with monkeypatch.context() as patch:
        patch.setattr(subject, "fit_basis", None)
        assert torch.equal(first.U, subject.fitted(small, "time", orthogonal=False).U)
    monkeypatch.setattr(subject, "FIT", QUICK | {"epochs": 2})
    assert not torch.equal(first.U, subject.fitted(small, "time", orthogonal=False).U)


# --- purity and truth -------------------------------------------------------------------------------------------------


def test_purities_are_those_of_the_prototypes(small):
    """Of all 128 channels' two prototypes each, for the scheme with the fewest cells."""
    frame = purity_table(small)
    assert list(frame.scheme) == list(SCHEMES)
    line = only(frame, scheme="frequency")
    grids = small.bank.cells[SCHEMES[0]].double().unflatten(2, small.bank.origin.grid)
    cells = torch.stack(
        [torch.stack(oracles.sequences(grid, "frequency")[0]) for grid in grids]
    )  # (clip, cell, channel)
    invertible = subject.fitted(small, "frequency", orthogonal=False)
    bases = {"raw": torch.eye(128), "orthogonal": small.bases["frequency"].U, "invertible": invertible.U}
    for name, U in bases.items():
        in_U = torch.einsum("kc,nlc->nlk", U.double(), cells)
        purities = []
        for k in range(128):
            for clip in in_U[:, :, k].mean(1).argsort(descending=True)[:2]:
                vector = in_U[clip, in_U[clip, :, k].argmax()]
                purities.append((vector[k] / vector.norm()).item())
        assert line[name] == pytest.approx(np.mean(purities), abs=1e-5)
    singular = np.linalg.svd(invertible.U.double().numpy(), compute_uv=False)
    assert line.condition == pytest.approx(singular.max() / singular.min())


def test_truth_names_every_scheme_on_the_clips_that_are_made_for_it(small):
    frame = truth_table(small)
    assert list(frame.scheme) == list(SCHEMES)
    assert list(frame.clips) == [4] * 4
    shares = frame[["cell", "found", "enlarged", "integrated"]].to_numpy()
    assert np.isin(shares, [0, 0.25, 0.5, 0.75, 1]).all()
    assert frame[["random", "iou_cell", "iou_found", "area_cell", "area_found"]].stack().between(0, 1).all()


def test_regions_on_a_known_truth(small, monkeypatch):
    """The cell is the rows 0 to 7, the found region the rows 0 to 15, the event the rows 8 to 23 of 64."""

    def rows(low, high):
        mask = torch.zeros(64, 126, dtype=torch.bool)
        mask[low:high] = True
        return mask

    regions = {"cell": rows(0, 8), "found": rows(0, 16)}
    monkeypatch.setattr(truth, "region_masks", lambda band_shares, explanation, size, region: regions[region][None])
    task = dataclasses.replace(small.task, truth=lambda index: rows(8, 24))
    line = only(truth_table(dataclasses.replace(small, task=task)), scheme="frequency")
    assert [line.cell, line.found] == [0.0, 1.0]
    assert [line.iou_cell, line.iou_found] == pytest.approx([0.0, 8 / 24])
    assert [line.area_cell, line.area_found] == pytest.approx([8 / 64, 16 / 64])
    assert line.random == pytest.approx(23 / 48, abs=0.1)  # other first rows: 1 to 48; the event is met up to row 23


def test_a_missed_event_is_told_from_one_that_the_channel_does_not_hear(small, monkeypatch):
    """Found regions of three channels, of which the strongest meets the event in two of four clips only."""
    clips = truth_clips(small, SCHEMES[2])
    event, off = torch.zeros(2, 64, 126, dtype=torch.bool)
    event[8:24] = True
    off[40:50] = True
    clips = dataclasses.replace(clips, truth=event.expand(4, -1, -1))
    regions = iter([[event] * 3, [off] * 3, [off, off, event], [event, off, off]])
    monkeypatch.setattr(missed_events, "region_masks", lambda *_: torch.stack(next(regions)))
    shares = missed_events.event_shares(small, SCHEMES[2], clips)
    assert shares["any_of_three"] == 0.75
    explanations = explanations_of(small, small.bases[SCHEMES[2]], clips.inputs, n_channels=1)
    fill = fill_values(clips, SURROUNDINGS, SCHEMES[2])
    falls = []
    for clip, explanation in enumerate(explanations):
        apex = LayerAPEX(small.model, small.layer, small.bases[SCHEMES[2]])
        inputs = clips.inputs[clip : clip + 1]
        silenced = torch.where(event, fill[clip : clip + 1], inputs)
        contributions = apex.decompose(torch.cat([inputs, silenced]), clips.target[clip].repeat(2)).contributions
        before, after = contributions[:, explanation.evidence[0].channel].tolist()
        falls.append(1 - after / before)
    assert shares["event_met"] == pytest.approx(np.median([falls[0], falls[3]]), abs=1e-5)
    assert shares["event_missed"] == pytest.approx(np.median(falls[1:3]), abs=1e-5)


def test_a_channels_share_on_the_truth_counts_clips_whose_strongest_region_meets_it(small):
    """With a truth that is the upper half of the bands, by the oracle's peak."""
    upper = torch.zeros(64, 126, dtype=torch.bool)
    upper[32:] = True
    task, bases = dataclasses.replace(small.task, truth=lambda index: upper), {SCHEMES[2]: small.bases[SCHEMES[2]]}
    found = truth_table(dataclasses.replace(small, task=task, bases=bases))
    U, A, met = small.bases["frequency"].U.double(), small.model.classifier.weight.double(), []
    for index in (i for i in range(16) if small.task.classes[small.task.test[i][1]] in ("low band", "high band")):
        clip = small.task.test[index][0][None]
        with torch.no_grad():
            Z, y = small.model.features(clip)[0].double(), small.model(clip).argmax()
        G = (A[y] / Z[0].numel())[:, None, None].expand_as(Z).detach()
        strongest = oracles.evidence(oracles.relevance(Z, G, U), Z, U, 1)[0]
        met.append(oracles.peaks_and_purity(Z, U, strongest, "frequency")[0][0] >= 4)
    assert only(found, scheme="frequency").cell == np.mean(met)


def test_a_map_that_is_the_truth_always_points_at_it(small):
    truths = [small.task.truth(i) for i in range(16)]
    for scheme in SCHEMES[:3]:
        places = truth._strongest_places(torch.stack(truths)[:, None].double(), scheme, small.bases[scheme])
        masks = torch.stack([place.mask(64, 126) for place in places])
        assert truth._share_met(masks, torch.stack(truths)) == 1.0


@pytest.mark.parametrize("change", [{"truth": None}, {"schemes": None}])
def test_where_no_truth_is_known_there_are_no_lines(small, change):
    frame = truth_table(dataclasses.replace(small, task=dataclasses.replace(small.task, **change)))
    assert len(frame) == 0
    assert list(frame.columns) == list(TRUTH_COLUMNS)


# --- the masking test -------------------------------------------------------------------------------------------------


def boxes(scheme, size, n=3, seed=0):
    """The union of a few small boxes of the scheme's shape, bool (frequency, time)."""
    random, mask = np.random.default_rng(seed), torch.zeros(size, dtype=torch.bool)
    for _ in range(n):
        high, long = random.integers(1, 5, 2)
        low, start = random.integers(0, size[0] - high + 1), random.integers(0, size[1] - long + 1)
        rows = slice(None) if scheme == "time" else slice(low, low + high)
        mask[rows, slice(None) if scheme == "frequency" else slice(start, start + long)] = True
    return mask


@pytest.mark.parametrize("scheme", SCHEMES)
def test_random_regions_have_as_many_bins_in_as_many_pieces(scheme):
    generator, changed = torch.Generator().manual_seed(0), 0
    for seed in range(30):
        mask = boxes(scheme, (16, 30), seed=seed)
        for other in moved(mask.expand(4, -1, -1), generator):
            assert other.sum() == mask.sum()
            changed += not torch.equal(other, mask)
            # a cyclic shift: the numbers of bins in rows and in columns are shifted cyclically as well
            for axis in (0, 1):
                counts = [mask.sum(axis).roll(shift).tolist() for shift in range(mask.shape[1 - axis])]
                assert other.sum(axis).tolist() in counts
            # no box is cut: pieces can only have joined, where both touched an end
            assert ndimage.label(other)[1] <= ndimage.label(mask)[1]
    assert changed > 60


def test_all_other_places_are_equally_likely():
    """A single bin on a grid of 12: χ² with 10 degrees of freedom stays below its 99.9th percentile, 29.6."""
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1, 2] = True
    generator = torch.Generator().manual_seed(0)
    counts = sum(elsewhere(mask, generator).long() for _ in range(2200))
    assert counts[1, 2] == 0
    assert ((counts[counts > 0] - 200) ** 2 / 200).sum() < 29.6


def test_a_mask_that_fills_an_axis_or_is_empty_does_not_change():
    generator = torch.Generator().manual_seed(0)
    for mask in (torch.ones(4, 5, dtype=torch.bool), torch.zeros(4, 5, dtype=torch.bool)):
        assert torch.equal(elsewhere(mask, generator), mask)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_cells_are_those_of_the_evidences_peaks(precise, scheme):
    inputs = torch.randn(
        2, 1, 64, 126, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )  # peaks all over the grid
    basis = precise.bases[scheme]
    explanations, U = explanations_of(precise, basis, inputs, 3), basis.U.double()
    with torch.no_grad():
        grids, logits = precise.model.features(inputs), precise.model(inputs)
    for explanation, y, Z in zip(explanations, logits.argmax(1), grids, strict=True):
        G = (precise.model.classifier.weight[y] / Z[0].numel())[:, None, None].expand_as(Z).detach()
        chosen = oracles.evidence(oracles.relevance(Z, G, U), Z, U, 3)
        masks = region_masks(None, explanation, (64, 126), "cell")
        located = region_masks(None, explanation, (64, 126), "found")
        assert masks.shape == located.shape == (len(chosen), 64, 126)
        by_channel = {evidence.channel: index for index, evidence in enumerate(explanation.evidence)}
        for k in chosen:
            peaks = oracles.peaks_and_purity(Z, U, k, str(scheme))[0]
            sequences = [
                oracles.region_mask([peak], str(sequence), (8, 15), (64, 126)) > 0
                for peak, sequence in zip(peaks, scheme.sequences, strict=True)
            ]
            assert torch.equal(masks[by_channel[int(k)]], torch.stack(sequences).all(0))


def test_a_clip_without_evidence_has_no_masks(small):
    nothing = SimpleNamespace(evidence=())
    assert region_masks(None, nothing, (64, 126), "found").shape == (0, 64, 126)


def test_the_fill_of_the_search_blurs_along_the_axis_of_the_scheme(small):
    stage = Stage.of(small, 3)
    for scheme, sigma in (("time", (0.0, 0.25)), ("frequency", (0.25, 0.0))):
        expected = blur_fill(stage.inputs, sigma)
        assert torch.equal(fill_values(stage, "surroundings", small.bases[scheme].scheme), expected)
    assert torch.equal(fill_values(stage, "mean", SCHEMES[1]), mean_fill(stage.inputs))


def test_the_fall_of_a_channel_is_that_of_its_contribution(small):
    """The head is linear, so a channel's contribution to the same class in the masked clip is its value there."""
    basis, stage = small.bases["time"], Stage.of(small, 3)
    explanations = explanations_of(small, basis, stage.inputs, 2)
    masks = [region_masks(None, explanation, (64, 126), "found") for explanation in explanations]
    channels = [[evidence.channel for evidence in explanation.evidence] for explanation in explanations]
    fill = mean_fill(stage.inputs)
    falls = EvidenceChannels.of(stage, basis, channels).falls(fill, [torch.stack([m, m.flip(2)]) for m in masks])
    apex, expected = LayerAPEX(small.model, small.layer, basis), []
    for clip, explanation in enumerate(explanations):
        for evidence, mask in zip(explanation.evidence, masks[clip], strict=True):
            one, y = stage.inputs[clip : clip + 1], int(stage.target[clip])
            hidden = [torch.where(m, fill[clip], one) for m in (mask, mask.flip(1))]
            after = [apex.decompose(each, y).contributions[0, evidence.channel].item() for each in hidden]
            expected.append([1 - value / evidence.contribution for value in after])
    assert falls.T.numpy() == pytest.approx(np.array(expected), abs=1e-3)


def test_the_summary_has_the_numbers_of_both_experiments(small):
    whole = in_time(small)
    line = region_summary(whole, 3).iloc[0]
    tested = region_masking.masking_test(whole, 3, draws=2).set_index(["fill", "region"])
    places = truth_table(whole).iloc[0]
    assert [line.task, line.network, line.seed, line.scheme, line.clips] == ["scenes", "cnn", 0, "time", 3]
    assert [line["cell"], line.found, line.random, line.iou_found, line.area_cell] == pytest.approx(
        [places["cell"], places.found, places.random, places.iou_found, places.area_cell]
    )
    for column, (region, name) in {
        "drop_cell": ("cell", "drop"),
        "drop_found": ("found", "drop"),
        "drop_random": ("found", "drop_random"),
        "channel_cell": ("cell", "channel"),
        "channel_random": ("found", "channel_random"),
        "share_found": ("found", "share"),
        "p": ("found", "p"),
    }.items():
        assert line[column] == pytest.approx(tested.loc[("surroundings", region), name])
    for fill in ("silence", "mean"):
        assert line[f"drop_cell_{fill}"] == pytest.approx(tested.loc[(fill, "cell"), "drop"])
        assert line[f"channel_found_{fill}"] == pytest.approx(tested.loc[(fill, "found"), "channel"])
        assert line[f"drop_random_{fill}"] == pytest.approx(tested.loc[(fill, "found"), "drop_random"])


# --- output invariance ------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_their_definitions():
    """Three classes, with ties; one class against the rest, pair by pair and threshold by threshold."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(40, 3, generator=generator).mul(2).round().double(), torch.arange(40) % 3
    found = metrics(logits, labels)
    scores = logits.softmax(1)
    ranking, precision = [], []
    for k in range(3):
        positive, negative = scores[labels == k, k], scores[labels != k, k]
        ranking.append(np.mean([0.5 * (p == n) + 1.0 * (p > n) for p in positive for n in negative]))
        area, recall_before = 0.0, 0.0
        for threshold in sorted(set(scores[:, k].tolist()), reverse=True):
            hits, alarms = (positive >= threshold).sum().item(), (negative >= threshold).sum().item()
            area += (hits / len(positive) - recall_before) * hits / (hits + alarms)
            recall_before = hits / len(positive)
        precision.append(area)
    assert found["accuracy"] == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert found["auroc"] == pytest.approx(np.mean(ranking), abs=1e-6)
    assert found["mean_average_precision"] == pytest.approx(np.mean(precision), abs=1e-6)
    assert np.isnan(found["eer"])


def test_the_equal_error_rate_is_where_misses_and_false_alarms_are_as_frequent():
    """From a threshold of 0.6 on, one of three positives is missed and one of three negatives taken for one."""
    positive = torch.tensor([0.9, 0.6, 0.4, 0.7, 0.3, 0.2], dtype=torch.float64)
    logits = torch.stack([torch.zeros(6), positive.logit()], 1)
    assert metrics(logits, torch.tensor([1, 1, 1, 0, 0, 0]))["eer"] == pytest.approx(1 / 3)


def test_the_classifier_with_a_basis_inside_decides_as_before(small):
    frame = invariance_table(small)
    assert list(frame.model) == [
        "plain",
        *(f"with U, {scheme}{kind}" for scheme in SCHEMES for kind in ("", ", invertible")),
    ]
    assert set(frame.status) == {"ok"}
    plain = frame.iloc[0]
    labels = torch.tensor([small.task.test[i][1] for i in range(16)])
    with torch.no_grad():
        logits = small.model(small.test_clips(16)[1])
    assert plain.accuracy == (logits.argmax(1) == labels).double().mean().item()
    assert plain.largest_difference == 0
    assert (frame.largest_difference[1:] > 0).all()
    assert (frame.largest_difference < 1e-4).all()
    assert set(frame.same_predictions) == {1.0}
    for column in ("accuracy", "auroc", "mean_average_precision"):
        assert frame[column].to_numpy() == pytest.approx(plain[column], abs=1e-6)


def test_the_convnext_with_a_basis_inside_decides_as_before(small, monkeypatch):
    """U⁻¹ stands before its LayerNorm there."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NETWORKS["convnext"](8).eval()
    bank = FeatureBank.from_dataset(
        model, explained_layer(model), [small.task.train[i] for i in range(2)], schemes=["time"]
    )
    basis = PrototypeBasis(random_matrix(bank.n_channels).float(), "time", origin=bank.origin)
    convnext = subject.Subject(small.task, "convnext", model, bank, {SCHEMES[1]: basis}, seed=0)
    monkeypatch.setattr(invariance, "fitted", lambda subject, scheme, orthogonal=True: basis)
    frame = invariance_table(convnext)
    assert list(frame.model) == ["plain", "with U, time", "with U, time, invertible"]
    assert frame.largest_difference[1:].between(0, 1e-4, inclusive="neither").all()
    assert set(frame.same_predictions) == {1.0}


def test_a_copy_with_other_predictions_is_detected(small, monkeypatch):
    """The largest of the differences, in either direction, over all clips and classes."""

    def wrong(model, layer, basis):
        broken = PlainCNN(8).eval()
        broken.load_state_dict(model.state_dict())
        broken.classifier.weight.data = model.classifier.weight.data.flip(0)
        broken.classifier.bias.data[2] -= 1
        return broken

    monkeypatch.setattr(invariance, "insert_basis", wrong)
    frame = invariance_table(small)
    with torch.no_grad():
        inputs = small.test_clips(16)[1]
        logits, bad = small.model(inputs), wrong(small.model, None, None)(inputs)
    differences = [
        abs(a - b)
        for one, other in zip(logits.tolist(), bad.tolist(), strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    assert frame.largest_difference[1:].to_numpy() == pytest.approx(max(differences), abs=1e-6)
    assert max(differences) > 0.01
    assert (bad - logits).max().item() < 0.9 * max(differences)
    assert frame.same_predictions[1:].to_numpy() == pytest.approx(
        (logits.argmax(1) == bad.argmax(1)).double().mean().item()
    )


def test_a_basis_that_cannot_be_inserted_has_a_line_with_the_reason(small, monkeypatch):
    def refuse(model, layer, basis):
        raise ValueError("expected only pooling")

    monkeypatch.setattr(invariance, "insert_basis", refuse)
    frame = invariance_table(small)
    assert list(frame.status) == ["ok"] + ["error (expected only pooling)"] * 8
    assert frame.accuracy[1:].isna().all()
