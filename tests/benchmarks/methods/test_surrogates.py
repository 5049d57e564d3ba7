"""Surrogates that are fitted to masked clips, and SmoothGrad of Integrated Gradients, against slow ones."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import pairwise_distances
from torch import nn

from benchmarks.methods import METHODS, perturbation
from captum_apex.masking.grids import region_grid, region_sums
from captum_apex.pretrained import MixedSources
from tests.benchmarks.methods.queries import SIZE, logit, maps, query_of, random_query, without


def decreases(tree):
    """The mean decrease in impurity of each feature of a tree, from the impurities of its nodes, as shares."""
    found = np.zeros(tree.n_features)
    for node in range(tree.node_count):
        left, right = tree.children_left[node], tree.children_right[node]
        if left != -1:
            before, after = (
                sum(tree.weighted_n_node_samples[each] * tree.impurity[each] for each in nodes)
                for nodes in ([node], [left, right])
            )
            found[tree.feature[node]] += before - after
    return found / found.sum()


@pytest.fixture
def fitted(monkeypatch):
    """What each forest was fitted to, and its trees."""
    fits = []
    fit = RandomForestRegressor.fit

    def noted(forest, masks, scores, weights):
        fit(forest, masks, scores, weights)
        fits.append((masks, scores, weights, [tree.tree_ for tree in forest.estimators_]))
        return forest

    monkeypatch.setattr(RandomForestRegressor, "fit", noted)
    return fits


def test_the_random_forest_has_the_mean_decreases_in_impurity_of_a_hundred_trees(fitted):
    query = random_query(dtype=torch.float64)
    sums = region_sums(maps("random forest", query)[0], query.grid)
    torch.manual_seed(0)
    draws = torch.rand(2, 12, 6) < 0.5
    draws[:, 0] = True
    for i, (masks, scores, weights, trees) in enumerate(fitted):
        assert masks.tolist() == draws[i].tolist()
        assert scores == pytest.approx(
            [logit(query, without(query, set(np.flatnonzero(mask == 0))), i) for mask in masks]
        )
        distances = pairwise_distances(masks, masks[:1], metric="cosine").ravel()
        assert weights == pytest.approx(np.sqrt(np.exp(-(distances**2) / 0.25**2)))
        assert len(trees) == 100
        wanted = np.mean([decreases(tree) for tree in trees], 0)
        assert sums[i].tolist() == pytest.approx(wanted.tolist(), rel=1e-9)


class Bins(nn.Module):
    """Two logits: four times the first region's mean, and minus four times the mean of the last one."""

    def forward(self, inputs):
        return torch.stack([4 * inputs[:, 0, :2, :2].mean((1, 2)), -4 * inputs[:, 0, 2:, 4:].mean((1, 2))], 1)


@pytest.mark.parametrize("name", [name for name in METHODS if name.endswith("1000 samples")])
def test_a_thousand_samples_find_the_only_region_that_counts(name):
    """A region that lowers the logit is evidence against the class for LIME, and as important as any for the forest."""
    model = nn.Sequential(Bins(), nn.Identity())
    inputs = torch.ones(2, 1, 4, 6, dtype=torch.float64)
    grid = region_grid((4, 6), 2, 3)
    query = query_of(model, model[0], inputs, torch.tensor([0, 1]), torch.zeros_like(inputs), grid, {})
    seen = []
    model[1].register_forward_pre_hook(lambda _, outputs: seen.append(len(outputs[0])))
    sums = region_sums(maps(name, query)[0], grid)
    assert 2000 <= sum(seen) <= 2010  # Captum adds a pass for the clip itself
    assert sums.abs().argmax(1).tolist() == [0, 5]
    others = sums.abs().sum(1) - sums.abs().amax(1)
    assert (others < 0.02 * sums.abs().amax(1)).all()
    signs = [1, 1] if "forest" in name else [1, -1]
    assert [sums[0, 0].sign().item(), sums[1, 5].sign().item()] == signs


@pytest.mark.parametrize("name", ["Lime", "audioLIME", "random forest"])
def test_more_samples_are_the_same_method(name, monkeypatch):
    """With as many samples as the default row takes, its map is that of the default row."""
    monkeypatch.setattr(perturbation, "MANY_SAMPLES", 12)
    query = random_query(dtype=torch.float64)
    assert torch.equal(maps(f"{name}, 1000 samples", query)[0], maps(name, query)[0])


def test_noisy_integrated_gradients_are_the_mean_over_noisy_copies():
    query = random_query(dtype=torch.float64)
    nodes, shares = np.polynomial.legendre.leggauss(16)
    torch.manual_seed(0)
    for i, got in enumerate(maps("NoiseTunnel (IntegratedGradients)", query)[0]):
        clip, fill = query.inputs[i], query.fill[i]
        spread_of_noise = 0.1 * (clip.max() - clip.min()).item()
        noise = torch.normal(0, torch.tensor(spread_of_noise).repeat(8, 1, *SIZE))
        total = torch.zeros_like(clip)
        for draw in noise:
            for node, share in zip(nodes, shares, strict=True):
                point = (fill + (node + 1) / 2 * (clip + draw - fill))[None].requires_grad_()
                gradient = torch.autograd.grad(query.model(point)[0, query.target[i]], point)[0][0]
                total += share / 2 * gradient * (clip + draw - fill)
        # Captum rounds the steps of the way to float32.
        torch.testing.assert_close(got, total / 8, rtol=1e-4, atol=1e-7)


def test_audio_lime_on_sources_is_the_ridge_regression_on_mixes():
    """The components of audioLIME are separated sources: here three, in two parts of the clip."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 2)).double().eval()
    stems = torch.randn(1, 1, 3, 8, dtype=torch.float64)
    grid = region_grid((3, 8), rows=3, columns=2)
    mixed = MixedSources(model)
    query = query_of(mixed, model[0], stems, torch.tensor([1]), torch.zeros_like(stems), grid, {})
    sums = region_sums(maps("audioLIME", query)[0], grid)[0]
    torch.manual_seed(0)
    masks = (torch.rand(1, 12, 6) < 0.5)[0].double().numpy()
    masks[0] = 1
    scores = []
    for mask in masks:
        halves = mask.reshape(3, 2).repeat(4, axis=1)  # source by source, the two halves of four samples
        scores.append(model((stems[0, 0] * torch.from_numpy(halves)).sum(0))[1].item())
    distances = pairwise_distances(masks, masks[:1], metric="cosine").ravel()
    weights = np.sqrt(np.exp(-(distances**2) / 0.25**2))
    design = np.column_stack([masks, np.ones(12)])
    penalty = np.diag([1.0] * 6 + [0.0])  # none on the intercept
    wanted = np.linalg.solve(design.T @ (weights[:, None] * design) + penalty, design.T @ (weights * scores))[:6]
    assert sums.tolist() == pytest.approx(wanted.tolist(), abs=1e-8)
