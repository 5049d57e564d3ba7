"""The command `published`: published models with their weights on real recordings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from benchmarks.commands.options import Commands, check_tables, write_tables
from benchmarks.experiments.published_events import event_lines
from benchmarks.experiments.published_regions import elsewhere_lines, region_lines
from benchmarks.experiments.published_rows import measured, published_lines
from benchmarks.published.published_models import PUBLISHED_MODELS
from benchmarks.reports.bat_tables import elsewhere_section, events_section
from benchmarks.reports.markup import Section, section_markdown
from benchmarks.reports.published_tables import published_section, regions_section, with_other_rows
from benchmarks.threads import one_thread
from captum_apex import SCHEMES
from captum_apex.cli.types import seed

WITH_BOXES = "batdetect2"


def add_published_parser(commands: Commands) -> None:
    """Adds the parser of `published`."""
    parser = commands.add_parser(
        "published",
        help="fit bases of published models, and measure what prototypes share and where regions lie",
        description="Fits bases of published models, whose weights are in their packages, on real recordings. It takes "
        "half an hour on one core.",
    )
    parser.add_argument(
        "--packages",
        nargs="+",
        choices=PUBLISHED_MODELS,
        help="packages of the models; by default all that are installed",
    )
    parser.add_argument(
        "--schemes", nargs="+", choices=[str(scheme) for scheme in SCHEMES], help="schemes; by default all that differ"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of the fits")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.md",
        help="replace the tables between this file's marks; rows of other models stay",
    )
    parser.set_defaults(command=published_command)


def published_command(options: argparse.Namespace) -> int:
    """Prints the tables of the published models, and writes them into a file."""
    check_tables(options.out)
    with one_thread():  # rounding errors grow in a fit, until other clips are prototypes
        sections = _sections(_installed(options.packages), options.schemes, options.seed)
    for section in sections:
        print(section_markdown(section, Path()))
    if options.out is not None:
        text = options.out.read_text(encoding="utf-8")
        models, *regions = sections
        schemes = [str(scheme) for scheme in SCHEMES]
        others = [with_other_rows(section, text, schemes) for section in regions]
        write_tables(options.out, [with_other_rows(models, text, list(PUBLISHED_MODELS)), *others])
    return 0


def _sections(packages: Sequence[str], schemes: Sequence[str] | None, seed_of_fits: int) -> list[Section]:
    """The table of the models, and those of the detector if it is among them."""
    tables = []
    sections = []
    for package in packages:
        model = PUBLISHED_MODELS[package]
        subject = measured(replace(model, schemes=schemes or model.schemes), seed=seed_of_fits, progress=True)
        tables.append(published_lines(model, subject))
        if package == WITH_BOXES:
            sections.append(regions_section(region_lines(subject)))
            sections.append(elsewhere_section(elsewhere_lines(subject)))
            sections.append(events_section(event_lines(subject)))
    return [published_section(pd.concat(tables, ignore_index=True), PUBLISHED_MODELS), *sections]


def _installed(packages: Sequence[str] | None) -> list[str]:
    """The packages to measure: those that are asked for, which must all be there, or those that are installed."""
    missing = [package for package in packages or PUBLISHED_MODELS if not _is_installed(package)]
    found = [package for package in packages or PUBLISHED_MODELS if package not in missing]
    if not missing:
        return found
    what = f"{', '.join(missing)} {'are' if len(missing) > 1 else 'is'} not installed: run `make install` in a checkout"
    if packages or not found:
        raise ImportError(f"expected the packages of the models, but {what}")
    print(f"left out, because {what}", file=sys.stderr)
    return found


def _is_installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
