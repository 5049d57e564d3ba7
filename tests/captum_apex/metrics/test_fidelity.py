"""The measures of a mask against loops written from their definitions, and against masks whose effect is known."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from captum_apex.masking.fills import masked, mean_fill
from captum_apex.masking.grids import named_grid, region_grid
from captum_apex.metrics import (
    Fidelity,
    average_drop,
    average_gain,
    average_increase,
    faithfulness,
    input_fidelity,
    mask_fidelity,
    soft_mask,
    speechbrain_average_drop,
)

SHAPE = (17, 27)
CLIPS = 6


def network(last):
    """A small convolutional classifier in float64, with weights that do not depend on the test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(2, 6, 3), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(6 * 5 * 8, 4), last
        )
        return layers.double().eval()


def random_like(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[nn.Softmax(1), nn.Sigmoid()], ids=["softmax", "sigmoid"])
def model(request):
    return network(request.param)


@pytest.fixture
def inputs():
    return random_like((CLIPS, 2, *SHAPE)) * 3


@pytest.fixture
def masks():
    return torch.rand(CLIPS, 1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def measures(probabilities, inside, outside, label):
    """The five measures of one clip, from lists of its probabilities; L-MAC (arXiv 2403.13086), "metrics"."""
    p, p_in, p_out = probabilities[label], inside[label], outside[label]
    return {
        "average_drop": 100 * max(0.0, p - p_in) / p,
        "average_increase": 100.0 if p_in > p else 0.0,
        "average_gain": 100 * max(0.0, p_in - p) / (1 - p),
        "faithfulness": p - p_out,
        "input_fidelity": float(inside.index(max(inside)) == probabilities.index(max(probabilities))),
    }


def expected_of(model, inputs, masks, fills, labels, *arguments):
    """The measures of every clip, the mixtures written out bin by bin."""
    rows = []
    for clip in range(len(inputs)):
        inside, outside = fills[clip].clone(), inputs[clip].clone()
        for i in range(SHAPE[0]):
            for j in range(SHAPE[1]):
                m, x, fill = masks[clip, 0, i, j], inputs[clip, :, i, j], fills[clip, :, i, j]
                inside[:, i, j] = fill + m * (x - fill)
                outside[:, i, j] = x + m * (fill - x)
        clip_arguments = [argument[clip : clip + 1] for argument in arguments]
        probabilities = [model(each[None], *clip_arguments)[0].tolist() for each in (inputs[clip], inside, outside)]
        rows.append(measures(*probabilities, labels[clip]))
    return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}


def assert_same(measured, expected, atol=1e-9):
    for field in dataclasses.fields(Fidelity):
        other = expected[field.name] if isinstance(expected, dict) else getattr(expected, field.name)
        torch.testing.assert_close(getattr(measured, field.name), other, rtol=0, atol=atol)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_against_the_definitions(model, inputs, masks, batch_size):
    labels = [0, 1, 2, 3, 1, 0]
    measured = mask_fidelity(
        model, inputs, masks, mean_fill(inputs), target=torch.tensor(labels), batch_size=batch_size
    )
    assert_same(measured, expected_of(model, inputs, masks, mean_fill(inputs), labels))
    assert 0 < (measured.average_drop > 0).sum() < CLIPS  # some fall, some rise
    assert 0 < (measured.average_gain > 0).sum() < CLIPS
    assert 0 < measured.input_fidelity.sum() < CLIPS


def test_further_arguments_follow_their_clip(inputs, masks):
    model, shifts = network(nn.Identity()), random_like((CLIPS, 4), seed=5) * 2
    shifted = lambda clips, shifts: (model(clips) + shifts).softmax(1)  # noqa: E731
    fills, labels = mean_fill(inputs), [2] * CLIPS
    measured = mask_fidelity(shifted, inputs, masks, fills, target=2, additional_forward_args=shifts, batch_size=4)
    assert_same(measured, expected_of(shifted, inputs, masks, fills, labels, shifts))


def test_a_hard_mask_gives_the_clips_that_masking_gives(model, inputs):
    fills, marked = mean_fill(inputs), torch.rand(CLIPS, 1, *SHAPE, generator=torch.Generator().manual_seed(2)) < 0.3
    seen = []

    def observed(clips):
        seen.append(clips.clone())
        return model(clips)

    measured = mask_fidelity(observed, inputs, marked, fills, target=1)
    whole, inside, outside = seen
    assert torch.equal(whole, inputs)
    assert torch.equal(inside, masked(inputs, fills, ~marked))
    assert torch.equal(outside, masked(inputs, fills, marked))
    assert_same(mask_fidelity(model, inputs, marked.double(), fills, target=1), measured, atol=0)


def test_the_whole_and_the_empty_mask(model, inputs):
    fills = mean_fill(inputs)
    whole, empty = (torch.full((CLIPS, 1, *SHAPE), value) for value in (1.0, 0.0))
    with torch.no_grad():
        p, filled = model(inputs)[:, 1], model(fills)[:, 1]
    unmasked = mask_fidelity(model, inputs, whole, fills, target=1)
    zero = torch.zeros(CLIPS, dtype=torch.float64)
    assert_same(
        unmasked,
        {
            "average_drop": zero,
            "average_increase": zero,
            "average_gain": zero,
            "faithfulness": p - filled,
            "input_fidelity": zero + 1,
        },
    )
    lost = mask_fidelity(model, inputs, empty, fills, target=1)
    torch.testing.assert_close(lost.faithfulness, zero, rtol=0, atol=0)
    torch.testing.assert_close(lost.average_drop, 100 * (p - filled).clamp_min(0) / p, rtol=0, atol=1e-10)


def test_what_is_known_already_is_not_asked_again(model, inputs, masks):
    batch_sizes = []

    def counted(clips):
        batch_sizes.append(len(clips))
        return model(clips)

    fills = mean_fill(inputs)
    without = mask_fidelity(counted, inputs, masks, fills, target=0, batch_size=4)
    assert batch_sizes == [4, 2] * 3
    batch_sizes.clear()
    given = mask_fidelity(counted, inputs, masks, fills, target=0, outputs=model(inputs).detach(), batch_size=4)
    assert batch_sizes == [4, 2] * 2
    assert_same(given, without, atol=1e-12)


def test_a_batch_gives_what_one_by_one_gives(model, inputs, masks):
    fills, target = mean_fill(inputs), [3, 0, 1, 2, 2, 1]
    together = mask_fidelity(model, inputs, masks, fills, target=target)
    for clip in range(CLIPS):
        single = slice(clip, clip + 1)
        alone = mask_fidelity(model, inputs[single], masks[single], fills[single], target=target[clip])
        assert_same(
            alone,
            {field.name: getattr(together, field.name)[single] for field in dataclasses.fields(Fidelity)},
            atol=1e-10,
        )


def test_masks_of_every_shape_that_fits(model, inputs, masks):
    fills = mean_fill(inputs)
    expected = mask_fidelity(model, inputs, masks, fills, target=0)
    for other in (masks[:, 0], masks.expand_as(inputs), masks.float().double()):
        assert_same(mask_fidelity(model, inputs, other, fills, target=0), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 40), (3, 1, 40)])
def test_waveforms(shape):
    inputs, grid = random_like(shape), region_grid((40,), 1, 8)
    loudness = lambda clips: clips.reshape(len(clips), 2, 20).square().sum(2).softmax(1)  # noqa: E731
    masks = soft_mask(inputs.abs(), grid)
    assert masks.shape == (3, 1, 40)
    measured = mask_fidelity(loudness, inputs, masks, torch.zeros_like(inputs), target=0)
    for clip in range(3):
        x, m = inputs[clip].flatten(), masks[clip, 0]
        p, inside, outside = (loudness(each[None])[0, 0] for each in (x, m * x, (1 - m) * x))
        torch.testing.assert_close(measured.faithfulness[clip], p - outside, rtol=0, atol=1e-12)
        torch.testing.assert_close(measured.average_drop[clip], 100 * (p - inside).clamp_min(0) / p, rtol=0, atol=1e-10)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_memory_format_of_the_inputs_is_kept(inputs, masks, layout):
    inputs, seen = inputs.to(memory_format=layout), set()

    def observed(clips):
        seen.add(clips.stride())
        return clips.mean((2, 3)).sigmoid()

    mask_fidelity(observed, inputs, masks, mean_fill(inputs), target=0, batch_size=4)
    assert seen == {inputs.stride()}


def test_everything_is_left_as_it_was(inputs, masks):
    model, fills = network(nn.Softmax(1)), mean_fill(inputs)
    inputs.requires_grad_()
    before = [tensor.detach().clone() for tensor in (inputs, masks, fills)]

    def careless(clips):
        assert not torch.is_grad_enabled()
        return model(clips.mul_(1.0).add_(1.0))  # writes into what it is given

    measured = mask_fidelity(careless, inputs, masks, fills, target=0)
    assert torch.is_grad_enabled()
    assert not any(getattr(measured, field.name).requires_grad for field in dataclasses.fields(Fidelity))
    for tensor, old in zip((inputs, masks, fills), before, strict=True):
        assert torch.equal(tensor, old)


@pytest.mark.parametrize(
    ("p", "p_in", "drop", "increase", "gain"),
    [
        (0.8, 0.6, 25.0, 0.0, 0.0),
        (0.6, 0.9, 0.0, 100.0, 75.0),
        (0.5, 0.5, 0.0, 0.0, 0.0),
        (1.0, 0.0, 100.0, 0.0, 0.0),
        (1.0, 1.0, 0.0, 0.0, 0.0),  # nothing to gain
        (0.0, 0.0, 0.0, 0.0, 0.0),  # nothing to lose
        (0.0, 1.0, 0.0, 100.0, 100.0),
    ],
)
def test_drop_increase_and_gain_of_known_probabilities(p, p_in, drop, increase, gain):
    pair = torch.tensor([p], dtype=torch.float64), torch.tensor([p_in], dtype=torch.float64)
    for measure, expected in [
        (average_drop, drop),
        (average_increase, increase),
        (average_gain, gain),
        (faithfulness, p - p_in),
    ]:
        assert measure(*pair).tolist() == pytest.approx([expected], abs=1e-12)


def test_input_fidelity_asks_for_the_class_and_not_for_its_probability():
    outputs = torch.tensor([[0.1, 0.9], [0.1, 0.9], [0.6, 0.4]])
    assert input_fidelity(outputs, torch.tensor([[0.49, 0.51], [0.51, 0.49], [0.9, 0.1]])).tolist() == [1.0, 0.0, 1.0]


def test_the_speechbrain_average_drop_takes_the_softmax_twice():
    whole, inside = random_like((20, 5)).mul(3).softmax(1), random_like((20, 5), seed=1).mul(3).softmax(1)
    measured = speechbrain_average_drop(whole, inside)
    for clip in range(20):
        first, second = whole[clip].tolist(), inside[clip].tolist()
        label = first.index(max(first))
        p = math.exp(first[label]) / sum(map(math.exp, first))
        p_in = math.exp(second[label]) / sum(map(math.exp, second))
        assert measured[clip].item() == pytest.approx(100 * max(0.0, p - p_in) / p, abs=1e-10)
    predicted = whole.argmax(1)
    rows = torch.arange(20)
    right = average_drop(whole[rows, predicted], inside[rows, predicted])
    assert (measured <= right + 1e-9).all()
    assert measured.max() <= 100 * (1 - math.exp(-1))
    assert right.max() > 90


def test_soft_mask_against_a_loop():
    attributions, grid = random_like((4, 2, *SHAPE)), named_grid("square", SHAPE)
    attributions[3] = -attributions[3].abs()
    measured = soft_mask(attributions, grid)
    assert measured.shape == (4, 1, *SHAPE)
    for clip in range(4):
        means = {}
        for region in range(40):
            values = attributions[clip].sum(0)[grid == region].tolist()
            means[region] = max(0.0, sum(values) / len(values))
        largest = max(means.values())
        for i in range(SHAPE[0]):
            for j in range(SHAPE[1]):
                expected = means[int(grid[i, j])] / largest if largest > 0 else 0.0
                assert measured[clip, 0, i, j].item() == pytest.approx(expected, abs=1e-12)
    assert not measured[3].any()
    assert measured[:3].flatten(1).amax(1).tolist() == [1.0, 1.0, 1.0]


def test_soft_mask_of_a_grid_with_a_number_left_out():
    measured = soft_mask(torch.tensor([[[1.0, 2.0, 4.0]]]), torch.tensor([0, 2, 2]))
    torch.testing.assert_close(measured, torch.tensor([[[1 / 3, 1.0, 1.0]]]))
    assert measured.dtype == torch.float32


def call(**changes):
    """A valid call with some of its arguments changed."""
    inputs = random_like((3, 2, *SHAPE))
    arguments = {
        "forward_func": network(nn.Softmax(1)),
        "inputs": inputs,
        "masks": torch.ones(3, 1, *SHAPE),
        "fills": torch.zeros_like(inputs),
        "target": 0,
    }
    return mask_fidelity(**arguments | changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"inputs": None}, TypeError, "expected `inputs` to be a tensor, but got NoneType"),
        (
            {"inputs": torch.zeros(0, 2, *SHAPE)},
            ValueError,
            r"expected `inputs` of shape \(batch, .*, but got \(0, 2, 17, 27\)",
        ),
        (
            {"fills": mean_fill},
            TypeError,
            "expected `fills` to be a tensor, but got function; call the fill on the inputs first",
        ),
        (
            {"fills": torch.zeros(3, 1, *SHAPE)},
            ValueError,
            r"expected `fills` of shape \(3, 2, 17, 27\).*, but got \(3, 1, 17, 27\)",
        ),
        ({"masks": None}, TypeError, "expected `masks` to be a tensor, but got NoneType"),
        (
            {"masks": torch.ones(3, 1, 17, 26)},
            ValueError,
            r"expected `masks` that broadcast to the inputs' shape \(3, 2, 17, 27\), but got \(3, 1, 17, 26\)",
        ),
        (
            {"masks": torch.ones(1, 1, *SHAPE)},
            ValueError,
            r"expected `masks` that broadcast .*, but got \(1, 1, 17, 27\)",
        ),
        ({"masks": torch.ones(3)}, ValueError, r"expected `masks` that broadcast .*, but got \(3,\)"),
        (
            {"masks": torch.full((3, 1, *SHAPE), 1.5)},
            ValueError,
            r"expected `masks` in \[0, 1\], but got values outside or NaN",
        ),
        (
            {"masks": torch.full((3, 1, *SHAPE), math.nan)},
            ValueError,
            r"expected `masks` in \[0, 1\], but got values outside or NaN",
        ),
        ({"batch_size": 0}, ValueError, "expected `batch_size` to be an int of at least 1, but got 0"),
        ({"target": [0, 1]}, ValueError, "expected `target` with one class for each of the 3 clips, but got 2"),
        (
            {"target": None},
            ValueError,
            r"expected one score per clip, shape \(3,\), but got \(3, 4\); .*`target` selects the class",
        ),
        (
            {"forward_func": lambda clips: clips.mean((2, 3)) + 3},
            ValueError,
            r"in \[0, 1\], but got outputs from .*; pass a `forward_func` that ends in a softmax or a sigmoid",
        ),
        (
            {"outputs": torch.full((3, 4), math.nan)},
            ValueError,
            r"expected probabilities, in \[0, 1\], but got outputs from nan to nan",
        ),
        ({"outputs": torch.zeros(2, 4)}, ValueError, r"expected probabilities of shape \(3, class\), but got \(2, 4\)"),
        (
            {"forward_func": lambda clips: clips[:, 0, 0, 0] * 0},
            ValueError,
            r"expected probabilities of shape \(3, class\), but got \(3,\)",
        ),
    ],
)
def test_errors(changes, error, message):
    with pytest.raises(error, match=message):
        call(**changes)


@pytest.mark.parametrize("measure", [average_drop, average_increase, average_gain, faithfulness])
def test_pairs_that_do_not_belong_together_are_refused(measure):
    for first, second in [((3,), (2,)), ((3, 1), (3, 1)), ((), ())]:
        with pytest.raises(
            ValueError, match=r"expected `probability` and `masked_\w+` of shape \(batch,\), but got \("
        ):
            measure(torch.zeros(first), torch.zeros(second))


@pytest.mark.parametrize("measure", [input_fidelity, speechbrain_average_drop])
def test_outputs_that_do_not_belong_together_are_refused(measure):
    for first, second in [((3,), (3,)), ((3, 2), (3, 4))]:
        with pytest.raises(
            ValueError, match=r"expected `outputs` and `masked_in_outputs` of shape \(batch, class\), but got \("
        ):
            measure(torch.zeros(first), torch.zeros(second))


def test_errors_of_soft_mask():
    grid = torch.zeros(SHAPE, dtype=torch.int64)
    with pytest.raises(
        ValueError, match=r"expected `attributions` of shape \(batch, channel, 17, 27\), but got \(2, 1, 17, 26\)"
    ):
        soft_mask(torch.zeros(2, 1, 17, 26), grid)
    with pytest.raises(ValueError, match="expected finite `attributions`, but got NaN or infinity in clip 1"):
        soft_mask(torch.stack([torch.zeros(1, *SHAPE), torch.full((1, *SHAPE), math.nan)]), grid)
    with pytest.raises(TypeError, match="expected `grid` to be an int64 tensor, but got torch.float32"):
        soft_mask(torch.zeros(2, 1, *SHAPE), torch.zeros(SHAPE))
