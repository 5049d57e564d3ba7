"""Regions of prototypes: on demand and stored in a basis, in its file and in files without them."""

import dataclasses

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from captum_apex import (
    APEX,
    SCHEMES,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    RegionSearch,
    basis_from_matrix,
    explain,
    locate_prototypes,
)
from captum_apex.explanations.explanation import prototypes_of
from captum_apex.explanations.prototype_regions import PrototypeRegions, stored_region
from captum_apex.masking.fills import blur_fill
from tests.captum_apex.attribution.test_lengths import bank as bank_of_lengths
from tests.captum_apex.attribution.test_lengths import columns_of
from tests.captum_apex.attribution.test_lengths import subject as padded_subject
from tests.networks import build, clips, invertible
from tests.planted import Detector, attribution, planted

TRAINING = [(clip, i % 3) for i, clip in enumerate(clips(9, seed=5))]
QUERY = clips(1, seed=6)


def subject(scheme="square"):
    model, layer = build("pooling after relu")
    basis = basis_from_matrix(FeatureBank.from_dataset(model, layer, TRAINING), scheme, invertible(), n_prototypes=3)
    return model, layer, LayerAPEX(model, layer, basis)


def with_basis(apex, basis):
    return LayerAPEX(apex.forward_func, apex.layer, basis)


def prototypes_in(explanation):
    return [prototype for evidence in explanation.evidence for prototype in evidence.prototypes]


def assert_same(actual, expected):
    assert actual
    assert [prototype.region for prototype in actual] == [prototype.region for prototype in expected]
    for one, other in zip(actual, expected, strict=True):
        assert (one.effect is None) == (other.effect is None)
        if one.effect is not None:
            assert one.effect.channel == pytest.approx(other.effect.channel, abs=1e-9)
            assert one.effect.random == pytest.approx(other.effect.random, abs=1e-9)
            assert (one.effect.score, one.effect.fires_on) == (None, other.effect.fires_on)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_stored_regions_are_those_found_on_demand(scheme):
    _, _, apex = subject(scheme)
    stored = with_basis(apex, locate_prototypes(apex, TRAINING, n_prototypes=3))
    on_demand = explain(apex, QUERY, 2, n_prototypes=3, sides="both", dataset=TRAINING)[0]
    assert_same(prototypes_in(explain(stored, QUERY, 2, n_prototypes=3, sides="both")[0]), prototypes_in(on_demand))
    assert all(prototype.map.shape == (8, 10) for prototype in prototypes_in(on_demand))


def test_the_effect_of_a_prototype_is_what_masking_its_clip_by_hand_gives():
    model, layer, apex = subject()
    for prototype in prototypes_in(explain(apex, QUERY, 2, n_prototypes=3, n_channels=2, dataset=TRAINING)[0]):
        clip = TRAINING[prototype.index][0][None]
        masked = torch.where(prototype.region.mask(8, 10), blur_fill(clip, (0.0, 0.25)), clip)
        activations = []
        handle = layer.register_forward_hook(lambda _, __, output, kept=activations: kept.append(output.mean((2, 3))))
        model(torch.cat([clip, masked]))
        handle.remove()
        before, after = (invertible() @ activations[0].T).unbind(1)
        channels = [k for k in range(6) if before[k].item() == pytest.approx(prototype.activation, abs=1e-9)]
        assert len(channels) == 1
        fall = (before - after)[channels[0]] / before[channels[0]]
        assert prototype.effect.channel == pytest.approx(fall.item(), abs=1e-9)


def test_on_the_negative_side_the_effect_is_the_share_of_the_negative_activation():
    model, layer, apex = subject()
    negative = apex.basis.negative
    regions = PrototypeRegions(apex, TRAINING, RegionSearch())
    channels = [channel for channel in range(6) if negative.activations[channel, 0] < 0]
    assert channels
    for channel in channels:
        index = int(negative.indices[channel, 0])
        found = regions.of(index, channel, side=-1)
        clip = TRAINING[index][0][None]
        masked = torch.where(found.region.mask(8, 10), blur_fill(clip, (0.0, 0.25)), clip)
        before, after = ((invertible() @ grid.mean((1, 2)))[channel] for grid in grids(model, layer, clip, masked))
        assert before.item() == pytest.approx(negative.activations[channel, 0].item(), abs=1e-9)
        assert found.effect.channel == pytest.approx(((before - after) / before).item(), abs=1e-9)
        assert found.effect.channel > 0


def grids(model, layer, *batches):
    """What the layer gives for each of some clips, (channel, frequency, time)."""
    kept = []
    handle = layer.register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    model(torch.cat(batches))
    handle.remove()
    return kept[0]


def test_a_search_setting_holds_for_prototypes_too():
    _, _, apex = subject("time-frequency")
    search = RegionSearch(cross=True, n_random=3)
    prototypes = prototypes_in(explain(apex, QUERY, 2, n_prototypes=2, search=search, dataset=TRAINING)[0])
    stored = with_basis(apex, locate_prototypes(apex, TRAINING, n_prototypes=2, search=search))
    assert_same(prototypes, prototypes_in(explain(stored, QUERY, 2, n_prototypes=2, search=search)[0]))
    assert all(len(prototype.effect.random) == 3 for prototype in prototypes)
    assert all(len(prototype.region.boxes) == 2 for prototype in prototypes)


def test_without_a_dataset_prototypes_have_their_peak_cells():
    _, _, apex = subject()
    prototypes = prototypes_in(explain(apex, QUERY, 2, n_prototypes=3)[0])
    assert all(prototype.effect is None and prototype.map is None for prototype in prototypes)
    assert prototypes_in(explain(apex, QUERY, 2, n_prototypes=3, search=None, dataset=TRAINING)[0]) == prototypes


def test_only_the_wanted_prototypes_are_located_and_others_keep_what_they_have():
    _, _, apex = subject()
    first = locate_prototypes(apex, TRAINING, n_prototypes=1, channels=[2])
    assert stored_region(first.positive, 2, 0) is not None
    assert stored_region(first.positive, 2, 1) is None
    assert stored_region(first.positive, 3, 0) is None
    both = locate_prototypes(with_basis(apex, first), TRAINING, n_prototypes=2, channels=[3])
    assert stored_region(both.positive, 2, 0) == stored_region(first.positive, 2, 0)
    assert stored_region(both.positive, 3, 1) is not None
    cells = prototypes_of(apex.basis, 2, 3)
    assert [p.region for p in prototypes_of(both, 2, 3)][1:] == [cell.region for cell in cells][1:]
    assert apex.basis.positive.boxes is None


def test_a_clip_is_read_once_for_all_its_channels_of_a_side():
    _, _, apex = subject()

    read = []

    class Recorded(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    locate_prototypes(apex, Recorded(TRAINING), n_prototypes=3)
    assert read
    assert max(read.count(index) for index in read) <= 2


# --- kept for further clips ---------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_kept_regions_are_those_of_a_search_for_each_clip(scheme):
    """A later clip takes no pass for prototypes that an earlier one had, and has the same regions as without them."""
    _, layer, apex = subject(scheme)
    queries = clips(3, seed=6).split(1)
    kept = PrototypeRegions(apex, TRAINING, RegionSearch())
    copies = []
    handle = layer.register_forward_hook(lambda _, inputs, __: copies.append(len(inputs[0])))
    for query in (*queries, queries[0]):
        known = set(kept.found)
        copies.clear()
        actual = explain(apex, query, 2, n_prototypes=3, sides="both", dataset=kept)[0]
        n_kept = sum(copies)
        copies.clear()
        alone = explain(apex, query, 2, n_prototypes=3, sides="both", dataset=TRAINING)[0]
        assert_same(prototypes_in(actual), prototypes_in(alone))
        assert (n_kept < sum(copies)) == bool(known)
    copies.clear()
    explain(apex, queries[0], 2, n_prototypes=3, sides="both")
    assert n_kept == sum(copies)  # of the clip alone
    handle.remove()


def test_the_channels_of_one_clip_are_searched_for_together():
    _, _, apex = subject()
    wanted = [(1, 0, 1), (2, 0, 1), (1, 3, 1), (1, 0, 1), (1, 4, -1), (1, 5, 1)]
    together = PrototypeRegions(apex, TRAINING, RegionSearch())
    together.of(1, 5, 1)
    calls = []
    find = together.find
    together.find = lambda *call: (calls.append(call), find(*call))
    together.find_all(wanted)
    assert calls == [(1, [0, 3], 1), (2, [0], 1), (1, [4], -1)]
    alone = PrototypeRegions(apex, TRAINING, RegionSearch())
    for each in wanted:
        one, other = together.of(*each), alone.of(*each)
        assert one.region == other.region
        torch.testing.assert_close(one.map, other.map)
    assert set(together.found) == set(wanted)


def test_the_oldest_regions_are_forgotten_where_their_maps_take_too_much_room(monkeypatch):
    _, _, apex = subject()
    monkeypatch.setattr("captum_apex.explanations.prototype_regions._MOST_VALUES", 3 * 80)  # three maps of 8 × 10
    regions = PrototypeRegions(apex, TRAINING, RegionSearch())
    first = regions.of(0, 0, 1)
    for index in range(1, 4):
        regions.of(index, 0, 1)
    assert list(regions.found) == [(1, 0, 1), (2, 0, 1), (3, 0, 1)]
    assert regions.of(0, 0, 1) == first
    regions.find(5, [0, 1, 2, 3], 1)  # more than there is room for
    assert list(regions.found) == [(5, channel, 1) for channel in range(4)]
    without_maps = PrototypeRegions(apex, TRAINING, RegionSearch(), with_maps=False)
    for index in range(9):
        assert without_maps.of(index, 0, 1).map is None
    without_maps.find(5, [0, 1, 2, 3], 1)
    assert len(without_maps.found) == 12


def test_regions_of_another_basis_or_search_are_refused():
    _, _, apex = subject()
    _, _, other = subject()
    with pytest.raises(ValueError, match="of this search, but got those of another search; make them anew"):
        explain(apex, QUERY, 2, n_prototypes=2, dataset=PrototypeRegions(apex, TRAINING, RegionSearch(n_random=1)))
    with pytest.raises(ValueError, match="but got those of another attribution object; make them anew"):
        explain(apex, QUERY, 2, n_prototypes=2, dataset=PrototypeRegions(other, TRAINING, RegionSearch()))


# --- where the channel does not fire ------------------------------------------


def test_a_prototype_in_which_the_channel_does_not_fire_has_no_effect():
    loud, quiet = planted((8, 32), (2, 4, 10, 14)), torch.zeros(1, 1, 8, 32)
    apex = attribution(Detector(), [loud[0], quiet[0]], "square")
    first, second = explain(apex, loud, 0, n_prototypes=2, dataset=[loud[0], quiet[0]])[0].evidence[0].prototypes
    assert first.effect.channel > 0.7
    assert (second.activation, second.effect) == (0.0, None)
    stored = with_basis(apex, locate_prototypes(apex, [loud[0], quiet[0]], n_prototypes=2))
    again = explain(stored, loud, 0, n_prototypes=2)[0].evidence[0].prototypes
    assert [prototype.effect for prototype in again] == [first.effect, None]
    assert [prototype.region for prototype in again] == [first.region, second.region]


# --- files --------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_file_of_a_basis_keeps_the_regions(scheme, tmp_path):
    _, _, apex = subject(scheme)
    located = locate_prototypes(apex, TRAINING, n_prototypes=2)
    located.save(tmp_path / "basis.safetensors")
    again = PrototypeBasis.load(tmp_path / "basis.safetensors")
    for side in (1, -1):
        for channel in range(6):
            assert prototypes_of(again, channel, 3, side=side) == prototypes_of(located, channel, 3, side=side)


def test_a_file_without_regions_loads_and_has_peak_cells(tmp_path):
    _, _, apex = subject()
    apex.basis.save(tmp_path / "basis.safetensors")
    assert not {name for name in load_file(tmp_path / "basis.safetensors") if "boxes" in name or "effects" in name}
    again = PrototypeBasis.load(tmp_path / "basis.safetensors")
    assert (again.positive.boxes, again.positive.effects, again.positive.fires_on) == (None, None, None)
    assert prototypes_of(again, 0, 3) == prototypes_of(apex.basis, 0, 3)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("boxes", lambda tensor: tensor[:, :1]),
        ("boxes", lambda tensor: tensor[..., :3]),
        ("boxes", lambda tensor: tensor[:, :, 0]),
        ("effects", lambda tensor: tensor[:2]),
        ("fires_on", lambda tensor: tensor[:, :1]),
    ],
)
def test_regions_that_do_not_fit_the_basis_are_refused(name, change):
    _, _, apex = subject()
    basis = locate_prototypes(apex, TRAINING, n_prototypes=2)
    damaged = dataclasses.replace(basis.positive, **{name: change(getattr(basis.positive, name)).contiguous()})
    with pytest.raises(ValueError, match=f"expected `positive.{name}` of shape"):
        dataclasses.replace(basis, positive=damaged)


def test_a_file_with_damaged_regions_is_named(tmp_path):
    _, _, apex = subject()
    path = tmp_path / "basis.safetensors"
    locate_prototypes(apex, TRAINING, n_prototypes=2).save(path)
    with safe_open(path, framework="pt") as file:
        metadata = {"format": "captum-apex basis 1", "about": file.metadata()["about"]}  # that had no checksum
    tensors = load_file(path)
    tensors["positive.fires_on"] = tensors["positive.fires_on"][:1].contiguous()
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=r"basis.safetensors to be a captum-apex basis.*`positive.fires_on` of shape"):
        PrototypeBasis.load(path)


# --- refused ------------------------------------------------------------------


def test_another_dataset_is_refused():
    _, _, apex = subject()
    message = "expected the dataset of 9 clips that the basis was fitted on, but got one of 4 clips"
    for call in (
        lambda: locate_prototypes(apex, TRAINING[:4], n_prototypes=2),
        lambda: explain(apex, QUERY, 2, n_prototypes=2, dataset=TRAINING[:4]),
        lambda: PrototypeRegions(apex, TRAINING[:4], RegionSearch()),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("n_prototypes", [0, 4])
def test_more_prototypes_than_there_are_are_refused(n_prototypes):
    _, _, apex = subject()
    with pytest.raises(
        ValueError, match=f"expected `n_prototypes` from 1 to the 3 of the basis, but got {n_prototypes}"
    ):
        locate_prototypes(apex, TRAINING, n_prototypes=n_prototypes)


def test_a_basis_without_prototypes_is_refused():
    _, _, apex = subject()
    bare = with_basis(apex, dataclasses.replace(apex.basis, positive=None, negative=None))
    with pytest.raises(ValueError, match="expected `n_prototypes` from 1 to the 0 of the basis"):
        locate_prototypes(bare, TRAINING)


# --- clips of several lengths -------------------------------------------------


@pytest.mark.parametrize("scheme", ["time", "square"])
def test_prototypes_of_padded_clips_have_the_regions_of_the_clips_alone(scheme):
    model, alone, padded, lengths = padded_subject()
    basis = basis_from_matrix(bank_of_lengths(columns=columns_of), scheme, invertible(), n_prototypes=3)
    dataset = [(clip, i % 3) for i, clip in enumerate(alone)]
    together = APEX(model, model.layer, basis, columns=columns_of)
    single = LayerAPEX(model, model.layer, basis)
    explanations = explain(together, padded, None, lengths, n_prototypes=3, dataset=dataset)
    for clip, explanation in zip(alone, explanations, strict=True):
        expected = explain(single, clip[None], explanation.target, n_prototypes=3, dataset=dataset)[0]
        assert [each.region for each in explanation.evidence] == [each.region for each in expected.evidence]
        assert_same(prototypes_in(explanation), prototypes_in(expected))
        for evidence in explanation.evidence:
            assert evidence.map.shape == (8, clip.shape[2])
            assert evidence.effect.score is not None
