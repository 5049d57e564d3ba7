"""Whether a map foretells what happens when regions are removed at random.

The curves only need the order of the regions; these measures also ask whether the values are right. The masks are random and the same for
every map, so one set of forward passes serves all maps of a clip:

    >>> from captum_apex.masking.grids import region_sums
    >>> from captum_apex.metrics import masked_scores
    >>> removed = random_removals(n_regions=3, n_masks=4, seed=0)
    >>> inputs, grid, total = torch.tensor([[[5.0, 1.0, 2.0]]]), torch.arange(3), lambda clips: clips.sum((1, 2))
    >>> scores = masked_scores(total, inputs, torch.zeros_like(inputs), removed[None], grid)
    >>> infidelity(total(inputs), scores, removed, region_sums(inputs, grid))  # a sum falls by just what was removed
    tensor([0.], dtype=torch.float64)
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_removals(n_regions: int, n_masks: int, seed: int) -> Tensor:
    """Which regions each of some random masks removes: first how many, any number from 1 to all but one, then which.

    Args:
        n_regions: of the grid, at least 2.
        n_masks: how many masks, at least 1.
        seed: the global random state is neither read nor changed.

    Returns:
        bool tensor of shape (mask, region). For `masked_scores` it is expanded to (batch, mask, region).

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> random_removals(n_regions=4, n_masks=3, seed=0).sum(1)
        tensor([3, 1, 3])
    """
    if n_regions < 2:
        raise ValueError(
            f"expected `n_regions` to be at least 2, so that one can go and one can stay, but got {n_regions}"
        )
    if n_masks < 1:
        raise ValueError(f"expected `n_masks` to be at least 1, but got {n_masks}")
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, n_regions, (n_masks, 1), generator=generator)
    ranks = (
        torch.rand(n_masks, n_regions, dtype=torch.float64, generator=generator).argsort(1).argsort(1)
    )  # a shuffle in each mask
    return ranks < counts


def infidelity(
    score: Tensor, masked_scores: Tensor, removed: Tensor, sums: Tensor, *, normalize: bool = True
) -> Tensor:
    """Mean square of how far the removed attribution is from the fall of the score: `mean (β · Σ_removed s − (f(x) − f(x_m)))²`.

    Args:
        score: f(x), of the whole clips, shape (batch,).
        masked_scores: f(x_m), under each mask, shape (batch, mask).
        removed: which regions each mask removes, bool, shape (mask, region); see `random_removals`.
        sums: s, the attribution of each region, shape (batch, region); see `captum_apex.masking.grids.region_sums`.
        normalize: scale each clip's map by the β that fits best, so that a method is not judged by its unit; otherwise β = 1.

    Returns:
        float64 tensor of shape (batch,), in squared units of the score, at least 0, lower is better. With the best β it is at most the mean
        square of the fall, which is what an all-zero map scores.

    Raises:
        TypeError: for masks that are not bool.
        ValueError: for shapes that do not belong together.

    Example:
        >>> removed = torch.tensor([[True, False], [False, True]])
        >>> infidelity(torch.tensor([1.0]), torch.tensor([[0.5, 1.0]]), removed, torch.tensor([[3.0, 0.0]]))
        tensor([0.], dtype=torch.float64)

    Source: Yeh et al. (arXiv 1901.09392), with the indicator of the removed bins as the perturbation; it gives what
    `captum.metrics.infidelity` gives for these.
    """
    foretold, fall = _foretold_and_fall(score, masked_scores, removed, sums)
    if normalize:
        square = foretold.square().sum(1, keepdim=True)
        foretold = foretold * (foretold * fall).sum(1, keepdim=True) / square.where(square > 0, 1)
    return (foretold - fall).square().mean(1)


def faithfulness_correlation(score: Tensor, masked_scores: Tensor, removed: Tensor, sums: Tensor) -> Tensor:
    """Pearson's correlation, over the masks, of the removed attribution with the fall of the score; arguments and errors as `infidelity`.

    Returns:
        float64 tensor of shape (batch,), in [-1, 1], higher is better; NaN where the one or the other is the same under every mask.

    Example:
        >>> removed = torch.tensor([[True, False, False], [False, True, False], [False, False, True]])
        >>> faithfulness_correlation(torch.tensor([1.0]), torch.tensor([[0.7, 0.8, 0.9]]), removed, torch.tensor([[30.0, 20.0, 10.0]]))
        tensor([1.0000], dtype=torch.float64)

    Source: Bhatt et al. (arXiv 2005.00631), "faithfulness"; there every mask removes the same number of features.
    """
    foretold, fall = _foretold_and_fall(score, masked_scores, removed, sums)
    defined = ~(_constant(foretold) | _constant(fall))
    foretold, fall = (values - values.mean(1, keepdim=True) for values in (foretold, fall))
    correlation = (foretold * fall).sum(1) / (foretold.norm(dim=1) * fall.norm(dim=1))
    return correlation.clamp(-1, 1).where(defined, torch.nan)


def _foretold_and_fall(score: Tensor, masked_scores: Tensor, removed: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """What the map says that each mask takes from the score, and what it takes; both float64 (clip, mask)."""
    if removed.dtype != torch.bool:
        raise TypeError(f"expected `removed` to be bool, but got {removed.dtype}")
    n_clips, (n_masks, n_regions) = len(sums), removed.shape if removed.dim() == 2 else (-1, -1)
    if score.shape != (n_clips,) or masked_scores.shape != (n_clips, n_masks) or sums.shape != (n_clips, n_regions):
        got = ", ".join(str(tuple(each.shape)) for each in (score, masked_scores, removed, sums))
        expected = (
            "`score` (batch,), `masked_scores` (batch, mask), `removed` (mask, region) and `sums` (batch, region)"
        )
        raise ValueError(f"expected {expected}, but got {got}")
    score, masked_scores, sums = (each.detach().to(sums.device, torch.float64) for each in (score, masked_scores, sums))
    return sums @ removed.to(sums).T, score[:, None] - masked_scores  # (clip, region) · (region, mask) → (clip, mask)


def _constant(values: Tensor) -> Tensor:
    """Whether a clip's values are all the same, but for the rounding of their sums."""
    low, high = values.aminmax(dim=1)
    return high - low <= 1e-12 * values.abs().amax(1)
