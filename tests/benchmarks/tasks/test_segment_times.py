"""The times of segments from a CSV file and from a folder of TextGrid files."""

import pytest

from benchmarks.tasks.segment_times import lookup, read_times

GRID = '"ooTextFile" "TextGrid" 0 1 <exists> 2 "IntervalTier" "words" 0 1 1 0 1 "two" {}'
PHONES = '"IntervalTier" "phones" 0 1 3 0 0.25 "T" 0.25 0.5 "UW1" 0.5 1 ""'


def test_a_table_has_a_line_for_each_boundary(tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("time,clip,word\n0.5,7,a\n0.25,7,b\n0.25,7,c\n1.5,12,d\n")
    assert read_times(path) == {7: (0.25, 0.5), 12: (1.5,)}


def test_a_folder_has_a_file_for_each_clip(tmp_path):
    for index in (3, 11):
        (tmp_path / f"{index}.TextGrid").write_text(GRID.format(PHONES))
    assert read_times(tmp_path, "phones") == {3: (0.0, 0.25, 0.5, 1.0), 11: (0.0, 0.25, 0.5, 1.0)}
    assert read_times(tmp_path, "words")[3] == (0.0, 1.0)


POINTS = '"TextTier" "peaks" 0 1 1 0.2 "high"'


def test_the_only_tier_of_intervals_needs_no_name(tmp_path):
    (tmp_path / "3.TextGrid").write_text(GRID.format(POINTS))
    assert read_times(tmp_path) == {3: (0.0, 1.0)}


@pytest.mark.parametrize(
    ("tier", "message"),
    [
        (
            None,
            "expected one tier of intervals, or the name of a tier in .*, but its tiers of .* are 'words', 'phones'",
        ),
        ("letters", "expected a tier 'letters' in .*, but its tiers of intervals are 'words', 'phones'"),
        ("peaks", "expected a tier 'peaks'"),
    ],
)
def test_a_tier_that_is_not_there_or_not_named(tier, message, tmp_path):
    (tmp_path / "3.TextGrid").write_text(GRID.replace("> 2", "> 3").format(f"{PHONES} {POINTS}"))
    with pytest.raises(ValueError, match=message):
        read_times(tmp_path, tier)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip\n1\n", "expected the columns clip, time in .*words.csv, but got"),
        ("clip,time\n", "expected boundaries of clips in .*words.csv, but it has none"),
        ("clip,time\n1.5,2\n", "expected the index of a test clip, such as 7, in .*, but got '1.5'"),
        ("clip,time\n1,soon\n", "expected a time of at least 0 seconds in .*, but got 'soon'"),
        ("clip,time\n1,-1\n", "expected a time of at least 0 seconds in .*, but got '-1'"),
        ("time,clip\n1\n", "expected the index of a test clip, such as 7, in .*, but got None"),
        ("clip,time\n1\n", "expected a time of at least 0 seconds in .*, but got None"),
    ],
)
def test_another_table_is_refused(text, message, tmp_path):
    path = tmp_path / "words.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_times(path)


def test_a_path_that_is_not_there_and_a_folder_without_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a CSV file or a folder of .TextGrid files"):
        read_times(tmp_path / "nothing")
    with pytest.raises(ValueError, match="expected boundaries of clips"):
        read_times(tmp_path)


def test_a_clip_without_times_is_named(tmp_path):
    with pytest.raises(ValueError, match="expected boundaries of test clip 4 in .*words.csv, but it has none"):
        lookup({3: (0.4,)}, tmp_path / "words.csv")(4)
