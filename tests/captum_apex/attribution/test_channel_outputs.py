"""The values of channels as a function of the input, against loops over the grid."""

from dataclasses import replace

import pytest
import torch

from captum_apex import SCHEMES, FeatureBank, PrototypeBasis, basis_from_matrix
from captum_apex.attribution import ChannelOutputs
from captum_apex.layers.hooks import captured
from tests import oracles
from tests.networks import NETWORKS, bare_basis, build, clips, invertible


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["pooling", "layer norm"])
def test_values_and_peaks_are_those_of_loops(name, scheme):
    model, layer = build(name)
    inputs = clips(3)
    basis = bare_basis(name, scheme)
    with captured(layer, "layer", stop=True) as capture:
        model(inputs)
    outputs = ChannelOutputs(model, layer, basis)
    values, means, peaks = outputs(inputs), ChannelOutputs(model, layer, basis, "mean")(inputs), outputs.peaks(inputs)
    for clip, grid in enumerate(capture.value.detach()):
        for channel in range(6):
            expected, _ = oracles.peaks_and_purity(grid, basis.U, channel, scheme)
            sequences = oracles.sequences(grid, scheme)
            of_peaks = [
                (basis.U @ cells[peak])[channel].item() for cells, peak in zip(sequences, expected, strict=True)
            ]
            assert peaks[clip, channel].tolist() == expected
            assert values[clip, channel].item() == pytest.approx(sum(of_peaks) / len(of_peaks))
            assert means[clip, channel].item() == pytest.approx(oracles.activation(grid, basis.U, channel))


@pytest.mark.parametrize("name", NETWORKS)
def test_means_are_the_activations_of_the_bank(name):
    model, layer = build(name)
    inputs = clips(4)
    norm = getattr(model, "norm", None) if name == "layer norm" else None
    bank = FeatureBank.from_dataset(
        model, layer, list(inputs), layout=NETWORKS[name].layout, schemes=["time"], norm=norm
    )
    basis = basis_from_matrix(bank, "time", invertible(), n_prototypes=2)
    found = ChannelOutputs(model, layer, basis, "mean")(inputs)
    torch.testing.assert_close(found, bank.means @ basis.U.T)


def test_the_gradient_reaches_the_inputs_and_not_the_parameters():
    model, layer = build("pooling")
    inputs = clips(1).requires_grad_()
    ChannelOutputs(model, layer, bare_basis("pooling"))(inputs).sum().backward()
    assert inputs.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_another_value_and_a_basis_of_another_model_are_refused():
    model, layer = build("pooling")
    with pytest.raises(ValueError, match="expected `value` to be one of 'peak', 'mean', but got 'sum'"):
        ChannelOutputs(model, layer, bare_basis("pooling"), "sum")
    basis = bare_basis("pooling")
    other = PrototypeBasis(basis.U, "time", origin=replace(basis.origin, layer="features", fingerprint="0" * 16))
    with pytest.raises(ValueError, match="other weights|fitted"):
        ChannelOutputs(model, layer, other)
