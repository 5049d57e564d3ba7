"""Models that take waveforms and make their spectrogram inside: maps of the samples, and of the spectrogram."""

import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel, Occlusion
from torch import nn
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from captum_apex import (
    APEX,
    SCHEMES,
    Clip,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    SpectrogramAxes,
    basis_from_matrix,
    explain,
)
from tests.networks import invertible

RATE, SAMPLES = 8000, 4000


class Net(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, width, 4, stride=4), nn.ReLU())
        self.classifier = nn.Linear(width, 4)

    def forward(self, spectrograms):
        return self.classifier(self.features(spectrograms / 40).mean((2, 3)))


def listener() -> nn.Sequential:
    """Waveforms (clip, 1, sample) → mel in dB (clip, 1, 16, 32) → a grid of 4 × 8 → logits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mel = MelSpectrogram(RATE, n_fft=256, hop_length=128, n_mels=16)
        return nn.Sequential(mel, AmplitudeToDB(), Net()).double().eval()


def sounds(n: int = 3) -> torch.Tensor:
    return 0.1 * torch.randn(n, 1, SAMPLES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def inner(model: nn.Sequential, waveforms: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model[:2](waveforms)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("projection", [None, IntegratedGradients])
def test_the_inner_map_is_that_of_the_network_on_its_spectrogram(scheme, projection):
    """The model behind its spectrogram is a model of spectrograms: explained as such, it gives the same map."""
    model, waveforms, basis = listener(), sounds(), PrototypeBasis(invertible(), scheme)
    net, spectrograms = model[2], inner(model, waveforms)
    actual = APEX(model, net.features, basis, projection=projection, input_layer=model[1]).attribute(
        waveforms, [1, 0, 3], n_channels=2
    )
    assert actual.shape == (3, 1, 16, 32)
    expected = APEX(net, net.features, basis, projection=projection).attribute(spectrograms, [1, 0, 3], n_channels=2)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_a_map_has_the_sounds_precision_where_autocast_lowers_the_spectrograms():
    model, waveforms = listener().float(), sounds().float()
    apex = APEX(
        model, model[2].features, PrototypeBasis(invertible(dtype=torch.float32), "square"), input_layer=model[1]
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = apex.attribute(waveforms, 1)
        assert model[:2](waveforms).dtype == torch.bfloat16
    assert actual.dtype == torch.float32


def from_occlusion(score, inputs, arguments):
    return Occlusion(score).attribute(inputs, (1, 4, 4), strides=(1, 4, 4), additional_forward_args=arguments)


@pytest.mark.parametrize("projection", [InputXGradient, from_occlusion])
def test_a_model_that_works_in_place_changes_neither_its_map_nor_the_sounds(projection):
    waveforms, maps = sounds(), []
    for halve in (lambda _, arguments: (arguments[0] / 2,), lambda _, arguments: (arguments[0].div_(2),)):
        model = listener()
        for module in (model[0], model[2]):
            module.register_forward_pre_hook(halve)
        apex = APEX(
            model,
            model[2].features,
            PrototypeBasis(invertible(), "square"),
            projection=projection,
            input_layer=model[1],
        )
        maps.append(apex.attribute(waveforms, 1))
    torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=1e-12)
    assert torch.equal(waveforms, sounds())


def test_a_projection_with_a_baseline_gets_the_spectrogram():
    model, waveforms, basis = listener(), sounds(), PrototypeBasis(invertible(), "square")
    silence = torch.full((1, 1, 16, 32), -100.0, dtype=torch.float64)

    def from_silence(score, inputs, arguments):
        return IntegratedGradients(score).attribute(
            inputs, baselines=silence, additional_forward_args=arguments, n_steps=200
        )

    apex = APEX(model, model[2].features, basis, projection=from_silence, input_layer=model[1])
    actual = apex.attribute(waveforms, 1, n_channels=None)
    weights = apex.evidence_weights(waveforms, 1, n_channels=None)
    score = APEX(model[2], model[2].features, basis).evidence_score
    expected = score(inner(model, waveforms), weights) - score(silence.expand(3, -1, -1, -1), weights)
    torch.testing.assert_close(actual.sum((1, 2, 3)), expected, rtol=1e-2, atol=1e-2)


def test_the_map_of_the_samples_has_the_columns_sums():
    """On the waveform a map has no frequency: each sample gets the layer's column over it, its total kept."""
    model, waveforms = listener(), sounds()
    basis = PrototypeBasis(invertible(), "time")
    actual = APEX(model, model[2].features, basis).attribute(waveforms, 2)
    assert actual.shape == waveforms.shape
    at_layer = LayerAPEX(model, model[2].features, basis).attribute(waveforms, 2)
    torch.testing.assert_close(actual.sum((1, 2)), at_layer.sum((1, 2, 3)), rtol=1e-9, atol=1e-12)
    centres = torch.arange(8) * SAMPLES // 8 + SAMPLES // 16
    torch.testing.assert_close(actual[:, 0, centres] * SAMPLES / 8, at_layer.sum((1, 2)), rtol=0.01, atol=1e-6)


def test_regions_lie_on_the_inner_spectrograms_axes():
    """A burst at 0.35 s and 2 kHz is found there, in Hz and seconds, by the channel that follows the level."""
    model = listener()
    features = model[2].features
    features[0].weight.data.zero_()
    features[0].bias.data.zero_()
    features[0].weight.data[0] = 1 / 16
    features[0].bias.data[0] = 2.0  # so that silence is zero after the ReLU
    model[2].classifier.weight.data.fill_(1.0)
    time = torch.arange(SAMPLES, dtype=torch.float64) / RATE
    burst = torch.sin(2 * torch.pi * 2000 * time) * ((time - 0.35).abs() < 0.02)
    basis = basis_from_matrix(
        FeatureBank.from_dataset(model, features, list(sounds(5))), "square", torch.eye(6), n_prototypes=2
    )
    explanation = explain(LayerAPEX(model, features, basis), burst[None, None], 0, n_channels=1, n_prototypes=1)[0]
    axes = SpectrogramAxes.from_transform(model[0])
    clip = Clip(inner(model, burst[None, None])[0, 0], axes, burst)
    place = clip.place(explanation.evidence[0].cell.boxes[0])
    assert place.low < 2000 < place.high
    assert place.start < 0.35 < place.end
    assert place.end - place.start < 0.1
    for box in explanation.evidence[0].region.boxes:  # the clicks at both ends of the burst, which are loud in dB
        assert 0.3 < clip.place(box).start < clip.place(box).end < 0.4


def test_captums_tools_run_on_the_inner_map():
    model, waveforms = listener(), sounds()
    apex = APEX(model, model[2].features, PrototypeBasis(invertible(), "time"), input_layer=model[1])
    smooth = NoiseTunnel(apex).attribute(waveforms, nt_samples=2, stdevs=0.0, target=1)
    torch.testing.assert_close(smooth, apex.attribute(waveforms, 1), rtol=0, atol=1e-12)


def test_an_input_layer_that_is_elsewhere_or_reused_is_refused():
    model, basis = listener(), PrototypeBasis(invertible(), "time")
    with pytest.raises(
        ValueError, match="expected `layer` to be part of the model Sequential, but this AmplitudeToDB is not"
    ):
        APEX(model, model[2].features, basis, input_layer=AmplitudeToDB())
    model[2].unused = nn.Identity()
    with pytest.raises(ValueError, match="'2.unused' to run in the forward pass, but it never did"):
        APEX(model, model[2].features, basis, input_layer=model[2].unused).attribute(sounds(), 1)


class ChangedLater(nn.Module):
    """The first module returns its input itself, which the model changes in place before the next module reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Identity()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 4, stride=4), nn.ReLU())
        self.after = nn.ReLU()
        self.classifier = nn.Linear(6, 4)

    def forward(self, spectrograms):
        spectrograms = 1 * spectrograms
        same = self.first(spectrograms)
        spectrograms.mul_(0.5)
        return self.classifier(self.after(self.features(same)).mean((2, 3)))


@pytest.mark.parametrize("name", ["first", "after"])
def test_storing_what_a_module_gives_does_not_change_the_pass(name):
    """The model goes on with the module's own output: in-place changes reach it, and gradients pass through it."""
    torch.manual_seed(0)
    model = ChangedLater().double().eval()
    basis = PrototypeBasis(invertible(), "time")
    inputs = torch.rand(2, 1, 16, 32, dtype=torch.float64)
    inner = APEX(model, model.features, basis, input_layer=getattr(model, name)).attribute(inputs, 1, n_channels=None)
    total = LayerAPEX(model, model.features, basis).attribute(inputs, 1, n_channels=None).sum((1, 2, 3))
    assert inner.shape == ((2, 1, 16, 32) if name == "first" else (2, 6, 4, 8))
    torch.testing.assert_close(inner.sum((1, 2, 3)), total)
