"""One channel that supports a class in a clip, and the training clips that show what the channel stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from captum_apex.audio.regions import Box, Region
from captum_apex.locating.region_effect import RegionEffect
from captum_apex.result_tables import counted

__all__ = ["Evidence", "Prototype", "listed_evidence", "others_of", "side_of"]


@dataclass(frozen=True)
class Prototype:
    """A training clip that shows what a channel stands for.

    Args:
        index: index of the clip in the dataset that the basis was fitted on.
        label: label of the clip in the dataset, an int or a list; None where the dataset has no labels.
        activation: mean of the channel over the grid of the clip.
        purity: purity of the peak in the clip, in [-1, 1].
        region: region of the channel in the clip: the one that was found at the input, or else the peak cell.
        effect: what masking the region takes away; None where the region is the peak cell.
        map: map of the channel at the input of the clip, (frequency, time), as in `Evidence`; None where the region was
            not searched for in this call.

    Example:
        >>> from captum_apex import Box, Prototype, Region
        >>> strip = Region((Box(low=0.0, high=1.0, start=0.25, end=0.5),))
        >>> prototype = Prototype(index=7, label=2, activation=1.5, purity=0.8, region=strip)
        >>> prototype.region.boxes[0].start  # fraction of the clip's duration
        0.25
    """

    index: int
    label: Any
    activation: float
    purity: float
    region: Region
    effect: RegionEffect | None = None
    map: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Evidence:
    """One channel that supports the explained class in a clip.

    Args:
        channel: index of the channel in the basis.
        side: 1, or −1 where the channel supports the class by a negative activation.
        contribution: `c_k`, the amount that the channel adds to the score.
        activation: `a_k`, the mean of the channel over the grid of the clip.
        purity: purity of the peak in this clip, in [-1, 1].
        region: region of the channel in this clip, where the channel counts for the score: found at the input, or the
            peak cell where no search was wanted.
        prototypes: prototypes of the channel on this side, best first.
        cell: the peak cell, where the channel is strongest; with a head that is no mean over the grid it can lie
            elsewhere than the region, see `elsewhere`.
        effect: what masking the region takes away; None where the region was not searched for.
        map: map of the channel at the input, float32 (frequency, time) over the bins that were masked: gradient ×
            (clip − fill) in two steps; None where the region was not searched for, or no gradient reaches the input.

    Example:
        >>> from captum_apex import Box, Evidence, Region
        >>> strip = Region((Box(low=0.0, high=1.0, start=0.25, end=0.5),))
        >>> evidence = Evidence(17, 1, contribution=2.5, activation=0.5, purity=0.9, region=strip, prototypes=())
        >>> print(evidence)
        channel 17: +2.5, purity 0.90, at 25–50% of the time
    """

    channel: int
    side: int
    contribution: float
    activation: float
    purity: float
    region: Region
    prototypes: tuple[Prototype, ...]
    cell: Region | None = None
    effect: RegionEffect | None = None
    map: Tensor | None = field(default=None, compare=False, repr=False)

    @property
    def elsewhere(self) -> Region:
        """The peak cell where the effect says that the channel fires more strongly there; otherwise no box."""
        fires_elsewhere = self.effect is not None and self.effect.fires_elsewhere
        return self.cell if fires_elsewhere and self.cell is not None else Region(())

    def __str__(self) -> str:
        place = f"at {_fractions(self.region)}" if self.region.boxes else "nowhere"
        parts = [f"{_channel(self)}: {self.contribution:+.3g}", f"purity {self.purity:.2f}", place]
        lines = [", ".join(parts)]
        if self.effect is not None:
            elsewhere = f" ({_fractions(self.elsewhere)})" if self.elsewhere.boxes else ""
            lines.append(f"  {self.effect}{elsewhere}")
        for each in self.prototypes:
            lines.append(f"  like training clip {each.index} at {_fractions(each.region)}, purity {each.purity:.2f}")
        return "\n".join(lines)


def listed_evidence(evidence: Sequence[Evidence], most: int = 3) -> list[str]:
    """A line for each of the strongest channels, and one for the others.

    Args:
        evidence: the channels, largest contribution first.
        most: number of channels that get a line.

    Example:
        >>> from captum_apex import Evidence, Region
        >>> from captum_apex.explanations.evidence import listed_evidence
        >>> listed_evidence([Evidence(17, 1, 2.5, 0.5, 0.9, Region(()), prototypes=())])
        ['  channel 17: +2.5, purity 0.90, 0 prototypes']
    """
    lines = [
        f"  channel {channel.channel}: {channel.contribution:+.3g}, purity {channel.purity:.2f}, "
        f"{counted(len(channel.prototypes), 'prototype')}"
        f"{', fires more strongly elsewhere' if channel.elsewhere.boxes else ''}"
        for channel in evidence[:most]
    ]
    return lines + others_of(evidence[most:])


def others_of(evidence: Sequence[Evidence]) -> list[str]:
    """A line for channels that are not listed; none where there are none.

    Args:
        evidence: the channels.

    Example:
        >>> from captum_apex import Evidence, Region
        >>> from captum_apex.explanations.evidence import others_of
        >>> others_of([Evidence(17, 1, 2.5, 0.5, 0.9, Region(()), prototypes=())])
        ['  1 more channel of the evidence: +2.5']
    """
    rest = sum(channel.contribution for channel in evidence)
    return [f"  {counted(len(evidence), 'more channel')} of the evidence: {rest:+.3g}"] if evidence else []


def _channel(evidence: Evidence) -> str:
    return f"channel {evidence.channel}{'' if evidence.side > 0 else ' (negative)'}"


def _fractions(region: Region) -> str:
    """The boxes of a region as shares of the axes of the input, without an axis that a box covers."""
    return " and ".join(map(_shares, sorted(region.boxes, key=lambda box: (box.start, box.low)))) or "no place"


def _shares(box: Box) -> str:
    time = "" if box.start <= 0 and box.end >= 1 else f"{100 * box.start:.0f}–{100 * box.end:.0f}% of the time"
    band = "" if box.low <= 0 and box.high >= 1 else f"{100 * box.low:.0f}–{100 * box.high:.0f}% of the band"
    return ", ".join(filter(None, (time, band))) or "all of the clip"


def side_of(activation: float) -> int:
    """The side on which a channel of the evidence supports the class: 1 or −1, the sign of its activation.

    Args:
        activation: activation `a_k` of the channel in the clip, which is not 0.

    Example:
        >>> from captum_apex.explanations.evidence import side_of
        >>> side_of(1.5), side_of(-0.5)
        (1, -1)
    """
    return 1 if activation > 0 else -1
