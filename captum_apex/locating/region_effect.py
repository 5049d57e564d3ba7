"""What masking a region takes away from a channel, beside random places."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NOTICEABLE", "RegionEffect", "percent"]

NOTICEABLE = 0.01
"""Share of a channel's value below which a fall counts as almost nothing."""


@dataclass(frozen=True)
class RegionEffect:
    """What masking a region takes away.

    Args:
        channel: share of the channel's value in the clip that masking the region takes away. It is above 1 where the
            value changes its sign, and negative where the channel grows.
        random: the same for random places of the same shape in the clip, one number for each.
        score: by how much the score of the explained class falls when the region is masked; None for prototypes.
        fires_on: what the channel fires on where that is no sound: `"silence"`, `"the border"`, `"the end of a sound"`
            or `"the beginning of a sound"`; empty for a sound.
        fires_elsewhere: whether the channel is strongest beside the region, where it counts less than half as much.

    Example:
        >>> from captum_apex import RegionEffect
        >>> effect = RegionEffect(channel=0.75, random=(0.0, 0.1), score=2.5)
        >>> effect.better_than_random, effect.mean_random
        (True, 0.05)
        >>> print(effect)
        masking takes 75% of the channel (random places: 5%)
        >>> RegionEffect(channel=0.1, random=(0.2,), fires_on="the border").doubts
        ('no better than a random place (up to 20%)', 'fires at the border')
    """

    channel: float
    random: tuple[float, ...] = ()
    score: float | None = None
    fires_on: str = ""
    fires_elsewhere: bool = False

    @property
    def mean_random(self) -> float:
        """Mean of the random places; 0 without any."""
        return sum(self.random) / len(self.random) if self.random else 0.0

    @property
    def better_than_random(self) -> bool:
        """Whether masking the region takes away more than masking each of the random places, and at least 1%."""
        return self.channel >= NOTICEABLE and self.channel > max(self.random, default=0.0)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a reader must know: a random place is as good, there is no sound, the channel is stronger elsewhere."""
        doubts = [] if self.better_than_random else [self._no_better]
        if self.fires_on:
            doubts.append(f"fires {'on' if self.fires_on == 'silence' else 'at'} {self.fires_on}")
        if self.fires_elsewhere:
            doubts.append("fires more strongly elsewhere")
        return tuple(doubts)

    @property
    def _no_better(self) -> str:
        """Why the region is no better than a random place: the strongest one takes as much, or nothing is taken."""
        strongest = max(self.random, default=0.0)
        if strongest >= max(self.channel, NOTICEABLE):
            return f"no better than a random place (up to {percent(strongest)})"
        return "masking takes almost nothing"

    def __str__(self) -> str:
        shares = f"{percent(self.channel)} of the channel (random places: {percent(self.mean_random)})"
        return ", ".join([f"masking takes {shares}", *self.doubts])


def percent(share: float) -> str:
    """A share in whole percent; one that is rounded up to 1% but counts as almost nothing says so.

    Args:
        share: the share.

    Example:
        >>> from captum_apex.locating.region_effect import percent
        >>> percent(0.726), percent(0.012), percent(0.008), percent(-0.001)
        ('73%', '1%', '<1%', '0%')
    """
    rounded = round(100 * share)
    return "<1%" if rounded == 1 and share < NOTICEABLE else f"{rounded}%"
