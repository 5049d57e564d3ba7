"""Environmental sounds: ESC-10, ten classes of five-second recordings."""

from __future__ import annotations

from benchmarks.tasks.recordings import Recording, data_folder, recorded_task
from benchmarks.tasks.task import LogMel, Split, Task

RATE = 22_050  # Hz
SAMPLES = 5 * RATE
LOG_MEL = LogMel(RATE, n_fft=1024, window=1024, hop=512, lowest=50.0, floor=-60.0)  # five seconds are 216 frames
FOLDS: dict[str, Split] = {"1": "train", "2": "train", "3": "train", "4": "test"}  # clips of one source share a fold


def read_environment() -> Task:
    """The task of ten environmental sounds; fold 4 is the test part.

    Raises:
        FileNotFoundError: the recordings are not there.
    """
    folder = data_folder("esc10", "{number}_{class}/{fold}-{source}-{take}.ogg")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())  # such as 001_dog_bark
    recordings = []
    for label, name in enumerate(names):
        for path in sorted((folder / name).glob("*.ogg")):
            if split := FOLDS.get(path.name.split("-")[0]):
                recordings.append(Recording(path, label, split))
    classes = [name.split("_", 1)[1].replace("_", " ") for name in names]
    return recorded_task("environment", classes, recordings, LOG_MEL, SAMPLES)
