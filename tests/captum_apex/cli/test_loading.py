"""The training recordings of a command: a folder or a CSV file."""

import numpy as np
import pytest
import soundfile
import torch

from captum_apex import Classifier
from captum_apex.cli.loading import training_recordings


@pytest.fixture
def classifier():
    return Classifier(torch.nn.Linear(100, 2), lambda waveform: waveform[:100], 8000, ["rain", "dog bark"])


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(100, 0.25), 8000)


@pytest.mark.parametrize("name", ["sounds.csv", "sounds.TSV", "sounds.txt"])
def test_a_csv_file_has_the_labels_of_its_rows(classifier, tmp_path, name):
    for file in ("a.wav", "b.wav"):
        put(tmp_path / file)
    (tmp_path / name).write_text("filename;class\nb.wav;Dog_bark\na.wav;rain\n")
    recordings = training_recordings(classifier, tmp_path / name, skip_bad=False)
    assert (recordings.names, recordings.labels) == (("b.wav", "a.wav"), (1, 0))
    assert classifier.dataset(recordings)[0][1] == 1


def test_bad_and_missing_files_of_a_table_are_left_out_and_said(classifier, tmp_path, capsys):
    put(tmp_path / "a.wav")
    (tmp_path / "bad.wav").write_text("no sound")
    table = tmp_path / "sounds.csv"
    table.write_text("file,label\nbad.wav,rain\ngone.wav,rain\na.wav,dog bark\n")
    with pytest.raises(FileNotFoundError, match=r"1 of 3 are missing: 'gone.wav' in line 3"):
        training_recordings(classifier, table, skip_bad=False)
    with pytest.warns(UserWarning, match="1 of 3 files, which are missing, the first 'gone.wav' in line 3"):
        recordings = training_recordings(classifier, table, skip_bad=True)
    assert (recordings.names, recordings.labels) == (("a.wav",), (1,))
    assert "bad.wav: expected" in capsys.readouterr().err


def test_a_folder_and_a_table_that_are_not_there_are_named_as_such(classifier, tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder of audio"):
        training_recordings(classifier, tmp_path / "gone", skip_bad=False)
    with pytest.raises(FileNotFoundError, match="expected a table"):
        training_recordings(classifier, tmp_path / "gone.csv", skip_bad=False)
