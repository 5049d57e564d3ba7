"""What the page tells of one clip."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from captum_apex.clip import Clip
from captum_apex.explanation import Explanation

__all__ = ["ClipSource", "Page"]


class ClipSource(Protocol):
    """Training clips by their index: a mapping, a list, or anything else with `[index]`."""

    def __getitem__(self, index: int, /) -> Clip: ...


@dataclass(frozen=True)
class Page:
    """One clip with its explanations.

    Args:
        clip: the clip that is explained.
        explanations: one per scheme, all of the same target.
        prototypes: the training clips that the explanations name, by their index; only those are looked up, and once.
        class_names: name of each class.
        scores: the model's output for each class, as a rule logits.
        maps: other attribution maps by the name of their method, each (frequency, time), of the input's shape.

    Attributes:
        shown_prototypes: those that were looked up.

    Raises:
        ValueError: there is no explanation, two of one scheme, or of different targets; scores and names do not fit; a score or a map is
            not finite; a map is not (frequency, time); a prototype is missing.
    """

    clip: Clip
    explanations: Sequence[Explanation]
    prototypes: ClipSource
    class_names: Sequence[str] = ()
    scores: Sequence[float] = ()
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    shown_prototypes: dict[int, Clip] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_explanations()
        if self.class_names and len(self.scores) and len(self.class_names) != len(self.scores):
            raise ValueError(f"expected one score per class, but got {len(self.scores)} scores for {len(self.class_names)} classes")
        if not all(math.isfinite(score) for score in self.scores):
            raise ValueError(f"expected finite `scores`, but got {[float(score) for score in self.scores]}")
        for name, values in self.maps.items():
            if values.ndim != 2 or not values.numel() or not values.isfinite().all():
                raise ValueError(f"expected the map {name!r} to be finite, of shape (frequency, time), but got {tuple(values.shape)}")
        object.__setattr__(self, "shown_prototypes", {index: self._prototype(index) for index in self._prototype_indices()})

    @property
    def target(self) -> Any:
        """The class explained, as the explanations have it."""
        return self.explanations[0].target

    @property
    def explained(self) -> int | None:
        """Index of the explained class; None where the model has a single output, or several axes of outputs."""
        target = self.target[0] if isinstance(self.target, tuple | list) and len(self.target) == 1 else self.target
        if not isinstance(target, int):
            return None
        n_classes = len(self.scores) or len(self.class_names)
        return target % n_classes if n_classes and -n_classes <= target < n_classes else target

    def class_name(self, label: Any) -> str:
        """The name of a class, or of several: a list of as many numbers as there are classes says which ones hold.

        Args:
            label: as the dataset gives it.

        Returns:
            Empty where there is no label.
        """
        if isinstance(label, tuple | list) and len(label) == 1:
            label = label[0]
        if isinstance(label, list) and self.class_names and len(label) == len(self.class_names):
            return ", ".join(name for name, holds in zip(self.class_names, label, strict=True) if holds > 0)
        if isinstance(label, int | float) and float(label).is_integer() and -len(self.class_names) <= label < len(self.class_names):
            return self.class_names[int(label)]
        return "" if label is None else f"class {label}"

    def _prototype_indices(self) -> list[int]:
        parts = (part for explanation in self.explanations for part in explanation.evidence)
        return sorted({prototype.index for part in parts for prototype in part.prototypes})

    def _prototype(self, index: int) -> Clip:
        try:
            return self.prototypes[index]
        except LookupError as error:
            raise ValueError(f"expected `prototypes` to hold training clip {index}, which an explanation names, but it does not") from error

    def _check_explanations(self) -> None:
        if not self.explanations:
            raise ValueError("expected at least one explanation per clip, but got none")
        schemes = [str(explanation.scheme) for explanation in self.explanations]
        if len(set(schemes)) < len(schemes):
            raise ValueError(f"expected one explanation per scheme, but got {', '.join(schemes)}")
        targets = [explanation.target for explanation in self.explanations]
        if any(target != targets[0] for target in targets):
            raise ValueError(f"expected explanations of the same target, but got {targets}")
