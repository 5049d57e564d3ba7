"""Measures of waveforms: (clip, sample) and (clip, 1, sample) give what a spectrogram of one row gives."""

import pytest
import torch

from captum_apex import metrics
from captum_apex.attribution import two_sided_occlusion
from captum_apex.masking import region_sums

N_CLIPS, N_SAMPLES = 3, 12


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WAVEFORMS, MAPS, FILLS = (drawn(N_CLIPS, N_SAMPLES, seed=seed) for seed in (1, 2, 3))
WEIGHTS = drawn(N_SAMPLES, 4)
TRUTH = drawn(N_CLIPS, N_SAMPLES, seed=4) > 0.4
REMOVED = drawn(N_CLIPS, 5, 4, seed=5) > 0
GRID = torch.arange(N_SAMPLES) // 3
FORMS = {
    "clip, sample": lambda tensor: tensor,
    "clip, 1, sample": lambda tensor: tensor[:, None],
    "one row": lambda tensor: tensor[:, None, None],
}


def logits(clips):
    return clips.flatten(1).sin() @ WEIGHTS


def probabilities(clips):
    return logits(clips).softmax(1)


def curves(function):
    return lambda form, grid: function(logits, form(WAVEFORMS), form(MAPS), fills=form(FILLS), grid=grid, target=1)


def of_removal(function):
    def measure(form, grid):
        inputs = form(WAVEFORMS)
        removed = REMOVED[0].expand(N_CLIPS, -1, -1)  # the same masks for all clips
        scores = metrics.masked_scores(logits, inputs, form(FILLS), removed, grid, target=1)
        return function(logits(inputs)[:, 1], scores, REMOVED[0], region_sums(form(MAPS), grid))

    return measure


def fidelity(masks):
    def measure(form, grid):
        found = metrics.mask_fidelity(probabilities, form(WAVEFORMS), masks(form, grid), fills=form(FILLS), target=1)
        return torch.stack([found.average_drop, found.average_increase, found.average_gain, found.faithfulness])

    return measure


MEASURES = {
    "deletion": curves(metrics.deletion),
    "insertion": curves(metrics.insertion),
    "deletion_insertion": lambda form, grid: curves(metrics.deletion_insertion)(form, grid).aopc,
    "infidelity": of_removal(metrics.infidelity),
    "faithfulness_correlation": of_removal(metrics.faithfulness_correlation),
    "mask_fidelity": fidelity(lambda form, _: form(MAPS.sigmoid())),
    "mask_fidelity of a soft mask": fidelity(lambda form, grid: metrics.soft_mask(form(MAPS), grid)),
    "masked_outputs": lambda form, grid: metrics.masked_outputs(logits, form(WAVEFORMS), form(FILLS), REMOVED, grid),
    "mixed_outputs": lambda form, _: metrics.mixed_outputs(logits, form(WAVEFORMS), form(FILLS), form(MAPS.sigmoid())),
    "pointing_game": lambda form, _: metrics.pointing_game(form(MAPS), form(TRUTH)),
    "relevance_mass": lambda form, _: metrics.relevance_mass(form(MAPS), form(TRUTH)),
    "sparseness": lambda form, _: metrics.sparseness(form(MAPS)),
    "complexity": lambda form, _: metrics.complexity(form(MAPS)),
    "two_sided_occlusion": lambda form, grid: two_sided_occlusion(
        logits, form(WAVEFORMS), form(FILLS), grid, 1
    ).flatten(1),
}


@pytest.mark.parametrize("form", ["clip, sample", "clip, 1, sample"])
@pytest.mark.parametrize("name", MEASURES)
def test_a_waveform_is_a_spectrogram_of_one_row(name, form):
    actual = MEASURES[name](FORMS[form], GRID)
    expected = MEASURES[name](FORMS["one row"], GRID[None])
    assert expected.isfinite().all()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("of_maps", ["clip, sample", "clip, 1, sample"])
@pytest.mark.parametrize("of_truth", ["clip, sample", "clip, 1, sample"])
def test_maps_and_truth_of_waveforms_in_any_form(of_maps, of_truth):
    """Calculated for each clip in a loop."""
    maps = FORMS[of_maps](MAPS)
    truth = FORMS[of_truth](TRUTH)
    positive = MAPS.clamp_min(0)
    hits = [float(TRUTH[clip, MAPS[clip].argmax()]) for clip in range(N_CLIPS)]
    mass = [(positive[clip][TRUTH[clip]].sum() / positive[clip].sum()).item() for clip in range(N_CLIPS)]
    assert metrics.pointing_game(maps, truth).tolist() == hits
    assert metrics.relevance_mass(maps, truth).tolist() == pytest.approx(mass, abs=1e-12)


def test_the_channels_of_a_waveform_are_summed():
    stereo = torch.stack([MAPS, 3 * MAPS.flip(1)], 1)
    for measure in (metrics.pointing_game, metrics.relevance_mass):
        assert torch.equal(measure(stereo, TRUTH[:, None]), measure(stereo.sum(1), TRUTH))


def test_truth_of_another_size_is_refused():
    for maps, truth in ((MAPS, TRUTH[:, :5]), (MAPS[:, None], TRUTH[:2]), (MAPS, TRUTH[:, None, None, None])):
        with pytest.raises(ValueError, match=r"or \(batch, sample\) for both, but got"):
            metrics.pointing_game(maps, truth)
