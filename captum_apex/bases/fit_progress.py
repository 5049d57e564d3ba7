"""The progress of a fit: a bar that knows how long the fit will take, and a word at the start of a long one."""

from __future__ import annotations

import sys
from time import perf_counter
from types import TracebackType

from tqdm.auto import tqdm

from captum_apex.bases.schemes import Scheme
from captum_apex.progress import bar_settings
from captum_apex.texts import minutes_text

__all__ = ["FitProgress", "long_fit_text"]

_LONG = 60.0  # s; of a fit that takes longer something is said at its start
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} since the start, {remaining} left"


class FitProgress:
    """The progress bar of a fit, to be used as a context manager.

    Args:
        scheme: the scheme of the fit.
        grid: numbers of rows and columns of the layer's grid; None where they are not known.
        total: the work of the whole fit: the number of cells that are compared in the searches for peaks.
        shown: whether anything is shown.

    Example:
        >>> from captum_apex import Scheme
        >>> from captum_apex.bases.fit_progress import FitProgress
        >>> with FitProgress(Scheme.SQUARE, (128, 256), total=1000, shown=False) as progress:
        ...     progress.advance(100)
        >>> progress.done
        100
    """

    def __init__(self, scheme: Scheme, grid: tuple[int, int] | None, total: int, shown: bool) -> None:
        self.scheme = scheme
        self.grid = grid
        self.total = total
        self.shown = shown
        self.done = 0
        self._start = perf_counter()
        self._bar = tqdm(
            total=total, desc=f"fitting {_described(scheme, grid)}", bar_format=_BAR, **bar_settings(shown)
        )

    def advance(self, n_cells: int) -> None:
        """Moves the bar; the first time, says how long the fit will take where that is more than a minute.

        Args:
            n_cells: number of cells that were compared since the last call.
        """
        is_first = self.done == 0
        self.done += n_cells
        self._bar.update(n_cells)
        if is_first and self.shown:
            text = long_fit_text(self.scheme, self.grid, self.done, self.total, perf_counter() - self._start)
            if text:
                tqdm.write(text, file=sys.stderr)

    def __enter__(self) -> FitProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


def long_fit_text(scheme: Scheme, grid: tuple[int, int] | None, done: int, total: int, seconds: float) -> str:
    """How long a fit will take and what would take less time; empty for a fit of up to a minute.

    Args:
        scheme: the scheme of the fit.
        grid: numbers of rows and columns of the layer's grid; None where they are not known.
        done: number of cells that have been compared.
        total: number of cells that will have been compared at the end.
        seconds: time since the start of the fit, in s.

    Example:
        >>> from captum_apex import Scheme
        >>> from captum_apex.bases.fit_progress import long_fit_text
        >>> long_fit_text(Scheme.SQUARE, (128, 256), done=1000, total=60_000, seconds=0.5)
        ''
        >>> print(long_fit_text(Scheme.SQUARE, (128, 256), done=1000, total=60_000, seconds=3.0))
        The fit of square on a grid of 128 × 256 will take about 3 minutes. A layer with fewer rows and columns takes
        less time, and so does another scheme, such as time (on the command line: --layer, --scheme time).
    """
    expected = seconds * total / max(done, 1)
    if expected <= _LONG:
        return ""
    begin = f"The fit of {_described(scheme, grid)} will take about {minutes_text(expected)}."
    if scheme is Scheme.SQUARE:
        return (
            f"{begin} A layer with fewer rows and columns takes\nless time, and so does another scheme, such as time "
            "(on the command line: --layer, --scheme time)."
        )
    return f"{begin} A layer with fewer channels takes less time\n(on the command line: --layer)."


def _described(scheme: Scheme, grid: tuple[int, int] | None) -> str:
    return str(scheme) if grid is None else f"{scheme} on a grid of {grid[0]} × {grid[1]}"
