"""Texts in figures: cut to the width they have, in few steps, and drawn also where a name is no Unicode."""

from dataclasses import replace

import pytest
import torch
from matplotlib.font_manager import FontProperties

from captum_apex import Box, Clip, Event, RecordingExplanation, Region, SpectrogramAxes, figures
from captum_apex.figures import titles
from captum_apex.figures.titles import fitted
from tests.explained import CLASSES, QUERY, Recorded, all_schemes, basis, clip_of, explained, network

WORDS = ", ".join(f"class number {index}" for index in range(40))
NO_UNICODE = "caf\udce9 \ud800"
NAMES = [f"{NO_UNICODE} {name}" for name in CLASSES]
REGION = Region((Box(0.25, 0.5, 0.1, 0.4),))
CLIP = replace(clip_of(QUERY[0], NO_UNICODE), name=f"{NO_UNICODE}.wav")
SOUND = Clip.from_waveform(torch.ones(4000), 8000, name=f"{NO_UNICODE}.wav")


def cut_letter_by_letter(text, inches, size, lines):
    """The lines of a text, broken and cut by trying every length."""
    font, width = FontProperties(size=size), inches * 72 * titles._SAFETY
    broken = [""]
    for word in text.split():
        longer = f"{broken[-1]} {word}".strip()
        if broken[-1] and titles._width(longer, font) > width:
            broken.append(word)
        else:
            broken[-1] = longer
    if len(broken) > lines:
        broken[lines - 1 :] = [" ".join(broken[lines - 1 :])]
    shown = []
    for line in broken:
        kept = line
        while kept and titles._width(f"{kept}…" if kept != line else kept, font) > width:
            kept = kept[:-1]
        shown.append(kept if kept == line else f"{kept.rstrip()}…")
    return "\n".join(shown)


@pytest.mark.parametrize(
    ("text", "inches", "lines"),
    [
        ("", 1.0, 2),
        ("dog", 1.0, 2),
        ("dog", 0.01, 2),
        ("first second third", 0.6, 1),
        ("first second third", 0.6, 2),
        ("first second third", 0.6, 3),
        ("a_name_without_any_blank_that_is_long and more", 1.0, 2),
        ("fffi iiii WWWW AVAVAV ………", 0.7, 2),
        (WORDS[:120], 1.3, 1),
        (WORDS[:120], 1.3, 2),
        (WORDS[:120], 1.3, 4),
    ],
)
@pytest.mark.parametrize("size", [titles.SMALL, titles.TINY])
def test_a_text_is_broken_and_cut_as_by_trying_every_length(text, inches, lines, size):
    assert fitted(text, inches, size, lines) == cut_letter_by_letter(text, inches, size, lines)


def test_a_long_text_is_measured_a_few_times(monkeypatch):
    measured = []
    width = titles._width
    monkeypatch.setattr(titles, "_width", lambda text, font: measured.append(len(text)) or width(text, font))
    assert fitted(WORDS, 2.0).endswith("…")
    assert len(measured) < 20
    assert sum(measured) < 4 * len(WORDS)


def pictures():
    """Every figure, by its name, of clips and classes whose names are no Unicode."""
    one = explained()
    axes = SpectrogramAxes(8000, 512, 160)
    night = replace(CLIP, decibels=torch.zeros(257, 501), axes=axes)
    events = (Event(2, 3, None, None, 0, NO_UNICODE, 0.9, 2.0),)
    times = torch.arange(10).double() + 0.5
    values = torch.ones(2, 3)
    return {
        "before_and_after": lambda: figures.before_and_after(basis(), basis(), 0, Recorded(), class_names=NAMES),
        "channel_maps": lambda: figures.channel_maps(one, CLIP, class_names=NAMES),
        "channels": lambda: figures.channels(basis(), network()[2], class_names=NAMES),
        "class_prototypes": lambda: figures.class_prototypes(
            basis(), network()[2], 0, Recorded(), class_names=NAMES, n_channels=1
        ),
        "clips": lambda: figures.clips([CLIP, CLIP]),
        "curves": lambda: figures.curves([0, 0.5, 1], {NO_UNICODE: values}),
        "explanation": lambda: figures.explanation(one, CLIP, Recorded(), class_names=NAMES),
        "maps": lambda: figures.maps(CLIP, {NO_UNICODE: torch.ones(*CLIP.decibels.shape)}),
        "masking": lambda: figures.masking(CLIP, REGION, CLIP),
        "perspectives": lambda: figures.perspectives(all_schemes(), CLIP, Recorded(), class_names=NAMES),
        "purity": lambda: figures.purity({NO_UNICODE: replace(basis(), purity_history=torch.tensor([0.1, 0.2]))}),
        "recording": lambda: figures.recording(
            RecordingExplanation(events, {0: torch.ones(10, dtype=torch.float64)}, times, 10.0), night
        ),
        "spectrogram": lambda: figures.spectrogram(CLIP),
        "twins": lambda: figures.twins(CLIP, CLIP),
        "waterfall": lambda: figures.waterfall(one, class_names=NAMES),
        "waveform": lambda: figures.waveform(SOUND),
    }


@pytest.mark.parametrize("name", figures.__all__)
def test_names_that_are_no_unicode_are_drawn_with_replacement_characters(name, tmp_path):
    figure = pictures()[name]()
    texts = " ".join(text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text")))
    assert "caf\N{REPLACEMENT CHARACTER}" in texts
    figure.savefig(tmp_path / "picture.png", dpi=20)
