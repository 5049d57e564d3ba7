"""What banks and bases say of themselves."""

import dataclasses

import pytest
import torch

from captum_apex import FeatureBank, PrototypeBasis, locate_prototypes
from captum_apex.attribution.apex import APEX
from captum_apex.bases.summaries import layer_in_words
from captum_apex.layers import Origin
from tests import explained


def test_a_basis_says_what_it_is():
    basis = explained.basis("time")
    purity = basis.positive.purities.mean().item()
    assert repr(basis).splitlines() == [
        "PrototypeBasis for 'time', 6 channels, invertible",
        "  layer: relu, grid of 4 rows and 5 columns",
        f"  prototypes: 4 per channel, of 15 clips, mean purity {purity:.2f}, without regions",
    ]
    assert repr(basis.positive) == f"Prototypes of 6 channels: 4 per channel, mean purity {purity:.2f}, without regions"


def test_a_basis_says_which_prototypes_are_located():
    model, layer, _ = explained.network()
    apex = APEX(model, layer, explained.basis("time"))
    assert repr(locate_prototypes(apex, explained.TRAINING, n_prototypes=2)).endswith(", regions of 2")


@pytest.mark.parametrize(("matrix", "kind"), [(torch.eye(2), "orthogonal"), (2 * torch.eye(2), "invertible")])
def test_a_matrix_alone_says_that_there_are_no_prototypes(matrix, kind):
    assert repr(PrototypeBasis(matrix, "square")).splitlines() == [
        f"PrototypeBasis for 'square', 2 channels, {kind}",
        "  layer: not known",
        "  prototypes: none",
    ]


@pytest.mark.parametrize(("n_labels", "text"), [(None, "none"), (0, "one per clip"), (3, "3 classes per clip")])
def test_a_bank_says_what_it_is(n_labels, text):
    bank = explained.network()[2]
    labels = None if n_labels is None else torch.zeros(15, *([n_labels] if n_labels else []))
    n_bytes = sum(tensor.nbytes for tensor in dataclasses.replace(bank, labels=labels)._arrays().values())
    assert repr(dataclasses.replace(bank, labels=labels)).splitlines() == [
        "FeatureBank of 15 clips, 6 channels",
        "  layer: relu, grid of 4 rows and 5 columns",
        "  schemes: square, time, frequency, time-frequency",
        f"  labels: {text}",
        f"  size: {n_bytes / 1000:.1f} kB",
    ]


def test_a_bank_of_one_scheme_names_only_this():
    model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1))
    bank = FeatureBank.from_dataset(model, model[0], torch.ones(1, 1, 4, 5), schemes=["time"])
    assert "FeatureBank of 1 clip, 1 channel\n" in repr(bank)
    assert "\n  schemes: time\n" in repr(bank)


def test_the_layer_names_the_side_and_the_norm():
    origin = Origin(layer="head", grid=(1, 5), at_input=True, norm="head.norm")
    assert layer_in_words(origin) == "head (its input), normalised by head.norm, grid of 1 row and 5 columns"


def test_a_notebook_shows_tables():
    assert "<tr><th>scheme</th><td>time</td></tr>" in explained.basis("time")._repr_html_()
    assert "<caption>FeatureBank of 15 clips, 6 channels</caption>" in explained.network()[2]._repr_html_()
