"""Models whose inputs have high frequencies first: the same places as for the same model the other way up."""

import copy

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from captum_apex import Box, Classifier, Clip, Explainer, Place, Recordings, Region, SpectrogramAxes, figures
from captum_apex.figures.signed_maps import channel_map
from captum_apex.listening import isolate
from captum_apex.report.page_pictures import channel_picture, level_picture, map_picture

RATE = 8000
AXES = SpectrogramAxes(RATE, 62, 80)  # 32 bins
REGION = Region((Box(0.125, 0.25, 0.25, 0.5), Box(0.5, 1.0, 0.75, 1.0)))
MIRRORED = Region((Box(0.75, 0.875, 0.25, 0.5), Box(0.0, 0.5, 0.75, 1.0)))


def clips():
    """The same sound as the input of a model with low, and of one with high frequencies first."""
    waveform = torch.sin(torch.arange(4000) ** 2 / 4000)
    levels = (
        torch.stft(waveform, 62, 80, window=torch.hann_window(62), return_complex=True).abs().clamp_min(1e-4).log10()
    )
    upright = Clip(20 * levels, AXES, waveform, "a.wav")
    return upright, Clip(20 * levels.flip(0), AXES.flipped(), waveform, "a.wav")


def test_a_flipped_clip_is_drawn_with_low_frequencies_first():
    upright, flipped = clips()
    assert torch.equal(flipped.decibels, upright.decibels)
    assert (flipped.axes, flipped.flipped, upright.flipped) == (AXES, True, False)
    assert np.array_equal(level_picture(flipped, 40).pixels, level_picture(upright, 40).pixels)


def test_places_and_sounds_of_mirrored_regions_are_the_same():
    upright, flipped = clips()
    assert flipped.places(MIRRORED) == upright.places(REGION)
    assert [flipped.on_picture(box) for box in MIRRORED.boxes] == [upright.on_picture(box) for box in REGION.boxes]
    for place in (Place(500.0, 900.0, 0.1, 0.2), Place(0.0, 4000.0, 0.0, 1.0), Place(3000.0, 9000.0, 0.3, 0.4)):
        assert flipped.box(place) == flipped.upright(upright.box(place))
    assert torch.equal(isolate(flipped, MIRRORED), isolate(upright, REGION))
    assert flipped.is_silent(MIRRORED) == upright.is_silent(REGION)
    assert flipped.hertz(0.0) == upright.hertz(1.0) > flipped.hertz(1.0)


def test_maps_lie_on_the_picture_as_the_sounds_do():
    upright, flipped = clips()
    values = torch.rand(upright.decibels.shape)
    assert np.array_equal(channel_map(values.flip(0), flipped), channel_map(values, upright))
    for picture in (lambda values, clip: map_picture(values, "IG", clip), channel_picture):
        assert np.array_equal(picture(values.flip(0), flipped).pixels, picture(values, upright).pixels)


def drawn(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.mark.parametrize(
    "draw",
    [
        lambda clip, region, values: figures.spectrogram(clip, region),
        lambda clip, region, values: figures.maps(clip, {"IG": values}, region),
        lambda clip, region, values: figures.masking(clip, region, clip),
    ],
)
def test_figures_of_both_are_the_same_dot_by_dot(draw):
    upright, flipped = clips()
    values = torch.rand(upright.decibels.shape) - 0.5
    assert np.array_equal(drawn(draw(flipped, MIRRORED, values.flip(0))), drawn(draw(upright, REGION, values)))


def network():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(1, 6, (5, 3), stride=(3, 2)), nn.ReLU())
    return nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))


def transform(waveform):
    return torch.stft(waveform, 62, 80, window=torch.hann_window(62), return_complex=True).abs()[None]


def turned_transform(waveform):
    return transform(waveform).flip(1)


@pytest.fixture(scope="module")
def explainers(tmp_path_factory):
    """Of a model, and of its twin whose inputs and kernels are upside down."""
    folder = tmp_path_factory.mktemp("sounds")
    generator = np.random.default_rng(0)
    for name in "abcdef":
        sound = generator.uniform(-0.1, 0.1, RATE) + np.sin(generator.uniform(0.2, 2.5) * np.arange(RATE)) * (
            np.arange(RATE) % 4000 < 1500
        )
        soundfile.write(folder / f"{name}.wav", sound.astype("float32") / 2, RATE)
    model = network()
    twin = copy.deepcopy(model)
    twin[0][0].weight.data = twin[0][0].weight.data.flip(2)
    settings = {"sample_rate": RATE, "class_names": ["dog", "rain"], "length": RATE, "exclusive": True}
    settings |= {"decibels": lambda inputs: 20 * inputs[0].clamp_min(1e-3).log10()}
    upright = Classifier(model, transform, axes=AXES, layer=model[0], **settings)
    turned = Classifier(twin, turned_transform, axes=AXES.flipped(), layer=twin[0], **settings)
    recordings = Recordings.in_folder(folder)
    return folder, [Explainer.fit(each, recordings, ["time-frequency", "frequency"]) for each in (upright, turned)]


def evidence(explainer, path):
    page = explainer.explain(path)[0]
    return page.clip, [each for explanation in page.explanations for each in explanation.evidence]


def test_the_evidence_of_a_flipped_model_has_the_same_hertz(explainers):
    folder, (upright, flipped) = explainers
    (clip, channels), (other_clip, others) = (evidence(each, folder / "a.wav") for each in (upright, flipped))
    assert len(channels) == len(others) > 0
    for channel, other in zip(channels, others, strict=True):
        assert other.contribution == pytest.approx(channel.contribution, rel=1e-3)
        for place, other_place in zip(clip.places(channel.region), other_clip.places(other.region), strict=True):
            assert place.low < place.high
            assert tuple(other_place) == pytest.approx(tuple(place))


def test_the_events_of_a_flipped_model_have_the_same_bands(explainers):
    folder, both = explainers
    events, others = (
        each.explain_recording(folder / "b.wav", "time-frequency", window=0.5, threshold=0.3).events for each in both
    )
    assert [(event.name, event.start, event.end) for event in events] == [
        (event.name, event.start, event.end) for event in others
    ]
    bands = [(each.low, each.high) for event in events for each in event.channels if each.low is not None]
    other_bands = [(each.low, each.high) for event in others for each in event.channels if each.low is not None]
    assert bands
    assert np.allclose(bands, other_bands)
    assert all(low < high for low, high in other_bands)
