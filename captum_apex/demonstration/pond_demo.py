"""`demo`: an explanation to look at and to listen to, within a minute of the installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from captum_apex.bases.schemes import SCHEMES
from captum_apex.caller import warn_caller
from captum_apex.demonstration.evening_sounds import SAMPLE_RATE, EveningSounds
from captum_apex.demonstration.pond_network import classifier
from captum_apex.explaining.classifier_bases import BASIS_SUFFIX
from captum_apex.explaining.explained_clips import ExplainedClips
from captum_apex.explaining.explainer import Explainer

__all__ = ["demo", "explainer"]

TITLE = "An evening by the pond"
_N_CHANNELS = 3
_PLAYERS = ("afplay", "pw-play", "paplay", "aplay")  # of macOS and of Linux


def demo(folder: str | os.PathLike = "captum-apex-demo", *, show: bool = True, progress: bool = True) -> ExplainedClips:
    """Explains twelve sounds of an evening by a pond in four perspectives, and writes and opens their page.

    Nothing is loaded from a network: the sounds are made from formulas, and a small classifier with its weights and
    bases is a part of the package. The explanations are computed, in some ten seconds.

    Args:
        folder: folder to write: `page.html`, the evidence as `evidence.csv`, and the sounds as WAV files in `sounds`.
        show: open the page in a browser and play a sound, where there is a screen and a player.
        progress: whether to show a progress bar.

    Returns:
        The explained clips.

    Raises:
        ValueError: the folder has other files than those of an earlier demonstration.

    Example:
        >>> from captum_apex import demo
        >>> len(demo("captum-apex-demo"))  # doctest: +SKIP
        12
    """
    folder = Path(folder)
    sounds = EveningSounds("demo")
    _check_folder(folder, sounds)
    with _removed_after_failure(folder, [folder / "sounds" / sounds.name(index) for index in range(len(sounds))]):
        paths = _written(sounds, folder / "sounds")
        explained = explainer().explain(sounds, n_channels=_N_CHANNELS, progress=progress)
        explained = _with_all_labels(explained, sounds)
        page = explained.write(folder / "page.html", title=TITLE)
        explained.write_csv(folder / "evidence.csv")
    if show:
        _show(page, paths[0])
    return explained


def explainer() -> Explainer:
    """The demonstration's classifier with bases of its training sounds, to explain sounds of your own.

    Example:
        >>> from captum_apex.demonstration import EveningSounds, explainer
        >>> explained = explainer().explain(EveningSounds("demo").waveform(3), n_channels=1, search=None)
        >>> explained.rows()[0]["explained"]
        'owl'
    """
    with as_file(files("captum_apex.demonstration")) as folder:
        paths = [folder / f"{scheme}{BASIS_SUFFIX}" for scheme in SCHEMES]
        return Explainer.load(paths, classifier(), EveningSounds("train"))


def _check_folder(folder: Path, sounds: EveningSounds) -> None:
    """Raises where the demonstration would write among files of the user."""
    is_earlier_one = (folder / "sounds" / sounds.name(0)).is_file()
    if folder.is_dir() and any(folder.iterdir()) and not is_earlier_one:
        raise ValueError(
            f"expected a new or empty folder, or that of an earlier demonstration, but {folder} has other files"
        )


@contextmanager
def _removed_after_failure(folder: Path, sounds: Sequence[Path]) -> Iterator[None]:
    """After an error or an interruption inside, files and folders that were not there before are removed."""
    files = [*sounds, folder / "page.html", folder / "evidence.csv"]
    folders = [folder / "sounds", folder, *folder.parents]  # the deepest first
    made = [path for path in (*files, *folders) if not os.path.lexists(path)]
    try:
        yield
    except BaseException:
        for path in made:
            with suppress(OSError):  # it was not made yet, or others have put files into the folder
                path.rmdir() if path in folders else path.unlink()
        raise


def _written(sounds: EveningSounds, folder: Path) -> list[Path]:
    """Writes the sounds as files; returns their paths."""
    from captum_apex import listening  # not needed by those who only import the package

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / sounds.name(index) for index in range(len(sounds))]
    for index, path in enumerate(paths):
        listening.write(path, sounds.waveform(index), SAMPLE_RATE)
    return paths


def _with_all_labels(explained: ExplainedClips, sounds: EveningSounds) -> ExplainedClips:
    """The clips labelled by all of their sounds, because a model that recognises the softer of two is not wrong."""
    labels = {sounds.name(index): ", ".join(sounds.sounding(index)) for index in range(len(sounds))}
    pages = [replace(page, clip=replace(page.clip, label=labels[page.clip.name])) for page in explained]
    return replace(explained, pages=tuple(pages))


def _show(page: Path, sound: Path) -> None:
    """Opens the page and plays a sound, where that is possible; warns where the page cannot be opened."""
    if not (_has_screen() and webbrowser.open(page.resolve().as_uri())):
        warn_caller(f"no browser could be opened here; open {page} in one")
    _play(sound)


def _has_screen() -> bool:
    """Whether a browser window can be opened; without a screen, a browser in the terminal would open."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _play(sound: Path) -> None:
    """Plays a sound in the background with a player of the system; nothing is heard where there is none."""
    if sys.platform == "win32":
        import winsound

        winsound.PlaySound(os.fspath(sound), winsound.SND_FILENAME | winsound.SND_ASYNC)
        return
    player = next(filter(None, map(shutil.which, _PLAYERS)), None)
    if player is not None:
        silent = subprocess.DEVNULL
        subprocess.Popen([player, sound], stdin=silent, stdout=silent, stderr=silent)
