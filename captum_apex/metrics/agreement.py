"""Whether a map predicts the fall of the score when random regions are removed.

The curves depend only on the order of the regions; these measures also depend on the attributed values. The masks are
random and the same for every map, so one set of forward passes serves all maps of a clip:

    >>> import torch
    >>> from captum_apex.masking import region_sums
    >>> from captum_apex.metrics import infidelity, masked_scores, random_removals
    >>> inputs = torch.tensor([[[5.0, 1.0, 2.0]]])
    >>> grid = torch.arange(3)
    >>> total = lambda clips: clips.sum((1, 2))
    >>> removed = random_removals(n_regions=3, n_masks=4, seed=0)
    >>> scores = masked_scores(total, inputs, torch.zeros_like(inputs), removed[None], grid)
    >>> infidelity(total(inputs), scores, removed, region_sums(inputs, grid))  # a sum falls by what was removed
    tensor([0.], dtype=torch.float64)
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_apex.layers.values import check_finite
from captum_apex.numbers import whole_number

__all__ = ["faithfulness_correlation", "infidelity", "random_removals"]


def random_removals(n_regions: int, n_masks: int, seed: int) -> Tensor:
    """Random masks, each of which removes between one region and all regions but one.

    The number of removed regions is drawn first, every number with the same probability, then the regions.

    Args:
        n_regions: number of regions of the grid, at least 2.
        n_masks: number of masks, at least 1.
        seed: seed of the random number generator; the global random state is neither read nor changed.

    Returns:
        Which regions each mask removes, bool, shape (mask, region). Expand it to (batch, mask, region) for
        `masked_scores`.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> from captum_apex.metrics import random_removals
        >>> random_removals(n_regions=4, n_masks=3, seed=0)
        tensor([[ True,  True, False,  True],
                [False, False,  True, False],
                [ True,  True, False,  True]])
    """
    if whole_number(n_regions, "n_regions") < 2:
        raise ValueError(
            f"expected `n_regions` to be at least 2, so that one can go and one can stay, but got {n_regions}"
        )
    n_masks = whole_number(n_masks, "n_masks", least=1)
    generator = torch.Generator().manual_seed(whole_number(seed, "seed"))
    counts = torch.randint(1, n_regions, (n_masks, 1), generator=generator)
    order = torch.rand(n_masks, n_regions, dtype=torch.float64, generator=generator).argsort(1)
    ranks = order.argsort(1)  # a random permutation of the regions in each mask
    return ranks < counts


def infidelity(
    score: Tensor, masked_scores: Tensor, removed: Tensor, sums: Tensor, *, normalize: bool = True
) -> Tensor:
    """Mean squared difference between the removed attribution and the fall of the score.

    `mean (β · Σ_removed s − (f(x) − f(x_m)))²` over the masks m.

    Args:
        score: score of the whole clips f(x), shape (batch,).
        masked_scores: score of the clips under each mask f(x_m), shape (batch, mask).
        removed: which regions each mask removes, bool, shape (mask, region); see `random_removals`.
        sums: attribution of each region s, shape (batch, region); see `captum_apex.masking.grids.region_sums`.
        normalize: scale each clip's map by the β that fits best, so that the unit of a method's values does not count;
            otherwise β = 1.

    Returns:
        float64 tensor of shape (batch,), in squared units of the score, at least 0; lower is better. With the best β it
        is at most the mean square of the fall, which is the value for an all-zero map.

    Raises:
        TypeError: the masks are not bool.
        ValueError: shapes do not fit each other.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import infidelity
        >>> removed = torch.tensor([[True, False], [False, True]])
        >>> infidelity(torch.tensor([1.0]), torch.tensor([[0.5, 1.0]]), removed, torch.tensor([[3.0, 0.0]]))
        tensor([0.], dtype=torch.float64)

    Source: Yeh et al. (arXiv 1901.09392), with the indicator of the removed bins as the perturbation. The value equals
    that of `captum.metrics.infidelity` for these perturbations.
    """
    predicted, fall = _predicted_and_measured_fall(score, masked_scores, removed, sums)
    if normalize:
        square = predicted.square().sum(1, keepdim=True)
        predicted = predicted * (predicted * fall).sum(1, keepdim=True) / square.where(square > 0, 1)
    return (predicted - fall).square().mean(1)


def faithfulness_correlation(score: Tensor, masked_scores: Tensor, removed: Tensor, sums: Tensor) -> Tensor:
    """Pearson's correlation, over the masks, of the removed attribution with the fall of the score.

    The errors are those of `infidelity`.

    Args:
        score: score of the whole clips, shape (batch,).
        masked_scores: score of the clips under each mask, shape (batch, mask).
        removed: which regions each mask removes, bool, shape (mask, region); see `random_removals`.
        sums: attribution of each region, shape (batch, region); see `captum_apex.masking.grids.region_sums`.

    Returns:
        float64 tensor of shape (batch,), in [-1, 1]; higher is better. NaN where the removed attribution or the fall is
        the same under every mask.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import faithfulness_correlation
        >>> removed = torch.eye(3, dtype=torch.bool)
        >>> scores = torch.tensor([[0.7, 0.8, 0.9]])
        >>> faithfulness_correlation(torch.tensor([1.0]), scores, removed, torch.tensor([[30.0, 20.0, 10.0]]))
        tensor([1.0000], dtype=torch.float64)

    Source: Bhatt et al. (arXiv 2005.00631), "faithfulness", where every mask removes the same number of features.
    """
    predicted, fall = _predicted_and_measured_fall(score, masked_scores, removed, sums)
    defined = ~(_constant(predicted) | _constant(fall))
    predicted = predicted - predicted.mean(1, keepdim=True)
    fall = fall - fall.mean(1, keepdim=True)
    correlation = (predicted * fall).sum(1) / (predicted.norm(dim=1) * fall.norm(dim=1))
    return correlation.clamp(-1, 1).where(defined, torch.nan)


def _predicted_and_measured_fall(
    score: Tensor, masked_scores: Tensor, removed: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor]:
    """The fall of the score under each mask, as the map predicts it and as the model gives it; float64 (clip, mask)."""
    if removed.dtype != torch.bool:
        raise TypeError(f"expected `removed` to be bool, but got {removed.dtype}")
    n_clips = len(sums)
    n_masks, n_regions = removed.shape if removed.dim() == 2 else (-1, -1)
    if score.shape != (n_clips,) or masked_scores.shape != (n_clips, n_masks) or sums.shape != (n_clips, n_regions):
        got = ", ".join(str(tuple(each.shape)) for each in (score, masked_scores, removed, sums))
        expected = (
            "`score` (batch,), `masked_scores` (batch, mask), `removed` (mask, region) and `sums` (batch, region)"
        )
        raise ValueError(f"expected {expected}, but got {got}")
    for name, values in {"score": score, "masked_scores": masked_scores, "sums": sums}.items():
        check_finite(values, f"`{name}`")
    score, masked_scores, sums = (each.detach().to(sums.device, torch.float64) for each in (score, masked_scores, sums))
    return sums @ removed.to(sums).T, score[:, None] - masked_scores  # (clip, region) · (region, mask) → (clip, mask)


def _constant(values: Tensor) -> Tensor:
    """Whether all values of a clip are equal up to the rounding of their sums."""
    low, high = values.aminmax(dim=1)
    return high - low <= 1e-12 * values.abs().amax(1)
