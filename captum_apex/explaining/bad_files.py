"""Files that cannot be read: left out and listed, or an error that says how to leave them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

from captum_apex.caller import warn_caller
from captum_apex.classifiers.classifier import Classifier
from captum_apex.progress import bar_settings
from captum_apex.recordings.audio_file import UnreadableAudioError
from captum_apex.recordings.folders import Recordings

__all__ = ["SKIP_BAD", "all_bad_text", "left_out_text", "naming_setting", "readable_recordings", "warned_readable"]

SKIP_BAD = "`skip_bad=True`, or --skip-bad on the command line, leaves out files that cannot be read"
"""What to do about files that cannot be read, for messages."""


@contextmanager
def naming_setting() -> Iterator[None]:
    """The error for a file that cannot be read ends in the setting that leaves such files out.

    Example:
        >>> from captum_apex.explaining.bad_files import naming_setting
        >>> from captum_apex.recordings.audio_file import UnreadableAudioError
        >>> try:
        ...     with naming_setting():
        ...         raise UnreadableAudioError("expected a.wav to be audio")
        ... except ValueError as error:
        ...     print(str(error)[:44])
        expected a.wav to be audio; `skip_bad=True`,
    """
    try:
        yield
    except UnreadableAudioError as error:
        raise ValueError(f"{error}; {SKIP_BAD}") from error


def readable_recordings(
    classifier: Classifier, recordings: Recordings, *, progress: bool = False
) -> tuple[Recordings, dict[str, str]]:
    """The recordings that the classifier can read and transform, and the message of the error for each other one.

    Args:
        classifier: the classifier.
        recordings: the recordings, all of which are read.
        progress: whether to show a progress bar.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import Classifier, Recordings, listening
        >>> from captum_apex.explaining.bad_files import readable_recordings
        >>> classifier = Classifier(torch.nn.Linear(9, 1), lambda waveform: waveform[:9], 8000, ["dog"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.wav").write_text("no sound")
        ...     listening.write(Path(folder, "b.wav"), torch.zeros(100), 8000)
        ...     readable, bad = readable_recordings(classifier, Recordings.in_folder(folder))
        >>> readable.names, [Path(name).name for name in bad]
        (('b.wav',), ['a.wav'])
    """
    inputs = classifier.dataset(recordings)
    with tqdm(total=len(recordings), desc="reading", unit="file", **bar_settings(progress)) as bar:

        def attempt(index: int) -> None:
            bar.update()
            inputs.input(index)

        return recordings.readable(attempt)


def warned_readable(classifier: Classifier, recordings: Any, *, progress: bool = False) -> Recordings:
    """The recordings that can be read, after a warning that lists the others.

    Args:
        classifier: the classifier.
        recordings: the recordings, all of which are read.
        progress: whether to show a progress bar.

    Raises:
        TypeError: the recordings are no `Recordings`, of which files can be left out.
        ValueError: no recording can be read.

    Example:
        >>> import tempfile, warnings
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import Classifier, Recordings, listening
        >>> from captum_apex.explaining.bad_files import warned_readable
        >>> classifier = Classifier(torch.nn.Linear(9, 1), lambda waveform: waveform[:9], 8000, ["dog"])
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     _ = Path(folder, "a.wav").write_text("no sound")
        ...     listening.write(Path(folder, "b.wav"), torch.zeros(100), 8000)
        ...     names = warned_readable(classifier, Recordings.in_folder(folder)).names
        >>> names, str(caught[0].message).partition(":")[0]
        (('b.wav',), '1 of 2 files are left out')
    """
    if not isinstance(recordings, Recordings):
        raise TypeError(
            f"expected Recordings with `skip_bad=True`, of which files can be left out, but got "
            f"{type(recordings).__name__}; where they are slices, slice `recordings.readable(…)[0]`"
        )
    readable, bad = readable_recordings(classifier, recordings, progress=progress)
    if not len(readable):
        raise ValueError(all_bad_text(bad))
    if bad:
        warn_caller(left_out_text(bad, len(recordings)))
    return readable


def left_out_text(bad: Mapping[str, str], n_files: int) -> str:
    """The list of the files that are left out.

    Args:
        bad: the message of the error for each bad file, by its path.
        n_files: number of all files.

    Example:
        >>> from captum_apex.explaining.bad_files import left_out_text
        >>> print(left_out_text({"a.wav": "it is empty"}, n_files=3))
        1 of 3 files are left out:
          a.wav: it is empty
    """
    lines = [f"{len(bad)} of {n_files} files are left out:"]
    return "\n".join([*lines, *(f"  {name}: {message}" for name, message in bad.items())])


def all_bad_text(bad: Mapping[str, str]) -> str:
    """The message where no file can be read.

    Args:
        bad: the message of the error for each file, by its path.

    Example:
        >>> from captum_apex.explaining.bad_files import all_bad_text
        >>> all_bad_text({"a.wav": "it is empty"})
        'expected files that can be read, but all 1 are bad, such as a.wav: it is empty'
    """
    name, message = next(iter(bad.items()))
    return f"expected files that can be read, but all {len(bad)} are bad, such as {name}: {message}"
