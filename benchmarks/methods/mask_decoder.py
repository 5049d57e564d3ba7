"""L-MAC: a decoder from the features of the frozen model to a mask over the input, learned from the training clips.

Source: Paissan, Ravanelli, Subakan, "Listenable Maps for Audio Classifiers" (ICML 2024, arXiv 2403.13086), with the
weights of the loss of its published code. Deviations: the mask moves the log-mels of the benchmark towards silence, and
not the logarithmic power of an STFT towards zero; the decoder sees the explained layer only, and not four layers; it is
smaller, as the classifiers are, and trained for `STEPS` steps; and there is no second training for listening.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods.learners import TrainingClips, learner
from benchmarks.methods.query import ClassifiedClips, features_of

MASK_DECODER = "mask decoder"
WITHIN = 4.0  # weight of the cross-entropy of the masked clip
WITHOUT = 0.2  # weight of the cross-entropy of what the mask leaves out, which is to be large
SIZE = 0.4  # weight of the mean of the mask, summed over the clips of a batch
STEPS = 1200
BATCH = 16
LEARNING_RATE = 1e-3
WIDTHS = (64, 32, 16)  # channels of the decoder; each step from one to the next doubles the grid


class MaskDecoder(nn.Module):
    """Features (clip, channel, row, column) → the logit of a mask, (clip, 1, frequency, time).

    Args:
        n_channels: number of channels of the features.
        size: number of frequencies and frames of the mask.

    Example:
        >>> import torch
        >>> from benchmarks.methods.mask_decoder import MaskDecoder
        >>> MaskDecoder(128, (64, 126))(torch.zeros(2, 128, 8, 15)).shape
        torch.Size([2, 1, 64, 126])
    """

    def __init__(self, n_channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.narrow = nn.Conv2d(n_channels, WIDTHS[0], 1)
        self.blocks = nn.ModuleList(_block(*widths) for widths in zip(WIDTHS, (*WIDTHS[1:], WIDTHS[-1]), strict=True))
        self.last = nn.Conv2d(WIDTHS[-1], 1, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """The logit of the mask at each bin."""
        hidden = self.narrow(features)
        for block in self.blocks:
            larger = [min(2 * cells, bins) for cells, bins in zip(hidden.shape[2:], self.size, strict=True)]
            hidden = block(F.interpolate(hidden, larger, mode="bilinear"))
        return F.interpolate(self.last(hidden), self.size, mode="bilinear")


def _block(n_inputs: int, n_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(n_inputs, n_outputs, 3, padding=1), nn.GroupNorm(4, n_outputs), nn.ReLU())


def build(clips: ClassifiedClips) -> nn.Module:
    """A decoder for the layer and the inputs of these clips.

    Raises:
        NotImplementedError: the inputs are spectra.
    """
    if clips.band_shares is not None:
        raise NotImplementedError("the mask decoder masks log-mels, and not the spectra of a model that computes them")
    features = features_of(clips, clips.inputs[:1])
    frequency, time = clips.inputs.shape[2:]
    return MaskDecoder(features.shape[1], (frequency, time))


@learner(MASK_DECODER, build)
def train(network: nn.Module, clips: TrainingClips) -> None:
    """Trains the decoder by `mask_loss`, with Adam."""
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    order = torch.cat([torch.randperm(len(clips.inputs)) for _ in range(BATCH * STEPS // len(clips.inputs) + 1)])
    for chosen in order[: BATCH * STEPS].split(BATCH):
        inputs = clips.inputs[chosen]
        optimiser.zero_grad()
        mask = network(features_of(clips, inputs)).sigmoid()
        mask_loss(clips.model, inputs, clips.target[chosen], mask, clips.silence).backward()
        optimiser.step()


def mask_loss(model: nn.Module, inputs: Tensor, target: Tensor, mask: Tensor, silence: float) -> Tensor:
    """The loss of a mask: the masked clip keeps the class, what is left out loses it, and the mask is small.

    Args:
        model: the classifier, with logits (clip, class).
        inputs: log-mels, (clip, 1, frequency, time).
        target: index of the predicted class of each clip, (clip,).
        mask: values in [0, 1], of the shape of `inputs`.
        silence: value of a bin without sound.

    Returns:
        A scalar: `4 CE(f(m x), y) − 0.2 CE(f((1 − m) x), y)`, as means over the clips, plus 0.4 times the sum over the
        clips of the mean of `m`; `m x` stands for `silence + m (x − silence)`.
    """
    within = model(silence + mask * (inputs - silence))
    without = model(silence + (1 - mask) * (inputs - silence))
    size = mask.abs().flatten(1).mean(1).sum()
    return WITHIN * F.cross_entropy(within, target) - WITHOUT * F.cross_entropy(without, target) + SIZE * size
