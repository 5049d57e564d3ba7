"""What `print` says: which part of a clip is like which part of which training clip."""

import pytest
import torch

from captum_apex import (
    Box,
    Clip,
    Evidence,
    ExplainedClips,
    Explanation,
    Prototype,
    Region,
    RegionEffect,
    Scheme,
    SpectrogramAxes,
)
from captum_apex.figures import explanation as drawn
from captum_apex.report import Page
from captum_apex.report.printed import region_text

CLASSES = ["dog", "rain"]


def strip(start, end, low=0.0, high=1.0):
    return Box(low, high, start, end)


def clip_of(name, seconds=5.0, **settings):
    waveform = torch.rand(int(8000 * seconds), generator=torch.Generator().manual_seed(len(name))) - 0.5
    return Clip.from_waveform(waveform, 8000, name=name, **settings)


def evidence(channel, region, contribution=0.42, **settings):
    prototype = Prototype(7, 0, 1.0, 0.25, Region((strip(0.24, 0.302),)))
    other = Prototype(9, 1, 1.0, 0.5, Region((strip(0.0, 1.0),)))
    return Evidence(channel, 1, contribution, 0.5, 0.9, region, (prototype, other), **settings)


def page_of(*channels, schemes=("time",), **settings):
    explanations = [Explanation(Scheme(name), 0, 2.0, 0.5, channels, total=1.5) for name in schemes]
    prototypes = {7: clip_of("/sounds/dog_bark/1-100032.wav"), 9: clip_of("/sounds/rain/b.wav")}
    return Page(clip_of("new.wav"), explanations, prototypes, CLASSES, **settings)


def test_a_page_says_which_part_is_like_which_part_of_which_training_clip():
    spot = Region((strip(0.104, 0.166, 0.525, 0.85),))
    elsewhere = RegionEffect(0.75, (0.1,), score=0.3, fires_elsewhere=True)
    stronger = evidence(3, spot, effect=elsewhere, cell=Region((strip(0.5, 0.6),)))
    page = page_of(evidence(197, spot), stronger)
    assert str(page).splitlines() == [
        repr(page),
        "  channel 197: +0.42 at 0.52–0.83 s, 2100–3400 Hz, like dog_bark/1-100032.wav at 1.20–1.51 s (purity 0.25)",
        "  channel 3: +0.42 at 0.52–0.83 s, 2100–3400 Hz, like dog_bark/1-100032.wav at 1.20–1.51 s (purity 0.25), "
        "fires more strongly elsewhere (2.50–3.00 s)",
    ]
    assert repr(page) == "Page of new.wav: dog, score 2 (time)"


def test_the_strongest_channels_of_each_scheme_are_listed_and_the_others_counted():
    channels = [evidence(channel, Region((strip(0.0, 0.5),))) for channel in range(5)]
    lines = str(page_of(*channels)).splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == [
        "  channel 0",
        "  channel 1",
        "  channel 2",
        "  2 more channels",
    ]
    lines = str(page_of(*channels, schemes=("time", "frequency"))).splitlines()
    assert [line.split(": ")[:2] for line in lines[1:]] == [
        [f"  {scheme}", second]
        for scheme in ("time", "frequency")
        for second in ("channel 0", "channel 1", "3 more channels")
    ]
    explained = ExplainedClips((page_of(*channels), page_of(channels[3])))
    assert [line.split(": +")[0] for line in str(explained).splitlines()] == [
        "2 explained clips",
        *("  new.wav: dog, score 2 (time)", "    channel 0"),
        *("  new.wav: dog, score 2 (time)", "    channel 3"),
    ]
    assert str(ExplainedClips((page_of(),) * 5)) == repr(ExplainedClips((page_of(),) * 5))


def test_several_places_are_listed_or_counted():
    clip = clip_of("new.wav")
    barks = [strip(0.35, 0.4), strip(0.58, 0.62), strip(0.73, 0.77)]
    assert region_text(clip, Region(tuple(reversed(barks[:2])))) == "1.75–2.00 s and 2.90–3.10 s"
    assert region_text(clip, Region(tuple(barks))) == "3 places from 1.75 to 3.85 s"
    bands = [strip(0.0, 1.0, low, low + 0.05) for low in (0.1, 0.3, 0.5)]
    assert region_text(clip, Region(tuple(bands))) == "3 bands from 400 to 2200 Hz"
    assert region_text(clip, Region((strip(0.0, 1.0),))) == "all of the clip"
    assert region_text(clip, Region(())) == "nowhere"


def test_an_explanation_and_its_evidence_say_where_in_shares_of_the_clip():
    elsewhere = RegionEffect(0.75, (0.1,), fires_elsewhere=True)
    channel = evidence(3, Region((strip(0.1, 0.2),)), effect=elsewhere, cell=Region((strip(0.5, 0.6, 0.25, 0.5),)))
    assert str(channel).splitlines() == [
        "channel 3: +0.42, purity 0.90, at 10–20% of the time",
        "  masking takes 75% of the channel (random places: 10%), fires more strongly elsewhere "
        "(50–60% of the time, 25–50% of the band)",
        "  like training clip 7 at 24–30% of the time, purity 0.25",
        "  like training clip 9 at all of the clip, purity 0.50",
    ]
    explanation = Explanation(Scheme("time"), 0, 2.0, 0.5, (channel,) * 4, total=2.5)
    lines = str(explanation).splitlines()
    assert lines[0] == repr(explanation).splitlines()[0]
    assert lines[1:5] == [f"  {line}" for line in str(channel).splitlines()]
    assert lines[-2:] == repr(explanation).splitlines()[-2:]


@pytest.mark.parametrize("names", [CLASSES, None])
def test_a_figure_names_the_training_clip_without_its_folder(names):
    page = page_of(evidence(197, Region((strip(0.1, 0.2),))))
    figure = drawn(page.explanations[0], page.clip, page.shown_prototypes, class_names=names)
    written = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert ("1-100032.wav" in written, "b.wav" in written) == (True, True)


def test_a_short_clip_has_more_digits():
    axes = SpectrogramAxes(8000, 16, 80)
    assert region_text(Clip(torch.zeros(9, 20), axes), Region((strip(0.0, 0.5),))).count(".") == 2
    short = clip_of("bat.wav", seconds=0.05)
    assert region_text(short, Region((strip(0.1, 0.2),))) == "0.0050–0.0100 s"
