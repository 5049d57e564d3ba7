"""What is checked past the input: gradients, scores and rows of outputs; channels and targets in any form."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_apex import (
    APEX,
    Classifier,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    RegionSearch,
    explain,
    explain_recording,
    fit_basis,
    locate_prototypes,
)
from captum_apex.attribution.arguments import channel_indices
from captum_apex.attribution.decomposition import select_channels
from captum_apex.layers.values import NotFiniteError
from captum_apex.numbers import whole_number

CLIPS = torch.rand(6, 1, 8, 12, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """Convolution, mean over the grid, linear layer; `after` changes the output."""

    def __init__(self, after=lambda logits: logits, pool=lambda grid: grid.mean((2, 3))):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.features = nn.Conv2d(1, 8, 3)
            self.head = nn.Linear(8, 3)
        self.after = after
        self.pool = pool

    def forward(self, inputs):
        return self.after(self.head(self.pool(self.features(inputs))))


def with_basis(model):
    model.eval()
    bank = FeatureBank.from_dataset(model, model.features, list(CLIPS))
    return APEX(model, model.features, fit_basis(bank, "time", epochs=1, n_prototypes=(4, 2)))


def deviation(grid):
    """The standard deviation of every channel, whose gradient is not a number where a channel is constant."""
    grid = grid * torch.tensor([0.0] + [1.0] * 7)[:, None, None]
    return grid.flatten(2).var(2).sqrt()


CALLS = {
    "attribute": lambda apex, inputs: apex.attribute(inputs, target=0),
    "layer": lambda apex, inputs: apex.layer_apex.attribute(inputs, target=0),
    "delta": lambda apex, inputs: apex.attribute(inputs, target=0, return_convergence_delta=True),
    "explain": lambda apex, inputs: explain(apex, inputs, 0, n_prototypes=1),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_gradient_that_is_not_a_number_is_refused(call):
    apex = with_basis(Network(pool=deviation))
    with pytest.raises(ValueError, match=r"finite values, but the gradients at 'features' of clip 0 have NaN"):
        call(apex, CLIPS[:2])


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_a_score_that_is_not_finite_is_refused(call, value):
    """Only the score of the second clip."""
    worst = torch.tensor([[0.0], [value]])
    apex = with_basis(Network(after=lambda logits: logits + worst if len(logits) == 2 else logits))
    with pytest.raises(ValueError, match=r"finite values, but the scores of clip 1 have NaN or infinity"):
        call(apex, CLIPS[:2])


def test_scores_of_other_classes_may_be_infinite():
    """Models give minus infinity to classes that they exclude."""
    plain = with_basis(Network())
    excluding = with_basis(Network(after=lambda logits: logits + torch.tensor([0.0, 0.0, -torch.inf])))
    assert torch.equal(excluding.attribute(CLIPS, target=0), plain.attribute(CLIPS, target=0))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_finite_inputs_with_an_infinite_layer_are_refused(call):
    apex = with_basis(Network())
    inputs = CLIPS[:2].clone()
    inputs[1] = 3e38
    with torch.no_grad():
        apex.forward_func.features.weight.fill_(1.0)
    with pytest.raises(ValueError, match=r"the output of 'features' of clip 1 have NaN or infinity"):
        call(apex, inputs)


def test_a_long_recording_names_the_window_in_seconds():
    model = Network(pool=lambda grid: grid.flatten(2).var(2).sqrt()).eval()
    basis = PrototypeBasis(torch.eye(8), "time")
    names = ["dog", "rain", "wind"]
    classifier = Classifier(model, lambda waveform: waveform.reshape(1, 8, 12), 96, names, exclusive=False)
    waveform = torch.rand(96 * 5, generator=torch.Generator().manual_seed(1))
    waveform[96 * 3 : 96 * 4] = 0.0  # all channels are constant
    with pytest.raises(ValueError, match=r"the gradients at 'features' of the window at 3 s have NaN or infinity"):
        explain_recording(
            LayerAPEX(model, model.features, basis), waveform, 1.0, 1.0, classifier=classifier, threshold=0.0
        )


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_output_without_a_row_per_clip_is_refused(call):
    squeezed = with_basis(Network(after=torch.squeeze))
    with pytest.raises(ValueError, match=r"one row of scores per clip, \(1, class\), but got shape \(3,\); .*squeeze"):
        call(squeezed, CLIPS[:1])
    call(squeezed, CLIPS[:2])  # nothing to squeeze
    summed = with_basis(Network(after=lambda logits: logits.sum(0)))
    with pytest.raises(ValueError, match=r"one row of scores per clip, \(2, class\), but got shape \(3,\)$"):
        call(summed, CLIPS[:2])


# --- channels and targets ---------------------------------------------------------------------------------------------

FORMS = {
    "int": lambda indices: indices[0],
    "NumPy scalar": lambda indices: np.int64(indices[0]),
    "tensor scalar": lambda indices: torch.tensor(indices[0]),
    "0-d array": lambda indices: np.array(indices[0]),
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "small array": lambda indices: np.array(indices, dtype=np.int8),
    "tensor": torch.tensor,
    "Index": pd.Index,
    "Series": lambda indices: pd.Series(indices, index=range(10, 10 + len(indices))),
    "list of NumPy scalars": lambda indices: [np.int32(index) for index in indices],
    "generator": lambda indices: (index for index in indices),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_channels_may_have_any_form(form):
    apex = with_basis(Network())
    several = channel_indices(form([5, 2]), 8)
    expected = apex.attribute(CLIPS, target=1, channels=several)
    assert several in ([5], [5, 2])
    assert torch.equal(apex.attribute(CLIPS, target=1, channels=form([5, 2])), expected)


@pytest.mark.parametrize(
    "channels",
    [
        [False, False, True] + [False] * 5,
        np.arange(8) == 2,
        torch.arange(8) == 2,
        True,
        np.bool_(True),
        5.0,
        [5.7],
        np.array([1.0]),
        torch.tensor([1.0]),
        ["5"],
        "5",
        [None],
        {3: 1},
        [[1, 2]],
        pytest.param(object(), id="object"),
    ],
    ids=str,
)
def test_channels_that_are_no_indices_are_refused(channels):
    with pytest.raises(TypeError, match="`channels` to be the index of a channel or several indices"):
        with_basis(Network()).attribute(CLIPS, target=1, channels=channels)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-20, 20), max_size=6))
def test_channels_are_the_indices_given_or_are_refused(indices):
    if indices and all(0 <= index < 8 for index in indices):
        assert channel_indices(indices, 8) == channel_indices(np.array(indices), 8) == indices
    else:
        with pytest.raises(ValueError, match="among the basis's 8 channels, 0 to 7"):
            channel_indices(indices, 8)


@pytest.mark.parametrize("target", [np.int64(1), np.array(1), np.array([1] * 6), pd.Series([1] * 6), torch.tensor(1)])
def test_targets_may_be_numbers_of_numpy_and_pandas(target):
    apex = with_basis(Network())
    assert torch.equal(apex.attribute(CLIPS, target=target), apex.attribute(CLIPS, target=1))
    assert [each.target for each in explain(apex, CLIPS, target, n_prototypes=1, search=None)] == [1] * 6


@pytest.mark.parametrize("number", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)], ids=repr)
def test_whole_numbers_of_any_kind_are_ints(number):
    assert type(whole_number(number, "n")) is int
    assert whole_number(number, "n", least=3) == 3
    with pytest.raises(ValueError, match="expected `n` to be an int of at least 4, but got 3"):
        whole_number(number, "n", least=4)


@pytest.mark.parametrize(
    "number",
    [True, np.bool_(True), torch.tensor(True), 3.0, np.float32(3), torch.tensor(3.0), "3", None, [3]],
    ids=repr,
)
def test_other_things_are_no_whole_numbers(number):
    with pytest.raises(TypeError, match="expected `n` to be an int, but got"):
        whole_number(number, "n")


def test_the_error_of_a_worker_process_is_whole():
    error = copy.copy(NotFiniteError("the inputs", 3, "a.wav"))  # by the same way as between processes
    assert (str(error), error.clip) == ("expected finite values, but the inputs of a.wav have NaN or infinity", 3)


# --- the choice of the channels ---------------------------------------------------------------------------------------


def test_channels_that_add_nothing_are_no_evidence():
    contributions = torch.tensor([[0.0, 1.0, 2.0, 3.0, -1.0]])
    activations = torch.tensor([[1.0, 0.0, 1.0, -1.0, 1.0]])
    assert select_channels(contributions, activations, 5)[0].tolist() == [False, False, True, False, False]
    assert select_channels(contributions, activations, 5, "both")[0].tolist() == [False, False, True, True, False]


@pytest.mark.parametrize("n_channels", [1, 7, 100])
def test_of_equal_contributions_the_first_channels_are_selected(n_channels):
    """As many equal values as an unstable sort needs to change their order."""
    selected = select_channels(torch.ones(3, 200), torch.ones(3, 200), n_channels)
    assert selected[:, :n_channels].all()
    assert not selected[:, n_channels:].any()


def test_matrices_follow_the_dtype_of_the_grid():
    layer = nn.ReLU()
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    apex = LayerAPEX(model, layer, PrototypeBasis(torch.eye(2), "time"))
    for dtype in (torch.float32, torch.float64, torch.float32):
        matrices = apex.matrices(torch.zeros(1, dtype=dtype))
        assert [matrix.dtype for matrix in matrices] == [dtype, dtype]
        assert apex.matrices(torch.zeros(1, dtype=dtype))[0] is matrices[0]


# --- clips that the layer or the search changes -----------------------------------------------------------------------


def test_a_layer_without_one_grid_per_clip_is_refused():
    """Each clip is cut into two parts, which the head puts together again."""

    class Parts(Network):
        def forward(self, inputs):
            grid = self.features(torch.cat(inputs.chunk(2, dim=3)))
            return self.head(torch.stack(grid.mean((2, 3)).chunk(2)).mean(0))

    model = Parts().eval()
    apex = LayerAPEX(model, model.features, PrototypeBasis(torch.eye(8), "time"))
    with pytest.raises(ValueError, match="'features' to give one grid per clip, but got 4 for 2 clips"):
        apex.attribute(CLIPS[:2], target=0)


@pytest.mark.parametrize(
    "search", [RegionSearch(fill=torch.zeros_like), RegionSearch(fill=torch.zeros_like, cross=True)]
)
def test_a_search_whose_fill_gives_no_numbers_names_the_clip(search):
    """The model divides by the size of its input, which is 0 where everything is masked."""

    class Relative(Network):
        def forward(self, inputs):
            return super().forward(inputs / inputs.flatten(1).amax(1)[:, None, None, None])

    model = Relative().eval()
    apex = with_basis(model)
    inputs = CLIPS[:2].clone()
    inputs[1, :, :, :3] = 0.0
    inputs[1, :, :, 4:] = 0.0  # one loud frame
    with pytest.raises(ValueError, match="expected finite values, but .* of clip 1 have NaN or infinity"):
        explain(apex, inputs, 0, n_prototypes=1, search=search)


def test_prototypes_to_locate_are_named_by_indices():
    apex = with_basis(Network())
    with pytest.raises(TypeError, match="`channels` to be the index of a channel or several indices"):
        locate_prototypes(apex, list(CLIPS), channels=[True, False], n_prototypes=1)
    located = locate_prototypes(apex, list(CLIPS), channels=np.array([2]), n_prototypes=np.int64(1))
    assert (located.positive.boxes[:, 0, 0, 0] >= 0).nonzero().tolist() == [[2]]
