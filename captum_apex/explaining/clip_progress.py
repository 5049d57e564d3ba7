"""The progress of explanations: a bar over the clips, and after the first one a word on how long all will take."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from time import perf_counter

from tqdm.auto import tqdm

from captum_apex.explaining.clip_sources import ClipSource
from captum_apex.progress import bar_settings
from captum_apex.texts import minutes_text

__all__ = ["explained_in_turn", "long_explaining_text"]

_LONG = 60.0  # s; of explanations that take longer something is said after the first clip


def explained_in_turn(sources: Sequence[ClipSource], shown: bool | None) -> Iterator[ClipSource]:
    """The clips one after the other, with a bar that moves when the next one is asked for.

    Args:
        sources: the clips.
        shown: whether there is a bar, as in `captum_apex.progress.bar_settings`.

    Example:
        >>> import torch
        >>> from captum_apex.explaining.clip_progress import explained_in_turn
        >>> from captum_apex.explaining.clip_sources import ClipSource
        >>> clips = [ClipSource("a.wav", lambda: torch.zeros(3)), ClipSource("b.wav", lambda: torch.zeros(3))]
        >>> [source.name for source in explained_in_turn(clips, shown=False)]
        ['a.wav', 'b.wav']
    """
    start = perf_counter()
    with tqdm(sources, desc="explaining", unit="clip", **bar_settings(shown)) as bar:
        for number, source in enumerate(bar):
            if number == 1 and not bar.disable:
                text = long_explaining_text(len(sources), perf_counter() - start)
                if text:
                    tqdm.write(text, file=sys.stderr)
            yield source


def long_explaining_text(n_clips: int, seconds: float) -> str:
    """How long the explanations of all clips will take and what would take less time; empty for up to a minute.

    Args:
        n_clips: number of clips.
        seconds: time that the first clip took, in s. Later ones take less where they show prototypes that an earlier
            one has shown, whose regions are known.

    Example:
        >>> from captum_apex.explaining.clip_progress import long_explaining_text
        >>> long_explaining_text(8, seconds=0.5)
        ''
        >>> print(long_explaining_text(8, seconds=26.0))
        The first of 8 clips took 26 s: all will take up to about 3 minutes. Fewer channels or prototypes take less
        time, and so does no search for regions (n_channels=, n_prototypes=, search=None; on the command line
        --channels, --prototypes, --cells).
    """
    if n_clips * seconds <= _LONG:
        return ""
    return (
        f"The first of {n_clips} clips took {seconds:.2g} s: all will take up to about "
        f"{minutes_text(n_clips * seconds)}. Fewer channels or prototypes take less\ntime, and so does no search for "
        "regions (n_channels=, n_prototypes=, search=None; on the command line\n--channels, --prototypes, --cells)."
    )
