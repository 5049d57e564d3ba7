"""Arguments that are one of several names: anything that is no name is refused before it is compared or looked up."""

import copy
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from captum_apex import (
    APEX,
    SCHEMES,
    Classifier,
    Clip,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    Scheme,
    SpectrogramAxes,
    basis_from_matrix,
    figures,
    fit_basis,
)
from captum_apex.datasets import fsdd
from captum_apex.listening import encoded
from captum_apex.masking import named_fill, named_grid
from captum_apex.metrics import deletion_sequence

MODEL = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
CLIPS = torch.rand(4, 2, 3, 5, generator=torch.Generator().manual_seed(0))
BASIS = PrototypeBasis(torch.eye(2), "time")
GRID = torch.arange(15).reshape(3, 5)
BANK = FeatureBank.from_dataset(MODEL, MODEL[0], [(clip, 1) for clip in CLIPS])
NAMED = {  # calls that take a name, with what the message calls it and a name that they accept
    "Scheme": (Scheme, "a scheme", "time"),
    "scheme of a fit": (lambda name: fit_basis(BANK, name, epochs=1, n_prototypes=(2, 2)), "a scheme", "time"),
    "scheme of a matrix": (
        lambda name: basis_from_matrix(BANK, name, torch.eye(2), n_prototypes=2),
        "a scheme",
        "time",
    ),
    "scheme of a basis": (lambda name: PrototypeBasis(torch.eye(2), name), "a scheme", "time"),
    "schemes": (lambda name: FeatureBank.from_dataset(MODEL, MODEL[0], CLIPS, schemes=[name]), "a scheme", "time"),
    "sequences": (BANK.sequences, "a scheme", "time"),
    "sides": (lambda name: LayerAPEX(MODEL, MODEL[0], BASIS).attribute(CLIPS, 0, sides=name), "`sides`", "both"),
    "fill": (lambda name: named_fill(name, 0.0), "the fill's name", "silence"),
    "grid": (lambda name: named_grid(name, (64, 50)), "the grid's name", "square"),
    "order": (lambda name: deletion_sequence(CLIPS, CLIPS, GRID, order=name), "`order`", "least"),
    "mel scale": (lambda name: SpectrogramAxes(8000, 16, 80, mel_scale=name), "`mel_scale`", "htk"),
    "format": (lambda name: encoded(torch.zeros(90), 8000, name), "`format`", "wav"),
}
NO_NAMES = {
    "array": (np.array(["square", "time"]), "ndarray of shape (2,)"),
    "array of one": (np.array(["time"]), "ndarray of shape (1,)"),
    "0-d array": (np.array("time"), "ndarray of shape ()"),
    "tensor": (torch.zeros(2), "Tensor of shape (2,)"),
    "Series": (pd.Series(["square", "time"]), "Series of shape (2,)"),
    "list": (["time"], "list ['time']"),
    "dict": ({}, "dict {}"),
    "bytes": (b"time", "bytes b'time'"),
    "None": (None, "NoneType None"),
    "number": (1, "int 1"),
}
TAKERS_OF_A_LAYOUT = {
    "APEX": lambda layout: APEX(MODEL, MODEL[0], BASIS, input_layout=layout),
    "Classifier": lambda layout: Classifier(MODEL, nn.Identity(), 8000, ["dog", "rain"], input_layout=layout),
}


@pytest.mark.parametrize("kind", NO_NAMES)
@pytest.mark.parametrize("argument", NAMED)
def test_what_is_no_string_is_refused(argument, kind):
    call, what, name = NAMED[argument]
    value, got = NO_NAMES[kind]
    call(name)
    with pytest.raises(TypeError, match=rf"expected {what} to be one of '.*, but got {re.escape(got)}$"):
        call(value)


@pytest.mark.parametrize("argument", NAMED)
def test_a_name_that_does_not_exist_is_refused(argument):
    call, what, _ = NAMED[argument]
    with pytest.raises(ValueError, match=rf"expected {what} to be one of '.*, but got 'loud'$"):
        call(np.str_("loud"))


@pytest.mark.parametrize("value", [value for value, _ in NO_NAMES.values() if value is not None], ids=type)
def test_a_part_that_is_no_string_is_refused(tmp_path, value):
    with pytest.raises(TypeError, match="expected `part`, if it is given, to be one of 'train', 'test', but got"):
        fsdd(tmp_path, value)


@pytest.mark.parametrize("taker", TAKERS_OF_A_LAYOUT)
@pytest.mark.parametrize("value", [value for value, _ in NO_NAMES.values() if value is not None], ids=type)
def test_an_input_layout_that_is_no_string_is_refused(taker, value):
    with pytest.raises(TypeError, match=f"expected `input_layout` to name .*, but got {type(value).__name__}"):
        TAKERS_OF_A_LAYOUT[taker](value)


@pytest.mark.parametrize("taker", TAKERS_OF_A_LAYOUT)
@pytest.mark.parametrize("layout", ["", "c t", "n c f", "n (c f) t", "n c t t", "n t -> n c 1 t"])
def test_an_input_layout_that_cannot_be_read_is_refused(taker, layout):
    with pytest.raises(ValueError, match=f"expected `input_layout` to name .*, but got {re.escape(repr(layout))}"):
        TAKERS_OF_A_LAYOUT[taker](layout)


@pytest.mark.parametrize("value", [[1], np.array([0, 1]), torch.zeros(2), None, "dog", {}], ids=str)
def test_a_class_that_is_no_integer_is_refused(value):
    basis = basis_from_matrix(BANK, "time", torch.eye(2), n_prototypes=2)
    clips = [Clip(clip[0], SpectrogramAxes(8000, 4, 80)) for clip in CLIPS]
    with pytest.raises(TypeError, match="expected `target` to be an int, but got"):
        figures.class_prototypes(basis, BANK, value, clips, n_prototypes=1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_are_looked_up_copied_and_pickled(scheme):
    assert Scheme(str(scheme)) is Scheme(np.str_(scheme)) is Scheme(scheme) is Scheme[scheme.name] is scheme
    assert copy.copy(scheme) is copy.deepcopy(scheme) is scheme
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(scheme, protocol)) is scheme
