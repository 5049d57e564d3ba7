"""Models as people run them: compiled, data-parallel, in mixed precision."""

from contextlib import nullcontext

import pytest
import timm
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_apex import APEX, FeatureBank, LayerAPEX, PrototypeBasis, basis_from_matrix, explain, explain_classes
from captum_apex.attribution.decomposition import select_channels
from tests.networks import NETWORKS, bare_basis, build, clips, invertible

CLIPS = clips(4, seed=6, dtype=torch.float32)


def compiled_in_place(model):
    model.compile(backend="aot_eager")
    return model


WRAPPERS = {
    "compiled": lambda model: torch.compile(model, backend="aot_eager"),
    "compiled in place": compiled_in_place,
    "data-parallel": nn.DataParallel,
    "compiled data-parallel": lambda model: torch.compile(nn.DataParallel(model), backend="aot_eager"),
}


@pytest.mark.parametrize("name", ["pooling", "layer norm", "tokens"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_model_is_explained_as_the_model(wrapper, name):
    plain, layer = build(name, dtype=torch.float32)
    model = build(name, dtype=torch.float32)[0]
    wrapped = WRAPPERS[wrapper](model)
    own_layer = model.get_submodule(NETWORKS[name].layer)
    with torch.no_grad():
        before = wrapped(CLIPS)  # so that it is compiled before it is watched
    layout = NETWORKS[name].layout
    banks = [
        FeatureBank.from_dataset(*pair, list(CLIPS), layout=layout) for pair in ((plain, layer), (wrapped, own_layer))
    ]
    assert banks[1].origin == banks[0].origin
    assert torch.equal(banks[1].means, banks[0].means)
    basis = basis_from_matrix(banks[0], "time", invertible(dtype=torch.float32), n_prototypes=2)
    actual = APEX(wrapped, own_layer, basis, input_layout="n c f t").attribute(CLIPS, 1)
    torch.testing.assert_close(
        actual, APEX(plain, layer, basis, input_layout="n c f t").attribute(CLIPS, 1), rtol=1e-5, atol=1e-7
    )
    assert [e.target for e in explain(LayerAPEX(wrapped, own_layer, basis), CLIPS, n_prototypes=2)] == before.argmax(
        1
    ).tolist()
    with torch.no_grad():
        assert torch.equal(wrapped(CLIPS), before)
    assert torch.compiler.is_compiling() is False


class Checkpointed(nn.Module):
    """The modules after the layer run a second time in the backward pass."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 6, 3)
        self.tail = nn.Sequential(
            nn.BatchNorm2d(6), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
        )

    def forward(self, inputs):
        return checkpoint(self.tail, self.layer(inputs), use_reentrant=False)


def test_a_checkpointed_model_in_training_is_held_still_on_the_way_back_too():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Checkpointed().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    apex = LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(6), "square"))
    Z = model.layer(CLIPS).detach()
    expected = (
        Z / Z[0, 0].numel() * (model.tail[-1].weight[1] * model.tail[0].running_var.add(1e-5).rsqrt())[:, None, None]
    )
    torch.testing.assert_close(apex.attribute(CLIPS, 1, n_channels=None), expected.sum(1, keepdim=True).detach())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())


class CheckpointedNorm(nn.Module):
    """A normalisation behind the layer in a checkpointed module; the layer is inside too where asked for."""

    def __init__(self, layer_inside, use_reentrant=False):
        super().__init__()
        self.layer = nn.Conv2d(1, 6, 3)
        self.norm = nn.GroupNorm(2, 6)
        self.head = nn.Linear(6, 4)
        self.layer_inside = layer_inside
        self.use_reentrant = use_reentrant
        self.grad_checkpointing = False
        self.always = False

    def forward(self, inputs):
        first, second = (nn.Identity(), self.all) if self.layer_inside else (self.layer, self.norm)
        features = first(inputs)
        if self.grad_checkpointing or self.always:
            features = checkpoint(second, features, use_reentrant=self.use_reentrant)
        else:
            features = second(features)
        return self.head(features.mean((2, 3)))

    def all(self, inputs):
        return self.norm(self.layer(inputs))


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


@pytest.mark.parametrize("layer_inside", [False, True])
def test_checkpointing_by_a_flag_is_off_meanwhile(layer_inside):
    model = seeded(lambda: CheckpointedNorm(layer_inside))
    basis = PrototypeBasis(torch.eye(6), "square")
    expected = LayerAPEX(model, model.layer, basis).attribute(CLIPS, 1)
    model.grad_checkpointing = True
    assert torch.equal(LayerAPEX(model, model.layer, basis).attribute(CLIPS, 1), expected)
    assert model.grad_checkpointing


def test_a_checkpointed_norm_behind_the_layer_has_a_constant_variance_on_the_way_back_too():
    model = seeded(lambda: CheckpointedNorm(layer_inside=False))
    basis = PrototypeBasis(torch.eye(6), "square")
    expected = LayerAPEX(model, model.layer, basis).attribute(CLIPS, 1)
    model.always = True
    assert torch.equal(LayerAPEX(model, model.layer, basis).attribute(CLIPS, 1), expected)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_that_cannot_be_explained_is_an_error_that_says_so(use_reentrant):
    model = seeded(lambda: CheckpointedNorm(layer_inside=not use_reentrant, use_reentrant=use_reentrant))
    model.always = True
    apex = LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(6), "square"))
    with pytest.raises(ValueError, match="expected a model without gradient checkpointing .* switch checkpointing off"):
        apex.attribute(CLIPS, 1)


def test_timms_checkpointing_is_off_meanwhile():
    model = seeded(lambda: timm.create_model("convnext_atto", in_chans=1, num_classes=4, depths=(1, 1, 1, 1)))
    layer = model.stages[2]
    basis = PrototypeBasis(torch.eye(160), "square")
    inputs = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = LayerAPEX(model, layer, basis).attribute(inputs, 1)
    model.set_grad_checkpointing()
    assert torch.equal(LayerAPEX(model, layer, basis).attribute(inputs, 1), expected)
    assert model.stages[0].grad_checkpointing


def test_a_layer_in_inference_mode_inside_the_model_is_explained_as_any_other():
    class Trunk(Checkpointed):
        def forward(self, inputs):
            with self.mode():
                features = self.layer(inputs)
            return self.tail(features)

    model = Trunk().eval()
    maps = []
    for mode in (nullcontext, torch.no_grad, torch.inference_mode):
        model.mode = mode
        maps.append(LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(6), "square")).attribute(CLIPS, 1))
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])


def test_a_model_that_was_made_in_inference_mode_is_explained_as_any_other():
    plain = seeded(lambda: CheckpointedNorm(layer_inside=False))
    with torch.inference_mode():
        model = CheckpointedNorm(layer_inside=False).eval()
        model.load_state_dict(plain.state_dict())
    basis = PrototypeBasis(torch.eye(6), "square")
    expected = LayerAPEX(plain, plain.layer, basis).attribute(CLIPS, 1)
    assert torch.equal(LayerAPEX(model, model.layer, basis).attribute(CLIPS, 1), expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_explanations_do_not_depend_on_the_mode_around_them(mode):
    model, layer = build("pooling after relu")
    inputs = clips(4)
    bank = FeatureBank.from_dataset(model, layer, list(inputs))
    apex = APEX(model, layer, basis_from_matrix(bank, "time", invertible(), n_prototypes=2))

    def explanations():
        found = [
            *explain(apex, inputs[:2], n_prototypes=2, dataset=list(inputs)),  # of the predicted classes
            *explain(apex, inputs[:2], torch.tensor([1, 2]), n_prototypes=2),
            *explain_classes(apex, inputs[:1], lambda logits: logits > -9, n_prototypes=1)[0],
        ]
        return [[(each.channel, each.contribution, each.region, each.effect) for each in one.evidence] for one in found]

    expected = explanations()
    with mode():
        assert explanations() == expected
        copies = inputs.clone()
        assert torch.equal(apex.attribute(copies, 1), apex.attribute(inputs, 1))


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's own, of its RMSNorm
@pytest.mark.parametrize("name", NETWORKS)
def test_only_the_model_runs_in_mixed_precision(name):
    """Features in bfloat16 are decomposed in float32: the relevance of all channels is gradient × features."""
    model, layer = build(name, dtype=torch.float32)
    apex = LayerAPEX(model, layer, bare_basis(name, U=invertible(dtype=torch.float32)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        decomposition = apex.decompose(CLIPS, 1)
        weights = apex.weights(
            decomposition, select_channels(decomposition.contributions, decomposition.activations, None)
        )
        attributions, delta = apex.attribute(CLIPS, 1, n_channels=None, return_convergence_delta=True)
    features = torch.einsum("ck,nkft->ncft", torch.linalg.inv(apex.basis.U), decomposition.features)
    torch.testing.assert_close(
        decomposition.relevance.sum(1), (decomposition.gradient * features).sum(1), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(weights, decomposition.gradient, rtol=1e-5, atol=1e-6)
    assert {
        tensor.dtype for tensor in (decomposition.features, decomposition.relevance, attributions, delta.float())
    } == {torch.float32}
    whole = apex.attribute(CLIPS, 1, n_channels=None)
    torch.testing.assert_close(attributions, whole, rtol=0.1, atol=0.05 * whole.abs().max().item())


def test_a_bank_made_in_mixed_precision_is_kept_in_float32():
    model, layer = build("pooling", dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bank = FeatureBank.from_dataset(model, layer, list(CLIPS))
    assert {tensor.dtype for tensor in (bank.means, *bank.cells.values())} == {torch.float32}
    plain = FeatureBank.from_dataset(model, layer, list(CLIPS))
    torch.testing.assert_close(bank.means, plain.means, rtol=0.05, atol=0.02)
