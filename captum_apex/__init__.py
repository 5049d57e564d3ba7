"""APEX: prototype explanations for audio classifiers, as Captum attribution classes."""

from captum_apex import datasets, masking, metrics, spectra
from captum_apex.attribution import APEX, LayerAPEX
from captum_apex.axes import SpectrogramAxes
from captum_apex.basis import PrototypeBasis, Prototypes
from captum_apex.classifier import Classifier
from captum_apex.clip import Clip, Place
from captum_apex.events import Event, write_audacity, write_raven
from captum_apex.evidence import EvidenceScore
from captum_apex.explanation import Evidence, Explanation, Prototype, explain, explain_classes
from captum_apex.features import FeatureBank
from captum_apex.fitting import basis_from_matrix, fit_basis
from captum_apex.insertion import ChannelMatrix, insert_basis
from captum_apex.long_recordings import RecordingExplanation, explain_recording
from captum_apex.pretrained import from_transformers
from captum_apex.recordings import Recordings
from captum_apex.schemes import SCHEMES, Box, Region, Scheme

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
