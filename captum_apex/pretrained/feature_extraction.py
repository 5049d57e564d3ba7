"""A feature extractor of transformers as the transform of a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["FeatureExtraction"]


@dataclass(frozen=True)
class FeatureExtraction:
    """A function from a waveform to the input of a model, computed by a feature extractor of transformers.

    Args:
        feature_extractor: the feature extractor.
        time_first: whether the feature extractor gives (time, row), which is then transposed.

    Example:
        >>> import torch
        >>> from transformers import Wav2Vec2FeatureExtractor
        >>> from captum_apex.pretrained import FeatureExtraction
        >>> extraction = FeatureExtraction(Wav2Vec2FeatureExtractor(do_normalize=False))
        >>> extraction(torch.tensor([0.25, -0.5]))
        tensor([ 0.2500, -0.5000])
    """

    feature_extractor: Any
    time_first: bool = False

    def __call__(self, waveform: Tensor) -> Tensor:
        """The input for one waveform (sample,), without the batch axis: (sample,) or (row, time)."""
        extractor = self.feature_extractor
        features = extractor(waveform.cpu().numpy(), sampling_rate=extractor.sampling_rate, return_tensors="pt")
        values = features[extractor.model_input_names[0]][0]
        if not self.time_first:
            return values
        if "attention_mask" in features:  # without the frames that only fill the last token
            values = values[: int(features["attention_mask"][0].sum())]
        return values.T.contiguous()
