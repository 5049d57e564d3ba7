"""`Explainer`: a classifier, its bases and the recordings that show them, for explanations in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.decomposition import N_CHANNELS, check_sides
from captum_apex.audio.clip import Clip
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import SCHEMES, Scheme
from captum_apex.classifiers.class_names import class_index
from captum_apex.classifiers.classifier import Classifier
from captum_apex.classifiers.spectrogram_inputs import warn_of_missing_axes
from captum_apex.defaults import BASIS_SUFFIX
from captum_apex.explaining.channel_names import Names, read_names, write_names
from captum_apex.explaining.classifier_bases import check_classifier, check_origins, fit_bases, load_bases, named_bases
from captum_apex.explaining.clip_pages import N_PROTOTYPES, ClipPages, EvidenceSettings, n_stored
from captum_apex.explaining.clip_sources import clip_sources
from captum_apex.explaining.explained_clips import ExplainedClips
from captum_apex.explaining.silence_checks import warn_of_pages_of_silence
from captum_apex.explanations.events import RecordingExplanation
from captum_apex.explanations.long_recordings import explain_recording
from captum_apex.explanations.prototype_regions import locate_prototypes
from captum_apex.layers.models import model_name, model_of
from captum_apex.locating.region_search import RegionSearch
from captum_apex.numbers import real_number, whole_number
from captum_apex.progress import bar_settings
from captum_apex.recordings.audio_file import UnreadableAudioError
from captum_apex.recordings.folders import AudioDataset

if TYPE_CHECKING:
    from captum_apex.report import Page

__all__ = ["Explainer"]

_SKIP_BAD = "`skip_bad=True`, or --skip-bad on the command line, leaves out clips that cannot be read"


class Explainer:
    """A classifier with its bases, and the recordings that they were fitted on.

    It joins what the steps of an explanation share. Each step can be called by itself: `apexes` are the attribution
    objects, `classifier` reads files, `training` holds the training clips.

    Args:
        classifier: the classifier.
        bases: one fitted basis per scheme; or such bases by the paths of their files, which messages then name.
        recordings: the recordings that the bases were fitted on, for the sounds and pictures of prototypes. Without
            them, explanations have no prototypes.

    Attributes:
        classifier: the classifier.
        apexes: the attribution object of each scheme, in the order of `SCHEMES`.
        training: the recordings as inputs of the classifier; None without recordings.

    Raises:
        TypeError: the classifier, a basis or the recordings are of another type.
        ValueError: there is no basis, or two of one scheme; a basis has no prototypes or does not fit the model; or the
            recordings are not those that a basis was fitted on.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import Classifier, Explainer, Recordings, SpectrogramAxes, listening
        >>> _ = torch.manual_seed(0)
        >>> layer = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> def transform(waveform):  # (sample,) -> (1, frequency, time)
        ...     return torch.stft(waveform, 62, 16, window=torch.ones(62), return_complex=True).abs()[None]
        >>> axes = SpectrogramAxes(8000, n_fft=62, hop_length=16)
        >>> classifier = Classifier(model, transform, 8000, ["dog", "rain"], axes, layer=layer, length=800)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("a.wav", "b.wav", "c.wav"):
        ...         listening.write(Path(folder, name), torch.rand(800), 8000)
        ...     explainer = Explainer.fit(classifier, Recordings.in_folder(folder), ["time"])
        ...     explained = explainer.explain(torch.rand(800))
        >>> len(explained), len(explained[0].explanations), len(explained[0].explanations[0].evidence[0].prototypes)
        (1, 1, 3)
    """

    def __init__(
        self,
        classifier: Classifier,
        bases: Iterable[PrototypeBasis] | Mapping[Path, PrototypeBasis],
        recordings: AudioDataset | Mapping[str, Any] | Sequence[Any] | None = None,
    ) -> None:
        check_classifier(classifier)
        named = named_bases(bases)
        self.classifier = classifier
        self.apexes: dict[Scheme, APEX] = _apexes(classifier, named)
        self.training = None if recordings is None else classifier.dataset(recordings)
        self._pages = ClipPages(classifier, self.apexes, self.training)
        if self.training is not None:
            check_origins(self.training, named)
        shape = next(iter(named.values())).origin.input_shape
        if classifier.axes is None and shape is not None:
            warn_of_missing_axes(shape, classifier.input_layout, classifier.sample_rate)

    @classmethod
    def fit(
        cls,
        classifier: Classifier,
        recordings: AudioDataset | Mapping[str, Any] | Sequence[Any],
        schemes: Iterable[Scheme | str] | None = None,
        *,
        layer: nn.Module | None = None,
        num_workers: int = 0,
        bank: str | os.PathLike | None = None,
        seed: int = 0,
        progress: bool = False,
    ) -> Explainer:
        """Fits one basis per scheme on recordings; see `captum_apex.explaining.fit_bases` for more settings.

        Args:
            classifier: the classifier.
            recordings: the sounds that the prototypes are chosen from, usually those that the model was trained on, in
                any form that `Classifier.dataset` takes.
            schemes: the schemes; None for all that the layer supports, without `square` for a layer of one row or one
                column.
            layer: the module to explain; None for the classifier's `layer`.
            num_workers: number of processes that read recordings, beside this one.
            bank: folder that keeps the features of the recordings, so that an interrupted call can be made again and
                goes on, and further fits on the same features do without the passes of the model.
            seed: seed of the random number generator of the fit.
            progress: whether to show progress bars, and how long a fit of more than a minute will take.
        """
        loading: dict[str, Any] = {"num_workers": num_workers, "bank": bank}
        bases = fit_bases(classifier, recordings, schemes, layer=layer, **loading, seed=seed, progress=progress)
        return cls(classifier, bases, recordings)

    @classmethod
    def load(
        cls,
        paths: Sequence[str | os.PathLike] | str | os.PathLike,
        classifier: Classifier,
        recordings: AudioDataset | Mapping[str, Any] | Sequence[Any] | None = None,
    ) -> Explainer:
        """The explainer of bases that `save` or the command line has written.

        Args:
            paths: a folder of bases, or the paths of files and folders.
            classifier: the classifier.
            recordings: the recordings that the bases were fitted on.
        """
        return cls(classifier, load_bases(paths), recordings)

    def save(self, folder: str | os.PathLike) -> list[Path]:
        """Writes each basis into a folder, as `SCHEME.safetensors`; returns the paths."""
        paths = [Path(folder, f"{scheme}{BASIS_SUFFIX}") for scheme in self.apexes]
        for path, basis in zip(paths, self.bases.values(), strict=True):
            basis.save(path)
        return paths

    def read_names(self, path: str | os.PathLike) -> dict[str, dict[int, str]]:
        """The names of channels in a file that a page has exported: scheme → channel → name.

        Args:
            path: path of the file. `ExplainedClips.write(..., names=path)` writes them into a page.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no names of channels, or none of these bases.
        """
        return read_names(path, self.bases)

    def write_names(self, path: str | os.PathLike, names: Names) -> Path:
        """Writes names of channels as a file that a page imports; the inverse of `read_names`.

        Args:
            path: path of the file.
            names: scheme → channel → name, such as `{"time": {17: "knocks"}}`.

        Raises:
            ValueError: there is no basis of a scheme, or it has no such channel.
        """
        return write_names(path, names, self.bases)

    @property
    def bases(self) -> Mapping[Scheme, PrototypeBasis]:
        """The basis of each scheme."""
        return {scheme: apex.basis for scheme, apex in self.apexes.items()}

    def located(self, n_prototypes: int = N_PROTOTYPES, *, progress: bool = False) -> Explainer:
        """The same explainer with bases that keep the regions of prototypes, so that they are searched for only once.

        Args:
            n_prototypes: number of prototypes per channel whose regions are searched for, the best first.
            progress: whether to show progress bars.

        Raises:
            ValueError: the explainer has no recordings.
        """
        if self.training is None:
            raise ValueError("expected an Explainer with `recordings`, in which prototypes can be located")
        n_prototypes = whole_number(n_prototypes, "n_prototypes", least=1)
        bases = []
        for apex in self.apexes.values():
            most = min(n_prototypes, n_stored(apex.basis))
            bases.append(locate_prototypes(apex, self.training, n_prototypes=most, progress=progress))
        return Explainer(self.classifier, bases, self.training.recordings)

    def explain(
        self,
        clips: Any,
        target: str | int | Sequence[str | int] | None = None,
        *,
        threshold: float | None = None,
        n_channels: int = N_CHANNELS,
        n_prototypes: int | None = None,
        sides: str = "positive",
        search: RegionSearch | None = RegionSearch(),  # noqa: B008 - it cannot be changed
        skip_bad: bool = False,
        progress: bool = False,
    ) -> ExplainedClips:
        """Explains clips in all schemes.

        Args:
            clips: the path of a file or of a folder, a sound in memory, an `AudioDataset` such as `Recordings`, a list
                of paths and sounds, or a mapping from names to them. A sound in memory is a waveform (sample,) at the
                sample rate of the classifier, a pair `(waveform, sample_rate)`, or a `Clip`; it is resampled, cut and
                padded as files are. A clip that is one of `recordings` has its label, and is no prototype of itself.
            target: the class to explain, by name or index, or several classes; None for the class with the largest
                score in each clip.
            threshold: explain all classes with a probability of at least this, in [0, 1], instead; the predicted class
                where there are none.
            n_channels: largest number of channels in the evidence, `N_CHANNELS` (5) by default.
            n_prototypes: number of prototypes per channel; None for 4, or as many as the bases have.
            sides: `"positive"`, or `"both"` to add channels that support the class by a negative activation.
            search: how regions are found at the input; None takes the peak cells of the layer's grid.
            skip_bad: leave out clips that cannot be read, and list them in the result's `left_out`, instead of raising.
            progress: whether to show a progress bar.

        Returns:
            The explained clips, in their order, each with one page per class.

        Raises:
            TypeError: the clips have another form, or a number is none.
            ValueError: a class or an argument is not known, `target` and `threshold` are both given, or a clip cannot
                be read or explained; a note names it.
        """
        if target is not None and threshold is not None:
            raise ValueError("expected either `target` or `threshold`, but got both")
        if threshold is not None:
            threshold = real_number(threshold, "threshold", 0, 1)
            self.classifier.probabilities(torch.zeros(len(self.classifier.class_names)))  # an error before the work
        targets = self._targets(target)
        n_prototypes = None if n_prototypes is None else whole_number(n_prototypes, "n_prototypes", least=1)
        check_sides(sides)
        settings = EvidenceSettings(n_channels, n_prototypes, sides, search)
        sources = clip_sources(self.classifier, clips)
        pages: list[Page] = []
        left_out = {}
        for source in tqdm(sources, desc="explaining", unit="clip", **bar_settings(progress)):
            try:
                clip, inputs = source.read(self.classifier)
            except (ValueError, OSError) as error:
                if not skip_bad:
                    _name_skip_bad(error)
                    raise
                left_out[source.name] = str(error)
                continue
            clip = self._pages.labelled(clip)
            scores = self.classifier.scores(inputs, source.name)
            labels = targets or _detected(self.classifier, scores, threshold)
            pages += [self._pages.page(clip, inputs, scores, label, settings, progress=progress) for label in labels]
        if left_out and not pages:
            raise ValueError(_all_bad(left_out))
        warn_of_pages_of_silence(pages)
        return ExplainedClips(tuple(pages), left_out)

    def explain_recording(
        self,
        recording: Tensor | Clip | tuple | str | os.PathLike,
        scheme: Scheme | str | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        **settings: Any,
    ) -> RecordingExplanation:
        """Lists the events in a recording of any length; see `captum_apex.explain_recording`.

        Args:
            recording: the path of an audio file, or a sound in memory, as in `explain`.
            scheme: the scheme of the basis; None where there is one basis.
            window: length of a window, in s; None for the length of the classifier's clips.
            hop: time from the start of one window to the start of the next, in s; None for half a window.
            **settings: further arguments of `captum_apex.explain_recording`, such as `threshold`.

        Raises:
            ValueError: there is no basis of the scheme, or the window is not known.
        """
        apex = self._apex(scheme)
        if window is None:
            if self.classifier.length is None:
                raise ValueError(
                    "expected `window` (on the command line --window), in s, or a Classifier with a `length`, but "
                    "there is neither"
                )
            window = self.classifier.length / self.classifier.sample_rate
        hop = window / 2 if hop is None else hop
        return explain_recording(apex, recording, window, hop, classifier=self.classifier, **settings)

    def _apex(self, scheme: Scheme | str | None) -> APEX:
        if scheme is None and len(self.apexes) == 1:
            return next(iter(self.apexes.values()))
        schemes = ", ".join(map(repr, map(str, self.apexes)))
        if scheme is None:
            first = next(iter(self.apexes))
            raise ValueError(
                f"expected `scheme`, because there are bases for {schemes}: name one, such as "
                f'scheme="{Scheme.TIME if Scheme.TIME in self.apexes else first}"'
            )
        if Scheme(scheme) not in self.apexes:
            raise ValueError(f"expected `scheme` to be one of {schemes}, of which there are bases, but got {scheme!r}")
        return self.apexes[Scheme(scheme)]

    def _targets(self, target: str | int | Sequence[str | int] | None) -> list[int | None]:
        """The classes that are asked for, each once; none for the predicted ones."""
        if target is None:
            return []
        is_one = isinstance(target, str) or not isinstance(target, Iterable) or getattr(target, "ndim", 1) == 0
        given: list = [target] if is_one else list(target)  # type: ignore[arg-type]
        names = self.classifier.class_names
        indices = list(dict.fromkeys(class_index(each, names) for each in given))
        # A model of one class may have no axis of classes, from which an index could be taken.
        return [*indices] if len(names) > 1 else [None]

    def __repr__(self) -> str:
        n_clips = "no recordings" if self.training is None else f"{len(self.training)} recordings"
        layers = dict.fromkeys(basis.origin.layer for basis in self.bases.values())
        model = model_name(self.classifier.model)
        return "\n".join(
            [
                f"Explainer of {model}, {len(self.classifier.class_names)} classes",
                f"  layer: {', '.join(layers)}",
                f"  bases: {', '.join(map(str, self.apexes))}",
                f"  prototypes from {n_clips}",
            ]
        )


def _name_skip_bad(error: ValueError | OSError) -> None:
    """Raises the error for a file that cannot be read with the setting that leaves such files out."""
    if isinstance(error, UnreadableAudioError):
        raise ValueError(f"{error}; {_SKIP_BAD}") from error


def _apexes(classifier: Classifier, bases: Mapping[str, PrototypeBasis]) -> dict[Scheme, APEX]:
    """The attribution object of each basis, in the order of `SCHEMES`."""
    if not bases:
        raise ValueError("expected at least one basis, but got none")
    apexes = {basis.scheme: _apex(classifier, name, basis) for name, basis in bases.items()}
    return {scheme: apexes[scheme] for scheme in SCHEMES if scheme in apexes}


def _apex(classifier: Classifier, name: str, basis: PrototypeBasis) -> APEX:
    if basis.positive is None:
        raise ValueError(f"expected bases with prototypes, but {name} has none; make one with `fit_basis`")
    try:
        layer = (model_of(classifier.model) or classifier.model).get_submodule(basis.origin.layer)
        layout = classifier.input_layout
        return APEX(classifier.model, layer, basis, input_layout=layout, columns=classifier.columns)
    except (AttributeError, ValueError) as error:
        raise ValueError(f"{name} does not fit this model: {error}") from error


def _all_bad(left_out: Mapping[str, str]) -> str:
    name, message = next(iter(left_out.items()))
    return f"expected files that can be read, but all {len(left_out)} are bad, such as {name}: {message}"


def _detected(classifier: Classifier, scores: Sequence[float], threshold: float | None) -> list[int | None]:
    """The classes whose probability reaches the threshold, highest first; [None], the predicted, if there are none."""
    if threshold is None or len(scores) == 1:
        return [None]
    ordered, labels = torch.tensor(scores).sort(descending=True)
    return labels[classifier.probabilities(ordered) >= threshold].tolist() or [None]
