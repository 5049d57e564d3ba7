"""Spoken digits: the Free Spoken Digit Dataset, ten words from five speakers at 8 kHz."""

from __future__ import annotations

from benchmarks.tasks.recordings import Recording, data_folder, recorded_task
from benchmarks.tasks.task import LogMel, Task

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 8_000  # Hz
SAMPLES = RATE  # one second; 0.9% of the recordings are longer, and are cut at their end
LOG_MEL = LogMel(RATE, n_fft=512, window=256, hop=64, lowest=50.0, floor=-60.0)  # one second are 126 frames
TEST_TAKES = range(5)  # the customary test part: the first five takes of each digit and speaker


def read_digits() -> Task:
    """The task of ten spoken digits.

    Raises:
        FileNotFoundError: the recordings are not there.
    """
    folder = data_folder("fsdd", "{digit}_{speaker}_{take}.wav")
    recordings = []
    for path in sorted(folder.glob("*.wav")):
        digit, _, take = path.stem.split("_")
        recordings.append(Recording(path, int(digit), "test" if int(take) in TEST_TAKES else "train"))
    return recorded_task("digits", CLASSES, recordings, LOG_MEL, SAMPLES)
