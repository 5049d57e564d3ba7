"""A model of sounds as a model of the sources that are mixed in them, so that sources are regions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["MixedSources"]


class MixedSources(nn.Module):
    """A model that takes the sources of a clip and hears their sum, such as the stems that source separation gives.

    A source is masked by leaving it out of the mix. On inputs (clip, source, sample), with zeros as the fill, sources
    are the rows of a `region_grid`; with several columns, the regions are the sources in parts of the clip, as in
    audioLIME. All that takes a grid explains sources then: `two_sided_occlusion`, `deletion_insertion`, and Captum's
    methods with the grid as `feature_mask`. Gradients reach the sources through the transform, if torch can
    differentiate it: Integrated Gradients from zeros divide the score among the sources.

    Args:
        model: the classifier.
        transform: function from one waveform (sample,) to an input of the model without the batch axis, as the
            `transform` of a `Classifier`; None where the model takes waveforms (clip, sample).

    Raises:
        TypeError: the model is no module.

    Example:
        >>> import torch
        >>> from captum_apex.attribution import two_sided_occlusion
        >>> from captum_apex.masking import region_grid, region_sums
        >>> from captum_apex.pretrained import MixedSources
        >>> loudness = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 1, bias=False))
        >>> _ = torch.nn.init.ones_(loudness[1].weight)
        >>> stems = torch.tensor([[[1.0, 0.0, 1.0, 0.0], [0.0, 3.0, 0.0, 0.0]]])  # (clip, source, sample)
        >>> grid = region_grid((2, 4), rows=2, columns=1)  # a region for each source
        >>> model = MixedSources(loudness)
        >>> region_sums(two_sided_occlusion(model, stems, torch.zeros_like(stems), grid, target=0), grid)
        tensor([[4., 6.]], dtype=torch.float64)

    Source: Haunschmid et al., audioLIME: Listenable Explanations Using Source Separation (arXiv 2008.00582).
    """

    def __init__(self, model: nn.Module, transform: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"expected `model` to be a torch.nn.Module, but got {type(model).__name__}")
        self.model = model
        self.transform = transform

    def forward(self, sources: Tensor) -> Tensor:
        """The model's output for the sum of the sources of each clip.

        Args:
            sources: (clip, source, sample), or (clip, 1, source, sample).

        Raises:
            ValueError: the sources have another shape.
        """
        if sources.dim() == 4 and sources.shape[1] == 1:
            sources = sources[:, 0]
        if sources.dim() != 3:
            raise ValueError(f"expected sources of shape (clip, source, sample), but got {tuple(sources.shape)}")
        mixes = sources.sum(1)  # (clip, source, sample) → (clip, sample)
        if self.transform is None:
            return self.model(mixes)
        return self.model(torch.stack([self.transform(mix) for mix in mixes]))
