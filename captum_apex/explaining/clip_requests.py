"""What is asked for of each clip: the classes to explain, and how much evidence for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from captum_apex.attribution.decomposition import N_CHANNELS, check_sides
from captum_apex.classifiers.class_names import class_index
from captum_apex.classifiers.classifier import Classifier
from captum_apex.explaining.clip_pages import EvidenceSettings
from captum_apex.locating.region_search import RegionSearch
from captum_apex.numbers import real_number, whole_number

__all__ = ["ClipRequest"]


@dataclass(frozen=True)
class ClipRequest:
    """The classes to explain, and how much evidence is shown.

    Args:
        targets: indices of the classes that are asked for; none for the predicted ones. [None] for the only class of a
            model, which may have no axis of classes.
        threshold: least probability of the classes that are explained where none is asked for; None for the class with
            the largest score.
        evidence: how much evidence is shown.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> from captum_apex.explaining.clip_requests import ClipRequest
        >>> names = ["dog", "rain"]
        >>> classifier = Classifier(torch.nn.Linear(9, 2), lambda waveform: waveform[:9], 8000, names, exclusive=True)
        >>> ClipRequest.of(classifier, "rain").targets
        (1,)
        >>> ClipRequest.of(classifier, threshold=0.2).labels(classifier, [0.5, 0.75])
        [1, 0]
    """

    targets: tuple[int | None, ...]
    threshold: float | None
    evidence: EvidenceSettings

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        target: str | int | Sequence[str | int] | None = None,
        *,
        threshold: float | None = None,
        n_channels: int = N_CHANNELS,
        n_prototypes: int | None = None,
        sides: str = "positive",
        search: RegionSearch | None = RegionSearch(),  # noqa: B008 - it cannot be changed
    ) -> ClipRequest:
        """The request of the arguments of `Explainer.explain`, after a check of them."""
        if target is not None and threshold is not None:
            raise ValueError("expected either `target` or `threshold`, but got both")
        if threshold is not None:
            threshold = real_number(threshold, "threshold", 0, 1)
            classifier.probabilities(torch.zeros(len(classifier.class_names)))  # an error before the work
        targets = _indices(target, classifier.class_names)
        n_prototypes = None if n_prototypes is None else whole_number(n_prototypes, "n_prototypes", least=1)
        check_sides(sides)
        return cls(tuple(targets), threshold, EvidenceSettings(n_channels, n_prototypes, sides, search))

    @property
    def settings(self) -> dict[str, Any]:
        """What is asked for, by the names of the arguments."""
        evidence = {each.name: getattr(self.evidence, each.name) for each in fields(self.evidence)}
        return {"target": self.targets, "threshold": self.threshold, **evidence}

    def labels(self, classifier: Classifier, scores: Sequence[float]) -> list[int | None]:
        """The classes to explain of a clip, those that are detected from the highest score on; [None], the predicted.

        Args:
            classifier: the classifier.
            scores: the model's score for each class.
        """
        if self.targets:
            return list(self.targets)
        if self.threshold is None or len(scores) == 1:
            return [None]
        ordered, labels = torch.tensor(scores).sort(descending=True)
        return labels[classifier.probabilities(ordered) >= self.threshold].tolist() or [None]


def _indices(target: str | int | Sequence[str | int] | None, names: Sequence[str]) -> list[int | None]:
    """The classes that are asked for, each once; none for the predicted ones."""
    if target is None:
        return []
    is_one = isinstance(target, str) or not isinstance(target, Iterable) or getattr(target, "ndim", 1) == 0
    given: list = [target] if is_one else list(target)  # type: ignore[arg-type]
    indices = list(dict.fromkeys(class_index(each, names) for each in given))
    # A model of one class may have no axis of classes, from which an index could be taken.
    return [*indices] if len(names) > 1 else [None]
