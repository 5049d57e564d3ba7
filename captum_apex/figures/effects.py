"""What masking a region takes away, as short lines of text, and how it shows in the outline of the region."""

from __future__ import annotations

from collections.abc import Iterable

from captum_apex.explanations.evidence import Evidence
from captum_apex.figures.titles import number
from captum_apex.locating.region_effect import RegionEffect, percent

__all__ = [
    "DASHED_NOTE",
    "EFFECT_NOTE",
    "LINE_HEIGHT",
    "dashed",
    "effect_lines",
    "effects_of",
    "height_of_effects",
    "notes",
    "panel_lines",
]

EFFECT_NOTE = (
    "“Masking”: how much of the channel is lost when the region is masked; “random”: the mean of random places."
)
LINE_HEIGHT = 0.15  # of a line of a title, in inches
DASHED_NOTE = "Dashed outline: masking a random place takes as much, or masking the region takes less than 1%."


def dashed(effect: RegionEffect | None) -> bool:
    """Whether the outline of a region is dashed: its effect is known, and no better than that of a random place.

    Args:
        effect: the effect of the region; None where it is not known.

    Example:
        >>> from captum_apex import RegionEffect
        >>> from captum_apex.figures.effects import dashed
        >>> dashed(RegionEffect(channel=0.6, random=(0.7,))), dashed(RegionEffect(channel=0.6)), dashed(None)
        (True, False, False)
    """
    return effect is not None and not effect.better_than_random


def effect_lines(effect: RegionEffect | None) -> list[str]:
    """What masking a region takes away, and what speaks against it, in short texts.

    Args:
        effect: the effect of the region; None where it is not known, which gives no line.

    Example:
        >>> from captum_apex import RegionEffect
        >>> from captum_apex.figures.effects import effect_lines
        >>> effect_lines(RegionEffect(channel=0.63, random=(0.0, 0.02), score=2.5))
        ['masking 63%, random 1%', 'logit falls by 2.5']
    """
    if effect is None:
        return []
    random = f", random {_percent(effect.mean_random)}" if effect.random else ""
    lines = [f"masking {_percent(effect.channel)}{random}"]
    if effect.score is not None:
        verb = "falls" if effect.score >= 0 else "rises"
        lines.append(f"logit {verb} by {number(abs(effect.score))}")
    return [*lines, *effect.doubts]


def panel_lines(effect: RegionEffect | None) -> list[str]:
    """The texts of `effect_lines`, with what is in brackets on a line of its own, so that each fits a panel.

    Args:
        effect: the effect of the region; None where it is not known, which gives no line.

    Example:
        >>> from captum_apex import RegionEffect
        >>> from captum_apex.figures.effects import panel_lines
        >>> panel_lines(RegionEffect(channel=0.63, random=(0.1, 0.7)))
        ['masking 63%, random 40%', 'no better than a random place', '(up to 70%)']
    """
    return [piece for line in effect_lines(effect) for piece in line.replace(" (", "\n(").split("\n")]


def notes(effects: Iterable[RegionEffect | None]) -> list[str]:
    """The sentences that a caption needs for the effects of its figure; none where no effect is known.

    Args:
        effects: the effects of all regions of the figure.

    Example:
        >>> from captum_apex import RegionEffect
        >>> from captum_apex.figures.effects import notes
        >>> notes([None, RegionEffect(channel=0.6, random=(0.7,))])[1]
        'Dashed outline: masking a random place takes as much, or masking the region takes less than 1%.'
    """
    known = [effect for effect in effects if effect is not None]
    sentences = [EFFECT_NOTE] if known else []
    if any(map(dashed, known)):
        sentences.append(DASHED_NOTE)
    return sentences


def _percent(share: float) -> str:
    return percent(share).replace("-", "−")


def effects_of(evidence: Iterable[Evidence]) -> list[RegionEffect | None]:
    """The effects of the regions of some evidence and of its prototypes.

    Args:
        evidence: the evidence.

    Example:
        >>> from captum_apex import Evidence, Region, RegionEffect
        >>> from captum_apex.figures.effects import effects_of
        >>> effect = RegionEffect(channel=0.75)
        >>> effects_of([Evidence(3, 1, 2.0, 1.0, 0.8, Region(()), (), effect=effect)]) == [effect]
        True
    """
    effects: list[RegionEffect | None] = []
    for channel in evidence:
        effects.append(channel.effect)
        effects += [prototype.effect for prototype in channel.prototypes]
    return effects


def height_of_effects(effects: Iterable[RegionEffect | None]) -> float:
    """The height that the lines of the effects need above a panel, in inches.

    Args:
        effects: the effects of the regions on all panels of a figure.

    Example:
        >>> from captum_apex import RegionEffect
        >>> from captum_apex.figures.effects import height_of_effects
        >>> height_of_effects([RegionEffect(channel=0.75, score=1.0), None])
        0.3
    """
    return LINE_HEIGHT * max((len(panel_lines(effect)) for effect in effects), default=0)
