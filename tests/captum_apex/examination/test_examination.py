"""Reports on models whose properties are known."""

import copy
import dataclasses
import warnings

import pytest
import torch
from torch import nn
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

import captum_apex
from captum_apex import Classifier, Examination, SelectedOutput, SpectrogramAxes, examine
from captum_apex.examination import ExaminedLayer, examined_layer
from captum_apex.examination.examined_layer import with_places
from captum_apex.layers.cell_places import CellLine, CellPlaces

RATE = 8000
MEL = MelSpectrogram(RATE, 256, hop_length=80, n_mels=32)
AXES = SpectrogramAxes.from_transform(MEL)
DECIBELS = AmplitudeToDB(top_db=80)
CLASS_NAMES = ["low", "middle", "high"]


def log_mel(waveform):
    return DECIBELS(MEL(waveform))[None] / 40


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def waveform_model(*head):
    """A convolution without padding, of 9 taps and a stride of 4, and its mean over time."""
    layers = nn.Sequential(nn.Conv1d(1, 6, 9, stride=4), nn.ReLU())
    return nn.Sequential(layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3), *head)


def picture_model():
    layers = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.ReLU())
    return nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))


def picture_classifier(transform=log_mel, axes=AXES, **fields):
    return Classifier(seeded(picture_model), transform, RATE, CLASS_NAMES, axes, length=RATE, **fields)


class BatchStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(1, 6, 9), nn.BatchNorm1d(6, track_running_stats=False), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, inputs):
        return self.head(self.layers(inputs).mean(2))


def test_cells_of_a_convolution_without_padding():
    examination = examine(seeded(waveform_model), random(2, 1, 100))
    (layer,) = examination.layers
    assert layer.places.time == CellLine(first=4.5, step=4.0, size=100, n_cells=23, receptive_field=9)
    assert layer.suggestion.grid == (1, 23)
    assert layer.columns_per_second is None
    assert (examination.input_layout, examination.input_shape) == ("n c t", (1, 100))
    assert examination.batch_agrees
    assert examination.scores_are == "logits"
    assert examination.faults == ()


def test_seconds_of_a_classifier_of_waveforms():
    classifier = Classifier(seeded(waveform_model), lambda waveform: waveform[None], RATE, CLASS_NAMES)
    (layer,) = examine(classifier, random(4000)).layers
    assert layer.columns_per_second == pytest.approx(RATE / 4)
    assert layer.first_second == pytest.approx(4.5 / RATE)
    assert layer.receptive_field_seconds == pytest.approx(9 / RATE)


def test_seconds_of_a_classifier_with_axes():
    (layer,) = examine(picture_classifier()).layers
    assert layer.columns_per_second == pytest.approx(50)  # every second frame of 100 in a second
    assert layer.first_second == pytest.approx(0.0)  # the centre of frame 0
    assert layer.receptive_field_seconds == pytest.approx(0.03)
    assert layer.places.frequency.receptive_field == 3


def test_a_linear_rest_has_no_delta_and_another_has_one():
    model = seeded(lambda: waveform_model(nn.Unflatten(1, (1, 3)), nn.Flatten()))
    clip = random(1, 1, 100)
    (layer,) = examine(model, clip).layers
    score = model(clip)[0].max()
    bias = model[3].bias[model(clip).argmax()]
    assert layer.effect == pytest.approx((score - bias).item(), abs=1e-6)
    assert layer.delta == pytest.approx(0.0, abs=1e-6)
    assert layer.linear

    class Squared(nn.Module):
        def forward(self, scores):
            return scores.square()

    model = seeded(lambda: nn.Sequential(nn.Conv1d(1, 4, 9), nn.AdaptiveAvgPool1d(1), nn.Flatten(), Squared()))
    (layer,) = examine(model, clip).layers  # the gradient counts each square twice
    assert layer.delta_share == pytest.approx(1.0, abs=1e-5)
    assert layer.delta == pytest.approx(layer.effect, rel=1e-5)
    assert not layer.linear


def test_a_batch_norm_with_the_statistics_of_the_batch():
    clips = random(2, 1, 400) * torch.tensor([1.0, 5.0])[:, None, None]
    model = seeded(BatchStatistics)
    examination = examine(model, clips)
    alone = torch.cat([model(clip) for clip in clips.split(1)])
    share = (alone - model(clips)).abs().max() / alone.abs().max()
    assert examination.batch_difference == pytest.approx(share.item(), rel=1e-4)
    assert not examination.batch_agrees
    assert "depend on the others of its batch" in examination.faults[0]
    assert not examine(model, clips[:1]).batch_agrees  # a second clip is made


def test_a_model_that_takes_one_clip_at_a_time():
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = waveform_model()

        def forward(self, inputs):
            if len(inputs) == 2:
                raise RuntimeError("one clip, please")
            return self.inside(inputs)

    examination = examine(seeded(One), random(1, 1, 100))
    assert examination.batch_agrees is None
    assert "The model takes one clip at a time." in repr(examination)


def test_a_model_that_is_random():
    class Noisy(nn.Module):
        def forward(self, scores):
            return scores + torch.rand_like(scores)

    examination = examine(seeded(lambda: waveform_model(Noisy())), random(2, 1, 100))
    assert "random also in evaluation mode" in examination.faults[0]


@pytest.mark.parametrize(
    ("end", "kind"), [(nn.Sigmoid(), "sigmoid"), (nn.Softmax(1), "softmax"), (nn.LogSoftmax(1), "log-softmax")]
)
def test_scores_that_are_no_logits(end, kind):
    model = seeded(lambda: waveform_model(end))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the report says it
        examination = examine(model, random(2, 1, 100))
        with torch.no_grad():
            assert examine(model, random(2, 1, 100)).scores_are == kind
    assert examination.scores_are == kind
    assert f"The model ends in a {kind}" in examination.faults[0]


def test_the_code_for_a_sigmoid_gives_logits():
    model = seeded(lambda: waveform_model(nn.Sigmoid()))
    examination = examine(model, random(2, 1, 100))
    names = {"model": model, "SAMPLE_RATE": RATE, "CLASS_NAMES": CLASS_NAMES}
    exec(examination.code, names)
    mended = names["classifier"]
    assert isinstance(mended.model, SelectedOutput)
    assert mended.layer is model[0]
    assert mended.exclusive is False
    assert examine(mended).scores_are == "logits"
    assert examine(mended).faults == ()


def test_the_code_for_a_model_makes_a_classifier_that_can_stay():
    model = seeded(picture_model)
    examination = examine(model, log_mel(random(RATE)))
    names = {"model": model, "SAMPLE_RATE": RATE, "CLASS_NAMES": CLASS_NAMES, "mel_spectrogram": MEL}
    exec(examination.code, names | {"transform": log_mel})
    names["transform"] = log_mel
    exec(examination.code, names)
    again = examine(names["classifier"])
    assert (again.code, again.faults) == ("", ())
    assert "the Classifier can stay as it is. Not checked: whether the model was trained on sounds" in repr(again)


def test_the_model_has_the_name_of_the_users_class():
    model = SelectedOutput(seeded(waveform_model), lambda output: output)
    assert repr(examine(model, random(2, 1, 100))).startswith("Sequential, with inputs of 1 × 100")


def test_a_layer_without_places_says_why_and_one_that_was_left_alone_too():
    examination = examine(seeded(waveform_model), random(2, 1, 100), n_layers=0)
    assert [layer.texts[4:6] for layer in examination.layers] == [("not measured", "not measured")]
    layer = ExaminedLayer(examination.layers[0].suggestion)
    silent = with_places(layer, lambda inputs: layer.suggestion.module(0 * inputs), random(1, 1, 100), "n c t", None)
    assert silent.texts[4:6] == ("not known", "not known")
    assert "or none hears anything" in silent.fault


def test_a_time_below_a_millisecond_is_readable():
    suggestion = examine(seeded(waveform_model), random(2, 1, 100), n_layers=0).layers[0].suggestion
    line = CellLine(first=1.0, step=4.0, size=100, n_cells=23, receptive_field=9)
    layer = ExaminedLayer(suggestion, CellPlaces(time=line), 2000, 6.25e-05, 0.025)
    assert layer.texts[4:6] == ("0.025 s", "0.0625 ms")


def test_frequency_and_time_the_other_way_round():
    classifier = picture_classifier(lambda waveform: log_mel(waveform).transpose(1, 2))
    examination = examine(classifier)
    assert 'give the Classifier input_layout="n c t f"' in examination.faults[0]
    assert examination.input_layout == "n c t f"
    names = {"classifier": classifier}
    exec(examination.code, names)
    mended = names["classifier"]
    assert (mended.input_layout, mended.layout) == ("n c t f", "n c t f -> n c f t")
    assert examine(mended).faults == ()
    assert examine(mended).layers[0].suggestion.grid == (16, 51)


def test_high_frequencies_first():
    classifier = picture_classifier(lambda waveform: log_mel(waveform).flip(1))
    examination = examine(classifier)
    assert "the bins are in reverse order" in examination.faults[0]
    names = {"classifier": classifier}
    exec(examination.code, names)
    assert names["classifier"].axes == AXES.flipped()
    assert examine(names["classifier"]).faults == ()


def test_a_transform_that_reverses_time():
    examination = examine(picture_classifier(lambda waveform: log_mel(waveform).flip(2)))
    assert "a click at 0.125 s of a clip of 1 s appears at 0.8" in examination.faults[0]


def test_other_frequencies_than_those_of_the_axes():
    examination = examine(picture_classifier(axes=SpectrogramAxes(RATE, 62, 80)))
    assert "compare the parameters of `axes`" in examination.faults[0]


def test_scores_of_frames():
    model = seeded(lambda: nn.Conv1d(1, 3, 9))
    frames = nn.Sequential(model, nn.Identity())
    examination = examine(frames, random(1, 1, 100))
    assert examination.scores == ()
    assert "captum_apex.SelectedOutput(model, lambda output: output.mean(1))" in examination.faults[0]


def test_another_number_of_class_names():
    classifier = Classifier(seeded(waveform_model), lambda waveform: waveform[None], RATE, ["low", "high"], length=100)
    assert "gives 3 scores for a clip, but the Classifier has 2" in examine(classifier).faults[0]


def test_several_outputs_say_how_to_select_the_scores():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = waveform_model()

        def forward(self, inputs):
            return {"logits": self.inside(inputs), "loss": None}

    with pytest.raises(ValueError, match=r"captum_apex.SelectedOutput\(model, 'logits'\)"):
        examine(seeded(Two), random(1, 1, 100))
    assert examine(SelectedOutput(seeded(Two), "logits"), random(1, 1, 100)).layers[0].name == "inside.0"


def test_the_layer_of_a_classifier_that_is_not_proposed_comes_first():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 6, (1, 32)), nn.Flatten(), nn.Linear(6 * 20, 3)))
    fields = {"layer": model[1], "layout": ("n (c f) -> n c f 1", {"f": 20})}
    classifier = Classifier(model, lambda waveform: waveform.view(1, 20, 32), RATE, CLASS_NAMES, length=640, **fields)
    layer = examine(classifier).layers[0]
    assert (layer.name, layer.suggestion.channels, layer.suggestion.grid) == ("1", 6, (20, 1))
    assert layer.linear


def test_inputs_that_are_higher_than_long_are_in_doubt():
    examination = examine(seeded(picture_model), random(1, 1, 64, 32))
    assert examination.faults[0].endswith('if it is the other way round, pass input_layout="n c t f"')
    assert examine(seeded(picture_model), random(1, 1, 64, 32), input_layout="n c t f").faults == ()
    assert examine(seeded(picture_model), random(1, 1, 32, 64)).faults == ()


def test_files_and_waveforms_of_a_classifier(tmp_path):
    import soundfile

    soundfile.write(tmp_path / "a.wav", 0.1 * random(RATE).numpy(), RATE)
    classifier = picture_classifier()
    examination = examine(classifier, [tmp_path / "a.wav", random(RATE // 2)])
    scores = classifier.scores(classifier.inputs(classifier.waveform(tmp_path / "a.wav")))
    assert examination.scores == pytest.approx(scores)
    assert examination.predicted == max(range(3), key=scores.__getitem__)
    assert f"predicts the class {CLASS_NAMES[examination.predicted]!r}" in repr(examination)
    with pytest.raises(ValueError, match="pass `classifier.model`"):
        examine(classifier, random(1, 32, 101))


def test_wrong_arguments():
    with pytest.raises(TypeError, match="expected inputs of the model as `example`"):
        examine(seeded(waveform_model))
    with pytest.raises(ValueError, match="expected `n_layers`"):
        examine(seeded(waveform_model), random(1, 1, 100), n_layers=-1)
    with pytest.raises(ValueError, match="one or two clips"):
        examine(picture_classifier(), [])


def test_only_the_first_layers_are_measured():
    model = seeded(
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
        )
    )
    layers = examine(model, random(1, 1, 32, 64), n_layers=1).layers
    assert len(layers) > 1
    assert layers[0].places.time is not None
    assert [(layer.places.time, layer.delta) for layer in layers[1:]] == [(None, None)] * (len(layers) - 1)


def test_the_model_and_the_clips_stay_as_they_are():
    model = seeded(BatchStatistics).train()
    clips = random(2, 1, 400)
    before = copy.deepcopy(model.state_dict())
    given = clips.clone()
    examine(model, clips)
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(clips, given)
    assert not clips.requires_grad


def test_what_is_not_found_in_time_is_left_out_and_said():
    examination = examine(seeded(waveform_model), random(2, 1, 100), seconds=0)
    (layer,) = examination.layers
    assert layer.places.time is None
    assert layer.linear
    assert "0: where its cells lie was not found in time; `seconds=` gives it more" in repr(examination)
    with pytest.raises(ValueError, match="expected `seconds`"):
        examine(seeded(waveform_model), random(1, 1, 100), seconds=-1)


def test_places_that_are_not_known_are_said_once_for_all_layers():
    class Everywhere(nn.Module):
        def forward(self, features):
            return features + features.cumsum(2).flip(2) + features.mean(2, keepdim=True).cos() * 9

    layers = seeded(lambda: nn.Sequential(nn.Conv1d(1, 6, 9, stride=4), Everywhere(), nn.Conv1d(6, 6, 1), Everywhere()))
    model = seeded(lambda: nn.Sequential(layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)))
    examination = examine(model, random(2, 1, 100))
    unknown = [layer.name for layer in examination.layers if layer.fault]
    assert unknown
    assert f"{', '.join(unknown)}: where its columns lie is not known" in repr(examination)
    assert repr(examination).count("taken to fill the clip") == 1


@pytest.mark.parametrize("function", ["cell_places", "LayerAPEX"])
def test_a_defect_is_not_taken_for_a_model_that_fails(function, monkeypatch):
    def defect(*_, **__):
        raise TypeError("a defect of this package")

    monkeypatch.setattr(examined_layer, function, defect)
    with pytest.raises(TypeError, match="a defect of this package"):
        examine(seeded(waveform_model), random(1, 1, 100))


def test_a_model_that_refuses_altered_copies_has_no_places_and_says_why():
    class Strict(nn.Module):
        def forward(self, inputs):
            assert inputs.abs().max() < 20, "too loud"
            return inputs

    model = seeded(lambda: nn.Sequential(Strict(), waveform_model()))
    (layer,) = examine(model, random(1, 1, 100)).layers
    assert layer.fault.startswith("the model does not run on altered copies of a clip: AssertionError: too loud")
    assert layer.linear


def test_the_report_for_notebooks_is_escaped():
    examination = examine(seeded(waveform_model), random(2, 1, 100))
    other = dataclasses.replace(examination, faults=("<b>",))
    assert "<li>&lt;b&gt;</li>" in other._repr_html_()
    assert "<td>1 × 23</td>" in other._repr_html_()
    assert captum_apex.Examination is type(examination)


@pytest.mark.parametrize(
    ("exclusive", "score", "said"),
    [
        (False, -0.226, "The model detects no class: the highest score is -0.226, that of 'one'."),
        (False, 0.3, "The model predicts the class 'one', with the score 0.3."),
        (True, -0.226, "The model predicts the class 'one', with the score -0.226."),
    ],
)
def test_it_is_said_where_a_model_of_several_labels_detects_no_class(exclusive, score, said):
    settings = {"input_layout": "n t", "input_shape": (9,), "layers": (), "left_out": {}, "batch_difference": 0.0}
    scores = {"scores": (-3.0, score), "class_names": ("zero", "one"), "scores_are": "logits"}
    examination = Examination("Net", **settings, **scores, faults=(), code="", exclusive=exclusive)
    assert said in repr(examination).splitlines()


@pytest.mark.parametrize(("taps", "hears_all"), [(9, False), (89, False), (90, True)])
def test_it_is_said_where_a_cell_hears_about_all_of_the_clip(taps, hears_all):
    """Of a clip of 100 samples, 1 s; 90% are about all."""
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv1d(1, 4, taps, padding=taps // 2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)
        )
    )
    classifier = Classifier(model, lambda waveform: waveform[None], 100, ["a", "b", "c"], length=100, exclusive=True)
    said = "A cell of 0 hears 0.9 s, all of the clip: the start and the end of an event"
    assert (said in repr(examine(classifier, random(100)))) == hears_all
