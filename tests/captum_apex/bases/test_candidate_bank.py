"""Banks that keep the cells of candidates alone, against banks of all cells."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from torch.utils.data import DataLoader

from captum_apex import FeatureBank, PrototypeBasis, basis_from_matrix, fit_basis
from captum_apex.bases import CandidateBank
from captum_apex.bases.feature_pass import FeaturePass
from tests.captum_apex.bases.test_shared_bank import in_group
from tests.networks import build, clips

N_CLIPS = 40
FITS = {
    "gradient": partial(fit_basis, epochs=3, n_prototypes=(6, 3)),
    "closed-form": partial(fit_basis, method="closed-form", epochs=3, n_prototypes=(6, 3)),
}


def items(widths=(10,)):
    return [(clip[..., : widths[i % len(widths)]], i % 3) for i, clip in enumerate(clips(N_CLIPS))]


def maker(**settings):
    model, layer = build("pooling")
    return partial(FeatureBank.from_dataset, model, layer, **{"batch_size": 4, **settings})


def assert_same_prototypes(found, expected):
    assert found.origin == expected.origin
    for side in ("positive", "negative"):
        ours, theirs = getattr(found, side), getattr(expected, side)
        assert torch.equal(ours.indices, theirs.indices)
        assert torch.equal(ours.peaks, theirs.peaks)
        assert torch.equal(ours.labels, theirs.labels)
        torch.testing.assert_close(ours.purities, theirs.purities, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours.activations, theirs.activations, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", FITS)
def test_where_all_clips_are_candidates_the_basis_is_that_of_the_whole_bank(method):
    bank = CandidateBank(maker(), items(), schemes=["time-frequency"], n_candidates=N_CLIPS)
    expected = FITS[method](maker()(items()), "time-frequency")
    found = bank.fit("time-frequency", FITS[method])
    torch.testing.assert_close(found.U, expected.U, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.purity_history, expected.purity_history, rtol=0, atol=1e-6)
    assert_same_prototypes(found, expected)
    assert bank.missing(found) == 0


@pytest.mark.parametrize("method", FITS)
@pytest.mark.parametrize("scheme", ["square", "time", "time-frequency"])
def test_the_prototypes_are_those_of_all_clips(method, scheme):
    """Also where the fit has few candidates: the matrix depends on them, but its prototypes do not."""
    bank = CandidateBank(maker(), items(), schemes=["square", "time", "frequency"], n_candidates=2)
    assert len(bank.clips) <= 2 * bank.whole.n_channels
    assert bank.candidates.n_clips == len(bank.clips) < N_CLIPS
    found = bank.fit(scheme, FITS[method])
    assert_same_prototypes(found, basis_from_matrix(maker()(items()), scheme, found.U, n_prototypes=3))
    named = set(found.positive.indices.flatten().tolist()) | set(found.negative.indices.flatten().tolist())
    assert not named <= set(bank.clips.tolist())  # the test is of something


@pytest.mark.parametrize("widths", [(10, 6), (6, 6, 6, 6, 6, 6, 6, 10)])
@pytest.mark.parametrize("scheme", ["square", "time"])
def test_the_prototypes_of_several_lengths_are_those_of_all_clips(widths, scheme):
    make = maker(batch_size=1)
    bank = CandidateBank(make, items(widths), schemes=["square", "time"], n_candidates=2)
    found = bank.fit(scheme, FITS["closed-form"])
    expected = basis_from_matrix(make(items(widths)), scheme, found.U, n_prototypes=3)
    assert_same_prototypes(found, expected)
    assert torch.equal(found.positive.columns, expected.positive.columns)


def test_prototypes_that_are_shorter_than_other_clips_know_their_columns():
    """All prototypes are short, so that their bank has one length, but the dataset has a long, silent clip."""
    short = [(10 * clip[..., :6], 0) for clip in clips(9)]
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
    both = [(torch.cat([clip, -clip]), label) for clip, label in short]  # each channel has a negative one
    dataset = [*both, (torch.zeros(2, 8, 10, dtype=torch.float64), 0)]
    make = partial(FeatureBank.from_dataset, model, model[0], batch_size=1)
    bank = CandidateBank(make, dataset, schemes=["square"], n_candidates=2)
    found = bank.fit("square", partial(fit_basis, epochs=0, n_prototypes=(2, 2)))
    expected = basis_from_matrix(make(dataset), "square", found.U, n_prototypes=2)
    assert 9 not in expected.positive.indices
    assert_same_prototypes(found, expected)
    assert torch.equal(found.positive.columns, expected.positive.columns)


@pytest.fixture
def sizes(monkeypatch):
    run_model, seen = FeaturePass._run, []
    monkeypatch.setattr(
        FeaturePass, "_run", lambda self, inputs, *more: seen.append(len(inputs)) or run_model(self, inputs, *more)
    )
    return seen


def test_the_model_runs_over_all_clips_then_candidates_then_prototypes(tmp_path, sizes):
    settings = {"schemes": ["time"], "n_candidates": 2, "folder": tmp_path}
    bank = CandidateBank(maker(), items(), **settings)
    assert sum(sizes) == N_CLIPS + len(bank.clips)
    sizes.clear()
    found = bank.fit("time", FITS["closed-form"])
    n_prototypes = len(torch.cat([found.positive.indices, found.negative.indices]).unique())
    assert sum(sizes) == n_prototypes
    sizes.clear()
    again = CandidateBank(maker(), items(), **settings)
    assert not sizes  # both passes are in the folder
    torch.testing.assert_close(again.fit("time", FITS["closed-form"]).U, found.U, rtol=0, atol=0)
    sizes.clear()
    more = CandidateBank(maker(), items(), **{**settings, "n_candidates": 3})
    assert sum(sizes) == len(more.clips)


def test_the_share_of_missing_clips_is_counted():
    bank = CandidateBank(maker(), items(), schemes=["time"], n_candidates=2)
    basis = bank.fit("time", FITS["gradient"])
    levels = bank.whole.means.double() @ basis.U.T.double()
    best = [sorted(range(N_CLIPS), key=lambda clip: -levels[clip, k])[:4] for k in range(levels.shape[1])]
    pairs = [clip for clips_of_channel in best for clip in clips_of_channel]
    expected = sum(clip not in bank.clips.tolist() for clip in pairs) / len(pairs)
    assert 0 < expected < 1
    assert bank.missing(basis, n_prototypes=4) == pytest.approx(expected)


def test_the_messages_name_the_clip_in_the_dataset():
    dataset = items()
    bank = CandidateBank(maker(), dataset, schemes=["time"], n_candidates=2)
    wrong = bank.clips[3].item()
    dataset[wrong] = (torch.full_like(dataset[wrong][0], torch.nan), 0)
    with pytest.raises(ValueError, match=f"clip {wrong}"):
        bank._made(bank.clips, ["time"], None)


def test_a_loader_is_refused():
    with pytest.raises(TypeError, match="expected `dataset` to be the dataset itself, .* got a DataLoader; give its"):
        CandidateBank(maker(), DataLoader(items()))


# --- several processes --------------------------------------------------------

WIDTHS = {"one length": (10,), "several lengths": (6, 6, 6, 6, 6, 6, 6, 10)}
CASES = [(fit, scheme, widths) for fit in FITS for scheme in ("square", "time-frequency") for widths in WIDTHS]


def candidates_of(widths, **settings):
    make = maker(batch_size=4 if widths == "one length" else 1)
    return CandidateBank(make, items(WIDTHS[widths]), n_candidates=2, **settings)


def fit_all(rank, folder):
    """The bases, the shares of missing clips, and how many clips this process has run in the passes."""
    group = distributed.group.WORLD
    facts = {}
    for widths in WIDTHS:
        bank = candidates_of(widths, folder=Path(folder, widths), group=group)
        facts[widths] = [bank.whole.n_clips, bank.candidates.n_clips, bank.clips.tolist()]
        for fit, scheme, _ in (case for case in CASES if case[2] == widths):
            basis = bank.fit(scheme, FITS[fit])
            basis.save(Path(folder, f"{fit} {scheme} {widths}-{rank}.safetensors"))
            facts[f"{fit} {scheme} {widths}"] = bank.missing(basis, n_prototypes=4)
    Path(folder, f"facts-{rank}.json").write_text(json.dumps(facts))
    wrong_candidates(rank, folder)
    distributed.barrier()  # a process that ends early closes its connections while the other still reads


def wrong_candidates(rank, folder):
    """What the errors say in each process; in the second pass, a clip of the last part has NaN."""
    group, make = distributed.group.WORLD, maker()
    dataset = items()
    wrong = CandidateBank(maker(), dataset, schemes=["time"], n_candidates=2).clips[-1].item()

    def changing(*call, **settings):
        bank = make(*call, **settings)
        dataset[wrong] = (torch.full_like(dataset[wrong][0], torch.nan), 0)
        return bank

    messages = [str(wrong)]
    for name, making, n_candidates in (("pass", changing, 2), ("settings", maker(), 2 + rank)):
        try:
            given = dataset if name == "pass" else items()
            CandidateBank(making, given, n_candidates=n_candidates, folder=Path(folder, name), group=group)
        except ValueError as error:
            messages.append(str(error))
    Path(folder, f"messages-{rank}.json").write_text(json.dumps(messages))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    multiprocessing.spawn(in_group, (fit_all, str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize(("fit", "scheme", "widths"), CASES)
def test_a_fit_on_candidates_in_two_processes_is_that_of_one(fitted, fit, scheme, widths):
    expected = candidates_of(widths).fit(scheme, FITS[fit])
    bases = [PrototypeBasis.load(fitted / f"{fit} {scheme} {widths}-{rank}.safetensors") for rank in range(2)]
    for found in bases:
        torch.testing.assert_close(found.U, expected.U, rtol=0, atol=1e-9)
        torch.testing.assert_close(found.purity_history, expected.purity_history, rtol=0, atol=1e-6)
        assert_same_prototypes(found, expected)
        for side in ("positive", "negative"):
            ours, theirs = getattr(found, side).columns, getattr(expected, side).columns
            assert (ours is None) == (theirs is None) == (widths == "one length")
            assert ours is None or torch.equal(ours, theirs)
    assert torch.equal(bases[0].U, bases[1].U)


def test_the_processes_share_the_passes_and_know_all_candidates(fitted):
    first, second = (json.loads((fitted / f"facts-{rank}.json").read_text()) for rank in range(2))
    for widths in WIDTHS:
        alone = candidates_of(widths)
        assert first[widths][2] == second[widths][2] == alone.clips.tolist()
        assert 0 < first[widths][0] < N_CLIPS
        assert 0 < first[widths][1] < len(alone.clips)
        for place, n_clips in enumerate((N_CLIPS, len(alone.clips))):
            assert first[widths][place] + second[widths][place] == n_clips
    for fit, scheme, widths in CASES:
        name = f"{fit} {scheme} {widths}"
        basis = PrototypeBasis.load(fitted / f"{name}-0.safetensors")
        assert first[name] == second[name] == candidates_of(widths).missing(basis, n_prototypes=4)


def test_an_error_of_a_pass_or_other_settings_are_errors_in_all_processes(fitted):
    first, second = (json.loads((fitted / f"messages-{rank}.json").read_text()) for rank in range(2))
    assert first == second
    wrong, of_pass, of_settings = first
    assert of_pass.startswith("in process 1 of the group: expected finite values, but the inputs of clip ")
    assert f"clip {wrong} " in of_pass
    assert of_settings == (
        "expected the same n_candidates in all processes of the group, but process 1 has 3, and process 0 2"
    )


def test_a_group_needs_a_folder():
    with pytest.raises(ValueError, match="expected a `folder` that keeps the parts of the processes of the group"):
        CandidateBank(maker(), items(), group=object())
