"""Contributions, evidence and maps against the slow formulas, over networks, schemes and sides."""

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn

from captum_apex import APEX, SCHEMES, FeatureBank, LayerAPEX, PrototypeBasis, basis_from_matrix, insert_basis
from captum_apex.attribution.projection import enlarged
from captum_apex.layers.cell_places import CellLine, CellPlaces
from captum_apex.layers.origin import Origin
from tests import oracles
from tests.networks import NETWORKS, NormHead, PoolingHead, bare_basis, build, clips, invertible

AFFINE = [name for name, network in NETWORKS.items() if network.affine_head and name != "tokens"]


def fitting_schemes(name):
    return [scheme for scheme in SCHEMES if NETWORKS[name].layout is None or scheme in ("square", "time")]


CASES = [(name, scheme) for name in NETWORKS for scheme in fitting_schemes(name)]


def plain_gradient(model, layer, inputs, target):
    """Z and ∂f_y/∂Z as (clip, channel, frequency, time), by plain autograd; only for heads without a normalisation."""
    captured = []
    handle = layer.register_forward_hook(lambda _, __, output: captured.append(output) or output.clone())
    score = model(inputs)[:, target].sum()
    handle.remove()
    return captured[0].detach(), torch.autograd.grad(score, captured[0])[0]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("n_channels", [1, 3, None])
@pytest.mark.parametrize("sides", ["positive", "both"])
@pytest.mark.parametrize("name", ["pooling", "pooling after relu", "nonlinear"])
def test_maps_follow_the_formula(name, scheme, n_channels, sides):
    model, layer = build(name)
    U, inputs = invertible(), clips()
    Z, G = plain_gradient(model, layer, inputs, 2)
    got = LayerAPEX(model, layer, bare_basis(name, scheme)).attribute(inputs, 2, n_channels=n_channels, sides=sides)
    for clip in range(len(inputs)):
        R = oracles.relevance(Z[clip], G[clip], U)
        chosen = oracles.evidence(R, Z[clip], U, n_channels, sides)
        expected = oracles.laid_out(sum((R[k] for k in chosen), torch.zeros_like(R[0])), scheme)
        torch.testing.assert_close(got[clip, 0], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("target", [0, 3])
def test_epics_rule_is_recovered_on_a_pooling_and_linear_head(target):
    """c_k = (A U⁻¹)_{yk} · v_k with v the pooled features in the basis, and Σ c_k = f_y − bias."""
    model, layer = build("pooling after relu")
    U, inputs = invertible(), clips()
    decomposition = LayerAPEX(model, layer, bare_basis("pooling after relu")).decompose(inputs, target)
    pooled = model.relu(model.features(model.stem(inputs.clone()))).mean((2, 3)) @ U.T
    expected = (model.classifier.weight @ torch.linalg.inv(U))[target] * pooled
    torch.testing.assert_close(decomposition.contributions, expected.detach(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(decomposition.activations, pooled.detach(), rtol=1e-11, atol=1e-12)
    logits = model(inputs)[:, target]
    torch.testing.assert_close(
        decomposition.contributions.sum(1), (logits - model.classifier.bias[target]).detach(), rtol=1e-10, atol=1e-12
    )


def test_the_evidences_contribution_is_epics_with_its_relu():
    """Channels with (A U⁻¹)_{yk} · ReLU(v_k) > 0 are the positive evidence, with that value."""
    model, layer = build("pooling after relu")
    U, inputs = invertible(), clips(12)
    apex = LayerAPEX(model, layer, bare_basis("pooling after relu"))
    decomposition = apex.decompose(inputs, 1)
    pooled = model.relu(model.features(model.stem(inputs.clone()))).mean((2, 3)) @ U.T
    epic = ((model.classifier.weight @ torch.linalg.inv(U))[1] * pooled.relu()).detach()
    chosen = apex.selected_channels(decomposition, n_channels=6)
    assert torch.equal(chosen, epic > 0)
    torch.testing.assert_close(decomposition.contributions[chosen], epic[epic > 0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_all_channels_give_the_same_map_in_every_basis(name, scheme):
    """Σ_k R_k does not depend on U: the sum over a complete basis is G·Z."""
    model, layer = build(name)
    maps = [
        LayerAPEX(model, layer, bare_basis(name, scheme, invertible(seed=seed))).attribute(clips(), 1, n_channels=None)
        for seed in range(3)
    ]
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_contributions_are_complete_where_the_head_is_affine(name, scheme):
    """Also through a normalisation: its variance is held constant."""
    model, layer = build(name)
    apex = LayerAPEX(model, layer, bare_basis(name, scheme))
    inputs = clips()
    attributions, delta = apex.attribute(inputs, 2, n_channels=None, return_convergence_delta=True)
    assert delta.abs().max() < 1e-10
    without_layer = apex.score_without_layer(inputs, 2)
    torch.testing.assert_close(
        attributions.sum((1, 2, 3)), (model(inputs)[:, 2] - without_layer).detach(), rtol=1e-9, atol=1e-10
    )


def test_without_holding_the_norm_the_total_would_vanish():
    model, layer = build("layer norm")
    Z, G = plain_gradient(model, layer, clips(), 2)
    held = LayerAPEX(model, layer, bare_basis("layer norm")).decompose(clips(), 2).contributions.sum(1)
    assert (Z * G).sum((1, 2, 3)).abs().max() < 0.02 * held.abs().max()


def test_the_delta_of_a_few_channels_is_what_they_leave_out():
    model, layer = build("pooling after relu")
    apex = LayerAPEX(model, layer, bare_basis("pooling after relu"))
    attributions, delta = apex.attribute(clips(), 2, n_channels=2, return_convergence_delta=True)
    expected = attributions.sum((1, 2, 3)) - (model(clips())[:, 2] - model.classifier.bias[2])
    torch.testing.assert_close(delta, expected.detach(), rtol=1e-10, atol=1e-10)
    at_input = APEX(model, layer, bare_basis("pooling after relu"))
    assert torch.allclose(
        at_input.attribute(clips(), 2, n_channels=2, return_convergence_delta=True)[1], delta, atol=1e-12
    )


def test_the_normalisation_before_the_layer_keeps_its_gradient_in_the_evidence_score():
    """Only normalisations after the layer are constant: the gradient of the score is that of the model."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.GroupNorm(2, 6),
        nn.Conv2d(6, 6, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )
    model = model.double().eval()
    apex, inputs = APEX(model, model[2], PrototypeBasis(invertible(), "square")), clips()
    weights = apex.evidence_weights(inputs, 1)
    x = inputs.clone().requires_grad_()
    got = torch.autograd.grad(apex.evidence_score(x, weights).sum(), x)[0]
    expected = torch.autograd.grad((weights * model[:3](x)).sum(), x)[0]
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["pooling", "layer norm", "nonlinear", "tokens"])
def test_the_evidence_score_is_the_evidences_contribution(name):
    model, layer = build(name)
    apex, inputs = APEX(model, layer, bare_basis(name)), clips()
    decomposition = apex.layer_apex.decompose(inputs, 2)
    for chosen in (
        {"n_channels": 3},
        {"n_channels": None},
        {"n_channels": 3, "sides": "both"},
        {"channels": [0, 4]},
        {"channels": 5},
    ):
        evidence = apex.layer_apex.selected_channels(decomposition, **chosen)
        score = apex.evidence_score(inputs, apex.evidence_weights(inputs, 2, **chosen))
        torch.testing.assert_close(score, (decomposition.contributions * evidence).sum(1), rtol=1e-10, atol=1e-12)


def test_the_weights_follow_their_formula():
    """w = Uᵀ 1_E U⁻ᵀ G."""
    model, layer = build("pooling")
    U, inputs = invertible(), clips()
    apex = APEX(model, layer, bare_basis("pooling"))
    _, G = plain_gradient(model, layer, inputs, 2)
    got = apex.evidence_weights(inputs, 2, channels=[1, 3])
    one = torch.diag(torch.tensor([0.0, 1, 0, 1, 0, 0], dtype=torch.float64))
    expected = torch.einsum("ck,nkft->ncft", U.T @ one @ torch.linalg.inv(U).T, G)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_integrated_gradients_through_all_channels_is_that_of_the_logit(scheme):
    """On a pooling + linear head, in float32 as users run it."""
    model, layer = build("pooling after relu", dtype=torch.float32)
    inputs = clips(dtype=torch.float32)
    basis = bare_basis("pooling after relu", scheme, invertible(dtype=torch.float32))
    through = APEX(model, layer, basis, projection=IntegratedGradients).attribute(inputs, 2, n_channels=None)
    plain = IntegratedGradients(model).attribute(inputs, target=2)
    torch.testing.assert_close(through, plain, rtol=0, atol=1e-5)


def test_a_projection_with_a_baseline_is_the_call_by_hand():
    model, layer = build("layer norm")
    inputs, silence = clips(), torch.full_like(clips(), -1.5)

    def through(score, clip, arguments):
        return IntegratedGradients(score).attribute(clip, silence, additional_forward_args=arguments, n_steps=7)

    apex = APEX(model, layer, bare_basis("layer norm"), projection=through)
    by_hand = IntegratedGradients(apex.evidence_score).attribute(
        inputs, silence, additional_forward_args=apex.evidence_weights(inputs, 2, n_channels=3), n_steps=7
    )
    assert torch.equal(apex.attribute(inputs, 2, n_channels=3), by_hand)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_enlarging_is_bilinear_and_keeps_the_total(scheme):
    model, layer = build("pooling")
    basis, inputs = bare_basis("pooling", scheme), clips()
    at_layer = LayerAPEX(model, layer, basis).attribute(inputs, 2)
    at_input = APEX(model, layer, basis).attribute(inputs, 2)
    bilinear = nn.functional.interpolate(at_layer, inputs.shape[2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(at_input, bilinear * at_layer[0].numel() / inputs[0].numel(), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(at_input.sum((1, 2, 3)), at_layer.sum((1, 2, 3)), rtol=1e-10, atol=1e-12)


class Waveform(nn.Module):
    def __init__(self, ndim):
        super().__init__()
        self.ndim = ndim
        self.layer = nn.Conv1d(1, 6, 5, stride=3)
        self.classifier = nn.Linear(6, 4)

    def forward(self, x):
        x = x[:, None] if self.ndim == 2 else x
        return self.classifier(self.layer(x).mean(2))


@pytest.mark.parametrize("ndim", [2, 3])
def test_waveforms_get_a_map_over_samples(ndim):
    model = Waveform(ndim).double().eval()
    inputs = torch.randn(3, 32, dtype=torch.float64) if ndim == 2 else torch.randn(3, 1, 32, dtype=torch.float64)
    basis = PrototypeBasis(
        invertible(), "time", origin=Origin(layout=bare_basis("tokens").origin.layout.of("n c t -> n c 1 t"))
    )
    at_layer = LayerAPEX(model, model.layer, basis).attribute(inputs, 1)
    at_input = APEX(model, model.layer, basis).attribute(inputs, 1)
    linear = (
        nn.functional.interpolate(at_layer[:, :, 0], 32, mode="linear", align_corners=False) * at_layer[0].numel() / 32
    )
    torch.testing.assert_close(at_input, linear.reshape(inputs.shape), rtol=1e-12, atol=1e-15)


def enlarged_by_hand(relevance, size, first, step):
    """Each cell's value on the steps around its centre, less and less up to the next centre; its total is kept.

    Beyond the outer centres the value stays for half a cell, and is zero further out.
    """
    n_cells = relevance.shape[-1]
    large = torch.zeros(*relevance.shape[:-1], size, dtype=relevance.dtype)
    for cell in range(n_cells):
        weights = []
        for place in range(size):
            distance = (place + 0.5 - first) / step - cell
            beyond = (cell == 0 and distance < 0) or (cell == n_cells - 1 and distance > 0)
            weights.append(float(abs(distance) <= 0.5) if beyond else max(0.0, 1 - abs(distance)))
        for place, weight in enumerate(weights):
            large[..., place] += relevance[..., cell] * weight / sum(weights)
    return large


@pytest.mark.parametrize(("first", "step"), [(0.5, 4.0), (6.0, 3.0), (2.0, 4.0), (-1.5, 5.0), (9.0, 1.0)])
def test_an_enlarged_map_has_its_cells_where_they_lie(first, step):
    relevance = torch.rand(2, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = CellPlaces(time=CellLine(first, step, size=32, n_cells=8))
    large = enlarged(relevance, torch.zeros(2, 1, 32), None, places)
    torch.testing.assert_close(large, enlarged_by_hand(relevance, 32, first, step), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(large.sum(2), relevance.sum(2))


def test_cells_that_lie_outside_the_input_keep_their_relevance():
    relevance = torch.tensor([[[1.0, 2.0, 4.0, 8.0]]])
    places = CellPlaces(time=CellLine(first=-5.0, step=4.0, size=8, n_cells=4))  # centres at −5, −1, 3, 7
    large = enlarged(relevance, torch.zeros(1, 1, 8), None, places)
    assert large.sum().item() == pytest.approx(15)
    assert large[0, 0, :3].sum() > 3


@pytest.mark.parametrize(("shape", "layout"), [((2, 20), "n t"), ((2, 1, 20), "n c t"), ((2, 20, 3), "n t c")])
def test_an_input_without_a_frequency_axis_gets_the_sum_of_the_rows(shape, layout):
    relevance = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    large = enlarged(relevance, torch.zeros(shape), layout)
    columns = large.movedim(layout.split().index("t"), -1).reshape(2, -1, 20).sum(1).unflatten(1, (5, 4)).sum(2)
    torch.testing.assert_close(columns.sum(1), relevance.sum((1, 2)))
    middle = nn.functional.interpolate(relevance.sum(1, keepdim=True), 20, mode="linear")[:, 0].unflatten(1, (5, 4))
    torch.testing.assert_close(columns, middle.mean(2))


def test_axes_in_another_order_must_be_named():
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = PoolingHead()

        def forward(self, x):
            return self.net(x.transpose(1, 2)[:, None])

    model, inputs = Transposed().double().eval(), clips()[:, 0].transpose(1, 2)  # (clip, time, frequency)
    basis = bare_basis("pooling", "time")
    with pytest.raises(ValueError, match=r"got shape \(3, 10, 8\); say with `input_layout` which axis is which"):
        APEX(model, model.net.features, basis).attribute(inputs, 1)
    with pytest.raises(ValueError, match="expected `input_layout` to name the 3 axes"):
        APEX(model, model.net.features, basis, input_layout="n c f t").attribute(inputs, 1)
    got = APEX(model, model.net.features, basis, input_layout="n t f").attribute(inputs, 1)
    plain = APEX(model.net, model.net.features, basis).attribute(clips(), 1)
    torch.testing.assert_close(got.transpose(1, 2)[:, None], plain, rtol=1e-12, atol=1e-15)


def test_channels_of_one_input_share_its_map():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    ).double()
    inputs = torch.randn(2, 3, 8, 10, dtype=torch.float64)
    basis = PrototypeBasis(invertible(), "square")
    at_input = APEX(model, model[0], basis).attribute(inputs, 1)
    assert torch.equal(at_input[:, 0], at_input[:, 2])
    at_layer = LayerAPEX(model, model[0], basis).attribute(inputs, 1)
    torch.testing.assert_close(at_input.sum(1), at_layer[:, 0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_channels": 0}, ValueError, "expected `n_channels` to be an int of at least 1, but got 0"),
        ({"n_channels": -2}, ValueError, "expected `n_channels` to be an int of at least 1, but got -2"),
        ({"n_channels": 2.0}, TypeError, "expected `n_channels` to be an int of at least 1, but got float 2.0"),
        ({"sides": "left"}, ValueError, "expected `sides` to be one of 'positive', 'both', but got 'left'"),
        ({"channels": 6}, ValueError, "expected `channels` among the basis's 6 channels, 0 to 5, but got 6"),
        ({"channels": []}, ValueError, "expected `channels` among"),
    ],
)
def test_settings_out_of_range_are_refused(settings, error, message):
    model, layer = build("pooling")
    with pytest.raises(error, match=message):
        LayerAPEX(model, layer, bare_basis("pooling")).attribute(clips(), 1, **settings)


def test_frequency_on_a_layer_over_time_alone_says_what_fits():
    model, layer = build("tokens")
    with pytest.raises(ValueError, match="'encoder' gives 1 frequency row.* it supports: square, time"):
        LayerAPEX(model, layer, bare_basis("tokens", "frequency")).attribute(clips(), 1)


def test_an_output_that_does_not_depend_on_the_layer_is_an_error_that_names_it():
    class Bypass(PoolingHead):
        def forward(self, x):
            self.features(self.stem(x))
            return self.classifier(x.mean((2, 3)).expand(-1, 6))

    model = Bypass().double().eval()
    with pytest.raises(ValueError, match="expected the output to depend on the layer 'features'"):
        LayerAPEX(model, model.features, bare_basis("pooling")).attribute(clips(), 1)


def test_a_learned_norm_before_the_classifier_does_not_change_the_forward_values():
    model = NormHead().double().eval()
    decomposition = LayerAPEX(model, model.relu, bare_basis("layer norm")).decompose(clips(), 1)
    assert torch.equal(decomposition.output, model(clips()).detach())


@pytest.mark.parametrize("kind", [LayerAPEX, APEX])
def test_inputs_that_cannot_be_explained_are_refused(kind):
    model, layer = build("pooling")
    apex, broken = kind(model, layer, bare_basis("pooling")), clips()
    broken[1, 0, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="the inputs of clip 1 have NaN or infinity"):
        apex.attribute(broken, 1)
    with pytest.raises(ValueError, match=r"expected `inputs` with at least one clip, but got shape \(0, 1, 8, 10\)"):
        apex.attribute(clips()[:0], 1)
    with pytest.raises(TypeError, match="expected `inputs` to be a tensor.*, but got list"):
        apex.attribute([clips()], 1)


def test_integer_samples_get_the_map_of_the_same_floats():
    class Samples(PoolingHead):
        def forward(self, x):
            return super().forward(x.double() / 100)

    model, samples = Samples().double().eval(), (clips() * 100).round()
    apex = APEX(model, model.features, bare_basis("pooling"))
    torch.testing.assert_close(apex.attribute(samples.long(), 1), apex.attribute(samples, 1), rtol=1e-12, atol=1e-15)


def test_a_basis_fitted_at_the_layers_input_is_used_there():
    model, layer = build("pooling after relu")
    bank = FeatureBank.from_dataset(model, layer, list(clips(9)), at_input=True)
    basis = basis_from_matrix(bank, "square", invertible())
    plain = PrototypeBasis(invertible(), "square")
    expected = LayerAPEX(model, layer, plain).attribute(clips(), 1, attribute_to_layer_input=True)
    apex = APEX(model, layer, basis)
    assert torch.equal(apex.layer_apex.attribute(clips(), 1), expected)
    score = apex.evidence_score(clips(), apex.evidence_weights(clips(), 1))
    torch.testing.assert_close(score, expected.sum((1, 2, 3)), rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="expected a basis of the output of 'relu', but it was fitted on its input"):
        insert_basis(model, layer, basis)


def test_a_projection_must_be_callable():
    model, layer = build("pooling")
    with pytest.raises(TypeError, match="expected `projection` to be a Captum class or a function, but got str"):
        APEX(model, layer, bare_basis("pooling"), projection="ig")


@pytest.mark.parametrize(
    ("size", "within"), [((64, 126), 4e-3), ((16, 30), 1e-12), ((4, 5), 1e-12), ((16, 5), 1e-12), ((2, 30), 1e-12)]
)
def test_enlarging_to_any_size_keeps_the_total_as_near_as_the_docstring_says(size, within):
    relevance = torch.eye(120, dtype=torch.float64).reshape(120, 8, 15)
    large = enlarged(relevance, torch.zeros(120, 1, *size), None)
    assert (large.sum((1, 2, 3)) - 1).abs().max() <= within
    assert large.sum().item() == pytest.approx(120, rel=1e-9)


def test_what_the_caller_does_with_the_matrix_does_not_reach_the_basis():
    model, layer = build("pooling")
    U = invertible().requires_grad_()
    basis = PrototypeBasis(U, "time")
    before = LayerAPEX(model, layer, basis).attribute(clips(), 1)
    with torch.no_grad():
        U.mul_(2)
    after = LayerAPEX(model, layer, basis).attribute(clips(), 1)
    assert torch.equal(before, after)
    assert not after.requires_grad


def test_another_basis_put_in_its_place_is_the_one_that_counts():
    model, layer = build("pooling")
    apex = LayerAPEX(model, layer, bare_basis("pooling", U=torch.eye(6, dtype=torch.float64)))
    apex.attribute(clips(), 1)
    apex.basis = bare_basis("pooling")
    assert torch.equal(apex.attribute(clips(), 1), LayerAPEX(model, layer, bare_basis("pooling")).attribute(clips(), 1))


def test_a_wrapped_model_is_the_model_that_the_basis_was_fitted_on():
    model, layer = build("pooling")
    basis = basis_from_matrix(FeatureBank.from_dataset(model, layer, list(clips(9))), "time", invertible())
    wrapped = nn.Sequential(model, nn.Tanh()).eval()
    assert LayerAPEX(wrapped, layer, basis).attribute(clips(), 1).isfinite().all()
