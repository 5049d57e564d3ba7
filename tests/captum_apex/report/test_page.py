"""The page's file: its content and its size; what a reader sees of it is tested in test_page_in_browser."""

import base64
import dataclasses
import functools
import hashlib
import html
import io
import json
import math
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib.metadata import version

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from captum_apex import SCHEMES, Clip, ExplainedClips, RegionEffect, SpectrogramAxes, report
from captum_apex.cli.explain_command import _rows
from captum_apex.figures.colours import DASHED, LEVELS, REGIONS, TOWARDS, colour_steps
from captum_apex.report import content, document, encoding
from tests.pages import AXES, CLASSES, chirp, explanation, page

HOSTILE = "</script><script>window.hacked = 1</script><!--\u2028\ud800{{facts}}\"'&"


def facts_of(path):
    """The facts, with the pictures, which are in the part for browsers without scripts."""
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="facts">(.*?)</script>', text, re.DOTALL)
    pictures = re.findall(r'<img id="picture-(\w+)" src="([^"]+)"', text)
    assert len(dict(pictures)) == len(pictures)
    return {**json.loads(found[1]), "pictures": dict(pictures)}


def written(folder, *pages, **options):
    return facts_of(report.write(folder / "page.html", pages or [page()], **options))


def pixels(facts, name):
    """Colour indices of a picture, the lowest frequency first."""
    content = base64.b64decode(facts["pictures"][name].removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))[::-1].astype(float)


def sound_of(facts, sound):
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(facts["sounds"][sound["sound"]]["data"])))
    return torch.from_numpy(samples), rate


def test_a_pixel_of_the_picture_is_a_bin_of_the_spectrogram(tmp_path):
    subject = page()
    facts = written(tmp_path, subject)
    clip = facts["clips"][facts["pages"][0]["clip"]]
    span, high = facts["level"]["span"], clip["loudest"]
    assert high == pytest.approx(np.quantile(subject.clip.decibels.numpy(), 0.999))
    shown = high - span + pixels(facts, clip["picture"]) * span / 255
    levels = subject.clip.decibels.double()
    wanted = levels.clamp(high - span, high).numpy()
    assert shown.shape == wanted.shape
    above = (levels > levels.min() + 0.1).numpy()  # the lowest level has the lowest colour
    assert np.abs(shown - wanted)[above].max() <= span / 255 / 2 + 1e-6
    assert (shown[~above] == high - span).all()


def test_digital_silence_has_the_lowest_colour_in_loud_and_quiet_clips(tmp_path):
    """Half of each clip is silence, which lies 80 dB below the loudest level of the clip."""
    loud = torch.cat([chirp(1).waveform[:4000], torch.zeros(4000)])
    clips = [Clip.from_waveform(level * loud, 8000, name=f"{level}.wav") for level in (1.0, 1e-3)]
    pages = [page(clip=clip, maps={}, explanations=[explanation(SCHEMES[1])]) for clip in clips]
    facts = written(tmp_path, *pages)
    pictures = [pixels(facts, facts["clips"][shown["clip"]]["picture"]) for shown in facts["pages"]]
    for picture in pictures:
        assert (picture[:, 40:] == 0).all()
        assert picture[:, :28].max() == 255
    assert np.abs(pictures[0] - pictures[1]).max() <= 1  # a quiet clip is as legible as a loud one


def test_what_a_feature_extractor_has_filled_is_hatched_and_takes_no_colours(tmp_path):
    """As loud as the loudest sound, or much louder: the colours of the sound stay what they are without it."""
    axes = SpectrogramAxes(8000, 200, 80, n_mels=4, center=False)
    levels = torch.linspace(-60.0, -20.0, 4 * 48).view(4, 48)
    alone = Clip(levels, axes, torch.rand(4000), name="alone.wav")
    facts = written(tmp_path, page(clip=alone, maps={}, prototypes=dict.fromkeys(range(3), alone)))
    reference = facts["clips"][facts["pages"][0]["clip"]]
    assert reference["filled"] is None
    for value in (-20.0, 40.0):
        filled = dataclasses.replace(alone, decibels=torch.cat([levels, torch.full((4, 52), value)], 1))
        seen = written(tmp_path, page(clip=filled, maps={}, prototypes=dict.fromkeys(range(3), filled)))
        clip = seen["clips"][seen["pages"][0]["clip"]]
        assert clip["filled"] == pytest.approx(0.48)
        assert seen["level"]["span"] == facts["level"]["span"]
        assert clip["loudest"] == reference["loudest"]
        drawn = pixels(seen, clip["picture"])
        assert np.array_equal(drawn[:, :48], pixels(facts, reference["picture"]))
        assert (drawn[:, 48:] == 0).all()
        assert "the rest is filled by the feature extractor" in (tmp_path / "page.html").read_text()


def test_clips_have_one_name_in_the_page_in_its_text_and_in_the_table_of_the_command(tmp_path):
    paths = ["sounds/dog/a.wav", "sounds/rain/a.wav", "clip 3"]
    pages = tuple(page(clip=dataclasses.replace(page().clip, name=path)) for path in paths)
    explained = ExplainedClips(pages)
    short = ["dog/a.wav", "rain/a.wav", "clip 3"]
    assert [shown["name"] for shown in written(tmp_path, *pages)["pages"]] == short
    assert [line.strip().split(": ")[0] for line in repr(explained).splitlines()[1:]] == short
    assert [row["clip"] for row in _rows(explained, as_json=False)] == short
    assert [row["clip"] for row in _rows(explained, as_json=True)] == paths
    assert set(paths) == {row["clip"] for row in explained.rows()}


def test_the_page_says_where_a_short_clip_is_filled_with_zeros(tmp_path):
    axes = SpectrogramAxes(8000, 200, 80, n_mels=4)
    clip = Clip(torch.rand(4, 101), axes, torch.cat([torch.rand(4000), torch.zeros(4000)]), name="short.wav", ends=0.5)
    facts = written(tmp_path, page(clip=clip, maps={}, prototypes=dict.fromkeys(range(3), clip)))
    shown = facts["clips"][facts["pages"][0]["clip"]]
    assert shown["filled"] == pytest.approx(52 / 101)  # frame 51 begins 20 samples before the end
    assert shown["filled_text"] == "filled with zeros after 0.50 s"
    assert "the rest is filled with zeros after 0.50 s." in (tmp_path / "page.html").read_text()
    assert (pixels(facts, shown["picture"])[:, 52:] == 0).all()


@pytest.mark.parametrize(
    ("scores", "exclusive", "detects"),
    [([-1.9, -2.5], False, False), ([0.1, -2.5], False, True), ([-1.9, -2.5], True, None), ([-1.9, -2.5], None, None)],
)
def test_it_is_said_where_no_class_is_detected(tmp_path, scores, exclusive, detects):
    explained = dataclasses.replace(explanation(SCHEMES[1], target=0), score=scores[0])
    rest = [-3.0] * (len(CLASSES) - 2)
    facts = written(tmp_path, page(explanations=[explained], scores=scores + rest, exclusive=exclusive, maps={}))
    assert facts["pages"][0]["detects"] is detects
    text = (tmp_path / "page.html").read_text()
    assert ("The model detects no class: no probability is above 0.5." in text) is (detects is False)


def test_zero_is_in_the_middle_of_a_map_s_colours(tmp_path):
    values = torch.zeros(32, 101)
    values[3, 5], values[20, 7] = 2.0, -1.0
    facts = written(tmp_path, page(maps={"IG": values}))
    shown = pixels(facts, facts["pages"][0]["maps"][0]["picture"])
    assert (shown[3, 5], shown[20, 7]) == (255, 64)
    assert shown[0, 0] == 128


def test_a_map_finer_than_the_picture_is_averaged(tmp_path):
    values = torch.tensor([[1.0, 3.0]]).repeat(1, 101)  # (1, 202) on a picture of 101 frames
    values[0, :2] = -2.0
    facts = written(tmp_path, page(maps={"IG": values}))
    shown = pixels(facts, facts["pages"][0]["maps"][0]["picture"])
    assert shown.shape == (1, 101)
    assert shown[0].tolist() == [0] + [255] * 100  # −2, then the means, 2


def test_the_numbers_are_those_of_the_explanations(tmp_path):
    (facts,) = written(tmp_path)["pages"]
    assert [part["scheme"] for part in facts["perspectives"]] == [str(scheme) for scheme in SCHEMES]
    time = facts["perspectives"][1]
    assert [(part["channel"], part["contribution"], part["purity"]) for part in time["evidence"]] == [
        (10, 2.0, 0.25),
        (11, 1.0, 0.375),
    ]
    assert (time["before"], time["remainders"], time["score"]) == (0.5, [{"name": "other channels", "value": 1.0}], 4.5)
    assert [(part["index"], part["class"], part["purity"]) for part in time["evidence"][1]["prototypes"]] == [
        (0, "zero", 0.5),
        (1, "one", 0.375),
        (2, "two", 0.25),
    ]
    assert time["evidence"][1]["boxes"] == [
        {"hertz": None, "seconds": pytest.approx([AXES.seconds(20.2), AXES.seconds(30.3)])}
    ]


def test_the_waterfall_reaches_the_score_where_the_head_is_not_affine(tmp_path):
    short = dataclasses.replace(explanation(SCHEMES[0]), total=3.0)
    (facts,) = written(tmp_path, page(explanations=[short]))["pages"][0]["perspectives"]
    remainders = {remainder["name"]: remainder["value"] for remainder in facts["remainders"]}
    assert remainders == {"other channels": 0.0, "unexplained": 1.0}
    contributions = [part["contribution"] for part in facts["evidence"]]
    assert sum([facts["before"], *contributions, *remainders.values()]) == facts["score"]


def test_the_five_highest_scores_and_the_explained_class_are_shown(tmp_path):
    scores = [6.0, 5.0, 4.0, -3.0, 3.0, 2.0, 1.0]
    facts = written(tmp_path, page(scores=scores))["pages"][0]["scores"]
    assert [(row["name"], row["score"], row["rank"], row["explained"]) for row in facts] == [
        ("zero", 6.0, 1, False),
        ("one", 5.0, 2, False),
        ("two", 4.0, 3, False),
        ("four", 3.0, 4, False),
        ("five", 2.0, 5, False),
        ("three", -3.0, 7, True),
    ]


@pytest.mark.parametrize(
    ("label", "name"),
    [(2, "two"), (-1, "six"), ((1,), "one"), ([0, 1, 0, 1, 0, 0, 0], "one, three"), (None, ""), (2.0, "two")],
)
def test_labels_have_names(label, name):
    assert page().class_name(label) == name


def test_labels_without_names_are_numbers_and_names_are_complete_where_there_are_any(tmp_path):
    assert page(class_names=None).class_name(9) == "class 9"
    with pytest.raises(ValueError, match="expected `class_names` with a name for class 9, but got 7 names"):
        written(tmp_path, page(explanations=[explanation(SCHEMES[0], target=9)]))


def test_a_target_counted_from_the_end_is_the_explained_class(tmp_path):
    facts = written(tmp_path, page(explanations=[explanation(SCHEMES[0], target=-4)]))["pages"][0]
    assert facts["explained"] == "three"
    assert [row["name"] for row in facts["scores"] if row["explained"]] == ["three"]


def test_a_clip_s_sound_is_kept_as_it_is_and_its_regions_are_cut_out_of_it(tmp_path):
    """What the page makes of the cuts is tested in test_cutting_in_browser."""
    subject = page()
    facts = written(tmp_path, subject)
    clip, part = subject.clip, subject.explanations[1].evidence[0]  # a moment
    shown = facts["pages"][0]["perspectives"][1]["evidence"][0]
    whole = facts["clips"][facts["pages"][0]["clip"]]["sound"]
    samples, rate = sound_of(facts, whole)
    assert (rate, whole["start"]) == (8000, 0)
    assert (samples - clip.waveform).abs().max() <= 2**-16 + 1e-9
    place = clip.place(part.region.boxes[0])
    first = max(0, int((place.start - 0.15) * 8000)) / 8000
    wanted = {"low": None, "high": None, "start": place.start, "end": place.end, "window": pytest.approx(0.032)}
    region, without = (facts["sounds"][shown[kind]["sound"]] for kind in ("region", "without"))
    assert (region["of"], region["cuts"], region["without"]) == (whole["sound"], [wanted], False)
    assert (without["of"], without["cuts"], without["without"]) == (whole["sound"], [wanted], True)
    assert (shown["region"]["start"], region["first"], region["last"]) == pytest.approx(
        (first, first, place.end + 0.15), abs=1.1 / 8000
    )
    assert (shown["without"]["start"], without["first"], without["last"]) == (0, 0, 1)


def test_a_region_past_the_end_of_the_sound_is_silent(tmp_path):
    """Where a short clip is padded for the model, its picture is longer than its sound."""
    padded = dataclasses.replace(chirp(4), waveform=chirp(4).waveform[:1600])
    facts = written(tmp_path, page(clip=padded, explanations=[explanation(SCHEMES[1], n_channels=9)]))
    first, *_, last = facts["pages"][0]["perspectives"][0]["evidence"]
    assert last["boxes"][0]["seconds"][0] > 0.8
    assert (last["silent"], last["region"], last["without"]) == (True, None, None)
    assert not first["silent"]
    assert facts["sounds"][first["region"]["sound"]]["cuts"]


def test_many_sounds_are_kept_in_mp3(tmp_path, monkeypatch):
    subject = page()
    monkeypatch.setattr(encoding, "_LOSSLESS_SAMPLES", 4 * 8000)
    facts = written(tmp_path, subject)
    assert {sound["type"] for sound in facts["sounds"].values() if "type" in sound} == {"audio/flac"}
    monkeypatch.setattr(encoding, "_LOSSLESS_SAMPLES", 4 * 8000 - 1)
    facts = written(tmp_path, subject)
    assert {sound["type"] for sound in facts["sounds"].values() if "type" in sound} == {"audio/mpeg"}
    samples = sound_of(facts, facts["clips"][facts["pages"][0]["clip"]]["sound"])[0]
    assert (samples - subject.clip.waveform).norm() < 0.15 * subject.clip.waveform.norm()  # MP3 loses a little


def test_every_picture_and_sound_is_there_once(tmp_path):
    facts = written(tmp_path, page(50), page(51))
    assert len(facts["clips"]) == 2 + 3  # the prototypes are the same clips in all schemes, channels and pages
    assert len(facts["pictures"]) == 2 + 3 + 1  # and one map
    assert len({sound["data"] for sound in facts["sounds"].values() if "data" in sound}) == 2 + 3
    cut = [json.dumps(sound) for sound in facts["sounds"].values() if "of" in sound]
    assert len(set(cut)) == len(cut)
    assert written(tmp_path, page(50), page(50))["sounds"] == written(tmp_path, page(50))["sounds"]


@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_file_does_not_depend_on_the_number_of_threads(tmp_path, monkeypatch, n_threads):
    """Every file of the page is that of a plain loop."""
    subject = [page(50), page(51)]
    date = datetime(2026, 5, 4, 12, 30)
    monkeypatch.setattr(encoding, "ThreadPoolExecutor", functools.partial(ThreadPoolExecutor, n_threads))
    parallel = report.write(tmp_path / "a.html", subject, date=date).read_bytes()
    monkeypatch.setattr(encoding, "_done", lambda jobs, *_: [job.encoded() for job in jobs])
    assert report.write(tmp_path / "b.html", subject, date=date).read_bytes() == parallel


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_after_an_error_the_rest_is_not_encoded(tmp_path, monkeypatch, error):
    begun = []

    def broken(*_):
        begun.append(None)
        time.sleep(0.01)
        raise error

    monkeypatch.setattr(encoding, "ThreadPoolExecutor", functools.partial(ThreadPoolExecutor, 1))
    monkeypatch.setattr(encoding, "_encoded_sound", broken)
    with pytest.raises(error):
        report.write(tmp_path / "page.html", [page(seed) for seed in range(50, 70)])
    assert len(begun) < 23
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_grows_too_large_is_given_up_early(tmp_path, monkeypatch):
    """Its size is judged by what is done so far."""
    subject = [page(seed, clip=noise(seed)) for seed in range(40)]
    size = report.write(tmp_path / "page.html", subject).stat().st_size / 1e6
    (tmp_path / "page.html").unlink()
    done = []
    plain = encoding._encoded_sound
    monkeypatch.setattr(encoding, "ThreadPoolExecutor", functools.partial(ThreadPoolExecutor, 1))
    monkeypatch.setattr(
        encoding, "_encoded_sound", lambda *given: done.append(None) or time.sleep(0.01) or plain(*given)
    )
    with pytest.raises(ValueError, match="at most 0.1 MB, but got about .* MB for 40 clip") as raised:
        report.write(tmp_path / "page.html", subject, limit=0.1)
    assert len(done) < 20
    assert float(re.search(r"about ([\d.]+) MB", str(raised.value))[1]) == pytest.approx(size, rel=0.5)
    assert list(tmp_path.iterdir()) == []


def noise(seed):
    waveform = 0.2 * torch.randn(8000, generator=torch.Generator().manual_seed(seed))
    return dataclasses.replace(chirp(seed), waveform=waveform)


def test_a_clip_without_a_waveform_has_no_sound(tmp_path):
    silent = {index: chirp(index, silent=True) for index in range(3)}
    facts = written(tmp_path, page(clip=chirp(7, silent=True), prototypes=silent))
    assert facts["sounds"] == {}
    assert {clip["sound"] for clip in facts["clips"].values()} == {None}


def test_a_rate_that_mp3_does_not_know_is_kept_as_flac(tmp_path):
    clip = Clip.from_waveform(chirp(1).waveform, 10000)
    facts = written(tmp_path, page(clip=clip, maps={}))
    sound = facts["clips"][facts["pages"][0]["clip"]]["sound"]
    assert facts["sounds"][sound["sound"]]["type"] == "audio/flac"
    samples, rate = sound_of(facts, sound)
    assert rate == 10000
    assert torch.allclose(samples.float(), clip.waveform, atol=1e-4)


def test_sounds_above_full_scale_are_scaled_down_alike(tmp_path):
    loud = dataclasses.replace(chirp(1), waveform=4 * chirp(1).waveform)  # up to 2
    facts = written(tmp_path, page(clip=loud))
    whole = sound_of(facts, facts["clips"][facts["pages"][0]["clip"]]["sound"])[0]
    assert (whole - loud.waveform / 2).norm() < 0.1 * whole.norm()


def test_the_regions_of_a_waveform_lie_on_its_spectrogram(tmp_path):
    clip = Clip.from_waveform(chirp(1).waveform, 8000)
    facts = written(tmp_path, page(clip=clip, explanations=[explanation(SCHEMES[1])], maps={}))
    path = facts["pages"][0]["perspectives"][0]["evidence"][0]["outline"]
    frames = clip.decibels.shape[1]
    sides = [clip.axes.frame_position(seconds) / frames for seconds in (0.1, 0.2)]
    assert sorted({float(x) for x in re.findall(r"[ML]([\d.]+) ", path)}) == pytest.approx(sides, abs=1e-5)


def test_the_cursor_runs_on_the_picture_s_own_axis(tmp_path):
    subject = page()
    facts = written(tmp_path, subject)
    clip = facts["clips"][facts["pages"][0]["clip"]]
    for seconds in (0.0, 0.25, 1.0):
        assert clip["start"] + clip["rate"] * seconds == pytest.approx(AXES.frame_position(seconds) / 101)


@pytest.mark.parametrize(("scheme", "box"), [(SCHEMES[1], [0.1, 0.0, 0.2, 1.0]), (SCHEMES[2], [0.0, 0.5, 1.0, 0.75])])
def test_the_tag_of_a_region_is_on_its_box(tmp_path, scheme, box):
    """Column 1 of 10 reaches from the top to the bottom; row 1 of 4, from below, has the second lowest quarter."""
    facts = written(tmp_path, page(explanations=[explanation(scheme)]))
    assert facts["pages"][0]["perspectives"][0]["evidence"][0]["tagged"] == pytest.approx(box)


def test_the_outline_of_a_cross_is_one_line(tmp_path):
    """Column 1 of 10 and row 1 of 4, with x to the right and y downward."""
    facts = written(tmp_path, page(explanations=[explanation(SCHEMES[3])]))
    path = facts["pages"][0]["perspectives"][0]["evidence"][0]["outline"]
    corners = re.fullmatch(r"M([^MZ]+)Z", path)[1].split("L")
    wanted = {
        "0.1 0",
        "0.2 0",
        "0.1 1",
        "0.2 1",
        "0 0.5",
        "0 0.75",
        "1 0.5",
        "1 0.75",
        "0.1 0.5",
        "0.1 0.75",
        "0.2 0.5",
        "0.2 0.75",
    }
    assert len(corners) == len(wanted)
    assert set(corners) == wanted


def test_ticks_stand_where_the_axes_say(tmp_path):
    facts = written(tmp_path, page())
    clip = facts["clips"][facts["pages"][0]["clip"]]
    assert [(tick["value"], tick["at"] * 32) for tick in clip["hertz"]] == [
        (hertz, pytest.approx(AXES.bin_position(hertz))) for hertz in (250.0, 500.0, 1000.0, 2000.0)
    ]
    wanted = [(0, 0.5), (0.2, 20.5), (0.4, 40.5), (0.6, 60.5), (0.8, 80.5), (1, 100.5)]
    assert [(tick["value"], pytest.approx(tick["at"] * 101)) for tick in clip["seconds"]] == wanted


def test_the_ends_of_the_frequency_axis_are_known_in_two_digits(tmp_path):
    facts = written(tmp_path, page())
    (low, high) = facts["clips"][facts["pages"][0]["clip"]]["band"]
    assert (low, high) == (pytest.approx(AXES.hertz(0.0), rel=0.05), pytest.approx(AXES.hertz(32.0), rel=0.05))
    assert (f"{low:.2g}", f"{high:.2g}") == ("71", "3.9e+03")


def test_a_strip_of_a_waveform_ends_with_a_mel_picture(tmp_path):
    """The regions of a waveform reach to half the sample rate, mel bands do not."""
    clip = dataclasses.replace(chirp(1), of_samples=True)
    facts = written(tmp_path, page(clip=clip, explanations=[explanation(SCHEMES[1])], maps={}))
    path = facts["pages"][0]["perspectives"][0]["evidence"][0]["outline"]
    assert {float(corner.split()[1]) for corner in re.sub("[MZ]", "", path).split("L")} == {0.0, 1.0}


def test_maps_of_waveforms_have_the_samples_shape(tmp_path):
    clip = Clip.from_waveform(chirp(1).waveform, 8000)
    samples = torch.zeros(1, 1, 8000)
    samples[..., :4000], samples[..., 4000:] = -1.0, 1.0
    facts = written(tmp_path, page(clip=clip, explanations=[explanation(SCHEMES[1])], maps={"IG": samples}))
    _, _, data = facts["pictures"][facts["pages"][0]["maps"][0]["picture"]].partition(",")
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), dtype=int)
    assert image.shape[:2] == (1, clip.decibels.shape[1])
    blue_less_red = image[0, :, 2] - image[0, :, 0]
    middle = len(blue_less_red) // 2
    assert (blue_less_red[: middle - 1] > 50).all()
    assert (blue_less_red[middle + 2 :] < -50).all()


def test_each_clip_is_drawn_once(tmp_path, monkeypatch):
    drawn, picture = [], content.level_picture
    monkeypatch.setattr(content, "level_picture", lambda clip, span: drawn.append(clip) or picture(clip, span))
    written(tmp_path, page())
    assert len(drawn) == 1 + 3  # though each prototype is named by four schemes with two channels


def test_texts_cannot_leave_their_place(tmp_path):
    path = tmp_path / "page.html"
    classes = [HOSTILE, *CLASSES[1:]]
    hostile = page(clip=chirp(1, name=HOSTILE, label=HOSTILE), class_names=classes, maps={HOSTILE: torch.ones(32, 101)})
    report.write(path, [hostile], title=HOSTILE)
    text = path.read_text(encoding="utf-8")
    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    shown = HOSTILE.replace("\ud800", "\N{REPLACEMENT CHARACTER}")
    assert html.escape(shown) in text
    facts = facts_of(path)
    assert (facts["title"], facts["pages"][0]["maps"][0]["name"], facts["pages"][0]["scores"][-1]["name"]) == (
        shown,
        shown,
        "four",
    )
    assert shown in [
        prototype["class"] for prototype in facts["pages"][0]["perspectives"][0]["evidence"][0]["prototypes"]
    ]


def test_the_policy_allows_the_file_s_own_script_and_style_alone(tmp_path):
    text = report.write(tmp_path / "page.html", [page()]).read_text(encoding="utf-8")
    policy = dict(
        part.strip().split(" ", 1)
        for part in re.search(r'Content-Security-Policy" content="(.*?)"', text)[1].split(";")
    )
    for element, directive in (("<script>(.*?)</script>", "script-src"), ("<style>(.*?)</style>", "style-src")):
        digest = hashlib.sha256(re.search(element, text, re.DOTALL)[1].encode()).digest()
        assert policy[directive] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert (policy["default-src"], policy["img-src"], policy["media-src"]) == ("'none'", "data:", "blob:")
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)


@pytest.mark.parametrize("name", document._SCRIPTS)
def test_no_text_of_a_script_has_two_lines(name):
    """Because indentation is left out where the page is written."""
    assert [line for line in document._source(name).splitlines() if line.count("`") % 2] == []


def test_the_size_is_bounded_and_stated(tmp_path):
    """Noise compresses worst."""
    noise = torch.Generator().manual_seed(0)
    rates = {
        index: dataclasses.replace(chirp(index), waveform=0.2 * torch.randn(8000, generator=noise))
        for index in range(4)
    }
    path = report.write(tmp_path / "page.html", [page(clip=rates.pop(3), prototypes=rates)])
    facts, size = facts_of(path), path.stat().st_size
    bins, samples = 32 * 101 * len(facts["pictures"]), 8000 * len(facts["clips"])
    assert size <= 102e3 + 1.4 * bins + 2.7 * samples + 2e3 * len(facts["pictures"]) + 300 * len(facts["sounds"])
    stated = re.search(r"everything that it shows, (\d+) kB in all", path.read_text(encoding="utf-8"))[1]
    assert int(stated) == pytest.approx(size / 1000, abs=1)


def test_a_file_above_the_limit_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"at most 0\.1 MB, but got about 0\.\d MB for 1 clip\(s\): give fewer"):
        report.write(tmp_path / "page.html", [page()], limit=0.1)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.write(path, [page()])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_readable_as_other_files_are(tmp_path):
    (tmp_path / "other").write_text("")
    path = report.write(str(tmp_path / "page.html"), [page()])
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"explanations": []}, "at least one explanation"),
        ({"explanations": [explanation(SCHEMES[0])] * 2}, "one explanation per scheme, but got square, square"),
        (
            {"explanations": [explanation(SCHEMES[0]), explanation(SCHEMES[1], target=1)]},
            r"same target, but got \[3, 1\]",
        ),
        ({"scores": [1.0, 2.0]}, "one score per class, but got 2 scores for 7 classes"),
        ({"scores": [float("nan")] * 7}, "finite `scores`"),
        (
            {"maps": {"IG": torch.zeros(2, 32, 101)}},
            r"map 'IG' of shape \(…, frequency, time\) .* but got \(2, 32, 101\)",
        ),
        ({"maps": {"IG": torch.full((32, 101), torch.inf)}}, "map 'IG' to be finite"),
        ({"prototypes": {0: chirp(0)}}, "`prototypes` to hold training clip 1"),
        ({"prototypes": [chirp(0)]}, "`prototypes` to hold training clip 1"),
    ],
)
def test_what_is_no_page_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        page(**changed)


def test_a_file_without_pages_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one page, but got none"):
        report.write(tmp_path / "page.html", [])


def test_colours_and_dashes_are_those_of_the_figures(tmp_path):
    facts = written(tmp_path, page())
    assert tuple(facts["lines"]) == REGIONS
    assert tuple(facts["dashes"]) == DASHED[1]
    assert facts["level"]["colours"] == colour_steps(LEVELS)
    style = re.search("<style>(.*?)</style>", (tmp_path / "page.html").read_text(encoding="utf-8"), re.DOTALL)[1]
    assert f"--towards: {TOWARDS};" in style
    assert "{{" not in style


@pytest.mark.parametrize(
    ("label", "scores", "right"),
    [
        ("three", [0, 0, 0, 1, 0, 0, 0], True),
        ("three", [1, 0, 0, 0, 0, 0, 0], False),
        ("", [1, 0, 0, 0, 0, 0, 0], None),
        ("a thrush", [1, 0, 0, 0, 0, 0, 0], None),  # no class of the model
        ("three", (), None),
        ("two, three", [0, 0, 0, 1, 0, 0, 0], True),  # a clip of two classes
        ("two, three", [1, 0, 0, 0, 0, 0, 0], False),
        ("a thrush, three", [0, 0, 0, 1, 0, 0, 0], None),
    ],
)
def test_the_model_is_right_where_its_first_choice_is_the_label(label, scores, right):
    clip = dataclasses.replace(chirp(1), label=label)
    assert page(clip=clip, scores=scores).right is right


@pytest.mark.parametrize(
    ("exclusive", "probability"), [(None, None), (True, 1 / (1 + math.exp(-1) + 5 * math.exp(-3))), (False, 0.95257413)]
)
def test_the_probability_of_the_explained_class(tmp_path, exclusive, probability):
    subject = page(scores=[0.0, 2.0, 0.0, 3.0, 0.0, 0.0, 0.0], exclusive=exclusive)
    (facts,) = written(tmp_path, subject)["pages"]
    assert facts["probability"] == (None if probability is None else pytest.approx(probability))
    assert facts["scores"][0]["probability"] == facts["probability"]


@pytest.mark.parametrize(
    ("target", "scores", "probability"),
    [(None, [0.0], 0.5), (-7, [0.0] * 7, 0.5), (3, [], None), ((1, 2), [0.0] * 7, None)],
)
def test_the_probability_is_that_of_the_target(target, scores, probability):
    names = CLASSES if len(scores) != 1 else ["zero"]
    explanations = [explanation(SCHEMES[0], target=target)]
    assert page(explanations=explanations, scores=scores, class_names=names, exclusive=False).probability == probability


def test_a_single_class_excludes_no_other():
    with pytest.raises(ValueError, match="several scores with `exclusive=True`, but there is one, whose softmax is 1"):
        page(scores=[1.0], class_names=["zero"], exclusive=True)


def test_the_ends_and_the_masking_of_a_region_are_numbers(tmp_path):
    effect = RegionEffect(channel=0.1, random=(0.2, 0.4), score=1.5, fires_on="silence")
    shown = explanation(SCHEMES[0], n_channels=1)
    evidence = dataclasses.replace(shown.evidence[0], effect=effect)
    subject = page(explanations=[dataclasses.replace(shown, evidence=(evidence,))])
    (facts,) = written(tmp_path, subject)["pages"][0]["perspectives"][0]["evidence"]
    place = subject.clip.place(evidence.region.boxes[0])
    assert facts["ends"] == pytest.approx(place._asdict())
    assert facts["masking"] == {
        "channel": 0.1,
        "random": pytest.approx(0.3),
        "score": 1.5,
        "doubts": "no better than a random place (up to 40%), fires on silence",
    }


def test_the_page_says_where_a_channel_fires_more_strongly_than_in_its_region(tmp_path):
    first, second = explanation(SCHEMES[1], n_channels=2).evidence
    cell = SCHEMES[1].region([9], 4, 10)
    evidence = [
        dataclasses.replace(each, cell=cell, effect=RegionEffect(0.5, fires_elsewhere=elsewhere))
        for each, elsewhere in ((first, True), (second, False))
    ]
    shown = page(explanations=[dataclasses.replace(explanation(SCHEMES[1]), evidence=tuple(evidence))])
    far, near = written(tmp_path, shown)["pages"][0]["perspectives"][0]["evidence"]
    start, end = shown.clip.place(cell.boxes[0])[2:]
    assert far["elsewhere"] == [{"hertz": None, "seconds": pytest.approx([start, end])}]
    assert (far["masking"]["doubts"], far["effect"][-1]) == ("fires more strongly elsewhere",) * 2
    assert (near["elsewhere"], near["masking"]["doubts"]) == ([], "")
    text = report.write(tmp_path / "page.html", [shown]).read_text(encoding="utf-8")
    assert text.count(f"; fires more strongly at {start:.2f}–{end:.2f} s</td>") == 1


@pytest.mark.parametrize(
    ("seconds", "region", "duration"),
    [(0.064, "0.0020–0.0090 s", "0.0640 s"), (0.4, "0.036–0.077 s", "0.400 s"), (1.0, "0.10–0.20 s", "1.00 s")],
)
def test_times_have_more_digits_in_shorter_clips(seconds, region, duration, tmp_path):
    """The second of ten moments; a column lies half a hop, 5 ms, after its share of the picture."""
    subject = page(
        clip=chirp(50, seconds=seconds),
        explanations=[explanation(SCHEMES[1], n_channels=1)],
        prototypes={index: chirp(index, seconds=0.03) for index in range(3)},  # the longest clip decides
        maps={},
    )
    text = report.write(tmp_path / "page.html", [subject]).read_text(encoding="utf-8")
    assert f"<td>{region}</td>" in text
    assert f'alt="Spectrogram of clip_50.wav, {duration}"' in text
    start, end = subject.clip.place(subject.explanations[0].evidence[0].region.boxes[0])[2:]
    n_columns = 1 + int(seconds * 100)
    assert (start, end) == pytest.approx([share * n_columns * 0.01 - 0.005 for share in (0.1, 0.2)])


def test_the_footer_says_what_the_page_was_made_with(tmp_path):
    record = {"basis": "ab12", "model": "9f86", "layer": "features", "n_clips": 7, "n_channels": 5, "sides": "both"}
    subject = page(explanations=[dataclasses.replace(explanation(SCHEMES[1]), record=record)])
    path = report.write(tmp_path / "page.html", [subject], date=datetime(2026, 5, 4, 12, 30))
    footer = re.search("<footer>(.*?)</footer>", path.read_text(encoding="utf-8"), re.DOTALL)[1]
    trail = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", footer))
    assert trail == {
        "Written": "2026-05-04 12:30",
        "Model": "weights 9f86, layer features",
        "Basis of time": "ab12",
        "Fitted on": "7 clips",
        "Settings": "channels: 5; sides: both",
        "Sound": "8000 Hz, windows of 256 samples every 80, 32 mel bands",
        "Versions": f"captum-apex {version('captum-apex')}, torch {torch.__version__}",
    }


def test_the_same_pages_and_date_give_the_same_file(tmp_path):
    written_at = datetime(2026, 5, 4, 12, 30)
    one, other = (report.write(tmp_path / f"{i}.html", [page()], date=written_at).read_bytes() for i in range(2))
    assert one == other
    later = report.write(tmp_path / "later.html", [page()], date=datetime(2026, 5, 4, 12, 31)).read_bytes()
    assert later.replace(b"12:31", b"12:30") == one


def test_the_scripts_do_not_share_names():
    """They are one script on the page, where a later function would replace an earlier one of its name."""
    scripts = "".join(map(document._source, document._SCRIPTS))
    names = re.findall(r"^(?:async )?(?:function|const|let) (\w+)", scripts, re.MULTILINE)
    assert len(names) > 50
    assert len(set(names)) == len(names)
