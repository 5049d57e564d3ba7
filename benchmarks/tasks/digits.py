"""Spoken digits: the Free Spoken Digit Dataset, ten words from five speakers at 8 kHz."""

from __future__ import annotations

from benchmarks.tasks.recorded_task import data_folder, labelled, recorded_task
from benchmarks.tasks.task import SPLITS, LogMel, Task
from captum_apex.datasets import fsdd

RATE = 8_000  # Hz
SAMPLES = RATE  # one second; 0.9% of the recordings are longer and are cut at their end
LOG_MEL = LogMel(RATE, n_fft=512, window=256, hop=64, lowest=50.0, floor=-60.0)  # 126 frames per second


def read_digits() -> Task:
    """The task of ten spoken digits.

    Raises:
        FileNotFoundError: the recordings are not there.

    Example:
        >>> from benchmarks.tasks.digits import read_digits
        >>> read_digits().classes[:3]  # doctest: +SKIP
        ('zero', 'one', 'two')
    """
    folder = data_folder("fsdd", "{digit}_{speaker}_{take}.wav")
    splits = {split: fsdd(folder, split) for split in SPLITS}
    return recorded_task("digits", splits["train"].class_names, labelled(splits), LOG_MEL, SAMPLES)
