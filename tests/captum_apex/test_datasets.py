"""Public collections, on tiny ones in the same format."""

import io
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from captum_apex import Classifier, FeatureBank
from captum_apex.datasets import birdset, esc10, esc50, fsdd, wavefake

DATA = os.environ.get("CAPTUM_APEX_DATA")
needs_recordings = pytest.mark.skipif(not DATA, reason="CAPTUM_APEX_DATA does not name a folder of recordings")


def put(path, samples=160, rate=8000, value=0.25):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(samples, value), rate, format=path.suffix[1:])


def write_digits(folder):
    for digit, speaker, index in [
        (0, "theo", 0),
        (0, "theo", 12),
        (0, "theo", 5),
        (9, "lucas", 4),
        (9, "lucas", 40),
        (1, "theo", 1),
    ]:
        put(folder / f"{digit}_{speaker}_{index}.wav", value=digit / 16)
    return folder


def names(recordings):
    return [Path(name).name for name in recordings.names]


# --- FSDD -----------------------------------------------------------------------------------------------------------------


def test_digits_are_read_with_the_customary_parts(tmp_path):
    folder = write_digits(tmp_path)
    both, train, test = fsdd(folder), fsdd(folder, "train"), fsdd(folder, "test")
    assert names(test) == ["0_theo_0.wav", "1_theo_1.wav", "9_lucas_4.wav"]
    assert names(train) == ["0_theo_12.wav", "0_theo_5.wav", "9_lucas_40.wav"]
    assert names(both) == sorted([*names(train), *names(test)])
    assert [test.class_names[label] for label in test.labels] == ["zero", "one", "nine"]
    assert test.groups == ("theo", "theo", "lucas")
    assert test.waveform(2, 8000, 3).tolist() == [9 / 16] * 3


def test_speakers_make_parts_without_a_voice_in_common(tmp_path):
    folder = write_digits(tmp_path)
    train, test = fsdd(folder, speakers=["theo"]), fsdd(folder, speakers=["lucas"])
    assert (set(train.groups), set(test.groups)) == ({"theo"}, {"lucas"})
    assert len(train) + len(test) == len(fsdd(folder))


def test_digits_that_are_not_right_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder at .*none"):
        fsdd(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="expected recordings in .*, but there are none that were asked for"):
        fsdd(tmp_path)
    write_digits(tmp_path)
    with pytest.raises(ValueError, match="`part` to be 'train', 'test' or None, but got 'valid'"):
        fsdd(tmp_path, "valid")
    with pytest.raises(ValueError, match="`speakers` among lucas, theo, but got 'anna'"):
        fsdd(tmp_path, speakers=["theo", "anna"])
    with pytest.raises(ValueError, match="`speakers` among lucas, theo, but got 'theo'"):
        fsdd(tmp_path, speakers="theo")
    put(tmp_path / "zero.wav")
    with pytest.raises(ValueError, match=r"named \{digit\}_\{speaker\}_\{index\}\.wav in .*, but got 'zero\.wav'"):
        fsdd(tmp_path)


@needs_recordings
def test_the_real_digits_are_complete():
    train, test = fsdd(Path(DATA) / "fsdd", "train"), fsdd(Path(DATA) / "fsdd", "test")
    assert Counter(train.labels) == dict.fromkeys(range(10), 225)
    assert Counter(test.labels) == dict.fromkeys(range(10), 25)
    assert not set(train.names) & set(test.names)


# --- ESC ------------------------------------------------------------------------------------------------------------------

# filename, fold, target, category, esc10, src_file, take
TABLE = [
    ("1-30-A-40.wav", 1, 40, "helicopter", True, "30", "A"),
    ("1-20-A-1.wav", 1, 1, "rooster", True, "20", "A"),
    ("1-10-A-0.wav", 1, 0, "dog", True, "10", "A"),
    ("1-10-B-0.wav", 1, 0, "dog", True, "10", "B"),
    ("2-50-A-2.wav", 2, 2, "pouring_water", False, "50", "A"),
    ("5-60-A-1.wav", 5, 1, "rooster", True, "60", "A"),
]
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


def write_esc50(folder, columns=COLUMNS):
    for row in TABLE:
        put(folder / "audio" / row[0], value=row[1] / 16)
    (folder / "meta").mkdir()
    lines = [
        ",".join(columns),
        *(",".join(str(dict(zip(COLUMNS, row, strict=True))[name]) for name in columns) for row in TABLE),
    ]
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_esc50_is_read_by_folds(tmp_path):
    folder = write_esc50(tmp_path)
    whole, first = esc50(folder), esc50(folder, folds=[1])
    assert names(whole) == sorted(row[0] for row in TABLE)
    assert whole.class_names == first.class_names == ("dog", "rooster", "pouring water", "helicopter")
    assert dict(zip(names(whole), whole.labels, strict=True))["1-30-A-40.wav"] == 3
    assert names(first) == ["1-10-A-0.wav", "1-10-B-0.wav", "1-20-A-1.wav", "1-30-A-40.wav"]
    assert first.groups == ("10", "10", "20", "30")
    assert first.twins(0) == (1,)
    assert not set(first.groups) & set(esc50(folder, folds={2, 5}).groups)
    assert esc50(folder, folds=[5]).waveform(0, 8000, 2).tolist() == [5 / 16] * 2


def test_esc10_is_a_part_of_esc50_with_labels_of_its_own(tmp_path):
    found = esc10(write_esc50(tmp_path))
    assert found.class_names == ("dog", "rooster", "helicopter")
    assert names(found) == ["1-10-A-0.wav", "1-10-B-0.wav", "1-20-A-1.wav", "1-30-A-40.wav", "5-60-A-1.wav"]
    assert found.labels == (0, 0, 1, 2, 1)


@pytest.mark.parametrize("folders", [("001_dog_bark", "002_rain"), ("001 - Dog bark", "002 - Rain")])
def test_the_older_esc10_is_read_too(tmp_path, folders):
    for name in ("1-10-A.ogg", "2-20-A.ogg", "2-20-B.ogg"):
        put(tmp_path / folders[0] / name, samples=4000)
    put(tmp_path / folders[1] / "1-30-A.ogg", samples=4000)
    whole, second = esc10(tmp_path), esc10(tmp_path, folds=[2])
    assert [name.lower() for name in whole.class_names] == ["dog bark", "rain"]
    assert whole.labels == (0, 0, 0, 1)
    assert (names(second), second.groups, second.labels) == (["2-20-A.ogg", "2-20-B.ogg"], ("20", "20"), (0, 0))
    assert second.class_names == whole.class_names


def test_esc_that_is_not_right_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="ESC-50's table at .*esc50.csv, but there is none"):
        esc50(tmp_path)
    with pytest.raises(FileNotFoundError, match="meta/esc50.csv, or folders such as 001_dog_bark"):
        esc10(tmp_path)
    folder = write_esc50(tmp_path)
    for folds, got in ([[1, 7], "7"], [[], r"\[\]"]):
        with pytest.raises(ValueError, match=rf"`folds` among 1, 2, 5, but got {got}"):
            esc50(folder, folds=folds)
    (folder / "audio" / "5-60-A-1.wav").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"a recording at .*5-60-A-1\.wav, which ESC-50's table names, but there is none"
    ):
        esc50(folder)
    put(tmp_path / "older" / "001_dog_bark" / "bark.wav")
    with pytest.raises(ValueError, match=r"named \{fold\}-\{source\}-\{take\} in .*001_dog_bark, but got 'bark\.wav'"):
        esc10(tmp_path / "older")


@pytest.mark.parametrize("missing", ["esc10", "src_file"])
def test_a_missing_column_is_named(tmp_path, missing):
    folder = write_esc50(tmp_path, [name for name in COLUMNS if name != missing])
    with pytest.raises(ValueError, match=rf"esc50\.csv to have a column '{missing}', but it has filename, fold"):
        esc50(folder)


@needs_recordings
def test_no_source_of_the_real_esc10_is_in_two_folds():
    folder = Path(DATA) / "esc10"
    parts = [esc10(folder, folds=[fold]) for fold in (1, 2, 3, 4)]
    assert [len(part) for part in parts] == [80] * 4
    assert len(set.union(*(set(part.groups) for part in parts))) == sum(len(set(part.groups)) for part in parts)


# --- WaveFake -------------------------------------------------------------------------------------------------------------

SUFFIXES = {"ljspeech_hifiGAN": "_generated", "ljspeech_melgan": "_gen", "ljspeech_waveglow": ""}
UTTERANCES = ("LJ001-0001", "LJ040-0002", "LJ041-0001")


def write_wavefake(folder):
    for utterance in UTTERANCES:
        put(folder / "LJSpeech-1.1" / "wavs" / f"{utterance}.wav")
        for vocoder, suffix in SUFFIXES.items():
            put(folder / "generated_audio" / vocoder / f"{utterance}{suffix}.wav")
    put(folder / "generated_audio" / "jsut_parallel_wavegan" / "BASIC5000_0001_gen.wav")
    return folder / "LJSpeech-1.1", folder / "generated_audio"


def test_real_and_vocoded_twins_follow_one_another(tmp_path):
    found = wavefake(*write_wavefake(tmp_path))
    assert found.class_names == ("real", "vocoded")
    assert found.labels == (0, 1, 1, 1) * 3
    assert found.groups == tuple(utterance for utterance in UTTERANCES for _ in range(4))
    assert found.names[:4] == (
        "LJSpeech-1.1/wavs/LJ001-0001.wav",
        "generated_audio/ljspeech_hifiGAN/LJ001-0001_generated.wav",
        "generated_audio/ljspeech_melgan/LJ001-0001_gen.wav",
        "generated_audio/ljspeech_waveglow/LJ001-0001.wav",
    )
    assert found.twins(5) == (4, 6, 7)
    assert len(found.waveform(5, 8000)) == 160


def test_no_utterance_is_in_both_parts_whatever_the_vocoders(tmp_path):
    folders = write_wavefake(tmp_path)
    train = wavefake(*folders, "train", vocoders=["ljspeech_melgan"])
    test = wavefake(*folders, "test", vocoders=["ljspeech_hifiGAN", "ljspeech_waveglow"])
    assert set(train.groups) == {"LJ001-0001", "LJ040-0002"}
    assert set(test.groups) == {"LJ041-0001"}
    assert (train.labels, test.labels) == ((0, 1, 0, 1), (0, 1, 1))


def test_utterances_that_lack_a_form_are_left_out_with_a_message(tmp_path):
    folders = write_wavefake(tmp_path)
    (folders[0] / "wavs" / "LJ001-0001.wav").unlink()
    (folders[1] / "ljspeech_melgan" / "LJ041-0001_gen.wav").unlink()
    with pytest.warns(UserWarning, match="2 of 3 utterances are not there in all forms and are left out"):
        assert set(wavefake(*folders).groups) == {"LJ040-0002"}


def test_wavefake_that_is_not_right_is_named(tmp_path):
    ljspeech, generated = write_wavefake(tmp_path)
    with pytest.raises(FileNotFoundError, match="a folder at .*none.wavs"):
        wavefake(tmp_path / "none", generated)
    with pytest.raises(ValueError, match="`vocoders` among ljspeech_hifiGAN, .*, but got 'ljspeech_mp3'"):
        wavefake(ljspeech, generated, vocoders=["ljspeech_mp3"])
    with pytest.raises(FileNotFoundError, match="a sub-folder per vocoder, such as ljspeech_melgan, in .*wavs"):
        wavefake(ljspeech, ljspeech / "wavs")


# --- BirdSet --------------------------------------------------------------------------------------------------------------

CODES = ["gcrfin", "whcspa", "amepip"]
RATE = 32_000


def encoded(seconds, rate=RATE):
    """A recording whose samples grow by the second, so that a sample says where it comes from."""
    file = io.BytesIO()
    soundfile.write(file, np.arange(round(seconds * rate)) / rate / 64, rate, format="wav", subtype="FLOAT")
    return file.getvalue()


def features():
    """BirdSet's, as far as they matter here; the sounds as they are stored, since `datasets` encodes them by torchcodec only."""
    from datasets import ClassLabel, Features, Sequence, Value

    return Features(
        {
            "audio": {"bytes": Value("binary"), "path": Value("string")},
            "filepath": Value("string"),
            "start_time": Value("float64"),
            "end_time": Value("float64"),
            "ebird_code": ClassLabel(names=CODES),
            "ebird_code_multilabel": Sequence(ClassLabel(names=CODES)),
            "detected_events": Sequence(Sequence(Value("float64"))),
            "event_cluster": Sequence(Value("int64")),
            "quality": Value("string"),
        }
    )


def split(rows):
    from datasets import Audio, Dataset

    given = features()
    stored = Dataset.from_list([dict.fromkeys(given) | row for row in rows], features=given)
    return stored.cast_column("audio", Audio(sampling_rate=RATE))


def segments():
    """As in `test_5s`: 5 s each, with several calls or none."""
    return split(
        {
            "audio": {"bytes": encoded(seconds), "path": None},
            "filepath": f"/cache/HSN_001_{index}.ogg",
            "start_time": 0.0,
            "end_time": seconds,
            "ebird_code_multilabel": codes,
        }
        for index, (seconds, codes) in enumerate([(5.0, [0, 2]), (5.0, []), (1.25, [1])])
    )


def focal(events, clusters, **more):
    """As in `train`: a recording of 20 s, with detected events."""
    row = {
        "audio": {"bytes": encoded(20), "path": None},
        "filepath": "XC1.ogg",
        "ebird_code": 1,
        "ebird_code_multilabel": [1],
    }
    return split([row | {"detected_events": events, "event_cluster": clusters} | more])


def times(birds, index):
    """The seconds of the recording that a clip's first and last sample come from."""
    waveform = birds.waveform(index, RATE, 5 * RATE) * 64
    return waveform[0].item(), waveform[-1].item()


def test_segments_have_several_species_or_none():
    birds = birdset(segments())
    assert birds.class_names == tuple(CODES)
    assert birds.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert [birds.name(index) for index in range(len(birds))] == ["HSN_001_0.ogg", "HSN_001_1.ogg", "HSN_001_2.ogg"]
    waveform = birds.waveform(0, RATE, 5 * RATE)
    assert (waveform.shape, waveform.dtype) == ((160_000,), torch.float32)
    assert times(birds, 0) == pytest.approx((0, 5), abs=1e-4)
    assert (
        birds.waveform(2, RATE, 5 * RATE).count_nonzero() == 1.25 * RATE - 1
    )  # the first sample is 0, and what was added


@pytest.mark.parametrize(
    ("events", "clusters", "start"),
    [
        ([[1.0, 2.0], [9.0, 10.0], [12.0, 13.0]], [1, 0, 0], 7.0),  # the larger cluster, its first event
        ([[8.0, 9.0], [3.0, 5.0]], [0, 1], 6.0),  # as large: the first cluster
        ([[1.0, 2.0], [2.5, 3.0], [10.0, 11.0]], [-1, -1, 0], 8.0),  # noise is no call
        ([[10.0, 11.0]], [-1], 8.0),  # unless there is nothing else
        ([[0.0, 1.0]], [0], 0.0),
        ([[19.0, 20.0]], [0], 15.0),
        ([[10.0, 11.0]], None, 8.0),
        ([], [], 0.0),
        (None, None, 0.0),
    ],
)
def test_a_focal_recording_is_cut_around_its_first_event(events, clusters, start):
    birds = birdset(focal(events, clusters))
    assert times(birds, 0) == pytest.approx((start, start + 5), abs=1e-4)
    assert len(birds.waveform(0, RATE)) == 20 * RATE


@pytest.mark.parametrize(
    ("start", "end", "first"), [(9.0, 12.0, 8.0), (9.0, None, 0.0), (float("nan"), float("nan"), 0.0)]
)
def test_without_detected_events_the_rows_own_times_count(start, end, first):
    assert times(birdset(focal(None, None, start_time=start, end_time=end)), 0) == pytest.approx(
        (first, first + 5), abs=1e-4
    )


def test_a_row_without_a_list_of_species_has_one():
    assert birdset(focal([], [], ebird_code_multilabel=None, ebird_code=2)).labels.tolist() == [[0, 0, 1]]
    assert birdset(focal([], [], ebird_code_multilabel=None, ebird_code=None)).labels.tolist() == [[0, 0, 0]]


def test_names_come_from_the_audio_where_there_is_no_column_of_them():
    audio = [{"bytes": encoded(1), "path": "a/XC9.ogg"}, {"bytes": encoded(1), "path": None}]
    rows = split([{"audio": sound, "ebird_code_multilabel": []} for sound in audio]).remove_columns("filepath")
    assert birdset(rows).names == ("XC9.ogg", "clip 1")
    assert birdset(rows.select([1, 0])).names == ("clip 0", "XC9.ogg")


def test_sounds_can_lie_in_files(tmp_path):
    (tmp_path / "XC1.ogg").write_bytes(encoded(20))
    birds = birdset(focal([[10.0, 11.0]], [0], audio={"bytes": None, "path": str(tmp_path / "XC1.ogg")}))
    assert times(birds, 0) == pytest.approx((8, 13), abs=1e-4)
    (tmp_path / "XC1.ogg").unlink()
    with pytest.raises(FileNotFoundError, match=r"a recording of BirdSet at .*XC1\.ogg, but there is none"):
        birds.waveform(0, RATE)


def test_another_rate_is_converted_with_a_message_or_refused():
    birds = birdset(focal([[10.0, 11.0]], [0]))
    with pytest.warns(UserWarning, match="recordings at 32000 Hz are resampled to 16000 Hz"):
        waveform = birds.waveform(0, 16_000, 80_000)
    assert (waveform[8000] * 64).item() == pytest.approx(8.5, abs=1e-2)  # half a second after the beginning
    with pytest.raises(ValueError, match=r"XC1\.ogg at 16000 Hz with one channel, but got 32000 Hz with 1"):
        birds.waveform(0, 16_000, convert=False)


def test_the_fingerprint_follows_names_places_and_labels():
    before = birdset(focal([[10.0, 11.0]], [0])).fingerprint()
    assert birdset(focal([[10.0, 11.0]], [0], filepath="/elsewhere/XC1.ogg")).fingerprint() == before
    for changed in ({"filepath": "XC2.ogg"}, {"detected_events": [[10.0, 12.0]]}, {"ebird_code_multilabel": [0]}):
        assert birdset(focal([[10.0, 11.0]], [0], **changed)).fingerprint() != before


def test_a_split_that_was_saved_is_read_in_the_same_order(tmp_path):
    from datasets import load_from_disk

    segments().save_to_disk(tmp_path / "HSN")
    assert birdset(load_from_disk(tmp_path / "HSN")).fingerprint() == birdset(segments()).fingerprint()


def test_a_name_is_loaded_from_the_hub(monkeypatch):
    asked = []
    monkeypatch.setattr("datasets.load_dataset", lambda *names, split: asked.append((*names, split)) or segments())
    assert len(birdset("HSN")) == 3
    birdset("POW", "train")
    assert asked == [("DBD-research-group/BirdSet", "HSN", "test_5s"), ("DBD-research-group/BirdSet", "POW", "train")]


def test_a_version_that_cannot_load_birdset_by_name_is_said(monkeypatch):
    def refuse(*_, split):
        raise RuntimeError("Dataset scripts are no longer supported, but found BirdSet.py")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(ValueError, match=r"a version of `datasets` before 4, .*load_from_disk"):
        birdset("HSN")


def test_what_is_no_split_of_birdset_is_refused(monkeypatch):
    from datasets import DatasetDict

    with pytest.raises(TypeError, match="or one split of it as a datasets.Dataset, but got a dict of train, test_5s"):
        birdset(DatasetDict(train=segments(), test_5s=segments()))
    with pytest.raises(TypeError, match="but got int"):
        birdset(3)
    with pytest.raises(ValueError, match="with a column 'ebird_code_multilabel', but got audio, filepath"):
        birdset(segments().remove_columns("ebird_code_multilabel"))
    with pytest.raises(ValueError, match="lists of class labels in the column 'ebird_code_multilabel', but got None"):
        birdset(segments().remove_columns("ebird_code_multilabel").add_column("ebird_code_multilabel", ["a"] * 3))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"the `datasets` library, .*captum-apex\[birdset\]"):
        birdset("HSN")


# --- all of them ----------------------------------------------------------------------------------------------------------


def test_every_collection_becomes_a_models_inputs_and_a_bank(tmp_path):
    """What the model is given is the transform of the very sound, in the collection's order, with its label."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1))
    collections = [fsdd(write_digits(tmp_path / "fsdd")), esc50(write_esc50(tmp_path / "esc")), birdset(segments())]
    collections.append(wavefake(*write_wavefake(tmp_path / "wavefake"), "train"))
    for found in collections:
        rate = RATE if isinstance(found.labels, torch.Tensor) else 8000
        classifier = Classifier(model, lambda waveform: waveform.reshape(1, 8, 20), rate, found.class_names, length=160)
        inputs = classifier.dataset(found)
        assert torch.equal(inputs[1][0].flatten(), found.waveform(1, rate, 160))
        bank = FeatureBank.from_dataset(model, model[0], inputs)
        assert bank.labels.tolist() == torch.as_tensor(found.labels).tolist()
        assert len(found.fingerprint()) == 64
