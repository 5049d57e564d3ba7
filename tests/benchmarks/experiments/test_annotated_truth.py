"""Maps and regions beside annotations, on a model whose evidence is known to the bin."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from benchmarks.experiments.annotated_events import annotated_event_lines
from benchmarks.experiments.annotated_truth import (
    CONTROLS,
    MEASURES,
    OTHERS,
    default_methods,
    interval,
    measured_maps,
    truth_lines,
    truth_rows,
)
from benchmarks.methods import METHODS
from benchmarks.reports.truth_tables import truth_section
from benchmarks.runs.annotated_clips import AnnotatedStage, clips_of, recordings_at
from benchmarks.runs.maps import run_method
from captum_apex import APEX, SCHEMES, Classifier, FeatureBank, Recordings, basis_from_matrix, from_transformers
from captum_apex.metrics import bootstrap_interval
from captum_apex.recordings import AnnotatedRecordings
from tests import bursts

SHORT = {
    "a.wav": [("low", 0.2, 0.4)],
    "b.wav": [("high", 0.5, 0.9)],
    "c.wav": [("low", 0.1, 0.3), ("high", 0.3, 0.5), ("low", 0.6, 0.8)],
}
LONG = {"night.wav": [("low", 0.05, 0.25), ("high", 2.0, 2.4), ("low", 2.3, 2.5), ("low", 4.9, 5.0)]}


def annotated(folder, events=SHORT, seconds=bursts.SECONDS, **settings):
    bursts.write_recordings(folder, events, seconds)
    bursts.write_annotations(folder / "events.csv", events)
    return AnnotatedRecordings.read(recordings_at(folder, bursts.classifier()), folder / "events.csv", bursts.CLASSES)


def bases(annotated, schemes=SCHEMES):
    return {f"{scheme}.safetensors": bursts.basis(scheme, annotated.recordings) for scheme in schemes}


def box(label, start, end, n_frames=100):
    """The bins of a tone, (frequency, time), by its row and its frames of 10 ms."""
    bins = torch.zeros(bursts.ROWS, n_frames, dtype=torch.bool)
    bins[bursts.TONES[label], round(100 * start) : round(100 * end)] = True
    return bins


def test_a_short_recording_is_a_clip_for_each_of_its_classes(tmp_path):
    stage = AnnotatedStage.of(bursts.classifier(), annotated(tmp_path), {})
    assert [(clip.recording, clip.start, clip.label) for clip in stage.clips] == [
        (0, 0.0, "low"),
        (1, 0.0, "high"),
        (2, 0.0, "low"),
        (2, 0.0, "high"),
    ]
    assert stage.classified.target.tolist() == [0, 1, 0, 1]
    expected = [box("low", 0.2, 0.4), box("high", 0.5, 0.9), box("low", 0.1, 0.3) | box("low", 0.6, 0.8)]
    assert torch.equal(stage.truth, torch.stack([*expected, box("high", 0.3, 0.5)]))
    assert stage.segments.bincount().tolist() == [10] * 10
    assert stage.n_found == 3  # in c.wav the low tones are longer
    assert stage.classified.silence == 0.0


def test_an_event_of_a_long_recording_is_a_clip(tmp_path):
    found = annotated(tmp_path, LONG, seconds=5.0)
    clips = clips_of(bursts.classifier(), found)
    assert [(clip.label, round(clip.start, 9)) for clip in clips] == [
        ("low", 0.0),  # not before the recording
        ("high", 1.7),
        ("low", 1.9),
        ("low", 4.0),  # not behind it
    ]
    assert [(clip.event.start, clip.event.end) for clip in clips] == [each[1:] for each in LONG["night.wav"]]
    stage = AnnotatedStage.of(bursts.classifier(), found, {})
    expected = [box("low", 0.05, 0.25), box("high", 0.3, 0.7), box("low", 0.4, 0.6), box("low", 0.9, 1.0)]
    assert torch.equal(stage.truth, torch.stack(expected))
    sounding = stage.truth.clone()
    sounding[1] |= box("low", 0.6, 0.8)  # the events of other classes in these clips
    sounding[2] |= box("high", 0.1, 0.5)
    assert torch.equal(stage.classified.inputs[:, 0] > 0.1, sounding)


def test_the_right_map_scores_1_and_regions_too(tmp_path):
    found = annotated(tmp_path)
    stage = AnnotatedStage.of(bursts.classifier(), found, bases(found))
    methods = ["InputXGradient", "APEX time-frequency, through Occlusion", "found, square"]
    rows, statuses = truth_rows(stage, methods)
    assert statuses == dict.fromkeys(methods, "ok")
    gradient = rows[rows["method"] == "InputXGradient"]
    assert gradient[list(MEASURES)].to_numpy() == pytest.approx(1.0, abs=1e-12)
    assert gradient[["recording", "class"]].to_numpy().tolist() == [
        ["a.wav", "low"],
        ["b.wav", "high"],
        ["c.wav", "low"],
        ["c.wav", "high"],
    ]
    region = rows[rows["method"] == "found, square"].iloc[0]
    assert region["pointing"] > 0.5 > region["pointing_chance"] == pytest.approx(20 / 500)


class Inside(nn.Module):
    """The model of the tones with its spectrogram inside: takes waveforms (clip, sample)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, waveforms):
        return self.model(torch.stack([bursts.spectrogram(each) for each in waveforms]))


class FrequencyLast(nn.Module):
    """The model of the tones for (clip, time, frequency), with a layer that gives (clip, time, frequency, channel)."""

    def __init__(self, model):
        super().__init__()
        rows, *self.rest = model
        self.first = LastChannels(rows)
        self.rest = nn.Sequential(*self.rest)

    def forward(self, inputs):
        return self.rest(self.first(inputs).permute(0, 3, 2, 1))


class LastChannels(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def forward(self, inputs):
        return self.rows(inputs.mT[:, None]).permute(0, 3, 2, 1)


def stage_of(classifier, found, schemes=SCHEMES):
    layouts = {"layout": classifier.layout, "input_layout": classifier.input_layout}
    bank = FeatureBank.from_dataset(classifier.model, classifier.layer, classifier.dataset(found.recordings), **layouts)
    fitted = [basis_from_matrix(bank, scheme, torch.eye(2), n_prototypes=1) for scheme in schemes]
    return AnnotatedStage.of(classifier, found, {f"{basis.scheme}.safetensors": basis for basis in fitted})


def test_waveforms_have_a_single_bin_of_frequency(tmp_path):
    found = annotated(tmp_path)
    tones = bursts.classifier()
    fields = {"length": tones.length, "layer": tones.layer, "exclusive": False}
    stage = stage_of(Classifier(Inside(tones.model), torch.clone, bursts.RATE, bursts.CLASSES, **fields), found)
    assert stage.classified.inputs.shape == (4, 1, 1, 800)
    assert (stage.usual_grid, stage.classified.silence, stage.n_found) == ("time", 0.0, 3)
    expected = torch.stack([box("low", 0.2, 0.4), box("high", 0.5, 0.9), box("low", 0.1, 0.3) | box("low", 0.6, 0.8)])
    frames = torch.cat([expected, box("high", 0.3, 0.5)[None]]).any(1, keepdim=True)
    assert torch.equal(stage.truth, frames.repeat_interleave(8, 2))
    rows, statuses = truth_rows(stage, [*default_methods(SCHEMES), "GradCAM++"], grid="time")
    assert {name for name, status in statuses.items() if status != "ok"} == {"APEX frequency"}  # a constant in time
    means = rows.groupby("method")[list(MEASURES)].mean()
    located = ["APEX square", "APEX time", "LayerGradCam", "GradCAM++", "InputXGradient", "Occlusion"]
    assert (means.loc[located, ["segment_auroc", "pointing"]] == 1).all(axis=None)
    assert (means.loc["APEX time", list(MEASURES)] > 0.95).all()  # zero in the frames without the tone
    assert (means.loc[["found, time", "found, square"], "best_iou"] > 0.8).all()
    assert (means.loc["found, frequency", "pointing"]) == pytest.approx(stage.truth.double().mean())
    assert means.loc["energy", "bin_auroc"] > 0.8  # the magnitude of a sample, not its sign


def test_models_that_take_padded_clips_get_clips_of_one_length(tmp_path):
    found = annotated(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    sizes |= {"conv_dim": (8, 8), "conv_kernel": (8, 4), "conv_stride": (8, 2), "num_conv_pos_embeddings": 4}
    config = Wav2Vec2Config(**sizes, num_conv_pos_embedding_groups=2, classifier_proj_size=12, num_labels=2)
    speech = from_transformers(Wav2Vec2ForSequenceClassification(config).eval())
    assert speech.columns is not None
    speech = replace(speech, class_names=bursts.CLASSES, sample_rate=bursts.RATE, length=bursts.RATE)
    dataset = speech.dataset(found.recordings)
    settings = {"layout": speech.layout, "columns": speech.columns}
    bank = FeatureBank.from_dataset(speech.model, speech.layer, dataset, **settings)
    bases = {"time.safetensors": basis_from_matrix(bank, "time", torch.eye(12), n_prototypes=1)}
    stage = AnnotatedStage.of(speech, found, bases)
    clips = stage.classified
    columns = {"input_layout": speech.input_layout, "columns": speech.columns}
    apex = APEX(speech.model, speech.layer, bases["time.safetensors"], **columns)
    lengths = torch.full((len(clips.target),), bursts.RATE)
    expected = apex.attribute(clips.inputs[:, 0, 0], clips.target, additional_forward_args=lengths)
    found_map = run_method(METHODS["APEX time"], replace(stage.query("time", "mean"), names=("APEX time",)))[
        "APEX time"
    ]
    torch.testing.assert_close(found_map.attributions[:, 0, 0], expected)
    methods = ["found, time", "APEX time", "APEX time, two-sided", "LayerGradCam", "FeatureAblation", "Saliency"]
    assert truth_rows(stage, methods)[1] == dict.fromkeys(methods, "ok")


@pytest.mark.parametrize("with_bases", [True, False])
def test_axes_in_another_order_change_nothing(with_bases, tmp_path):
    found = annotated(tmp_path)
    tones = bursts.classifier()
    model = FrequencyLast(tones.model)
    fields = {"axes": tones.axes, "decibels": lambda inputs: 20 * (inputs.T + 1e-4).log10()}
    fields |= {"length": tones.length, "exclusive": False, "input_layout": "n t f"}
    other = Classifier(
        model,
        lambda waveform: bursts.spectrogram(waveform)[0].T,
        bursts.RATE,
        bursts.CLASSES,
        layer=model.first,
        layout="n t f c -> n c f t",
        **fields,
    )
    schemes = ["square", "time"] if with_bases else []
    stages = [stage_of(each, found, schemes) for each in (tones, other)]
    assert stages[1].classified.places == stages[0].classified.places
    assert stages[1].model.own(stages[1].classified.inputs).shape == (4, 100, 5)
    of_bases = ["APEX square", "APEX time, through IG"] if with_bases else []
    for name in (*of_bases, "GradCAM++", "LayerCAM", "EigenCAM", "CAM", "LayerGradCam"):
        expected, found_map = (
            run_method(METHODS[name], replace(stage.query("square", "mean"), names=(name,)))[name] for stage in stages
        )
        assert found_map.status == expected.status == "ok"
        torch.testing.assert_close(found_map.attributions, expected.attributions)
    methods = [*(["found, square", "cell, time"] if with_bases else []), "energy"]
    expected, rows = (truth_rows(stage, methods)[0] for stage in stages)
    pd.testing.assert_frame_equal(rows, expected, rtol=1e-5)


def test_cells_have_their_places_whatever_the_order_of_the_axes(tmp_path):
    """A layer without padding, whose first cell does not begin with the clip."""
    found = annotated(tmp_path)
    tones = bursts.classifier()
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 2, (1, 31), stride=(1, 4))
    standard = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    fields = {"axes": tones.axes, "length": tones.length, "exclusive": False}
    classifiers = (
        Classifier(standard, bursts.spectrogram, bursts.RATE, bursts.CLASSES, layer=layer, **fields),
        Classifier(
            nn.Sequential(TimeFirst(), standard).eval(),
            lambda waveform: bursts.spectrogram(waveform)[0].T,
            bursts.RATE,
            bursts.CLASSES,
            layer=layer,
            input_layout="n t f",
            decibels=lambda inputs: inputs.T,
            **fields,
        ),
    )
    stages = [AnnotatedStage.of(each, found, {}) for each in classifiers]
    assert stages[0].classified.places.time.first == 15.5
    assert stages[1].classified.places == stages[0].classified.places


class TimeFirst(nn.Module):
    def forward(self, inputs):
        return inputs.mT[:, None]


def test_the_model_is_left_as_it_was(tmp_path):
    found = annotated(tmp_path)
    tones = bursts.classifier()
    tones.model.train()
    tones.model[2].eval()
    AnnotatedStage.of(tones, found, {})
    assert [module.training for module in tones.model] == [True, True, False, True]


def test_silence_that_the_transform_cannot_give(tmp_path):
    found = annotated(tmp_path)
    tones = bursts.classifier()
    fields = {"length": tones.length, "layer": tones.layer, "exclusive": False}
    scaled = Classifier(Inside(tones.model), lambda w: w / w.abs().max(), bursts.RATE, bursts.CLASSES, **fields)
    assert AnnotatedStage.of(scaled, found, {}).classified.silence == 0.0


def test_what_the_methods_of_a_basis_need(tmp_path):
    found = annotated(tmp_path)
    stage = AnnotatedStage.of(bursts.classifier(), found, bases(found, ["time"]))
    methods = [*default_methods(list(stage.apexes)), "found, square", "APEX frequency", "APEX all, through IG"]
    rows, statuses = truth_rows(stage, methods, grid="time", fill="silence")
    assert {name: status for name, status in statuses.items() if status != "ok"} == {
        "found, square": "no basis for square; give one by --basis",
        "APEX frequency": "no basis for frequency; give one by --basis",
        "APEX all, through IG": "no basis for square; give one by --basis",
    }
    lines = truth_lines(rows, statuses)
    assert set(lines["method"]) == set(methods)
    assert "Not measured: APEX frequency: no basis for frequency; give one by --basis." in truth_section(lines, "").text


def test_every_measure_of_the_truth_is_1_and_of_its_inverse_0():
    truth = torch.stack([box("low", 0.2, 0.4), box("high", 0.5, 0.9)])
    full = truth.any(1, keepdim=True).expand_as(truth)  # without bands
    segments = torch.arange(100) // 10
    for own in (truth, full):
        measured = measured_maps(own[:, None].double(), own, segments)
        assert all(measured[name].tolist() == [1.0, 1.0] for name in MEASURES)
    inverse = measured_maps((~full)[:, None].double(), full, segments)
    assert all(inverse[name].tolist() == [0.0, 0.0] for name in MEASURES)


def test_random_maps_are_at_chance():
    generator = torch.Generator().manual_seed(0)
    truth = torch.stack([box("low", 0.2, 0.4) | box("high", 0.5, 0.9)] * 300)
    measured = measured_maps(torch.rand(300, 1, *truth.shape[1:], generator=generator), truth, torch.arange(100) // 10)
    for name in MEASURES:
        above = measured[name] - measured[f"{name}_chance"]
        assert abs(above.mean()) < 4 * above.std() / 300**0.5
        assert above.std() > 0
    assert measured["pointing_chance"] == pytest.approx(60 / 500)


def test_means_intervals_and_chance_of_lines(tmp_path):
    found = annotated(tmp_path)
    rows, statuses = truth_rows(AnnotatedStage.of(bursts.classifier(), found, {}), ["random", "energy"])
    lines = truth_lines(rows, statuses)
    line = lines[(lines["method"] == "random") & (lines["measure"] == "frame_f1")].iloc[0]
    own = rows[rows["method"] == "random"]
    assert (line["clips"], line["recordings"]) == (4, 3)
    assert line["mean"] == pytest.approx(own["frame_f1"].mean())
    assert line["above"] == pytest.approx((own["frame_f1"] - own["frame_f1_chance"]).mean())
    sums = own.groupby("recording")["frame_f1"].sum().to_numpy()
    low, high = bootstrap_interval(sums[:, None], over=[1, 1, 2])
    assert (line["low"], line["high"]) == (low[0], high[0])


def test_one_recording_has_an_interval_over_its_events():
    values = np.array([0.0, 1.0, 2.0, 3.0])
    low, high = bootstrap_interval(values[:, None])
    assert interval(values, np.array(["a"] * 4)) == (low[0], high[0])
    assert interval(values, np.array(list("abcd"))) == pytest.approx((low[0], high[0]))
    assert np.isnan(interval(values[:1], np.array(["a"]))).all()


def test_events_beside_annotations(tmp_path):
    found = annotated(tmp_path, LONG, seconds=5.0)
    own = bursts.basis("time", found.recordings)
    classifier = bursts.classifier()
    stage = AnnotatedStage.of(classifier, found, {"time.safetensors": own})
    (line,) = annotated_event_lines(classifier, dict(stage.apexes), found).to_dict("records")
    assert line["scheme"] == "time"
    assert line["calls"] == 4
    assert line["recall"] == 1.0
    assert line["recall_random"] < 0.6


def test_default_methods_are_known():
    assert default_methods([]) == [*OTHERS, *CONTROLS]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axes": None, "decibels": None}, "expected a Classifier of waveforms, or of spectrograms with `axes`"),
        ({"length": None}, r"expected inputs of one shape, but the transform gives \(1, 5, 50\) for .*b.wav and"),
        ({"layer": None}, "expected --layer, or a Classifier with a `layer`, but there is neither"),
    ],
)
def test_classifiers_that_cannot_be_compared(fields, message, tmp_path):
    found = annotated(tmp_path)
    bursts.write_recordings(tmp_path, {"b.wav": [("high", 0.1, 0.4)]}, 0.5)
    with pytest.raises(ValueError, match=message):
        AnnotatedStage.of(bursts.classifier(**fields), found, {})


class OfSamples(nn.Module):
    """A model of waveforms (clip, 1, sample) with a convolution, and a layer that gives (clip, time, channel)."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(1, 2, 8, stride=8)
        self.frames = nn.Linear(2, 2)

    def forward(self, inputs):
        return self.frames(self.convolution(inputs).mT).mean(1)


@pytest.mark.parametrize(
    ("transform", "fields", "layer", "message"),
    [
        (lambda w: w[None], {}, "convolution", "expected channels on axis 1 of 'convolution'"),
        (
            lambda w: w[None, ::2],
            {},
            None,
            r"for each of the 800 samples of a clip.* gives 400 \(shape \(1, 400",
        ),
        (lambda w: w[None], {"input_layout": None}, None, "a channel axis need input_layout='n c t'"),
    ],
)
def test_waveforms_and_layers_that_do_not_fit(transform, fields, layer, message, tmp_path):
    found = annotated(tmp_path)
    model = OfSamples().eval()
    fields = {"input_layout": "n c t", "layout": "n t c -> n c 1 t", "length": bursts.RATE, "exclusive": False} | fields
    speech = Classifier(model, transform, bursts.RATE, bursts.CLASSES, layer=model.frames, **fields)
    with pytest.raises(ValueError, match=message):
        AnnotatedStage.of(speech, found, {}, layer=layer)


def test_recordings_are_a_folder_a_file_or_a_table(tmp_path):
    bursts.write_recordings(tmp_path / "north", {"b.wav": [], "a.wav": []}, 0.1)
    (tmp_path / "list.csv").write_text("file,label\nnorth/b.wav,low\n")
    own = bursts.classifier()
    assert recordings_at(tmp_path, own) == Recordings(tmp_path, ("north/a.wav", "north/b.wav"))
    assert recordings_at(tmp_path / "north" / "b.wav", own) == Recordings(tmp_path / "north", ("b.wav",))
    assert recordings_at(tmp_path / "list.csv", own) == Recordings(tmp_path, ("north/b.wav",))
    with pytest.raises(FileNotFoundError, match="expected audio files, which end in .*nowhere, but there is none"):
        recordings_at(tmp_path / "nowhere", own)


def test_the_table_says_over_how_many_clips_a_measure_is_defined(tmp_path):
    found = annotated(tmp_path, SHORT | {"d.wav": [("low", 0.0, 1.0)]})
    rows, statuses = truth_rows(AnnotatedStage.of(bursts.classifier(), found, {}), ["random", "energy"])
    lines = truth_lines(rows, statuses)
    assert lines.groupby("measure")["clips"].unique().str[0].to_dict() == dict.fromkeys(MEASURES, 5) | {
        "segment_auroc": 4
    }
    text = truth_section(lines, "about").text
    assert any(each.startswith("Over fewer clips") and each.endswith(": AUC, segments (4).") for each in text)


@pytest.mark.parametrize(("n_clips", "cell"), [(2, "0.50 (0.20) ↑"), (3, "0.50 [0.10, 1.03] (0.20) ↑")])
def test_a_mean_of_two_clips_has_no_interval(n_clips, cell):
    line = {"method": "energy", "measure": "pointing", "status": "ok", "clips": n_clips, "mean": 0.5, "low": 0.1}
    line |= {"high": 1.03, "chance": 0.2, "above_low": 0.1}
    (table,) = truth_section(pd.DataFrame([line]), "about").tables.values()
    assert table["pointing game"].tolist() == [cell]
