"""Names for channels: from annotated events, or from words by a model of audio and text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_apex.metrics.prototypes.part_agreement import PartHits
from captum_apex.numbers import real_number

__all__ = ["ProposedNames", "part_names", "word_names"]

LEVEL = 0.05  # largest p-value of a name
_ROUNDING = 1e-9  # of a mean score, whose terms are added in another order
N_DRAWS = 2000  # random sets of clips, with which the prototypes are compared


@dataclass(frozen=True, eq=False)
class ProposedNames:
    """Names of the channels that have one, and how sure each best name is.

    Attributes:
        names: channel → name, of the channels whose p-value is at most the level. Explanations, tables and pages take
            them as `names={"time": proposed.names}`.
        best: the best name of every channel.
        scores: score of the best name, float64 (channel,).
        p_values: probability of at least such a score by chance, float64 (channel,), in (0, 1]. It is corrected for the
            number of names, not for that of channels: of many channels, a share of `level` gets a name by chance.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import ProposedNames
        >>> proposed = ProposedNames({1: "call"}, ("wind", "call"), torch.tensor([0.2, 1.0]), torch.tensor([0.9, 0.01]))
        >>> f"{len(proposed.names)} of {len(proposed.best)} channels have a name"
        '1 of 2 channels have a name'
    """

    names: Mapping[int, str]
    best: tuple[str, ...]
    scores: Tensor
    p_values: Tensor

    @classmethod
    def of(cls, names: Sequence[str], scores: Tensor, p_values: Tensor, level: float) -> ProposedNames:
        """The best name of each channel, the one with the smallest p-value, and of these the one with the best score.

        Args:
            names: the names.
            scores: score of each name, (channel, name).
            p_values: p-value of each name, (channel, name).
            level: largest p-value of a name that is proposed.
        """
        chosen = []
        for of_channel, values in zip(scores.tolist(), p_values.tolist(), strict=True):
            order = sorted(range(len(names)), key=lambda place: (values[place], -of_channel[place]))
            chosen.append(order[0])
        places = torch.tensor(chosen, dtype=torch.int64)[:, None]
        best = tuple(names[place] for place in chosen)
        p_best = p_values.gather(1, places).squeeze(1)
        proposed = {channel: best[channel] for channel, p_value in enumerate(p_best.tolist()) if p_value <= level}
        return cls(proposed, best, scores.gather(1, places).squeeze(1), p_best)


def part_names(parts: PartHits, *, level: float = LEVEL) -> ProposedNames:
    """Names of channels by the annotated events that the regions of their prototypes show.

    The score of a part is the share of the channel's prototypes that show it, of those whose clips have it. Its p-value
    is the binomial probability of at least as many, with the share over all channels as the chance, times the number of
    parts. So a part that the regions of all channels show, such as wind in the whole clip, names none.

    Args:
        parts: what the regions show, from `part_hits`; better of unseen clips than of those of the fit.
        level: largest p-value of a name, in [0, 1].

    Raises:
        ValueError: there is no part, or the level is out of range.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import PartHits, part_names
        >>> hits = torch.zeros(4, 5, 2, dtype=torch.bool)  # (channel, prototype, part)
        >>> hits[0, :, 0] = True  # all prototypes of channel 0 show the call
        >>> hits[:, 0, 1] = True  # and every channel shows the wind once
        >>> proposed = part_names(PartHits(("call", "wind"), hits, torch.ones_like(hits)))
        >>> proposed.names, f"{proposed.p_values[0]:.4f}"
        ({0: 'call'}, '0.0020')

    Source: in place of the words of "Audio Network Dissection" (arXiv 2406.16990), as Network Dissection (Bau et al.,
    CVPR 2017) names units by annotated regions; the p-values are ours.
    """
    level = real_number(level, "level", 0, 1)
    if not parts.names:
        raise ValueError("expected parts to name channels by, but no clip of a prototype has an annotated part")
    shown = (parts.hits & parts.present).sum(1)  # (channel, part)
    having = parts.present.sum(1)
    chances = (shown.sum(0).to(torch.float64) / having.sum(0)).nan_to_num(0.0).tolist()
    p_values = torch.ones(shown.shape, dtype=torch.float64)
    for channel, (counts, numbers) in enumerate(zip(shown.tolist(), having.tolist(), strict=True)):
        for place, (count, number, chance) in enumerate(zip(counts, numbers, chances, strict=True)):
            p_values[channel, place] = min(1.0, len(parts.names) * _at_least(count, number, chance))
    shares = (shown.to(torch.float64) / having).nan_to_num(0.0)
    return ProposedNames.of(parts.names, shares, p_values, level)


def word_names(
    indices: Tensor, audio: Tensor, text: Tensor, words: Sequence[str], *, level: float = LEVEL, seed: int = 0
) -> ProposedNames:
    """Names of channels from a list of words, by a model that embeds sounds and texts in one space, such as CLAP.

    `s_iw` is the cosine of clip `i` and word `w`, in units of its deviation over all clips, from its mean: a word that
    is near to every sound names none. The score of a word is the mean of `s_iw` over the prototypes of the channel. The
    p-value is the share of random sets of as many clips whose *best* word scores at least as high.

    Args:
        indices: indices of the prototypes' clips, integers (channel, prototype), such as `basis.prototype_indices`.
        audio: embedding of each clip of the dataset, (clip, dimension). For names of what the *regions* of prototypes
            have in common: the embedding of the sound of each region, channel after channel, with the numbers from 0
            on as `indices`; random sets are then sets of regions.
        text: embedding of each word, (word, dimension).
        words: the words, such as names of classes, or what could be heard.
        level: largest p-value of a name, in [0, 1].
        seed: seed of the random sets.

    Raises:
        ValueError: the embeddings do not fit each other, the words or the indices, or have no spread over the clips.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import word_names
        >>> text = torch.eye(2)  # of two words
        >>> audio = torch.eye(2).repeat_interleave(20, dim=0)  # 20 low sounds and 20 high ones
        >>> indices = torch.tensor([[0, 1, 2, 3, 4, 5], [0, 1, 2, 20, 21, 22]])  # (channel, prototype)
        >>> word_names(indices, audio, text, ["low", "high"]).names
        {0: 'low'}

    Source: "Audio Network Dissection" (AND, arXiv 2406.16990), closed-set identification, and CLIP-Dissect (Oikarinen
    and Weng, ICLR 2023), with whole clips as the probing set. The units of the deviation and the p-values are ours.
    """
    level = real_number(level, "level", 0, 1)
    scores = _word_scores(indices, audio, text, words)  # (clip, word)
    found = scores[indices.cpu()].mean(1)  # (channel, prototype, word) → (channel, word)
    generator = torch.Generator().manual_seed(seed)
    n_prototypes = indices.shape[1]
    draws = torch.stack([torch.randperm(len(scores), generator=generator)[:n_prototypes] for _ in range(N_DRAWS)])
    largest = scores[draws].mean(1).amax(1).sort().values  # (draw,)
    above = N_DRAWS - torch.searchsorted(largest, found - _ROUNDING)  # (channel, word); equal ones count
    return ProposedNames.of(tuple(words), found, (above + 1).to(torch.float64) / (N_DRAWS + 1), level)


def _word_scores(indices: Tensor, audio: Tensor, text: Tensor, words: Sequence[str]) -> Tensor:
    """The cosines of clips and words, from their mean over the clips and in units of their deviation, (clip, word)."""
    if audio.dim() != 2 or text.dim() != 2 or audio.shape[1] != text.shape[1]:
        raise ValueError(
            "expected embeddings (clip, dimension) and (word, dimension) of one space, but got shapes "
            f"{tuple(audio.shape)} and {tuple(text.shape)}"
        )
    if len(text) != len(words) or not len(words):
        raise ValueError(f"expected an embedding for each of {len(words)} words, but got {len(text)}")
    if indices.dim() != 2 or indices.is_floating_point() or indices.dtype == torch.bool or not indices.numel():
        got = f"{tuple(indices.shape)} of {indices.dtype}"
        raise ValueError(f"expected indices of clips, integers (channel, prototype), but got {got}")
    if indices.min() < 0 or indices.max() >= len(audio):
        got = f"{indices.min()} to {indices.max()}"
        raise ValueError(f"expected indices of {len(audio)} clips, from 0 to {len(audio) - 1}, but got {got}")
    sounds, texts = (
        each / each.norm(dim=1, keepdim=True) for each in (audio.detach().cpu().double(), text.detach().cpu().double())
    )
    cosines = sounds @ texts.T
    deviations = cosines.std(0, correction=0)
    if not deviations.gt(1e-9).all():  # also if a value is not finite
        raise ValueError("expected embeddings whose similarities to each word differ among the clips, but they do not")
    return (cosines - cosines.mean(0)) / deviations


def _at_least(count: int, number: int, chance: float) -> float:
    """The probability of at least `count` successes in `number` trials."""
    return math.fsum(math.comb(number, k) * chance**k * (1 - chance) ** (number - k) for k in range(count, number + 1))
