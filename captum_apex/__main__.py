"""The command line: fit bases on a folder of audio, explain clips by them in one page, list the events of long recordings."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_apex.basis import PrototypeBasis
from captum_apex.classifier import Classifier, Inputs
from captum_apex.clip import Clip
from captum_apex.events import write_audacity, write_raven
from captum_apex.explanation import Explanation, explain
from captum_apex.factory import made_classifier, near
from captum_apex.features import FeatureBank
from captum_apex.fitting import fit_basis
from captum_apex.layer_attribution import LayerAPEX
from captum_apex.layers import Columns
from captum_apex.long_recordings import explain_recording
from captum_apex.options import SUFFIX, parser
from captum_apex.recordings import Recordings
from captum_apex.schemes import SCHEMES, Scheme

PAGE_SUFFIXES = (".html", ".htm")
LABEL_SUFFIX = ".txt"
INTERRUPTED = 130  # as shells report it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 where it worked, 2 where the arguments, the files or the model are not right, 130 where interrupted."""
    try:
        options = parser().parse_args(arguments)
        with _plain_warnings():
            return {"fit": _fit, "explain": _explain, "events": _events}[options.command](options)
    except (OSError, ValueError, ImportError) as error:
        print(f"python -m captum_apex: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Inside, the library's own warnings are one line, like its errors, without a place in its code; those of others are as ever."""
    usual, own = warnings.formatwarning, os.path.dirname(__file__)

    def plain(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
        if os.path.dirname(filename) == own:
            return f"python -m captum_apex: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _fit(options: argparse.Namespace) -> int:
    schemes = tuple(map(Scheme, dict.fromkeys(options.scheme or SCHEMES)))
    if options.out.suffix == SUFFIX and (not options.scheme or len(schemes) > 1):
        raise ValueError(f"expected --out to be a folder, which gets a file per scheme, or one --scheme, but got {options.out}")
    if options.out.suffix != SUFFIX and options.out.is_file():
        raise ValueError(f"expected --out to be a folder, or a file that ends in {SUFFIX}, but {options.out} is another file")
    _check_folder(options.out if options.out.suffix == SUFFIX else options.out / SUFFIX)
    classifier = made_classifier(options.model, options.device, options.convert)
    layer = _layer(classifier, options.layer)
    recordings = Recordings.in_folder(options.data, classifier.class_names)
    inputs = classifier.dataset(recordings)
    schemes = _supported(layer, inputs, schemes, chosen=bool(options.scheme))
    print(f"{len(recordings)} recordings in {options.data}", file=sys.stderr)
    bank = FeatureBank.from_dataset(
        classifier.model,
        layer,
        inputs,
        schemes=schemes,
        layout=classifier.layout,
        batch_size=options.batch_size,
        columns=classifier.columns,
        progress=True,
    )
    bank = replace(bank, origin=replace(bank.origin, dataset=recordings.fingerprint())).to(options.device)
    paths = {scheme: options.out if options.out.suffix == SUFFIX else options.out / f"{scheme}{SUFFIX}" for scheme in schemes}
    for scheme, path in paths.items():
        kept = (min(100, len(recordings)), min(5, len(recordings)))
        settings = {"orthogonal": not options.invertible, "epochs": options.epochs, "n_prototypes": kept, "seed": options.seed}
        basis = fit_basis(bank, scheme, **settings, progress=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        basis.save(path)
        print(path)
    return 0


def _supported(layer: nn.Module, inputs: Inputs, schemes: Iterable[Scheme], chosen: bool) -> tuple[Scheme, ...]:
    """The schemes to fit, found out with the first input, before the long pass; all that the layer supports unless they were chosen."""
    classifier, first = inputs.classifier, inputs.input(0)
    _scores(classifier, first, inputs.recordings.name(0))
    origin = FeatureBank.from_dataset(classifier.model, layer, [first], layout=classifier.layout).origin
    assert origin.grid is not None
    if chosen:
        for scheme in schemes:
            scheme.check(*origin.grid, layer=repr(origin.layer))
    return tuple(scheme for scheme in schemes if scheme.supports(*origin.grid))


def _explain(options: argparse.Namespace) -> int:
    from captum_apex.report import Page, write  # `fit` does without what a page needs

    if options.out.is_dir():
        raise ValueError(f"expected --out to be a file, but {options.out} is a folder")
    if options.out.suffix.lower() not in PAGE_SUFFIXES:  # so that no recording or basis is overwritten by a slip
        raise ValueError(f"expected --out to end in {PAGE_SUFFIXES[0]}, but got {options.out}")
    _check_folder(options.out)
    classifier = made_classifier(options.model, options.device, options.convert)
    chosen = list(dict.fromkeys(_class(name, classifier.class_names) for name in options.target or ()))
    bases = _bases(options.basis, options.layer)
    apexes = {path: _apex(classifier.model, path, basis) for path, basis in bases.items()}
    data = None if options.data is None else _data(classifier, options.data, bases)
    if data is None:
        print("without --data, the folder that the bases were fitted on, the page has no prototypes", file=sys.stderr)
    pages, clips = [], _Prototypes(classifier, data)
    for path in tqdm(options.clips, desc="explaining", unit="clip"):
        waveform = classifier.waveform(path)
        clip, inputs = classifier.drawn(waveform, os.fspath(path)), classifier.inputs(waveform, os.fspath(path))
        scores = _scores(classifier, inputs, os.fspath(path))
        for target in chosen or _heard(scores, options.threshold):
            try:
                found = [_explanation(apex, inputs.to(options.device), target, options, data is not None) for apex in apexes.values()]
            except ValueError as error:
                raise ValueError(f"{path} cannot be explained: {error}") from error
            pages.append(Page(clip, found, clips.of(found), classifier.class_names, scores))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write(options.out, pages, title=options.title, limit=options.limit)
    print(options.out)
    return 0


def _heard(scores: Sequence[float], threshold: float | None) -> list[int | None]:
    """The classes whose probability reaches the threshold, highest first; None, the model's first choice, where there are none."""
    if threshold is None or len(scores) == 1:
        return [None]
    ordered, labels = torch.tensor(scores).sort(descending=True)
    return labels[ordered.sigmoid() >= threshold].tolist() or [None]


def _events(options: argparse.Namespace) -> int:
    writers = {path: write for path, write in ((options.raven, write_raven), (options.audacity, write_audacity)) if path is not None}
    if not writers:
        raise ValueError("expected --raven, --audacity or both, the files to write, but got neither")
    if options.raven == options.audacity:
        raise ValueError(f"expected --raven and --audacity to be two files, but got {options.raven} for both")
    for path in writers:
        if path.suffix.lower() != LABEL_SUFFIX:  # so that no recording or basis is overwritten by a slip
            raise ValueError(f"expected files to write that end in {LABEL_SUFFIX}, but got {path}")
        _check_folder(path)
    classifier = made_classifier(options.model, options.device, options.convert)
    if options.exclusive and len(classifier.class_names) == 1:
        raise ValueError("expected several classes with --exclusive, but there is one: its softmax is 1, whatever sounds")
    bases = _bases([options.basis], None)
    if len(bases) > 1:
        raise ValueError(f"expected one basis, but got {', '.join(map(str, bases))}")
    apex = _apex(classifier.model, *next(iter(bases.items())), classifier.columns)
    found = explain_recording(
        apex,
        options.recording,
        *_window(options, classifier),
        classifier=classifier,
        threshold=options.threshold,
        probabilities=partial(torch.softmax, dim=-1) if options.exclusive else torch.sigmoid,
        n_channels=options.channels,
        sides=options.sides,
        level=options.level,
        progress=True,
    )
    print(f"{len(found.events)} events in {found.duration:.1f} s", file=sys.stderr)
    for path, write in writers.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, found.events)
        print(path)
    return 0


def _window(options: argparse.Namespace, classifier: Classifier) -> tuple[float, float]:
    """Window and hop in s: by default the length of the classifier's clips, and half of the window."""
    window = options.window
    if window is None:
        if classifier.length is None:
            raise ValueError("expected --window, in s, or a Classifier with a `length`, but there is neither")
        window = classifier.length / classifier.sample_rate
    return window, window / 2 if options.hop is None else options.hop


def _explanation(apex: LayerAPEX, inputs: Tensor, target: int | None, options: argparse.Namespace, with_prototypes: bool) -> Explanation:
    assert apex.basis.positive is not None
    kept = apex.basis.positive.indices.shape[1]
    n_prototypes = min(4, kept) if options.prototypes is None else options.prototypes
    found = explain(apex, inputs[None], target, n_channels=options.channels, n_prototypes=n_prototypes, sides=options.sides)[0]
    if with_prototypes:
        return found
    return replace(found, evidence=tuple(replace(part, prototypes=()) for part in found.evidence))


def _check_folder(path: Path) -> None:
    """Raises where no file can be written at a path: before the long work, not after it."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"expected {path} in a folder that can be written to, but {folder} is none")


class _Prototypes:
    """The recordings that explanations point at, each read once."""

    def __init__(self, classifier: Classifier, recordings: Recordings | None) -> None:
        self.inputs = None if recordings is None else classifier.dataset(recordings)
        self.clips: dict[int, Clip] = {}

    def of(self, explanations: Iterable[Explanation]) -> dict[int, Clip]:
        indices = {prototype.index for found in explanations for part in found.evidence for prototype in part.prototypes}
        return {index: self._clip(index) for index in sorted(indices)}

    def _clip(self, index: int) -> Clip:
        assert self.inputs is not None
        if index not in self.clips:
            self.clips[index] = self.inputs.clip(index)
        return self.clips[index]


def _layer(classifier: Classifier, name: str | None) -> nn.Module:
    """The part of the model that has this name; the classifier's own layer where none is given."""
    if name is not None:
        return _part(classifier.model, name)
    if classifier.layer is None:
        there = near("", [own for own, _ in classifier.model.named_modules() if own])
        raise ValueError(f"expected --layer, or a Classifier with a `layer`, but there is neither; there are: {there}")
    return classifier.layer


def _part(model: nn.Module, name: str) -> nn.Module:
    """The part of a model that has this name."""
    parts = {own: part for own, part in model.named_modules() if own}
    if name not in parts:
        raise ValueError(f"expected --layer to be a part of {type(model).__name__}, but got {name!r}; there are: {near(name, list(parts))}")
    return parts[name]


def _class(text: str, class_names: Sequence[str]) -> int | None:
    """The index of a class, by its name or its number; None for the only one of a model, whose output may have no axis of classes."""
    index = list(class_names).index(text) if text in class_names else int(text) if text.isdecimal() else len(class_names)
    if index < len(class_names):
        return index if len(class_names) > 1 else None
    there = near(text, class_names)
    raise ValueError(f"expected --target to be a class or a number from 0 to {len(class_names) - 1}, but got {text!r}; there are: {there}")


def _bases(paths: Sequence[Path], layer: str | None) -> dict[Path, PrototypeBasis]:
    """The bases of all files, and of all files in folders, in the schemes' order."""
    files = [file for path in paths for file in (sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path])]
    if not files:
        raise FileNotFoundError(f"expected bases, *{SUFFIX}, in {', '.join(map(str, paths))}, but there are none")
    bases = {file: PrototypeBasis.load(file) for file in files}
    seen: dict[Scheme, Path] = {}
    for file, basis in bases.items():
        if basis.positive is None:
            raise ValueError(f"expected a basis with prototypes, but {file} has none")
        if layer is not None and basis.origin.layer != layer:
            raise ValueError(f"expected a basis of the layer {layer!r}, but {file} was fitted on {basis.origin.layer!r}")
        if basis.scheme in seen:
            raise ValueError(f"expected one basis per scheme, but {seen[basis.scheme]} and {file} are both for {str(basis.scheme)!r}")
        seen[basis.scheme] = file
    return {seen[scheme]: bases[seen[scheme]] for scheme in SCHEMES if scheme in seen}


def _apex(model: nn.Module, path: Path, basis: PrototypeBasis, columns: Columns | None = None) -> LayerAPEX:
    try:
        return LayerAPEX(model, _part(model, basis.origin.layer), basis, columns=columns)
    except ValueError as error:
        raise ValueError(f"{path} does not fit this model: {error}") from error


def _data(classifier: Classifier, folder: Path, bases: dict[Path, PrototypeBasis]) -> Recordings:
    """The recordings of a folder, after making sure that they are the ones that the bases were fitted on."""
    recordings = Recordings.in_folder(folder, classifier.class_names)
    fingerprint, shape = recordings.fingerprint(), tuple(classifier.dataset(recordings).shape)
    for path, basis in bases.items():
        origin = basis.origin
        if len(recordings) != origin.n_clips:
            raise ValueError(f"expected in {folder} the {origin.n_clips} recordings that {path} was fitted on, but got {len(recordings)}")
        if origin.dataset not in ("", fingerprint):
            raise ValueError(f"expected in {folder} the recordings that {path} was fitted on, but names or sizes of files differ")
        if origin.input_shape not in (None, shape):
            raise ValueError(f"expected inputs of shape {origin.input_shape}, as {path} was fitted on, but the transform gives {shape}")
        if not origin.dataset:
            print(f"{path} does not know its recordings by name: only their number could be compared with {folder}", file=sys.stderr)
    return recordings


def _scores(classifier: Classifier, inputs: Tensor, name: str) -> list[float]:
    """The model's scores of one input, after making sure that it takes it and gives one score per class."""
    device = next((tensor.device for tensor in classifier.model.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            output = classifier.model(inputs[None].to(device))
    except Exception as error:  # the user's code
        shape = (1, *inputs.shape)
        raise ValueError(
            f"expected the model to take what the transform gives for {name}, of shape {shape}, but it raised "
            f"{type(error).__name__}: {error}"
        ) from error
    n_classes = len(classifier.class_names)
    if not isinstance(output, Tensor) or output.numel() != n_classes:
        got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"expected the model to give a tensor of one score for each of the {n_classes} classes, but got {got}")
    return output.flatten().tolist()


if __name__ == "__main__":
    sys.exit(main())
