"""The evidence score with Captum's input methods: each method has the same properties on the score as on a model."""

import pytest
import torch
from captum.attr import (
    LRP,
    DeepLift,
    FeatureAblation,
    GradientShap,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    LayerIntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from torch import nn

from captum_apex import APEX, SCHEMES, LayerAPEX, PrototypeBasis
from tests.networks import NETWORKS, bare_basis, build, clips, invertible

TARGET = [1, 0, 3]
WIDTHS = {"first": 5, "pool": 5, "last": 6, "relu": 6}  # layers of Plain, and how many channels each gives


class Plain(nn.Module):
    """Convolutions, ReLU and mean pooling as modules, none used twice: a network that LRP and DeepLift support."""

    def __init__(self, bias):
        super().__init__()
        self.first = nn.Conv2d(1, 5, 3, padding=1, bias=bias)
        self.first_relu = nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.last = nn.Conv2d(5, 6, 3, padding=1, bias=bias)
        self.relu = nn.ReLU()
        self.mean = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Linear(6, 4, bias=bias)

    def forward(self, clips):
        features = self.relu(self.last(self.pool(self.first_relu(self.first(clips)))))
        return self.classifier(self.mean(features)[:, :, 0, 0])


def plain(bias=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Plain(bias).double().eval()


def total(attributions):
    return attributions.sum((1, 2, 3)).detach()


@pytest.fixture(params=WIDTHS)
def evidence(request):
    """An APEX object for a layer of the plain network, and the weights of the evidence for a batch."""
    model = plain(bias=True)
    apex = APEX(model, model.get_submodule(request.param), PrototypeBasis(invertible(WIDTHS[request.param]), "square"))
    return apex, apex.evidence_weights(clips(), target=TARGET, n_channels=2)


# --- the score ----------------------------------------------------------------


@pytest.mark.parametrize("sides", ["positive", "both"])
@pytest.mark.parametrize("n_channels", [1, 3, None])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_score_at_the_clip_is_the_evidences_contribution(name, n_channels, sides):
    model, layer = build(name)
    apex = APEX(model, layer, bare_basis(name))
    options = {"target": TARGET, "n_channels": n_channels, "sides": sides}
    actual = apex.evidence_score(clips(), apex.evidence_weights(clips(), **options))
    expected = total(LayerAPEX(model, layer, bare_basis(name)).attribute(clips(), **options))
    assert expected.abs().max() > 0
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in NETWORKS if "norm" not in name])
def test_the_score_of_any_clip_is_the_weighted_sum_of_what_the_layer_gives(name):
    """h(x′) = Σ w ⊙ φ(x′) with w = Uᵀ 1_E U⁻ᵀ G and G by autograd at x, in models without a normalisation."""
    model, layer = build(name)
    U, seen = invertible(), []
    handle = layer.register_forward_hook(lambda *arguments: seen.append(arguments[2]) or arguments[2].clone())
    score = model(clips())[range(3), TARGET].sum()
    (G,) = torch.autograd.grad(score, seen[0])
    model(clips(seed=7))
    handle.remove()
    Z = seen[1]
    if name == "tokens":
        Z, G = (tensor.transpose(1, 2)[:, :, None] for tensor in (Z, G))
    chosen = torch.zeros(6, dtype=torch.float64)
    chosen[[1, 4]] = 1
    w = torch.einsum("ac,nc...->na...", U.T @ chosen.diag() @ U.inverse().T, G)
    apex = APEX(model, layer, bare_basis(name))
    weights = apex.evidence_weights(clips(), target=TARGET, channels=[1, 4])
    torch.testing.assert_close(weights, w, rtol=0, atol=1e-12)
    torch.testing.assert_close(apex.evidence_score(clips(seed=7), weights).detach(), total(w * Z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("projection", [None, IntegratedGradients, InputXGradient])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_channels_maps_add_up_to_the_map_of_all(scheme, projection):
    model, layer = build("layer norm")
    apex = APEX(model, layer, bare_basis("layer norm", scheme), projection=projection)
    single = [apex.attribute(clips(), target=TARGET, channels=channel) for channel in range(6)]
    together = apex.attribute(clips(), target=TARGET, n_channels=None)
    torch.testing.assert_close(sum(single), together, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        single[2] + single[5], apex.attribute(clips(), target=TARGET, channels=[2, 5]), rtol=0, atol=1e-12
    )
    assert all(attributions.abs().max() > 1e-6 for attributions in single)


def test_the_channels_scores_add_up_to_the_score_of_all(evidence):
    apex, _ = evidence
    weights = [apex.evidence_weights(clips(), target=1, channels=channel) for channel in range(apex.basis.n_channels)]
    every = apex.evidence_weights(clips(), target=1, n_channels=None)
    torch.testing.assert_close(sum(weights), every, rtol=0, atol=1e-12)
    scores = [apex.evidence_score(clips(seed=5), of_channel) for of_channel in weights]
    torch.testing.assert_close(sum(scores), apex.evidence_score(clips(seed=5), every), rtol=0, atol=1e-12)


# --- through Captum's methods -------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("baseline", [0, 0.7])
def test_integrated_gradients_through_every_channel_is_that_of_the_logit(scheme, baseline):
    """After a ReLU only pooling and a linear layer follow: the score is the logit without its bias."""
    model, layer = build("pooling after relu")
    apex = APEX(model, layer, bare_basis("pooling after relu", scheme), projection=IntegratedGradients)
    batch, options = clips(), {"baselines": baseline, "n_steps": 30}
    expected = IntegratedGradients(model).attribute(batch, target=TARGET, **options)
    weights = apex.evidence_weights(batch, target=TARGET, n_channels=None)
    actual = IntegratedGradients(apex.evidence_score).attribute(batch, additional_forward_args=weights, **options)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    if baseline == 0:
        torch.testing.assert_close(
            apex.attribute(batch, target=TARGET, n_channels=None),
            IntegratedGradients(model).attribute(batch, target=TARGET),
            rtol=0,
            atol=1e-12,
        )


def test_integrated_gradients_is_complete(evidence):
    apex, weights = evidence
    score, baseline = apex.evidence_score, torch.full_like(clips(), 0.4)
    actual, delta = IntegratedGradients(score).attribute(
        clips(), baseline, additional_forward_args=weights, n_steps=400, return_convergence_delta=True
    )
    rise = (score(clips(), weights) - score(baseline, weights)).detach()
    torch.testing.assert_close(total(actual), rise, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(delta, total(actual) - rise, rtol=0, atol=1e-12)


def test_gradients_through_the_score_are_those_by_hand(evidence):
    apex, weights = evidence
    leaf = clips().requires_grad_()
    (gradient,) = torch.autograd.grad(apex.evidence_score(leaf, weights).sum(), leaf)
    assert gradient.abs().max() > 1e-4
    actual = InputXGradient(apex.evidence_score).attribute(leaf, additional_forward_args=weights)
    torch.testing.assert_close(actual.detach(), gradient * clips(), rtol=0, atol=1e-14)
    actual = Saliency(apex.evidence_score).attribute(leaf, additional_forward_args=weights)
    torch.testing.assert_close(actual, gradient.abs(), rtol=0, atol=1e-14)


def test_gradient_shap_at_one_baseline_and_no_noise_has_its_gradients_on_the_straight_line():
    """With a linear trunk the gradient is constant, so the expectation is exact for each sample."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6 * 3 * 4, 4)).double()
        apex = APEX(model, model[1], PrototypeBasis(invertible(), "time"))
        weights, baseline = (
            apex.evidence_weights(clips(), target=TARGET, n_channels=2),
            torch.full((1, 1, 8, 10), 0.4).double(),
        )
        actual = GradientShap(apex.evidence_score).attribute(
            clips().requires_grad_(), baseline, additional_forward_args=weights
        )
    leaf = clips().requires_grad_()
    (gradient,) = torch.autograd.grad(apex.evidence_score(leaf, weights).sum(), leaf)
    torch.testing.assert_close(actual.detach(), gradient * (clips() - baseline), rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks and attributes on non-linear:UserWarning")
def test_deep_lift_is_complete(evidence):
    apex, weights = evidence
    baseline = torch.full_like(clips(), 0.4)
    score = apex.evidence_score
    actual = DeepLift(score).attribute(clips().requires_grad_(), baseline, additional_forward_args=(weights,))
    torch.testing.assert_close(
        total(actual), (score(clips(), weights) - score(baseline, weights)).detach(), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("layer", WIDTHS)
@pytest.mark.parametrize("n_channels", [1, None])
def test_relevance_propagation_conserves_the_score(layer, n_channels):
    """Without biases no relevance is absorbed, with or without a ReLU; a second call still has its rules."""
    model = plain(bias=False)
    apex = APEX(model, model.get_submodule(layer), PrototypeBasis(invertible(WIDTHS[layer]), "square"))
    weights = apex.evidence_weights(clips(), target=TARGET, n_channels=n_channels)
    propagation = LRP(apex.evidence_score)
    actual = [propagation.attribute(clips().requires_grad_(), additional_forward_args=weights) for _ in range(2)]
    torch.testing.assert_close(total(actual[0]), apex.evidence_score(clips(), weights).detach(), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(actual[0], actual[1], rtol=0, atol=0)


def test_relevance_propagation_through_every_channel_is_that_of_the_logit():
    model = plain(bias=False)
    apex = APEX(model, model.relu, PrototypeBasis(invertible(), "square"), projection=LRP)
    expected = LRP(plain(bias=False)).attribute(clips().requires_grad_(), target=TARGET)
    torch.testing.assert_close(
        apex.attribute(clips(), target=TARGET, n_channels=None),
        expected.detach(),
        rtol=1e-5,
        atol=1e-6 * expected.abs().max().item(),
    )


def test_relevance_propagation_by_hand():
    """One convolution of size one: at every position the input's relevance is Σ_c w_c z_c, summed over the channels."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)), nn.Conv2d(6, 4, 1, bias=False)
    ).double()
    score = APEX(model, model[1], PrototypeBasis(invertible(), "square")).evidence_score
    weights = torch.randn(3, 6, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    actual = LRP(score).attribute(clips().requires_grad_(), additional_forward_args=weights)
    expected = (weights * model[:2](clips())).sum(1, keepdim=True).detach()
    torch.testing.assert_close(actual.detach(), expected, rtol=1e-5, atol=1e-6)


def test_occlusion_of_one_window_is_the_difference_by_hand(evidence):
    apex, weights = evidence
    score = apex.evidence_score
    actual = Occlusion(score).attribute(
        clips(), (1, 4, 5), strides=(1, 4, 5), baselines=0.4, additional_forward_args=weights
    )
    for row in (0, 4):
        for column in (0, 5):
            window = slice(None), slice(None), slice(row, row + 4), slice(column, column + 5)
            hidden = clips()
            hidden[window] = 0.4
            fall = (score(clips(), weights) - score(hidden, weights)).detach()
            # Captum gives float32 here
            torch.testing.assert_close(
                actual[window].double(), fall[:, None, None, None].expand(-1, 1, 4, 5), rtol=1e-6, atol=1e-8
            )


def test_ablation_of_the_whole_clip_is_the_score_minus_that_of_the_baseline(evidence):
    apex, weights = evidence
    score, mask = apex.evidence_score, torch.zeros(1, 1, 8, 10, dtype=torch.int64)
    actual = FeatureAblation(score).attribute(clips(), feature_mask=mask, additional_forward_args=weights)
    rise = (score(clips(), weights) - score(torch.zeros_like(clips()), weights)).detach()
    torch.testing.assert_close(actual, rise[:, None, None, None].expand_as(actual), rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning")
def test_guided_backpropagation_stops_at_negative_gradients():
    """One ReLU: the gradient that reaches it passes where it is positive and the unit is active."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).double()
    score = APEX(model, model[2], PrototypeBasis(invertible(), "square")).evidence_score
    weights = torch.randn(3, 6, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    actual = GuidedBackprop(score).attribute(clips().requires_grad_(), additional_forward_args=weights)
    arriving = torch.einsum("oc,nohw->nchw", model[2].weight[:, :, 0, 0], weights)
    passing = arriving.clamp_min(0) * (model[0](clips()) > 0)
    expected = torch.einsum("c,nchw->nhw", model[0].weight[:, 0, 0, 0], passing)[:, None]
    torch.testing.assert_close(actual.detach(), expected.detach(), rtol=0, atol=1e-12)


def test_a_layer_method_of_captum_on_the_score(evidence):
    apex, weights = evidence
    score, baseline = apex.evidence_score, torch.full_like(clips(), 0.4)
    actual = LayerIntegratedGradients(score, apex.forward_func.first).attribute(
        clips(), baseline, additional_forward_args=weights, n_steps=400
    )
    torch.testing.assert_close(
        total(actual), (score(clips(), weights) - score(baseline, weights)).detach(), rtol=1e-3, atol=1e-4
    )


def test_noise_around_integrated_gradients_on_the_score(evidence):
    apex, weights = evidence
    method = IntegratedGradients(apex.evidence_score)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        actual = NoiseTunnel(method).attribute(
            clips(), nt_samples=3, stdevs=1e-9, additional_forward_args=(weights,), n_steps=10
        )
    torch.testing.assert_close(
        actual, method.attribute(clips(), additional_forward_args=weights, n_steps=10), rtol=0, atol=1e-6
    )


# --- in one call --------------------------------------------------------------


@pytest.mark.parametrize("projection", [IntegratedGradients, InputXGradient, Saliency])
@pytest.mark.parametrize("name", ["pooling", "layer norm", "tokens"])
def test_one_call_is_the_two_steps(name, projection):
    model, layer = build(name)
    apex = APEX(model, layer, bare_basis(name), projection=projection)
    actual = apex.attribute(clips(), target=TARGET, n_channels=2, sides="both")
    weights = apex.evidence_weights(clips(), target=TARGET, n_channels=2, sides="both")
    expected = projection(apex.evidence_score).attribute(clips().requires_grad_(), additional_forward_args=weights)
    torch.testing.assert_close(actual, expected.detach(), rtol=0, atol=0)


def test_a_projection_of_ones_own_gets_the_score_the_inputs_and_the_arguments():
    model, layer = build("pooling")
    silence, gain = (
        torch.full((1, 1, 8, 10), -2.0, dtype=torch.float64),
        torch.tensor([[2.0], [1.0], [3.0]], dtype=torch.float64),
    )

    def steps(score, inputs, arguments):
        weights, *others = arguments
        torch.testing.assert_close(score(inputs, *arguments), score(inputs, weights, *others), rtol=0, atol=0)
        assert others[0] is gain
        return IntegratedGradients(score).attribute(
            inputs, baselines=silence, additional_forward_args=arguments, n_steps=7
        )

    apex = APEX(model, layer, bare_basis("pooling"), projection=steps)
    actual = apex.attribute(clips(), target=1, additional_forward_args=gain)
    weights = apex.evidence_weights(clips(), target=1, additional_forward_args=gain)
    plain_weights = apex.evidence_weights(clips(), target=1)
    torch.testing.assert_close(weights, plain_weights * gain[:, :, None, None], rtol=0, atol=1e-14)
    method = IntegratedGradients(apex.evidence_score)
    expected = method.attribute(clips(), baselines=silence, additional_forward_args=(weights, gain), n_steps=7)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
