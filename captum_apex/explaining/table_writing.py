"""The tables that an `Explainer` writes of any number of files, one by one."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from captum_apex.attribution.apex import APEX
from captum_apex.bases.schemes import Scheme
from captum_apex.classifiers.classifier import Classifier, InputDataset
from captum_apex.explaining.basis_apexes import apex_for
from captum_apex.explaining.clip_pages import ClipPages
from captum_apex.explaining.clip_requests import ClipRequest
from captum_apex.explaining.clip_sources import ClipSource, file_sources, recording_paths
from captum_apex.explaining.explained_clips import ExplainedClips
from captum_apex.explaining.file_tables import FileTable
from captum_apex.explaining.recording_tables import event_settings, events_written, evidence_written, window_and_hop
from captum_apex.explaining.table_settings import about_rows
from captum_apex.explanations.events import RecordingExplanation

__all__ = ["TableWriting"]


class TableWriting(ABC):
    """The methods of `Explainer` that write one table of many files.

    Example:
        >>> from captum_apex import Explainer
        >>> from captum_apex.explaining.table_writing import TableWriting
        >>> issubclass(Explainer, TableWriting)
        True
    """

    classifier: Classifier
    apexes: dict[Scheme, APEX]
    training: InputDataset | None
    _pages: ClipPages

    @abstractmethod
    def explain_recording(
        self, recording: Any, scheme: Scheme | str | None = None, **settings: Any
    ) -> RecordingExplanation:
        """The events of a recording."""

    @abstractmethod
    def _explained(self, sources: Sequence[ClipSource], request: ClipRequest, skip_bad: bool) -> ExplainedClips:
        """The explained clips."""

    def write_evidence(
        self,
        clips: Any,
        path: str | os.PathLike,
        target: str | int | Sequence[str | int] | None = None,
        *,
        part: tuple[int, int] = (0, 1),
        skip_bad: bool = False,
        progress: bool = False,
        **settings: Any,
    ) -> FileTable:
        """Explains any number of clips one by one, and writes their evidence as one table, without a page.

        It is the table of `explain(clips).write_csv(path)`; see `write_events` for interruptions and for `part`.

        Args:
            clips: files, as the path of a folder, a list of paths, or `Recordings`.
            path: path of the table, which ends in `.csv` or `.json`.
            target: as in `explain`.
            part: index of the part and number of parts.
            skip_bad: leave out clips that cannot be read.
            progress: whether to show a progress bar.
            **settings: further arguments of `explain`, such as `threshold`.
        """
        request = ClipRequest.of(self.classifier, target, **settings)
        training = "" if self.training is None else self.training.fingerprint()
        about = about_rows(
            "evidence",
            self.classifier,
            (apex.basis for apex in self.apexes.values()),
            {"training": training, **request.settings},
        )

        def explained(source: ClipSource) -> ExplainedClips:
            self._pages.forget()
            return self._explained([source], request, skip_bad=True)

        options: dict[str, Any] = {"part": part, "skip_bad": skip_bad, "progress": progress}
        return evidence_written(path, file_sources(self.classifier, clips), about, explained, **options)

    def write_events(
        self,
        recordings: Any,
        path: str | os.PathLike,
        scheme: Scheme | str | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        raven: str | os.PathLike | None = None,
        audacity: str | os.PathLike | None = None,
        part: tuple[int, int] = (0, 1),
        skip_bad: bool = False,
        progress: bool = False,
        **settings: Any,
    ) -> FileTable:
        """Lists the events of any number of recordings in one table, with the path of the recording in each row.

        Each recording is kept as soon as it is finished, in the folder `PATH.parts`: after an interruption or a kill
        the same call goes on with the next one, and the table is that of an unbroken run. Other settings are refused;
        files that have changed are explained anew.

        Args:
            recordings: the path of a file or of a folder, with all folders in it, or a list of paths.
            path: path of the table, which ends in `.csv` or `.json`.
            scheme: as in `explain_recording`.
            window: as in `explain_recording`.
            hop: as in `explain_recording`.
            raven: folder that gets a selection table for each recording, where all are finished.
            audacity: folder that gets a label track for each recording.
            part: index of the part and number of parts, for several processes or machines that share the folder of the
                table. The last one that ends writes the table.
            skip_bad: leave out recordings that cannot be explained to their end.
            progress: whether to show a progress bar.
            **settings: further arguments of `captum_apex.explain_recording`, such as `threshold`.

        Raises:
            ValueError: a recording is bad, or what is in `PATH.parts` was begun with other settings.
        """
        apex = apex_for(self.apexes, scheme)
        window, hop = window_and_hop(self.classifier, window, hop)
        settings = event_settings(settings)
        depends_on = {**settings, "window": window, "hop": hop}
        n_samples = max(1, round(window * self.classifier.sample_rate))
        about = about_rows("events", self.classifier, [apex.basis], depends_on, n_samples=n_samples)
        explained = partial(self.explain_recording, scheme=apex.basis.scheme, window=window, hop=hop, **settings)
        training = None if self.training is None else self.training.recordings
        folders = {"raven": raven, "audacity": audacity}
        options: dict[str, Any] = {"part": part, "skip_bad": skip_bad, "progress": progress}
        return events_written(path, recording_paths(recordings), about, explained, folders, training, **options)
