"""The command `truth`: maps, regions and events of a user's model beside annotations."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from benchmarks.commands.options import Commands, method_name, write_tables
from benchmarks.commands.options import check_tables as check_marks
from benchmarks.experiments.annotated_events import annotated_event_lines
from benchmarks.experiments.annotated_truth import REGION_METHODS, default_methods, truth_lines, truth_rows
from benchmarks.reports.markup import Section, section_markdown
from benchmarks.reports.truth_tables import annotated_events_section, truth_section
from benchmarks.runs.annotated_clips import AnnotatedStage, recordings_at
from benchmarks.threads import one_thread
from captum_apex.classifiers.classifier import Classifier
from captum_apex.cli.factory import load_classifier
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import device, positive_integer, probability, seconds, seed, share
from captum_apex.explaining.classifier_bases import load_bases
from captum_apex.files import replaced
from captum_apex.masking.fills import FILLS
from captum_apex.masking.grids import GRIDS
from captum_apex.recordings import AnnotatedRecordings
from captum_apex.recordings.class_labels import class_indices
from captum_apex.result_tables import counted, listed


def add_truth_parser(commands: Commands) -> None:
    """Adds the parser of `truth`."""
    parser = commands.add_parser(
        "truth",
        help="whether maps, regions and events of your model point at annotated sounds",
        description="Explains annotated recordings by the methods of the benchmark, for the annotated classes, and "
        "measures whether maps and regions lie on the annotations. A recording that is longer than the model's clips "
        "gives a clip for each annotated event.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_model(parser.add_argument_group("what is explained"))
    _add_annotations(parser.add_argument_group("annotations"))
    _add_methods(parser.add_argument_group("methods"))
    _add_measures(parser.add_argument_group("measures and files"))
    parser.set_defaults(command=truth_command)


def _add_model(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--model",
        required=True,
        metavar="MODULE:FACTORY",
        help="a function that returns a captum_apex.Classifier, as for captum-apex explain",
    )
    add(
        "--recordings", type=Path, required=True, metavar="PATH", help="a folder, an audio file, or a CSV file of files"
    )
    add("--basis", type=Path, nargs="+", default=[], metavar="PATH", help="files or folders that captum-apex fit wrote")
    add("--layer", metavar="NAME", help="the layer where there is no basis; the factory's if left out")
    add("--clips", type=positive_integer, default=100, help="largest number of clips, evenly spaced among all")
    add("--no-convert", dest="convert", action="store_false", help="refuse files of another rate or several channels")
    add("--device", type=device, default="cpu", help="where the model runs, such as cuda")


def _add_annotations(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--annotations",
        type=Path,
        required=True,
        metavar="PATH",
        help="a file or a folder of files: selection tables of Raven, labels of Audacity, CSV, TextGrids",
    )
    add("--label-column", metavar="NAME", help="the column of labels of a table; the first usual name if left out")
    add("--tier", metavar="NAME", help="the tier of TextGrids; all if left out")
    add(
        "--times-only",
        action="store_true",
        help="take annotations without their bands, for models or bases that tell no frequencies",
    )
    add("--format", metavar="NAME", help="a format of crowsetta, which then reads the files")
    add(
        "--rename",
        nargs="+",
        type=_renamed,
        default=[],
        metavar="LABEL=CLASS",
        help="names in the annotations, and the classes that they mean",
    )


def _add_methods(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--methods",
        nargs="+",
        type=_method,
        metavar="METHOD",
        help="names as `list` shows them, or 'found, SCHEME' and 'cell, SCHEME' for the region and the peak cell of "
        "the strongest channel; regions and maps of all bases, other methods and controls if left out",
    )
    add("--add", type=Path, action="append", default=[], metavar="FILE.py", help="a file with methods of your own")
    add(
        "--grid",
        choices=GRIDS,
        help="regions of methods that score regions; square, or time for waveforms, if left out",
    )
    add("--fill", choices=FILLS, default="mean", help="what replaces masked regions, in methods that mask")
    add("--seed", type=seed, default=0, help="seed of random methods, places and intervals")


def _add_measures(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--segment", type=seconds, default=0.1, metavar="S", help="duration of a segment in seconds")
    add("--threshold", type=share, default=0.5, help="share of a map's largest value for the IoU and the frame F1")
    add("--events", action="store_true", help="also find the events of the recordings by each basis")
    add("--probability", type=probability, default=0.5, metavar="P", help="the least probability of an event's class")
    add("--csv", type=Path, default=Path("results/truth.csv"), metavar="FILE.csv", help="file of all numbers")
    add("--rows", type=Path, metavar="FILE.csv", help="file of the measures of each clip, or each event")
    add("--out", type=Path, metavar="FILE.md", help="replace the tables between this file's marks, as in `overview`")


def truth_command(options: argparse.Namespace) -> int:
    """Measures maps and regions against annotations, writes the numbers to a CSV file and prints the tables."""
    check_output_folder(options.csv)
    if options.rows is not None:
        check_output_folder(options.rows)
    check_marks(options.out)
    with one_thread():  # regions and random numbers do not depend on the number of cores
        sections = _sections(options)
    print("\n\n".join(section_markdown(section, Path()) for section in sections))
    if options.out is not None:
        write_tables(options.out, sections)
    return 0


def _sections(options: argparse.Namespace) -> list[Section]:
    classifier = load_classifier(options.model, options.device, options.convert)
    annotated = _annotated(options, classifier)
    bases = load_bases(options.basis) if options.basis else {}
    settings = {"layer": options.layer, "n_clips": options.clips, "seconds": options.segment, "seed": options.seed}
    stage = AnnotatedStage.of(classifier, annotated, bases, **settings)
    methods = options.methods or default_methods(list(stage.apexes))
    masking = {"grid": options.grid, "fill": options.fill, "threshold": options.threshold}
    rows, statuses = truth_rows(stage, methods, **masking, progress=True)
    lines = truth_lines(rows, statuses, options.seed)
    _write(lines, options.csv)
    if options.rows is not None:
        _write(rows, options.rows)
    sections = [truth_section(lines, _about(stage, annotated))]
    if options.events:
        found = annotated_event_lines(classifier, dict(stage.apexes), annotated, options.probability)
        sections.append(annotated_events_section(found))
    return sections


def _annotated(options: argparse.Namespace, classifier: Classifier) -> AnnotatedRecordings:
    """The recordings with their annotations; what is left out is said."""
    names = list(classifier.class_names)
    if wrong := [each for _, each in options.rename if not class_indices([each], names)]:
        raise ValueError(f"expected --rename to name classes of the model, {listed(names)}, but got {wrong[0]!r}")
    annotated = AnnotatedRecordings.read(
        recordings_at(options.recordings, classifier),
        options.annotations,
        names,
        renamed=dict(options.rename),
        label=options.label_column,
        tier=options.tier,
        reader=options.format,
    )
    if options.events and not options.basis:
        raise ValueError("expected --basis with --events, which are found by a basis, but got none")
    for text in annotated.left_out:
        print(f"left out: {text}", file=sys.stderr)
    return annotated.without_bands() if options.times_only else annotated


def _about(stage: AnnotatedStage, annotated: AnnotatedRecordings) -> str:
    """What was measured, in words."""
    n_recordings = len({clip.recording for clip in stage.clips})
    n_events = sum(clip.event is not None for clip in stage.clips)
    n_annotations = sum(map(len, annotated.annotations))
    around = f", {n_events} of them around an event of a long recording" if n_events else ""
    n_empty = int((~stage.truth.flatten(1).any(1)).sum())
    empty = f" In {n_empty} of them, the annotated band has no bin of the model's input, so that nothing is measured."
    return (
        f"{counted(len(stage.clips), 'clip')} of {counted(n_recordings, 'recording')} with "
        f"{counted(n_annotations, 'annotation')}{around}. The annotated class, which is explained, has the largest "
        f"score in {stage.n_found} of them; its sound takes {stage.truth.double().mean():.0%} of the bins."
        + empty
        * bool(n_empty)
    )


def _method(text: str) -> str:
    """The name of a method, or of a region of the strongest channel."""
    return method_name(text, REGION_METHODS)


def _renamed(text: str) -> tuple[str, str]:
    """A name in the annotations and the class that it means."""
    label, equals, name = text.partition("=")
    if not (label and equals and name):
        raise argparse.ArgumentTypeError(f"expected LABEL=CLASS, such as NOCA='Northern Cardinal', but got {text!r}")
    return label, name


def _write(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        table.to_csv(temporary, index=False)
    print(f"written to {path}", file=sys.stderr)
