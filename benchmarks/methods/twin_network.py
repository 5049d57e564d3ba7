"""A supervised network for detectors: from a clip to where it differs from its twin, learned from the training clips.

It does not see the model that is explained. So it is a control: what can be found without asking the model.
"""

from __future__ import annotations

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods.learners import TrainingClips, learner
from benchmarks.methods.query import ClassifiedClips

TWIN_NETWORK = "twin network"
SMOOTHING = 1.5  # standard deviation of the Gaussian filter, in bins
STEPS = 600
BATCH = 16
LEARNING_RATE = 2e-3
WIDTHS = (16, 32, 64)


class UNet(nn.Module):
    """A small U-Net from a log-mel to a map of its size, (clip, 1, frequency, time) → (clip, 1, frequency, time).

    Example:
        >>> import torch
        >>> from benchmarks.methods.twin_network import UNet
        >>> UNet()(torch.zeros(2, 1, 64, 126)).shape
        torch.Size([2, 1, 64, 126])
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(_block(*widths) for widths in zip((1, *WIDTHS), WIDTHS, strict=False))
        self.up = nn.ModuleList(
            _block(low + high, high) for low, high in zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True)
        )
        self.last = nn.Conv2d(WIDTHS[0], 1, 1)

    def forward(self, log_mels: Tensor) -> Tensor:
        """The map, which is not negative."""
        finer: list[Tensor] = []
        hidden = log_mels
        for block in self.down:
            hidden = block(F.max_pool2d(hidden, 2) if finer else hidden)
            finer.append(hidden)
        for block, fine in zip(self.up, finer[-2::-1], strict=True):
            hidden = block(torch.cat([F.interpolate(hidden, fine.shape[2:], mode="bilinear"), fine], 1))
        return F.softplus(self.last(hidden))


def _block(n_inputs: int, n_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(n_inputs, n_outputs, 3, padding=1), nn.GroupNorm(4, n_outputs), nn.ReLU())


def twin_difference(clips: ClassifiedClips) -> Tensor:
    """How much each clip differs from its twin, smoothed, (clip, 1, frequency, time).

    Raises:
        NotImplementedError: clips have no twins, or the inputs are spectra.
    """
    if clips.twins is None or clips.band_shares is not None:
        raise NotImplementedError("the twin difference needs log-mels of clips that have twins")
    difference = (clips.inputs - clips.twins).abs()
    smooth = gaussian_filter(difference.cpu().numpy(), (0, 0, SMOOTHING, SMOOTHING))
    return torch.from_numpy(smooth).to(difference)


def build(_: ClassifiedClips) -> nn.Module:
    """A U-Net."""
    return UNet()


@learner(TWIN_NETWORK, build)
def train(network: nn.Module, clips: TrainingClips) -> None:
    """Trains the U-Net to tell `twin_difference`, in units of its mean, by the mean squared error, with Adam."""
    wanted = twin_difference(clips)
    wanted = wanted / wanted.mean()
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    order = torch.cat([torch.randperm(len(wanted)) for _ in range(BATCH * STEPS // len(wanted) + 1)])
    for chosen in order[: BATCH * STEPS].split(BATCH):
        optimiser.zero_grad()
        F.mse_loss(network(clips.inputs[chosen]), wanted[chosen]).backward()
        optimiser.step()
