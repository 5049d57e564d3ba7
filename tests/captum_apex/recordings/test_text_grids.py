"""TextGrids of Praat in both text formats, against crowsetta where it is installed."""

import itertools
import os
from pathlib import Path

import pytest

from captum_apex.recordings.text_grids import Interval, read_text_grid

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "calls of 2 birds"
        xmin = 0
        xmax = 2.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1.25
            text = "so-called ""jay"", 3 times"
        intervals [3]:
            xmin = 1.25
            xmax = 2.5
            text = "drossel ö"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 2.5
        points: size = 1
        points [1]:
            number = 1e-1
            mark = "click!"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
2.5
<exists>
2
"IntervalTier"
"calls of 2 birds"
0
2.5
3
0
0.5
""
0.5
1.25
"so-called ""jay"", 3 times"
1.25 ! a comment with a number, 7
2.5
"drossel ö"
"TextTier"
"clicks"
0
2.5
1
0.1
"click!"
"""
EXPECTED = [
    Interval("calls of 2 birds", 0.0, 0.5, ""),
    Interval("calls of 2 birds", 0.5, 1.25, 'so-called "jay", 3 times'),
    Interval("calls of 2 birds", 1.25, 2.5, "drossel ö"),
    Interval("clicks", 0.1, 0.1, "click!"),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("text", [LONG, SHORT], ids=["long", "short"])
def test_both_formats_are_read_alike(text, encoding, tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(text, encoding=encoding)
    assert read_text_grid(path) == EXPECTED


def test_one_without_tiers_has_no_intervals(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text('"ooTextFile" "TextGrid" 0 1 <absent>')
    assert read_text_grid(path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it ends within a tier"),
        ("onset,offset", "it ends within a tier"),
        (LONG.replace("TextGrid", "Pitch"), "it does not begin with ooTextFile and TextGrid"),
        (LONG.replace('"IntervalTier"', '"Tier"'), "a tier is of the kind 'Tier'"),
        (LONG.replace("xmax = 1.25", 'xmax = "1.25"'), "it has the text '1.25' in place of a number"),
        (SHORT.replace('"drossel ö"', "3"), "the tier 'calls of 2 birds' has the number 3 in place of a text"),
        (LONG[: LONG.index("xmax = 1.25")], "it ends within a tier"),
    ],
)
def test_errors(text, message, tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"expected {path} to be a TextGrid.*, but {message}"):
        read_text_grid(path)


def field(name):
    folder = os.environ.get("CAPTUM_APEX_DATA")
    if not folder or not Path(folder, "field", name).exists():
        pytest.skip("the field recordings are not here: CAPTUM_APEX_DATA names the folder of all recordings")
    return Path(folder, "field", name)


def test_a_published_one():
    """Calhoun et al., an utterance in Samoan with its gloss."""
    intervals = read_text_grid(field("AVO-maea-basic.TextGrid"))
    words = [each for each in intervals if each.tier == "Samoan"]
    assert [each.text for each in words[:6]] == ["'o", "Sione", "na", "tosoa", "le", "maea"]
    assert (words[1].start, words[1].end) == (0.051451575248407266, 0.6407379583230295)
    assert all(one.end == other.start for one, other in itertools.pairwise(words))
    points = [each for each in intervals if each.tier == "Tones"]
    assert [(each.text, each.start == each.end) for each in points[:2]] == [("L+H*", True), ("H-", True)]


@pytest.mark.filterwarnings("ignore")
def test_it_agrees_with_crowsetta(tmp_path):
    crowsetta = pytest.importorskip("crowsetta")
    path = tmp_path / "a.TextGrid"
    path.write_text(LONG, encoding="utf-8")
    for each in (path, field("AVO-maea-basic.TextGrid")):
        theirs = crowsetta.formats.seq.TextGrid.from_file(each, keep_empty=True).to_annot().seq
        sequences = theirs if isinstance(theirs, list) else [theirs]
        segments = [segment for sequence in sequences for segment in sequence.segments]
        ours = [interval for interval in read_text_grid(each) if interval.start < interval.end]
        times = [(one.onset_s, one.offset_s) for one in segments]  # rounded to ms
        assert [(round(one.start, 3), round(one.end, 3)) for one in ours] == times
        assert [one.text.replace('"', "") for one in ours] == [one.label.replace('"', "") for one in segments]
