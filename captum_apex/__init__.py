"""APEX: prototype explanations for audio classifiers, as Captum attribution classes."""

from captum_apex import datasets, masking, metrics, spectra
from captum_apex.attribution.apex import APEX
from captum_apex.attribution.basis_insertion import ChannelMatrix, insert_basis
from captum_apex.attribution.evidence_score import EvidenceScore
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.audio.clip import Clip, Place
from captum_apex.audio.regions import Box, Region
from captum_apex.bases.basis import PrototypeBasis, Prototypes
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.fitting import basis_from_matrix, fit_basis
from captum_apex.bases.schemes import SCHEMES, Scheme
from captum_apex.classifiers.classifier import Classifier
from captum_apex.explanations.events import Event, RecordingExplanation, write_audacity, write_raven
from captum_apex.explanations.explanation import Evidence, Explanation, Prototype, explain, explain_classes
from captum_apex.explanations.long_recordings import explain_recording
from captum_apex.pretrained.hugging_face import from_transformers
from captum_apex.recordings.folders import Recordings

__version__ = "0.1.0"

__all__ = [
    "APEX",
    "SCHEMES",
    "Box",
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
    "masking",
    "metrics",
    "spectra",
    "write_audacity",
    "write_raven",
]
