"""One clip with all that its page shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from captum_apex.audio.clip import Clip
from captum_apex.audio.clip_lookup import ClipLookup
from captum_apex.bases.schemes import Scheme
from captum_apex.choices import one_of
from captum_apex.classifiers.class_names import class_name, ordered_names
from captum_apex.classifiers.logits import silence_bar
from captum_apex.explanations.explanation import Explanation
from captum_apex.figures.prototypes import explanation, perspectives
from captum_apex.figures.signed_maps import signed_map
from captum_apex.report.printed import evidence_text, prototype_names
from captum_apex.result_tables import counted
from captum_apex.texts import encodable

__all__ = ["Page"]

_N_CHANNELS = 3  # that the text of a page lists
_N_CHANNELS_EACH = 2  # of each of several schemes


@dataclass(frozen=True, repr=False)
class Page:
    """One clip with its explanations; `print` says which part of it is like which part of which training clip.

    Args:
        clip: the explained clip.
        explanations: one explanation per scheme, all of the same target.
        prototypes: the training clip at each index; only the prototypes of the explanations are looked up, each once.
        class_names: the name of each class; without them classes are numbered.
        scores: the model's output for each class, usually logits.
        maps: attribution maps of other methods by their names: attribution of the whole input, (…, frequency, time) of
            any size or, for waveforms, (…, sample); the leading axes have size 1.
        exclusive: whether each clip has exactly one class, as in `captum_apex.Classifier`: True if the probabilities of
            the classes are the softmax of the scores, False if they are their sigmoid. None shows no probabilities.
        background: name of clips without any of the classes, which is the first choice where no score is above 0; None
            for no such name.
        silence: the model's output for each class in digital silence, to compare with `scores`; empty where it is not
            known.

    Attributes:
        shown_prototypes: the training clips that were looked up, by their index.

    Raises:
        ValueError: there is no explanation, two of one scheme, or of different targets; scores and names do not fit; a
            score or a map is not finite; a map has another shape; a prototype is missing; or a single class shall be
            exclusive.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, Explanation, Scheme, SpectrogramAxes
        >>> from captum_apex.report import Page
        >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80), name="new.wav")
        >>> time = Explanation(Scheme("time"), -1, score=2.0, score_without_layer=0.5, evidence=(), total=1.5)
        >>> print(Page(clip, [time], {}, ["dog", "rain"]))
        Page of new.wav: rain, score 2 (time)
    """

    clip: Clip
    explanations: Sequence[Explanation]
    prototypes: ClipLookup
    class_names: Sequence[str] | None = None
    scores: Sequence[float] = ()
    maps: Mapping[str, ArrayLike | Tensor] = field(default_factory=dict)
    exclusive: bool | None = None
    background: str | None = None
    silence: Sequence[float] = ()
    shown_prototypes: dict[int, Clip] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_explanations()
        if self.class_names is not None:
            object.__setattr__(self, "class_names", ordered_names(self.class_names))
        if self.class_names and len(self.scores) and len(self.class_names) != len(self.scores):
            raise ValueError(
                f"expected one score per class, but got {len(self.scores)} scores for {len(self.class_names)} classes"
            )
        if not all(math.isfinite(score) for score in self.scores):
            raise ValueError(f"expected finite `scores`, but got {[float(score) for score in self.scores]}")
        if self.exclusive and len(self.scores) == 1:
            raise ValueError("expected several scores with `exclusive=True`, but there is one, whose softmax is 1")
        for name, values in self.maps.items():
            signed_map(values, name, self.clip)
        object.__setattr__(
            self, "shown_prototypes", {index: self._prototype(index) for index in self._prototype_indices()}
        )

    def __repr__(self) -> str:
        schemes = ", ".join(str(explanation.scheme) for explanation in self.explanations)
        explained = self.class_name(self.target if self.explained is None else self.explained)
        return f"Page of {self.clip.title or 'a clip'}: {explained}, score {self.explanations[0].score:.3g} ({schemes})"

    def __str__(self) -> str:
        most = _N_CHANNELS if len(self.explanations) == 1 else _N_CHANNELS_EACH
        lines = [*([self.silence_doubt] if self.silence_doubt else []), *self.strongest_texts(most)]
        return "\n".join([repr(self), *(f"  {line}" for line in lines)])

    def strongest_texts(self, most: int) -> list[str]:
        """Which part of the clip is like which part of which training clip, for the strongest channels of each scheme.

        Args:
            most: number of channels of each scheme that get a line; the others are counted.
        """
        names = prototype_names(self.shown_prototypes)
        lines = []
        for shown in self.explanations:
            scheme = "" if len(self.explanations) == 1 else f"{shown.scheme}: "
            for evidence in shown.evidence[:most]:
                lines.append(f"{scheme}{evidence_text(self.clip, evidence, self.shown_prototypes, names)}")
            if len(shown.evidence) > most:
                lines.append(f"{scheme}{counted(len(shown.evidence) - most, 'more channel')}")
        return lines

    def _repr_html_(self) -> str | None:
        framed = import_module("captum_apex.report.notebook").framed  # at last, because that module imports this one
        return framed([self])

    @property
    def target(self) -> Any:
        """The target of the explanations."""
        return self.explanations[0].target

    @property
    def explained(self) -> int | None:
        """Index of the explained class; None where the only output has no name, or outputs have several axes."""
        if self.target is None and self.class_names is not None and len(self.class_names) == 1:
            return 0
        target = self.target[0] if isinstance(self.target, tuple | list) and len(self.target) == 1 else self.target
        if not isinstance(target, int):
            return None
        n_classes = len(self.scores) or len(self.class_names or ())
        return target % n_classes if n_classes and -n_classes <= target < n_classes else target

    @property
    def first_choice(self) -> str:
        """The name of the class with the highest score, or of the background; empty for a single output without it.

        Example:
            >>> import torch
            >>> from captum_apex import Clip, Explanation, Scheme, SpectrogramAxes
            >>> from captum_apex.report import Page
            >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80))
            >>> time = Explanation(Scheme("time"), None, score=-2.0, score_without_layer=0.5, evidence=(), total=-2.5)
            >>> Page(clip, [time], {}, ["call"], scores=[-2.0], background="no call").first_choice
            'no call'
        """
        if self.background is not None and len(self.scores) and max(self.scores) <= 0:
            return encodable(self.background)
        if len(self.scores) < 2 and (self.background is None or not len(self.scores)):
            return ""
        return self.class_name(max(range(len(self.scores)), key=lambda label: self.scores[label]))

    @property
    def detects(self) -> bool | None:
        """Whether a class is more probable than not; None where classes exclude each other or it is not known.

        Example:
            >>> import torch
            >>> from captum_apex import Clip, Explanation, Scheme, SpectrogramAxes
            >>> from captum_apex.report import Page
            >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80))
            >>> time = Explanation(Scheme("time"), 0, score=-1.9, score_without_layer=0.5, evidence=(), total=-2.4)
            >>> Page(clip, [time], {}, ["dog", "rain"], scores=[-1.9, -2.5], exclusive=False).detects
            False
        """
        return max(self.probabilities) > 0.5 if self.exclusive is False and self.probabilities else None

    @property
    def probabilities(self) -> list[float]:
        """The probability of each class; empty where it is not known, because `scores` or `exclusive` are not given.

        Example:
            >>> import torch
            >>> from captum_apex import Clip, Explanation, Scheme, SpectrogramAxes
            >>> from captum_apex.report import Page
            >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80))
            >>> time = Explanation(Scheme("time"), 0, score=2.0, score_without_layer=0.5, evidence=(), total=1.5)
            >>> page = Page(clip, [time], {}, ["dog", "rain"], scores=[2.0, 0.0], exclusive=True)
            >>> [round(probability, 2) for probability in page.probabilities]
            [0.88, 0.12]
        """
        return self._probabilities(self.scores)

    def _probabilities(self, of_classes: Sequence[float]) -> list[float]:
        if self.exclusive is None or not len(of_classes):
            return []
        scores = torch.tensor([float(score) for score in of_classes], dtype=torch.float64)
        return (scores.softmax(0) if self.exclusive else scores.sigmoid()).tolist()

    @property
    def probability(self) -> float | None:
        """The probability of the explained class; None where it is not known."""
        return self._of_explained(self.probabilities)

    def _of_explained(self, values: Sequence[float]) -> float | None:
        label = 0 if len(values) == 1 else self.explained
        return values[label] if label is not None and 0 <= label < len(values) else None

    @property
    def silence_probability(self) -> float | None:
        """The probability of the explained class in digital silence; None where it is not known."""
        return self._of_explained(self._probabilities(self.silence))

    @property
    def heard_in_silence(self) -> bool:
        """Whether digital silence has the explained class for the model, see `silence_bar`; False if it is not known.

        Example:
            >>> import torch
            >>> from captum_apex import Clip, Explanation, Scheme, SpectrogramAxes
            >>> from captum_apex.report import Page
            >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80))
            >>> time = Explanation(Scheme("time"), 0, score=2.0, score_without_layer=0.5, evidence=(), total=1.5)
            >>> scores = {"scores": [2.0, 0.0], "exclusive": True, "silence": [2.1, 0.1]}
            >>> Page(clip, [time], {}, ["dog", "rain"], **scores).heard_in_silence
            True
        """
        probability = self.silence_probability
        return probability is not None and probability > silence_bar(len(self.silence), self.exclusive)

    @property
    def silence_doubt(self) -> str:
        """What to know where digital silence has the explained class, or is as probable to have it as the clip.

        Without probabilities the scores are compared. It is empty where silence gets less, or it is not known.

        Example:
            >>> import torch
            >>> from captum_apex import Clip, Explanation, Scheme, SpectrogramAxes
            >>> from captum_apex.report import Page
            >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80))
            >>> time = Explanation(Scheme("time"), 0, score=2.0, score_without_layer=0.5, evidence=(), total=1.5)
            >>> scores = {"scores": [2.0, 0.0], "exclusive": True, "silence": [2.1, 0.1]}
            >>> Page(clip, [time], {}, ["dog", "rain"], **scores).silence_doubt
            'digital silence gets this class too (probability 0.88; this clip 0.88)'
        """
        name = "score" if self.silence_probability is None or self.probability is None else "probability"
        in_silence = self._of_explained(self.silence) if name == "score" else self.silence_probability
        in_clip = self._of_explained(self.scores) if name == "score" else self.probability
        if in_silence is None or in_clip is None:
            return ""
        if not self.heard_in_silence and in_silence < in_clip:
            return ""
        shown = f"({name} {_short(in_silence, name)}; this clip {_short(in_clip, name)})"
        return f"digital silence gets this class {'too' if self.heard_in_silence else 'as much'} {shown}"

    @property
    def right(self) -> bool | None:
        """Whether the model's first choice is the class of the clip, or one of its classes, which commas separate.

        It is None where a class of the clip or the choice is not known.

        Example:
            >>> import torch
            >>> from captum_apex import Clip, Explanation, Scheme, SpectrogramAxes
            >>> from captum_apex.report import Page
            >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80), label="rain")
            >>> time = Explanation(Scheme("time"), 0, score=2.0, score_without_layer=0.5, evidence=(), total=1.5)
            >>> Page(clip, [time], {}, ["dog", "rain"], scores=[2.0, -1.0]).right
            False
        """
        label = encodable(self.clip.label)
        names = [*(self.class_names or ()), *([] if self.background is None else [self.background])]
        known = set(map(encodable, names))
        labels = {label} if label in known else set(label.split(", "))
        if self.class_names is None or not labels <= known or not self.first_choice:
            return None
        return self.first_choice in labels

    def figure(self, scheme: Scheme | str | None = None) -> Figure:
        """A picture of the explanation with its prototypes, to save or to show in a notebook.

        Args:
            scheme: the scheme to draw by `captum_apex.figures.explanation`; None draws all schemes side by side by
                `captum_apex.figures.perspectives`, or the only one.

        Returns:
            The matplotlib figure.

        Raises:
            ValueError: there is no explanation in this scheme.

        Example:
            >>> import torch
            >>> from captum_apex import Clip, Explanation, Scheme, SpectrogramAxes
            >>> from captum_apex.report import Page
            >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80))
            >>> time = Explanation(Scheme("time"), 0, score=2.0, score_without_layer=0.5, evidence=(), total=1.5)
            >>> figure = Page(clip, [time], {}, ["dog", "rain"]).figure("time")
            >>> [label.get_text() for label in figure.axes[1].get_yticklabels()][-1]
            'logit: dog'
        """
        names = self.class_names
        if scheme is None and len(self.explanations) > 1:
            return perspectives(
                self.explanations, self.clip, self.shown_prototypes, class_names=names, note=self.silence_doubt
            )
        by_scheme = {str(each.scheme): each for each in self.explanations}
        name = next(iter(by_scheme)) if scheme is None else one_of(scheme, "`scheme`", list(by_scheme))
        shown = by_scheme[str(name)]
        return explanation(shown, self.clip, self.shown_prototypes, class_names=names, note=self.silence_doubt)

    def class_name(self, label: Any) -> str:
        """The name of a label or a target; an empty text for None."""
        return class_name(label, self.class_names, self.background)

    def _prototype_indices(self) -> list[int]:
        channels = [channel for explanation in self.explanations for channel in explanation.evidence]
        return sorted({prototype.index for channel in channels for prototype in channel.prototypes})

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


def _short(value: float, name: str) -> str:
    return f"{value:.2f}" if name == "probability" else f"{value:.3g}"
