"""A basis is used on the layer that it was fitted on."""

import pytest
import torch
from torch import nn

from captum_apex import APEX, FeatureBank, LayerAPEX, basis_from_matrix, insert_basis
from captum_apex.layers import Origin
from captum_apex.layers.fitted_on import check_origin


def network():
    """Two blocks with the same number of channels, the second behind a name with a dot."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ).eval()


def basis_of(model, layer):
    bank = FeatureBank.from_dataset(model, layer, list(torch.rand(4, 1, 8, 16)))
    return basis_from_matrix(bank, "time", torch.eye(4), n_prototypes=2)


@pytest.mark.parametrize("use", [LayerAPEX, APEX, insert_basis])
@pytest.mark.parametrize(("fitted", "given"), [(0, "1"), (1, "0"), (1, "1.0")])
def test_a_basis_of_another_layer_is_refused(use, fitted, given):
    model = network()
    basis = basis_of(model, model[fitted])
    with pytest.raises(ValueError, match=f"the layer '{fitted}', on which the basis was fitted, but got '{given}'"):
        use(model, model.get_submodule(given), basis)
    use(model, model[fitted], basis)


@pytest.mark.parametrize(("fitted", "given"), [("1", "1.1"), ("1.1", "1"), ("1", "1.1.1"), ("1.1.1", "1.1")])
def test_a_container_is_its_last_module(fitted, given):
    model = network()
    LayerAPEX(model, model.get_submodule(given), basis_of(model, model.get_submodule(fitted)))


@pytest.mark.parametrize("wrapped", [lambda model: nn.Sequential(model, nn.Softmax(1)), nn.DataParallel])
def test_a_wrapper_puts_a_prefix_before_the_name(wrapped):
    model = network()
    basis = basis_of(model, model[1])
    LayerAPEX(wrapped(model), model[1], basis)
    with pytest.raises(ValueError, match="the layer '1', on which the basis was fitted"):
        LayerAPEX(nn.Sequential(model, nn.Softmax(1)), model[2], basis)


def test_what_is_not_known_is_not_compared():
    model = network()
    check_origin(model, model[0], Origin())
    check_origin(model, model[0], Origin(layer="a name of another model"))
    check_origin(lambda inputs: model(inputs) + 0, model[0], Origin(layer="0"))
