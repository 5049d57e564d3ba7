"""AudioProtoPNet's head for clips with several classes or none, with the asymmetric loss that it was published with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.classifiers import trained_heads
from benchmarks.classifiers.trained_heads import PrototypeHead

FIRST_BIAS = -2.0
FIRST_WEIGHT = 1.0
_TINY = 1e-8


def asymmetric_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma_positive: float = 1.0,
    gamma_negative: float = 4.0,
    margin: float = 0.05,
) -> Tensor:
    """The asymmetric loss: classes that a clip lacks count little unless their probability is large.

    With the probability `p = σ(logit)` and `p_m = max(p − m, 0)`, the loss of a class is `−(1 − p)^γ₊ log p` where the
    clip has it, and `−p_m^γ₋ log(1 − p_m)` where it has not.

    Args:
        logits: scores before the sigmoid, (clip, class).
        labels: the classes of each clip as 0 and 1, (clip, class).
        gamma_positive: `γ₊`, how little classes count that are recognised.
        gamma_negative: `γ₋`, how little classes count that are absent and are recognised as such.
        margin: `m`; absent classes with a smaller probability do not count.

    Returns:
        The mean over clips and classes, a scalar.

    Raises:
        ValueError: the shapes differ.

    Source: Ridnik et al., "Asymmetric Loss For Multi-Label Classification" (ICCV 2021, arXiv 2009.14119), equations 5
    to 7, with the settings, the mean and the smallest probability 10⁻⁸ of AudioProtoPNet's code.

    Example:
        >>> import torch
        >>> from benchmarks.classifiers.sigmoid_heads import asymmetric_loss
        >>> logits = torch.tensor([[0.0, 0.0]])  # probabilities of 0.5: 0.5 log 2 and 0.45⁴ log(1 / 0.55), on average
        >>> round(asymmetric_loss(logits, torch.tensor([[1, 0]])).item(), 4)
        0.1855
    """
    if logits.shape != labels.shape:
        raise ValueError(
            f"expected one label, 0 or 1, for each of the logits of shape {tuple(logits.shape)}, but got labels of "
            f"shape {tuple(labels.shape)}; pass `torch.nn.functional.one_hot` of indices of classes"
        )
    present = logits.sigmoid()
    counted = (present - margin).clamp_min(0)
    of_present = (1 - present) ** gamma_positive * present.clamp_min(_TINY).log()
    of_absent = counted**gamma_negative * (1 - counted).clamp_min(_TINY).log()
    return -torch.where(labels > 0, of_present, of_absent).mean()


class SigmoidHead(PrototypeHead):
    """The head of AudioProtoPNet for clips with several classes: each logit has a sigmoid of its own.

    The logits are those of `PrototypeHead`. Weights begin at 1 and biases at −2, and the orthogonality term is the one
    of the published code, as the asymmetric loss is. Labels are 0 or 1 for each clip and class.

    Args:
        n_channels: number of channels of the features.
        n_classes: number of classes.
        per_class: number of prototypes of each class.

    Source: Heinrich et al., "AudioProtoPNet" (arXiv 2404.10420), and its code. Deviations: those of `PrototypeHead`,
    but for the loss; the optimiser and its steps are those of the other heads.

    Example:
        >>> import torch
        >>> from benchmarks.classifiers.sigmoid_heads import SigmoidHead
        >>> head = SigmoidHead(n_channels=2, n_classes=2, per_class=1)
        >>> head.prototypes.data = torch.eye(2)[:, None]
        >>> features = torch.tensor([[3.0, 0.0], [4.0, 1.0]])[None, :, None]  # cells (3, 4) and (0, 1)
        >>> [round(probability, 3) for probability in head(features).sigmoid()[0].tolist()]  # of −1.4 and −1
        [0.198, 0.269]
    """

    def __init__(self, n_channels: int, n_classes: int, per_class: int) -> None:
        super().__init__(n_channels, n_classes, per_class)
        nn.init.constant_(self.weights, FIRST_WEIGHT)
        nn.init.constant_(self.bias, FIRST_BIAS)

    def start(self, features: Tensor, labels: Tensor) -> None:
        """Puts the prototypes on the loudest cells of random clips that have their class.

        Args:
            features: features of the training clips.
            labels: the classes of each clip as 0 and 1, (clip, class).
        """
        clips, classes = labels.nonzero(as_tuple=True)
        super().start(features[clips], classes)

    def penalty(self) -> Tensor:
        """`‖(P̂_c P̂_cᵀ − I)_c‖` of all classes together, divided by how many numbers these matrices have."""
        rows = self.prototypes / self.prototypes.norm(dim=2, keepdim=True).clamp_min(_TINY)
        products = rows @ rows.mT  # (class, prototype, prototype)
        return (products - torch.eye(products.shape[1]).to(products)).norm() / products.numel()


SIGMOID_HEADS: dict[str, Callable[[int, int], SigmoidHead]] = {
    "AudioProtoPNet, 10 prototypes, asymmetric loss": partial(SigmoidHead, per_class=10),
}
"""Functions from the number of channels and of classes to a head before its training, by the names of tables."""


def train_sigmoid_head(head: SigmoidHead, features: Tensor, labels: Tensor) -> None:
    """Trains a head in place as `train_head` does, with the asymmetric loss.

    Args:
        head: the head; its prototypes are set anew.
        features: features of the training clips, (clip, channel, row, column).
        labels: the classes of each clip as 0 and 1, (clip, class).
    """
    head.start(features, labels)
    optimiser = torch.optim.Adam(head.parameters(), trained_heads.LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, trained_heads.STEPS)
    n_seen = trained_heads.BATCH * trained_heads.STEPS
    order = torch.cat([torch.randperm(len(features)) for _ in range(n_seen // len(features) + 1)])
    for chosen in order[:n_seen].split(trained_heads.BATCH):
        optimiser.zero_grad()
        loss = asymmetric_loss(head(features[chosen]), labels[chosen]) + head.penalty()
        loss.backward()
        optimiser.step()
        schedule.step()
