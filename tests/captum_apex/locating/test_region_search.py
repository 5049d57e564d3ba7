"""Regions of planted sounds, and their effects against masking by hand."""

import re

import pytest
import torch
from torch import nn

from captum_apex import (
    SCHEMES,
    Box,
    FeatureBank,
    LayerAPEX,
    RegionEffect,
    RegionSearch,
    Scheme,
    basis_from_matrix,
    explain,
)
from captum_apex.locating.bins import Bins
from captum_apex.locating.channel_values import ChannelValues
from captum_apex.locating.placement import elsewhere
from captum_apex.locating.region_search import _bins_between
from captum_apex.masking.fills import blur_fill, mean_fill
from tests.networks import build, clips, invertible
from tests.planted import LOUD, Detector, attribution, bins_of, evidence_of, planted

PATCHES = [
    ((1, 1), (1, 1), (0, 0)),
    ((3, 3), (1, 1), (0, 0)),
    ((3, 3), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1)),
    ((2, 4), (2, 4), (0, 0)),
    ((3, 5), (2, 2), (0, 0)),
]
"""Size, stride and padding of what the detector averages."""


def place_of(scheme, size, patch):
    """A place that begins with the patch of a cell: a smaller one would take most of the channel, too."""
    start = 11 if patch[1:] == ((2, 2), (1, 1)) else 10
    rows = (0, size[0]) if scheme == "time" else (4, 7)
    columns = (0, size[1]) if scheme == "frequency" else (start, 16)
    return (*rows, *columns)


# --- planted sounds -----------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("patch", PATCHES, ids=str)
@pytest.mark.parametrize("size", [(12, 32), (13, 37)], ids=str)
def test_the_region_is_the_planted_place(scheme, patch, size):
    place = place_of(scheme, size, patch)
    evidence = evidence_of(Detector(*patch), planted(size, place), scheme)
    assert bins_of(evidence, size) == [place]
    assert evidence.effect.channel > 0.7
    assert evidence.effect.fires_on == ""
    assert evidence.effect.better_than_random
    assert evidence.map.shape == size


def test_masking_takes_the_score_away_that_the_channel_gives():
    evidence = evidence_of(Detector(), planted((12, 32), (4, 7, 10, 16)), "square")
    assert evidence.effect.score == pytest.approx(evidence.effect.channel * evidence.contribution, rel=1e-5)


def test_a_sound_of_a_third_of_the_clip_has_its_box():
    sound = (0, 8, 12, 28)
    evidence = evidence_of(Detector(), planted((8, 48), sound), "time")
    assert bins_of(evidence, (8, 48)) == [sound]


@pytest.mark.parametrize(("n_columns", "end"), [(26, 9), (28, 12), (15, 9), (14, 9)])
def test_a_candidate_covers_at_most_a_quarter_of_the_clip(n_columns, end):
    """Seven columns take all, four take 78%. Seven of 28 are allowed; of 15, both are too many and four are taken."""
    clip = planted((2, n_columns), (0, 2, 5, 9)) + planted((2, n_columns), (0, 2, 9, 12), loud=2.9)
    evidence = evidence_of(Detector(), clip, "time", RegionSearch(fill=torch.zeros_like))
    assert bins_of(evidence, (2, n_columns)) == [(0, 2, 5, end)]


@pytest.mark.parametrize(("n_columns", "end"), [(20, 14), (19, 5), (22, 14)])
def test_a_sound_of_more_than_half_of_the_clip_has_no_box(n_columns, end):
    """Ten columns are the half of 20. Of 19 they are more, so that only the peak cell is left."""
    evidence = evidence_of(
        Detector(), planted((2, n_columns), (0, 2, 4, 14)), "time", RegionSearch(fill=torch.zeros_like)
    )
    assert bins_of(evidence, (2, n_columns)) == [(0, 2, 4, end)]


def test_the_random_places_of_a_channel_do_not_depend_on_the_other_channels():
    model, layer = build("pooling after relu")
    bank = FeatureBank.from_dataset(model, layer, list(clips(6, seed=5)))
    apex = LayerAPEX(model, layer, basis_from_matrix(bank, "time", invertible(), n_prototypes=2))
    few, many = (
        {
            (explanation.target, evidence.channel): evidence.effect.random
            for target in range(4)
            for explanation in explain(apex, clips(1, seed=6), target, n_channels=n, n_prototypes=2)
            for evidence in reversed(explanation.evidence)
        }
        for n in (2, 5)
    )
    assert len(many) > len(few) > 4
    for channel, random in few.items():
        assert many[channel] == pytest.approx(random, abs=1e-9)


@pytest.mark.parametrize("scheme", ["time", "square"])
def test_two_bursts_have_a_box_each(scheme):
    rows = (0, 12) if scheme == "time" else (4, 7)
    bursts = [(*rows, 6, 10), (*rows, 30, 34)]
    evidence = evidence_of(Detector((3, 3)), planted((12, 48), *bursts), scheme)
    assert bins_of(evidence, (12, 48)) == bursts
    assert evidence.effect.channel > 0.7


def test_a_rhythm_has_three_boxes_each_on_a_burst():
    bursts = [(0, 8, start, start + 2) for start in range(4, 64, 12)]
    boxes = bins_of(evidence_of(Detector((3, 1)), planted((8, 64), *bursts), "time"), (8, 64))
    assert len(boxes) == 3
    assert set(boxes) <= set(bursts)


def test_two_steady_bands_have_a_box_each():
    bands = [(3, 5, 0, 20), (17, 19, 0, 20)]
    evidence = evidence_of(Detector((2, 3)), planted((24, 20), *bands), "frequency")
    assert sorted(bins_of(evidence, (24, 20))) == bands


def test_a_tone_for_time_frequency_is_a_rectangle_or_a_cross():
    tone = planted((12, 40), (5, 6, 12, 20))
    assert bins_of(evidence_of(Detector((1, 3)), tone, "time-frequency"), (12, 40)) == [(5, 6, 12, 20)]
    cross = evidence_of(Detector((1, 3)), tone, "time-frequency", RegionSearch(cross=True))
    strip, band = sorted(bins_of(cross, (12, 40)))
    assert band == (5, 6, 0, 40)
    assert strip[:2] == (0, 12)  # masking the band is enough, so that the smallest strip on the tone is taken
    assert 12 <= strip[2] < strip[3] <= 20
    assert cross.effect.better_than_random


def test_a_setting_for_the_cross_changes_no_other_scheme():
    clip = planted((12, 40), (5, 7, 12, 16))
    for scheme in ("square", "time", "frequency"):
        assert evidence_of(Detector(), clip, scheme, RegionSearch(cross=True)) == evidence_of(Detector(), clip, scheme)


def test_the_smallest_region_keeps_the_wanted_share_of_the_largest_fall():
    clip = planted((1, 64), (0, 1, 10, 18)) + planted((1, 64), (0, 1, 18, 26), loud=LOUD / 3)
    small, large = (
        bins_of(evidence_of(Detector(), clip, "time", RegionSearch(smallest=share)), (1, 64)) for share in (0.5, 1.0)
    )
    assert small == [(0, 1, 10, 18)]
    assert large == [(0, 1, 10, 26)]


def test_a_given_fill_replaces_the_masked_bins():
    clip = planted((12, 32), (0, 12, 10, 16))
    search = RegionSearch(fill=torch.zeros_like)
    evidence = evidence_of(Detector(), clip, "time", search)
    assert bins_of(evidence, (12, 32)) == [(0, 12, 10, 16)]
    assert evidence.effect.channel == pytest.approx(1.0)


class Saturated(Detector):
    """Its value, the same in all cells, is almost as large for a faint sound as for a loud one."""

    def __init__(self):
        super().__init__()
        self.layer = SaturatedLayer()


class SaturatedLayer(nn.Module):
    def forward(self, clips):
        total = clips.sum((2, 3), keepdim=True)
        return (total / (total + 0.5)).expand(-1, -1, 4, 8)


FADING = {
    "square": [(11, 17, 20, 30)],
    "time": [(0, 32, 20, 30)],
    "frequency": [(11, 17, 0, 64)],
    "time-frequency": [(11, 17, 20, 30)],
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("faint", [0.2, 0.3])
def test_a_region_covers_the_faint_edges_where_they_are_enough_for_the_channel(scheme, faint):
    """They are below a tenth of the peak. Without them the box would take a tenth of the channel or less."""
    clip = planted((32, 64), (11, 17, 20, 30), loud=faint)
    clip[..., 12:16, 21:29] = LOUD
    evidence = evidence_of(Saturated(), clip, scheme, RegionSearch(fill=torch.zeros_like))
    assert bins_of(evidence, (32, 64)) == FADING[scheme]
    assert evidence.effect.channel == pytest.approx(1.0)


@pytest.mark.parametrize("cross", [False, True])
def test_a_margin_that_takes_no_more_is_left_out(cross):
    """The mean of the channel falls by as much as is masked: the faint edges are a few per cent of it."""
    clip = planted((32, 64), (11, 17, 20, 30), loud=0.2)
    clip[..., 12:16, 21:29] = LOUD
    search = RegionSearch(fill=torch.zeros_like, cross=cross)
    evidence = evidence_of(Detector(threshold=0.0), clip, "time-frequency", search)
    expected = [(0, 32, 21, 29), (12, 16, 0, 64)] if cross else [(12, 16, 21, 29)]
    assert sorted(bins_of(evidence, (32, 64))) == sorted(expected)


@pytest.mark.parametrize(("loud", "found"), [((24, 38), (23, 39)), ((24, 40), (24, 40))], ids=["reached", "crossed"])
def test_a_margin_does_not_lead_beyond_a_quarter_of_the_clip(loud, found):
    """The faint edges are a column wide on each side: 16 of 64 columns in all, or 18."""
    clip = planted((32, 64), (0, 32, loud[0] - 1, loud[1] + 1), loud=0.3)
    clip[..., loud[0] : loud[1]] = LOUD
    evidence = evidence_of(Saturated(), clip, "time", RegionSearch(fill=torch.zeros_like))
    assert bins_of(evidence, (32, 64)) == [(0, 32, *found)]


class Passing(Detector):
    """In the second half it fires on loud sounds; in the first half on a level that a loud sound has passed."""

    def __init__(self):
        super().__init__()
        self.layer = PassingLayer()


class PassingLayer(nn.Module):
    def forward(self, clips):
        first, second = clips.chunk(2, dim=3)
        passed = 3 * first.clamp(0, 2) * (LOUD - first).clamp(0, 1)
        return torch.cat([passed, (second - 1).relu()], 3)


def test_a_part_that_counts_only_far_from_the_clip_is_left_out():
    """The mean of the maps has both sounds; the map near the clip has only the one whose masking takes something."""
    clip = planted((2, 40), (0, 2, 6, 10), (0, 2, 26, 30))
    evidence = evidence_of(Passing(), clip, "time", RegionSearch(fill=torch.zeros_like))
    assert bins_of(evidence, (2, 40)) == [(0, 2, 26, 30)]
    assert evidence.effect.channel == pytest.approx(1.0)


class Steps(Detector):
    """A layer of four columns for each column of the input, through which no gradient passes."""

    def __init__(self, growth):
        super().__init__()
        self.layer = nn.Sequential(nn.Upsample(scale_factor=(1, 4)), Loud(growth))


class Loud(nn.Module):
    def __init__(self, growth):
        super().__init__()
        self.growth = growth

    def forward(self, clips):
        return (clips > 1) * self.growth ** torch.arange(clips.shape[3])


@pytest.mark.parametrize(("column", "growth"), [(0, 0.9), (3, 0.9), (7, 0.9), (7, 1.1)])
def test_without_a_gradient_the_region_is_the_peak_cell_and_at_least_one_bin(column, growth):
    """The peak cell is the first or the last of the four in its bin."""
    search = RegionSearch(fill=torch.zeros_like, n_random=1)
    evidence = evidence_of(Steps(growth), planted((2, 8), (0, 2, column, column + 1)), "time", search)
    assert evidence.map is None
    assert bins_of(evidence, (2, 8)) == [(0, 2, column, column + 1)]
    assert evidence.effect.channel == pytest.approx(1.0)
    assert evidence.effect.random == (0.0,)


def test_a_channel_below_zero_has_its_cell_and_no_effect():
    """There is no value of which masking could take a share: the smallest candidate, the cell, is left."""
    clip = planted((12, 32), (0, 12, 10, 16))
    apex = attribution(Detector(), [clip[0]], "time")
    directions = torch.tensor([[1.0], [-1.0]])
    values = ChannelValues(apex, Bins.of(clip, "n c f t"), directions, torch.ones(2, 1, 1))
    cell = Scheme.TIME.region([12], 12, 32)
    sound, below_zero = RegionSearch().locate(values, [cell, cell])
    assert sound.region.boxes == (Box(0.0, 1.0, 10 / 32, 16 / 32),)
    assert sound.effect.channel > 0.7
    assert below_zero.region == cell
    assert below_zero.effect is None


def test_the_mean_over_time_would_leave_a_steady_band():
    """The reason for the fill by default."""
    clip = planted((12, 32), (4, 7, 0, 32))
    assert evidence_of(Detector(), clip, "frequency", RegionSearch(fill=mean_fill)).effect.channel == 0
    assert evidence_of(Detector(), clip, "frequency").effect.channel > 0.7


# --- no sound -----------------------------------------------------------------


class Quiet(Detector):
    """Fires where the clip is quiet: on values below the threshold."""

    def forward(self, clips):
        return super().forward(-clips)


class Difference(Detector):
    """Fires where a column is louder than its neighbours; beyond the clip there are zeros."""

    def __init__(self, *template, threshold=0.5, padding=0):
        super().__init__((1, len(template)), padding=(0, padding), threshold=threshold)
        self.layer[0].weight.data = torch.tensor(template)[None, None, None]


def test_a_channel_that_fires_at_the_border_is_told():
    noise = torch.rand((1, 1, 4, 40), generator=torch.Generator().manual_seed(0))
    evidence = evidence_of(Difference(-1.0, 2.0, -1.0, padding=1, threshold=2.0), 4.0 + 0.1 * noise, "time")
    assert evidence.effect.fires_on == "the border"


LOUD_THEN_QUIET = (0.25, 0.25, 0.25, 0.25, -1.0, -1.0, -1.0)


@pytest.mark.parametrize(
    ("template", "place", "text"),
    [(LOUD_THEN_QUIET, (40, 46), "the end of a sound"), (LOUD_THEN_QUIET[::-1], (14, 20), "the beginning of a sound")],
)
def test_a_region_in_the_silence_beside_a_sound_is_told(template, place, text):
    evidence = evidence_of(Difference(*template, padding=3), planted((4, 60), (0, 4, 20, 40)), "time")
    ((_, _, start, end),) = bins_of(evidence, (4, 60))
    assert place[0] <= start < end <= place[1]
    assert evidence.effect.channel > 0.6
    assert evidence.effect.fires_on == text


def test_a_channel_that_fires_on_quiet_after_a_sound_names_silence():
    clip = planted((4, 40), (0, 4, 0, 36)) + 1.0
    evidence = evidence_of(Quiet(threshold=-5.0), clip, "time")
    assert bins_of(evidence, (4, 40)) == [(0, 4, 36, 40)]
    assert evidence.effect.fires_on == "silence"


def test_a_silent_clip_has_evidence_without_a_better_region():
    model = Detector(threshold=-1.0)  # it fires on nothing, too
    evidence = evidence_of(model, torch.zeros(1, 1, 8, 16), "time")
    assert not evidence.effect.better_than_random
    assert evidence.effect.channel == 0
    assert evidence.effect.fires_on == "silence"


# --- the slow oracle ----------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_effect_is_what_masking_by_hand_gives(scheme):
    """In float64: the channel by a product with the matrix, the score by the whole model."""
    model, layer = build("pooling after relu")
    bank = FeatureBank.from_dataset(model, layer, list(clips(6, seed=5)))
    apex = LayerAPEX(model, layer, basis_from_matrix(bank, scheme, invertible(), n_prototypes=2))
    clip = clips(1, seed=6)
    explanation = explain(apex, clip, 2, n_prototypes=2)[0]
    sigma = (0.25, 0.0) if scheme == "frequency" else (0.0, 0.25)
    fill = blur_fill(clip, sigma)
    inverse = torch.linalg.inv(invertible())
    assert explanation.evidence
    for evidence in explanation.evidence:
        mask = evidence.region.mask(8, 10)
        copy = torch.where(mask, fill, clip)
        assert evidence.effect.score == pytest.approx((model(clip) - model(copy))[0, 2].item(), abs=1e-12)
        before, after = (contribution(model, layer, inputs, inverse, evidence.channel) for inputs in (clip, copy))
        assert before == pytest.approx(evidence.contribution, abs=1e-12)
        assert evidence.effect.channel == pytest.approx((before - after) / before, abs=1e-6)
        generator = torch.Generator().manual_seed(0)
        for fall in evidence.effect.random:
            copy = torch.where(elsewhere(mask, generator), fill, clip)
            after = contribution(model, layer, copy, inverse, evidence.channel)
            assert fall == pytest.approx((before - after) / before, abs=1e-6)
    assert len(explanation.evidence) > 1


def contribution(model, layer, inputs, inverse, channel):
    """`Σ Ĝ_k · Ẑ_k` for class 2, the gradient being that of the mean over a grid of 4 × 5."""
    grids = []
    handle = layer.register_forward_hook(lambda _, __, output: grids.append(output.detach().clone()))
    model(inputs)
    handle.remove()
    gradient = model.classifier.weight[2].detach() / 20
    weights = inverse.T @ gradient
    return (weights[channel] * torch.einsum("c,cft->ft", invertible()[channel], grids[0][0])).sum().item()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_candidate_of_the_smallest_size_is_left_out(scheme):
    """The peak cell is a candidate: the fall is at least the wanted share of that of the peak cell."""
    model, layer = build("pooling after relu")
    bank = FeatureBank.from_dataset(model, layer, list(clips(6, seed=5)))
    apex = LayerAPEX(model, layer, basis_from_matrix(bank, scheme, invertible(), n_prototypes=2))
    for clip in clips(3, seed=8)[:, None]:
        for evidence in explain(apex, clip, 1, n_prototypes=2)[0].evidence:
            fill = RegionSearch().fill_for(Scheme(scheme))(clip)
            copy = torch.where(evidence.cell.mask(8, 10), fill, clip)
            inverse = torch.linalg.inv(invertible())
            weights = inverse.T @ model.classifier.weight[1].detach()
            before, after = (
                (weights[evidence.channel] * invertible()[evidence.channel] @ pooled(model, layer, inputs)).item()
                for inputs in (clip, copy)
            )
            assert evidence.effect.channel >= 0.8 * (before - after) / before - 1e-6


def pooled(model, layer, inputs):
    grids = []
    handle = layer.register_forward_hook(lambda _, __, output: grids.append(output.detach().clone()))
    model(inputs)
    handle.remove()
    return grids[0][0].mean((1, 2))


# --- settings -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"smallest": 0.0}, r"expected `smallest` in \(0, 1\], but got 0.0"),
        ({"smallest": 1.5}, r"expected `smallest` in \(0, 1\], but got 1.5"),
        ({"smallest": float("nan")}, r"expected `smallest` to be a finite number, but got nan"),
        ({"n_random": -1}, "expected `n_random` to be an int of at least 0, but got -1"),
        ({"batch_size": 0}, "expected `batch_size` to be an int of at least 1, but got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RegionSearch(**settings)


def test_without_random_places_there_is_nothing_to_compare_with():
    evidence = evidence_of(Detector(), planted((8, 32), (0, 8, 10, 14)), "time", RegionSearch(n_random=0))
    assert evidence.effect.random == ()
    assert evidence.effect.mean_random == 0


def test_the_batch_size_changes_no_result():
    model, layer = build("pooling after relu")
    bank = FeatureBank.from_dataset(model, layer, list(clips(6, seed=5)))
    apex = LayerAPEX(model, layer, basis_from_matrix(bank, "time", invertible(), n_prototypes=2))
    by_size = [
        explain(apex, clips(1, seed=6), 2, n_prototypes=2, search=RegionSearch(batch_size=size))[0].evidence
        for size in (1, 3, 64)
    ]
    for of_size in by_size[1:]:
        for evidence, expected in zip(of_size, by_size[0], strict=True):
            assert evidence.region == expected.region
            assert evidence.effect.channel == pytest.approx(expected.effect.channel, abs=1e-9)
            assert evidence.effect.random == pytest.approx(expected.effect.random, abs=1e-9)


def test_the_search_repeats_itself_and_leaves_the_random_state():
    clip = planted((8, 32), (0, 8, 10, 14))
    apex = attribution(Detector(), [clip[0]], "time")
    state = torch.get_rng_state()
    first, second = (explain(apex, clip, 0, n_prototypes=1)[0].evidence[0] for _ in range(2))
    assert first == second
    torch.testing.assert_close(first.map, second.map, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_effect_is_better_than_random_places_only_if_it_is_noticeable():
    assert not RegionEffect(channel=0.005).better_than_random
    assert RegionEffect(channel=0.02).better_than_random
    assert not RegionEffect(channel=0.5, random=(0.1, 0.5)).better_than_random
    assert "no better than a random place (up to 60%)" in str(RegionEffect(channel=0.5, random=(0.6,)))
    assert str(RegionEffect(channel=-0.001, random=(-0.001,))).startswith(
        "masking takes 0% of the channel (random places: 0%), "
    )
    assert str(RegionEffect(0.5, fires_on="silence")).endswith(", fires on silence")


@pytest.mark.parametrize("channel", [-0.2, 0.0, 0.004, 0.006, 0.00999, 0.01, 0.014, 0.3, 0.72])
@pytest.mark.parametrize("random", [(), (-0.1, 0.0), (0.004, 0.009), (0.0, 0.0101), (0.19, 0.75), (0.3,), (0.72, 0.0)])
def test_the_verdict_has_the_reason_that_the_printed_numbers_give(channel, random):
    """The strongest random place is printed where it takes as much; a region that is printed as 1% is not doubted."""
    effect = RegionEffect(channel, random)
    doubts = ", ".join(effect.doubts)
    assert bool(doubts) == (not effect.better_than_random)
    shown = re.search(r"takes (<?)(-?\d+)% of", str(effect))
    up_to = re.search(r"no better than a random place \(up to (\d+)%\)", doubts)
    if up_to:
        assert int(up_to[1]) == round(100 * max(random)) >= int(shown[2])
    elif doubts:
        assert doubts == "masking takes almost nothing"
        assert shown[1] == "<" or int(shown[2]) < 1
    else:
        assert shown[1] == ""
        assert int(shown[2]) >= 1
        assert int(shown[2]) >= round(100 * max(random, default=0.0))


def test_a_class_without_evidence_has_no_regions():
    model = Detector(threshold=2 * LOUD)
    apex = attribution(model, [planted((8, 32), (0, 8, 10, 14))[0]], "time")
    assert explain(apex, torch.zeros(1, 1, 8, 32), 0, n_prototypes=1)[0].evidence == ()


@pytest.mark.parametrize("n_cells", [1, 3, 4, 7, 8, 16, 32, 50])
def test_a_cell_has_the_bins_it_covers_or_the_bin_around_its_centre(n_cells):
    """Cells that are coarser than the eight bins, and finer ones."""
    for cell in range(n_cells):
        start, stop = _bins_between(cell / n_cells, (cell + 1) / n_cells, 8)
        assert start < stop
        assert start <= (cell + 0.5) / n_cells * 8 <= stop
        if n_cells >= 8:
            assert stop == start + 1
