"""What the page tells of one clip."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from captum_apex.audio.clip import Clip, ClipLookup
from captum_apex.classifiers.class_names import class_name
from captum_apex.explanations.explanation import Explanation
from captum_apex.figures.signed_maps import signed_map

__all__ = ["Page"]


@dataclass(frozen=True)
class Page:
    """One clip with its explanations.

    Args:
        clip: the clip that is explained.
        explanations: one per scheme, all of the same target.
        prototypes: the training clips that the explanations name, by their index; only those are looked up, and once.
        class_names: the name of each class; without them the numbers are shown.
        scores: the model's output for each class, as a rule logits.
        maps: other attribution maps by the name of their method, as `figures.maps` takes them: of the whole input, (…, frequency, time) of
            any size, the leading axes of size 1; (…, sample) for waveforms.

    Attributes:
        shown_prototypes: those that were looked up.

    Raises:
        ValueError: there is no explanation, two of one scheme, or of different targets; scores and names do not fit; a score or a map is
            not finite; a map has another shape; a prototype is missing.
    """

    clip: Clip
    explanations: Sequence[Explanation]
    prototypes: ClipLookup
    class_names: Sequence[str] | None = None
    scores: Sequence[float] = ()
    maps: Mapping[str, ArrayLike | Tensor] = field(default_factory=dict)
    shown_prototypes: dict[int, Clip] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_explanations()
        if self.class_names and len(self.scores) and len(self.class_names) != len(self.scores):
            raise ValueError(
                f"expected one score per class, but got {len(self.scores)} scores for {len(self.class_names)} classes"
            )
        if not all(math.isfinite(score) for score in self.scores):
            raise ValueError(f"expected finite `scores`, but got {[float(score) for score in self.scores]}")
        for name, values in self.maps.items():
            signed_map(values, name, self.clip)
        object.__setattr__(
            self, "shown_prototypes", {index: self._prototype(index) for index in self._prototype_indices()}
        )

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
        n_classes = len(self.scores) or len(self.class_names or ())
        return target % n_classes if n_classes and -n_classes <= target < n_classes else target

    def class_name(self, label: Any) -> str:
        """A label or a target in words; empty where there is none."""
        return class_name(label, self.class_names)

    def _prototype_indices(self) -> list[int]:
        parts = (part for explanation in self.explanations for part in explanation.evidence)
        return sorted({prototype.index for part in parts for prototype in part.prototypes})

    def _prototype(self, index: int) -> Clip:
        try:
            return self.prototypes[index]
        except LookupError as error:
            raise ValueError(
                f"expected `prototypes` to hold training clip {index}, which an explanation names, but it does not"
            ) from error

    def _check_explanations(self) -> None:
        if not self.explanations:
            raise ValueError("expected at least one explanation per clip, but got none")
        schemes = [str(explanation.scheme) for explanation in self.explanations]
        if len(set(schemes)) < len(schemes):
            raise ValueError(f"expected one explanation per scheme, but got {', '.join(schemes)}")
        targets = [explanation.target for explanation in self.explanations]
        if any(target != targets[0] for target in targets):
            raise ValueError(f"expected explanations of the same target, but got {targets}")
