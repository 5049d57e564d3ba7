"""Explanations: the evidence for a class with its regions and prototypes, and the events of long recordings.

- `evidence`: one channel that supports a class, `Evidence`, and its `Prototype`s.
- `explanation`: `explain` and `explain_classes` for clips, and the `Explanation` that they return.
- `evidence_numbers`: the numbers of the evidence, for all clips and channels of a batch at once.
- `channel_prototypes`: the prototypes of channels, as a basis keeps them.
- `clip_channels`: the channels of a clip as functions of its bins.
- `evidence_regions`: the regions of the evidence, found at the input.
- `prototype_regions`: the same for prototypes, on demand or for a whole basis by `locate_prototypes`.
- `long_recordings`: `explain_recording` for recordings of any length.
- `recording_grid`: the grid of the layer, continued over a recording.
- `merging`: the maps of a recording's windows, averaged on one time axis and cut into events of single channels.
- `event_regions`: the regions of these events, found at the input of one window each.
- `digital_silence`: where a recording is digitally silent.
- `events`: the `RecordingExplanation` and its `Event`s, which join the `ChannelEvent`s of a class.
- `event_files`: files of events for Raven and Audacity, CSV and JSON.
- `event_tables`: one table of the events of many recordings.
"""

from captum_apex.explanations.channel_prototypes import prototypes_of
from captum_apex.explanations.event_files import write_audacity, write_csv, write_json, write_raven
from captum_apex.explanations.events import ChannelEvent, Event, RecordingExplanation, UnfinishedExplanationError
from captum_apex.explanations.evidence import Evidence, Prototype
from captum_apex.explanations.explanation import Explanation, explain, explain_classes
from captum_apex.explanations.long_recordings import explain_recording
from captum_apex.explanations.prototype_regions import locate_prototypes

__all__ = [
    "ChannelEvent",
    "Event",
    "Evidence",
    "Explanation",
    "Prototype",
    "RecordingExplanation",
    "UnfinishedExplanationError",
    "explain",
    "explain_classes",
    "explain_recording",
    "locate_prototypes",
    "prototypes_of",
    "write_audacity",
    "write_csv",
    "write_json",
    "write_raven",
]
