"""Clips with their explanations in all schemes and their prototypes: what a page shows of one clip."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.arguments import check_inputs
from captum_apex.attribution.recorded_pass import recorded_pass, shared_passes
from captum_apex.audio.clip import Clip
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import Scheme
from captum_apex.classifiers.classifier import Classifier, InputDataset
from captum_apex.classifiers.logits import checked_scores
from captum_apex.explanations.explanation import Explanation, explain
from captum_apex.explanations.prototype_regions import PrototypeRegions
from captum_apex.layers.changes import restored
from captum_apex.layers.models import device_of
from captum_apex.layers.padding import lengths_of
from captum_apex.locating.region_search import RegionSearch
from captum_apex.progress import bar_settings
from captum_apex.texts import encodable

if TYPE_CHECKING:
    from captum_apex.report import Page

__all__ = ["N_PROTOTYPES", "ClipPages", "EvidenceSettings"]

N_PROTOTYPES = 4
"""Prototypes per channel that are shown, where the bases have as many."""

_MOST_KEPT = 256  # training clips


@dataclass(frozen=True)
class EvidenceSettings:
    """How much evidence is shown, and how its regions are found.

    Args:
        n_channels: largest number of channels.
        n_prototypes: number of prototypes per channel; None for `N_PROTOTYPES`, or as many as the basis has.
        sides: `"positive"` or `"both"`, as in `captum_apex.explain`.
        search: how the regions are found, as in `captum_apex.explain`.

    Example:
        >>> from captum_apex.explaining.clip_pages import EvidenceSettings
        >>> EvidenceSettings(5, None, "positive", None).n_channels
        5
    """

    n_channels: int
    n_prototypes: int | None
    sides: str
    search: RegionSearch | None


@dataclass(frozen=True)
class ClipPages:
    """Makes the pages of clips; each training clip is read once, and its regions are searched for once.

    A clip that is a training clip is not shown as a prototype of itself: the next one takes its place, as far as the
    basis has more of them (and, where the basis keeps regions, more with regions).

    Args:
        classifier: the classifier.
        apexes: the attribution object of each scheme.
        training: the training recordings as inputs; None for explanations without prototypes.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> from captum_apex.explaining.clip_pages import ClipPages
        >>> classifier = Classifier(torch.nn.Linear(9, 1), lambda waveform: waveform[:9], 8000, ["dog"])
        >>> ClipPages(classifier, {}).training is None  # explanations without prototypes
        True
    """

    classifier: Classifier
    apexes: Mapping[Scheme, APEX]
    training: InputDataset | None = None
    _training_clips: dict[int, Clip] = field(default_factory=dict, init=False, repr=False)
    _found: dict[Scheme, PrototypeRegions] = field(default_factory=dict, init=False, repr=False)
    _silence_scores: list[list[float]] = field(default_factory=list, init=False, repr=False)

    def scores(self, inputs: Tensor, name: str) -> list[float]:
        """The model's score for each class; inside `shared_passes`, by the pass that the explanations need.

        Args:
            inputs: input of the model for one clip, without the clip axis.
            name: name of the clip, for messages.

        Raises:
            ValueError: the model does not take the input, or gives another number of scores.
        """
        try:
            at_layer = next(iter(self.apexes.values())).layer_apex
            clips, lengths = self._batch(inputs)
            place = (at_layer.norm, at_layer.reads_input(False))
            check_inputs(clips)
            _, output = recorded_pass(at_layer.forward_func, at_layer.layer, clips, lengths, *place)
            return checked_scores(output.detach(), len(self.classifier.class_names)).flatten().tolist()
        except Exception:  # the user's code can raise anything; the classifier's errors say more of the transform
            return self.classifier.scores(inputs, name)

    def _batch(self, inputs: Tensor) -> tuple[Tensor, tuple]:
        """The input of a clip as a batch of one on the device of the model, and the further arguments for it."""
        clips = inputs[None].to(device_of(self.classifier.model))
        return clips, lengths_of(self.classifier.columns, clips)

    @restored
    def pages(
        self,
        clip: Clip,
        inputs: Tensor,
        name: str,
        labels: Callable[[Sequence[float]], Sequence[int | None]],
        settings: EvidenceSettings,
        *,
        progress: bool | None = False,
    ) -> list[Page]:
        """The explanations of several classes of one clip, which share the passes of the model.

        Args:
            clip: the clip.
            inputs: its input, without the clip axis.
            name: name of the clip, for messages.
            labels: function from the score for each class to the indices of the classes to explain; None among them is
                the predicted one.
            settings: how much evidence is shown.
            progress: as in `page`.

        Raises:
            ValueError: as in `scores` and in `page`.
        """
        with shared_passes():
            scores = self.scores(inputs, name)
            chosen = labels(scores)
            return [self.page(clip, inputs, scores, label, settings, progress=progress) for label in chosen]

    def page(
        self,
        clip: Clip,
        inputs: Tensor,
        scores: Sequence[float],
        label: int | None,
        settings: EvidenceSettings,
        *,
        progress: bool | None = False,
    ) -> Page:
        """The explanations of one class of one clip.

        Args:
            clip: the clip.
            inputs: its input, without the clip axis.
            scores: the model's score for each class.
            label: index of the class to explain; None for the predicted one.
            settings: how much evidence is shown.
            progress: whether to show a progress bar over the schemes, if they take longer than two seconds; None as in
                `captum_apex.progress.bar_settings`.

        Raises:
            ValueError: an argument is out of range, or the regions cannot be searched for; a note names the clip.
        """
        from captum_apex.report import Page  # needs matplotlib, which fitting does without

        bar = {"delay": 2} | bar_settings(progress, inner=True)
        of_clip = {"desc": encodable(clip.name), "unit": "scheme", "leave": False} | bar
        of_itself: set[int] = set(self.training_indices(clip))
        while True:
            schemes = tqdm(self.apexes.values(), **of_clip)
            try:
                explanations = [self._explanation(apex, inputs, label, settings, of_itself) for apex in schemes]
            except Exception as error:
                error.add_note(f"{clip.name} cannot be explained")
                raise
            prototypes = self._prototypes(explanations)
            copies = {index for index, prototype in prototypes.items() if _same_sound(prototype, clip)}
            if not copies:
                break
            of_itself |= copies  # a training clip under another name, whose prototypes are chosen again
        names = self.classifier.class_names
        background = self.classifier.background
        known: dict[str, Any] = {"exclusive": self._exclusive, "background": background, "silence": self._silence(clip)}
        return Page(clip, explanations, prototypes, names, scores, **known)

    def training_indices(self, clip: Clip) -> list[int]:
        """The training clips of the same name or file and with the same sound, which are usually one or none.

        Args:
            clip: the clip.
        """
        if self.training is None:
            return []
        named = self._training_names.get(Path(clip.name).name, [])
        same = [index for index in named if _same_file(self.training.name(index), clip.name)]
        return [index for index in same if _same_sound(self._training_clip(index), clip)]

    def labelled(self, clip: Clip) -> Clip:
        """The clip with the label of the training clip that it is, where it has none.

        Args:
            clip: the clip.
        """
        indices = [] if clip.label else self.training_indices(clip)
        return replace(clip, label=self._training_clip(indices[0]).label) if indices else clip

    def forget(self) -> None:
        """Drops the training clips that were read first, so that no more are kept than a few clips need."""
        for index in list(self._training_clips)[:-_MOST_KEPT]:
            del self._training_clips[index]

    @cached_property
    def _training_names(self) -> dict[str, list[int]]:
        """The training clips by the names of their files, without folders."""
        assert self.training is not None
        named: dict[str, list[int]] = {}
        for index in range(len(self.training)):
            named.setdefault(Path(self.training.name(index)).name, []).append(index)
        return named

    def _silence(self, clip: Clip) -> Sequence[float]:
        """The model's scores for digital silence, from one pass for all clips; empty where it gives none.

        Silence lasts as long as the classifier's clips; where these differ, as the first one that is explained.
        """
        if not self._silence_scores:
            n_samples = self.classifier.length or round(clip.duration * self.classifier.sample_rate)
            try:
                self._silence_scores.append(self.classifier.silence_scores(n_samples))
            except Exception:  # the user's code can raise anything for zeros, such as those that are no sound for it
                self._silence_scores.append([])
        scores = self._silence_scores[0]
        return scores if all(map(math.isfinite, scores)) else []

    @property
    def _exclusive(self) -> bool | None:
        """Whether the classes exclude each other; a single class has nothing that it could exclude."""
        return False if len(self.classifier.class_names) == 1 else self.classifier.exclusive

    def _explanation(
        self, apex: APEX, inputs: Tensor, label: int | None, settings: EvidenceSettings, of_itself: Collection[int]
    ) -> Explanation:
        """The explanation of one input, without the prototypes of the indices; without recordings, it has none."""
        n_shown = settings.n_prototypes
        if n_shown is None:
            n_shown = min(N_PROTOTYPES, n_stored(apex.basis))
        n_prototypes = _with_substitutes(apex.basis, n_shown, len(of_itself), settings.sides)
        clips, lengths = self._batch(inputs)
        explained = partial(
            explain,
            apex,
            clips,
            label,
            lengths,
            n_channels=settings.n_channels,
            n_prototypes=n_prototypes,
            sides=settings.sides,
        )
        if settings.search is None:
            explanation = explained(search=None)[0]
        else:
            stored = _has_regions(apex.basis, n_prototypes, settings.sides)
            regions = None if stored else self._regions(apex, settings.search)
            explanation = _with_regions(explained, settings.search, regions)
        return _with_prototypes(explanation, 0 if self.training is None else n_shown, of_itself)

    def _regions(self, apex: APEX, search: RegionSearch) -> PrototypeRegions | None:
        """The regions of the prototypes of a basis, with those that were found for clips before this one."""
        if self.training is None:
            return None
        scheme = apex.basis.scheme
        if scheme not in self._found or self._found[scheme].search != search:
            self._found[scheme] = PrototypeRegions(apex, self.training, search)
        return self._found[scheme]

    def _prototypes(self, explanations: Iterable[Explanation]) -> dict[int, Clip]:
        """The training clip of each prototype of the explanations, by its index."""
        channels = [channel for explanation in explanations for channel in explanation.evidence]
        indices = {prototype.index for channel in channels for prototype in channel.prototypes}
        return {index: self._training_clip(index) for index in sorted(indices)}

    def _training_clip(self, index: int) -> Clip:
        assert self.training is not None
        if index not in self._training_clips:
            self._training_clips[index] = self.training.clip(index)
        return self._training_clips[index]


def _same_sound(one: Clip, other: Clip) -> bool:
    return one.waveform is not None and other.waveform is not None and torch.equal(one.waveform, other.waveform)


def _same_file(one: str, other: str) -> bool:
    """Whether two names mean one file, or are the same name of what is no file, such as a row of a data set."""
    try:
        return one == other or os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is no file
        return False


def _with_substitutes(basis: PrototypeBasis, n_shown: int, n_left_out: int, sides: str) -> int:
    """How many prototypes are taken, so that as many as possible are left where some are left out."""
    if not n_left_out:
        return n_shown
    most = n_stored(basis)
    if _has_regions(basis, n_shown, sides):  # those that have none would be searched for, which takes long
        most = max((n for n in range(n_shown, most + 1) if _has_regions(basis, n, sides)), default=n_shown)
    return max(n_shown, min(n_shown + n_left_out, most))


def _with_prototypes(explanation: Explanation, n_prototypes: int, left_out: Collection[int]) -> Explanation:
    """The explanation with the first prototypes that are not left out."""
    evidence = []
    for channel in explanation.evidence:
        prototypes = [prototype for prototype in channel.prototypes if prototype.index not in left_out]
        evidence.append(replace(channel, prototypes=tuple(prototypes[:n_prototypes])))
    return replace(explanation, evidence=tuple(evidence))


def n_stored(basis: PrototypeBasis) -> int:
    """Number of prototypes that a basis keeps for each channel.

    Args:
        basis: a basis with prototypes.
    """
    assert basis.positive is not None
    return basis.positive.indices.shape[1]


def _with_regions(
    explained: Callable[..., list[Explanation]], search: RegionSearch, dataset: PrototypeRegions | None
) -> Explanation:
    """The explanation with regions that are found by masking, or an error that names the way without a search."""
    try:
        return explained(search=search, dataset=dataset)[0]
    except Exception as error:  # the search runs the user's model on altered inputs, which can raise anything
        explained(search=None)  # raises the errors that the search has nothing to do with
        raise ValueError(
            f"expected regions that can be found by masking, but the search raised {type(error).__name__}: {error}; "
            "`search=None`, or --cells on the command line, explains without a search"
        ) from error


def _has_regions(basis: PrototypeBasis, n_prototypes: int, sides: str) -> bool:
    """Whether the basis keeps the regions of all prototypes that can be shown."""
    prototypes = [basis.positive, basis.negative] if sides == "both" else [basis.positive]
    boxes = [None if of_side is None else of_side.boxes for of_side in prototypes]
    return all(each is not None and bool((each[:, :n_prototypes, 0, 0] >= 0).all()) for each in boxes)
