"""Explained clips: their page, their tables, and each of them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from captum_apex.audio.clip import Clip
from captum_apex.audio.regions import Box, Place, Region, in_order
from captum_apex.explaining.channel_names import Names, entries_by_basis
from captum_apex.explanations.event_tables import write_objects
from captum_apex.explanations.evidence import Evidence, Prototype
from captum_apex.explanations.explanation import Explanation
from captum_apex.files import replaced
from captum_apex.result_tables import counted
from captum_apex.texts import cell_text, encodable, short_names

if TYPE_CHECKING:
    from captum_apex.report import Page

__all__ = ["WHOLE_CLIP", "ExplainedClips"]

WHOLE_CLIP = "all of the clip"
"""The place of a box that covers both axes, in words."""

_PLACE = ("start_s", "end_s", "low_hz", "high_hz")
_DIGITS = 6  # significant digits of numbers in the tables
_ROUNDING = 1e-9  # of the ends of boxes that are moved out of a repetition
_WHOLE = Region((Box(low=0.0, high=1.0, start=0.0, end=1.0),))


@dataclass(frozen=True, repr=False)
class ExplainedClips(Sequence):
    """The explanations of several clips, in the order of the clips; each item is a `captum_apex.report.Page`.

    Args:
        pages: clip, explanations and prototypes of each clip and explained class.
        left_out: the message of the error for each clip that could not be read, by its name.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip, Evidence, ExplainedClips, Explanation, Region, Scheme
        >>> from captum_apex.report import Page
        >>> clip = Clip.from_waveform(torch.ones(8000), 8000, name="new.wav")
        >>> evidence = Evidence(17, 1, 2.5, 0.5, 0.9, Region((Box(low=0.0, high=1.0, start=0.25, end=0.5),)), ())
        >>> explanation = Explanation(Scheme("time"), 0, 4.0, 0.5, (evidence,), total=3.5)
        >>> explained = ExplainedClips((Page(clip, [explanation], {}, ["dog", "rain"]),))
        >>> row = explained.rows()[0]
        >>> row["explained"], row["channel"], row["start_s"], row["end_s"]
        ('dog', 17, 0.25, 0.5)
    """

    pages: tuple[Page, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pages)

    @overload
    def __getitem__(self, index: int) -> Page: ...

    @overload
    def __getitem__(self, index: slice) -> ExplainedClips: ...

    def __getitem__(self, index: int | slice) -> Page | ExplainedClips:
        return ExplainedClips(self.pages[index], self.left_out) if isinstance(index, slice) else self.pages[index]

    def write(
        self,
        path: str | os.PathLike,
        *,
        title: str = "Why the model heard that",
        limit: float = 64,
        names: Names | str | os.PathLike | None = None,
        progress: bool = False,
    ) -> Path:
        """Writes one HTML page with all clips, to look at and to listen to; see `captum_apex.report.write`.

        Args:
            path: path of the file.
            title: title of the whole.
            limit: largest size of the file in MB.
            names: names of channels, which the page shows: by scheme and channel, such as `{"time": {17: "knocks"}}`,
                or the path of a file that a page has exported. A name that a reader gives takes the place of it.
            progress: whether to show a progress bar, if the writing takes more than two seconds.

        Raises:
            ValueError: there is no page, the file would be larger than the limit, or names are of other schemes or
                cannot be read.
        """
        from captum_apex.report import write  # needs matplotlib, which fitting does without

        explanations = [explanation for page in self.pages for explanation in page.explanations]
        fingerprints = {str(each.scheme): each.record.get("basis", "") for each in explanations}
        entries = entries_by_basis(names, fingerprints)
        return write(path, self.pages, title=title, limit=limit, names=entries, progress=progress)

    def rows(self) -> list[dict[str, Any]]:
        """The evidence as a table, one row per channel, for example for `pandas.DataFrame(explained.rows())`.

        Returns:
            Each row by the names of its columns:

            - `clip`, `label`: name of the clip, and its class, empty where it is not known. The name of a file is its
              path as it was given; printed texts and pages leave out the folder that all files share.
            - `explained`, `score`, `probability`: the explained class, and the model's score and probability for it;
              the probability is None where the classifier does not say whether its classes exclude each other.
            - `silence_probability`: the probability of the class in digital silence, in the same way.
            - `scheme`, `channel`, `side`, `contribution`, `purity`: as in `Explanation` and `Evidence`.
            - `start_s`, `end_s`, `low_hz`, `high_hz`: the region, from its first to its last box; None for an axis that
              each of them covers: there is no band in the scheme `time`, and no time in the scheme `frequency`.
            - `boxes`: each box of the region in the same four columns, which are None for an axis that the box covers.
            - `channel_falls`, `random_falls`, `score_falls`, `doubts`: what masking the region takes away, as in
              `RegionEffect`; None and an empty text where it was not searched for.
            - `fires_at`: the boxes of the peak cell where the channel fires more strongly there than in the region;
              otherwise none.
            - `prototypes`: the training clips, each as its `clip`, `label`, `purity` and region.
            - `silent`: whether there is no sound in the region, for example because the clip has ended before it.
        """
        return [
            _row(page, explanation, evidence)
            for page in self.pages
            for explanation in page.explanations
            for evidence in explanation.evidence
        ]

    def write_csv(self, path: str | os.PathLike) -> Path:
        """Writes the table of `rows` as CSV; boxes and the names of prototypes are separated by semicolons.

        A name that begins with =, +, -, @ or a quotation mark gets an apostrophe before it, so that a spreadsheet takes
        it as text and not as a formula.
        """
        return _write_csv(path, self.rows())

    def write_json(self, path: str | os.PathLike) -> Path:
        """Writes the table of `rows` as JSON: a list with one object per channel."""
        return _write_json(path, self.rows())

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self, *, strongest: bool = False) -> list[str]:
        n_clips = len({id(page.clip) for page in self.pages})
        title = counted(n_clips, "explained clip")
        lines = [title if n_clips == len(self) else f"{title}, {counted(len(self), 'explanation')}"]
        names = short_names([page.clip.name for page in self.pages])
        for name, page in zip(names[:_N_LINES], self.pages, strict=False):
            lines.append(_line(name, page))
            lines += [f"    {line}" for line in page.strongest_texts(1)[:1]] if strongest else []
        if len(self) > _N_LINES:
            lines.append(f"  … and {len(self) - _N_LINES} more")
        if self.left_out:
            lines.append(f"  left out: {len(self.left_out)}")
        return lines

    def __str__(self) -> str:
        """The clips as `repr` lists them; of a few, each with the channel that supports its class most."""
        if len(self) > _N_LINES:
            return repr(self)
        return "\n".join(self._lines(strongest=True))

    def _repr_html_(self) -> str | None:
        try:
            from captum_apex.report.notebook import framed
        except ImportError:  # without matplotlib
            return None
        return framed(self.pages)


_N_LINES = 4  # clips that the text of all lists
COLUMNS = (
    *("clip", "label", "explained", "score", "probability", "silence_probability"),
    *("scheme", "channel", "side", "contribution", "purity"),
    *(*_PLACE, "boxes"),
    *("channel_falls", "random_falls", "score_falls", "doubts", "fires_at", "prototypes", "silent"),
)


def _line(name: str, page: Page) -> str:
    """One clip in words: what is explained, and in which schemes."""
    schemes = ", ".join(str(explanation.scheme) for explanation in page.explanations)
    filled = f", at {page.clip.sample_rate:g} Hz, {page.clip.filled_text}" if page.clip.filled_text else ""
    doubt = f"\n    {page.silence_doubt}" if page.silence_doubt else ""
    return f"  {name}: {_explained(page)}, score {page.explanations[0].score:.3g} ({schemes}){filled}{doubt}"


def _explained(page: Page) -> str:
    return page.class_name(page.explained if page.explained is not None else page.target)


def _row(page: Page, explanation: Explanation, evidence: Evidence) -> dict[str, Any]:
    effect = evidence.effect
    return {
        "clip": encodable(page.clip.name),
        "label": encodable(page.clip.label),
        "explained": encodable(_explained(page)),
        "score": _rounded(explanation.score),
        "probability": None if page.probability is None else _rounded(page.probability),
        "silence_probability": None if page.silence_probability is None else _rounded(page.silence_probability),
        "scheme": str(explanation.scheme),
        "channel": evidence.channel,
        "side": evidence.side,
        "contribution": _rounded(evidence.contribution),
        "purity": _rounded(evidence.purity),
        **_place(page.clip, evidence.region),
        "channel_falls": None if effect is None else _rounded(effect.channel),
        "random_falls": None if effect is None else _rounded(effect.mean_random),
        "score_falls": None if effect is None or effect.score is None else _rounded(effect.score),
        "doubts": "" if effect is None else ", ".join(effect.doubts),
        "fires_at": _place(page.clip, evidence.elsewhere)["boxes"],
        "prototypes": [_prototype(page, prototype) for prototype in evidence.prototypes],
        "silent": bool(evidence.region.boxes) and page.clip.is_silent(evidence.region),
    }


def write_evidence_table(path: str | os.PathLike, rows: Iterable[dict[str, Any]]) -> Path:
    """Writes rows of evidence as `ExplainedClips.write_csv` and `write_json` do, one after the other.

    Args:
        path: path of the file; JSON where it ends in `.json`, otherwise CSV.
        rows: the rows, as `ExplainedClips.rows` gives them.
    """
    return (_write_json if Path(path).suffix.lower() == ".json" else _write_csv)(path, rows)


def _write_csv(path: str | os.PathLike, rows: Iterable[dict[str, Any]]) -> Path:
    with replaced(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(map(_csv_row, rows))
    return Path(path)


def _write_json(path: str | os.PathLike, rows: Iterable[dict[str, Any]]) -> Path:
    with replaced(path) as beside, open(beside, "w", encoding="utf-8") as file:
        write_objects(file, rows, ensure_ascii=False, allow_nan=False)
        file.write("\n")
    return Path(path)


def _csv_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row with texts that a spreadsheet takes as such."""
    prototypes = "; ".join(each["clip"] for each in row["prototypes"])
    places = {name: "; ".join(map(_box_text, row[name])) for name in ("boxes", "fires_at")}
    flat = {**row, **places, "prototypes": prototypes, "silent": "yes" if row["silent"] else "no"}
    return {name: cell_text(value) if isinstance(value, str) else value for name, value in flat.items()}


def _prototype(page: Page, prototype: Prototype) -> dict[str, Any]:
    clip = page.shown_prototypes[prototype.index]
    return {
        "clip": encodable(clip.name),
        "label": encodable(clip.label or page.class_name(prototype.label)),
        "purity": _rounded(prototype.purity),
        **_place(clip, prototype.region),
    }


def _place(clip: Clip, region: Region) -> dict[str, Any]:
    """The time and the band from the first to the last box of a region, None where no box has any; and each box."""
    places = clip.places(region)
    whole = clip.folded(_WHOLE).boxes[0]  # of a repeated file the file
    sides = [_sides(box, place, whole) for box, place in in_order(clip.folded(region).boxes, places)]
    ends: dict[str, float | None] = dict.fromkeys(_PLACE)
    if any(side["start_s"] is not None for side in sides):
        ends["start_s"] = _rounded(min(place.start for place in places))
        ends["end_s"] = _rounded(max(place.end for place in places))
    if any(side["low_hz"] is not None for side in sides):
        ends["low_hz"] = _rounded(min(place.low for place in places))
        ends["high_hz"] = _rounded(max(place.high for place in places))
    return {**ends, "boxes": sides}


def _sides(box: Box, place: Place, whole: Box) -> dict[str, float | None]:
    """The sides of a box; None for an axis on which it covers as much as the box of the whole clip."""
    all_times = box.start <= whole.start + _ROUNDING and box.end >= whole.end - _ROUNDING
    all_bands = box.low <= whole.low and box.high >= whole.high
    times = [None, None] if all_times else [_rounded(place.start), _rounded(place.end)]
    band = [None, None] if all_bands else [_rounded(place.low), _rounded(place.high)]
    return dict(zip(_PLACE, times + band, strict=True))


def _box_text(box: dict[str, float | None]) -> str:
    """A box in seconds and Hz, without an axis that it covers."""
    time = "" if box["start_s"] is None else f"{box['start_s']:g}–{box['end_s']:g} s"
    band = "" if box["low_hz"] is None else f"{box['low_hz']:g}–{box['high_hz']:g} Hz"
    return ", ".join(filter(None, (time, band))) or WHOLE_CLIP


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
