"""Tiny collections in the layout of the public ones."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

DATA = os.environ.get("CAPTUM_APEX_DATA")
needs_recordings = pytest.mark.skipif(not DATA, reason="CAPTUM_APEX_DATA does not name a folder of recordings")


def put(path, samples=160, rate=8000, value=0.25):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(samples, value), rate, format=path.suffix[1:])


def names(recordings):
    return [Path(name).name for name in recordings.names]


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


SUFFIXES = {"ljspeech_hifiGAN": "_generated", "ljspeech_melgan": "_gen", "ljspeech_waveglow": ""}
UTTERANCES = ("LJ001-0001", "LJ040-0002", "LJ041-0001")


def write_wavefake(folder):
    for utterance in UTTERANCES:
        put(folder / "LJSpeech-1.1" / "wavs" / f"{utterance}.wav")
        for vocoder, suffix in SUFFIXES.items():
            put(folder / "generated_audio" / vocoder / f"{utterance}{suffix}.wav")
    put(folder / "generated_audio" / "jsut_parallel_wavegan" / "BASIC5000_0001_gen.wav")
    return folder / "LJSpeech-1.1", folder / "generated_audio"


CODES = ["gcrfin", "whcspa", "amepip"]
RATE = 32_000


def encoded(seconds, rate=RATE):
    """An audio file with the time of each sample as its value, divided by 64."""
    file = io.BytesIO()
    soundfile.write(file, np.arange(round(seconds * rate)) / rate / 64, rate, format="wav", subtype="FLOAT")
    return file.getvalue()


def features():
    """BirdSet's features; the sounds as stored bytes, because `datasets` encodes sounds only with torchcodec."""
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
    """A split of BirdSet with these rows; a missing entry is None."""
    from datasets import Audio, Dataset

    columns = features()
    stored = Dataset.from_list([dict.fromkeys(columns) | row for row in rows], features=columns)
    return stored.cast_column("audio", Audio(sampling_rate=RATE))


def segments():
    """A split like `test_5s`: clips of 5 s at most, with several species or none."""
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
