"""Sources as regions, against mixes that are made by hand."""

import itertools

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, IntegratedGradients, ShapleyValueSampling
from torch import nn

from captum_apex.attribution import two_sided_occlusion
from captum_apex.masking import region_grid, region_sums
from captum_apex.metrics import deletion_insertion
from captum_apex.pretrained import MixedSources


def spectrum(waveform):
    """Decibels of one waveform, over the floor that depends on its own maximum, as (1, frequency, 1)."""
    power = torch.fft.rfft(waveform).abs().square() + 1e-3
    decibels = 10 * power.log10()
    return decibels.clamp_min(decibels.max().item() - 40)[None, :, None]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 3)).double().eval()


@pytest.fixture
def stems():
    torch.manual_seed(1)
    return torch.randn(2, 3, 16, dtype=torch.float64)


def score(model, parts, target):
    """The logit of a mix of parts, each a waveform."""
    with torch.no_grad():
        return model(spectrum(sum(parts, torch.zeros(16, dtype=torch.float64)))[None])[0, target].item()


def test_a_source_is_left_out_of_the_mix_before_the_transform(model, stems):
    grid = region_grid((3, 16), rows=3, columns=1)
    arguments = (MixedSources(model, spectrum), stems, torch.zeros_like(stems), grid)
    found = region_sums(two_sided_occlusion(*arguments, target=2), grid)
    for clip, sources in enumerate(stems):
        for source in range(3):
            others = [sources[other] for other in range(3) if other != source]
            takes = score(model, sources, 2) - score(model, others, 2)
            brings = score(model, [sources[source]], 2) - score(model, [], 2)
            assert found[clip, source].item() == pytest.approx(takes + brings, abs=1e-9)


def test_captums_methods_take_sources_in_parts_of_the_clip(model, stems):
    grid = region_grid((3, 16), rows=3, columns=2)
    maps = FeatureAblation(MixedSources(model, spectrum)).attribute(stems, 0, target=1, feature_mask=grid[None])
    for clip, sources in enumerate(stems):
        for source, half in itertools.product(range(3), range(2)):
            kept = sources.clone()
            kept[source, 8 * half : 8 * half + 8] = 0
            wanted = score(model, sources, 1) - score(model, kept, 1)
            assert maps[clip, source, 8 * half].item() == pytest.approx(wanted, abs=1e-9)


def test_shapley_values_of_sources_are_their_means_over_all_orders(model, stems):
    grid = region_grid((3, 16), rows=3, columns=1)
    torch.manual_seed(0)
    sampled = ShapleyValueSampling(MixedSources(model, spectrum))
    found = sampled.attribute(stems[:1], 0, target=0, feature_mask=grid[None], n_samples=300)
    for source in range(3):
        gains = []
        for order in itertools.permutations(range(3)):
            before = [stems[0, other] for other in order[: order.index(source)]]
            gains.append(score(model, [*before, stems[0, source]], 0) - score(model, before, 0))
        tolerance = 4 * np.std(gains) / np.sqrt(300)
        assert found[0, source, 0].item() == pytest.approx(np.mean(gains), abs=tolerance)


def test_integrated_gradients_divide_the_score_among_the_sources():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    stems = torch.randn(2, 3, 16, dtype=torch.float64)
    mixed = MixedSources(model)
    maps = IntegratedGradients(mixed).attribute(stems, 0, target=1, n_steps=200)
    wanted = model(stems.sum(1))[:, 1] - model(torch.zeros(2, 16, dtype=torch.float64))[:, 1]
    assert maps.sum((1, 2)).tolist() == pytest.approx(wanted.tolist(), abs=1e-5)
    # The gradient at the mix is that at each source: a source gets the mix's relevance by its share of each sample.
    whole = IntegratedGradients(model).attribute(stems.sum(1), 0, target=1, n_steps=200)
    torch.testing.assert_close(maps, whole[:, None] / stems.sum(1, keepdim=True) * stems, rtol=1e-6, atol=1e-9)


def test_deletion_leaves_out_one_source_after_the_other(model, stems):
    grid = region_grid((3, 16), rows=3, columns=1)
    order = torch.tensor([0.3, 0.9, 0.5])  # the second source goes first, then the third
    maps = order[None, :, None].expand(1, 3, 16)
    mixed = MixedSources(model, spectrum)
    curves = deletion_insertion(mixed, stems[:1], maps, torch.zeros(1, 3, 16).double(), grid=grid, target=0)
    first, second, third = stems[0]
    wanted = [score(model, parts, 0) for parts in ([first, second, third], [first, third], [first], [])]
    assert curves.deletion[0].tolist() == pytest.approx(wanted)
    wanted = [score(model, parts, 0) for parts in ([], [second], [second, third], [first, second, third])]
    assert curves.insertion[0].tolist() == pytest.approx(wanted)


def test_sources_of_another_shape_and_what_is_no_model_are_refused(model, stems):
    mixed = MixedSources(model, spectrum)
    torch.testing.assert_close(mixed(stems[:, None]), mixed(stems), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"expected sources of shape \(clip, source, sample\), but got \(2, 16\)"):
        mixed(stems[:, 0])
    with pytest.raises(ValueError, match=r"but got \(2, 3, 1, 16\)"):
        mixed(stems[:, :, None])
    with pytest.raises(TypeError, match="expected `model` to be a torch.nn.Module, but got function"):
        MixedSources(spectrum)
