"""One object from a classifier and recordings to explanations, tables and a page."""

import csv
import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from captum_apex import (
    APEX,
    SCHEMES,
    Box,
    Classifier,
    Clip,
    Evidence,
    ExplainedClips,
    Explainer,
    Explanation,
    FeatureBank,
    Recordings,
    Region,
    RegionEffect,
    RegionSearch,
    Scheme,
    SpectrogramAxes,
    explain,
    fit_basis,
    listening,
)
from captum_apex.explaining.explained_clips import COLUMNS
from captum_apex.recordings import Slices
from captum_apex.report import Page
from captum_apex.texts import short_names

RATE = 8000
CLASSES = ["dog", "rain", "siren"]
SHARED = {"n_prototypes": 2, "search": None}


def sound(hertz, seconds=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(RATE * seconds)) / RATE
    return 0.3 * torch.sin(2 * torch.pi * hertz * time) + 0.01 * torch.randn(len(time), generator=generator)


def transform(waveform):
    """(sample,) → (1, frequency, time), in dB / 40."""
    spectrum = torch.stft(waveform, 256, 128, window=torch.hann_window(256), return_complex=True)
    return 0.5 * spectrum.abs().clamp_min(1e-2).log10()[None]


@pytest.fixture(scope="module")
def classifier():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Sequential(nn.Conv2d(1, 6, 5, stride=4, padding=2), nn.ReLU())
        model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    axes = SpectrogramAxes(RATE, 256, 128)
    return Classifier(
        model,
        transform,
        RATE,
        CLASSES,
        axes,
        decibels=lambda inputs: inputs[0] * 40,
        length=RATE // 2,
        layer=layer,
        exclusive=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for index in range(9):
        path = folder / CLASSES[index % 3] / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        listening.write(path, sound(500 + 300 * index, seed=index), RATE)
    return folder


@pytest.fixture(scope="module")
def recordings(folder):
    return Recordings.in_folder(folder, CLASSES)


@pytest.fixture(scope="module")
def explainer(classifier, recordings):
    return Explainer.fit(classifier, recordings)


def test_the_object_gives_what_the_single_steps_give(classifier, recordings, explainer):
    inputs = classifier.dataset(recordings)
    bank = FeatureBank.from_dataset(classifier.model, classifier.layer, inputs)
    new = sound(1000, seed=20)
    explained = explainer.explain(new, n_prototypes=2)
    assert list(explainer.bases) == list(SCHEMES)
    for scheme, explanation in zip(SCHEMES, explained[0].explanations, strict=True):
        basis = fit_basis(bank, scheme, n_prototypes=(9, 5))
        assert torch.equal(explainer.bases[scheme].U, basis.U)
        apex = APEX(classifier.model, classifier.layer, basis)
        alone = explain(apex, transform(new)[None], n_prototypes=2, search=RegionSearch(), dataset=inputs)[0]
        assert alone == explanation
    for index, clip in explained[0].shown_prototypes.items():
        assert clip.name == recordings.name(index)
        assert torch.equal(clip.waveform, inputs.waveform(index))


def test_clips_come_in_every_form(folder, recordings, explainer):
    path = recordings.path(0)
    waveform = explainer.classifier.waveform(path)
    expected = explainer.explain(path, **SHARED)[0].explanations
    forms = [str(path), [path], waveform, [waveform], waveform.numpy(), iter([waveform.double()])]
    for form in forms:
        explained = explainer.explain(form, **SHARED)
        assert explained[0].explanations == expected
    assert [page.clip.name for page in explainer.explain(list(torch.stack([waveform] * 2)), **SHARED)] == [
        "clip 1",
        "clip 2",
    ]
    for form in (np.array([str(path)] * 2), pd.Series([str(path)] * 2)):
        assert [page.explanations for page in explainer.explain(form, **SHARED)] == [expected] * 2
    names = [recordings.name(index) for index in (0, 1, 2, 4)]
    assert [page.clip.name for page in explainer.explain([folder / "dog", names[3]], **SHARED)] == names
    for form in (recordings, folder):
        explained = explainer.explain(form, **SHARED)
        assert [page.clip.name for page in explained] == [recordings.name(index) for index in range(9)]
        assert [page.clip.label for page in explained] == [CLASSES[label] for label in recordings.labels]
        assert explained[0].explanations == expected


@pytest.mark.parametrize(
    "clips", [3, [3], torch.zeros(1, 2, 100), [torch.zeros(2, 100)], torch.zeros(5).int(), None, torch.tensor(1.0)]
)
def test_what_is_no_clip_is_refused(explainer, clips):
    with pytest.raises(TypeError, match="expected .*path.*waveform.*, but got"):
        explainer.explain(clips)
    with pytest.raises(ValueError, match="at least one clip"):
        explainer.explain([])


@pytest.mark.parametrize("clips", [torch.zeros(2, 4000), np.zeros((2, 4000)), [torch.zeros(2, 4000)]])
def test_an_array_of_two_axes_is_refused_because_it_can_be_stereo_or_several_clips(explainer, clips):
    several = r"several clips as a list, `list\(array\)`, and a stereo waveform as its mean, `array.mean\(0\)`"
    with pytest.raises(TypeError, match=rf"expected .*, but got .* of shape \(2, 4000\); give {several}"):
        explainer.explain(clips)


def test_integer_samples_are_refused_with_their_type_and_the_cure(explainer):
    with pytest.raises(TypeError, match=r"Tensor of torch.int16 of shape \(4000,\); divide 16-bit samples by 32768"):
        explainer.explain(torch.zeros(4000, dtype=torch.int16))


def test_classes_are_chosen_by_name_index_or_threshold(explainer):
    clip = sound(1000)
    for target in ("siren", 2, ["siren"], ["2", "siren", 2], np.int64(2)):
        explained = explainer.explain(clip, target, **SHARED)
        assert [page.target for page in explained] == [2]
    assert [page.target for page in explainer.explain(clip, ["siren", 0], **SHARED)] == [2, 0]
    scores = torch.tensor(explainer.explain(clip, **SHARED)[0].scores)
    assert explainer.explain(clip, **SHARED)[0].target == scores.argmax()
    first, second = scores.sort(descending=True).indices[:2].tolist()
    threshold = scores.sigmoid()[second].item()
    assert [page.target for page in explainer.explain(clip, threshold=threshold - 1e-6, **SHARED)] == [first, second]
    assert [page.target for page in explainer.explain(clip, threshold=1.0, **SHARED)] == [first]
    with pytest.raises(ValueError, match="a class or a number from 0 to 2, but got 'sirene'; there are: siren"):
        explainer.explain(clip, "sirene")


@pytest.mark.parametrize(("exclusive", "function"), [(True, "softmax"), (False, "sigmoid"), (None, None)])
def test_a_page_has_the_probabilities_of_a_classifier_that_knows_them(explainer, exclusive, function):
    classifier = replace(explainer.classifier, exclusive=exclusive)
    page = Explainer(classifier, explainer.bases.values()).explain(sound(1000), "rain", search=None)[0]
    if function is None:
        assert (page.probabilities, page.probability) == ([], None)
        return
    probabilities = classifier.probabilities(torch.tensor(page.scores))
    torch.testing.assert_close(torch.tensor(page.probabilities), probabilities)
    assert page.probability == page.probabilities[CLASSES.index("rain")]


def test_names_are_shown_without_the_folder_that_all_are_in():
    assert short_names(["/tmp/x/dog/a.wav", "/tmp/x/rain/a.wav"]) == ["dog/a.wav", "rain/a.wav"]
    assert short_names(["/tmp/x/a.wav", "clip 2", "/tmp/x/b.wav"]) == ["a.wav", "clip 2", "b.wav"]
    assert short_names(["/tmp/a.wav", "x/b.wav"]) == ["/tmp/a.wav", "x/b.wav"]
    assert short_names(["a.wav", "row 3"]) == ["a.wav", "row 3"]
    assert short_names([]) == []


@pytest.mark.parametrize("progress", [False, True])
def test_the_writing_of_a_page_shows_its_progress(explainer, tmp_path, monkeypatch, capsys, progress):
    monkeypatch.setattr("captum_apex.report.encoding._SECONDS_WITHOUT_BAR", 0.0)
    explained = explainer.explain(sound(1000), n_channels=1, **SHARED)
    explained.write(tmp_path / "page.html", progress=progress)
    assert ("writing about" in capsys.readouterr().err) == progress


def test_the_tables_have_a_row_for_each_channel(recordings, explainer, tmp_path):
    explained = explainer.explain([recordings.path(0), recordings.path(1)], n_channels=2, n_prototypes=2)
    rows = explained.rows()
    evidence = [
        (page, explanation, channel)
        for page in explained
        for explanation in page.explanations
        for channel in explanation.evidence
    ]
    assert len(rows) == len(evidence) > 8
    for row, (page, explanation, channel) in zip(rows, evidence, strict=True):
        assert list(row) == list(COLUMNS)
        assert (row["clip"], row["scheme"], row["channel"]) == (page.clip.name, explanation.scheme, channel.channel)
        assert row["contribution"] == pytest.approx(channel.contribution, rel=1e-5)
        places = [page.clip.place(box) for box in channel.region.boxes]
        if explanation.scheme == "frequency":
            assert row["start_s"] is None
        else:
            assert row["start_s"] == pytest.approx(min(place.start for place in places), rel=1e-5)
        if explanation.scheme == "time":
            assert row["high_hz"] is None
        else:
            assert row["high_hz"] == pytest.approx(max(place.high for place in places), rel=1e-5)
        assert [box["start_s"] for box in row["boxes"]] == [
            None if box.start <= 0 and box.end >= 1 else pytest.approx(page.clip.place(box).start, rel=1e-5)
            for box in sorted(channel.region.boxes, key=lambda box: (box.start, box.low))
        ]
        assert row["channel_falls"] == pytest.approx(channel.effect.channel, rel=1e-5)
        names = [recordings.name(prototype.index) for prototype in channel.prototypes]
        assert [prototype["clip"] for prototype in row["prototypes"]] == names
    assert json.loads(explained.write_json(tmp_path / "evidence.json").read_text()) == rows
    with open(explained.write_csv(tmp_path / "evidence.csv"), newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["channel"] for line in lines] == [str(row["channel"]) for row in rows]
    assert [line["boxes"].count(";") + 1 for line in lines] == [len(row["boxes"]) for row in rows]
    assert lines[0]["prototypes"] == "; ".join(prototype["clip"] for prototype in rows[0]["prototypes"])


def test_a_row_is_the_evidence_in_seconds_and_hertz():
    """Two boxes, of which neither has all outer edges, and different shares of the channel."""
    clip = Clip.from_waveform(torch.ones(8000), 8000, name="new.wav", label="rain")
    region = Region((Box(low=0.25, high=0.5, start=0.1, end=0.75), Box(low=0.0, high=0.75, start=0.5, end=0.6)))
    effect = RegionEffect(0.5, random=(0.5, 0.75), score=2.5, fires_on="silence", fires_elsewhere=True)
    cell = Region((Box(low=0.0, high=1.0, start=0.25, end=0.375),))
    evidence = Evidence(17, -1, 2.5, -0.5, 0.9, region, (), cell=cell, effect=effect)
    explanation = Explanation(Scheme("square"), 0, 4.0, 0.5, (evidence,), total=3.5)
    scores = [math.log(7.0), 0.0]
    rows = ExplainedClips((Page(clip, [explanation], {}, ["dog", "rain"], scores, exclusive=True),)).rows()
    assert rows == [
        {
            "clip": "new.wav",
            "label": "rain",
            "explained": "dog",
            "score": 4.0,
            "probability": 0.875,
            "silence_probability": None,
            "scheme": "square",
            "channel": 17,
            "side": -1,
            "contribution": 2.5,
            "purity": 0.9,
            "start_s": 0.1,
            "end_s": 0.75,
            "low_hz": 0.0,
            "high_hz": 3000.0,
            "boxes": [
                {"start_s": 0.1, "end_s": 0.75, "low_hz": 1000.0, "high_hz": 2000.0},
                {"start_s": 0.5, "end_s": 0.6, "low_hz": 0.0, "high_hz": 3000.0},
            ],
            "channel_falls": 0.5,
            "random_falls": 0.625,
            "score_falls": 2.5,
            "doubts": "no better than a random place (up to 75%), fires on silence, fires more strongly elsewhere",
            "fires_at": [{"start_s": 0.25, "end_s": 0.375, "low_hz": None, "high_hz": None}],
            "prototypes": [],
            "silent": False,
        }
    ]


@pytest.mark.parametrize("repeats", [None, 0.5])
def test_a_region_has_no_band_in_time_and_no_time_in_frequency(repeats, tmp_path):
    """Two boxes in each scheme; in `square` each side is given, as long as one box has it."""
    levels = torch.rand(129, 63)
    clip = Clip(levels, SpectrogramAxes(RATE, 256, 128), torch.rand(8000), name="new.wav", repeats=repeats)
    boxes = {
        "time": [(0.0, 1.0, 0.1, 0.2), (0.0, 1.0, 0.3, 0.4)],
        "frequency": [(0.25, 0.5, 0.0, 1.0), (0.625, 0.75, 0.0, 1.0)],
        "square": [(0.0, 1.0, 0.1, 0.2), (0.25, 0.5, 0.3, 0.4)],
    }
    explanations = []
    for scheme, sides in boxes.items():
        region = Region(tuple(Box(*each) for each in sides))
        channel = Evidence(0, 1, 1.0, 1.0, 0.9, region, ())
        explanations.append(Explanation(Scheme(scheme), 0, 1.0, 0.0, (channel,), total=1.0))
    explained = ExplainedClips((Page(clip, explanations, {}, CLASSES),))
    with open(explained.write_csv(tmp_path / "evidence.csv"), newline="") as file:
        lines = list(csv.DictReader(file))
    rows = explained.rows()
    assert json.loads(explained.write_json(tmp_path / "evidence.json").read_text()) == rows
    for row, line, (scheme, sides) in zip(rows, lines, boxes.items(), strict=True):
        has_time = scheme != "frequency"
        assert (row["start_s"] is None, row["end_s"] is None) == (not has_time,) * 2
        assert (line["start_s"] == "", line["end_s"] == "") == (not has_time,) * 2
        if has_time:
            assert row["start_s"] == pytest.approx(clip.seconds(sides[0][2]), abs=1e-5)
            assert row["end_s"] == pytest.approx(clip.seconds(sides[1][3]), abs=1e-5)
        has_band = scheme != "time"
        assert (row["low_hz"] is None, row["high_hz"] is None) == (not has_band,) * 2
        assert (line["low_hz"] == "", line["high_hz"] == "") == (not has_band,) * 2
    assert rows[1]["low_hz"] == pytest.approx(clip.hertz(0.25), rel=1e-5)
    assert rows[1]["high_hz"] == pytest.approx(clip.hertz(0.75), rel=1e-5)


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        # A second of a file of half a second: over the seam at 0.5 s; in two turns at one place; over all of the file.
        ([(0.0, 1.0, 0.45, 0.55)], [(None, None, 0.0, 0.05), (None, None, 0.45, 0.5)]),
        ([(0.0, 1.0, 0.1, 0.2), (0.0, 1.0, 0.6, 0.7)], [(None, None, 0.1, 0.2)]),
        ([(0.0, 1.0, 0.25, 0.75)], [(None, None, None, None)]),
        ([(0.25, 0.5, 0.2, 0.8)], [(1000.0, 2000.0, None, None)]),
        ([(0.25, 0.5, 0.0, 1.0)], [(1000.0, 2000.0, None, None)]),
        # Three boxes of which two fall together and one is cut in two: each keeps its own band.
        (
            [(0.25, 0.5, 0.1, 0.2), (0.25, 0.5, 0.6, 0.7), (0.0, 1.0, 0.45, 0.55)],
            [(None, None, 0.0, 0.05), (1000.0, 2000.0, 0.1, 0.2), (None, None, 0.45, 0.5)],
        ),
    ],
)
def test_a_region_in_a_repeated_file_has_the_places_of_the_file(sides, expected):
    """A clip of samples, of which fractions are seconds and half of the rate."""
    waveform = torch.rand(4000).repeat(2)
    clip = replace(Clip.from_waveform(waveform, RATE, name="new.wav"), repeats=0.5)
    region = Region(tuple(Box(*each) for each in sides))
    explanation = Explanation(Scheme("square"), 0, 1.0, 0.0, (Evidence(0, 1, 1.0, 1.0, 0.9, region, ()),), total=1.0)
    (row,) = ExplainedClips((Page(clip, [explanation], {}, CLASSES),)).rows()
    boxes = [(box["low_hz"], box["high_hz"], box["start_s"], box["end_s"]) for box in row["boxes"]]
    assert len(boxes) == len(expected)
    for box, wanted in zip(boxes, expected, strict=True):
        assert [value is None for value in box] == [value is None for value in wanted]
        assert [value for value in box if value is not None] == pytest.approx(
            [value for value in wanted if value is not None], abs=1e-5
        )
    known = [box for box in expected if box[2] is not None]
    hull = (min(box[2] for box in known), max(box[3] for box in known)) if known else (None, None)
    assert (row["start_s"], row["end_s"]) == (pytest.approx(hull, abs=1e-5) if known else hull)


def test_a_region_that_ends_at_a_seam_has_one_place_in_tables_prints_and_pages(tmp_path):
    """A second that fills a clip of three: 0.2 of the clip, up to its end, lies in the third turn from 0.4 s on."""
    clip = Clip.from_waveform(torch.rand(44100).repeat(3) - 0.5, 44100, name="new.wav")
    clip = replace(clip, repeats=1.0)
    evidence = Evidence(0, 1, 1.0, 1.0, 0.9, Region((Box(0.0, 1.0, 0.8, 1.0),)), ())
    explanation = Explanation(Scheme("time"), 0, 1.0, 0.0, (evidence,), total=1.0)
    explained = ExplainedClips((Page(clip, [explanation], {}, CLASSES),))
    (box,) = explained.rows()[0]["boxes"]
    assert (box["start_s"], box["end_s"]) == (0.4, 1.0)
    assert "0.40–1.00 s" in str(explained[0])
    assert "0.40–1.00 s" in explained.write(tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_count_is_of_clips_and_of_explanations_where_they_differ(explainer):
    new = sound(1000, seed=20)
    titles = [
        repr(explainer.explain(clips, target, **SHARED)).splitlines()[0]
        for clips, target in ((new, None), (new, ["dog", "rain"]), ([new, new], ["dog", "rain"]), ([new, new], "dog"))
    ]
    assert titles == [
        "1 explained clip",
        "1 explained clip, 2 explanations",
        "2 explained clips, 4 explanations",
        "2 explained clips",
    ]


def test_names_are_text_for_a_spreadsheet(tmp_path):
    clip = Clip.from_waveform(torch.ones(8000), 8000, name="=cmd.wav", label="-3 dB\n")
    evidence = Evidence(17, -1, -2.5, -0.5, 0.9, Region((Box(low=0.0, high=1.0, start=0.0, end=0.5),)), ())
    explanation = Explanation(Scheme("time"), 0, -4.0, 0.5, (evidence,), total=3.5)
    explained = ExplainedClips((Page(clip, [explanation], {}, ["@dog", "rain"]),))
    with open(explained.write_csv(tmp_path / "evidence.csv"), newline="") as file:
        (line,) = csv.DictReader(file)
    assert (line["clip"], line["label"], line["explained"]) == ("'=cmd.wav", "'-3 dB", "'@dog")
    assert (line["score"], line["contribution"]) == ("-4.0", "-2.5")
    assert json.loads(explained.write_json(tmp_path / "evidence.json").read_text())[0]["clip"] == "=cmd.wav"


def test_the_page_has_every_clip_with_its_prototypes(recordings, explainer, tmp_path):
    explained = explainer.explain(recordings.path(0), n_channels=1, n_prototypes=1)
    page = explained.write(tmp_path / "page.html", title="Why?").read_text()
    assert "<title>Why?" in page
    shown = next(iter(explained[0].shown_prototypes.values()))
    assert Path(shown.name).name in page


def test_bases_are_kept_and_found_again(classifier, recordings, explainer, tmp_path):
    paths = explainer.save(tmp_path / "bases")
    assert [path.name for path in paths] == [f"{scheme}.safetensors" for scheme in SCHEMES]
    loaded = Explainer.load(tmp_path / "bases", classifier, recordings)
    clip = sound(900)
    assert loaded.explain(clip, **SHARED)[0].explanations == explainer.explain(clip, **SHARED)[0].explanations
    alone = Explainer.load(paths[1], classifier)
    evidence = alone.explain(clip, search=None)[0].explanations[0].evidence
    assert evidence
    assert all(channel.prototypes == () for channel in evidence)


def test_located_bases_keep_the_regions_of_prototypes(explainer, recordings):
    located = Explainer(explainer.classifier, [explainer.bases["time"]], recordings).located(2)
    boxes = located.bases["time"].positive.boxes
    assert (boxes[:, :2, 0, 0] >= 0).all()
    page = explainer.explain(sound(900), n_prototypes=2)[0]
    kept = located.explain(sound(900), n_prototypes=2)[0].explanations[0]
    scheme = next(explanation for explanation in page.explanations if explanation.scheme == "time")
    for one, other in zip(kept.evidence, scheme.evidence, strict=True):
        for prototype, expected in zip(one.prototypes, other.prototypes, strict=True):
            assert prototype.region == expected.region


def prototypes_of(explained):
    """The names of the prototypes of each channel."""
    page = explained[0]
    return [
        [page.shown_prototypes[prototype.index].name for prototype in channel.prototypes]
        for explanation in page.explanations
        for channel in explanation.evidence
    ]


@pytest.mark.parametrize("form", ["file", "another path", "copy", "waveform", "link"])
@pytest.mark.parametrize("search", [None, RegionSearch(n_random=0)])
def test_a_training_clip_is_no_prototype_of_itself(explainer, recordings, tmp_path, form, search):
    """With the 5 prototypes that the bases keep, the 3 best of the others are shown."""
    few = Explainer(explainer.classifier, [explainer.bases["time"]], recordings)
    path = recordings.path(4)
    clip = {
        "file": path,
        "another path": path.parent / ".." / path.parent.name / path.name,
        "copy": tmp_path / "copy.wav",
        "waveform": explainer.classifier.waveform(path),
        "link": tmp_path / "link.wav",
    }[form]
    (tmp_path / "copy.wav").write_bytes(path.read_bytes())
    (tmp_path / "link.wav").symlink_to(path)
    explained = few.explain(clip, "rain", n_prototypes=3, search=search)
    prototypes = explainer.bases["time"].positive
    n_own = 0
    for channel in explained[0].explanations[0].evidence:
        others = [index for index in prototypes.indices[channel.channel].tolist() if index != 4]
        n_own += len(others) < 5
        assert [prototype.index for prototype in channel.prototypes] == others[:3]
    assert n_own  # it would have been one
    assert explained[0].clip.label == ("rain" if form in ("file", "another path") else "")


def test_a_clip_of_the_same_name_is_no_training_clip(explainer, recordings, tmp_path):
    path = tmp_path / recordings.path(4).name
    listening.write(path, sound(1500, seed=30), RATE)
    page = explainer.explain(path, **SHARED)[0]
    assert page.clip.label == ""
    assert prototypes_of([page]) == prototypes_of(explainer.explain(sound(1500, seed=30), **SHARED))


def test_the_only_prototype_may_be_the_clip_itself(classifier, recordings):
    bank = FeatureBank.from_dataset(classifier.model, classifier.layer, classifier.dataset(recordings))
    explainer = Explainer(classifier, [fit_basis(bank, "time", epochs=1, n_prototypes=(2, 1))], recordings)
    shown = [prototypes_of(explainer.explain(recordings.path(index), search=None)) for index in range(9)]
    assert [] in [names for of_clip in shown for names in of_clip]
    for index, of_clip in enumerate(shown):
        assert recordings.name(index) not in [name for names in of_clip for name in names]


def test_no_regions_are_searched_for_in_place_of_those_that_are_kept(explainer, recordings, monkeypatch):
    """Two prototypes have regions; with one of them left out, one is shown."""
    located = Explainer(explainer.classifier, [explainer.bases["time"]], recordings).located(2)
    monkeypatch.setattr("captum_apex.explanations.evidence_regions.PrototypeRegions", None)
    explained = located.explain(recordings, n_prototypes=2)
    assert {len(names) for index in range(9) for names in prototypes_of(explained[index : index + 1])} == {1, 2}


def test_regions_of_prototypes_are_searched_for_once_for_all_clips_and_calls(classifier, explainer, recordings):
    """A second clip of the class costs the passes of the clip alone; with another search, regions are found anew."""
    few = Explainer(classifier, [explainer.bases["time"]], recordings)
    search = RegionSearch(n_random=0)
    few.explain(sound(900), search=None)  # the first explanation asks once what the model says of silence
    copies = []
    handle = classifier.layer.register_forward_hook(lambda _, inputs, __: copies.append(len(inputs[0])))
    counts = []
    for settings in (search, search, None, search, RegionSearch(n_random=1), search):
        copies.clear()
        explained = few.explain(sound(900), "rain", n_prototypes=2, search=settings)
        counts.append(sum(copies))
    handle.remove()
    first, again, cells, kept, other, anew = counts
    assert first == anew
    assert cells < again == kept < first < other
    fresh = Explainer(classifier, [explainer.bases["time"]], recordings)
    assert explained.rows() == fresh.explain(sound(900), "rain", n_prototypes=2, search=search).rows()


def test_wrong_parts_are_refused(classifier, folder, recordings, explainer, tmp_path):
    bases = list(explainer.bases.values())
    with pytest.raises(ValueError, match="at least one basis"):
        Explainer(classifier, [])
    with pytest.raises(ValueError, match="one basis per scheme, but got 'time', 'time'"):
        Explainer(classifier, [explainer.bases["time"]] * 2)
    fewer = Recordings(recordings.folder, recordings.names[:8], recordings.labels[:8], recordings.class_names)
    with pytest.raises(ValueError, match="the 9 recordings that the basis for 'square' was fitted on, but got 8"):
        Explainer(classifier, bases, fewer)
    paths = explainer.save(tmp_path)
    with pytest.raises(ValueError, match=f"the 9 recordings that {paths[0]} was fitted on, but got 8"):
        Explainer.load(tmp_path, classifier, fewer)
    turned = Recordings(recordings.folder, recordings.names[::-1], recordings.labels[::-1], recordings.class_names)
    with pytest.raises(ValueError, match="names or sizes of files differ"):
        Explainer(classifier, bases, turned)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten())
    with pytest.raises(ValueError, match="the basis for 'square' does not fit this model"):
        Explainer(Classifier(model, transform, RATE, CLASSES), bases)
    with pytest.raises(ValueError, match="expected `layer`, or a Classifier with a `layer`"):
        Explainer.fit(Classifier(classifier.model, transform, RATE, CLASSES, length=RATE // 2), recordings)
    with pytest.raises(ValueError, match="an Explainer with `recordings`"):
        Explainer(classifier, bases).located()


def test_a_bank_of_the_classifiers_data_set_knows_its_recordings(classifier, recordings):
    bank = FeatureBank.from_dataset(classifier.model, classifier.layer, classifier.dataset(recordings))
    assert bank.origin.dataset == recordings.fingerprint()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Explainer(classifier, [fit_basis(bank, "time", epochs=1, n_prototypes=(2, 2))], recordings)


@pytest.mark.parametrize(("n_samples", "is_cut"), [(4040, False), (4041, True), (4300, True)])
def test_sounds_that_are_more_than_one_percent_longer_are_cut_with_a_warning(explainer, tmp_path, n_samples, is_cut):
    """Clips have 4000 samples; up to 40 more are left out without a word."""
    waveform = sound(1000, seconds=1.0)[:n_samples]
    listening.write(tmp_path / "longer.wav", waveform, RATE)
    for clip in (waveform, tmp_path / "longer.wav"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            explainer.explain(clip, **SHARED)
        messages = [str(warning.message) for warning in caught]
        assert [message for message in messages if "only their first 0.5 s are explained" in message] == (
            messages if is_cut else []
        )
        assert len(messages) == is_cut


def test_zeros_after_the_end_of_a_short_clip_are_told_from_its_own(classifier, explainer, tmp_path):
    """A sound of 0.2 s, whose last 0.05 s are its own silence, in a file, in memory and as a recording."""
    waveform = torch.cat([sound(1000, seconds=0.15), torch.zeros(400)])
    listening.write(tmp_path / "short.wav", waveform, RATE)
    for clip in (tmp_path / "short.wav", waveform, Recordings.in_folder(tmp_path)):
        explained = explainer.explain(clip, **SHARED)
        shown = explained[0].clip
        assert shown.ends == 0.2
        assert shown.filled_text == "filled with zeros after 0.20 s"
        assert repr(explained).endswith(", filled with zeros after 0.20 s")
        assert len(shown.waveform) == RATE // 2
        last = max(frame for frame in range(32) if (frame * 128 - 128) < 1600)  # the last window that has a sample
        assert shown.heard.shape[1] == last + 1
    assert classifier.clip(tmp_path / "short.wav").ends == 0.2
    whole = torch.cat([sound(1000, seconds=0.3), torch.zeros(1600)])
    assert explainer.explain(whole, **SHARED)[0].clip.ends is None  # its own silence
    alone = classifier.fitted(waveform)
    assert torch.equal(explainer.explain(waveform, **SHARED)[0].clip.waveform, alone)


def test_a_row_says_whether_its_region_is_silent(classifier, tmp_path):
    """A sound of 0.1 s in a clip of 0.5 s: the second channel is strongest where the sound has ended."""
    clip = classifier.drawn_whole(sound(1000, seconds=0.1))
    regions = [Region((Box(low=0.0, high=1.0, start=start, end=start + 0.1),)) for start in (0.0, 0.5)]
    evidence = tuple(Evidence(index, 1, 1.0, 1.0, 0.9, region, ()) for index, region in enumerate(regions))
    explained = ExplainedClips((Page(clip, [Explanation(Scheme("time"), 0, 2.0, 0.0, evidence, 2.0)], {}, CLASSES),))
    assert [row["silent"] for row in explained.rows()] == [False, True]
    with open(explained.write_csv(tmp_path / "evidence.csv"), newline="") as file:
        assert [line["silent"] for line in csv.DictReader(file)] == ["no", "yes"]


def test_a_waveform_has_the_length_of_the_classifiers_clips(explainer):
    waveform = sound(1000, seconds=0.7)
    with pytest.warns(UserWarning, match=r"only their first 0\.5 s are explained"):
        page = explainer.explain(waveform, **SHARED)[0]
    assert torch.equal(page.clip.waveform, waveform[: RATE // 2])
    short = explainer.explain(waveform[:1000], **SHARED)[0].clip.waveform
    assert torch.equal(short[:1000], waveform[:1000])
    assert not short[1000:].any()
    assert len(short) == RATE // 2
    with pytest.raises(ValueError, match="clip 1 .*NaN or infinity"):
        explainer.explain(torch.full((4000,), torch.nan))


@pytest.mark.parametrize(("threshold", "error"), [(1.5, ValueError), (float("nan"), ValueError), ("high", TypeError)])
def test_a_threshold_is_a_probability_and_not_beside_a_target(explainer, threshold, error):
    with pytest.raises(error, match="expected `threshold`"):
        explainer.explain(sound(1000), threshold=threshold)
    with pytest.raises(ValueError, match="either `target` or `threshold`"):
        explainer.explain(sound(1000), "dog", threshold=0.5)


class Tagger(nn.Module):
    """It takes clips padded to one length, and their lengths."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, (129, 2), stride=(1, 2)), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, inputs, lengths):
        features = self.features(inputs).mean(2)
        n_columns = lengths // 2
        inside = torch.arange(features.shape[-1]) < n_columns[:, None]
        return self.head((features * inside[:, None]).sum(-1) / n_columns[:, None])


def test_a_model_that_takes_lengths_gets_them(tmp_path):
    """Recordings of several lengths: each is explained as it is alone, with its own length."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tagger().eval()
    tagger = Classifier(
        model,
        transform,
        RATE,
        CLASSES,
        SpectrogramAxes(RATE, 256, 128),
        layer=model.features,
        decibels=lambda inputs: inputs[0] * 40,
        columns=lambda lengths: lengths // 2,
        exclusive=False,
    )
    for index in range(6):
        listening.write(tmp_path / f"{index}.wav", sound(500 + 300 * index, 0.4 + 0.1 * index, index), RATE)
    recordings = Recordings.in_folder(tmp_path)
    explainer = Explainer.fit(tagger, recordings, ["time"]).located(2)
    page = explainer.explain(recordings.path(5), n_channels=1, n_prototypes=2)[0]
    inputs = transform(tagger.waveform(recordings.path(5)))[None]
    lengths = torch.tensor([inputs.shape[-1]])
    with torch.no_grad():
        assert page.scores == pytest.approx(model(inputs, lengths)[0].tolist())
    apex = APEX(model, model.features, explainer.bases["time"], columns=tagger.columns)
    alone = explain(apex, inputs, None, lengths, n_channels=1, n_prototypes=2)[0]
    assert page.explanations[0] == alone
    found = explainer.explain_recording(recordings.path(5), window=0.5, hop=0.25, threshold=0.1)
    assert found.events


def test_a_folder_is_read_by_the_classes_of_the_classifier(explainer, tmp_path):
    """Its sub-folders are named as mirrors of ESC-10 name them, and not all classes are there."""
    (tmp_path / "002_rain").mkdir()
    listening.write(tmp_path / "002_rain" / "a.wav", sound(700), RATE)
    assert explainer.explain(tmp_path, **SHARED)[0].clip.label == "rain"


def test_a_clip_that_cannot_be_read_is_named_or_left_out(explainer, recordings, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_text("no sound")
    clips = [bad, recordings.path(0), tmp_path / "gone.wav"]
    with pytest.raises(
        ValueError, match=r"bad\.wav to be audio, but it cannot be read: .*; `skip_bad=True`, or --skip-bad"
    ):
        explainer.explain(clips, **SHARED)
    explained = explainer.explain(clips, skip_bad=True, **SHARED)
    assert [page.clip.name for page in explained] == [recordings.name(0)]
    assert [Path(name).name for name in explained.left_out] == ["bad.wav", "gone.wav"]
    assert "left out: 2" in repr(explained)
    with pytest.raises(ValueError, match="all 1 are bad"):
        explainer.explain(bad, skip_bad=True)


def test_a_recording_that_cannot_be_read_stops_a_fit_or_is_left_out_and_listed(classifier, tmp_path):
    for index in range(6):
        path = tmp_path / CLASSES[index % 3] / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        listening.write(path, sound(500 + 300 * index, seed=index), RATE)
    good = Recordings.in_folder(tmp_path, CLASSES)
    expected = Explainer.fit(classifier, good, ["time"], skip_bad=True)  # warnings are errors
    bad = tmp_path / "rain" / "3.wav"
    bad.write_text("no sound")
    recordings = Recordings.in_folder(tmp_path, CLASSES)
    message = r"3\.wav to be audio, but it cannot be read: .*; `skip_bad=True`, or --skip-bad on .* line, leaves out"
    with pytest.raises(ValueError, match=message) as error:
        Explainer.fit(classifier, recordings, ["time"])
    assert str(error.value).count("skip_bad") == 1
    with pytest.warns(UserWarning, match=r"^1 of 7 files are left out:\n  .*3\.wav: expected .* cannot be read"):
        explainer = Explainer.fit(classifier, recordings, ["time"], skip_bad=True)
    assert len(explainer.training) == 6
    torch.testing.assert_close(explainer.bases["time"].U, expected.bases["time"].U)
    assert torch.equal(explainer.bases["time"].prototype_indices, expected.bases["time"].prototype_indices)
    with pytest.raises(TypeError, match="expected Recordings with `skip_bad=True`.* got Slices; .* slice"):
        Explainer.fit(classifier, Slices.of(good, 0.5, hop=0.5), ["time"], skip_bad=True)
    for path in tmp_path.glob("*/*.wav"):
        path.write_text("no sound")
    with pytest.raises(ValueError, match="all 7 are bad, such as .*: expected .* to be audio"):
        Explainer.fit(classifier, recordings, ["time"], skip_bad=True)


@pytest.mark.parametrize("fitted", [True, False])
def test_the_progress_of_the_fit_holds_for_the_explainer(classifier, recordings, capsys, fitted):
    """Here the error stream is no terminal, where bars that nobody has asked for are left out."""
    explainer = Explainer.fit(classifier, recordings, ["time"], progress=fitted)
    capsys.readouterr()

    def said(call):
        call()
        return capsys.readouterr().err

    for progress, shown in ((None, fitted), (True, True), (False, False)):
        text = said(lambda: explainer.explain(sound(900), progress=progress, **SHARED))  # noqa: B023
        assert ("explaining:" in text) == shown
        text = said(lambda: explainer.located(1, progress=progress))  # noqa: B023
        assert ("locating time:" in text) == shown
    assert ("explaining:" in said(lambda: explainer.located(1).explain(sound(900), **SHARED))) == fitted
    assert ("explaining:" in said(lambda: explainer.explain_recording(sound(900, seconds=1.0)))) == fitted
    assert explainer.progress is (True if fitted else None)


def test_regions_are_counted_where_prototypes_are_located(explainer, recordings, capsys):
    few = Explainer(explainer.classifier, [explainer.bases["time"]], recordings)
    located = few.located(2, progress=True)
    n_regions = sum(
        int((side.boxes[:, :, 0, 0] >= 0).sum())
        for side in (located.bases["time"].positive, located.bases["time"].negative)
        if side is not None
    )
    assert f" {n_regions}/{n_regions} " in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [0.0, 40.0])
def test_after_the_first_of_several_clips_it_is_said_how_long_all_will_take(explainer, monkeypatch, capsys, seconds):
    times = iter([0.0, seconds])
    monkeypatch.setattr("captum_apex.explaining.clip_progress.perf_counter", lambda: next(times))
    explainer.explain([sound(900), sound(1200), sound(1500)], progress=True, **SHARED)
    said = "The first of 3 clips took 40 s: all will take up to about 2 minutes."
    assert (said in capsys.readouterr().err) == (seconds > 0)


@pytest.mark.parametrize("n_names", [2, 4])
@pytest.mark.parametrize("what", ["fit", "folder of clips"])
def test_another_number_of_class_names_than_of_scores_is_named_before_the_folders(
    classifier, explainer, folder, n_names, what
):
    names = [*CLASSES, "wind"][:n_names]
    other = replace(classifier, class_names=names)
    message = (
        rf"one score for each of the {n_names} classes, but got shape \(1, 3\); if all of its 3 scores are those of "
        rf"classes, give the Classifier 3 `class_names`, in the order of the scores; it has {n_names}"
    )
    with pytest.raises(ValueError, match=message):
        if what == "fit":
            Explainer.fit(other, Recordings.in_folder(folder, CLASSES), ["time"])
        else:
            Explainer(other, explainer.bases.values()).explain(folder)


def test_other_recordings_than_in_the_fit_are_answered_by_what_to_give(classifier, explainer, folder):
    fewer = Recordings.in_folder(folder / "dog")
    bases = explainer.bases.values()
    given = "give the folder or table of the fit, without files that came later, or fit again on these"
    with pytest.raises(ValueError, match=f"expected the 9 recordings .* but got 3; {given}$"):
        Explainer(classifier, bases, fewer)
    more = Slices.of(Recordings.in_folder(folder, CLASSES), 0.25, hop=0.25)
    with pytest.raises(ValueError, match=f"expected the 9 recordings .* but got 18; {given}; files that were left out"):
        Explainer(classifier, bases, more)


def test_a_recording_that_is_cut_is_warned_of(explainer, tmp_path):
    path = tmp_path / "night.wav"
    listening.write(path, sound(500, seconds=1.0), RATE)
    with pytest.warns(UserWarning, match=r"only their first 0\.5 s are explained; .*explain_recording"):
        explained = explainer.explain(path, **SHARED)
    assert len(explained[0].clip.waveform) == RATE // 2
    listening.write(path, sound(500, seconds=0.505), RATE)  # 1% longer; warnings are errors
    assert len(explainer.explain(path, **SHARED)) == 1


def test_an_error_has_a_note_with_the_clip(explainer, recordings):
    with pytest.raises(ValueError, match="`n_prototypes` from 1 to the 5") as caught:
        explainer.explain(recordings.path(0), n_prototypes=6)
    assert caught.value.__notes__ == [f"{recordings.name(0)} cannot be explained"]


def test_recordings_of_any_length_give_events(explainer):
    waveform = torch.cat([sound(500 + 300 * index, seed=index) for index in range(6)])
    with pytest.raises(ValueError, match="bases for 'square', 'time', .* name one, such as scheme=.time"):
        explainer.explain_recording(waveform)
    found = explainer.explain_recording(waveform, "time", threshold=0.3)
    assert found.duration == 3.0
    assert found.events
    longer = explainer.explain_recording(waveform, "time", window=1.0, hop=1.0, threshold=0.3)
    assert longer.times.shape[0] >= found.times.shape[0] / 2
    with pytest.raises(ValueError, match="expected `scheme` to be one of 'time'"):
        Explainer(explainer.classifier, [explainer.bases["time"]]).explain_recording(waveform, "square")


def test_the_text_of_each_result_says_what_it_is(explainer):
    assert repr(explainer).splitlines() == [
        "Explainer of Sequential, 3 classes",
        "  layer: 0",
        "  bases: square, time, frequency, time-frequency",
        "  prototypes from 9 recordings",
    ]
    explained = explainer.explain([sound(500 + index) for index in range(6)], "dog", **SHARED)
    lines = repr(explained).splitlines()
    assert lines[0] == "6 explained clips"
    assert lines[1].startswith("  clip 1: dog, score ")
    assert lines[-1] == "  … and 2 more"
    assert len(explained[1:3]) == 2


@pytest.mark.parametrize("odd", [None, 3, "text", [1], {"a": 1}, {1}, np.array([0.5])], ids=repr)
def test_arguments_of_other_types_are_refused_by_name(classifier, recordings, explainer, tmp_path, odd):
    bases = list(explainer.bases.values())
    with pytest.raises(TypeError, match=r"`classifier` to be a captum_apex\.Classifier, but got"):
        Explainer(odd, bases)
    with pytest.raises(TypeError, match=r"`classifier` to be a captum_apex\.Classifier, but got"):
        Explainer.fit(odd, recordings)
    with pytest.raises(TypeError, match="`bases` to be fitted bases, but got"):
        Explainer(classifier, odd)
    if odd is not None:
        with pytest.raises(TypeError, match=r"recordings, such as .* but got .*Recordings\.in_folder"):
            Explainer(classifier, bases, odd)
    with pytest.raises(TypeError, match="`names` to be a mapping such as"):
        explainer.write_names(tmp_path / "names.json", odd)
    with pytest.raises(TypeError, match="expected `title` to be a text"):
        explainer.explain(sound(1000), **SHARED).write(tmp_path / "page.html", title=odd if odd != "text" else 1)
    if odd != "text" and odd != {"a": 1}:
        with pytest.raises(TypeError, match="`paths` of files and folders of bases"):
            Explainer.load(odd, classifier)
        with pytest.raises(TypeError, match="expected `sides`"):
            explainer.explain(sound(1000), sides=odd)
    if odd != 3:
        with pytest.raises(TypeError, match="expected `n_prototypes`"):
            explainer.located(odd)


def test_one_scheme_may_be_named_without_a_list(classifier, recordings):
    assert list(Explainer.fit(classifier, recordings, "time").bases) == ["time"]
    with pytest.raises(TypeError, match="`schemes` to be the names of schemes, but got 1"):
        Explainer.fit(classifier, recordings, 1)
