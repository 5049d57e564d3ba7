"""The bases of a classifier: fitted on recordings, or read from files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.candidate_bank import CandidateBank
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.fit_plan import default_prototypes
from captum_apex.bases.fitting import fit_basis
from captum_apex.bases.polar_fit import check_method
from captum_apex.bases.schemes import SCHEMES, Scheme, distinct_schemes
from captum_apex.caller import warn_caller
from captum_apex.classifiers.classifier import Classifier, InputDataset
from captum_apex.defaults import BASIS_SUFFIX
from captum_apex.explaining.label_checks import warn_of_few_clips, warn_of_labels, warn_of_other_labels
from captum_apex.explaining.silence_checks import warn_of_classes_in_silence
from captum_apex.layers.layout import LayoutError
from captum_apex.layers.models import device_of
from captum_apex.layers.origin import Origin
from captum_apex.recordings.folders import AudioDataset, Recordings
from captum_apex.recordings.slices import LONGER, file_duration

__all__ = ["check_classifier", "check_origins", "fit_bases", "load_bases", "recognised"]

_SHARE_OF_DEVICE = 0.8  # of the free memory of a GPU that a bank may take; the fit needs some too
_OF_THE_FIT = "give the folder or table of the fit, without files that came later, or fit again on these"
_LEFT_OUT = "; files that were left out of the fit are left out here, too (`skip_bad=True` or --skip-bad)"


def fit_bases(
    classifier: Classifier,
    recordings: AudioDataset | Mapping[str, Any] | Sequence[Any],
    schemes: Iterable[Scheme | str] | None = None,
    *,
    layer: nn.Module | None = None,
    norm: nn.Module | None = None,
    method: str = "gradient",
    orthogonal: bool = True,
    epochs: int | None = None,
    batch_size: int = 32,
    num_workers: int = 0,
    bank: str | os.PathLike | None = None,
    half: bool = False,
    candidates: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Iterator[PrototypeBasis]:
    """Fits one basis per scheme on recordings, which the model hears once.

    Each basis is given as soon as it is fitted, so that it can be stored before the next one is begun.

    Args:
        classifier: the classifier.
        recordings: the sounds that the prototypes are chosen from, usually those that the model was trained on; see
            `Classifier.dataset`.
        schemes: the schemes; None for all that the layer supports, without `square` for a layer of one row or one
            column, whose basis is that of `time` or `frequency`. Asked for, `square` has the same channels, and the
            search for regions at the input gives them a band and a time.
        layer: the module to explain; None for the classifier's `layer`.
        norm: the norm between the pooling and the classifier, as in `FeatureBank.from_dataset`.
        method: `gradient` or `closed-form`, as in `fit_basis`.
        orthogonal: whether the bases are orthogonal, or only invertible, as in `fit_basis`.
        epochs: passes of the fit over all channels and their prototypes; by default 20, in closed form 10.
        batch_size: number of recordings per forward pass.
        num_workers: number of processes that read recordings, beside this one.
        bank: folder that keeps the features of the recordings, as `folder` of `FeatureBank.from_dataset`: after an
            interruption, the same call goes on where it was, and another fit on the same features begins at once.
        half: keep the features in half precision, which takes half of the room, as `dtype` of
            `FeatureBank.from_dataset`.
        candidates: number of recordings for each channel whose cells are kept for the fit, for sets of so many
            recordings that the disk has no room for all cells; the model then runs again over these recordings, see
            `captum_apex.bases.CandidateBank`. None for the cells of all recordings.
        seed: seed of the random number generator of a fit by gradient.
        progress: whether to show progress bars, and at the start of a fit of more than a minute how long it will take.

    Raises:
        ValueError: there is no layer; a scheme that is asked for is not supported by the layer; or the model or the
            recordings do not fit together (the message names the file).

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import Classifier, Recordings, listening
        >>> from captum_apex.explaining import fit_bases
        >>> layer = nn.AvgPool2d(3)
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> classifier = Classifier(model, lambda waveform: waveform[:54].view(1, 9, 6), 8000, ["dog"], layer=layer)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("a.wav", "b.wav"):
        ...         listening.write(Path(folder, name), torch.ones(80), 8000)
        ...     [str(basis.scheme) for basis in fit_bases(classifier, Recordings.in_folder(folder), ["time", "square"])]
        ['time', 'square']
    """
    check_classifier(classifier)
    check_method(method, orthogonal)
    layer = _chosen(classifier.layer if layer is None else layer)
    inputs = _checked_inputs(classifier, recordings)
    chosen = _supported(layer, inputs, schemes)
    make = partial(
        FeatureBank.from_dataset,
        classifier.model,
        layer,
        layout=classifier.layout,
        input_layout=classifier.input_layout,
        norm=norm,
        batch_size=batch_size,
        columns=classifier.columns,
        num_workers=num_workers,
        dtype=torch.float16 if half else None,
        progress=progress,
    )
    fit = partial(fit_basis, method=method, orthogonal=orthogonal, epochs=epochs, seed=seed, progress=progress)
    fit = partial(_fitted, fit, device_of(classifier.model), partial(default_prototypes, method))
    if candidates is None:
        features = make(inputs, schemes=chosen, folder=bank)
        yield from (fit(features, scheme) for scheme in chosen)
    else:
        of_candidates = CandidateBank(make, inputs, schemes=chosen, n_candidates=candidates, folder=bank)
        yield from (of_candidates.fit(scheme, fit) for scheme in chosen)


def _fitted(
    fit: Callable[..., PrototypeBasis],
    device: torch.device,
    n_prototypes: Callable[[int], tuple[int, int]],
    features: FeatureBank,
    scheme: Scheme,
) -> PrototypeBasis:
    """A basis, fitted on the device, with no more prototypes than there are clips."""
    first, last = (min(most, features.n_clips) for most in n_prototypes(features.n_clips))
    return fit(_with_cells_of(features, scheme, device), scheme, n_prototypes=(first, last))


def _with_cells_of(features: FeatureBank, scheme: Scheme, device: torch.device) -> FeatureBank:
    """The bank with the cells of one scheme, on the device; where it has no room for them, they stay in memory."""
    bank = features.only(scheme)
    if device.type != "cuda":
        return bank.to(device)
    n_bytes = bank.means.nbytes + sum(cells.nbytes for cells in bank.cells.values())
    free, _ = torch.cuda.mem_get_info(device)
    if n_bytes <= _SHARE_OF_DEVICE * free:
        return bank.to(device)
    warn_caller(
        f"the fit of {str(scheme)!r} runs on the CPU, because the {n_bytes / 1e9:.1f} GB of its cells do not fit into "
        f"the {free / 1e9:.1f} GB that are free on {device}; half precision takes half of the room"
    )
    return bank


def _checked_inputs(classifier: Classifier, recordings: Any) -> InputDataset:
    """The recordings as inputs of the model, after warnings of files that are cut and of labels."""
    inputs = classifier.dataset(recordings)
    _warn_of_cut(inputs)
    warn_of_labels(inputs)
    warn_of_few_clips(inputs)
    warn_of_classes_in_silence(classifier)
    return inputs


def _warn_of_cut(inputs: InputDataset, n_files: int = 20) -> None:
    """Warns where files are more than 1% longer than the classifier's clips; some are tried that are spread evenly."""
    classifier = inputs.classifier
    recordings = inputs.recordings
    if classifier.length is None or not isinstance(recordings, Recordings) or recordings.sounds is not None:
        return
    indices = sorted({round(index) for index in np.linspace(0, len(recordings) - 1, min(n_files, len(recordings)))})
    longest = max((_duration(recordings.path(index)) for index in indices), default=0.0)
    seconds = classifier.length / classifier.sample_rate
    if longest > LONGER * seconds:
        warn_caller(
            f"files longer than the classifier's clips are cut: of files of up to {longest:.3g} s only the first "
            f"{seconds:.3g} s are used; captum_apex.recordings.Slices.of(recordings, {seconds:.6g}) slices them (on "
            "the command line: --slice)"
        )


def _duration(path: Path) -> float:
    """The duration of a file in s; 0 for a file that cannot be opened, of which the fit says more."""
    try:
        return file_duration(path)
    except (ValueError, OSError):
        return 0.0


def check_classifier(classifier: Classifier) -> None:
    """Raises a TypeError for what is no `Classifier`, such as the model alone.

    Args:
        classifier: the classifier.

    Example:
        >>> import torch
        >>> from captum_apex.explaining.classifier_bases import check_classifier
        >>> try:
        ...     check_classifier(torch.nn.ReLU())
        ... except TypeError as error:
        ...     print(error)
        expected `classifier` to be a captum_apex.Classifier, but got ReLU
    """
    if not isinstance(classifier, Classifier):
        raise TypeError(f"expected `classifier` to be a captum_apex.Classifier, but got {type(classifier).__name__}")


def _chosen(layer: nn.Module | None) -> nn.Module:
    if layer is None:
        raise ValueError(
            "expected `layer`, or a Classifier with a `layer`, but there is neither; captum_apex.examine(classifier) "
            "lists the layers to choose from, with what to change in the Classifier"
        )
    return layer


def _supported(layer: nn.Module, inputs: InputDataset, schemes: Iterable[Scheme | str] | None) -> tuple[Scheme, ...]:
    """The schemes to fit: those of the layer with different bases, or an error where one that was chosen does not fit.

    Only the first input is run, so that an error comes before the long pass over the recordings.
    """
    classifier = inputs.classifier
    first = inputs.input(0)
    classifier.scores(first, inputs.name(0))
    try:
        origin = FeatureBank.from_dataset(
            classifier.model, layer, [first], layout=classifier.layout, columns=classifier.columns, places=False
        ).origin
    except LayoutError as error:
        raise ValueError(str(error).replace("as `layout`", "as `layout` to the Classifier")) from error
    assert origin.grid is not None
    if origin.grid == (1, 1):
        raise ValueError(
            f"expected a layer whose output has frequency or time, but {origin.layer!r} gives one cell, so that every "
            "region would be the whole clip; take a layer before the pooling, such as one that "
            "captum_apex.examine(model, inputs) or captum-apex examine lists"
        )
    if schemes is None:
        return distinct_schemes(*origin.grid)
    if not isinstance(schemes, Iterable):
        raise TypeError(f"expected `schemes` to be the names of schemes, but got {schemes!r}")
    chosen = tuple(dict.fromkeys(map(Scheme, [schemes] if isinstance(schemes, str) else schemes)))
    for scheme in chosen:
        scheme.check(*origin.grid, layer=repr(origin.layer))
    return chosen


def recognised(inputs: InputDataset, n_clips: int = 20) -> tuple[int, int] | None:
    """For how many clips the class with the largest score is their label, and how many clips were tried.

    A model that recognises few of the clips that it was trained on has other weights than those of its training, a
    transform that differs from that of the training, or class names in another order than its scores.

    Args:
        inputs: the clips, of which some are tried that are spread evenly. Clips of no class are not tried.
        n_clips: largest number of clips to try.

    Returns:
        Both numbers; None for clips without labels, and where there is only one class.

    Raises:
        ValueError: a clip cannot be read, or the model does not take it.

    Example:
        >>> from captum_apex.demonstration import EveningSounds, classifier
        >>> from captum_apex.explaining.classifier_bases import recognised
        >>> recognised(classifier().dataset(EveningSounds("test")), n_clips=8)
        (8, 8)
    """
    if inputs.labels is None or len(inputs.classifier.class_names) == 1:
        return None
    spread = range(0, len(inputs), max(1, math.ceil(len(inputs) / n_clips)))
    tried = [index for index in spread if torch.as_tensor(inputs.labels[index]).dim() == 0 or any(inputs.labels[index])]
    return (sum(_is_recognised(inputs, index) for index in tried), len(tried)) if tried else None


def _is_recognised(inputs: InputDataset, index: int) -> bool:
    assert inputs.labels is not None
    scores = torch.tensor(inputs.classifier.scores(inputs.input(index), inputs.name(index)))
    label = torch.as_tensor(inputs.labels[index])  # an index, or a number for each class
    predicted = int(scores.argmax())
    return bool(label == predicted if label.dim() == 0 else label[predicted] > 0)


def load_bases(
    paths: Sequence[str | os.PathLike] | str | os.PathLike, layer: str | None = None
) -> dict[Path, PrototypeBasis]:
    """The bases of files and of all files in folders, by their path, in the order of `SCHEMES`.

    Args:
        paths: paths of files and folders, or one path.
        layer: name of the layer of the bases; None where any layer is allowed.

    Raises:
        FileNotFoundError: there is no basis.
        TypeError: the paths are none.
        ValueError: a basis has no prototypes or is of another layer, or two bases are for the same scheme.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import FeatureBank, basis_from_matrix
        >>> from captum_apex.explaining import load_bases
        >>> layer = torch.nn.AvgPool2d(3)
        >>> model = torch.nn.Sequential(layer, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> bank = FeatureBank.from_dataset(model, layer, torch.arange(108.0).view(2, 1, 9, 6))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     basis_from_matrix(bank, "time", torch.eye(1), n_prototypes=2).save(Path(folder, "time.safetensors"))
        ...     bases = load_bases(folder, "0")
        >>> {path.name: str(basis.scheme) for path, basis in bases.items()}
        {'time.safetensors': 'time'}
    """
    listed = [paths] if isinstance(paths, (str, os.PathLike)) or not isinstance(paths, Iterable) else list(paths)
    for path in listed:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"expected `paths` of files and folders of bases, but got {type(path).__name__}")
    given = [Path(path) for path in listed]
    files = [file for path in given for file in (sorted(path.glob(f"*{BASIS_SUFFIX}")) if path.is_dir() else [path])]
    if not files:
        raise FileNotFoundError(f"expected bases, *{BASIS_SUFFIX}, in {', '.join(map(str, given))}, but there are none")
    bases = {file: PrototypeBasis.load(file) for file in files}
    by_scheme: dict[Scheme, Path] = {}
    for file, basis in bases.items():
        if basis.positive is None:
            raise ValueError(f"expected a basis with prototypes, but {file} has none")
        if layer is not None and basis.origin.layer != layer:
            raise ValueError(
                f"expected a basis of the layer {layer!r}, but {file} was fitted on {basis.origin.layer!r}"
            )
        if basis.scheme in by_scheme:
            raise ValueError(
                f"expected one basis per scheme, but {by_scheme[basis.scheme]} and {file} are both for "
                f"{str(basis.scheme)!r}"
            )
        by_scheme[basis.scheme] = file
    return {by_scheme[scheme]: bases[by_scheme[scheme]] for scheme in SCHEMES if scheme in by_scheme}


def check_origins(training: InputDataset, bases: Mapping[str, PrototypeBasis]) -> None:
    """Raises a ValueError where a basis was fitted on other recordings, as far as it knows them.

    A warning says where their labels were others, as with class names in another order.

    Args:
        training: the recordings.
        bases: the bases by what messages call them.

    Example:
        >>> from captum_apex.demonstration import EveningSounds, explainer
        >>> from captum_apex.explaining.classifier_bases import check_origins
        >>> pond = explainer()
        >>> sounds = pond.classifier.dataset(EveningSounds("demo"))
        >>> try:
        ...     check_origins(sounds, {"time.safetensors": pond.bases["time"]})
        ... except ValueError as error:
        ...     print(str(error).split(";")[0])
        expected the 320 recordings that time.safetensors was fitted on, but got 12
    """
    given = Origin(n_clips=len(training), dataset=training.recordings.fingerprint(), input_shape=tuple(training.shape))
    for name, basis in bases.items():
        origin = basis.origin
        if given.n_clips != origin.n_clips:
            left_out = "" if given.n_clips < origin.n_clips else _LEFT_OUT
            raise ValueError(
                f"expected the {origin.n_clips} recordings that {name} was fitted on, but got {given.n_clips}; "
                f"{_OF_THE_FIT}{left_out}"
            )
        if origin.dataset not in ("", given.dataset):
            raise ValueError(
                f"expected the recordings that {name} was fitted on, but names or sizes of files differ; {_OF_THE_FIT}"
            )
        if origin.input_shape not in (None, given.input_shape):
            raise ValueError(
                f"expected inputs of shape {origin.input_shape}, as {name} was fitted on, but the transform gives "
                f"{given.input_shape}"
            )
        if not origin.dataset:
            warn_caller(f"{name} does not know its recordings by name: only their number could be compared")
    warn_of_other_labels(training, bases)
