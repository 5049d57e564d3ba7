"""Whether a map points at the sound, where the true place of the sound is known. No model is needed.

These measures judge the model and the map together: where the model decides by something else than the sound, a
faithful map points elsewhere and scores low. A region is a map of 1 in its bins and 0 elsewhere.

Chance is the mean over all places of a map: it is shifted as a whole along time and frequency, and what leaves the clip
at one end comes in at the other. It is 0.5 for `bin_auroc`, the sound's share of the bins for `pointing_game`, and the
same share for `relevance_mass`. For the other measures it depends on the map; `chance_by_shifts` estimates it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_apex.masking.rankings import check_attributions
from captum_apex.numbers import real_number, whole_number

__all__ = [
    "best_iou",
    "bin_auroc",
    "chance_by_shifts",
    "frame_f1",
    "pointing_game",
    "relevance_mass",
    "segment_auroc",
    "threshold_iou",
]


def pointing_game(attributions: Tensor, truth: Tensor) -> Tensor:
    """Whether the bin with the largest attribution is a bin of the sound.

    Several bins can have the largest attribution, such as all bins of a region. The score is then the share of these
    bins that belong to the sound: the average score of one of them chosen at random. A constant map therefore scores
    the sound's share of all bins.

    Args:
        attributions: attribution of each bin, shape (batch, channel, frequency, time), or (batch, channel, sample) or
            (batch, sample) for waveforms; the channels are summed, and their axis may be absent.
        truth: which bins belong to the sound, bool, shape (batch, 1, frequency, time) or (batch, frequency, time); for
            waveforms (batch, 1, sample) or (batch, sample).

    Returns:
        float64 tensor of shape (batch,), 1 or 0, or between these for ties; NaN where no bin belongs to the sound.

    Raises:
        TypeError: the attributions are not a tensor, or the truth is not bool.
        ValueError: shapes do not fit each other, or the attributions are not finite (the message names the clip).

    Example:
        >>> import torch
        >>> from captum_apex.metrics import pointing_game
        >>> truth = torch.tensor([[True, False, False, False]])[:, None]
        >>> pointing_game(torch.tensor([[2.0, 0.0, 1.0, 2.0]])[:, None], truth)
        tensor([0.5000], dtype=torch.float64)

    Source: Zhang et al. (arXiv 1608.00507), Section 4.1, without a tolerance around the truth.
    """
    values, inside = _by_bin(attributions, truth)
    largest = values == values.amax(1, keepdim=True)
    share = (largest & inside).sum(1, dtype=torch.float64) / largest.sum(1)
    return share.where(inside.any(1), torch.nan)


def relevance_mass(attributions: Tensor, truth: Tensor) -> Tensor:
    """Share of the positive attribution that lies on the sound.

    The errors are those of `pointing_game`.

    Args:
        attributions: attribution of each bin, shape (batch, channel, frequency, time), or (batch, channel, sample) or
            (batch, sample) for waveforms; the channels are summed, and their axis may be absent.
        truth: which bins belong to the sound, bool, shape (batch, 1, frequency, time) or (batch, frequency, time); for
            waveforms (batch, 1, sample) or (batch, sample).

    Returns:
        float64 tensor of shape (batch,), in [0, 1], higher is better; NaN where no attribution is positive or no bin
        belongs to the sound. A constant positive map scores the sound's share of all bins.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import relevance_mass
        >>> truth = torch.tensor([[True, False, False, False]])[:, None]
        >>> relevance_mass(torch.tensor([[3.0, 0.0, 1.0, -4.0]])[:, None], truth)
        tensor([0.7500], dtype=torch.float64)

    Source: Arras et al. (arXiv 2003.07258), "relevance mass accuracy". The channels are summed before negative values
    are set to zero.
    """
    values, inside = _by_bin(attributions, truth)
    positive = values.clamp_min(0)
    mass = (positive * inside).sum(1) / positive.sum(1)  # 0 / 0: NaN where nothing is positive
    return mass.where(inside.any(1), torch.nan)


def bin_auroc(attributions: Tensor, truth: Tensor) -> Tensor:
    """Area under the ROC curve of the map as a detector of the bins of the sound.

    It is the probability that a bin of the sound has a larger attribution than another bin, where equal ones count as
    half. Only the order of the attributions counts. The errors are those of `pointing_game`.

    Args:
        attributions: attribution of each bin, shape (batch, channel, frequency, time), or (batch, channel, sample) or
            (batch, sample) for waveforms; the channels are summed, and their axis may be absent.
        truth: which bins belong to the sound, bool, shape (batch, 1, frequency, time) or (batch, frequency, time); for
            waveforms (batch, 1, sample) or (batch, sample).

    Returns:
        float64 tensor of shape (batch,), in [0, 1], higher is better, chance is 0.5; NaN where no bin or every bin
        belongs to the sound.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import bin_auroc
        >>> truth = torch.tensor([[True, True, False, False]])[:, None]
        >>> bin_auroc(torch.tensor([[3.0, 1.0, 2.0, 1.0]])[:, None], truth)
        tensor([0.6250], dtype=torch.float64)
    """
    return _area(*_by_bin(attributions, truth))


def segment_auroc(attributions: Tensor, truth: Tensor, segments: Tensor) -> Tensor:
    """Area under the ROC curve of the map as a detector of the stretches of time in which the sound lies.

    The attribution of a segment is the mean over its bins, and a segment belongs to the sound if one of its bins does.
    Chance is 0.5, apart from segments that have different numbers of frames. The other errors are those of
    `pointing_game`.

    Args:
        attributions: attribution of each bin, as in `bin_auroc`.
        truth: which bins belong to the sound, as in `bin_auroc`.
        segments: the segment of each frame, int64, shape (time,), or (sample,) for waveforms; see `time_segments`.

    Returns:
        float64 tensor of shape (batch,), in [0, 1], higher is better; NaN where no segment or every segment belongs to
        the sound.

    Raises:
        ValueError: there is not one segment for each frame.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import segment_auroc
        >>> truth = torch.tensor([[False, True, False, False]])[:, None]
        >>> segment_auroc(torch.tensor([[5.0, 0.0, 1.0, 1.0]])[:, None], truth, torch.tensor([0, 0, 1, 1]))
        tensor([1.], dtype=torch.float64)

    Source: the segments of sound event detection, Mesaros et al., "Metrics for Polyphonic Sound Event Detection", 2016.
    """
    maps, marked = _checked(attributions, truth)
    if segments.shape != maps.shape[-1:]:
        raise ValueError(
            f"expected `segments` of shape ({maps.shape[-1]},), one for each frame, but got {tuple(segments.shape)}"
        )
    own = torch.unique(segments.to(maps.device), return_inverse=True)[1]
    profile = maps.mean(1) if maps.dim() == 3 else maps  # (clip, frequency, time) → (clip, time)
    inside = marked.any(1) if marked.dim() == 3 else marked
    sums = profile.new_zeros(len(profile), int(own.max()) + 1).index_add_(1, own, profile)
    n_inside = torch.zeros_like(sums).index_add_(1, own, inside.to(sums))
    means = sums / own.bincount()
    largest = means.abs().amax(1, keepdim=True)
    # Equal means of different numbers of frames differ in the last digits of float64.
    return _area((means / largest.where(largest > 0, 1)).float(), n_inside > 0)


def threshold_iou(attributions: Tensor, truth: Tensor, threshold: float = 0.5) -> Tensor:
    """Intersection over union of the sound and the bins above a share of the map's largest attribution.

    Only bins with a positive attribution count, so a map without any scores 0. Of a region, the bins are the region
    itself. The other errors are those of `pointing_game`.

    Args:
        attributions: attribution of each bin, as in `bin_auroc`.
        truth: which bins belong to the sound, as in `bin_auroc`.
        threshold: share of the largest attribution from which on a bin counts, in (0, 1].

    Returns:
        float64 tensor of shape (batch,), in [0, 1], higher is better; NaN where no bin belongs to the sound.

    Raises:
        ValueError: the threshold is out of its range.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import threshold_iou
        >>> truth = torch.tensor([[True, True, False, False]])[:, None]
        >>> threshold_iou(torch.tensor([[4.0, 1.0, 2.0, 0.0]])[:, None], truth)
        tensor([0.3333], dtype=torch.float64)
    """
    values, inside = _by_bin(attributions, truth)
    chosen = _above(values, threshold)
    common = (chosen & inside).sum(1, dtype=torch.float64)
    return (common / (chosen | inside).sum(1)).where(inside.any(1), torch.nan)


def best_iou(attributions: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of the sound and the bins above a threshold, at the best threshold above zero.

    The threshold is chosen by the truth, for each clip: it is what the map could give, not what a reader sees. The
    errors are those of `pointing_game`.

    Args:
        attributions: attribution of each bin, as in `bin_auroc`.
        truth: which bins belong to the sound, as in `bin_auroc`.

    Returns:
        float64 tensor of shape (batch,), in [0, 1], higher is better; 0 where no attribution is positive, and NaN where
        no bin belongs to the sound. A constant positive map scores the sound's share of all bins.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import best_iou
        >>> truth = torch.tensor([[True, True, False, False]])[:, None]
        >>> best_iou(torch.tensor([[4.0, 1.0, 2.0, 0.0]])[:, None], truth)
        tensor([0.6667], dtype=torch.float64)
    """
    values, inside = _by_bin(attributions, truth)
    ordered, order = values.sort(1, descending=True)
    common = inside.gather(1, order).cumsum(1, dtype=torch.float64)  # of the first bins, (clip, number of bins)
    counts = torch.arange(1, values.shape[1] + 1, device=values.device)
    scores = common / (counts + inside.sum(1, keepdim=True) - common)
    # Equal attributions are chosen together: a threshold lies between two different ones.
    is_last = torch.cat([ordered[:, :-1] > ordered[:, 1:], torch.ones_like(inside[:, :1])], 1)
    best = scores.where(is_last & (ordered > 0), 0.0).amax(1)
    return best.where(inside.any(1), torch.nan)


def frame_f1(attributions: Tensor, truth: Tensor, threshold: float = 0.5) -> Tensor:
    """F1 score of the frames in which the map exceeds a share of its largest attribution, against those of the sound.

    A frame counts if one of its bins has a positive attribution of at least this share, and belongs to the sound if one
    of its bins does. The other errors are those of `pointing_game`.

    Args:
        attributions: attribution of each bin, as in `bin_auroc`; each sample of a waveform is a frame.
        truth: which bins belong to the sound, as in `bin_auroc`.
        threshold: share of the largest attribution from which on a bin counts, in (0, 1].

    Returns:
        float64 tensor of shape (batch,), in [0, 1], higher is better; NaN where no bin belongs to the sound.

    Raises:
        ValueError: the threshold is out of its range.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import frame_f1
        >>> truth = torch.tensor([[True, True, False, False]])[:, None]
        >>> frame_f1(torch.tensor([[4.0, 1.0, 2.0, 0.0]])[:, None], truth)
        tensor([0.5000], dtype=torch.float64)
    """
    maps, marked = _checked(attributions, truth)
    chosen = _above(maps.flatten(1), threshold).view_as(maps)
    frames, sounding = (each.any(1) if each.dim() == 3 else each for each in (chosen, marked))  # (clip, time)
    common = (frames & sounding).sum(1, dtype=torch.float64)
    return (2 * common / (frames.sum(1) + sounding.sum(1))).where(sounding.any(1), torch.nan)


def chance_by_shifts(
    measure: Callable[[Tensor, Tensor], Tensor],
    attributions: Tensor,
    truth: Tensor,
    *,
    n_shifts: int = 20,
    seed: int = 0,
) -> Tensor:
    """The mean of a measure over random places of the map: its chance, where the map keeps its shapes.

    The map is shifted along time and, if it has one, along frequency, by random numbers of bins; what leaves the clip
    at one end comes in at the other. All clips have the same shifts.

    Args:
        measure: function from attributions and truth to a value for each clip, such as `threshold_iou`.
        attributions: attribution of each bin, as in `bin_auroc`.
        truth: which bins belong to the sound, as in `bin_auroc`.
        n_shifts: number of shifts.
        seed: seed of the random number generator that draws the shifts.

    Returns:
        float64 tensor of shape (batch,); NaN where the measure is.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import chance_by_shifts, pointing_game
        >>> truth = torch.tensor([[True, True, False, False]])[:, None]
        >>> chance_by_shifts(pointing_game, truth.float(), truth, n_shifts=1000).round(decimals=1)
        tensor([0.5000], dtype=torch.float64)
    """
    maps, marked = _checked(attributions, truth)
    axes = tuple(range(1, maps.dim()))
    generator = torch.Generator().manual_seed(whole_number(seed, "seed"))
    sizes = torch.tensor(maps.shape[1:])
    n_shifts = whole_number(n_shifts, "n_shifts", least=1)
    shifts = (torch.rand(n_shifts, len(axes), dtype=torch.float64, generator=generator) * sizes).long().tolist()
    return torch.stack([measure(maps.roll(shift, axes), marked) for shift in shifts]).mean(0)


def _above(values: Tensor, threshold: float) -> Tensor:
    """The bins with a positive attribution of at least a share of the largest one, bool (clip, bin)."""
    if not 0 < real_number(threshold, "threshold") <= 1:
        raise ValueError(f"expected `threshold` in (0, 1], but got {threshold}")
    return (values > 0) & (values >= threshold * values.amax(1, keepdim=True))


def _area(values: Tensor, inside: Tensor) -> Tensor:
    """The area under the ROC curve of each row, from the ranks of the values that are inside: Mann and Whitney's U."""
    ordered = values.sort(1).values
    first = torch.searchsorted(ordered, values.contiguous(), right=False)
    last = torch.searchsorted(ordered, values.contiguous(), right=True)
    ranks = (first + last + 1).double() / 2  # from 1 on; ties share the mean of their ranks
    n_inside = inside.sum(1, dtype=torch.float64)
    n_outside = values.shape[1] - n_inside
    return ((ranks * inside).sum(1) - n_inside * (n_inside + 1) / 2) / (n_inside * n_outside)  # 0 / 0: NaN


def _by_bin(attributions: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The attribution of each bin as float64, and whether the bin belongs to the sound; both (clip, bin)."""
    maps, marked = _checked(attributions, truth)
    return maps.flatten(1), marked.flatten(1)


def _checked(attributions: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The map as float64 and the truth, both (clip, frequency, time) or (clip, sample)."""
    check_attributions(attributions)
    if not isinstance(truth, Tensor) or truth.dtype != torch.bool:
        raise TypeError(
            f"expected `truth` to be a bool tensor, but got {getattr(truth, 'dtype', type(truth).__name__)}"
        )
    # Without its channel axis of size 1, the truth has the axes of the bins, (frequency, time) or (sample,).
    has_channel = truth.dim() == 4 or (truth.dim() == 3 and attributions.dim() < 4)
    marked = truth.squeeze(1) if has_channel and truth.shape[1] == 1 else truth
    maps = attributions.detach().to(torch.float64)
    if maps.dim() == marked.dim() + 1:
        maps = maps.sum(1)  # (clip, channel, ...) → (clip, ...)
    if marked.dim() not in (2, 3) or marked.shape != maps.shape:
        raise ValueError(
            "expected `attributions` of shape (batch, channel, frequency, time) and `truth` of shape "
            "(batch, frequency, time), or (batch, sample) for both, but got "
            f"{tuple(attributions.shape)} and {tuple(truth.shape)}"
        )
    return maps, marked.to(maps.device)
