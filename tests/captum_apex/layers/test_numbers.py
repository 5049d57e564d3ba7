"""Numbers of any kind that people have, in the arguments of public functions; anything else is refused in our words."""

import numpy as np
import pytest
import torch
from torch import nn

from captum_apex import FeatureBank, LayerAPEX, PrototypeBasis, RegionSearch, basis_from_matrix, explain, fit_basis
from captum_apex.layers import Layout
from captum_apex.masking import blur_fill
from captum_apex.metrics import random_removals
from captum_apex.numbers import real_number

MODEL = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
CLIPS = torch.rand(4, 2, 3, 5, generator=torch.Generator().manual_seed(0))
BANK = FeatureBank.from_dataset(MODEL, MODEL[0], list(CLIPS))
APEX = LayerAPEX(MODEL, MODEL[0], fit_basis(BANK, "time", epochs=1, n_prototypes=(3, 2)))


def fitted(**settings):
    return fit_basis(BANK, "time", **{"epochs": 1, "n_prototypes": (3, 2)} | settings).U


WHOLE = {  # calls that take a whole number, with a number that they accept
    "n_channels": (1, lambda n: APEX.attribute(CLIPS, 0, n_channels=n)),
    "n_prototypes": (2, lambda n: explain(APEX, CLIPS, 0, n_prototypes=n, search=None)[0].evidence[0].prototypes),
    "epochs": (1, lambda n: fitted(epochs=n)),
    "batch_size of the fit": (2, lambda n: fitted(batch_size=n)),
    "reselect_every": (1, lambda n: fitted(reselect_every=n)),
    "seed": (1, lambda n: fitted(seed=n)),
    "prototypes of the fit": (2, lambda n: fitted(n_prototypes=(3, n))),
    "batch_size of the bank": (2, lambda n: FeatureBank.from_dataset(MODEL, MODEL[0], CLIPS, batch_size=n).means),
    "n_random": (1, lambda n: RegionSearch(n_random=n).n_random),
    "batch_size of the search": (1, lambda n: RegionSearch(batch_size=n).batch_size),
    "n_masks": (2, lambda n: random_removals(4, n, seed=0)),
}
REAL = {
    "learning_rate": (0.5, lambda x: fitted(learning_rate=x)),
    "weight_decay": (0.5, lambda x: fitted(weight_decay=x)),
    "smallest": (0.5, lambda x: RegionSearch(smallest=x).smallest),
    "sigma": (0.5, lambda x: blur_fill(CLIPS, sigma=(x, x))),
}
NO_NUMBERS = [True, np.bool_(True), "1", b"1", None, [1, 2], np.array([1, 2]), torch.ones(2), object(), {}]


def name_of(value):
    return "object" if type(value) is object else str(value)  # a place in memory would differ in each process


def same(one, other):
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array, torch.tensor], ids=lambda kind: kind.__name__)
def test_whole_numbers_may_be_of_any_kind(name, kind):
    number, call = WHOLE[name]
    assert same(call(kind(number)), call(number))


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.array, torch.tensor], ids=lambda kind: kind.__name__)
def test_real_numbers_may_be_of_any_kind(name, kind):
    number, call = REAL[name]
    assert same(call(kind(number)), call(number))


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [*[each for each in NO_NUMBERS if each is not None], 1.0, 0.5, np.nan], ids=name_of)
def test_what_is_no_whole_number_is_refused(name, value):
    with pytest.raises(TypeError, match="^expected `"):
        WHOLE[name][1](value)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("value", NO_NUMBERS, ids=name_of)
def test_what_is_no_real_number_is_refused(name, value):
    if value is None and name in ("learning_rate", "weight_decay"):
        pytest.skip("None means the default")
    with pytest.raises(TypeError, match="^expected `"):
        REAL[name][1](value)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.5], ids=str)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match="^expected `"):
        REAL[name][1](value)


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_the_range_is_in_the_message(value):
    with pytest.raises(ValueError, match=rf"expected `x` to be a finite number in \[0, 1\], but got {value}"):
        real_number(value, "x", 0, 1)


def test_matrices_may_be_arrays():
    expected = torch.eye(2)
    for matrix in (expected, np.eye(2, dtype=np.float32), [[1.0, 0.0], [0.0, 1.0]]):
        assert torch.equal(PrototypeBasis(matrix, "time").U, expected)
        assert torch.equal(basis_from_matrix(BANK, "time", matrix, n_prototypes=2).U, expected)
    for matrix in (None, "U", object()):
        with pytest.raises(TypeError, match="expected `U` to be a matrix, but got"):
            PrototypeBasis(matrix, "time")


@pytest.mark.parametrize("pattern", ["loud", "", "n c -> n -> c", 3], ids=str)
def test_a_layout_without_an_arrow_is_refused(pattern):
    with pytest.raises(ValueError, match="expected `layout` to be an einops pattern such as"):
        Layout(pattern)
