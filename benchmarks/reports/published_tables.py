"""The tables of the command `published`: what bases of published models are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version

import pandas as pd

from benchmarks.experiments.published_rows import N_CHANNELS, N_PROTOTYPES
from benchmarks.published.published_models import PublishedModel
from benchmarks.reports.markup import Section, number, significant

NAME = "Published models"
REGIONS = "Regions of bat calls"
ABOUT = (
    "Glue: statements in the functions and classes that a user writes for the model. Grid: channels × rows × columns "
    "of the layer. Purity: mean purity of the prototypes with the raw channels, and after the fit. Delta: median "
    "share of the score (less the score without the layer) that the contributions miss. Error: largest difference "
    "between the contributions and an independent calculation (autograd on the layer's output, in float64 where the "
    "model allows it), as a share of the clip's largest contribution. Shared: what a clip and a prototype have in "
    f"common, for the {N_PROTOTYPES} first prototypes of the clip's strongest channel and of its {N_CHANNELS} "
    "strongest channels, beside all pairs of a clip and a training clip: the share of pairs, or the median distance."
)
ABOUT_REGIONS = (
    "The region of the strongest channel of each window, beside the boxes of the explained species that lie in the "
    "window, and the same region at random places, in brackets. Met: share of the regions that meet a box. Inside: "
    "share of the region that lies in boxes. IoU: intersection over union with all boxes. A strip is compared in time "
    "alone, a band in frequency alone."
)


def published_section(lines: pd.DataFrame, models: Mapping[str, PublishedModel]) -> Section:
    """The section with one line per model and scheme.

    Args:
        lines: the lines of `benchmarks.experiments.published_rows.published_lines`.
        models: the models by the names of their packages.
    """
    entries = []
    for line in lines.to_dict("records"):
        model = models[str(line["package"])]
        entries.append(
            {
                "model": f"{model.package} {version(model.package)}",
                "glue": str(line["statements"]),
                "layer": line["layer"],
                "grid": f"{line['channels']} × {line['rows']} × {line['columns']}",
                "scheme": line["scheme"],
                "purity": f"{number(line['purity_raw'])} → {number(line['purity'])}",
                "delta": _share(line["delta"]),
                "error": f"{line['error']:.0e}",
                "shared": model.shared,
                "strongest channel": _shared(line["shared"], model.unit),
                "five channels": _shared(line[f"shared_{N_CHANNELS}"], model.unit),
                "all pairs": _shared(line["random"], model.unit),
            }
        )
    return Section(NAME, [ABOUT], {NAME: pd.DataFrame(entries)})


def with_other_rows(section: Section, text: str, order: Sequence[str]) -> Section:
    r"""A section of one table with the rows that a file has of further models or schemes.

    Args:
        section: the section.
        text: text of the file that the section is written into.
        order: names of the packages in the order of the rows, or of the schemes where the table has no models.

    Example:
        >>> import pandas as pd
        >>> from benchmarks.reports.markup import Section
        >>> from benchmarks.reports.published_tables import with_other_rows
        >>> new = pd.DataFrame([{"model": "b 2", "scheme": "time", "note": ""}])
        >>> rows = ["| model | scheme | note |", "| --- | --- | --- |"]
        >>> rows += ["| a 1 | time |  |", "| b 1 | time | old |", "| b 1 | square | old |"]
        >>> text = "\n".join(["<!-- Published models -->", *rows, "<!-- end of Published models -->"])
        >>> whole = with_other_rows(Section("Published models", [], {"Published models": new}), text, ["a", "b"])
        >>> whole.tables["Published models"].to_numpy().tolist()
        [['a 1', 'time', ''], ['b 2', 'time', ''], ['b 1', 'square', 'old']]
    """
    table = section.tables[section.title]
    place = text.partition(f"<!-- {section.title} -->")[2].partition(f"<!-- end of {section.title} -->")[0]
    rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in place.splitlines() if line[:1] == "|"]
    if not rows or rows[0] != list(table.columns):  # a table of other columns cannot be continued
        return section
    measured = [{str(name): str(value) for name, value in row.items()} for row in table.to_dict("records")]
    new = {_key(row) for row in measured}
    old = [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
    whole = [row for row in measured + [row for row in old if _key(row) not in new] if _key(row)[0] in order]
    whole.sort(key=lambda row: list(order).index(_key(row)[0]))
    return replace(section, tables={section.title: pd.DataFrame(whole, columns=table.columns)})


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    """The package and the scheme of a row, as far as it has them; the version of the package may be another one."""
    return tuple(row[name].split()[0] for name in ("model", "scheme") if name in row)


def regions_section(lines: pd.DataFrame) -> Section:
    """The section with one line per scheme of batdetect2.

    Args:
        lines: the lines of `benchmarks.experiments.published_regions.region_lines`.
    """
    table = pd.DataFrame({"scheme": lines["scheme"], "regions": lines["regions"].astype(str)})
    for name, heading in (("met", "met"), ("inside", "inside"), ("iou", "IoU")):
        table[heading] = [
            f"{number(value)} ({number(at_random)})"
            for value, at_random in zip(lines[name], lines[f"{name}_random"], strict=True)
        ]
    return Section(REGIONS, [ABOUT_REGIONS], {REGIONS: table})


def _share(value: float) -> str:
    return f"{value:.0e}" if value < 0.001 else f"{value:.1%}"


def _shared(value: float, unit: str) -> str:
    return f"{significant(value)} {unit}" if unit else f"{value:.0%}"
