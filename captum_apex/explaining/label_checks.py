"""Checks of the labels of recordings: do they fit the classifier, and the labels that a basis was fitted with?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.caller import warn_caller
from captum_apex.classifiers.classifier import InputDataset
from captum_apex.defaults import KEPT_PROTOTYPES
from captum_apex.result_tables import listed

__all__ = ["warn_of_few_clips", "warn_of_labels", "warn_of_other_labels"]

_FEW = 40  # recordings in all, under which a fit chooses prototypes among too few
_FEW_OF_CLASS = 10  # the same on average for each class that has recordings


def warn_of_labels(inputs: InputDataset) -> None:
    """Warns of classes without recordings, and of several labels per recording where classes exclude each other.

    Args:
        inputs: the recordings.

    Example:
        >>> import warnings
        >>> from captum_apex.demonstration import EveningSounds, classifier
        >>> from captum_apex.explaining.label_checks import warn_of_labels
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warn_of_labels(classifier().dataset(EveningSounds("test")))
        >>> caught
        []
    """
    if inputs.labels is None or not len(inputs):
        return
    names = inputs.classifier.class_names
    present = _present(torch.as_tensor(inputs.labels), len(names))
    missing = [name for name, of_class in zip(names, present.T, strict=True) if not of_class.any()]
    if missing:
        warn_caller(
            f"no recordings of {listed(missing, most=10)}: their sounds are no prototypes, unless recordings of other "
            "classes have them"
        )
    contradicting = (present.sum(1) > 1).nonzero().flatten().tolist()
    if inputs.classifier.exclusive and contradicting:
        first = contradicting[0]
        warn_caller(
            f"{len(contradicting)} of {len(inputs)} recordings have several labels, such as {inputs.name(first)} with "
            f"{inputs.label_name(first)!r}, but `exclusive=True` says that each clip has one class; if the model was "
            "trained by sigmoid and binary cross-entropy, give the Classifier `exclusive=False`"
        )


def warn_of_few_clips(inputs: InputDataset) -> None:
    """Warns where there are too few recordings to choose prototypes from.

    Args:
        inputs: the recordings.

    Example:
        >>> import warnings
        >>> from captum_apex import Classifier
        >>> from captum_apex.demonstration import EveningSounds, classifier
        >>> from captum_apex.explaining.label_checks import warn_of_few_clips
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_of_few_clips(classifier().dataset(EveningSounds("train")))
        ...     warn_of_few_clips(classifier().dataset(EveningSounds("demo")))
        >>> [str(warning.message).partition(":")[0] for warning in caught]
        ['12 recordings are few for a fit, some 2 for each class']
    """
    n_classes = 0
    if inputs.labels is not None and len(inputs):
        n_classes = int(_present(torch.as_tensor(inputs.labels), len(inputs.classifier.class_names)).any(0).sum())
    n_clips = len(inputs)
    if n_clips >= max(_FEW, _FEW_OF_CLASS * n_classes):
        return
    of_class = f", some {max(1, round(n_clips / n_classes))} for each class" if n_classes > 1 else ""
    warn_caller(
        f"{n_clips} recordings are few for a fit{of_class}: the prototypes of every channel, {KEPT_PROTOTYPES} or "
        "all of them, are chosen among these, whether they are clear examples or not, and purities say little; fit on "
        "some tens for each class, such as those that the model was trained on"
    )


def warn_of_other_labels(training: InputDataset, bases: Mapping[str, PrototypeBasis]) -> None:
    """Warns where the prototypes of a basis have other labels now than in the fit, as with another order of classes.

    Args:
        training: the recordings that the bases were fitted on.
        bases: the bases by what messages call them.

    Example:
        >>> import warnings
        >>> from captum_apex.demonstration import explainer
        >>> from captum_apex.explaining.label_checks import warn_of_other_labels
        >>> pond = explainer()
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warn_of_other_labels(pond.training, {"time.safetensors": pond.bases["time"]})
        >>> caught
        []
    """
    if training.labels is None:
        return
    names = training.classifier.class_names
    now = _present(torch.as_tensor(training.labels), len(names))
    for basis_name, basis in bases.items():
        if basis.positive is None or basis.positive.labels is None:
            continue
        fitted = basis.positive.labels.flatten(0, 1).cpu()
        if (fitted.dim() == 1 and fitted.max() >= len(names)) or (fitted.dim() == 2 and fitted.shape[1] != len(names)):
            continue  # of other classes, which the comparison with the model finds
        then = _present(fitted, len(names))
        labels = now[basis.positive.indices.flatten().cpu()]
        changed = (then != labels).any(1)
        if changed.any():
            warn_caller(_other_labels(basis_name, names, then[changed], labels[changed], len(changed)))


def _other_labels(basis_name: str, names: Sequence[str], then: Tensor, now: Tensor, n_prototypes: int) -> str:
    """What differs: the place of a class in the fit for each class that has another one now."""
    moves = {}
    for before, after in zip(then.tolist(), now.tolist(), strict=True):
        if sum(before) == sum(after) == 1:
            moves[names[after.index(True)]] = before.index(True)
    places = [f"{name!r} was class {place}, now {list(names).index(name)}" for name, place in sorted(moves.items())]
    told = f" ({listed(places, most=4)})" if places else ""
    return (
        f"{len(then)} of {n_prototypes} prototypes of {basis_name} had other labels when it was fitted{told}: check "
        "that `class_names` are in the order of the model's scores, and fit the basis again if it was not right then"
    )


def _present(labels: Tensor, n_classes: int) -> Tensor:
    """Whether each clip has each class, bool (clip, class)."""
    if labels.dim() == 2:
        return labels > 0
    return labels.long()[:, None] == torch.arange(n_classes)
