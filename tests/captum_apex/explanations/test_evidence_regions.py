"""Regions of evidence for every kind of head, layer and input; what the search leaves unchanged and what it costs."""

import math

import pytest
import torch
from torch import nn

from captum_apex import (
    APEX,
    SCHEMES,
    FeatureBank,
    LayerAPEX,
    Region,
    RegionSearch,
    basis_from_matrix,
    explain,
    explain_classes,
    locate_prototypes,
)
from tests.captum_apex.attribution.test_inner_spectrograms import inner, listener, sounds
from tests.networks import build, clips, invertible
from tests.planted import Detector, attribution, bins_of, planted

SIZE = (8, 40)
WEAK, STRONG = (0, 8, 6, 10), (0, 8, 28, 32)
TWO_BURSTS = planted(SIZE, WEAK) + planted(SIZE, STRONG, loud=9.0)


def subject(scheme="time", name="pooling after relu", dtype=torch.float64):
    model, layer = build(name, dtype=dtype)
    bank = FeatureBank.from_dataset(
        model, layer, [(clip, i % 3) for i, clip in enumerate(clips(9, seed=5, dtype=dtype))]
    )
    return model, layer, basis_from_matrix(bank, scheme, invertible(dtype=bank.means.dtype), n_prototypes=3)


def assert_same_evidence(actual, expected, tolerance=1e-9):
    assert [evidence.channel for evidence in actual] == [evidence.channel for evidence in expected]
    for one, other in zip(actual, expected, strict=True):
        assert one.region == other.region
        assert one.effect.channel == pytest.approx(other.effect.channel, abs=tolerance)
        assert one.effect.random == pytest.approx(other.effect.random, abs=tolerance)
        assert one.effect.score == pytest.approx(other.effect.score, abs=tolerance)
        torch.testing.assert_close(one.map, other.map, rtol=0, atol=max(tolerance, 1e-6))


# --- heads --------------------------------------------------------------------


class WeightedHead(Detector):
    """A mean over time with fixed weights, as attention gives them."""

    def __init__(self, weights):
        super().__init__((1, 1))
        self.weights = weights

    def forward(self, clips):
        return self.head((self.layer(clips).mean(2) * self.weights).sum(2))


class MaximumHead(Detector):
    def forward(self, clips):
        return self.head(self.layer(clips).amax((2, 3)))


def at_columns(first, end):
    return torch.zeros(SIZE[1]).index_fill(0, torch.arange(first, end), 1 / (end - first))


def explained(model, clip=TWO_BURSTS, scheme="time", **settings):
    return explain(attribution(model, [clip[0]], scheme), clip, 0, n_prototypes=1, **settings)[0].evidence[0]


def test_the_region_lies_where_the_channel_counts_and_the_cell_where_it_is_strongest():
    """The head looks at the weak burst only."""
    for weights in (
        at_columns(4, 12),
        (torch.arange(40.0) == 7).float(),
        (-(torch.arange(40.0) - 7.5).abs()).softmax(0),
    ):
        evidence = explained(WeightedHead(weights))
        ((_, _, start, end),) = bins_of(evidence, SIZE)
        assert 6 <= start < end <= 10
        (cell,) = evidence.cell.boxes
        assert 28 <= cell.start * 40 < 32
        assert evidence.effect.channel > 0.6
        assert evidence.effect.score == pytest.approx(evidence.effect.channel * evidence.contribution, rel=1e-5)
        assert evidence.effect.fires_elsewhere
        assert evidence.elsewhere == evidence.cell
        assert str(evidence.effect).endswith(", fires more strongly elsewhere")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("cross", [False, True])
def test_a_channel_that_is_strongest_where_it_counts_does_not_fire_elsewhere(scheme, cross):
    """The mean counts both bursts, most the strong one; with even weights on it, it is the only one that counts."""
    for weights in (at_columns(0, 40), at_columns(26, 34)):
        evidence = explained(WeightedHead(weights), scheme=scheme, search=RegionSearch(cross=cross))
        assert not evidence.effect.fires_elsewhere
        assert evidence.elsewhere == Region(())
        assert "elsewhere" not in str(evidence.effect)


def test_a_peak_that_counts_half_as_much_as_the_decisive_place_counts_as_well():
    """Levels of 6 and 9: with weights of 1 and w the strong burst counts 1.5 w times as much as the weak one."""
    for weight, elsewhere in ((0.4, False), (0.25, True)):
        weights = at_columns(6, 10) + weight * at_columns(28, 32)
        evidence = explained(WeightedHead(weights), search=RegionSearch(smallest=0.1))
        ((_, _, start, end),) = bins_of(evidence, SIZE)  # of the weak burst
        assert 6 <= start < end <= 10
        assert evidence.effect.fires_elsewhere is elsewhere


def test_the_strip_of_a_cross_that_fires_elsewhere_is_compared_with_the_strip():
    """Two crosses always meet, the strip of one with the band of the other."""
    evidence = explained(WeightedHead(at_columns(4, 12)), scheme="time-frequency", search=RegionSearch(cross=True))
    assert evidence.effect.fires_elsewhere


def test_the_text_of_an_explanation_says_which_channel_fires_elsewhere():
    texts = [
        repr(explain(attribution(model, [TWO_BURSTS[0]], "time"), TWO_BURSTS, 0, n_prototypes=1)[0])
        for model in (WeightedHead(at_columns(4, 12)), WeightedHead(at_columns(0, 40)))
    ]
    assert ["prototype, fires more strongly elsewhere\n" in text for text in texts] == [True, False]


def test_without_a_search_nothing_is_said_of_the_region():
    evidence = explained(WeightedHead(at_columns(4, 12)), search=None)
    assert (evidence.effect, evidence.elsewhere) == (None, Region(()))


def test_the_region_of_a_single_frame_is_the_frame():
    assert bins_of(explained(WeightedHead((torch.arange(40.0) == 7).float())), SIZE) == [(0, 8, 7, 8)]


def test_the_region_for_a_maximum_is_the_loudest_place():
    clip = planted(SIZE, (2, 6, 4, 12)) + planted(SIZE, (3, 4, 30, 31), loud=9.0)
    evidence = explained(MaximumHead(), clip, "square")
    assert bins_of(evidence, SIZE) == [(3, 4, 30, 31)]
    assert evidence.effect.score < evidence.contribution  # the other sound is the maximum then


# --- layers and inputs --------------------------------------------------------


class Frames(nn.Module):
    """A layer over frames (clip, time, channel): the mean level of the lower and of the upper rows."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(8, 2, bias=False), nn.ReLU())
        self.layer[0].weight.data = torch.tensor([[0.25] * 4 + [0.0] * 4, [0.0] * 4 + [0.25] * 4])
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.eye(2)

    def forward(self, clips):
        return self.head(self.layer(clips[:, 0].transpose(1, 2)).mean(1))


class Patches(Frames):
    """A layer of tokens (clip, patch, channel), each for 2 × 4 bins."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(8, 1), nn.ReLU())
        self.layer[0].weight.data.fill_(1 / 8)
        self.layer[0].bias.data.fill_(-1.0)
        self.head = nn.Linear(1, 1, bias=False)
        self.head.weight.data.fill_(1.0)

    def forward(self, clips):
        patches = clips.unfold(2, 2, 2).unfold(3, 4, 4)  # (clip, 1, 4, 10, 2, 4)
        return self.head(self.layer(patches.flatten(4).flatten(1, 3)).mean(1))


def with_layout(model, clip, scheme, layout):
    bank = FeatureBank.from_dataset(model, model.layer, [clip[0]], layout=layout)
    basis = basis_from_matrix(bank, scheme, torch.eye(bank.means.shape[1]), n_prototypes=1)
    return LayerAPEX(model, model.layer, basis)


def test_a_layer_over_frames_finds_the_time_and_the_band():
    clip = planted(SIZE, (0, 3, 10, 16)) + planted(SIZE, (5, 8, 24, 30))
    for scheme, boxes in {
        "time": [(0, 8, 10, 16), (0, 8, 24, 30)],
        "square": [(0, 3, 10, 16), (5, 8, 24, 30)],
    }.items():
        apex = with_layout(Frames().eval(), clip, scheme, "n t c -> n c 1 t")
        for target, box in enumerate(boxes):
            evidence = explain(apex, clip, target, n_prototypes=1)[0].evidence
            assert [each.channel for each in evidence] == [target]
            assert bins_of(evidence[0], SIZE) == [box]


def test_a_layer_of_patches_finds_a_sound_smaller_than_a_patch_grid():
    clip = planted(SIZE, (2, 4, 9, 15))
    apex = with_layout(Patches().eval(), clip, "square", ("n (f t) c -> n c f t", {"f": 4}))
    evidence = explain(apex, clip, 0, n_prototypes=1)[0].evidence[0]
    assert bins_of(evidence, SIZE) == [(2, 4, 9, 15)]


class Samples(nn.Module):
    """A model of waveforms: the magnitude at 1/8 and at 1/4 of the sample rate in frames of 64 samples."""

    def __init__(self):
        super().__init__()
        self.waves = nn.Conv1d(1, 4, 64, 16, bias=False)
        time = torch.arange(64.0)
        phases = [(part(2 * math.pi * cycles * time)) for cycles in (1 / 8, 1 / 4) for part in (torch.cos, torch.sin)]
        self.waves.weight.data = torch.stack(phases)[:, None] * torch.hann_window(64) / 16
        self.layer = nn.ReLU()
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.eye(2)

    def forward(self, waveforms):
        power = self.waves(waveforms.reshape(len(waveforms), 1, -1)).unflatten(1, (2, 2)).square().sum(2)
        return self.head(self.layer((power + 1e-12).sqrt() - 0.1).mean(2))


def waveform(n_samples=4000):
    """A low tone, then a high one, each for an eighth of the clip."""
    time = torch.arange(float(n_samples))
    low, high = (
        torch.sin(2 * math.pi * cycles * time) * ((time >= start * n_samples) & (time < (start + 0.125) * n_samples))
        for cycles, start in ((1 / 8, 0.25), (1 / 4, 0.625))
    )
    return (low + high)[None] + 0.001 * torch.randn(1, n_samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layout", ["n t", "n c t"])
@pytest.mark.parametrize("n_samples", [4000, 4001])
def test_a_model_of_waveforms_finds_the_time_and_the_band_of_a_tone(layout, n_samples):
    inputs = waveform(n_samples) if layout == "n t" else waveform(n_samples)[:, None]
    for scheme in ("time", "square"):
        apex = with_layout(Samples().eval(), inputs, scheme, "n c t -> n c 1 t")
        for target, (start, cycles) in enumerate([(0.25, 1 / 8), (0.625, 1 / 4)]):
            evidence = explain(apex, inputs, target, n_prototypes=1)[0].evidence[0]
            (box,) = evidence.region.boxes
            assert evidence.effect.better_than_random
            assert evidence.effect.channel > 0.6
            assert (box.start, box.end) == pytest.approx((start, start + 0.125), abs=0.02)
            if scheme == "square":
                assert box.low < 2 * cycles < box.high  # the axis ends at half the sample rate
                assert box.high - box.low < 0.15


@pytest.mark.parametrize("scheme", SCHEMES)
def test_with_an_inner_spectrogram_the_regions_are_those_of_the_network_behind_it(scheme):
    model = listener()
    net, spectrograms = model[2], inner(model, sounds())
    banks = (
        FeatureBank.from_dataset(model, net.features, list(sounds())),
        FeatureBank.from_dataset(net, net.features, list(spectrograms)),
    )
    bases = [basis_from_matrix(bank, scheme, invertible(), n_prototypes=2) for bank in banks]
    whole = APEX(model, net.features, bases[0], input_layer=model[1])
    actual = explain(whole, sounds(), 1, n_prototypes=2, dataset=list(sounds()))
    expected = explain(LayerAPEX(net, net.features, bases[1]), spectrograms, 1, n_prototypes=2, dataset=spectrograms)
    for one, other in zip(actual, expected, strict=True):
        assert one.evidence
        assert_same_evidence(one.evidence, other.evidence)
        prototypes = [
            [prototype.region for each in found.evidence for prototype in each.prototypes] for found in (one, other)
        ]
        assert prototypes[0] == prototypes[1]


def test_an_input_without_a_known_layout_is_named():
    clip = planted(SIZE, (2, 4, 9, 15))

    class Squeezed(Detector):
        def forward(self, clips):
            return super().forward(clips[:, None])

    model = Squeezed().eval()
    bank = FeatureBank.from_dataset(model, model.layer, [clip[0, 0]])
    basis = basis_from_matrix(bank, "square", torch.eye(1), n_prototypes=1)
    with pytest.raises(ValueError, match="say with `input_layout` which axis is which"):
        explain(LayerAPEX(model, model.layer, basis), clip[0], 0, n_prototypes=1)
    evidence = explain(APEX(model, model.layer, basis, input_layout="n f t"), clip[0], 0, n_prototypes=1)[0].evidence[0]
    assert bins_of(evidence, SIZE) == [(2, 4, 9, 15)]


def test_several_input_tensors_are_refused_unless_peak_cells_are_enough():
    model = Detector()
    clip = planted(SIZE, (2, 4, 9, 15))
    basis = attribution(model, [clip[0]], "square").basis
    apex = LayerAPEX(lambda first, second: model(first + second), model.layer, basis)
    inputs = (clip, torch.zeros_like(clip))
    with pytest.raises(
        ValueError, match="expected one input tensor, but got 2; pass the others as `additional_forward"
    ):
        explain(apex, inputs, 0, n_prototypes=1)
    evidence = explain(apex, inputs, 0, n_prototypes=1, search=None)[0].evidence[0]
    assert evidence.region == evidence.cell
    second = explain(apex, clip, 0, torch.zeros_like(clip), n_prototypes=1)[0].evidence[0]
    assert bins_of(second, SIZE) == [(2, 4, 9, 15)]


# --- batches ------------------------------------------------------------------


@pytest.mark.parametrize("sides", ["positive", "both"])
def test_the_regions_of_several_classes_are_those_of_each_class(sides):
    model, layer, basis = subject("square")
    apex = LayerAPEX(model, layer, basis)
    queries = clips(3, seed=6)
    wanted = torch.tensor([[True, True, False, False], [False] * 4, [False, False, True, True]])
    for clip, of_clip in enumerate(explain_classes(apex, queries, wanted, n_prototypes=3, sides=sides)):
        assert [explanation.target for explanation in of_clip] == wanted[clip].nonzero()[:, 0].tolist()
        for explanation in of_clip:
            alone = explain(apex, queries[clip : clip + 1], explanation.target, n_prototypes=3, sides=sides)[0]
            assert_same_evidence(explanation.evidence, alone.evidence)


def test_the_negative_side_has_regions_that_take_its_contribution_away():
    model, layer, basis = subject("square")
    found = explain(LayerAPEX(model, layer, basis), clips(3, seed=6), 2, n_prototypes=3, sides="both", n_channels=6)
    negative = [evidence for explanation in found for evidence in explanation.evidence if evidence.side == -1]
    assert negative
    for evidence in negative:
        assert evidence.activation < 0 < evidence.contribution
        assert evidence.effect.channel > 0


def test_an_argument_with_a_row_per_clip_goes_with_its_clip():
    model, layer, basis = subject()
    apex = LayerAPEX(model, layer, basis)
    queries = clips(3, seed=6)
    gains = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64)
    for clip, explanation in enumerate(explain(apex, queries, 2, gains, n_prototypes=3)):
        alone = explain(apex, queries[clip : clip + 1], 2, gains[clip].item(), n_prototypes=3)[0]
        assert_same_evidence(explanation.evidence, alone.evidence)


# --- modes and precision ------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_half_precision_finds_the_planted_place(dtype, scheme):
    place = {"time": (0, 8, 12, 16), "frequency": (2, 4, 0, 40)}.get(scheme, (2, 4, 12, 16))
    clip = planted(SIZE, place).to(dtype)
    evidence = explained(Detector((2, 2)).to(dtype), clip, scheme)
    assert bins_of(evidence, SIZE) == [place]
    assert evidence.map.dtype == torch.float32


def test_autocast_finds_the_planted_place():
    clip = planted(SIZE, (2, 4, 12, 16))
    apex = attribution(Detector((2, 2)), [clip[0]], "square")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        evidence = explain(apex, clip, 0, n_prototypes=1)[0].evidence[0]
    assert bins_of(evidence, SIZE) == [(2, 4, 12, 16)]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_gradient_mode_changes_nothing(mode):
    model, layer, basis = subject()
    apex = LayerAPEX(model, layer, basis)
    expected = explain(apex, clips(1, seed=6), 2, n_prototypes=3, dataset=clips(9, seed=5))[0]
    with mode():
        actual = explain(apex, clips(1, seed=6), 2, n_prototypes=3, dataset=clips(9, seed=5))[0]
    assert_same_evidence(actual.evidence, expected.evidence)


def test_the_model_stays_as_it_was():
    model, layer, basis = subject()
    apex = LayerAPEX(model, layer, basis)
    inputs = clips(1, seed=6).requires_grad_()
    expected = explain(apex, inputs, 2, n_prototypes=3)[0]
    model.train()
    model.stem.eval()
    frozen = model.classifier.weight.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    actual = explain(apex, inputs, 2, n_prototypes=3, dataset=clips(9, seed=5))[0]
    assert_same_evidence(actual.evidence, expected.evidence)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == [
        "classifier.weight"
    ]
    assert not frozen.requires_grad
    assert inputs.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_frozen_parameters_leave_the_map():
    clip = planted(SIZE, (2, 4, 12, 16))
    model = Detector().requires_grad_(False)
    assert bins_of(explained(model, clip, "square"), SIZE) == [(2, 4, 12, 16)]


def test_without_a_gradient_at_the_input_the_peak_cell_is_verified():
    class Detached(Detector):
        def forward(self, clips):
            return super().forward(clips.detach())

    evidence = explained(Detached(), planted(SIZE, (2, 3, 12, 13)), "square")
    assert evidence.map is None
    assert evidence.region == evidence.cell
    assert bins_of(evidence, SIZE) == [(2, 3, 12, 13)]
    assert evidence.effect.channel > 0.7


# --- passes -------------------------------------------------------------------


def passes(layer, run):
    """The passes of one clip up to the layer in a run: forward copies, and backward passes counted twice.

    A gradient that ends at the layer, as that of the score for the evidence, is no pass up to the layer.
    """
    counted = []

    def forward(_, inputs, output):
        counted.append(len(output))
        if inputs[0].requires_grad:
            output.register_hook(lambda gradient: counted.append(2 * len(gradient)))

    with layer.register_forward_hook(forward):
        result = run()
    return sum(counted), result


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_explained_clip_with_three_channels_costs_at_most_39_passes(scheme):
    model, layer, basis = subject(scheme)
    apex = LayerAPEX(model, layer, basis)
    counted, explanations = passes(layer, lambda: explain(apex, clips(1, seed=6), 2, n_prototypes=3, n_channels=3))
    assert len(explanations[0].evidence) == 3
    assert counted <= 39


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_prototype_costs_at_most_16_passes(scheme):
    model, layer, basis = subject(scheme)
    apex = LayerAPEX(model, layer, basis)
    dataset = list(clips(9, seed=5))
    counted, located = passes(layer, lambda: locate_prototypes(apex, dataset, n_prototypes=1, channels=[1]))
    n_located = sum(int((side.boxes[1, :, 0, 0] >= 0).sum()) for side in (located.positive, located.negative))
    assert n_located == 2  # one of each side
    assert counted <= 16 * n_located


def test_maps_of_many_clips_take_no_further_passes():
    model, layer, basis = subject()
    seen = []
    handle = layer.register_forward_hook(lambda _, __, output: seen.append(len(output)))
    APEX(model, layer, basis).attribute(clips(4, seed=6), 2)
    handle.remove()
    assert seen == [4]
