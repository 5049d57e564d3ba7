"""A Hugging Face feature extractor as the transform of a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["FeatureExtraction"]


@dataclass(frozen=True)
class FeatureExtraction:
    """A waveform as a model takes it, by a feature extractor of transformers.

    Args:
        feature_extractor: of transformers.
        time_first: whether it gives (time, row), which is turned round.
    """

    feature_extractor: Any
    time_first: bool = False

    def __call__(self, waveform: Tensor) -> Tensor:
        """One input without the batch axis, (sample,) → (sample,) or (row, time)."""
        extractor = self.feature_extractor
        made = extractor(waveform.cpu().numpy(), sampling_rate=extractor.sampling_rate, return_tensors="pt")
        values = made[extractor.model_input_names[0]][0]
        if not self.time_first:
            return values
        if "attention_mask" in made:  # frames that were added to fill the last token
            values = values[: int(made["attention_mask"][0].sum())]
        return values.T.contiguous()
