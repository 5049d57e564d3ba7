"""`Explainer`: a classifier, its bases and the recordings that show them, for explanations in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.decomposition import N_CHANNELS
from captum_apex.audio.clip import Clip
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import Scheme
from captum_apex.classifiers.classifier import Classifier
from captum_apex.classifiers.spectrogram_inputs import warn_of_missing_axes
from captum_apex.defaults import BASIS_SUFFIX
from captum_apex.explaining.bad_files import all_bad_text, naming_setting, warned_readable
from captum_apex.explaining.basis_apexes import apex_for, apexes_of, named_bases
from captum_apex.explaining.channel_names import Names, read_names, write_names
from captum_apex.explaining.classifier_bases import check_classifier, check_origins, fit_bases, load_bases
from captum_apex.explaining.clip_pages import N_PROTOTYPES, ClipPages, n_stored
from captum_apex.explaining.clip_progress import explained_in_turn
from captum_apex.explaining.clip_requests import ClipRequest
from captum_apex.explaining.clip_sources import ClipSource, clip_sources
from captum_apex.explaining.explained_clips import ExplainedClips
from captum_apex.explaining.recording_tables import window_and_hop
from captum_apex.explaining.silence_checks import warn_of_pages_of_silence
from captum_apex.explaining.table_writing import TableWriting
from captum_apex.explanations.events import RecordingExplanation
from captum_apex.explanations.long_recordings import explain_recording
from captum_apex.explanations.prototype_regions import locate_prototypes
from captum_apex.layers.models import model_name
from captum_apex.locating.region_search import RegionSearch
from captum_apex.numbers import whole_number
from captum_apex.recordings.folders import AudioDataset

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from captum_apex.report import Page

__all__ = ["Explainer"]


class Explainer(TableWriting):
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
        progress: whether the methods show progress bars where their `progress` is None. None, as at first, shows them
            on a terminal and in a notebook for what takes more than ten seconds; after `fit(…, progress=True)` it is
            True.

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
        self.apexes: dict[Scheme, APEX] = apexes_of(classifier, named)
        self.training = None if recordings is None else classifier.dataset(recordings)
        self.progress: bool | None = None
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
        skip_bad: bool = False,
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
            skip_bad: leave out files that cannot be read or transformed, and list them in a warning, instead of raising
                at the first. All files are then read before the fit.
            seed: seed of the random number generator of the fit.
            progress: whether to show progress bars, and how long a fit of more than a minute will take; also in the
                methods of the explainer that it returns.
        """
        loading: dict[str, Any] = {"num_workers": num_workers, "bank": bank}
        with naming_setting():
            if skip_bad:
                check_classifier(classifier)
                recordings = warned_readable(classifier, recordings, progress=progress)
            bases = fit_bases(classifier, recordings, schemes, layer=layer, **loading, seed=seed, progress=progress)
            explainer = cls(classifier, bases, recordings)
        explainer.progress = progress or None
        return explainer

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

    def located(
        self, n_prototypes: int = N_PROTOTYPES, *, group: ProcessGroup | None = None, progress: bool | None = None
    ) -> Explainer:
        """The same explainer with bases that keep the regions of prototypes, so that they are searched for only once.

        Args:
            n_prototypes: number of prototypes per channel whose regions are searched for, the best first.
            group: a process group of `torch.distributed`, whose processes share the search, as in `locate_prototypes`.
            progress: whether to show progress bars, with the time that is left; None for what the attribute says.

        Raises:
            ValueError: the explainer has no recordings, or there was an error in a process of the group.
            RuntimeError: another process of the group has ended, or does not answer.
        """
        if self.training is None:
            raise ValueError("expected an Explainer with `recordings`, in which prototypes can be located")
        n_prototypes = whole_number(n_prototypes, "n_prototypes", least=1)
        bases = []
        shown = self._shown(progress)
        for apex in self.apexes.values():
            most = min(n_prototypes, n_stored(apex.basis))
            bases.append(locate_prototypes(apex, self.training, n_prototypes=most, group=group, progress=shown))
        located = Explainer(self.classifier, bases, self.training.recordings)
        located.progress = self.progress
        return located

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
        progress: bool | None = None,
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
            progress: whether to show a progress bar, and after the first clip how long explanations of more than a
                minute will take; None for what the attribute says.

        Returns:
            The explained clips, in their order, each with one page per class.

        Raises:
            TypeError: the clips have another form, or a number is none.
            ValueError: a class or an argument is not known, `target` and `threshold` are both given, or a clip cannot
                be read or explained; a note names it.
        """
        settings: dict[str, Any] = {"n_channels": n_channels, "n_prototypes": n_prototypes, "sides": sides}
        request = ClipRequest.of(self.classifier, target, threshold=threshold, **settings, search=search)
        explained = self._explained(clip_sources(self.classifier, clips), request, skip_bad, progress)
        if explained.left_out and not explained.pages:
            raise ValueError(all_bad_text(explained.left_out))
        return explained

    def _explained(
        self, sources: Sequence[ClipSource], request: ClipRequest, skip_bad: bool, progress: bool | None = False
    ) -> ExplainedClips:
        pages: list[Page] = []
        left_out = {}
        shown = self._shown(progress)
        for source in explained_in_turn(sources, shown):
            try:
                with nullcontext() if skip_bad else naming_setting():
                    clip, inputs = source.read(self.classifier)
            except (ValueError, OSError) as error:
                if not skip_bad:
                    raise
                left_out[source.name] = str(error)
                continue
            clip = self._pages.labelled(clip)
            labels = partial(request.labels, self.classifier)
            name = source.name  # of the file, by which messages name it
            pages += self._pages.pages(clip, inputs, name, labels, request.evidence, progress=shown)
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
        apex = apex_for(self.apexes, scheme)
        window, hop = window_and_hop(self.classifier, window, hop)
        settings = {"progress": self.progress} | settings
        return explain_recording(apex, recording, window, hop, classifier=self.classifier, **settings)

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
