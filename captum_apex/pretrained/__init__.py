"""Classifiers of Hugging Face's transformers, with everything that an explanation needs.

- `hugging_face`: `from_transformers`, a `Classifier` with layer, layout, axes and class names from a model of
  transformers.
- `logits_model`: `LogitsModel`, a model of transformers as a module that gives logits, also for padded clips.
- `feature_extraction`: `FeatureExtraction`, a feature extractor as the transform of a classifier.
"""

from captum_apex.pretrained.feature_extraction import FeatureExtraction
from captum_apex.pretrained.hugging_face import from_transformers
from captum_apex.pretrained.logits_model import LogitsModel

__all__ = ["FeatureExtraction", "LogitsModel", "from_transformers"]
