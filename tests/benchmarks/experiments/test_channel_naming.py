"""Names of channels after planted sounds: the shares are those of a loop over channels, prototypes and sounds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.experiments import channel_naming
from benchmarks.experiments.channel_naming import COLUMNS, MEASURES, hits_of, names_held, naming_lines
from benchmarks.experiments.compared_bases import matrix_of
from benchmarks.experiments.prototype_quality import unseen_bank
from benchmarks.tasks.scene_parts import parts_of
from captum_apex import Box, FeatureBank, Region, basis_from_matrix
from captum_apex.metrics.prototypes import PartHits, ProposedNames, part_hits, part_names
from tests.small import small_subject


@pytest.fixture(scope="module")
def small():
    whole = small_subject()
    return replace(whole, seed=3, bases={scheme: whole.bases[scheme] for scheme in ("time", "time-frequency")})


@pytest.fixture(scope="module")
def unseen(small):
    return unseen_bank(small)


def test_the_bank_of_unseen_clips_is_that_of_the_test_split(small, unseen):
    plain = FeatureBank.from_dataset(small.model, small.layer, small.task.test, places=False)
    assert torch.equal(unseen.means, plain.means)
    assert unseen.origin.places == small.bank.origin.places


def test_the_sounds_are_those_in_the_peak_cells(small):
    basis = basis_from_matrix(small.bank, "time-frequency", torch.eye(128), n_prototypes=3)
    found = hits_of(small, "train", basis, basis.positive.peaks)
    grid = basis.origin.grid
    for channel in (0, 5, 77):
        for rank, clip in enumerate(basis.prototype_indices[channel].tolist()):
            region = basis.region(basis.positive.peaks[channel, rank].tolist(), *grid, intersection=True)
            parts = parts_of(3, "train", clip)
            shown = part_hits([[region]], torch.tensor([[0]]), [parts])
            expected = {name for name, hit in zip(shown.names, shown.hits[0, 0].tolist(), strict=True) if hit}
            here = zip(
                found.names, found.hits[channel, rank].tolist(), found.present[channel, rank].tolist(), strict=True
            )
            for name, hit, is_present in here:
                assert (hit, is_present) == (name in expected, name in parts)


def test_the_lines_have_the_shares_of_channels(small, unseen, monkeypatch):
    monkeypatch.setattr(channel_naming, "N_PROTOTYPES", 6)
    lines = naming_lines(small, "rotation", unseen)
    assert tuple(lines.columns) == COLUMNS
    assert lines["scheme"].tolist() == ["time", "time-frequency"]
    U = matrix_of(small, "time", "rotation", 3)
    basis = basis_from_matrix(small.bank, "time", U, n_prototypes=6)
    proposed = part_names(hits_of(small, "train", basis, basis.positive.peaks))
    line = lines.iloc[0]
    assert line["named"] == pytest.approx(sum(p <= 0.05 for p in proposed.p_values.tolist()) / 128)
    order = torch.randperm(128 * 6, generator=torch.Generator().manual_seed(3)).tolist()
    peaks = basis.positive.peaks
    moved = torch.stack([peaks[pair // 6, pair % 6] for pair in order]).view(128, 6, -1)
    names = part_names(hits_of(small, "train", basis, moved)).names
    assert line["moved"] == pytest.approx(len(names) / 128)
    of_test = basis_from_matrix(unseen, "time", U, n_prototypes=6)
    held = names_held(proposed, hits_of(small, "test", of_test, of_test.positive.peaks))
    assert line[list(held)].to_dict() == pytest.approx(held, nan_ok=True)


def test_the_control_exchanges_the_cells_of_all_prototypes(small):
    basis = basis_from_matrix(small.bank, "time-frequency", torch.eye(128), n_prototypes=3)
    peaks = basis.positive.peaks
    moved = channel_naming._moved(basis, seed=3)
    assert moved.shape == peaks.shape
    assert sorted(moved.flatten(0, 1).tolist()) == sorted(peaks.flatten(0, 1).tolist())  # each cell once
    assert (moved != peaks).any(2).double().mean() > 0.5
    assert torch.equal(channel_naming._moved(basis, seed=3), moved)


def test_names_that_hold_are_counted_channel_by_channel():
    generator = torch.Generator().manual_seed(0)
    names = ("low band", "middle band", "rising chirp", "talker")
    hits, present = (torch.rand(9, 6, 4, generator=generator) < share for share in (0.4, 0.7))
    present[4, :, 2] = False
    unseen = PartHits(names, hits, present)
    given = {0: "low band", 3: "talker", 4: "rising chirp", 7: "middle band", 8: "pip or arch"}
    proposed = ProposedNames(given, ("low band",) * 9, torch.zeros(9), torch.zeros(9))
    best = part_names(unseen).best
    shown, anywhere = [], []
    for channel, name in given.items():
        if name not in names:
            continue
        place = names.index(name)
        pairs = [(h, e) for h, e in zip(hits[channel, :, place], present[channel, :, place], strict=True) if e]
        if not pairs:
            continue
        shown.append(sum(bool(h) for h, _ in pairs) / len(pairs))
        everywhere = [
            bool(h) for h, e in zip(hits[..., place].flatten(), present[..., place].flatten(), strict=True) if e
        ]
        anywhere.append(sum(everywhere) / len(everywhere))
    assert len(shown) == 3
    assert names_held(proposed, unseen) == pytest.approx(
        {
            "class_event": 2 / 5,
            "same": sum(best[channel] == name for channel, name in given.items()) / 5,
            "shown": sum(shown) / 3,
            "anywhere": sum(anywhere) / 3,
        }
    )


def test_without_a_name_nothing_is_known_of_names():
    hits = torch.ones(3, 2, 1, dtype=torch.bool)
    found = names_held(ProposedNames({}, ("a",) * 3, torch.zeros(3), torch.ones(3)), PartHits(("a",), hits, hits))
    assert tuple(found) == MEASURES[2:]
    assert all(np.isnan(value) for value in found.values())


def made_parts(seed, split, index):
    """Every third clip has a low band, the others have a burst in its place; all have a talker above."""
    below, above = (Region((Box(low=low, high=low + 0.25, start=0.0, end=1.0),)) for low in (0.25, 0.75))
    return {("single burst" if index % 3 else "low band"): below, "talker": above}


def test_a_planted_channel_gets_the_name_of_its_sound_and_keeps_it(small, monkeypatch):
    """Channel 0 is active where the low band is; the others peak in the highest row, at the talker."""
    monkeypatch.setattr(channel_naming, "N_PROTOTYPES", 3)
    monkeypatch.setattr(channel_naming, "PARTS", {"scenes": made_parts})
    banks = []
    for n_clips in (24, 16):
        cells = 0.01 * torch.rand(n_clips, 128, 4, generator=torch.Generator().manual_seed(n_clips))
        cells[:, 1:, 3] += 1
        cells[::3, 0, 1] = 1
        origin = replace(small.bank.origin, grid=(4, 1), n_clips=n_clips, places=None)
        banks.append(FeatureBank({"frequency": cells}, cells.mean(2), None, origin))
    subject = replace(small, bank=banks[0], bases={"frequency": None})
    (line,) = naming_lines(subject, "raw", banks[1]).to_dict("records")
    assert line.pop("scheme") == "frequency"
    with_low_band = basis_from_matrix(banks[1], "frequency", torch.eye(128), n_prototypes=3).prototype_indices % 3 == 0
    assert line.pop("anywhere") == pytest.approx((with_low_band[0].sum() / with_low_band.sum()).item())
    assert line.pop("moved") <= 1 / 128
    assert line == {"named": 1 / 128, "class_event": 1, "same": 1, "shown": 1}
