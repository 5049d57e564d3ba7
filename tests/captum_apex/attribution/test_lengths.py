"""Clips of several lengths, padded or one by one: the padding changes no result."""

import pytest
import torch
from captum.attr import IntegratedGradients, NoiseTunnel
from torch import Tensor, nn

from captum_apex import (
    APEX,
    SCHEMES,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    RegionSearch,
    Scheme,
    basis_from_matrix,
    explain,
    fit_basis,
)
from captum_apex.explanations.explanation import prototypes_of
from tests import oracles
from tests.networks import invertible

LENGTHS = [10, 7, 4, 10, 5, 6, 9, 8]


class Masked(nn.Module):
    """A network that ignores padding: columns of the layer do not overlap, and the mean is over the unpadded columns.

    The features in the padding are far from zero, so that code that does not ignore them fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 6, (2, 2), stride=2)
        self.head = nn.Linear(6, 4)

    def forward(self, clips: Tensor, lengths: Tensor | None = None) -> Tensor:
        features = self.layer(clips)
        columns = torch.full((len(clips),), features.shape[-1]) if lengths is None else columns_of(lengths)
        unpadded = torch.arange(features.shape[-1]) < columns[:, None]
        features = features.relu() * unpadded[:, None, None]
        return self.head(features.sum((2, 3)) / (features.shape[2] * columns[:, None]))


def columns_of(lengths: Tensor) -> Tensor:
    return lengths // 2


def subject() -> tuple[Masked, list[Tensor], Tensor, Tensor]:
    """A model with large features in the padding, clips, the padded batch of them, and their lengths."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Masked().double().eval()
        model.layer.bias.data = torch.linspace(5, -5, 6, dtype=torch.float64)
        clips = [torch.randn(1, 8, length, dtype=torch.float64) for length in LENGTHS]
    padded = torch.zeros(len(clips), 1, 8, max(LENGTHS), dtype=torch.float64)
    for i, clip in enumerate(clips):
        padded[i, ..., : clip.shape[-1]] = clip
    return model, clips, padded, torch.tensor(LENGTHS)


def grid_of(model: Masked, clip: Tensor) -> Tensor:
    return model.layer(clip[None])[0].detach()


def bank(**settings) -> FeatureBank:
    model, clips, _, _ = subject()
    return FeatureBank.from_dataset(model, model.layer, [(clip, i % 3) for i, clip in enumerate(clips)], **settings)


def test_the_padding_would_be_heard():
    """Makes the tests below sharp: the layer gives larger values in the padding than in most clips."""
    model, clips, padded, _ = subject()
    assert model.layer(padded)[2, 0, 0, -1] > grid_of(model, clips[2])[0].median()
    assert not torch.allclose(model(padded), model(padded, torch.tensor(LENGTHS)))


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_a_bank_of_padded_clips_is_that_of_the_clips_alone(batch_size):
    together, alone = bank(columns=columns_of, batch_size=batch_size), bank(batch_size=1)
    torch.testing.assert_close(together.means, alone.means, rtol=0, atol=1e-12)
    for sequence, cells in alone.cells.items():
        torch.testing.assert_close(together.cells[sequence], cells, rtol=0, atol=1e-12, equal_nan=True)
    assert together.columns.tolist() == alone.columns.tolist() == [length // 2 for length in LENGTHS]
    assert together.origin == alone.origin
    assert together.origin.grid == (4, 5)
    assert together.origin.input_shape is None
    assert together.labels.tolist() == alone.labels.tolist()


@pytest.mark.parametrize("max_memory", [2**32, 0])
def test_a_banks_cells_are_those_of_the_formulas(max_memory, tmp_path):
    model, clips, _, _ = subject()
    padded_bank = bank(columns=columns_of, batch_size=3, max_memory=max_memory)
    padded_bank.save(tmp_path / "bank")
    for actual in (padded_bank, FeatureBank.load(tmp_path / "bank")):
        for i, clip in enumerate(clips):
            grid = grid_of(model, clip)
            torch.testing.assert_close(actual.means[i], grid.mean((1, 2)), rtol=0, atol=1e-12)
            for sequence in (Scheme.SQUARE, Scheme.TIME, Scheme.FREQUENCY):
                expected = torch.stack(oracles.sequences(grid, sequence)[0], 1)
                cells = actual.cells[sequence][i]
                torch.testing.assert_close(cells[:, cells[0].isfinite()], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schemes", [["square"], ["time"], ["square", "time", "frequency"]])
def test_the_columns_of_a_clip_are_counted_in_whatever_cells_the_bank_has(schemes):
    assert bank(columns=columns_of, schemes=schemes).columns.tolist() == [length // 2 for length in LENGTHS]


@pytest.mark.parametrize("max_memory", [2**32, 0])
def test_a_bank_grows_with_its_clips(max_memory):
    """Short clips come first, so that the columns in memory must be extended for the later ones."""
    model, clips, _, _ = subject()
    clips.sort(key=lambda clip: clip.shape[-1])
    settings = {"columns": columns_of, "max_memory": max_memory}
    grown, at_once = (
        FeatureBank.from_dataset(model, model.layer, clips, batch_size=size, **settings) for size in (2, 8)
    )
    for sequence, cells in at_once.cells.items():
        torch.testing.assert_close(grown.cells[sequence], cells, rtol=0, atol=1e-12, equal_nan=True)
    assert grown.columns.tolist() == sorted(length // 2 for length in LENGTHS)


class Logarithm(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.abs().log()


class Silenced(Masked):
    """The layer gives minus infinity for silence, which is in the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(1, 6, (2, 2), stride=2, bias=False), Logarithm())

    def forward(self, clips: Tensor, lengths: Tensor) -> Tensor:
        features, columns = self.layer(clips), columns_of(lengths)
        unpadded = torch.arange(features.shape[-1]) < columns[:, None]
        return self.head(
            features.where(unpadded[:, None, None], 0.0).sum((2, 3)) / (features.shape[2] * columns[:, None])
        )


def test_infinity_in_the_padding_is_nobodys():
    _, clips, padded, lengths = subject()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Silenced().double().eval()
    assert model.layer(padded).isinf().any()
    padded_bank = FeatureBank.from_dataset(model, model.layer, clips, columns=columns_of)
    for i, clip in enumerate(clips):
        torch.testing.assert_close(padded_bank.means[i], grid_of(model, clip).mean((1, 2)), rtol=0, atol=1e-12)
    basis = basis_from_matrix(padded_bank, "time-frequency", invertible(), n_prototypes=4)
    maps = LayerAPEX(model, model.layer, basis, columns=columns_of).attribute(padded, 1, lengths, n_channels=None)
    logits, bias = model(padded, lengths)[:, 1], model.head.bias[1]
    torch.testing.assert_close(maps.sum((1, 2, 3)), (logits - bias).detach(), rtol=0, atol=1e-12)


def test_a_score_of_padded_clips_weighs_their_own_columns_alone():
    """Also where the padding changes the output of the model."""
    model, _, padded, lengths = subject()
    model.register_forward_pre_hook(lambda _, arguments: arguments[:1])
    apex = APEX(
        model, model.layer, basis_from_matrix(bank(columns=columns_of), "time", invertible()), columns=columns_of
    )
    weights = apex.evidence_weights(padded, 1, lengths, n_channels=None)
    unpadded = torch.arange(5) < columns_of(lengths)[:, None]
    assert torch.equal(weights.abs().sum((1, 2)) > 0, unpadded)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("side", ["positive", "negative"])
def test_prototypes_of_padded_clips_follow_the_formulas(scheme, side):
    model, clips, _, _ = subject()
    U, sign = invertible(), 1 if side == "positive" else -1
    basis = basis_from_matrix(bank(columns=columns_of), scheme, U, n_prototypes=4)
    grids = [grid_of(model, clip) for clip in clips]
    for channel in range(6):
        best = sorted(range(len(grids)), key=lambda i: -sign * oracles.activation(grids[i], U, channel))[:4]
        actual = prototypes_of(basis, channel, 4, side=sign)
        assert [prototype.index for prototype in actual] == best
        for prototype in actual:
            grid = grids[prototype.index]
            peaks, purity = oracles.peaks_and_purity(grid, U, channel, scheme, sign)
            assert prototype.purity == pytest.approx(purity, abs=1e-12)
            size = (4 * 3, grid.shape[2] * 3)
            expected = oracles.region_mask(peaks, scheme, tuple(grid.shape[1:]), size, intersection=True)
            assert torch.equal(prototype.region.mask(*size), expected)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_fitting_never_sees_padding(scheme):
    """A fit on padded clips is a fit on clips alone, and no prototype's peak is padding."""
    together = fit_basis(bank(columns=columns_of), scheme, epochs=3, n_prototypes=(6, 3))
    alone = fit_basis(bank(batch_size=1), scheme, epochs=3, n_prototypes=(6, 3))
    torch.testing.assert_close(together.U, alone.U, rtol=0, atol=1e-9)
    assert together.purity_history.isfinite().all()


def test_a_basis_with_lengths_is_kept_and_damage_is_refused(tmp_path):
    basis = basis_from_matrix(bank(columns=columns_of), "square", invertible(), n_prototypes=4)
    basis.save(tmp_path / "basis.safetensors")
    again = PrototypeBasis.load(tmp_path / "basis.safetensors")
    assert torch.equal(again.positive.columns, basis.positive.columns)
    assert again.positive.columns.tolist() == [
        [LENGTHS[i] // 2 for i in row] for row in basis.positive.indices.tolist()
    ]
    basis.positive.columns.data = basis.positive.columns[:, :2]
    with pytest.raises(ValueError, match=r"expected `positive.columns` of shape \(6, 4\), but got \(6, 2\)"):
        PrototypeBasis(basis.U, "square", basis.positive)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("n_channels", [2, None])
def test_a_padded_batch_gives_what_each_clip_gives_alone(scheme, n_channels):
    model, clips, padded, lengths = subject()
    basis = basis_from_matrix(bank(columns=columns_of), scheme, invertible(), n_prototypes=4)
    kinds = {kind: kind(model, model.layer, basis, columns=columns_of) for kind in (LayerAPEX, APEX)}
    for kind, apex in kinds.items():
        maps, deltas = apex.attribute(padded, 1, lengths, n_channels=n_channels, return_convergence_delta=True)
        for i, clip in enumerate(clips):
            alone, delta = kind(model, model.layer, basis).attribute(
                clip[None], 1, n_channels=n_channels, return_convergence_delta=True
            )
            torch.testing.assert_close(maps[i, ..., : alone.shape[-1]], alone[0], rtol=0, atol=1e-12)
            assert not maps[i, ..., alone.shape[-1] :].any()
            assert deltas[i].item() == pytest.approx(delta.item(), abs=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("search", [None, RegionSearch()], ids=["peak cells", "search"])
def test_explanations_of_a_padded_batch_are_those_of_its_clips(scheme, search):
    model, clips, padded, lengths = subject()
    basis = basis_from_matrix(bank(columns=columns_of), scheme, invertible(), n_prototypes=4)
    apex = APEX(model, model.layer, basis, columns=columns_of)
    actual = explain(apex, padded, None, lengths, sides="both", search=search)
    for clip, explanation in zip(clips, actual, strict=True):
        alone = explain(LayerAPEX(model, model.layer, basis), clip[None], sides="both", search=search)[0]
        assert explanation.target == alone.target
        assert [evidence.region for evidence in explanation.evidence] == [
            evidence.region for evidence in alone.evidence
        ]
        for in_batch, single in zip(explanation.evidence, alone.evidence, strict=True):
            assert in_batch.prototypes == single.prototypes
            assert in_batch.purity == pytest.approx(single.purity, abs=1e-12)
            assert in_batch.contribution == pytest.approx(single.contribution, abs=1e-12)
            assert in_batch.activation == pytest.approx(single.activation, abs=1e-12)


def test_the_evidence_score_of_padded_clips_is_that_of_the_clips():
    model, clips, padded, lengths = subject()
    basis = basis_from_matrix(bank(columns=columns_of), "time", invertible(), n_prototypes=4)
    maps = APEX(model, model.layer, basis, projection=IntegratedGradients, columns=columns_of).attribute(
        padded, 1, lengths
    )
    for i, clip in enumerate(clips):
        alone = APEX(model, model.layer, basis, projection=IntegratedGradients).attribute(clip[None], 1)
        torch.testing.assert_close(maps[i, ..., : clip.shape[-1]], alone[0], rtol=0, atol=1e-10)


def test_captums_tools_pass_the_lengths_on():
    model, _, padded, lengths = subject()
    apex = APEX(
        model, model.layer, basis_from_matrix(bank(columns=columns_of), "time", invertible()), columns=columns_of
    )
    smooth = NoiseTunnel(apex).attribute(padded, nt_samples=2, stdevs=0.0, target=1, additional_forward_args=lengths)
    torch.testing.assert_close(smooth, apex.attribute(padded, 1, lengths), rtol=0, atol=1e-12)


def test_what_does_not_fit_is_refused():
    model, _, padded, lengths = subject()
    basis = basis_from_matrix(bank(columns=columns_of), "time", invertible())
    with pytest.raises(ValueError, match="expected the clips' lengths as the first of `additional_forward_args`"):
        LayerAPEX(model, model.layer, basis, columns=columns_of).attribute(padded, 1)
    with pytest.raises(
        ValueError, match="expected from 1 to 5 columns of the layer for every clip, but got 10 for clip 0"
    ):
        LayerAPEX(model, model.layer, basis, columns=lambda lengths: lengths).attribute(padded, 1, lengths)
    with pytest.raises(
        ValueError, match="expected from 1 to 5 columns of the layer for every clip, but got 0 for clip 2"
    ):
        LayerAPEX(model, model.layer, basis, columns=lambda lengths: columns_of(lengths) - 2).attribute(
            padded, 1, lengths
        )
    with pytest.raises(
        ValueError,
        match=r"expected `columns` to give int64 of shape \(8,\), one number per clip, but got torch.float64",
    ):
        LayerAPEX(model, model.layer, basis, columns=lambda lengths: lengths / 2.0).attribute(
            padded.double(), 1, lengths.double()
        )
    with pytest.raises(
        ValueError, match="expected lengths from 1 to the inputs' 10 steps of time, but got 11 for clip 0"
    ):
        APEX(model, model.layer, basis, columns=columns_of).attribute(padded, 1, torch.tensor([11, *LENGTHS[1:]]))
    with pytest.raises(
        ValueError,
        match="expected a `projection` where clips are padded, .* what 'layer' gives is theirs, but got None",
    ):
        APEX(model, model.layer, basis, columns=columns_of, input_layer=model.layer)
    with pytest.raises(
        ValueError,
        match="or `batch_size=1`, which runs every clip alone, or `columns` for a model that takes padded clips",
    ):
        bank()
    with pytest.raises(TypeError, match=r"pass a `collate_fn` that returns \(inputs, labels, lengths\)"):
        bank(columns=columns_of, collate_fn=lambda items: (torch.zeros(len(items), 1, 8, 10), torch.zeros(len(items))))
