"""Recurrent layers as the explained layer: the output of (output, state), and packed sequences, against autograd."""

import pytest
import torch
from captum.attr import InputXGradient
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from captum_apex import (
    APEX,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    basis_from_matrix,
    explain,
    insert_basis,
    suggest_layers,
)
from captum_apex.layers import Layout, Origin, watched
from captum_apex.layers.layer_output import with_tensor
from tests.networks import invertible

EXACT = {"rtol": 1e-9, "atol": 1e-12}
LENGTHS = torch.tensor([7, 12, 9])
CLIPS = torch.randn(3, 4, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
KINDS = {
    "lstm": (nn.LSTM, 6, {}),
    "lstm with projections": (nn.LSTM, 9, {"proj_size": 6}),
    "gru in both directions": (nn.GRU, 3, {"bidirectional": True}),
    "rnn of two layers": (nn.RNN, 6, {"num_layers": 2, "dropout": 0.5}),
}


class Tagger(nn.Module):
    """A convolution, a recurrent layer, a second one where the head is not affine, the mean over frames, a linear."""

    def __init__(self, kind="lstm", batch_first=True, packed=False, second=False):
        super().__init__()
        make, width, settings = KINDS[kind]
        self.batch_first = batch_first
        self.packed = packed
        self.features = nn.Conv1d(4, 5, 3, padding=1)
        self.recurrent = make(5, width, batch_first=batch_first, **settings)
        self.second = nn.GRU(6, 6, batch_first=batch_first) if second else None
        self.classifier = nn.Linear(6, 3)

    @property
    def layout(self):
        return "n t c -> n c 1 t" if self.batch_first else "t n c -> n c 1 t"

    def forward(self, clips, lengths=None):
        clips_first = self.features(clips).transpose(1, 2)  # (clip, time, channel)
        frames = clips_first if self.batch_first else clips_first.transpose(0, 1)
        if self.packed:
            n_frames = torch.full((len(clips),), clips.shape[2]) if lengths is None else lengths
            frames = pack_padded_sequence(frames, n_frames.cpu(), self.batch_first, enforce_sorted=False)
        frames, _ = self.recurrent(frames)
        return self.head(frames, lengths)

    def head(self, frames, lengths=None):
        """From what the recurrent layer gives first, padded or packed, to the scores."""
        if self.second is not None:
            frames, _ = self.second(frames)
        if self.packed:
            frames, n_frames = pad_packed_sequence(frames, self.batch_first)
        else:
            n_frames = frames.shape[1 if self.batch_first else 0]
        total = frames.sum(1 if self.batch_first else 0)
        return self.classifier(total / torch.as_tensor(n_frames).to(total).reshape(-1, 1))


def tagger(**settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tagger(**settings).double().eval()


def basis_of(model, scheme="time"):
    return PrototypeBasis(invertible(), scheme, origin=Origin(layout=Layout(model.layout)))


def by_hand(model, clips, target):
    """The output of the recurrent layer and gradient × output there, both (clip, time, channel)."""
    frames = model.features(clips).transpose(1, 2)
    output, _ = model.recurrent(frames if model.batch_first else frames.transpose(0, 1))
    leaf = output.detach().requires_grad_()
    packed = leaf
    if model.packed:
        packed = pack_padded_sequence(leaf, torch.full((len(clips),), clips.shape[2]), model.batch_first)
    gradient = torch.autograd.grad(model.head(packed)[:, target].sum(), leaf)[0]
    both = output.detach(), gradient * output.detach()
    return both if model.batch_first else tuple(each.transpose(0, 1) for each in both)


CASES = pytest.mark.parametrize("batch_first", [True, False])
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
PACKED = pytest.mark.parametrize("packed", [False, True])


@CASES
@EVERY_KIND
@PACKED
def test_contributions_at_a_recurrent_layer_add_up_to_the_affine_head(kind, batch_first, packed):
    model = tagger(kind=kind, batch_first=batch_first, packed=packed)
    apex = LayerAPEX(model, model.recurrent, basis_of(model))
    maps, deltas = apex.attribute(CLIPS, 1, n_channels=None, return_convergence_delta=True)
    output, _ = by_hand(model, CLIPS, 1)
    expected = output @ model.classifier.weight[1].detach() / 12  # (clip, time)
    torch.testing.assert_close(maps[:, 0, 0], expected, **EXACT)
    torch.testing.assert_close(deltas, torch.zeros(3, dtype=torch.float64), **EXACT)
    score = model(CLIPS)[:, 1].detach()
    torch.testing.assert_close(maps.sum((1, 2, 3)) + model.classifier.bias[1].detach(), score, **EXACT)


@CASES
@EVERY_KIND
@PACKED
def test_a_recurrent_layer_before_another_one_has_gradient_times_output(kind, batch_first, packed):
    model = tagger(kind=kind, batch_first=batch_first, packed=packed, second=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()  # with dropout between two layers
    maps = LayerAPEX(model, model.recurrent, basis_of(model)).attribute(CLIPS, 1, n_channels=None)
    assert model.training
    assert not model.recurrent._forward_hooks
    model.eval()
    _, expected = by_hand(model, CLIPS, 1)
    torch.testing.assert_close(maps[:, 0, 0], expected.sum(2), **EXACT)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@CASES
@EVERY_KIND
def test_packed_clips_are_explained_as_each_clip_alone(kind, batch_first):
    model = tagger(kind=kind, batch_first=batch_first, packed=True, second=True)
    model.features = nn.Conv1d(4, 5, 1).double()  # so that the padding of the inputs does not matter
    apex = LayerAPEX(model, model.recurrent, basis_of(model), columns=lambda lengths: lengths)
    arguments = {"target": 1, "n_channels": None, "return_convergence_delta": True}
    maps, deltas = apex.attribute(CLIPS, additional_forward_args=LENGTHS, **arguments)
    channels = apex.decompose(CLIPS, 1, LENGTHS).contributions
    for i, n in enumerate(LENGTHS.tolist()):
        alone = CLIPS[i : i + 1, :, :n]
        lengths = LENGTHS[i : i + 1]
        expected, delta = apex.attribute(alone, additional_forward_args=lengths, **arguments)
        torch.testing.assert_close(maps[i : i + 1, ..., :n], expected, **EXACT)
        torch.testing.assert_close(deltas[i : i + 1], delta, **EXACT)
        torch.testing.assert_close(channels[i : i + 1], apex.decompose(alone, 1, lengths).contributions, **EXACT)
        assert not maps[i, ..., n:].any()


@CASES
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_bank_of_packed_clips_has_what_the_layer_gives_for_each(batch_first, batch_size):
    model = tagger(batch_first=batch_first, packed=True).float()
    clips = [clip[:, :n].float() for clip, n in zip(CLIPS, LENGTHS.tolist(), strict=True)]
    bank = FeatureBank.from_dataset(
        model,
        model.recurrent,
        clips,
        schemes=["time"],
        layout=model.layout,
        columns=lambda lengths: lengths,
        batch_size=batch_size,
    )
    assert torch.equal(bank.columns, LENGTHS)
    for cells, clip, n in zip(bank.sequences("time")[0], CLIPS.float(), LENGTHS.tolist(), strict=True):
        inputs = model.features(nn.functional.pad(clip[None, :, :n], (0, 12 - n if batch_size == 3 else 0)))
        output, _ = model.recurrent(inputs.transpose(1, 2) if batch_first else inputs.permute(2, 0, 1))
        expected = output[0].T if batch_first else output[:, 0].T
        torch.testing.assert_close(cells[:, : n - 1], expected[:, : n - 1].detach(), rtol=1e-5, atol=1e-6)


@PACKED
def test_the_input_of_a_recurrent_layer_can_be_explained(packed):
    model = tagger(packed=packed)
    basis = PrototypeBasis(invertible(5), "time", origin=Origin(layout=Layout(model.layout)))
    maps = LayerAPEX(model, model.recurrent, basis).attribute(CLIPS, 1, None, True, n_channels=None)
    frames = model.features(CLIPS).transpose(1, 2).detach().requires_grad_()
    score = model.classifier(model.recurrent(frames)[0].mean(1))[:, 1]
    expected = torch.autograd.grad(score.sum(), frames)[0] * frames
    torch.testing.assert_close(maps[:, 0, 0], expected.sum(2).detach(), **EXACT)


@CASES
@PACKED
def test_a_recurrent_layer_is_proposed_with_its_layout_and_explained(batch_first, packed):
    model = tagger(batch_first=batch_first, packed=packed).float()
    clips = torch.randn(20, 4, 12, generator=torch.Generator().manual_seed(2))
    layer = suggest_layers(model, clips, input_layout="n c t")[0]
    assert (layer.name, layer.layout, layer.channels, layer.grid) == ("recurrent", model.layout, 6, (1, 12))
    assert "the first tensor of its tuple" in layer.reason
    bank = FeatureBank.from_dataset(model, layer.module, list(clips), layout=layer.layout)
    basis = basis_from_matrix(bank, "time", invertible().float(), n_prototypes=3)
    apex = APEX(model, layer.module, basis, input_layout="n c t")
    for explanation in explain(apex, clips[:3], n_prototypes=2, dataset=list(clips)):
        assert abs(explanation.completeness) < 1e-5
        assert all(evidence.effect is not None for evidence in explanation.evidence)


@PACKED
def test_a_projection_passes_through_a_recurrent_layer(packed):
    model = tagger(packed=packed)
    apex = APEX(model, model.recurrent, basis_of(model), projection=InputXGradient, input_layout="n c t")
    actual = apex.attribute(CLIPS, 1, n_channels=None)
    clips = CLIPS.clone().requires_grad_()
    score = model.recurrent(model.features(clips).transpose(1, 2))[0].mean(1) @ model.classifier.weight[1]
    expected = torch.autograd.grad(score.sum(), clips)[0] * CLIPS
    torch.testing.assert_close(actual, expected.detach(), **EXACT)


class LastState(Tagger):
    """Reads the state of the recurrent layer after the last frame, as speaker encoders do, or of all of its layers."""

    def __init__(self, kind, packed=False, inner=False):
        super().__init__(kind, packed=packed)
        self.inner = inner

    def forward(self, clips):
        frames = self.features(clips).transpose(1, 2)
        if self.packed:
            frames = pack_padded_sequence(frames, LENGTHS, batch_first=True, enforce_sorted=False)
        _, state = self.recurrent(frames)
        state = state[0] if isinstance(state, tuple) else state  # (layer and direction, clip, channel)
        if self.inner:
            return self.classifier(state[0])
        n_last = 2 if self.recurrent.bidirectional else 1
        return self.classifier(state[-n_last:].transpose(0, 1).flatten(1))


def last_state(*arguments, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LastState(*arguments, **settings).double().eval()


@PACKED
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_state_is_the_output_at_the_last_frame(kind, packed):
    """Contributions are those of the output at the ends of each clip, and add up to the score but for its bias."""
    model = last_state(kind, packed=packed)
    width = model.classifier.in_features
    basis = PrototypeBasis(invertible(width), "time", origin=Origin(layout=Layout("n t c -> n c 1 t")))
    apex = LayerAPEX(model, model.recurrent, basis)
    maps, deltas = apex.attribute(CLIPS, 1, n_channels=None, return_convergence_delta=True)
    scores = model(CLIPS)[:, 1]
    torch.testing.assert_close(maps.sum((1, 2, 3)), (scores - model.classifier.bias[1]).detach(), **EXACT)
    assert deltas.abs().max() < 1e-9
    ends = LENGTHS - 1 if packed else torch.full((3,), 11)
    heard = {0, *ends.tolist()} if model.recurrent.bidirectional else set(ends.tolist())
    assert set(maps.abs().sum((0, 1, 2)).nonzero()[:, 0].tolist()) == heard


def test_a_model_that_reads_a_state_inside_a_recurrent_layer_says_so():
    model = last_state("rnn of two layers", inner=True)
    with pytest.warns(UserWarning, match=r"'recurrent' are 0: .* on a state inside it, .* explain the module before"):
        assert not LayerAPEX(model, model.recurrent, basis_of(model)).attribute(CLIPS, 1).any()
    basis = PrototypeBasis(invertible(5), "time", origin=Origin(layout=Layout("n c t -> n c 1 t")))
    maps = LayerAPEX(model, model.features, basis).attribute(CLIPS, 1, n_channels=None)
    leaf = model.features(CLIPS).detach().requires_grad_()
    score = model.classifier(model.recurrent(leaf.transpose(1, 2))[1][0])[:, 1]
    expected = torch.autograd.grad(score.sum(), leaf)[0] * leaf
    torch.testing.assert_close(maps[:, 0, 0], expected.sum(1).detach(), **EXACT)
    assert suggest_layers(model, CLIPS, input_layout="n c t")[0].name == "features"


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_state_of_a_clip_without_a_clip_axis_is_its_output_at_the_last_frame(batch_first):
    layer = nn.GRU(4, 3, batch_first=batch_first, bidirectional=True).double()
    output, state = layer(CLIPS[0].T)
    replaced, other = with_tensor((output, state), layer, 2 * output)
    assert torch.equal(replaced, 2 * output)
    assert torch.equal(other, 2 * state)


@pytest.mark.parametrize("enforce_sorted", [False, True])
@CASES
def test_a_packed_sequence_keeps_its_order_where_its_values_are_changed(enforce_sorted, batch_first):
    layer = nn.Identity()
    layer.batch_first = batch_first
    frames = CLIPS.transpose(1, 2) if batch_first else CLIPS.permute(2, 0, 1)
    lengths = LENGTHS.sort(descending=True).values if enforce_sorted else LENGTHS
    packed = pack_padded_sequence(frames, lengths, batch_first, enforce_sorted)
    with watched(layer, "layer", lambda values: 2 * values):
        doubled = layer(packed)
    assert torch.equal(doubled.data, 2 * packed.data)
    assert torch.equal(doubled.batch_sizes, packed.batch_sizes)
    assert (doubled.sorted_indices is None) == enforce_sorted
    expected, n_frames = pad_packed_sequence(packed, batch_first)
    actual, same = pad_packed_sequence(doubled, batch_first)
    assert torch.equal(actual, 2 * expected)
    assert torch.equal(same, n_frames)


def test_a_basis_cannot_be_put_into_a_model_behind_a_tuple():
    model = tagger()
    with pytest.raises(ValueError, match="expected 'recurrent' to give one tensor with 6 channels on axis 2"):
        insert_basis(model, model.recurrent, basis_of(model), CLIPS)
