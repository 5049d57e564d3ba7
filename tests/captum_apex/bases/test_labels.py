"""The labels of a bank's clips, in the forms that datasets give them."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_apex import FeatureBank, fit_basis
from captum_apex.bases.collation import batch_labels

CLIPS = torch.rand(5, 1, 4, 6, generator=torch.Generator().manual_seed(0))
LAYER = nn.Conv2d(1, 3, 3)
MODEL = nn.Sequential(LAYER, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def bank_of(labels, **settings):
    return FeatureBank.from_dataset(MODEL, LAYER, list(zip(CLIPS, labels, strict=True)), **settings)


INDICES = {
    "ints": lambda label: label,
    "NumPy ints": np.int64,
    "small NumPy ints": np.uint8,
    "0-d arrays": np.array,
    "0-d tensors": torch.tensor,
    "tensors of one": lambda label: torch.tensor([label]),
    "lists of one": lambda label: [label],
    "arrays of one": lambda label: np.array([label]),
    "whole floats": float,
}


@pytest.mark.parametrize("batch_size", [1, 2, 32])
@pytest.mark.parametrize("form", INDICES.values(), ids=INDICES)
def test_an_index_is_an_index_in_every_form(form, batch_size):
    bank = bank_of([form(label) for label in (2, 0, 1, 2, 0)], batch_size=batch_size)
    assert bank.labels.dtype == torch.int64
    assert bank.labels.tolist() == [2, 0, 1, 2, 0]
    assert set(fit_basis(bank, "time", epochs=0, n_prototypes=(5, 5)).positive.labels[0].tolist()) == {0, 1, 2}


PRESENT = {
    "lists": list,
    "tuples": tuple,
    "arrays": np.array,
    "tensors": torch.tensor,
    "float tensors": lambda label: torch.tensor(label, dtype=torch.float32),
    "bool tensors": lambda label: torch.tensor(label) > 0,
    "Series": lambda label: torch.tensor(pd.Series(label).to_numpy()),
}


@pytest.mark.parametrize("batch_size", [1, 2, 32])
@pytest.mark.parametrize("form", PRESENT.values(), ids=PRESENT)
def test_a_number_for_each_class_stays_with_its_clip(form, batch_size):
    rows = [[0, 0, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]]
    bank = bank_of([form(row) for row in rows], batch_size=batch_size)
    assert bank.labels.shape == (5, 3)
    assert bank.labels.int().tolist() == rows


@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([-1] * 5, ValueError, "labels of at least 0, but got -1"),
        ([0, 1, 2, 1, -100], ValueError, "labels of at least 0, but got -100"),
        ([float("nan")] * 5, ValueError, "labels of at least 0, but got nan"),
        ([[0.0, float("inf")]] * 5, ValueError, "labels of at least 0, but got inf"),
        ([0.5] * 5, ValueError, "indices of classes, but got 0.5"),
        (["dog"] * 5, TypeError, "map class names to indices first"),
        ([["dog"]] * 5, TypeError, "map class names to indices first"),
        ([None] * 5, TypeError, "leave the labels out where one is missing"),
        ([torch.zeros(2, 2)] * 5, ValueError, r"one label for each of the . clips"),
    ],
)
def test_a_label_that_is_no_class_is_refused(labels, error, message, batch_size):
    with pytest.raises(error, match=message):
        bank_of(labels, batch_size=batch_size)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1], [1, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], "clip 2 has 3 numbers and the clips before it 2 numbers"),
        ([0, 1, [0, 1], [0, 0], [1, 1]], "clip 2 has 2 numbers and the clips before it one index"),
    ],
)
def test_labels_of_several_kinds_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        bank_of(labels, batch_size=1)


@pytest.mark.parametrize("first", [True, False])
def test_a_missing_label_is_refused(first):
    items = [(clip, 0) if (index < 3) == first else clip for index, clip in enumerate(CLIPS)]
    with pytest.raises(ValueError, match="clip 3 has (no label|one index) and the clips before it"):
        FeatureBank.from_dataset(MODEL, LAYER, items, batch_size=1)


def test_a_collate_function_gives_one_label_per_clip():
    def collate(items, n_labels):
        return torch.stack([inputs for inputs, _ in items]), [label for _, label in items][:n_labels]

    assert bank_of(range(5), collate_fn=lambda items: collate(items, None)).labels.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"one label for each of the 5 clips, .* but got shape \(4,\)"):
        bank_of(range(5), collate_fn=lambda items: collate(items, 4))


def test_a_bank_has_as_many_labels_as_clips():
    bank = bank_of(range(5))
    shorter = FeatureBank(bank.cells, bank.means, torch.tensor([0, 1]), bank.origin)
    with pytest.raises(ValueError, match=r"one label for each of the 5 clips"):
        fit_basis(shorter, "time", epochs=0, n_prototypes=(5, 2))


def rows_of(values):
    return st.integers(1, 3).flatmap(
        lambda width: st.lists(st.lists(st.sampled_from(values), min_size=width, max_size=width), min_size=1)
    )


@settings(max_examples=200, deadline=None)
@given(st.one_of(rows_of([0, 1, 2, 7, -1]), rows_of([0.0, 1.0, 0.5, -0.5, float("nan"), float("inf")])))
def test_labels_are_those_given_or_are_refused(rows):
    """As lists, as an array and as tensors: the same outcome."""
    fine = all(0 <= value < float("inf") for row in rows for value in row)
    for form in (rows, np.array(rows), [torch.tensor(row) for row in rows]):
        if fine:
            assert batch_labels(form, len(rows)).tolist() in (rows, [row[0] for row in rows])
        else:
            with pytest.raises(ValueError, match="labels of at least 0"):
                batch_labels(form, len(rows))


def test_weight_decay_reaches_the_optimizer(monkeypatch):
    """A decay in every step leaves a smaller matrix."""
    bank = bank_of(range(5))
    plain, decayed = (
        fit_basis(bank, "time", epochs=3, n_prototypes=(5, 2), weight_decay=decay).U for decay in (0.0, 10.0)
    )
    assert not torch.equal(plain, decayed)
    seen = {}
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *args, **more: seen.update(more) or adam(*args, **more))
    fit_basis(bank, "time", epochs=1, n_prototypes=(5, 2), weight_decay=0.125)
    assert seen == {"weight_decay": 0.125}
