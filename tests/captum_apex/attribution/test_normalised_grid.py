"""Bases of the grid that the norm behind the pooling normalises: the formula, and what follows from it."""

import math
from dataclasses import asdict

import pytest
import torch
from captum.attr import InputXGradient
from torch import nn

from captum_apex import (
    APEX,
    SCHEMES,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    basis_from_matrix,
    explain,
    insert_basis,
)
from captum_apex.attribution.basis_insertion import ChannelMatrix, GridNorm
from captum_apex.layers import Layout, PooledNorm, explained_grid
from captum_apex.layers.origin import Origin
from tests import oracles
from tests.networks import NormHead, PoolingHead, Tokens, clips, invertible

TRAINING = clips(12, seed=5)
QUERIES = clips(4, seed=6)


class Norm2d(nn.LayerNorm):
    """LayerNorm of the channels of (clip, channel, row, column), as in timm and torchvision."""

    def forward(self, grid):
        return super().forward(grid.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvHead(NormHead):
    """Pooling that keeps axes of size 1, a norm of (clip, channel, 1, 1), and flattening."""

    def forward(self, inputs):
        features = self.relu(self.features(self.stem(inputs)))
        return self.classifier(self.norm(features.mean((2, 3), keepdim=True)).flatten(1))


def plain_norm(width):
    return nn.LayerNorm(width, elementwise_affine=False)


HEADS = {
    "layer norm": NormHead,
    "layer norm without weights": lambda: NormHead(plain_norm),
    "layer norm without bias": lambda: NormHead(lambda width: nn.LayerNorm(width, bias=False)),
    "layer norm 2d": lambda: ConvHead(Norm2d),
    "batch norm 1d": lambda: NormHead(nn.BatchNorm1d),
    "batch norm 2d": lambda: ConvHead(nn.BatchNorm2d),
    "batch norm without weights": lambda: NormHead(lambda width: nn.BatchNorm1d(width, affine=False)),
}


def seeded(make, dtype=torch.float64):
    """A network in evaluation mode, all of whose weights and statistics are random."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make().double().eval()
        for module in model.modules():
            if isinstance(module, (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)):
                for values in (module.weight, module.bias, getattr(module, "running_mean", None)):
                    if values is not None:
                        nn.init.normal_(values, 1.0, 0.5)
                if getattr(module, "running_var", None) is not None:
                    module.running_var.uniform_(0.5, 2.0)
    return model.to(dtype)


def layer_grid(model, inputs):
    taken = []
    handle = model.relu.register_forward_hook(lambda *arguments: taken.append(arguments[2].detach().clone()))
    with torch.no_grad():
        model(inputs)
    handle.remove()
    return taken[0]


def normalised(grid, norm):
    """z' = γ (z − μ) / σ + β of one clip, position by position; μ and σ of the pooled vector, or stored."""
    channels, rows, columns = grid.shape
    pooled = [
        sum(grid[c, i, j].item() for i in range(rows) for j in range(columns)) / rows / columns for c in range(channels)
    ]
    mu = [sum(pooled) / channels] * channels
    variance = [sum((p - mu[0]) ** 2 for p in pooled) / channels] * channels
    if isinstance(norm, nn.modules.batchnorm._BatchNorm):
        mu = norm.running_mean.tolist()
        variance = norm.running_var.tolist()
    out = torch.zeros_like(grid)
    for c in range(channels):
        gamma = 1.0 if norm.weight is None else norm.weight[c].item()
        beta = 0.0 if norm.bias is None else norm.bias[c].item()
        for i in range(rows):
            for j in range(columns):
                out[c, i, j] = gamma * (grid[c, i, j] - mu[c]) / math.sqrt(variance[c] + norm.eps) + beta
    return out


def bank_of(model, **settings):
    return FeatureBank.from_dataset(model, model.relu, list(TRAINING), norm=model.norm, **settings)


def basis_of(model, scheme="square"):
    return basis_from_matrix(bank_of(model), scheme, invertible(), n_prototypes=3)


# --- the formula --------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_the_bank_holds_the_normalised_grid(name):
    model = seeded(HEADS[name])
    bank = bank_of(model, batch_size=5)
    grids = [normalised(grid, model.norm) for grid in layer_grid(model, TRAINING)]
    torch.testing.assert_close(bank.means, torch.stack([grid.mean((1, 2)) for grid in grids]), rtol=0, atol=1e-12)
    for scheme in SCHEMES:
        for clip, grid in enumerate(grids):
            for cells, expected in zip(bank.sequences(scheme), oracles.sequences(grid, scheme), strict=True):
                torch.testing.assert_close(cells[clip], torch.stack(expected, 1), rtol=0, atol=1e-12)
    assert (bank.origin.layer, bank.origin.norm) == ("relu", "norm")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", HEADS)
def test_contributions_follow_the_formula_and_add_up_to_the_logit(name, scheme):
    model = seeded(HEADS[name])
    U = invertible()
    apex = LayerAPEX(model, model.relu, basis_of(model, scheme))
    decomposition = apex.decompose(QUERIES, 2)
    maps, delta = apex.attribute(QUERIES, 2, n_channels=2, return_convergence_delta=True)
    rows_of_weights = (model.classifier.weight @ torch.linalg.inv(U))[2]  # A U⁻¹
    for clip, grid in enumerate(layer_grid(model, QUERIES)):
        in_basis = oracles.in_basis(normalised(grid, model.norm), U)
        R = rows_of_weights[:, None, None] * in_basis / grid[0].numel()
        torch.testing.assert_close(decomposition.features[clip], in_basis, rtol=0, atol=1e-12)
        torch.testing.assert_close(decomposition.relevance[clip], R, rtol=0, atol=1e-12)
        chosen = oracles.evidence(R, normalised(grid, model.norm), U, 2)
        expected = oracles.laid_out(sum(R[k] for k in chosen), scheme) if chosen else torch.zeros_like(R[0])
        torch.testing.assert_close(maps[clip, 0], expected, rtol=0, atol=1e-12)
        left_out = sum(R[k].sum() for k in range(len(R)) if k not in chosen)
        torch.testing.assert_close(delta[clip], -left_out, rtol=0, atol=1e-12)
    logit = decomposition.contributions.sum(1) + model.classifier.bias[2]
    torch.testing.assert_close(logit, model(QUERIES)[:, 2], rtol=0, atol=1e-12)
    bias = apex.score_without_layer(QUERIES, 2)
    torch.testing.assert_close(bias, model.classifier.bias[2].expand(4), rtol=0, atol=1e-12)


def test_the_score_of_the_evidence_is_its_contribution():
    model = seeded(NormHead)
    apex = APEX(model, model.relu, basis_of(model))
    weights = apex.evidence_weights(QUERIES, 2, n_channels=3)
    decomposition = apex.layer_apex.decompose(QUERIES, 2)
    selected = apex.layer_apex.selected_channels(decomposition, 3)
    expected = (decomposition.contributions * selected).sum(1)
    torch.testing.assert_close(apex.evidence_score(QUERIES, weights), expected, rtol=0, atol=1e-12)


def test_the_score_of_all_channels_is_the_logit_less_its_bias_for_other_inputs_too():
    model = seeded(NormHead)
    apex = APEX(model, model.relu, basis_of(model), projection=InputXGradient)
    weights = apex.evidence_weights(QUERIES, 2, n_channels=None)
    others = clips(4, seed=9)
    logit = model(others)[:, 2] - model.classifier.bias[2]
    torch.testing.assert_close(apex.evidence_score(others, weights), logit, rtol=0, atol=1e-12)
    through_score = apex.attribute(QUERIES, 2, n_channels=None)
    torch.testing.assert_close(through_score, InputXGradient(model).attribute(QUERIES.clone().requires_grad_(), 2))


def test_explanations_and_several_classes():
    model = seeded(NormHead)
    apex = APEX(model, model.relu, basis_of(model, "time"))
    contributions = apex.layer_apex.decompose(QUERIES, 1).contributions
    for clip, explanation in enumerate(explain(apex, QUERIES, 1, n_prototypes=3)):
        assert explanation.completeness == pytest.approx(0, abs=1e-12)
        assert explanation.score_without_layer == pytest.approx(model.classifier.bias[1].item(), abs=1e-12)
        for evidence in explanation.evidence:
            assert evidence.contribution == pytest.approx(contributions[clip, evidence.channel].item(), abs=1e-12)
    each = apex.layer_apex.decompose_each(QUERIES, lambda output: range(output.shape[1]))
    for target, decomposition in enumerate(each):
        logit = decomposition.contributions.sum(1) + model.classifier.bias[target]
        torch.testing.assert_close(logit, model(QUERIES)[:, target], rtol=0, atol=1e-12)


def test_tokens_with_a_norm_behind_their_mean():
    class Normed(Tokens):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(6)

        def forward(self, inputs):
            tokens = self.encoder(self.embedding(inputs[:, 0].transpose(1, 2)))
            return self.classifier(self.norm(tokens.mean(1)))

    model = seeded(Normed)
    layout = "n t c -> n c 1 t"
    bank = FeatureBank.from_dataset(model, model.encoder, list(TRAINING), norm=model.norm, layout=layout)
    apex = LayerAPEX(model, model.encoder, basis_from_matrix(bank, "time", invertible()))
    logit = apex.decompose(QUERIES, 1).contributions.sum(1) + model.classifier.bias[1]
    torch.testing.assert_close(logit, model(QUERIES)[:, 1], rtol=0, atol=1e-12)


# --- other circumstances ------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype):
    exact = seeded(NormHead)
    model = seeded(NormHead, dtype)
    bank = FeatureBank.from_dataset(model, model.relu, list(TRAINING.to(dtype)), norm=model.norm)
    basis = basis_from_matrix(bank, "time", invertible(dtype=torch.float32))
    contributions = LayerAPEX(model, model.relu, basis).decompose(QUERIES.to(dtype), 1).contributions
    expected = LayerAPEX(exact, exact.relu, basis_of(exact, "time")).decompose(QUERIES, 1).contributions
    assert (bank.means.dtype, contributions.dtype) == (torch.float32, torch.float32)
    scale = expected.abs().max().item()
    torch.testing.assert_close(contributions.double(), expected, rtol=0, atol=30 * torch.finfo(dtype).eps * scale)


class Masked(NormHead):
    """Ignores the columns after those of each clip, which hold large values."""

    def forward(self, inputs, lengths=None):
        features = self.relu(self.features(self.stem(inputs)))
        columns = torch.full((len(inputs),), features.shape[3]) if lengths is None else lengths // 2
        unpadded = (torch.arange(features.shape[3]) < columns[:, None])[:, None, None]
        pooled = (features * unpadded).sum((2, 3)) / (features.shape[2] * columns[:, None])
        return self.classifier(self.norm(pooled))


def test_padded_clips():
    model = seeded(Masked)
    # Without an overlap of columns, a padded clip has the features of the clip alone.
    model.stem[0] = nn.Conv2d(1, 5, (3, 1), padding=(1, 0)).double()
    model.features = nn.Conv2d(5, 6, (3, 1), padding=(1, 0)).double()
    lengths = [10, 6, 4, 8] * 3
    alone = [clip[..., :length] for clip, length in zip(TRAINING, lengths, strict=True)]
    settings = {"norm": model.norm, "schemes": SCHEMES}
    one_by_one = FeatureBank.from_dataset(model, model.relu, alone, batch_size=1, **settings)
    padded = FeatureBank.from_dataset(
        model, model.relu, alone, batch_size=4, columns=lambda lengths: lengths // 2, **settings
    )
    torch.testing.assert_close(padded.means, one_by_one.means, rtol=0, atol=1e-12)
    for name, cells in one_by_one.cells.items():
        torch.testing.assert_close(padded.cells[name], cells, rtol=0, atol=1e-12, equal_nan=True)
    basis = basis_from_matrix(padded, "time", invertible(), n_prototypes=2)
    apex = APEX(model, model.relu, basis, columns=lambda lengths: lengths // 2, projection=InputXGradient)
    batch = torch.zeros(4, 1, 8, 10, dtype=torch.float64)
    for i, clip in enumerate(alone[:4]):
        batch[i, ..., : clip.shape[-1]] = clip
    given = torch.tensor(lengths[:4])
    decomposition = apex.layer_apex.decompose(batch, 1, given)
    for i, clip in enumerate(alone[:4]):
        expected = LayerAPEX(model, model.relu, basis).decompose(clip[None], 1).relevance[0]
        n_columns = lengths[i] // 2
        torch.testing.assert_close(decomposition.relevance[i, ..., :n_columns], expected, rtol=0, atol=1e-12)
        assert not decomposition.relevance[i, ..., n_columns:].any()
    weights = apex.evidence_weights(batch, 1, given, n_channels=None)
    score = apex.evidence_score(batch, weights, given)
    torch.testing.assert_close(score, model(batch, given)[:, 1] - model.classifier.bias[1], rtol=0, atol=1e-12)
    maps = apex.attribute(batch, 1, given, n_channels=None)
    torch.testing.assert_close(
        maps, InputXGradient(model).attribute(batch.clone().requires_grad_(), 1, additional_forward_args=given)
    )


def test_the_norm_is_known_by_its_name_in_a_wrapped_model():
    model = seeded(NormHead)
    wrapped = nn.Sequential(model)
    basis = basis_of(model)
    expected = LayerAPEX(model, model.relu, basis).decompose(QUERIES, 1).contributions
    inside = LayerAPEX(wrapped, model.relu, basis)
    assert inside.norm.name == "0.norm"
    assert torch.equal(inside.decompose(QUERIES, 1).contributions, expected)
    bank = FeatureBank.from_dataset(wrapped, model.relu, list(TRAINING), norm=model.norm)
    outside = LayerAPEX(model, model.relu, basis_from_matrix(bank, "square", invertible(), n_prototypes=3))
    assert (bank.origin.norm, outside.norm.name) == ("0.norm", "norm")
    assert torch.equal(outside.decompose(QUERIES, 1).contributions, expected)
    with pytest.raises(ValueError, match=r"expected a model with the norm 'norm'.* found none in function"):
        LayerAPEX(lambda inputs: model(inputs), model.relu, basis)


def test_files_keep_the_name_of_the_norm_and_older_files_have_none(tmp_path):
    model = seeded(NormHead)
    bank = bank_of(model)
    bank.save(tmp_path / "bank")
    assert FeatureBank.load(tmp_path / "bank").origin == bank.origin
    basis_of(model).save(tmp_path / "basis.safetensors")
    assert PrototypeBasis.load(tmp_path / "basis.safetensors").origin.norm == "norm"
    without = {name: value for name, value in asdict(Origin("relu")).items() if name != "norm"}
    assert Origin.from_dict(without) == Origin("relu")


# --- the basis inside the model -----------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_the_copy_with_the_basis_inside_has_the_same_logits(name, dtype):
    model = seeded(HEADS[name])
    basis = basis_of(model)
    model = model.to(dtype)
    copy = insert_basis(model, model.relu, basis)
    with torch.no_grad():
        expected = model(QUERIES.to(dtype))
        difference = (copy(QUERIES.to(dtype)) - expected).abs().max()
        assert difference <= 50 * torch.finfo(dtype).eps * expected.abs().max()
    assert [type(module) for module in copy.relu] == [nn.ReLU, GridNorm, ChannelMatrix]
    assert isinstance(copy.norm, nn.Identity)
    weight = (model.classifier.weight.double() @ torch.linalg.inv(basis.U)).to(dtype)
    torch.testing.assert_close(copy.classifier.weight, nn.Parameter(weight))
    expected = torch.stack(
        [oracles.in_basis(normalised(g.double(), model.norm), basis.U) for g in layer_grid(model, QUERIES.to(dtype))]
    )
    grid = layer_grid_of_copy(copy, QUERIES.to(dtype))
    torch.testing.assert_close(grid.double(), expected, rtol=0, atol=100 * torch.finfo(dtype).eps)


def layer_grid_of_copy(copy, inputs):
    with torch.no_grad():
        return copy.relu(copy.features(copy.stem(inputs)))


def test_the_copy_keeps_training_flags_and_trains_the_norm():
    model = seeded(NormHead)
    basis = basis_of(model)
    model.train()
    model.norm.eval()
    copy = insert_basis(model, model.relu, basis)
    assert (copy.training, copy.relu.training, copy.relu[1].training, copy.norm.training) == (True, True, True, False)
    assert not copy.relu[1].norm.training
    copy.eval()(QUERIES).sum().backward()
    assert copy.relu[1].norm.weight.grad.abs().min() > 0
    assert model.norm.weight.grad is None


# --- heads of another kind ----------------------------------------------------


class MaxPooling(NormHead):
    def forward(self, inputs):
        return self.classifier(self.norm(self.relu(self.features(self.stem(inputs))).amax((2, 3))))


class NormBeforePooling(NormHead):
    def forward(self, inputs):
        features = self.relu(self.features(self.stem(inputs)))
        return self.classifier(self.norm(features.permute(0, 2, 3, 1)).mean((1, 2)))


class Bypass(NormHead):
    def forward(self, inputs):
        features = self.relu(self.features(self.stem(inputs)))
        pooled = features.mean((2, 3))
        return self.classifier(self.norm(pooled) + pooled)


class NonLinear(NormHead):
    def forward(self, inputs):
        features = self.relu(self.features(self.stem(inputs)))
        return self.classifier(self.norm(features.mean((2, 3))).tanh())


@pytest.mark.parametrize("make", [MaxPooling, NormBeforePooling])
def test_heads_that_do_not_pool_by_the_mean_are_refused(make):
    model = seeded(make)
    with pytest.raises(ValueError, match="expected 'norm' to normalise the mean of 'relu' over its grid"):
        bank_of(model)
    basis = PrototypeBasis(invertible(), "time", origin=Origin("relu", norm="norm"))
    with pytest.raises(ValueError, match="expected 'norm' to normalise the mean of 'relu' over its grid"):
        LayerAPEX(model, model.relu, basis).attribute(QUERIES, 1)


def test_an_activation_between_the_layer_and_the_pooling_is_refused():
    model = seeded(NormHead)
    with pytest.raises(ValueError, match="expected 'norm' to normalise the mean of 'features' over its grid"):
        FeatureBank.from_dataset(model, model.features, list(TRAINING), norm=model.norm)


def test_another_path_to_the_output_is_refused():
    model = seeded(Bypass)
    with pytest.raises(ValueError, match="expected the layer 'relu' to reach the output only through 'norm'"):
        LayerAPEX(model, model.relu, basis_of(model)).attribute(QUERIES, 1)


def test_a_head_that_is_not_linear_behind_the_norm_shows_in_the_delta_and_takes_no_basis():
    model = seeded(NonLinear)
    apex = LayerAPEX(model, model.relu, basis_of(model))
    _, delta = apex.attribute(QUERIES, 1, n_channels=None, return_convergence_delta=True)
    assert delta.abs().min() > 1e-3
    with pytest.raises(ValueError, match="expected only pooling between"):
        insert_basis(model, model.relu, basis_of(model), QUERIES)


@pytest.mark.parametrize(
    "norm",
    [nn.GroupNorm(2, 6), nn.LayerNorm((6, 1)), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 6)],
    ids=lambda norm: type(norm).__name__,
)
def test_other_modules_are_refused(norm):
    model = seeded(lambda: NormHead(lambda _: norm))
    with pytest.raises(
        ValueError, match=r"expected the norm 'norm' to be an nn.LayerNorm over the channels, or a batch"
    ):
        bank_of(model)


def test_a_norm_of_another_model_or_width_is_refused():
    model = seeded(NormHead)
    with pytest.raises(ValueError, match="expected `layer` to be part of the model NormHead"):
        FeatureBank.from_dataset(model, model.relu, list(TRAINING), norm=nn.LayerNorm(6))
    with pytest.raises(ValueError, match="expected `model` to be a module where `norm` is given, but got function"):
        FeatureBank.from_dataset(lambda inputs: model(inputs), model.relu, list(TRAINING), norm=model.norm)
    with pytest.raises(ValueError, match="expected a grid of 3 channels, as the norm 'n' has, but got 6"):
        PooledNorm(nn.LayerNorm(3), "n").on_grid(torch.zeros(1, 6, 2, 2))
    with pytest.raises(ValueError, match="expected a model with the norm 'norm'"):
        plain = seeded(PoolingHead)
        LayerAPEX(plain, plain.relu, PrototypeBasis(invertible(), "time", origin=Origin("relu", norm="norm")))


def test_a_grid_without_a_norm_is_that_of_the_layout():
    output = torch.arange(6.0).half().view(1, 3, 2)
    layout = Layout("n t c -> n c 1 t")
    assert torch.equal(explained_grid(output, layout), layout.grid(output))
