"""Whether prototypes are as pure among unseen clips as among those that the basis was fitted on."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_apex.layers.values import check_finite

__all__ = ["purity_gap"]


def purity_gap(training: Tensor, unseen: Tensor) -> Tensor:
    """By how much the prototypes of each channel are purer than its prototypes among unseen clips.

    `gap_k = mean_p purity(training)_kp − mean_p purity(unseen)_kp`. The prototypes of a large set of clips are more
    active than those of a small one, and usually purer. So a fair comparison takes both from equally many clips, as a
    basis of `basis_from_matrix(bank, basis.scheme, basis.U)` has them for any bank.

    Args:
        training: purities of the prototypes among training clips, (channel, prototype), as `Prototypes.purities`.
        unseen: purities of the prototypes among unseen clips, (channel, prototype); their number may be another one.

    Returns:
        float64 tensor (channel,), in [-2, 2]: 0 where unseen clips are as pure, above 0 where the basis fits its own
        prototypes better.

    Raises:
        ValueError: the two have other channels, or values that are not finite.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import purity_gap
        >>> purity_gap(torch.tensor([[0.75, 0.25], [0.5, 0.5]]), torch.tensor([[0.25], [0.5]]))
        tensor([0.2500, 0.0000], dtype=torch.float64)

    Source: purity is EPIC's (arXiv 2505.12897), which reports that of the training clips; the difference is ours.
    """
    for name, purities in {"training": training, "unseen": unseen}.items():
        if purities.dim() != 2 or not purities.numel():
            raise ValueError(f"expected `{name}` of shape (channel, prototype), but got {tuple(purities.shape)}")
        check_finite(purities, f"`{name}`")
    if len(training) != len(unseen):
        raise ValueError(f"expected the same channels twice, but got {len(training)} and {len(unseen)}")
    return training.to(torch.float64).mean(1) - unseen.to(training.device, torch.float64).mean(1)
