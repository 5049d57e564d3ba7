"""The copy with the basis inside: the same outputs, the layer's channels disentangled, the model untouched."""

import pickle
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from captum_apex import ChannelMatrix, FeatureBank, LayerAPEX, PrototypeBasis, fit_basis, insert_basis
from captum_apex.layers.origin import Origin
from tests.captum_apex.attribution.test_captum_contract import state
from tests.networks import NETWORKS, NormHead, PoolingHead, bare_basis, build, clips, invertible

AFFINE = [name for name, network in NETWORKS.items() if network.affine_head and network.layout is None]
# the last feature map before the pooling: from there on, only pooling, normalisation and linear layers
BACKBONES = {"resnet18": "layer4", "convnext_atto": "stages", "densenet121": "features", "efficientnet_b0": "bn2"}
RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-12}


def orthogonal(width=6, dtype=torch.float64):
    noise = torch.randn(width, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.linalg.qr(noise).Q.to(dtype)


MATRICES = {"invertible": invertible, "orthogonal": orthogonal}


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double().eval()


def assert_same_outputs(copy, model, batch, relative):
    with torch.no_grad():
        expected, actual = model(batch), copy(batch)
    assert expected.abs().max() > 0
    assert (actual - expected).abs().max() <= relative * expected.abs().max()


def layer_output(model, name, batch):
    """The output of the module of that name."""
    seen = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda *arguments: seen.append(arguments[2].detach().clone())
    )
    with torch.no_grad():
        model(batch)
    handle.remove()
    return seen[0]


def assert_disentangled(copy, model, name, U, batch):
    Z = layer_output(model, name, batch)
    expected = torch.stack([sum(U[k, c] * Z[:, c] for c in range(len(U))) for k in range(len(U))], dim=1)
    scale = expected.abs().max().item()
    torch.testing.assert_close(layer_output(copy, name, batch), expected, rtol=0, atol=RELATIVE[batch.dtype] * scale)


# --- the same outputs ---------------------------------------------------------


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("name", AFFINE)
def test_small_networks(name, kind, dtype):
    model, layer = build(name, dtype=dtype)
    U = MATRICES[kind](dtype=dtype)
    copy = insert_basis(model, layer, bare_basis(name, U=U), clips(dtype=dtype))
    assert_same_outputs(copy, model, clips(5, columns=14, seed=8, dtype=dtype), RELATIVE[dtype])
    assert_disentangled(copy, model, NETWORKS[name].layer, U, clips(dtype=dtype))


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones(name, dtype):
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, in_chans=1, num_classes=10).to(dtype).eval()
    width, batch = model.num_features, clips(2, 64, 96, dtype=dtype)
    for matrix in MATRICES.values():
        U = matrix(width, dtype=dtype)
        copy = insert_basis(model, model.get_submodule(BACKBONES[name]), PrototypeBasis(U, "time"), batch[:1])
        assert_same_outputs(copy, model, batch, RELATIVE[dtype])
        expected = torch.einsum("kc,nchw->nkhw", U, layer_output(model, BACKBONES[name], batch))
        actual = layer_output(copy, BACKBONES[name], batch)
        torch.testing.assert_close(actual, expected, rtol=0, atol=RELATIVE[dtype] * expected.abs().max().item())


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
def test_torchvisions_convnext(dtype):
    models = pytest.importorskip("torchvision.models")
    from torchvision.models.convnext import CNBlockConfig

    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = [CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)]
        model = models.ConvNeXt(settings, num_classes=10).to(dtype).eval()
    batch = clips(2, 64, 96, dtype=dtype).expand(-1, 3, -1, -1)
    for matrix in MATRICES.values():
        U = matrix(32, dtype=dtype)
        copy = insert_basis(model, model.features, PrototypeBasis(U, "square"), batch[:1])
        assert_same_outputs(copy, model, batch, RELATIVE[dtype])
        assert_disentangled(copy, model, "features", U, batch)


@pytest.mark.parametrize("head", ["linear", "norm"])
def test_where_the_inverse_goes(head):
    """The weights of a linear layer become A U⁻¹; before a normalisation, U⁻¹ is a separate module."""
    name = "pooling after relu" if head == "linear" else "layer norm"
    model, layer = build(name)
    copy = insert_basis(model, layer, bare_basis(name), clips())
    A, inverse = model.classifier.weight.detach(), invertible().inverse()
    if head == "linear":
        assert type(copy.classifier) is nn.Linear
        torch.testing.assert_close(copy.classifier.weight.detach(), A @ inverse, rtol=0, atol=1e-14)
    else:
        before, norm = copy.norm
        assert type(norm) is nn.LayerNorm
        torch.testing.assert_close(before.matrix, inverse, rtol=0, atol=1e-14)
        torch.testing.assert_close(copy.classifier.weight.detach(), A, rtol=0, atol=0)
    torch.testing.assert_close(copy.classifier.bias.detach(), model.classifier.bias.detach(), rtol=0, atol=0)
    original, matrix = copy.relu
    assert type(original) is nn.ReLU
    torch.testing.assert_close(matrix.matrix, invertible(), rtol=0, atol=0)


def test_the_example_is_made_from_what_the_basis_was_fitted_on():
    model, layer = build("layer norm")
    basis = fit_basis(
        FeatureBank.from_dataset(model, layer, list(clips(6))), "time", orthogonal=False, epochs=2, n_prototypes=(3, 2)
    )
    copy = insert_basis(model, layer, basis)
    assert_same_outputs(copy, model, clips(4, seed=9), 1e-12)
    assert_disentangled(copy, model, "relu", basis.U, clips())


@pytest.mark.parametrize("name", AFFINE)
def test_the_raw_channels_of_the_copy_are_the_channels_of_the_basis(name):
    """LayerAPEX with the identity on the copy gives the same relevance as with U on the model."""
    model, layer = build(name)
    copy = insert_basis(model, layer, bare_basis(name), clips())
    inside = LayerAPEX(
        copy, copy.get_submodule(NETWORKS[name].layer), bare_basis(name, U=torch.eye(6, dtype=torch.float64))
    )
    outside = LayerAPEX(model, layer, bare_basis(name))
    actual, expected = (apex.decompose(clips(), target=[1, 0, 3]) for apex in (inside, outside))
    torch.testing.assert_close(actual.features, expected.features, rtol=0, atol=1e-12)
    torch.testing.assert_close(actual.relevance, expected.relevance, rtol=0, atol=1e-12)
    for channel in range(6):
        maps = [apex.attribute(clips(), target=1, channels=channel) for apex in (inside, outside)]
        assert maps[1].abs().max() > 1e-6
        torch.testing.assert_close(*maps, rtol=0, atol=1e-12)


def test_a_channel_matrix_is_the_matrix_at_every_position():
    U, Z = invertible(), torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    actual = ChannelMatrix(U)(Z)
    for clip in range(2):
        for row in range(3):
            for column in range(4):
                torch.testing.assert_close(
                    actual[clip, :, row, column], U @ Z[clip, :, row, column], rtol=0, atol=1e-14
                )
    torch.testing.assert_close(ChannelMatrix(U)(Z[:, :, 0, 0]), Z[:, :, 0, 0] @ U.T, rtol=0, atol=1e-14)


@pytest.mark.parametrize("wrapper", [nn.DataParallel, lambda model: torch.compile(model, backend="aot_eager")])
def test_of_a_wrapped_model_the_copy_is_plain(wrapper):
    model, layer = build("pooling after relu")
    copy = insert_basis(wrapper(model), layer, bare_basis("pooling after relu"), clips())
    assert type(copy) is type(model)
    assert_same_outputs(copy, model, clips(), RELATIVE[torch.float64])


# --- the modules that take the channels ---------------------------------------


class SelfAttention(PoolingHead):
    """Query, key and value are the columns of the grid; the value is given by its name, with a mask of other size."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, clips):
        columns = self.relu(self.features(self.stem(clips))).mean(2).transpose(1, 2)  # (clip, time, channel)
        mask = torch.zeros(len(clips), columns.shape[1], dtype=torch.bool)
        attended, _ = self.attention(columns, columns, value=columns, key_padding_mask=mask)
        return self.classifier(attended.mean(1))


class QueriedAttention(SelfAttention):
    """A learned query; only the keys and the values come from the layer."""

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.rand(1, 1, 6))

    def forward(self, clips):
        columns = self.relu(self.features(self.stem(clips))).mean(2).transpose(1, 2)
        attended, _ = self.attention(self.query.expand(len(clips), -1, -1), columns, columns)
        return self.classifier(attended[:, 0])


class RecurrentHead(PoolingHead):
    """A recurrent layer with time on axis 0 and a state."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.LSTM(6, 6)

    def forward(self, clips):
        columns = self.relu(self.features(self.stem(clips))).mean(2).permute(2, 0, 1)  # (time, clip, channel)
        state = torch.ones(1, len(clips), 6, dtype=clips.dtype)
        return self.classifier(self.recurrent(columns, (state, state))[0][-1])


class MaskedMean(nn.Module):
    """A mean over time with weights, of which a mask leaves columns out."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(6))

    def forward(self, columns, mask=None):
        return (columns * self.weight[:, None] * mask).sum(2)


class MaskedHead(PoolingHead):
    def __init__(self):
        super().__init__()
        self.pool = MaskedMean()

    def forward(self, clips):
        columns = self.relu(self.features(self.stem(clips))).mean(2)
        return self.classifier(self.pool(columns, mask=torch.arange(columns.shape[2]) < 3))


class BilinearHead(PoolingHead):
    """Both arguments of the head are means of the layer."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Bilinear(6, 6, 4)

    def forward(self, clips):
        features = self.relu(self.features(self.stem(clips)))
        return self.classifier(features.mean((2, 3)), features[..., 0].mean(2))


class TwoBranches(PoolingHead):
    """A block whose shortcut has weights: both branches read the layer, as in the first block of a ResNet's stage."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.shortcut = nn.Conv2d(6, 6, 1)

    def forward(self, clips):
        features = self.relu(self.features(self.stem(clips)))
        return self.classifier(torch.relu(self.conv(features) + self.shortcut(features)).mean((2, 3)))


class CosineLinear(nn.Linear):
    """A linear layer that divides each of its rows, and what it takes, by their length."""

    def forward(self, inputs):
        return nn.functional.linear(nn.functional.normalize(inputs), nn.functional.normalize(self.weight))


def with_classifier(make):
    def network():
        model = PoolingHead()
        model.classifier = make(model)
        return model

    return network


def weight_norm(model):
    return nn.utils.parametrizations.weight_norm(nn.Linear(6, 4, bias=False))


class SharedLinear(PoolingHead):
    """Two linear layers share their weights, and only one takes the channels of the layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.classifier = nn.Linear(6, 6)
        self.classifier.weight = self.first.weight

    def forward(self, clips):
        return self.classifier(self.first(self.relu(self.features(self.stem(clips))).mean((2, 3))))


class ReadAttributes(PoolingHead):
    """The model reads attributes of its head, as many do for the dtype and for recurrent layers."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 6, batch_first=True)

    def forward(self, clips):
        columns = self.relu(self.features(self.stem(clips))).mean(2).transpose(1, 2)
        self.gru.flatten_parameters()
        return self.classifier(self.gru(columns.to(self.gru.weight_ih_l0.dtype))[0].mean(1))


class ReadTwo(SelfAttention):
    """An attribute of a module of several arguments."""

    def forward(self, clips):
        return super().forward(clips.to(self.attention.in_proj_weight.dtype))


class ReadLinear(PoolingHead):
    """An attribute of the linear layer that gets A U⁻¹."""

    def forward(self, clips):
        means = self.relu(self.features(self.stem(clips))).mean((2, 3))
        return self.classifier(means.to(self.classifier.weight.dtype)) / self.classifier.in_features


READERS = {  # the network, and the modules before which U⁻¹ is placed
    "self-attention": (SelfAttention, {"attention": {"0": 2, "1": 2, "value": 2}}),
    "learned query": (QueriedAttention, {"attention": {"1": 2, "2": 2}}),
    "recurrent": (RecurrentHead, {"recurrent": {"0": 2}}),
    "mask by name": (MaskedHead, {"pool": {"0": 1}}),
    "bilinear": (BilinearHead, {"classifier": {"0": 1, "1": 1}}),
    "two branches": (TwoBranches, {"conv": 1, "shortcut": 1}),
    "attention pooling": (NETWORKS["attention pooling"].make, {"attention": 1}),
    "cosine": (with_classifier(lambda _: CosineLinear(6, 4)), {"classifier": 1}),
    "weight norm": (with_classifier(weight_norm), {"classifier": 1}),
    "shared weights": (SharedLinear, {"first": 1}),
    "attributes": (ReadAttributes, {"gru": 2}),
    "attributes of several arguments": (ReadTwo, {"attention": {"0": 2, "1": 2, "value": 2}}),
    "attributes of a linear layer": (ReadLinear, {}),
}


@pytest.mark.parametrize("name", READERS)
def test_the_inverse_is_placed_before_every_module_that_takes_the_channels(name):
    make, places = READERS[name]
    model = seeded(make)
    before = state(model)
    copy = insert_basis(model, model.relu, PrototypeBasis(invertible(), "time"), clips(2))
    assert state(model) == before
    assert_same_outputs(copy, model, clips(5, columns=14, seed=8), 1e-12)
    assert_disentangled(copy, model, "relu", invertible(), clips())
    for place, axes in places.items():
        placed = copy.get_submodule(place)
        if isinstance(axes, int):
            assert placed[0].axis == axes
            matrices = [placed[0]]
        else:
            assert {key: matrix.axis for key, matrix in placed.matrices.items()} == axes
            matrices = placed.matrices.values()
        for matrix in matrices:
            torch.testing.assert_close(matrix.matrix, invertible().inverse(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["self-attention", "two branches"])
def test_the_channels_of_the_basis_explain_the_copy_as_they_explain_the_model(name):
    model = seeded(READERS[name][0])
    copy = insert_basis(model, model.relu, PrototypeBasis(invertible(), "time"), clips(2))
    identity = PrototypeBasis(torch.eye(6, dtype=torch.float64), "time")
    inside = LayerAPEX(copy, copy.relu, identity).decompose(clips(), target=1)
    outside = LayerAPEX(model, model.relu, PrototypeBasis(invertible(), "time")).decompose(clips(), target=1)
    torch.testing.assert_close(inside.relevance, outside.relevance, rtol=0, atol=1e-12)


def test_channels_on_the_last_axis():
    """A transformer over frames: U and U⁻¹ act on axis 2 of (clip, time, channel), and U⁻¹ goes into the classifier."""
    model, layer = build("tokens")
    copy = insert_basis(model, layer, bare_basis("tokens"), clips())
    assert_same_outputs(copy, model, clips(5, columns=14, seed=8), 1e-12)
    frames = layer_output(model, "encoder", clips())
    torch.testing.assert_close(layer_output(copy, "encoder", clips()), frames @ invertible().T, rtol=0, atol=1e-12)
    expected = model.classifier.weight @ invertible().inverse()
    torch.testing.assert_close(copy.classifier.weight, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    """Rounding is coarse there, but the inverse is still placed, and what cannot be placed is still refused."""
    model = seeded(PoolingHead).to(dtype)
    batch = clips(dtype=dtype)
    copy = insert_basis(model, model.relu, PrototypeBasis(invertible(), "time"), batch)
    assert_same_outputs(copy, model, batch, 0.03)
    with pytest.raises(ValueError, match="expected only pooling between 'features' and 'classifier'"):
        insert_basis(model, model.features, PrototypeBasis(invertible(), "time"), batch)


# --- the model ----------------------------------------------------------------


def leaves(network):
    return [module for module in network.modules() if not list(module.children())]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", ["pooling after relu", "layer norm"])
def test_the_model_is_left_as_it_was(name, train):
    model, layer = build(name)
    model.train(train)
    model.stem[1].eval()
    model.classifier.weight.requires_grad_(False)
    model.features.weight.grad = torch.ones_like(model.features.weight)
    layer.register_forward_hook(lambda *_: None)
    before, pointers = state(model), {parameter.data_ptr() for parameter in model.parameters()}
    copy = insert_basis(model, layer, bare_basis(name), clips())
    assert state(model) == before
    assert not pointers & {parameter.data_ptr() for parameter in copy.parameters()}
    flags = [
        [leaf.training for leaf in leaves(network) if not isinstance(leaf, ChannelMatrix)] for network in (model, copy)
    ]
    assert flags[0] == flags[1]
    assert {module.training for module in copy.modules() if isinstance(module, (nn.Sequential, ChannelMatrix))} == {
        train
    }
    assert copy.training is train
    assert [p.requires_grad for p in copy.parameters()] == [p.requires_grad for p in model.parameters()]


@pytest.mark.parametrize("name", ["attributes", "self-attention"])
def test_the_copy_is_copied_and_pickled_like_any_model(name):
    model = seeded(READERS[name][0])
    copy = insert_basis(model, model.relu, PrototypeBasis(invertible(), "time"), clips(2))
    for other in (deepcopy(copy), pickle.loads(pickle.dumps(copy))):
        torch.testing.assert_close(other(clips()), copy(clips()), rtol=0, atol=0)
    with pytest.raises(AttributeError, match="has no attribute 'unknown'"):
        copy.get_submodule(next(iter(READERS[name][1]))).unknown  # noqa: B018


def test_the_copy_is_trained_and_saved_like_any_model(tmp_path):
    """U is a buffer: it is saved with the weights, and no optimizer changes it."""
    model, layer = build("layer norm")
    copy = insert_basis(model, layer, bare_basis("layer norm"), clips())
    assert len(list(copy.parameters())) == len(list(model.parameters()))
    torch.testing.assert_close(copy.state_dict()["relu.1.matrix"], invertible(), rtol=0, atol=0)
    torch.save(copy.state_dict(), tmp_path / "copy.pt")
    other = insert_basis(model, layer, bare_basis("layer norm", U=orthogonal()), clips())
    other.load_state_dict(torch.load(tmp_path / "copy.pt", weights_only=True))
    torch.testing.assert_close(other(clips()), copy(clips()), rtol=0, atol=0)


# --- what is refused ----------------------------------------------------------


def sequential(*modules):
    return seeded(lambda: nn.Sequential(nn.Conv2d(1, 6, 3), *(module() for module in modules)))


class FunctionalReLU(PoolingHead):
    """The activation is a function, not a module, so the module tree does not show it."""

    def forward(self, clips):
        return self.classifier(torch.relu(self.features(self.stem(clips))).mean((2, 3)))


class Skip(NormHead):
    """A layer whose output is used a second time, past the head."""

    def forward(self, clips):
        features = self.relu(self.features(self.stem(clips)))
        return self.classifier(self.norm(features.mean((2, 3)))) + features.amax((1, 2, 3))[:, None]


class OwnWeights(PoolingHead):
    """The weights of the head are those of the model itself."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.rand(6, 4))

    def forward(self, clips):
        return self.relu(self.features(self.stem(clips))).mean((2, 3)) @ self.weights


class BorrowedWeights(PoolingHead):
    """The linear layer never runs: a function uses its weights."""

    def forward(self, clips):
        return self.relu(self.features(self.stem(clips))).mean((2, 3)) @ self.classifier.weight.T


class ResidualHead(PoolingHead):
    """The channels are added to what a module computes from them."""

    def __init__(self):
        super().__init__()
        self.mixed = nn.Conv2d(6, 6, 1)

    def forward(self, clips):
        features = self.relu(self.features(self.stem(clips)))
        return self.classifier((features + self.mixed(features)).mean((2, 3)))


LINEAR = partial(nn.Linear, 6, 4)
MEAN = partial(nn.AdaptiveAvgPool2d, 1)


@pytest.mark.parametrize(
    ("model", "layer", "message"),
    [
        (
            sequential(nn.ReLU, MEAN, nn.Flatten, LINEAR),
            "0",
            "expected only pooling between '0' and '4', but argument 1 of the latter does not hold",
        ),
        (
            sequential(nn.GELU, MEAN, nn.Flatten, LINEAR),
            "0",
            "does not treat all channels alike, such as an activation",
        ),
        (
            sequential(partial(nn.AdaptiveMaxPool2d, 1), nn.Flatten, LINEAR),
            "0",
            "expected only pooling between '0' and '3'",
        ),
        (
            sequential(MEAN, nn.Flatten, partial(nn.Softmax, 1), LINEAR),
            "0",
            "expected only pooling between '0' and '4'",
        ),
        (
            sequential(nn.Flatten, partial(nn.Linear, 6 * 6 * 8, 4)),
            "0",
            "expected only pooling between '0' and '2', .*flattening of the grid",
        ),
        (
            sequential(partial(nn.AdaptiveAvgPool2d, 2), nn.Flatten, partial(nn.Linear, 24, 4)),
            "0",
            "expected only pooling between '0' and '3'",
        ),
        (
            sequential(MEAN, nn.Flatten),
            "0",
            "expected a module with weights to take the channels of '0', .* but none does, and .* outputs differ by",
        ),
        (seeded(OwnWeights), "relu", "to take the channels of 'relu', .* weights of a module around the layer"),
        (seeded(BorrowedWeights), "relu", "to take the channels of 'relu', .* computed from the channels by functions"),
        (seeded(ResidualHead), "relu", "expected only pooling between 'relu' and 'classifier', .* another branch"),
        (
            FunctionalReLU().double().eval(),
            "features",
            "expected only pooling between 'features' and 'classifier', .*; take a layer after it",
        ),
        (seeded(Skip), "relu", "expected the channels of 'relu' to be used by norm alone, but .* reads them past it"),
        (seeded(PoolingHead), "features", "expected only pooling between 'features' and 'classifier'"),
    ],
    ids=[
        "relu",
        "gelu",
        "max",
        "softmax",
        "flat",
        "flat after pooling",
        "nothing after",
        "weights of the model",
        "weights in a function",
        "sum",
        "functional",
        "used twice",
        "relu in place",
    ],
)
def test_a_head_that_cannot_take_the_inverse_is_refused(model, layer, message):
    before = state(model)
    with pytest.raises(ValueError, match=message):
        insert_basis(model, model.get_submodule(layer), PrototypeBasis(invertible(), "square"), clips())
    assert state(model) == before


def test_whether_a_basis_has_a_place_does_not_depend_on_its_values():
    """U = I commutes with an activation, as no other basis of the layer does."""
    model, layer = build("pooling")
    with pytest.raises(ValueError, match="expected only pooling between 'features' and 'classifier'"):
        insert_basis(model, layer, PrototypeBasis(torch.eye(6, dtype=torch.float64), "square"), clips())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_errors_of_an_ill_conditioned_basis_are_not_said_to_be_another_reader(dtype):
    model = seeded(PoolingHead).to(dtype)
    basis = PrototypeBasis(orthogonal() @ torch.diag(torch.logspace(0, 6, 6).double()) @ orthogonal(), "square")
    with pytest.raises(ValueError, match=r"the condition number of U is 1\.0e\+06: fit an orthogonal"):
        insert_basis(model, model.relu, basis, clips(dtype=dtype))


def test_what_does_not_fit_is_refused():
    model, layer = build("layer norm")
    bare = bare_basis("layer norm")
    with pytest.raises(TypeError, match=r"expected `model` to be a torch\.nn\.Module, but got function"):
        insert_basis(lambda batch: model(batch), layer, bare, clips())
    with pytest.raises(TypeError, match=r"expected `model` to be a torch\.nn\.Module, but got method"):
        insert_basis(model.forward, layer, bare, clips())
    with pytest.raises(ValueError, match="expected `layer` to be part of the model NormHead, but this ReLU is not"):
        insert_basis(model, build("layer norm")[1], bare, clips())
    with pytest.raises(ValueError, match="expected `layer` to be a part of the model, but it is the whole model"):
        insert_basis(model, model, bare, clips())
    with pytest.raises(ValueError, match="knows the shape of the model's inputs; pass an example batch as `inputs`"):
        insert_basis(model, layer, bare)
    with pytest.raises(ValueError, match="expected the model that the basis was fitted on .*, but its weights differ"):
        insert_basis(
            model, layer, PrototypeBasis(invertible(), "square", origin=Origin(fingerprint="another")), clips()
        )
    with pytest.raises(ValueError, match="channels on axis 1, one per channel of the basis"):
        insert_basis(model, layer, PrototypeBasis(invertible(5), "square"), clips())
    model.idle = nn.ReLU()
    with pytest.raises(ValueError, match="expected the layer 'idle' to run in the forward pass, but it never did"):
        insert_basis(model, model.idle, PrototypeBasis(invertible(), "square"), clips())
