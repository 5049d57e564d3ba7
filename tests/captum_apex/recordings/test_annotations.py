"""Files of annotations in the forms of several programs, and what of them is about recordings and classes."""

import os
import re
from pathlib import Path

import pytest
import torch

from captum_apex import Event, Recordings, listening, write_audacity, write_csv, write_raven
from captum_apex.recordings import AnnotatedRecordings, Annotation, from_crowsetta, read_annotations
from captum_apex.recordings.annotation_files import annotation_files

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
AUDACITY = "0.5\t1.5\tdog\n\\\t200.0\t3000.0\n2\t3\train\n\\\t-1.0\t-1.0\n3.5\t3.5\tclick\n4\t5\t\n"
CSV = "filename;onset_s;offset_s;low_freq;high_freq;label\na.wav;0.5;1.5;200;3000;dog\na.wav;2;3;;;rain\n"
GRID = '"ooTextFile" "TextGrid" 0 5 <exists> 2 "IntervalTier" "calls" 0 5 3 0 0.5 "" 0.5 1.5 "dog" 1.5 5 " "'
GRID += ' "IntervalTier" "weather" 0 5 1 2 3 "rain"'
SAME = [("dog", 0.5, 1.5), ("rain", 2.0, 3.0)]
BANDS = [(200.0, 3000.0), (None, None)]


def written(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def times(annotations):
    return [(each.label, each.start, each.end) for each in annotations]


def bands(annotations):
    return [(each.low, each.high) for each in annotations]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.Table.1.selections.txt",
            RAVEN + "1\tSpectrogram 1\t1\t0.5\t1.5\t200\t3000\tdog\n2\tWaveform 1\t1\t2\t3\t\t\train\n",
        ),
        ("a.txt", AUDACITY.replace("3.5\t3.5\tclick\n", "")),
        ("a.csv", CSV),
        ("a.TextGrid", GRID),
    ],
)
def test_four_forms_give_the_same(name, text, tmp_path):
    annotations = read_annotations(written(tmp_path, name, text))
    assert times(annotations) == SAME
    assert bands(annotations) == ([(None, None)] * 2 if name.endswith("Grid") else BANDS)
    assert [each.file for each in annotations] == ["a.wav" if name == "a.csv" else None] * 2


@pytest.mark.parametrize("write", [write_raven, write_audacity, write_csv])
def test_what_this_package_writes_is_read(write, tmp_path):
    events = [Event(0.5, 1.5, 200.0, 3000.0, 0, "dog", 0.875, 2.5), Event(2.0, 3.0, None, None, 1, "rain", 0.5, 1.0)]
    path = tmp_path / ("a.csv" if write is write_csv else "a.txt")
    write(path, events)
    annotations = read_annotations(path)
    names = ["dog 0.88", "rain 0.50"] if write is write_audacity else ["dog", "rain"]
    assert times(annotations) == [(name, start, end) for name, (_, start, end) in zip(names, SAME, strict=True)]
    assert bands(annotations) == BANDS


def test_a_selection_in_two_views_is_one(tmp_path):
    """Raven lists a selection once for each view that shows it."""
    rows = "1\tWaveform 1\t1\t0.5\t1.5\t200\t3000\tdog\n1\tSpectrogram 1\t1\t0.5\t1.5\t200\t3000\tdog\n"
    other = "1\tSpectrogram 1\t1\t2.0\t3.0\t\t\train\n"  # of another table that was appended
    assert times(read_annotations(written(tmp_path, "a.txt", RAVEN + rows + other))) == SAME


def test_the_offset_in_a_file_counts_where_a_table_is_of_files_in_a_row(tmp_path):
    header = "Begin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tAnnotation\n"
    path = written(tmp_path, "all.txt", header + "0.5\t1.5\ta.wav\t0.5\tdog\n62\t63\tb.wav\t2\train\n")
    annotations = read_annotations(path)
    assert times(annotations) == SAME
    assert [each.file for each in annotations] == ["a.wav", "b.wav"]


def test_points_of_audacity_and_labels_without_text(tmp_path):
    labels = times(read_annotations(written(tmp_path, "a.txt", AUDACITY)))
    assert labels == [*SAME, ("click", 3.5, 3.5)]


def test_one_tier_and_one_column_can_be_chosen(tmp_path):
    assert times(read_annotations(written(tmp_path, "a.TextGrid", GRID), tier="weather")) == SAME[1:]
    path = written(tmp_path, "b.csv", "start,end,label,code\n0.5,1.5,1,dog\n2,3,2,rain\n")
    assert times(read_annotations(path, label="code")) == SAME


@pytest.mark.parametrize("text", ["", "\n", RAVEN])
def test_a_file_without_annotations_has_none(text, tmp_path):
    assert read_annotations(written(tmp_path, "a.txt", text)) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "start,end,kind\n1,2,dog\n",
            "to have a column of labels, but its columns are start, end, kind; name",
        ),
        ("a.csv", "begins,end,label\n1,2,dog\n", "to have a column 'start', but its columns are begins, end, label"),
        ("a.csv", "start,end,label\n1,2,dog\n2,1,dog\n", "expected 0 <= start <= end, in s, in line 3 of .*a.csv, but"),
        ("a.csv", "start,end,label\nnan,2,dog\n", "expected 0 <= start <= end, in s, in line 2 of"),
        ("a.csv", "start,end,label\none,2,dog\n", "expected a number as the start in line 2 of .*, but got 'one'"),
        ("a.csv", "start,end,low,high,label\n1,2,9,8,dog\n", "expected 0 <= low < high, in Hz, in line 2 of .*, but"),
        ("a.txt", "1\t2\tdog\nfox\n", "expected a label of Audacity, two times and a text, in label 2 of .*'fox'"),
    ],
)
def test_errors_of_files(name, text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_annotations(written(tmp_path, name, text))


def test_errors_of_choices(tmp_path):
    with pytest.raises(
        ValueError, match=r"to have a column 'code', but its columns are filename, onset_s, .*label-col"
    ):
        read_annotations(written(tmp_path, "a.csv", CSV), label="code")
    with pytest.raises(ValueError, match="to have a tier 'birds', but its tiers are calls, weather"):
        read_annotations(written(tmp_path, "a.TextGrid", GRID), tier="birds")
    with pytest.raises(FileNotFoundError, match="expected annotations at .*, but there is neither a file nor a folder"):
        annotation_files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected files of annotations in .*, which end in \.csv, .*, but"):
        annotation_files(tmp_path / "empty")


@pytest.fixture
def recordings(tmp_path):
    """Three silent recordings of 4 s in two folders."""
    names = ("north/a.wav", "north/b.wav", "south/a.wav")
    for name in names:
        (tmp_path / "sounds" / name).parent.mkdir(parents=True, exist_ok=True)
        listening.write(tmp_path / "sounds" / name, torch.zeros(400), 100)
    return Recordings(tmp_path / "sounds", names)


def annotated(recordings, *annotations, **settings):
    return AnnotatedRecordings.of(recordings, annotations, ["Dog bark", "rain"], **settings)


def test_annotations_find_their_recordings_and_classes(recordings):
    found = annotated(
        recordings,
        Annotation("rain", 3, 9, file="b.wav"),
        Annotation("dog_bark", 1, 2, 50, 90, file="/elsewhere/south/a.wav"),
        Annotation("woof", 0, 1, file="north\\a.wav"),
        renamed={"woof": "Dog bark"},
    )
    assert [times(each) for each in found.annotations] == [
        [("Dog bark", 0, 1)],
        [("rain", 3, 4.0)],  # up to the end of the recording
        [("Dog bark", 1, 2)],
    ]
    assert bands(found.annotations[2]) == [(50, 90)]
    assert bands(found.without_bands().annotations[2]) == [(None, None)]
    assert times(found.without_bands().annotations[2]) == [("Dog bark", 1, 2)]
    assert found.left_out == ()


def test_it_is_said_what_is_left_out(recordings):
    found = annotated(
        recordings,
        Annotation("rain", 2, 3, file="b.wav"),
        *[Annotation("fox", 0, 1, file="b.wav")] * 2,
        Annotation("owl", 0, 1, file="b.wav"),
        Annotation("rain", 0, 1, file="c.wav"),
        Annotation("rain", 1, 1, file="b.wav"),
        Annotation("rain", 4, 5, file="b.wav"),
    )
    assert found.left_out == (
        "1 annotation of files that are not among the recordings: c.wav (1)",
        "3 annotations of classes that the model does not have: fox (2), owl (1)",
        "1 annotation without a duration",
        "1 annotation after the end of their recording: north/b.wav (1)",
        "2 recordings without annotations of the classes",
    )


def test_an_ambiguous_name_is_an_error(recordings):
    message = "expected line 7 to name one recording, but 'a.wav' may be any of north/a.wav, south/a.wav"
    with pytest.raises(ValueError, match=message):
        annotated(recordings, Annotation("rain", 0, 1, file="a.wav", place="line 7"))


def test_a_file_without_annotations_is_said_to_be_empty(recordings, tmp_path):
    path = written(tmp_path, "empty.txt", "")
    message = "annotations of the 3 recordings and of the classes Dog bark, rain, but it has no annotations$"
    with pytest.raises(ValueError, match=message):
        AnnotatedRecordings.read(recordings, path, ["Dog bark", "rain"])


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("a.csv", "start;end;label\n0,5;1,5;dog\n", "the start in line 2 of"),
        ("a.csv", "start;end;low;label\n0;1;200,5;dog\n", "the frequency in line 2 of"),
        ("a.txt", "0,5\t1,5\tdog\n", "the start in label 1 of"),
        ("a.txt", "0\t1,5\tdog\n0,5\t1\tdog\n", "the end in label 1 of"),
        ("a.txt", "0.5\t1.5\tdog\n1\t1,5\tdog\n", "the end in label 2 of"),
    ],
)
def test_decimals_with_a_comma_are_refused_and_not_lost(name, text, place, tmp_path):
    path = written(tmp_path, name, text)
    message = f"expected a number as {place} .*{name}, but got '[0-9]*,5'; write decimals with a point, not a comma"
    with pytest.raises(ValueError, match=message):
        read_annotations(path)


def test_without_a_single_fitting_annotation_there_is_an_error(recordings):
    message = re.escape(
        "expected the annotations to have annotations of the 3 recordings and of the classes Dog bark, rain, but of "
        "1 annotation none is; 1 annotation of classes that the model does not have: fox (1); 3 recordings without"
    )
    with pytest.raises(ValueError, match=message):
        annotated(recordings, Annotation("fox", 0, 1, file="b.wav"))


def test_files_are_about_the_recordings_of_their_names(recordings, tmp_path):
    for name, text in {
        "north/a.Table.1.selections.txt": RAVEN + "1\tSpectrogram 1\t1\t1\t2\t\t\train\n",
        "south/a.txt": "2\t3\train\n",
        "b.wav.csv": "start,end,label\n0,1,rain\n",
        "c.TextGrid": GRID,
    }.items():
        written(tmp_path / "notes", name, text)
    found = AnnotatedRecordings.read(recordings, tmp_path / "notes", ["rain", "dog"])
    assert [times(each) for each in found.annotations] == [[("rain", 1, 2)], [("rain", 0, 1)], [("rain", 2, 3)]]
    assert found.left_out == ("2 annotations of files that are not among the recordings: c.TextGrid (2)",)
    written(tmp_path / "other", "a.txt", "2\t3\train\n")
    with pytest.raises(ValueError, match=r"expected .*a\.txt to be about one recording, .* north/a\.wav, south/a\.wav"):
        AnnotatedRecordings.read(recordings, tmp_path / "other", ["rain"])


def test_the_only_file_is_about_the_only_recording(recordings, tmp_path):
    only = Recordings(recordings.folder, recordings.names[1:2])
    found = AnnotatedRecordings.read(only, written(tmp_path, "notes.txt", "1\t2\train\n"), ["rain"])
    assert times(found.annotations[0]) == [("rain", 1, 2)]


def test_the_table_of_a_dawn_chorus():
    """Chronister et al.: 279 boxes, of which those up to 10 s are in the excerpt; their places are a loop's."""
    folder = Path(os.environ.get("CAPTUM_APEX_DATA") or "nowhere", "field")
    table = folder / "Recording_1_Segment_07.Table.1.selections.txt"
    if not table.exists():
        pytest.skip("the field recordings are not here: CAPTUM_APEX_DATA names the folder of all recordings")
    recordings = Recordings(folder, ("Recording_1_Segment_07-snippet.wav",))
    rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
    found = AnnotatedRecordings.read(recordings, table, ["EATO", "WOTH"])
    expected = [
        (row[7], float(row[3]), min(float(row[4]), 10.0), float(row[5]), float(row[6]))
        for row in rows
        if row[7] in ("EATO", "WOTH") and float(row[3]) < 10
    ]
    assert len(expected) == 5
    (annotations,) = found.annotations
    assert [(*one, *band) for one, band in zip(times(annotations), bands(annotations), strict=True)] == sorted(
        expected, key=lambda row: row[1]
    )
    late = sum(row[7] in ("EATO", "WOTH") for row in rows) - len(expected)
    assert found.left_out[1] == (
        f"{late} annotations after the end of their recording: Recording_1_Segment_07-snippet.wav ({late})"
    )


@pytest.mark.filterwarnings("ignore")
def test_formats_of_crowsetta(tmp_path):
    crowsetta = pytest.importorskip("crowsetta")
    path = written(tmp_path, "a.csv", "onset_s,offset_s,label\n0.5,1.5,dog\n2.0,3.0,rain\n")
    assert times(read_annotations(path, reader="simple-seq")) == times(read_annotations(path)) == SAME
    table = written(
        tmp_path, "b.txt", RAVEN.replace("Species", "Annotation") + "1\tS 1\t1\t0.5\t1.5\t200.5\t300.5\tdog\n"
    )
    theirs = from_crowsetta(crowsetta.formats.bbox.Raven.from_file(table).to_annot())
    (ours,) = read_annotations(table)
    assert (times(theirs), bands(theirs)) == (times([ours]), bands([ours]))
    with pytest.raises(ValueError, match="expected a format of crowsetta among aud-bbox, .*, but got 'excel'"):
        read_annotations(path, reader="excel")
    with pytest.raises(ValueError, match="to be of crowsetta's format 'raven', but "):
        read_annotations(path, reader="raven")


def test_what_is_no_annotation_of_crowsetta():
    with pytest.raises(TypeError, match="expected a crowsetta.Annotation, but got str"):
        from_crowsetta("a.csv")
