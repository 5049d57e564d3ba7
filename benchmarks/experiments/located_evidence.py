"""The evidence of clips: its regions as masks over the bins of the inputs, and what masking takes from its channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.classifiers.waveform_networks import LogMelInside, on_bins
from benchmarks.methods.query import CLIPS_AT_ONCE
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from captum_apex import APEX, Explanation, LayerAPEX, PrototypeBasis, RegionSearch, Scheme, explain
from captum_apex.explanations.clip_channels import channels_by_contribution
from captum_apex.locating.channel_values import ChannelValues
from captum_apex.locating.placement import elsewhere
from captum_apex.masking.fills import masked, own_phase

SEARCH = RegionSearch()
SURROUNDINGS = "surroundings"
"""Name of the fill with which the search masks: the clip, blurred along the axis in which the scheme has regions."""
REGIONS = {"cell": "cell", "found": "region"}
"""Region of a channel → attribute of `captum_apex.Evidence`: the peak cell, and the region that the search found."""


def explanations_of(
    subject: Subject | Stage, basis: PrototypeBasis, inputs: Tensor, n_channels: int
) -> list[Explanation]:
    """The explanation of the predicted class of each clip, with the regions that were found.

    Where the model computes its spectrogram itself, regions are found in the spectrogram.

    Args:
        subject: the classifier and its explained layer.
        basis: a fitted basis.
        inputs: inputs of the clips, (clip, channel, frequency, time).
        n_channels: largest number of channels in the evidence.
    """
    log_mel = next((module for module in subject.model.modules() if isinstance(module, LogMelInside)), None)
    apex = APEX(subject.model, subject.layer, basis, input_layer=log_mel)
    return [
        explanation
        for batch in inputs.split(CLIPS_AT_ONCE)
        for explanation in explain(apex, batch, n_channels=n_channels, n_prototypes=1, search=SEARCH)
    ]


def region_masks(band_shares: Tensor | None, explanation: Explanation, size: tuple[int, int], region: str) -> Tensor:
    """Masks of the regions of the evidence of one clip, one for each channel.

    Args:
        band_shares: how much of each mel band lies on each bin of the inputs, (bin, band), if the inputs are spectra.
        explanation: the explanation of the clip.
        size: number of frequency rows and of time columns of the inputs.
        region: a name in `REGIONS`.

    Returns:
        bool tensor (channel, frequency, time), on the CPU.
    """
    n_rows = size[0] if band_shares is None else band_shares.shape[1]
    regions = [getattr(evidence, REGIONS[region]) for evidence in explanation.evidence]
    masks = [each.mask(n_rows, size[1]) for each in regions]
    stacked = torch.stack(masks) if masks else torch.zeros(0, n_rows, size[1], dtype=torch.bool)
    return stacked if band_shares is None else on_bins(stacked, band_shares.cpu())


def fill_values(stage: Stage, name: str, scheme: Scheme) -> Tensor:
    """The values of a fill, of the shape of the inputs.

    Args:
        stage: the clips.
        name: a name in `captum_apex.masking.fills.FILLS`, or `SURROUNDINGS`.
        scheme: the scheme, on which `SURROUNDINGS` depends.
    """
    if name != SURROUNDINGS:
        return stage.fill(name)
    fill = SEARCH.fill_for(scheme)
    return (fill if stage.band_shares is None else own_phase(fill))(stage.inputs)


def moved(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Each mask at a random place, bool (mask, frequency, time); see `captum_apex.locating.placement.elsewhere`."""
    return torch.stack([elsewhere(mask, generator) for mask in masks]) if len(masks) else masks


@dataclass(frozen=True)
class EvidenceChannels:
    """The channels of the evidence of some clips, as functions of the bins of the clips.

    Attributes:
        values: contributions of the channels of each clip that has evidence, by the clip's index.
    """

    values: dict[int, ChannelValues]

    @classmethod
    def of(cls, stage: Stage, basis: PrototypeBasis, channels: Sequence[Sequence[int]]) -> EvidenceChannels:
        """The channels of the evidence of each clip of a stage, by their indices."""
        if not any(channels):
            return cls({})
        apex = LayerAPEX(stage.model, stage.layer, basis)
        values = {}
        for selection, clips in stage.batches(CLIPS_AT_ONCE):
            decomposition = apex.decompose(clips.inputs, clips.target)
            for clip, of_clip in enumerate(channels[selection]):
                if of_clip:
                    values[selection.start + clip] = channels_by_contribution(
                        apex, clips.inputs, (), decomposition, clip, of_clip, CLIPS_AT_ONCE
                    )
        return cls(values)

    def falls(self, fill: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """The share of each channel that is taken away when the mask of the channel itself is applied.

        Args:
            fill: values that replace masked bins, in the shape of the inputs.
            masks: masks of each clip, one per channel and repeat, bool (repeat, channel, frequency, time).

        Returns:
            Tensor (repeat, channel), over the channels of all clips.
        """
        falls = [torch.zeros(len(masks[0]), 0)]
        for clip, values in self.values.items():
            of_clip = masks[clip].to(fill.device)
            copies = masked(values.bins.values, fill[clip : clip + 1], of_clip.flatten(0, 1)[:, None])
            after = values.of(copies).unflatten(0, of_clip.shape[:2])  # (repeat, masked channel, channel)
            before = values.of(values.bins.values)[0]
            falls.append((1 - after.diagonal(dim1=1, dim2=2) / before).float().cpu())
        return torch.cat(falls, 1)
