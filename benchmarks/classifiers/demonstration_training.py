"""Trains the classifier of `captum_apex.demonstration` on its sounds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import trange

from captum_apex.demonstration import EveningSounds, PondNetwork
from captum_apex.demonstration.pond_network import spectrogram
from captum_apex.progress import bar_settings

EPOCHS = 30
BATCH = 32
LEARNING_RATE = 4e-3


def spectrograms(part: str) -> tuple[Tensor, Tensor]:
    """The inputs (clip, 1, frequency, time) of a part of the sounds, and the index of the class of each clip.

    Args:
        part: a part, as in `EveningSounds`.
    """
    sounds = EveningSounds(part)
    inputs = torch.stack([spectrogram(sounds.waveform(index)) for index in range(len(sounds))])
    return inputs, torch.tensor(sounds.labels)


def trained_network(seed: int = 0, *, progress: bool = False) -> PondNetwork:
    """The network of the demonstration after its training, in evaluation mode.

    In every epoch, each clip begins at another time and has another level.

    Args:
        seed: seed of initial weights, order and shifts; the same seed gives the same network on the same machine.
        progress: whether to show a progress bar.
    """
    inputs, labels = spectrograms("train")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PondNetwork().train()
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-2)
        steps = EPOCHS * (len(inputs) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
        for _ in trange(EPOCHS, desc="training", unit="epoch", **bar_settings(progress)):
            for batch in torch.randperm(len(inputs)).split(BATCH):
                loss = F.cross_entropy(network(_changed(inputs[batch])), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return network.eval()


def _changed(inputs: Tensor) -> Tensor:
    """The clips, each shifted in time as on a ring, and louder or softer by some dB."""
    shifts = torch.randint(inputs.shape[3], (len(inputs),)).tolist()
    shifted = torch.stack([each.roll(shift, dims=2) for each, shift in zip(inputs, shifts, strict=True)])
    return shifted + 0.3 * torch.randn(len(inputs), 1, 1, 1)
