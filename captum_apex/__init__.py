"""APEX: prototype explanations for audio classifiers, as Captum attribution classes.

Most users need only the names that `captum_apex` exports. These are its modules and sub-packages; each imports only
those in the items above it:

- `extras`: the error for an optional package that is missing; `interruption`: Ctrl-C in the programs; `numbers`:
  numbers as arguments.
- `files`: files that are replaced as a whole; `layers`: the layer that is explained; `masking`: region grids, fills and
  rankings; `audio`: clips, their axes and regions; `recordings`: audio files as waveforms.
- `metrics`: measures of attributions and of classifiers; `bases`: schemes, features, and the basis that is fitted to
  them; `classifiers`: a model together with its transform of waveforms; `datasets`: readers of public collections;
  `spectra`: waveforms as spectra; `listening`: the sound of a region.
- `attribution`: `LayerAPEX` and `APEX`; `pretrained`: classifiers of the Hugging Face hub.
- `locating`: the region of a channel in a clip, found at the input by masking.
- `explanations`: the evidence for a class in a clip, and the events in a long recording.
- `figures`: plots of explanations, bases and attributions.
- `report`: explanations as an HTML page.
- `cli`: the command line.
"""

from captum_apex import interruption  # noqa: F401  # before all that takes seconds to import

# isort: split
from captum_apex import datasets, masking, metrics, spectra
from captum_apex.attribution.apex import APEX
from captum_apex.attribution.basis_insertion import ChannelMatrix, insert_basis
from captum_apex.attribution.evidence_score import EvidenceScore
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.audio import Box, Clip, Place, Region, SpectrogramAxes
from captum_apex.bases.basis import PrototypeBasis, Prototypes
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.fitting import basis_from_matrix, fit_basis
from captum_apex.bases.schemes import SCHEMES, Scheme
from captum_apex.classifiers.classifier import Classifier
from captum_apex.explanations.event_files import write_audacity, write_csv, write_json, write_raven
from captum_apex.explanations.events import ChannelEvent, Event, RecordingExplanation
from captum_apex.explanations.evidence import Evidence, Prototype
from captum_apex.explanations.explanation import Explanation, explain, explain_classes
from captum_apex.explanations.long_recordings import explain_recording
from captum_apex.explanations.prototype_regions import locate_prototypes
from captum_apex.locating import RegionEffect, RegionSearch
from captum_apex.pretrained.hugging_face import from_transformers
from captum_apex.recordings import Recordings

__version__ = "0.1.0"

__all__ = [
    "APEX",
    "SCHEMES",
    "Box",
    "ChannelEvent",
    "ChannelMatrix",
    "Classifier",
    "Clip",
    "Event",
    "Evidence",
    "EvidenceScore",
    "Explanation",
    "FeatureBank",
    "LayerAPEX",
    "Place",
    "Prototype",
    "PrototypeBasis",
    "Prototypes",
    "RecordingExplanation",
    "Recordings",
    "Region",
    "RegionEffect",
    "RegionSearch",
    "Scheme",
    "SpectrogramAxes",
    "basis_from_matrix",
    "datasets",
    "explain",
    "explain_classes",
    "explain_recording",
    "fit_basis",
    "from_transformers",
    "insert_basis",
    "locate_prototypes",
    "masking",
    "metrics",
    "spectra",
    "write_audacity",
    "write_csv",
    "write_json",
    "write_raven",
]
