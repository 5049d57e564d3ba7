"""APEX: prototype explanations for audio classifiers, as Captum attribution classes.

Most users need only the names that `captum_apex` exports. These are its modules and sub-packages; each imports only
those in the items above it:

- `defaults`: defaults that the command line shares; `extras`: the error for an optional package that is missing;
  `interruption`: Ctrl-C in the programs; `numbers`: numbers as arguments; `choices`: arguments that are one of several
  names; `result_tables`: tables for people; `version`: the version.
- `files`: files that are replaced as a whole; `layers`: the layer that is explained; `masking`: region grids, fills and
  rankings; `audio`: clips, their axes and regions; `recordings`: audio files as waveforms.
- `metrics`: measures of attributions and of classifiers; `bases`: schemes, features, and the basis that is fitted to
  them; `classifiers`: a model together with its transform of waveforms; `datasets`: readers of public collections;
  `spectra`: waveforms as spectra; `listening`: the sound of a region.
- `attribution`: `LayerAPEX` and `APEX`; `pretrained`: classifiers of the Hugging Face hub, and of networks that give
  only embeddings or scores.
- `locating`: the region of a channel in a clip, found at the input by masking; `examination`: a report on a model and
  what can be explained in it.
- `explanations`: the evidence for a class in a clip, and the events in a long recording.
- `figures`: plots of explanations, bases and attributions.
- `report`: explanations as an HTML page.
- `explaining`: from a classifier and recordings to explanations and their page, in one object.
- `demonstration`: sounds, a classifier and bases to try the package without files.
- `cli`: the command line.

A name is imported when it is first used, because torch takes seconds to import: `import captum_apex` and the help of
the command line take none of them.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

from captum_apex import interruption  # noqa: F401  # before all that takes seconds to import
from captum_apex.version import __version__ as __version__

if TYPE_CHECKING:
    from captum_apex import datasets, masking, metrics, spectra
    from captum_apex.attribution.apex import APEX
    from captum_apex.attribution.basis_insertion import insert_basis
    from captum_apex.attribution.channel_matrices import ChannelMatrix
    from captum_apex.attribution.evidence_score import EvidenceScore
    from captum_apex.attribution.layer_apex import LayerAPEX
    from captum_apex.audio import Box, Clip, Place, Region, SpectrogramAxes
    from captum_apex.bases.basis import PrototypeBasis, Prototypes
    from captum_apex.bases.features import FeatureBank
    from captum_apex.bases.fitting import basis_from_matrix, fit_basis
    from captum_apex.bases.schemes import SCHEMES, Scheme
    from captum_apex.classifiers.classifier import Classifier
    from captum_apex.demonstration import demo
    from captum_apex.examination import Examination, examine
    from captum_apex.explaining import ExplainedClips, Explainer
    from captum_apex.explanations.event_files import write_audacity, write_csv, write_json, write_raven
    from captum_apex.explanations.events import ChannelEvent, Event, RecordingExplanation
    from captum_apex.explanations.evidence import Evidence, Prototype
    from captum_apex.explanations.explanation import Explanation, explain, explain_classes
    from captum_apex.explanations.long_recordings import explain_recording
    from captum_apex.explanations.prototype_regions import locate_prototypes
    from captum_apex.layers.chosen_run import ChosenRun
    from captum_apex.layers.selected_output import SelectedOutput
    from captum_apex.layers.suggestions import suggest_layers
    from captum_apex.locating import RegionEffect, RegionSearch
    from captum_apex.pretrained.hugging_face import from_transformers
    from captum_apex.recordings import Recordings

__all__ = [
    "APEX",
    "SCHEMES",
    "Box",
    "ChannelEvent",
    "ChannelMatrix",
    "ChosenRun",
    "Classifier",
    "Clip",
    "Event",
    "Evidence",
    "EvidenceScore",
    "Examination",
    "ExplainedClips",
    "Explainer",
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
    "SelectedOutput",
    "SpectrogramAxes",
    "basis_from_matrix",
    "datasets",
    "demo",
    "examine",
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
    "suggest_layers",
    "write_audacity",
    "write_csv",
    "write_json",
    "write_raven",
]

_MODULES = {
    "APEX": "attribution.apex",
    "SCHEMES": "bases.schemes",
    "Box": "audio",
    "ChannelEvent": "explanations.events",
    "ChannelMatrix": "attribution.channel_matrices",
    "ChosenRun": "layers.chosen_run",
    "Classifier": "classifiers.classifier",
    "Clip": "audio",
    "Event": "explanations.events",
    "Evidence": "explanations.evidence",
    "EvidenceScore": "attribution.evidence_score",
    "Examination": "examination",
    "ExplainedClips": "explaining",
    "Explainer": "explaining",
    "Explanation": "explanations.explanation",
    "FeatureBank": "bases.features",
    "LayerAPEX": "attribution.layer_apex",
    "Place": "audio",
    "Prototype": "explanations.evidence",
    "PrototypeBasis": "bases.basis",
    "Prototypes": "bases.basis",
    "RecordingExplanation": "explanations.events",
    "Recordings": "recordings",
    "Region": "audio",
    "RegionEffect": "locating",
    "RegionSearch": "locating",
    "Scheme": "bases.schemes",
    "SelectedOutput": "layers.selected_output",
    "SpectrogramAxes": "audio",
    "basis_from_matrix": "bases.fitting",
    "demo": "demonstration",
    "examine": "examination",
    "explain": "explanations.explanation",
    "explain_classes": "explanations.explanation",
    "explain_recording": "explanations.long_recordings",
    "fit_basis": "bases.fitting",
    "from_transformers": "pretrained.hugging_face",
    "insert_basis": "attribution.basis_insertion",
    "locate_prototypes": "explanations.prototype_regions",
    "suggest_layers": "layers.suggestions",
    "write_audacity": "explanations.event_files",
    "write_csv": "explanations.event_files",
    "write_json": "explanations.event_files",
    "write_raven": "explanations.event_files",
}
"""The module that each name is imported from; the other names of `__all__` are modules."""

if not TYPE_CHECKING:  # so that type checkers report names that do not exist

    def __getattr__(name: str) -> Any:
        """A public name or a module of the package, imported at its first use."""
        if name in _MODULES:
            value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        elif not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
            value = importlib.import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
