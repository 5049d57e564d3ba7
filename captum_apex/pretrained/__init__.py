"""Classifiers of Hugging Face's transformers, with all that the library asks for."""

from captum_apex.pretrained.feature_extraction import FeatureExtraction
from captum_apex.pretrained.hugging_face import from_transformers
from captum_apex.pretrained.logits_model import LogitsModel

__all__ = ["FeatureExtraction", "LogitsModel", "from_transformers"]
