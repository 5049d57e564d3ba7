"""Modules that torch runs in another way without gradients or without training mode: encoders and recurrent layers."""

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from captum_apex import APEX, EvidenceScore, FeatureBank, LayerAPEX, PrototypeBasis
from captum_apex.layers.hooks import frozen
from captum_apex.layers.layout import Layout
from captum_apex.layers.origin import Origin

pytestmark = pytest.mark.filterwarnings("ignore:.*nested tensors", "ignore:.*oneDNN")
LENGTHS = torch.tensor([20, 7, 13])
TOKENS = Layout("n t c -> n c 1 t")


class PaddedEncoder(nn.Module):
    """A transformer over padded frames (clip, row, time)."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Linear(8, 6)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), 2)
        self.classifier = nn.Linear(6, 3)

    def forward(self, clips, lengths):
        padding = torch.arange(clips.shape[-1]) >= lengths[:, None]
        tokens = self.encoder(self.embedding(clips.transpose(1, 2)), src_key_padding_mask=padding)
        return self.classifier(tokens.masked_fill(padding[..., None], 0).sum(1) / lengths[:, None])


class Recurrent(nn.Module):
    """A convolution, a recurrent layer over its columns, and the mean over time; both convolution and layer may be
    explained."""

    def __init__(self, kind, packed=False, **settings):
        super().__init__()
        self.features = nn.Conv1d(4, 6, 1)
        self.recurrent = kind(6, 5, batch_first=True, **settings)
        self.projection = nn.LazyLinear(6)
        self.classifier = nn.Linear(6, 3)
        self.packed = packed

    def forward(self, clips):
        tokens = self.features(clips).transpose(1, 2)
        if self.packed:
            lengths = torch.full((len(tokens),), tokens.shape[1])
            tokens = nn.utils.rnn.pack_padded_sequence(tokens, lengths, batch_first=True)
        output, _ = self.recurrent(tokens)
        if self.packed:
            output = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)[0]
        return self.classifier(self.projection(output).mean(1))


class WithoutTraining(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("cudnn RNN backward can only be called in training mode")


class CuDNN(TorchFunctionMode):
    """Recurrent layers as on a GPU: without training mode, their output has no gradient. It notes `training`."""

    def __init__(self):
        self.training = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        value = func(*args, **(kwargs or {}))
        if func not in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu):
            return value
        dropout, training = args[5:7] if isinstance(args[3], bool) else args[6:8]
        assert not training or dropout == 0
        self.training.append(training)
        return value if training else (WithoutTraining.apply(value[0]), *value[1:])


def padded_clips():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, n, generator=generator, dtype=torch.float64) for n in LENGTHS]


def encoder_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PaddedEncoder().double().eval()


INSIDE = ["encoder", *(f"encoder.layers.{i}{part}" for i in (0, 1) for part in ("", ".norm1", ".linear2", ".norm2"))]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("name", INSIDE)
def test_a_bank_has_what_every_module_of_an_encoder_gives(name, batch_size):
    """Also for padded clips, which torch's fast path gives to its layers as nested tensors."""
    model, clips = encoder_model(), padded_clips()
    expected = []
    handle = model.get_submodule(name).register_forward_hook(lambda module, inputs, output: expected.append(output))
    for clip in clips:  # with gradients, so on the plain path
        model(clip[None], torch.tensor([clip.shape[1]]))
    handle.remove()
    bank = FeatureBank.from_dataset(
        model,
        model.get_submodule(name),
        clips,
        schemes=["time"],
        layout=TOKENS,
        columns=lambda n: n,
        batch_size=batch_size,
    )
    for cells, tokens, n in zip(bank.sequences("time")[0], expected, LENGTHS, strict=True):
        torch.testing.assert_close(cells[:, :n].double(), tokens[0].T.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["encoder", "encoder.layers.0"])
def test_a_padded_batch_through_an_encoder_is_explained_as_each_clip_alone(name):
    model, clips = encoder_model(), padded_clips()
    basis = PrototypeBasis(torch.eye(6), "time", origin=Origin(layout=TOKENS))
    apex = LayerAPEX(model, model.get_submodule(name), basis, columns=lambda n: n)
    batch = nn.utils.rnn.pad_sequence([clip.T for clip in clips], batch_first=True).transpose(1, 2)
    maps, deltas = apex.attribute(batch, 1, LENGTHS, n_channels=None, return_convergence_delta=True)
    for i, clip in enumerate(clips):
        alone, delta = apex.attribute(clip[None], 1, LENGTHS[i : i + 1], n_channels=None, return_convergence_delta=True)
        torch.testing.assert_close(maps[i : i + 1, ..., : LENGTHS[i]], alone, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(deltas[i : i + 1], delta, rtol=1e-9, atol=1e-12)


def recurrent_model(kind, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Recurrent(kind, **settings)
        model(torch.zeros(1, 4, 7))  # gives the projection its size
        return model.double().train()


KINDS = {
    "lstm": (nn.LSTM, {}),
    "lstm with projections": (nn.LSTM, {"proj_size": 3}),
    "gru": (nn.GRU, {"bidirectional": True}),
    "tanh": (nn.RNN, {"num_layers": 2, "dropout": 0.5}),
    "relu": (nn.RNN, {"nonlinearity": "relu", "bias": False}),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_recurrent_layer_after_the_explained_one_has_a_gradient_on_a_gpu(kind, packed):
    """cuDNN's rule is imitated; the map is that of the model in evaluation mode."""
    model = recurrent_model(KINDS[kind][0], packed=packed, **KINDS[kind][1])
    clips = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    basis = PrototypeBasis(torch.eye(6), "time", origin=Origin(layout=Layout("n c t -> n c 1 t")))
    apex = LayerAPEX(model, model.features, basis)
    with CuDNN() as gpu:
        actual = apex.attribute(clips, 1, n_channels=None)
    assert gpu.training == [True]
    model.eval()
    Z = model.features(clips).detach().requires_grad_()
    handle = model.features.register_forward_hook(lambda *_: Z)
    score = model(clips)[:, 1]
    handle.remove()
    expected = (torch.autograd.grad(score.sum(), Z)[0] * Z).sum(1)[:, None, None]
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_map_of_a_recurrent_layer_that_the_cpu_gives(kind):
    model = recurrent_model(KINDS[kind][0], **KINDS[kind][1])
    clips = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    basis = PrototypeBasis(torch.eye(6), "time", origin=Origin(layout=Layout("n c t -> n c 1 t")))
    expected = LayerAPEX(model, model.features, basis).attribute(clips, 1, n_channels=None)
    model.cuda()
    actual = LayerAPEX(model, model.features, basis).attribute(clips.cuda(), 1, n_channels=None)
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-6, atol=1e-9)


def test_a_recurrent_layer_before_the_explained_one_passes_a_projections_gradient():
    model = recurrent_model(nn.GRU).eval()
    clips = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    score = EvidenceScore(model, model.projection, TOKENS)
    weights = torch.ones(2, 6, 1, 7, dtype=torch.float64)
    with CuDNN() as gpu:
        actual = torch.autograd.grad(score(clips, weights).sum(), clips)[0]
    assert gpu.training == [True]
    projected = model.projection(model.recurrent(model.features(clips).transpose(1, 2))[0])
    torch.testing.assert_close(actual, torch.autograd.grad(projected.sum(), clips)[0], rtol=1e-9, atol=1e-12)
    with pytest.raises(RuntimeError, match="training mode"), CuDNN():
        torch.autograd.grad(model(clips).sum(), clips)  # the imitation does refuse


def test_a_recurrent_layer_without_a_gradient_runs_as_it_is():
    model = recurrent_model(nn.LSTM)
    clips = torch.zeros(2, 4, 7, dtype=torch.float64)
    with CuDNN() as gpu:
        FeatureBank.from_dataset(model, model.projection, list(clips), layout=TOKENS, schemes=["time"], places=False)
        with frozen(model, model), torch.enable_grad():
            model(clips)
    assert gpu.training == [False, False, False]  # the clips, one of them alone, and the last call


def test_an_encoder_behind_an_unknown_function_is_held_too():
    model, clips = encoder_model(), padded_clips()
    lengths = LENGTHS.clone()
    layer = model.encoder.layers[0]
    bank = FeatureBank.from_dataset(
        lambda *inputs: model(*inputs), layer, clips, schemes=["time"], layout=TOKENS, columns=lambda n: n
    )
    assert torch.equal(bank.columns, lengths)


def test_a_projection_through_an_encoder_has_the_values_of_each_clip_alone():
    from captum.attr import InputXGradient

    model, clips = encoder_model(), padded_clips()
    basis = PrototypeBasis(torch.eye(6), "time", origin=Origin(layout=TOKENS))
    apex = APEX(
        model, model.encoder.layers[0], basis, projection=InputXGradient, input_layout="n f t", columns=lambda n: n
    )
    batch = nn.utils.rnn.pad_sequence([clip.T for clip in clips], batch_first=True).transpose(1, 2)
    maps = apex.attribute(batch, 1, LENGTHS, n_channels=None)
    for i, clip in enumerate(clips):
        alone = apex.attribute(clip[None], 1, LENGTHS[i : i + 1], n_channels=None)
        torch.testing.assert_close(maps[i : i + 1, ..., : LENGTHS[i]], alone, rtol=1e-9, atol=1e-12)
