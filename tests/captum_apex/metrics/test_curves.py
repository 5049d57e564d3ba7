"""Deletion and insertion against a slow transcription of their definition, and against models of known curves."""

import dataclasses
import inspect
import itertools
import math
import typing

import numpy as np
import pytest
import torch
from torch import nn

from captum_apex.masking.fills import mean_fill, silence_fill
from captum_apex.masking.grids import GRIDS, named_grid, region_grid, region_sums
from captum_apex.masking.rankings import ranking
from captum_apex.metrics import (
    Curves,
    Removal,
    deletion,
    deletion_insertion,
    deletion_sequence,
    insertion,
    masked_outputs,
    masked_scores,
)

SHAPE = (17, 27)  # divides evenly by none of the grids
CLIPS = 5


def network(classes=4):
    """A small convolutional classifier that gives probabilities, in float64, with the same weights in every test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(2, 6, 3), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(6 * 5 * 8, classes), nn.Softmax(1)
        )
        return layers.double().eval()


def random_like(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model():
    return network()


@pytest.fixture
def inputs():
    return random_like((CLIPS, 2, *SHAPE)) * 3


@pytest.fixture
def attributions():
    return random_like((CLIPS, 2, *SHAPE), seed=1)


@pytest.fixture(params=GRIDS)
def grid(request):
    return named_grid(request.param, SHAPE)


class Counter(nn.Module):
    """Counts the clips that a model is asked about, and the largest batch of them."""

    def __init__(self, model):
        super().__init__()
        self.model, self.clips, self.largest = model, 0, 0

    def forward(self, inputs, *arguments):
        self.clips += len(inputs)
        self.largest = max(self.largest, len(inputs))
        return self.model(inputs, *arguments)


def rise_curve(model, start, finish, relevance, grid, target, seed, counts):
    """One curve of RISE's causal metric: from ``start`` to ``finish``, the most relevant regions of one clip first.

    Written with loops from the definition (arXiv 1806.07421, Section 4): "remove the pixels in order of their
    importance and look at the probability of the class"; here a region's importance is the sum of its pixels'.
    """
    channels, rows, columns = start.shape
    n_regions = max(grid[i][j] for i in range(rows) for j in range(columns)) + 1
    importance = [0.0] * n_regions
    for channel in range(channels):
        for i in range(rows):
            for j in range(columns):
                importance[grid[i][j]] += relevance[channel, i, j].item()
    shuffle = torch.randperm(n_regions, generator=torch.Generator().manual_seed(seed)).tolist()
    order = sorted(range(n_regions), key=lambda region: (-importance[region], shuffle.index(region)))
    fractions, scores, current, exchanged = [], [], start.clone(), 0
    for step in range(n_regions + 1):
        if step in counts:
            fractions.append(exchanged / (rows * columns))
            scores.append(model(current[None])[0, target].item())
        if step < n_regions:
            for i in range(rows):
                for j in range(columns):
                    if grid[i][j] == order[step]:
                        current[:, i, j] = finish[:, i, j]
                        exchanged += 1
    return fractions, scores


def trapezoid(fractions, scores):
    steps = zip(fractions, fractions[1:], scores, scores[1:], strict=False)
    return sum((right - left) * (low + high) / 2 for left, right, low, high in steps)


@pytest.mark.parametrize("fill", [mean_fill, lambda inputs: silence_fill(inputs, -2.0)], ids=["mean", "silence"])
@pytest.mark.parametrize("points", [None, 2, 5, 9])
def test_against_the_definition(model, inputs, attributions, grid, fill, points):
    fills = fill(inputs)
    target = [0, 1, 2, 3, 1]
    curves = deletion_insertion(
        model, inputs, attributions, fills, grid=grid, target=torch.tensor(target), points=points, seed=7, batch_size=11
    )
    regions = int(grid.max()) + 1
    counts = list(range(regions + 1)) if points is None else [round(k * regions / (points - 1)) for k in range(points)]
    for clip in range(CLIPS):
        common = (attributions[clip], grid.tolist(), target[clip], 7, counts)
        for measured, auc, start, finish in [
            (curves.deletion, curves.deletion_auc, inputs, fills),
            (curves.insertion, curves.insertion_auc, fills, inputs),
        ]:
            fractions, scores = rise_curve(model, start[clip], finish[clip], *common)
            assert curves.fraction[clip].tolist() == pytest.approx(fractions, abs=1e-12)
            assert measured[clip].tolist() == pytest.approx(scores, abs=1e-10)
            assert auc[clip].item() == pytest.approx(trapezoid(fractions, scores), abs=1e-10)


def test_equal_regions_give_rises_own_area(model, attributions):
    """RISE's area takes equal steps: (sum − half of both ends) / number of steps."""
    inputs, grid = random_like((3, 2, 17, 27)), region_grid((17, 27), 1, 9)
    curves = deletion_insertion(model, inputs, attributions[:3], mean_fill(inputs), grid=grid, target=2)
    for scores, auc in [(curves.deletion, curves.deletion_auc), (curves.insertion, curves.insertion_auc)]:
        expected = (scores.sum(1) - scores[:, 0] / 2 - scores[:, -1] / 2) / 9
        torch.testing.assert_close(auc, expected, rtol=0, atol=1e-12)


def rise_area(model, image, saliency, substrate, mode, step):
    """RISE's evaluation of one image, as its published evaluation.py computes it: pixels by saliency, `step` at a time.

    The class is the model's own; the area is `(sum − first / 2 − last / 2) / number of steps`.
    """
    channels, pixels = image.shape[0], image[0].size
    label = model(torch.from_numpy(image)[None])[0].argmax().item()
    start, finish = (image, substrate) if mode == "deletion" else (substrate, image)
    start, finish = start.reshape(channels, pixels).copy(), finish.reshape(channels, pixels)
    salient_order = np.flip(np.argsort(saliency.reshape(pixels)))
    n_steps = -(-pixels // step)
    scores = np.empty(n_steps + 1)
    for i in range(n_steps + 1):
        scores[i] = model(torch.from_numpy(start.reshape(image.shape))[None])[0, label].item()
        coordinates = salient_order[step * i : step * (i + 1)]
        start[:, coordinates] = finish[:, coordinates]
    return label, (scores.sum() - scores[0] / 2 - scores[-1] / 2) / n_steps


@pytest.mark.parametrize("step", [1, 17])
def test_single_pixels_give_what_rise_gives(model, step):
    """A grid of one bin per region is RISE itself, up to the order of ties."""
    inputs, saliency = random_like((1, 2, *SHAPE)) * 3, random_like((1, 1, *SHAPE), seed=1)
    grid = torch.arange(17 * 27).reshape(SHAPE)
    fills = mean_fill(inputs)
    label, down = rise_area(model, inputs[0].numpy(), saliency.numpy(), fills[0].numpy(), "deletion", step)
    _, up = rise_area(model, inputs[0].numpy(), saliency.numpy(), fills[0].numpy(), "insertion", step)
    curves = deletion_insertion(
        model, inputs, saliency, fills, grid=grid, target=label, points=17 * 27 // step + 1, batch_size=64
    )
    assert curves.deletion_auc.item() == pytest.approx(down, abs=1e-6)
    assert curves.insertion_auc.item() == pytest.approx(up, abs=1e-6)


@pytest.mark.parametrize("order", ["most", "least"])
@pytest.mark.parametrize("points", [None, 4])
def test_a_constant_model_scores_its_constant(inputs, attributions, grid, order, points):
    constant = lambda clips: clips.new_full((len(clips), 3), 0.37)  # noqa: E731
    curves = deletion_insertion(
        constant, inputs, attributions, mean_fill(inputs), grid=grid, target=1, points=points, order=order
    )
    torch.testing.assert_close(curves.deletion_auc, torch.full((CLIPS,), 0.37, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        curves.insertion_auc, torch.full((CLIPS,), 0.37, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_a_linear_model_falls_by_what_was_removed_and_no_ranking_beats_its_own():
    inputs, weights = random_like((1, 1, 4, 6)).abs(), random_like((1, 1, 4, 6), seed=1)
    grid = region_grid((4, 6), 2, 3)
    total = lambda clips: (clips * weights).sum((1, 2, 3))  # noqa: E731
    zeros = torch.zeros_like(inputs)
    curves = deletion_insertion(total, inputs, inputs * weights, zeros, grid=grid)
    sums = region_sums(inputs * weights, grid)[0].sort(descending=True).values
    gone = torch.cat([torch.zeros(1), sums.cumsum(0)])
    torch.testing.assert_close(curves.deletion[0], sums.sum() - gone)
    torch.testing.assert_close(curves.insertion[0], gone)
    for seed in range(20):
        other = random_like((1, 1, 4, 6), seed=10 + seed)
        assert deletion(total, inputs, other, zeros, grid=grid) >= curves.deletion_auc - 1e-12
        assert insertion(total, inputs, other, zeros, grid=grid) <= curves.insertion_auc + 1e-12


def test_the_fraction_is_the_true_one_where_regions_differ():
    inputs, grid = torch.ones(2, 1, 1, 10), torch.tensor([[0, 0, 0, 0, 0, 0, 0, 1, 1, 2]])
    attributions = torch.zeros(2, 1, 1, 10)
    attributions[0, ..., [0, 7, 9]] = torch.tensor([3.0, 2.0, 1.0])
    attributions[1, ..., [0, 7, 9]] = torch.tensor([1.0, 2.0, 3.0])
    total = lambda clips: clips.sum((1, 2, 3))  # noqa: E731
    curves = deletion_insertion(total, inputs, attributions, torch.zeros_like(inputs), grid=grid)
    torch.testing.assert_close(curves.fraction, torch.tensor([[0, 0.7, 0.9, 1], [0, 0.1, 0.3, 1]], dtype=torch.float64))
    torch.testing.assert_close(curves.deletion, torch.tensor([[10.0, 3, 1, 0], [10, 9, 7, 0]]))
    torch.testing.assert_close(
        curves.deletion_auc, torch.tensor([5.0, 5.0])
    )  # proportional to the area, whatever the order
    assert curves.fraction.dtype == torch.float64
    assert curves.deletion.dtype == curves.deletion_auc.dtype == torch.float32


def test_ties_follow_the_seed_and_not_the_place():
    inputs, zeros = random_like((1, 2, *SHAPE)), torch.zeros(1, 2, *SHAPE, dtype=torch.float64)
    grid, model = named_grid("time", SHAPE), network()
    measured = {
        seed: deletion_insertion(model, inputs, zeros, zeros, grid=grid, target=0, seed=seed) for seed in (0, 1)
    }
    again = deletion_insertion(model, inputs, zeros, zeros, grid=grid, target=0, seed=0)
    assert torch.equal(measured[0].deletion, again.deletion)
    assert not torch.equal(measured[0].deletion, measured[1].deletion)
    first = ranking(torch.zeros(1, 25), seed=1)[0, 0]
    score = model(torch.where(grid == first, zeros, inputs))[0, 0]
    torch.testing.assert_close(measured[1].deletion[0, 1], score.detach(), rtol=0, atol=1e-12)


def test_a_batch_gives_what_one_by_one_gives(model, inputs, attributions, grid):
    attributions[:, :, :, 5:] = 0  # ties
    weights = random_like((CLIPS, 4), seed=3)
    scaled = lambda clips, weights, factor: model(clips) * weights * factor  # noqa: E731
    fills, target = mean_fill(inputs), torch.tensor([3, 0, 1, 2, 2])
    together = deletion_insertion(
        scaled,
        inputs,
        attributions,
        fills,
        grid=grid,
        target=target,
        additional_forward_args=(weights, 2.0),
        batch_size=7,
    )
    for clip in range(CLIPS):
        single = slice(clip, clip + 1)
        alone = deletion_insertion(
            scaled,
            inputs[single],
            attributions[single],
            fills[single],
            grid=grid,
            target=int(target[clip]),
            additional_forward_args=(weights[single], 2.0),
        )
        for field in dataclasses.fields(Curves):
            torch.testing.assert_close(
                getattr(together, field.name)[single], getattr(alone, field.name), rtol=0, atol=1e-12
            )


@pytest.mark.parametrize("batch_size", [1, 3, 64, 10_000])
def test_the_size_of_the_batches_does_not_matter(model, inputs, attributions, batch_size):
    common = {"grid": named_grid("square", SHAPE), "target": 1, "points": 6}
    curves = deletion_insertion(model, inputs, attributions, mean_fill(inputs), batch_size=batch_size, **common)
    other = deletion_insertion(model, inputs, attributions, mean_fill(inputs), batch_size=32, **common)
    torch.testing.assert_close(curves.deletion, other.deletion, rtol=0, atol=1e-12)
    torch.testing.assert_close(curves.insertion, other.insertion, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("points", "expected"), [(None, 26), (2, 2), (9, 9), (26, 26), (500, 26)])
def test_the_model_is_asked_once_per_different_clip(model, inputs, attributions, points, expected):
    counter = Counter(model)
    common = {"grid": named_grid("time", SHAPE), "target": 0, "points": points, "batch_size": 13}
    curves = deletion_insertion(counter, inputs, attributions, mean_fill(inputs), **common)
    assert curves.fraction.shape == curves.deletion.shape == curves.insertion.shape == (CLIPS, expected)
    assert counter.clips == CLIPS * (2 * expected - 2)
    assert counter.largest <= 13
    for metric in (deletion, insertion):
        counter.clips = 0
        metric(counter, inputs, attributions, mean_fill(inputs), **common)
        assert counter.clips == CLIPS * expected


def test_least_relevant_first_is_most_relevant_first_run_backwards(model, inputs, attributions, grid):
    attributions[:, :, :, 5:] = 0  # ties are reversed too
    most, least = (
        deletion_insertion(model, inputs, attributions, mean_fill(inputs), grid=grid, target=2, order=order)
        for order in ("most", "least")
    )
    torch.testing.assert_close(least.fraction, 1 - most.fraction.flip(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(least.deletion, most.insertion.flip(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(least.deletion_auc, most.insertion_auc, rtol=0, atol=1e-12)
    torch.testing.assert_close(least.insertion_auc, most.deletion_auc, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("points", [None, 2, 3, 4, 8, 9, 10, 11])
def test_one_call_gives_the_area_between_both_orders(model, inputs, attributions, name, points):
    """LeRF leaves what MoRF inserts: exact, except the middle one of odd points on odd regions, here 25 columns."""
    common = {"grid": named_grid(name, SHAPE), "target": 1, "points": points, "batch_size": 64}
    attributions[:, :, :, 5:] = 0  # ties
    most, least = (
        deletion_insertion(model, inputs, attributions, mean_fill(inputs), order=order, **common)
        for order in ("most", "least")
    )
    uneven = name == "time" and points is not None and points % 2 == 1
    compared = [k for k in range(most.fraction.shape[1]) if not (uneven and k == points // 2)]
    torch.testing.assert_close(
        least.fraction[:, compared], (1 - most.fraction.flip(1))[:, compared], rtol=0, atol=1e-12
    )
    torch.testing.assert_close(least.deletion[:, compared], most.insertion.flip(1)[:, compared], rtol=0, atol=1e-12)
    if not uneven:
        torch.testing.assert_close(least.deletion_auc - most.deletion_auc, most.difference, rtol=0, atol=1e-12)
    else:
        assert (least.fraction + most.fraction.flip(1))[:, points // 2].sub(1).abs().min() > 1e-3


@pytest.mark.parametrize("regions", [1, 2, 5, 16, 25, 40])
def test_as_many_regions_go_at_one_end_as_at_the_other(regions):
    inputs = torch.ones(1, 1, regions)
    for points in range(2, regions + 2):
        counts = deletion_sequence(inputs, inputs, torch.arange(regions), points).removed.sum(2)[0].tolist()
        assert len(counts) == points
        assert counts[0] == 0
        assert all(before < after for before, after in itertools.pairwise(counts))
        for k in range(points):
            assert abs(counts[k] - k * regions / (points - 1)) <= 0.5  # as equal as whole regions allow
            if not (2 * k == points - 1 and regions % 2):
                assert counts[k] + counts[points - 1 - k] == regions


def test_the_mean_fall_and_the_difference_of_the_areas(model, inputs, attributions, grid):
    curves = deletion_insertion(model, inputs, attributions, mean_fill(inputs), grid=grid, target=1, points=6)
    for clip in range(CLIPS):
        scores = curves.deletion[clip].tolist()
        assert curves.aopc[clip].item() == pytest.approx(sum(scores[0] - score for score in scores[1:]) / 5, abs=1e-12)
        difference = curves.insertion_auc[clip].item() - curves.deletion_auc[clip].item()
        assert curves.difference[clip].item() == pytest.approx(difference, abs=1e-12)


def test_the_mean_fall_of_a_known_curve():
    fraction = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)
    curves = Curves(fraction, deletion=torch.tensor([[1.0, 0.5, 0.25]]), insertion=torch.tensor([[0.25, 0.75, 1.0]]))
    assert curves.aopc.tolist() == [0.625]
    assert curves.difference.tolist() == [0.6875 - 0.5625]


def test_several_scores_come_of_the_same_passes(inputs, attributions, grid):
    logits = network()[:-1]
    counter, fills = Counter(logits), mean_fill(inputs)
    removal = deletion_sequence(inputs, attributions, grid, points=5, seed=3)
    outputs = masked_outputs(counter, inputs, fills, removal.masks, grid, batch_size=7)
    assert outputs.shape == (CLIPS, 8, 4)
    assert counter.clips == CLIPS * 8
    for score in (lambda output: output.softmax(-1), lambda output: output, torch.sigmoid):
        curves = removal.curves(score(outputs)[:, :, 2])
        alone = deletion_insertion(
            lambda clips, score=score: score(logits(clips)),
            inputs,
            attributions,
            fills,
            grid=grid,
            target=2,
            points=5,
            seed=3,
        )
        for field in dataclasses.fields(Curves):
            torch.testing.assert_close(getattr(curves, field.name), getattr(alone, field.name), rtol=0, atol=1e-12)


def test_scores_that_do_not_belong_to_the_masks_are_refused(inputs, attributions, grid):
    removal = deletion_sequence(inputs, attributions, grid, points=5)
    with pytest.raises(ValueError, match=r"expected `scores` of shape \(5, 8\), as `masks`, but got \(5, 10\)"):
        removal.curves(torch.zeros(CLIPS, 10))


def test_two_points_are_the_ends_alone(model, inputs, attributions, grid):
    removal = deletion_sequence(inputs, attributions, grid, points=2)
    assert removal.masks.tolist() == [[[False] * int(grid.max() + 1), [True] * int(grid.max() + 1)]] * CLIPS
    scores = masked_scores(model, inputs, mean_fill(inputs), removal.masks, grid, 1)
    curves = removal.curves(scores)
    torch.testing.assert_close(curves.deletion, scores, rtol=0, atol=0)
    torch.testing.assert_close(curves.insertion, scores.flip(1), rtol=0, atol=0)
    assert isinstance(removal, Removal)


def test_both_curves_share_their_ends(model, inputs, attributions, grid):
    fills = mean_fill(inputs)
    curves = deletion_insertion(model, inputs, attributions, fills, grid=grid, target=1, points=5)
    whole, replaced = model(inputs).detach()[:, 1], model(fills).detach()[:, 1]
    for measured, expected in [
        (curves.deletion[:, 0], whole),
        (curves.insertion[:, -1], whole),
        (curves.deletion[:, -1], replaced),
        (curves.insertion[:, 0], replaced),
        (curves.fraction[:, 0], torch.zeros(CLIPS, dtype=torch.float64)),
        (curves.fraction[:, -1], torch.ones(CLIPS, dtype=torch.float64)),
    ]:
        torch.testing.assert_close(measured, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", ["most", "least"])
def test_the_short_forms_are_the_areas_of_the_curves(model, inputs, attributions, grid, order):
    common = {"grid": grid, "target": 3, "points": 6, "seed": 2, "order": order}
    curves = deletion_insertion(model, inputs, attributions, mean_fill(inputs), **common)
    down = deletion(model, inputs, attributions, mean_fill(inputs), **common)
    up = insertion(model, inputs, attributions, mean_fill(inputs), **common)
    torch.testing.assert_close(down, curves.deletion_auc, rtol=0, atol=1e-12)
    torch.testing.assert_close(up, curves.insertion_auc, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "target",
    [torch.tensor([1, 0, 3, 1, 2]), [1, 0, 3, 1, 2], [(1,), (0,), (3,), (1,), (2,)], [-3, -4, -1, -3, -2]],
    ids=["tensor", "list", "tuples", "negative"],
)
def test_every_form_of_a_target_per_clip(model, inputs, attributions, target):
    if target == [-3, -4, -1, -3, -2]:
        target = [(index,) for index in target]  # Captum takes negative numbers for one clip at a time only
    grid = named_grid("frequency", SHAPE)
    measured = deletion(model, inputs, attributions, mean_fill(inputs), grid=grid, target=target)
    for clip, index in enumerate([1, 0, 3, 1, 2]):
        single = slice(clip, clip + 1)
        alone = deletion(
            model, inputs[single], attributions[single], mean_fill(inputs)[single], grid=grid, target=index
        )
        torch.testing.assert_close(measured[single], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", [2, -2, (2,), torch.tensor(2), torch.tensor([2])], ids=str)
def test_every_form_of_one_target(model, inputs, attributions, target):
    common = {"grid": named_grid("time", SHAPE), "points": 4}
    measured = deletion(model, inputs, attributions, mean_fill(inputs), target=target, **common)
    expected = deletion(lambda clips: model(clips)[:, 2], inputs, attributions, mean_fill(inputs), **common)
    torch.testing.assert_close(measured, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 40), (3, 1, 40)])
def test_waveforms(shape):
    inputs, grid = random_like(shape), region_grid((40,), 1, 8)
    energy = lambda clips: clips.reshape(len(clips), -1).square().sum(1)  # noqa: E731
    curves = deletion_insertion(energy, inputs, inputs.square(), torch.zeros_like(inputs), grid=grid)
    sums = region_sums(inputs.square(), grid).sort(dim=1, descending=True).values
    torch.testing.assert_close(curves.insertion[:, 1:], sums.cumsum(1))


def test_attributions_may_have_another_channel_axis(model, inputs, attributions, grid):
    common = {"grid": grid, "target": 0}
    both = deletion(model, inputs, attributions, mean_fill(inputs), **common)
    torch.testing.assert_close(
        both, deletion(model, inputs, attributions.sum(1, keepdim=True), mean_fill(inputs), **common)
    )
    torch.testing.assert_close(both, deletion(model, inputs, attributions.sum(1), mean_fill(inputs), **common))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_is_left_as_it_was(model, attributions, dtype):
    inputs = random_like((CLIPS, 2, *SHAPE)).to(dtype).requires_grad_()
    attributions, fills = attributions.to(dtype).requires_grad_(), mean_fill(inputs)
    before = [tensor.detach().clone() for tensor in (inputs, attributions, fills)]
    state = torch.get_rng_state()

    def careless(clips):
        assert not torch.is_grad_enabled()
        assert clips.dtype == dtype
        return model.to(dtype)(clips.mul_(1.0).add_(1.0))  # writes into what it is given

    curves = deletion_insertion(careless, inputs, attributions, fills, grid=named_grid("time", SHAPE), target=0)
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    for tensor, old in zip((inputs, attributions, fills), before, strict=True):
        assert torch.equal(tensor, old)
    assert curves.deletion.dtype == curves.insertion.dtype == curves.insertion_auc.dtype == dtype
    assert not any(getattr(curves, field.name).requires_grad for field in dataclasses.fields(Curves))
    assert inputs.grad is None


def test_masked_scores_against_a_loop(model, inputs, grid):
    removed = torch.rand(CLIPS, 6, int(grid.max()) + 1, generator=torch.Generator().manual_seed(0)) < 0.5
    fills = mean_fill(inputs)
    scores = masked_scores(model, inputs, fills, removed, grid, target=[0, 1, 2, 3, 0], batch_size=4)
    for clip in range(CLIPS):
        for mask in range(6):
            masked_clip = inputs[clip].clone()
            for region in removed[clip, mask].nonzero().flatten():
                masked_clip[:, grid == region] = fills[clip][:, grid == region]
            expected = model(masked_clip[None])[0, clip % 4]
            assert scores[clip, mask].item() == pytest.approx(expected.item(), abs=1e-12)


def call(**changes):
    """A valid call with some of its arguments changed."""
    inputs = random_like((3, 2, *SHAPE))
    arguments = {
        "forward_func": network(),
        "inputs": inputs,
        "attributions": inputs,
        "fills": torch.zeros_like(inputs),
        "grid": named_grid("time", SHAPE),
        "target": 0,
        "points": 3,
    }
    return deletion_insertion(**arguments | changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"inputs": [1.0]}, TypeError, "expected `inputs` to be a tensor, but got list"),
        ({"attributions": None}, TypeError, "expected `attributions` to be a tensor, but got NoneType"),
        (
            {"fills": mean_fill},
            TypeError,
            "expected `fills` to be a tensor, but got function; call the fill on the inputs first",
        ),
        ({"grid": torch.zeros(SHAPE)}, TypeError, "expected `grid` to be an int64 tensor, but got torch.float32"),
        (
            {"grid": named_grid("time", (17, 26))},
            ValueError,
            r"expected `inputs` of shape \(batch, channel, 17, 26\), the last axes as in `grid`, but got \(3, 2, 17",
        ),
        ({"inputs": torch.zeros(0, 2, *SHAPE)}, ValueError, r"expected `inputs` of shape .*, but got \(0, 2, 17, 27\)"),
        (
            {"attributions": torch.zeros(2, 2, *SHAPE)},
            ValueError,
            r"expected `attributions` of shape \(3, 2, 17, 27\).*\(2, 2, 17, 27\)",
        ),
        (
            {"attributions": torch.zeros(3, 2, 17, 26)},
            ValueError,
            r"expected `attributions` of shape \(3, 2, 17, 27\).*\(3, 2, 17, 26\)",
        ),
        (
            {"attributions": torch.tensor(1.0)},
            ValueError,
            r"expected `attributions` of shape \(3, 2, 17, 27\), .*, but got \(\)",
        ),
        (
            {"fills": torch.zeros(3, 1, *SHAPE)},
            ValueError,
            r"expected `fills` of shape \(3, 2, 17, 27\).*, but got \(3, 1, 17, 27\)",
        ),
        ({"points": 1}, ValueError, "expected `points` to be at least 2, the two ends, or None, but got 1"),
        ({"batch_size": 0}, ValueError, "expected `batch_size` to be an int of at least 1, but got 0"),
        ({"order": "first"}, ValueError, r"expected `order` to be one of 'most', 'least', but got 'first'"),
        (
            {"target": None},
            ValueError,
            r"expected one score per clip, shape \(12,\), but got \(12, 4\); .*`target` selects the class",
        ),
        ({"target": [0, 1]}, ValueError, "expected `target` with one class for each of the 3 clips, but got 2"),
        (
            {"target": torch.zeros(12, dtype=torch.int64)},
            ValueError,
            "expected `target` with one class for each of the 3 clips, but got 12",
        ),
        ({"target": 0.5}, AssertionError, "Target type"),
        ({"target": 4}, IndexError, "out of bounds"),
    ],
)
def test_errors(changes, error, message):
    with pytest.raises(error, match=message):
        call(**changes)


@pytest.mark.parametrize("damage", [math.nan, math.inf])
def test_a_damaged_attribution_is_named(attributions, damage):
    attributions[1, 0, 3, 4] = damage
    with pytest.raises(ValueError, match="expected finite `attributions`, but got NaN or infinity in clip 1"):
        call(attributions=attributions[:3])


def test_masks_that_do_not_belong_to_the_grid_are_refused(model, inputs):
    grid = named_grid("time", SHAPE)
    for shape in [(CLIPS, 25), (CLIPS, 3, 24), (2, 3, 25)]:
        with pytest.raises(
            ValueError, match=r"expected `removed` of shape \(5, mask, 25\), a mask of the grid's regions, but got"
        ):
            masked_scores(model, inputs, inputs, torch.zeros(shape, dtype=torch.bool), grid)


def test_masked_outputs_are_everything_that_the_model_says(model, inputs, grid):
    removed = torch.rand(CLIPS, 6, int(grid.max()) + 1, generator=torch.Generator().manual_seed(0)) < 0.5
    fills, weights = mean_fill(inputs), random_like((CLIPS, 4), seed=3)
    scaled = lambda clips, weights: model(clips) * weights  # noqa: E731
    outputs = masked_outputs(scaled, inputs, fills, removed, grid, weights, batch_size=4)
    for clip in range(CLIPS):
        for mask in range(6):
            masked_clip = torch.where(removed[clip, mask][grid], fills[clip], inputs[clip])
            expected = scaled(masked_clip[None], weights[clip])[0].detach()
            torch.testing.assert_close(outputs[clip, mask], expected, rtol=0, atol=1e-12)
    target = torch.tensor([0, 1, 2, 3, 0])
    scores = masked_scores(scaled, inputs, fills, removed, grid, target, weights)
    torch.testing.assert_close(scores, outputs[torch.arange(CLIPS), :, target], rtol=0, atol=1e-12)
    one_score = masked_outputs(lambda clips: model(clips)[:, 1], inputs, fills, removed, grid)
    torch.testing.assert_close(one_score, masked_scores(model, inputs, fills, removed, grid, 1), rtol=0, atol=1e-12)


def test_masked_outputs_may_have_more_axes(inputs, grid):
    """A model with an output per frame: its axes come after the masks."""
    removed = torch.zeros(CLIPS, 2, int(grid.max()) + 1, dtype=torch.bool)
    removed[:, 1] = True
    per_frame = lambda clips: clips.mean(2).transpose(1, 2)  # (clip, frame, channel)  # noqa: E731
    outputs = masked_outputs(per_frame, inputs, torch.zeros_like(inputs), removed, grid)
    torch.testing.assert_close(outputs[:, 0], per_frame(inputs), rtol=0, atol=1e-12)
    assert outputs[:, 1].shape == (CLIPS, 27, 2)
    assert not outputs[:, 1].any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_memory_format_of_the_inputs_is_kept(channels, layout):
    inputs = random_like((3, channels, *SHAPE)).to(memory_format=layout)
    strides = inputs.stride()
    grid, seen = named_grid("time", SHAPE), set()

    def observed(clips):
        seen.add(clips.stride())
        return clips.sum((1, 2, 3))

    removed = torch.rand(3, 4, 25, generator=torch.Generator().manual_seed(0)) < 0.5
    fills = torch.zeros(inputs.shape, dtype=torch.float64)
    scores = masked_scores(observed, inputs, fills, removed, grid, batch_size=5)
    assert seen == {strides}
    torch.testing.assert_close(
        scores, masked_scores(observed, inputs.contiguous(), fills, removed, grid), rtol=0, atol=1e-10
    )


def test_outputs_that_are_not_one_per_clip_are_refused(inputs, grid):
    removed = torch.zeros(CLIPS, 2, int(grid.max()) + 1, dtype=torch.bool)
    for function, message in [
        (lambda clips: clips.sum(), r"one output per clip, shape \(10, class\), but got \(\)"),
        (lambda clips: clips[:1], r"one output per clip, shape \(10, class\), but got \(1, 2, 17, 27\)"),
        (lambda clips: (clips,), r"a tensor of scores \(clip, class\), but got a tuple .*, such as output\[0\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            masked_outputs(function, inputs, inputs, removed, grid)


def test_the_three_functions_have_the_same_arguments():
    """They are written once; a caller, a type checker and the documentation see them at each function."""
    expected = ["forward_func", "inputs", "attributions", "fills", "grid", "target", "additional_forward_args"]
    expected += ["points", "batch_size", "seed", "order"]
    for function in (deletion_insertion, deletion, insertion):
        assert list(inspect.signature(function).parameters) == expected
        assert list(typing.get_type_hints(function))[:-1] == expected
    tensors = [torch.ones(1, 1, 2)] * 4
    with pytest.raises(TypeError, match=r"deletion\(\): missing a required argument: 'grid'"):
        deletion(*tensors)
    with pytest.raises(TypeError, match=r"insertion\(\): got an unexpected keyword argument 'grids'"):
        insertion(*tensors, grid=torch.arange(2), grids=torch.arange(2))


# --- values that are not finite ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused(value):
    """The second of three clips, in the second of the batches."""
    inputs = torch.tensor([1.0, -1.0, 2.0]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2).contiguous()
    grid = torch.tensor([[0, 0], [1, 1]])

    def model(clips):
        sums = clips.sum((1, 2, 3))
        return torch.stack([sums.where(sums >= 0, value), torch.zeros_like(sums)], 1)

    masks = torch.tensor([[[False, False], [True, False]]] * 3)
    call = (model, inputs, torch.zeros_like(inputs), masks, grid)
    with pytest.raises(ValueError, match="expected finite values, but the (scores|outputs) of clip 1 have NaN"):
        masked_scores(*call, target=0, batch_size=2)
    if value == value:  # the class that is followed is finite
        assert masked_scores(*call, target=1, batch_size=2).eq(0).all()
