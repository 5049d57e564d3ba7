"""Why regions miss a class event: whether the strongest channel depends on the event at all."""

from __future__ import annotations

import pandas as pd
from torch import Tensor

from benchmarks.experiments.located_evidence import (
    SURROUNDINGS,
    EvidenceChannels,
    explanations_of,
    fill_values,
    region_masks,
)
from benchmarks.experiments.region_masking import N_CHANNELS
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from captum_apex import Explanation, Scheme

MISS_COLUMNS = ("any_of_three", "event_met", "event_missed")


def event_shares(subject: Subject, scheme: Scheme, clips: Stage) -> dict[str, float]:
    """What the strongest channel loses without the class event, where its region meets the event and where it does not.

    Args:
        subject: the classifier and its bases.
        scheme: the scheme.
        clips: clips with a known truth, see `benchmarks.experiments.truth.truth_clips`.

    Returns:
        - `any_of_three`: share of clips in which the found region of at least one of the three strongest channels has a
          bin in common with the event.
        - `event_met`, `event_missed`: share of the strongest channel's contribution that masking the event itself takes
          away, median over the clips in which the channel's region meets the event, and over those in which it does
          not; NaN without any such clip. The masked bins are replaced by their surroundings, as in the search.

    Example:
        >>> from benchmarks.experiments.missed_events import MISS_COLUMNS
        >>> MISS_COLUMNS
        ('any_of_three', 'event_met', 'event_missed')
    """
    basis = subject.bases[scheme]
    explanations = explanations_of(subject, basis, clips.inputs, N_CHANNELS)
    met = [_met(clips, *of_clip) for of_clip in zip(explanations, clips.known_truth, strict=True)]
    strongest = [[evidence.channel for evidence in explanation.evidence[:1]] for explanation in explanations]
    channels = EvidenceChannels.of(clips, basis, strongest)
    masks = [truth[None, None] for truth in clips.known_truth]
    falls = pd.Series(channels.falls(fill_values(clips, SURROUNDINGS, scheme), masks)[0].numpy())
    of_strongest = pd.Series([met[clip][0].item() for clip in channels.values], dtype=bool)
    return {
        "any_of_three": sum(of_clip.any().item() for of_clip in met) / len(met),
        "event_met": float(falls[of_strongest].median()),
        "event_missed": float(falls[~of_strongest].median()),
    }


def _met(clips: Stage, explanation: Explanation, truth: Tensor) -> Tensor:
    """Whether the found region of each channel has a bin in common with the event, bool (channel,)."""
    n_rows, n_columns = truth.shape
    return (region_masks(clips.band_shares, explanation, (n_rows, n_columns), "found") & truth).any(2).any(1)
