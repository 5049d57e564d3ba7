"""Classifiers of Hugging Face's transformers, and of networks that give only embeddings or scores.

- `hugging_face`: `from_transformers`, a `Classifier` with layer, layout, axes and class names from a model of
  transformers.
- `logits_model`: `LogitsModel`, a model of transformers as a module that gives logits, also for padded clips.
- `feature_extraction`: `FeatureExtraction`, a feature extractor as the transform of a classifier.
- `array_function`: `ArrayFunction`, a function of NumPy arrays as a module.
- `embedded_windows`: `EmbeddedWindows`, a model whose layer is the embeddings of the windows of a clip.
- `frame_by_frame`: `FrameByFrame`, the step of a streaming model over the frames of whole clips.
- `mixed_sources`: `MixedSources`, a model of sounds as a model of their sources, such as separated stems.
- `fitted_head`: `from_embeddings`, such a model with classes that are fitted to labelled recordings.
"""

from captum_apex.pretrained.array_function import ArrayFunction
from captum_apex.pretrained.embedded_windows import EmbeddedWindows
from captum_apex.pretrained.feature_extraction import FeatureExtraction
from captum_apex.pretrained.fitted_head import from_embeddings
from captum_apex.pretrained.frame_by_frame import FrameByFrame
from captum_apex.pretrained.hugging_face import from_transformers
from captum_apex.pretrained.logits_model import LogitsModel
from captum_apex.pretrained.mixed_sources import MixedSources

__all__ = [
    "ArrayFunction",
    "EmbeddedWindows",
    "FeatureExtraction",
    "FrameByFrame",
    "LogitsModel",
    "MixedSources",
    "from_embeddings",
    "from_transformers",
]
