"""Every attribution method on both networks; those of the benchmark against slow ones written from the definition."""

import copy
import dataclasses
import importlib.util
import inspect
import re
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, IntegratedGradients
from scipy.ndimage import gaussian_filter1d
from sklearn.metrics import pairwise_distances
from torch import nn

from benchmarks.methods import METHODS, Method, load_methods, method, registry
from benchmarks.methods.region_maps import shared, spread
from benchmarks.reports.standings import family
from benchmarks.runs.maps import run_method
from captum_apex import APEX, SCHEMES, PrototypeBasis
from captum_apex.attribution.decomposition import Decomposition
from captum_apex.layers.cell_places import CellPlaces
from captum_apex.layers.origin import Origin
from captum_apex.layers.placing import cell_places
from captum_apex.masking.grids import GRIDS, n_regions, named_grid, region_grid, region_sums
from tests.benchmarks.methods.queries import SIZE, logit, maps, query_of, random_query, run, without

MANY = {f"{name}, 1000 samples": name for name in ("Lime", "audioLIME", "random forest")}  # these take long
# One name for each function.
FUNCTIONS = [name for name in {each.names: each.names[0] for each in METHODS.values()}.values() if name not in MANY]
SOME_APEX = {
    "APEX time",
    "APEX frequency, n=3, through IG",
    "APEX square, through Occlusion",
}  # the others differ in their numbers alone
RANDOM = {
    "DeepLiftShap",
    "GradientShap",
    "NoiseTunnel (Saliency)",
    "NoiseTunnel (IntegratedGradients)",
    "ShapleyValueSampling",
    "KernelShap",
    "Lime",
    "audioLIME",
    "random forest",
    "random",
    "blurred random",
}
UNSUPPORTED = {
    ("convnext", "GuidedBackprop"): (NotImplementedError, "expected a model with nn.ReLU modules"),
    ("convnext", "Deconvolution"): (NotImplementedError, "expected a model with nn.ReLU modules"),
    ("convnext", "GuidedGradCam"): (NotImplementedError, "expected a model with nn.ReLU modules"),
    ("convnext", "CAM"): (TypeError, "expected a head that is pooling and one linear layer"),
    ("convnext", "LRP"): (TypeError, "has no rule defined"),
}
needs_zennit = pytest.mark.skipif(importlib.util.find_spec("zennit") is None, reason="zennit is not installed")


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("architecture", ["cnn", "convnext"])
def test_every_method_gives_a_map_or_says_why_not_and_leaves_the_model_as_it_was(architecture, name):
    if "zennit" in name:
        pytest.importorskip("zennit")
    query = random_query(architecture)
    before, inputs, fill = copy.deepcopy(query.model.state_dict()), query.inputs.clone(), query.fill.clone()
    modules, logits = [id(module) for module in query.model.modules()], query.model(inputs)
    if (architecture, name) in UNSUPPORTED:
        error, message = UNSUPPORTED[architecture, name]
        with pytest.raises(error, match=message):
            run(name, query)
        return
    found = maps(name, query)
    assert len(found) == len(METHODS[name].names)
    for attributions in found:
        assert attributions.shape == inputs.shape
        assert attributions.dtype == inputs.dtype
        assert not attributions.requires_grad
        assert attributions.isfinite().all()
        assert (attributions.flatten(1).std(1) > 0).all()
    assert torch.equal(query.inputs, inputs)
    assert torch.equal(query.fill, fill)
    assert [id(module) for module in query.model.modules()] == modules
    assert all(torch.equal(tensor, before[key]) for key, tensor in query.model.state_dict().items())
    assert torch.equal(query.model(inputs), logits)  # no hook is left either
    assert not any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in query.model.modules()
    )


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if not name.startswith("APEX") or name in SOME_APEX])
def test_random_methods_follow_the_seed_and_the_others_neither_it_nor_the_batch(name):
    if "zennit" in name:
        pytest.importorskip("zennit")
    query = random_query()
    first, again, other = (torch.stack(maps(name, copy.deepcopy(query), seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name not in RANDOM)
    if name not in RANDOM:
        alone = torch.stack(maps(name, copy.deepcopy(query).clips(slice(1, 2))))
        torch.testing.assert_close(alone[:, 0], first[:, 1], rtol=2e-3, atol=1e-4 * first.abs().max().item())


def test_names_say_what_apex_explains():
    schemes, sizes = ("square", "time", "frequency", "time-frequency"), ("", ", n=1", ", n=3")
    names = {f"APEX {scheme}{size}" for scheme in schemes for size in sizes}
    scored = {f"{name}, through {way}" for name in (*names, "APEX all") for way in ("IG", "Occlusion")}
    ends = {f"APEX {scheme}, {end}" for scheme in schemes for end in ("all", "two-sided")}
    assert {name for name in METHODS if name.startswith("APEX")} == names | scored | ends | {"APEX all, two-sided"}
    assert [name for name, each in METHODS.items() if not each.default] == [
        "NoiseTunnel (IntegratedGradients)",
        "Lime, 1000 samples",
        "audioLIME, 1000 samples",
        "random forest",
        "random forest, 1000 samples",
        "L-MAC",
        "twin network",
        "twin difference",
        "AudioProtoPNet",
        "InfoDisent",
        "greedy oracle",
    ]
    assert next(iter(METHODS)) == "APEX square"
    query = random_query()
    for size, n in (("", 5), (", n=1", 1), (", n=3", 3), (", all", None)):
        for scheme in SCHEMES:
            wanted = APEX(query.model, query.layer, query.bases[scheme]).attribute(
                query.inputs, query.target, n_channels=n
            )
            assert torch.equal(maps(f"APEX {scheme}{size}", query)[0], wanted)


@pytest.mark.parametrize(("architecture", "part"), [("cnn", slice(None)), ("convnext", slice(2, None, 5))])
def test_apex_through_occlusion_is_feature_ablation_of_each_evidence_score(architecture, part):
    query = random_query(architecture, torch.float64)
    names = METHODS["APEX all, through Occlusion"].names
    together = METHODS[names[0]].maps(dataclasses.replace(query, names=names))
    for name, got in list(zip(names, together, strict=True))[part]:
        scheme = name.removeprefix("APEX ").split(",")[0]
        n = None if scheme == "all" else 1 if "n=1" in name else 3 if "n=3" in name else 5
        apex = APEX(query.model, query.layer, query.bases["time" if scheme == "all" else scheme])
        weights = apex.evidence_weights(query.inputs, query.target, n_channels=n)
        wanted = FeatureAblation(apex.evidence_score).attribute(
            query.inputs, query.fill, additional_forward_args=weights, feature_mask=query.grid[None, None]
        )
        sizes = torch.tensor([(query.grid == region).sum() for region in range(6)])
        torch.testing.assert_close(got, wanted / sizes[query.grid], rtol=1e-7, atol=1e-12)


def test_apex_through_integrated_gradients_attributes_the_evidence_score_from_the_fill():
    query = random_query(dtype=torch.float64)
    apex = APEX(query.model, query.layer, query.bases["frequency"])
    weights = apex.evidence_weights(query.inputs, query.target, n_channels=3)
    wanted = IntegratedGradients(apex.evidence_score).attribute(
        query.inputs, query.fill, additional_forward_args=weights, n_steps=16
    )
    # Captum rounds the steps of the way to float32.
    torch.testing.assert_close(maps("APEX frequency, n=3, through IG", query)[0], wanted, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("APEX all, through IG", "IntegratedGradients"),
        ("APEX all, through Occlusion", "FeatureAblation"),
        ("APEX all, two-sided", "two-sided occlusion"),
        ("APEX square, all", "LayerGradCam"),
    ],
)
def test_all_channels_are_the_logit_where_the_head_is_linear_so_that_the_row_is_a_control(name, other):
    query = random_query(dtype=torch.float64)
    torch.testing.assert_close(maps(name, query)[0], maps(other, query)[0], rtol=1e-6, atol=1e-10)
    assert family(name) == "controls"


def test_cam_is_grad_cam_where_the_head_is_pooling_and_linear_and_adds_up_to_the_logit():
    query = random_query(dtype=torch.float64)
    cam = maps("CAM", query)[0]
    torch.testing.assert_close(cam, maps("LayerGradCam", query)[0], rtol=1e-8, atol=1e-12)
    cells = query.model.features(query.inputs)[:, :, 0, 0].shape[1]
    assert cells == 128
    wanted = [logit(query, query.inputs, i) - query.model.classifier.bias[query.target[i]].item() for i in range(2)]
    assert cam.sum((1, 2, 3)).tolist() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("name", ["IntegratedGradients", "DeepLift"])
def test_deltas_are_what_the_map_adds_up_to_beyond_the_logits_difference(name):
    query = random_query(dtype=torch.float64)
    attributions, delta = run(name, query)[0]
    for i in range(2):
        difference = logit(query, query.inputs, i) - logit(query, query.fill, i)
        assert (attributions[i].sum() - delta[i]).item() == pytest.approx(difference, abs=1e-9)


def test_sixteen_steps_are_enough_for_integrated_gradients():
    query = random_query(clips=4)
    attributions, delta = run("IntegratedGradients", query)[0]
    relative = delta.abs() / (attributions.sum((1, 2, 3)) - delta).abs()
    assert relative.median() < 0.03


# Methods of regions


class Additive(nn.Module):
    """Logits that are sums over bins, so that every region's worth is known."""

    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(8 * 13, 3)

    def forward(self, clips):
        return self.linear(self.flatten(clips))


@pytest.fixture
def additive():
    """A query about an additive model, and each bin's worth (clip, 1, frequency, time)."""
    torch.manual_seed(3)
    model = Additive().double()
    inputs, fill = torch.randn(2, 2, 1, 8, 13, dtype=torch.float64)
    target = torch.tensor([2, 0])
    query = query_of(model, model.flatten, inputs, target, fill, region_grid((8, 13), 2, 3), {})
    return query, model.linear.weight[target].reshape(2, 1, 8, 13).detach()


@pytest.mark.parametrize(
    ("name", "times"),
    [("FeatureAblation", 1), ("two-sided occlusion", 2), ("ShapleyValueSampling", 1), ("KernelShap", 1)],
)
def test_regions_of_an_additive_model_get_what_they_add(additive, name, times):
    query, weights = additive
    wanted = times * region_sums(weights * (query.inputs - query.fill), query.grid)
    torch.testing.assert_close(region_sums(maps(name, query)[0], query.grid), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["IntegratedGradients", "DeepLift"])
def test_bins_of_an_additive_model_get_what_they_add(additive, name):
    query, weights = additive
    torch.testing.assert_close(maps(name, query)[0], weights * (query.inputs - query.fill), rtol=1e-9, atol=1e-12)


def test_deep_lift_shap_is_deep_lift_from_the_fill_and_noisy_copies_of_it(additive):
    query, weights = additive
    torch.manual_seed(0)
    for i, got in enumerate(maps("DeepLiftShap", query)[0]):
        noise = torch.randn(4, 1, 8, 13).double() * 0.1 * (query.inputs[i].max() - query.inputs[i].min())
        baseline = query.fill[i] + noise[1:].sum(0) / 4
        torch.testing.assert_close(got, weights[i] * (query.inputs[i] - baseline), rtol=1e-6, atol=1e-8)


def test_gradient_shap_of_an_additive_model_is_near_what_the_bins_add(additive):
    query, weights = additive
    spread_of_noise = 0.1 * (query.inputs.amax() - query.inputs.amin()) / 4  # sixteen samples
    distance = (maps("GradientShap", query)[0] / weights - (query.inputs - query.fill)).std()
    assert distance < 1.2 * spread_of_noise


def test_the_noise_tunnel_averages_absolute_gradients_of_noisy_copies():
    query = random_query(dtype=torch.float64)
    torch.manual_seed(0)
    for i, got in enumerate(maps("NoiseTunnel (Saliency)", query)[0]):
        clip = query.inputs[i]
        spread_of_noise = 0.1 * (clip.max() - clip.min()).item()
        noise = torch.normal(0, torch.tensor(spread_of_noise).repeat(8, 1, *SIZE))
        total = torch.zeros_like(clip)
        for draw in noise:
            noisy = (clip + draw)[None].requires_grad_()
            total += torch.autograd.grad(query.model(noisy)[0, query.target[i]], noisy)[0][0].abs()
        torch.testing.assert_close(got, total / 8, rtol=1e-6, atol=1e-9)


def test_occlusion_averages_the_drops_of_overlapping_windows():
    query = random_query(dtype=torch.float64, clips=1)
    got = maps("Occlusion", query)[0]
    total, count = torch.zeros(SIZE, dtype=torch.float64), torch.zeros(SIZE)
    # Regions of 32 × 11 bins (three columns on 32 frames); steps smaller by √2 along both axes; the last windows are
    # cut at the edge.
    for top in (0, 23, 46):
        for left in (0, 8, 16, 24):
            changed = query.inputs.clone()
            changed[:, :, top : top + 32, left : left + 11] = query.fill[:, :, top : top + 32, left : left + 11]
            total[top : top + 32, left : left + 11] += logit(query, query.inputs, 0) - logit(query, changed, 0)
            count[top : top + 32, left : left + 11] += 1
    torch.testing.assert_close(got[0, 0], (total / count).float(), rtol=1e-5, atol=1e-8)  # Captum's is always float32


@pytest.mark.parametrize("grid", GRIDS)
def test_occlusion_takes_about_twice_as_many_windows_as_there_are_regions(grid):
    shape, calls = (64, 126), []
    model = nn.Sequential(nn.AdaptiveAvgPool2d((2, 2)), nn.Flatten(), nn.Linear(4, 3)).eval()
    model.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    inputs, regions = torch.randn(1, 1, *shape), named_grid(grid, shape)
    run("Occlusion", query_of(model, model[0], inputs, torch.tensor([0]), torch.zeros_like(inputs), regions, {}))
    assert 1.5 < sum(calls) / n_regions(regions) < 2.5


def test_two_sided_occlusion_is_what_a_region_takes_away_and_what_it_brings():
    query = random_query(dtype=torch.float64)
    sums = region_sums(maps("two-sided occlusion", query)[0], query.grid)
    everything = set(range(6))
    for i in range(2):
        for region in range(6):
            takes = logit(query, query.inputs, i) - logit(query, without(query, {region}), i)
            brings = logit(query, without(query, everything - {region}), i) - logit(query, query.fill, i)
            assert sums[i, region].item() == pytest.approx(takes + brings, abs=1e-9)


def test_apex_two_sided_is_the_same_of_the_evidence_score():
    query = random_query(dtype=torch.float64)
    everything = set(range(6))
    asked = [*((scheme, 5) for scheme in SCHEMES), (SCHEMES[0], None)]
    for (scheme, n), found in zip(asked, maps(f"APEX {SCHEMES[0]}, two-sided", query), strict=True):
        apex = APEX(query.model, query.layer, query.bases[scheme])
        weights = apex.evidence_weights(query.inputs, query.target, n_channels=n)
        score = partial(apex.evidence_score, weights=weights)
        sums = region_sums(found, query.grid)
        for region in range(6):
            takes = score(query.inputs) - score(without(query, {region}))
            brings = score(without(query, everything - {region})) - score(query.fill)
            torch.testing.assert_close(sums[:, region], takes + brings, rtol=0, atol=1e-9)


def test_the_variants_take_the_fewest_channels_that_make_up_the_share(monkeypatch):
    monkeypatch.setattr(registry, "METHODS", {})  # the variants are not to stay
    path = Path(registry.__file__).parent / "variants.py"
    spec = importlib.util.spec_from_file_location("variants_alone", path)
    variants = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(variants)
    assert len(registry.METHODS) == 4 * 2 * 4 + 4 * 2
    contributions = torch.tensor([[5.0, 3.0, 1.0, 1.0, -4.0, 9.0]])
    activations = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, -1.0]])
    relevance, features = (each[:, :, None, None] for each in (contributions, activations))
    decomposition = Decomposition(features, relevance, relevance, contributions, 0, contributions.sum(1))
    assert variants.SHARE == 0.8
    assert variants.fewest_channels(decomposition).tolist() == [[True, True, False, False, False, False]]


def test_audio_lime_is_the_ridge_regression_of_the_lime_package():
    query = random_query(dtype=torch.float64)
    sums = region_sums(maps("audioLIME", query)[0], query.grid)
    torch.manual_seed(0)
    draws = torch.rand(2, 12, 6) < 0.5
    for i in range(2):
        masks = draws[i].double().numpy()
        masks[0] = 1
        scores = [logit(query, without(query, set(np.flatnonzero(mask == 0))), i) for mask in masks]
        distances = pairwise_distances(masks, masks[:1], metric="cosine").ravel()
        weights = np.sqrt(np.exp(-(distances**2) / 0.25**2))
        design = np.column_stack([masks, np.ones(12)])
        penalty = np.diag([1.0] * 6 + [0.0])  # none on the intercept
        wanted = np.linalg.solve(design.T @ (weights[:, None] * design) + penalty, design.T @ (weights * scores))[:6]
        assert sums[i].tolist() == pytest.approx(wanted.tolist(), abs=1e-8)


def test_the_greedy_oracle_takes_the_best_next_region_each_time():
    query = random_query(dtype=torch.float64, clips=3, grid=(2, 2))
    sums = region_sums(maps("greedy oracle", query)[0], query.grid)
    everything = {0, 1, 2, 3}

    def probability(inputs, clip):
        with torch.no_grad():
            return query.model(inputs[clip : clip + 1]).softmax(1)[0, query.target[clip]].item()

    for i in range(3):
        order = []
        while len(order) < 4:
            gaps = {}
            for region in sorted(everything - set(order)):
                chosen = {*order, region}
                gaps[region] = probability(without(query, everything - chosen), i) - probability(
                    without(query, chosen), i
                )
            order.append(max(gaps, key=gaps.get))
        assert sums[i].argsort(descending=True).tolist() == order
        assert sorted(sums[i].tolist()) == pytest.approx([1, 2, 3, 4])


def test_maps_of_regions_sum_to_their_scores():
    grid, scores = region_grid((5, 7), 2, 3), torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(region_sums(spread(scores, grid), grid), scores)
    torch.testing.assert_close(region_sums(shared(scores[:, grid][:, None], grid), grid), scores)


# Relevance and controls


@needs_zennit
@pytest.mark.parametrize(
    ("architecture", "name"),
    [  # z⁺ in the ConvNeXt loses what no positive part of a depthwise convolution can take
        ("cnn", "LRP EpsilonPlus (zennit)"),
        ("cnn", "LRP EpsilonGammaBox (zennit)"),
        ("convnext", "LRP EpsilonGammaBox (zennit)"),
    ],
)
def test_relevance_adds_up_to_the_logit_where_there_are_no_biases(architecture, name):
    query = random_query(architecture, torch.float64, biased=False)
    total = maps(name, query)[0].sum((1, 2, 3))
    assert total.tolist() == pytest.approx([logit(query, query.inputs, i) for i in range(2)], rel=0.01)


@needs_zennit
def test_relevance_of_one_layer_is_the_share_of_what_excites_it():
    """z⁺, mean and ε by hand: the share of x·w⁺ in its sum, of the cell in the mean, of the channel in the logit."""
    torch.manual_seed(5)
    layer = nn.Conv2d(1, 2, 1, bias=False)
    model = nn.Sequential(layer, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3, bias=False)).double()
    layer.weight.data = torch.tensor([2.0, -1.0]).double().reshape(2, 1, 1, 1)
    inputs = torch.tensor([[[[1.0, -2.0, 3.0]]]]).double()
    query = query_of(model, layer, inputs, torch.tensor([1]), inputs, torch.zeros(1, 3, dtype=torch.int64), {})
    first, second = model[4].weight[1].tolist()
    # The first channel is 2, 0, 6 and hears positive bins, the second is 0, 2, 0 and hears negative ones.
    wanted = [2 / 3 * first, 2 / 3 * second, 6 / 3 * first]
    assert maps("LRP EpsilonPlus (zennit)", query)[0].flatten().tolist() == pytest.approx(wanted, rel=1e-4)


def test_without_zennit_its_methods_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zennit", None)
    with pytest.raises(NotImplementedError, match="`pip install zennit` brings it"):
        run("LRP EpsilonPlus (zennit)", random_query())


def test_blurred_noise_is_as_smooth_as_a_cell_of_the_layer():
    query = random_query(clips=1)
    torch.manual_seed(0)
    noise = torch.randn(1, 1, *SIZE).numpy()  # cells of 8 × 8 bins
    wanted = gaussian_filter1d(gaussian_filter1d(noise, 4.0, axis=2), 4.0, axis=3)
    torch.testing.assert_close(maps("blurred random", query)[0], torch.from_numpy(wanted), rtol=1e-4, atol=1e-6)


class Unpadded(nn.Module):
    """Energies of clicks in windows of 25 frames, 4 frames apart, without padding: column 0 has its middle at 12.5."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(1, 2, (5, 25), stride=(1, 4), bias=False), nn.ReLU())
        window = torch.hann_window(5)[:, None] * torch.hann_window(25)
        with torch.no_grad():
            self.layer[0].weight.copy_(torch.stack([window, -window])[:, None])
        self.head = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.head.weight)

    def forward(self, inputs):
        return self.head(self.layer(inputs).mean((2, 3)))


LAYER_METHODS = ["LayerGradCam", "CAM", "APEX square", "APEX time", "APEX square, all"]


def query_of_a_click(row, frame, known=True):
    """A click in 20 bands × 101 frames, of which the last ones are in no window; with or without the places."""
    model = Unpadded().eval()
    inputs = torch.zeros(1, 1, 20, 101)
    inputs[0, 0, row, frame] = 1.0
    places = cell_places(model, model.layer, inputs) if known else CellPlaces()
    bases = {scheme: PrototypeBasis(torch.eye(2), scheme, origin=Origin(places=places)) for scheme in SCHEMES}
    about = {"target": torch.tensor([0]), "fill": torch.zeros_like(inputs), "grid": region_grid((20, 101), 2, 3)}
    return dataclasses.replace(query_of(model, model.layer, inputs, **about, bases=bases), places=places)


@pytest.mark.parametrize("frame", [12, 50, 83])
@pytest.mark.parametrize("name", [*LAYER_METHODS, "GuidedGradCam"])
def test_maps_of_a_layer_without_padding_lie_where_the_click_is(name, frame):
    relevance = maps(name, query_of_a_click(7, frame))[0][0, 0]
    assert relevance.sum(0).argmax().item() == pytest.approx(frame, abs=2.5)  # half a step, and a bin
    if "time" not in name:
        assert relevance.sum(1).argmax().item() == 7


@pytest.mark.parametrize("name", LAYER_METHODS)
def test_maps_that_fill_the_input_would_lie_elsewhere(name):
    relevance = maps(name, query_of_a_click(7, 12, known=False))[0][0, 0]
    assert abs(relevance.sum(0).argmax().item() - 12) > 5


def test_all_layer_methods_enlarge_their_maps_alike():
    query = query_of_a_click(9, 40)
    grad_cam, cam, all_channels = (maps(name, query)[0] for name in ("LayerGradCam", "CAM", "APEX square, all"))
    torch.testing.assert_close(cam, all_channels)
    torch.testing.assert_close(grad_cam / grad_cam.sum(), cam / cam.sum())


def test_energy_is_the_level_above_silence():
    query = random_query(clips=1)
    assert torch.equal(maps("energy", query)[0], query.inputs + 2.0)


# Queries and the registry


def test_a_copy_of_a_query_shares_no_memory_and_its_layer_is_a_module_of_its_model():
    query = random_query()
    copied = query.copy()
    assert copied.layer is copied.model.features
    for name in ("inputs", "target", "fill", "grid"):
        before = getattr(query, name).clone()
        getattr(copied, name).zero_()
        assert torch.equal(getattr(query, name), before)
    weight = query.model.classifier.weight.clone()
    copied.model.classifier.weight.data.zero_()
    copied.bases[SCHEMES[0]].U.zero_()
    assert torch.equal(query.model.classifier.weight, weight)
    assert query.bases[SCHEMES[0]].U.any()


def test_the_clips_of_a_query_keep_everything_but_the_other_clips():
    query = dataclasses.replace(random_query(clips=3), names=("a",), band_shares=torch.ones(64, 64))
    first, last = query.batches(2)
    for name in ("inputs", "target", "fill"):
        assert torch.equal(getattr(first, name), getattr(query, name)[:2])
        assert torch.equal(getattr(last, name), getattr(query, name)[2:])
    for name in ("model", "layer", "grid", "silence", "bases", "seed", "names", "band_shares"):
        assert getattr(first, name) is getattr(query, name)


def test_batches_are_put_together_whatever_a_method_gives():
    query, seen = dataclasses.replace(random_query(clips=5), names=("first", "second")), []

    def explain(part):
        seen.append(len(part.inputs))
        both = part.inputs.clone().requires_grad_() * 2, part.target * 3
        return [part.inputs, both]

    first, (second, delta) = Method(("first", "second", "third"), explain, batch=2).maps(query)
    assert seen == [2, 2, 1]
    assert torch.equal(first, query.inputs)
    assert torch.equal(second, query.inputs * 2)
    assert not second.requires_grad
    assert torch.equal(delta, query.target * 3)
    with pytest.raises(ValueError, match="expected a map for each of 1 names, but got 2"):
        Method(("first", "second"), explain).maps(dataclasses.replace(query, names=("second",)))


@pytest.mark.parametrize("kind", ["through IG", "through Occlusion", "two-sided"])
def test_maps_that_share_passes_are_those_that_each_has_alone(kind):
    query = random_query(dtype=torch.float64)
    names = next(each.names for name, each in METHODS.items() if name.endswith(kind))
    asked = (names[-1], *names[:3])
    together = METHODS[names[0]].maps(dataclasses.replace(query, names=asked))
    for name, got in zip(asked, together, strict=True):
        alone = METHODS[name].maps(dataclasses.replace(query, names=(name,)))[0]
        torch.testing.assert_close(got, alone, rtol=1e-9, atol=1e-13)


@pytest.fixture
def registered():
    """The registry, put back afterwards."""
    methods, loaded = dict(METHODS), dict(registry._LOADED)
    yield METHODS
    METHODS.clear()
    METHODS.update(methods)
    registry._LOADED.clear()
    registry._LOADED.update(loaded)


def example():
    """The file that the documentation shows."""
    text = inspect.getdoc(load_methods).split("This one is complete::")[1].split("Args:")[0]
    return textwrap.dedent(text)


def test_a_file_with_methods_is_loaded_once(registered, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(example())
    assert load_methods(path) == ["my gradient × distance from the fill"]
    assert load_methods(str(path)) == ["my gradient × distance from the fill"]
    query = random_query(dtype=torch.float64)
    inputs = query.inputs.clone().requires_grad_()
    gradient = torch.autograd.grad(query.model(inputs).gather(1, query.target[:, None]).sum(), inputs)[0]
    got = maps("my gradient × distance from the fill", query)[0]
    torch.testing.assert_close(got, gradient * (query.inputs - query.fill), rtol=1e-9, atol=1e-12)
    assert registered["my gradient × distance from the fill"].uses_fill


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="expected a Python file with methods at .*nothing.py, but there is none"
    ):
        load_methods(tmp_path / "nothing.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1", "to register a method by `@method`, but it registers none"),
        ("def", "raises SyntaxError"),
        ("raise SystemExit('stop')", "raises SystemExit: stop"),
        (
            "from benchmarks.methods import method\n@method\ndef explain(query):\n    return query.inputs",
            "raises TypeError: expected `@method` with the names of its maps, such as .*, but got <function explain",
        ),
        ("from benchmarks.methods import method\nmethod()(print)", "with the names of its maps, .* but got none"),
        *(
            (f"from benchmarks.methods import method\nmethod('{name}')(print)", "begins with no =, [+], - or @")
            for name in ("=1+1", "+1", "-1", "@SUM(A1)")
        ),
        (
            "from benchmarks.methods import method\nmethod('new')(print)\n1 / 0",
            r"raises ZeroDivisionError: division by zero [(]line 3 of mine.py[)]",
        ),
        (
            "from benchmarks.methods import method\nmethod('new', 'Saliency')(print)",
            "but 'Saliency' is registered already",
        ),
    ],
)
def test_a_file_that_cannot_be_used_leaves_nothing_behind(registered, tmp_path, text, message):
    path, before = tmp_path / "mine.py", dict(METHODS)
    path.write_text(text)
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            load_methods(path)
    assert before == registered


def test_the_status_of_a_failure_names_its_line_in_the_users_file(registered, tmp_path):
    path = tmp_path / "mine.py"
    lines = ["from benchmarks.methods import method", "@method('fails inside torch')", "def explain(query):"]
    path.write_text("\n".join([*lines, "    return query.inputs.view(7)"]))
    load_methods(path)
    found = run_method(registered["fails inside torch"], random_query())["fails inside torch"]
    assert re.fullmatch(r"error \(shape '\[7\]' is invalid for input of size \d+; line 4 of mine.py\)", found.status)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="expected a new name for a method, but 'Saliency' is registered already"):
        method("Saliency")(lambda query: query.inputs)


def test_the_readme_lists_all_methods_and_those_that_a_run_has_to_name():
    readme = Path(__file__).parents[3] / "benchmarks" / "README.md"
    section = readme.read_text().split("## Which methods it has\n")[1].split("\n## ")[0]
    lines = [line.split("|")[2:4] for line in section.splitlines() if line.startswith("|")][3:]  # without APEX
    default, named = ([name for line in lines for name in re.findall("`([^`]+)`", line[i])] for i in (0, 1))
    others = [name for name in METHODS if not name.startswith("APEX")]
    assert sorted(default) == sorted(name for name in others if METHODS[name].default)
    assert sorted(named) == sorted(name for name in others if not METHODS[name].default)
