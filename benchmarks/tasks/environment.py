"""Environmental sounds: ESC-10, ten classes of five-second recordings."""

from __future__ import annotations

from benchmarks.tasks.recorded_task import data_folder, labelled, recorded_task
from benchmarks.tasks.task import LogMel, Split, Task
from captum_apex.datasets import esc10

RATE = 22_050  # Hz
SAMPLES = 5 * RATE
LOG_MEL = LogMel(RATE, n_fft=1024, window=1024, hop=512, lowest=50.0, floor=-60.0)  # 216 frames in 5 s
FOLDS: dict[Split, tuple[int, ...]] = {"train": (1, 2, 3), "test": (4,)}  # clips of one source share a fold


def read_environment() -> Task:
    """The task of ten environmental sounds; fold 4 is the test split.

    Raises:
        FileNotFoundError: the recordings are not there.

    Example:
        >>> from benchmarks.tasks.environment import read_environment
        >>> read_environment().classes[:2]  # doctest: +SKIP
        ('dog bark', 'rain')
    """
    folder = data_folder("esc10", "{number}_{class}/{fold}-{source}-{take}.ogg")
    splits = {split: esc10(folder, folds) for split, folds in FOLDS.items()}
    return recorded_task("environment", splits["train"].class_names, labelled(splits), LOG_MEL, SAMPLES)
