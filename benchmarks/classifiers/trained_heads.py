"""Interpretable heads that are trained on the features of a frozen network, and take the place of its own head.

Such a head predicts by itself: its classes may be others than those of the network. APEX explains the network's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 800
BATCH = 64
LEARNING_RATE = 1e-2
_TINY = 1e-8


class TrainedHead(nn.Module):
    """A head with logits that are sums over parts of the grid; the base class of the heads of this module.

    The features have the axes (clip, channel, row, column), the logits (clip, class).
    """

    def evidence(self, features: Tensor, target: Tensor) -> Tensor:
        """What speaks for a class in each cell, (clip, row, column).

        Args:
            features: features of the clips.
            target: index of the class of each clip, (clip,).
        """
        raise NotImplementedError

    def penalty(self) -> Tensor:
        """The term that is added to the cross-entropy in the training, a scalar."""
        raise NotImplementedError

    def start(self, features: Tensor, labels: Tensor) -> None:
        """Sets the first values of the parameters from training clips and their labels."""


class PrototypeHead(TrainedHead):
    """The head of AudioProtoPNet: similarities to prototypes of each class, whose weights are not negative.

    The logit of class c is `b_c + Σ_j relu(w_cj) max_s relu(cos(z_s, p_cj))`, with the cells `z_s` of the grid and the
    prototypes `p_cj` of the class.

    Args:
        n_channels: number of channels of the features.
        n_classes: number of classes.
        per_class: number of prototypes of each class.

    Source: Heinrich et al., "AudioProtoPNet" (arXiv 2404.10420), with its cosine similarity, prototypes of one cell,
    connections to the own class only, and orthogonality term. Deviations: the network below is frozen; the
    cross-entropy stands for the asymmetric loss where a clip has one class; the prototypes start at the cells with the
    largest norm of training clips of their class; and they are not moved to training cells at the end.

    Example:
        >>> import torch
        >>> from benchmarks.classifiers.trained_heads import PrototypeHead
        >>> head = PrototypeHead(n_channels=2, n_classes=2, per_class=1)
        >>> head.prototypes.data = torch.eye(2)[:, None]
        >>> logits = head(torch.tensor([[3.0, 0.0], [4.0, 1.0]])[None, :, None])  # cells (3, 4) and (0, 1)
        >>> [round(logit, 3) for logit in logits[0].tolist()]  # 10 times the largest cosines
        [6.0, 10.0]
    """

    ORTHOGONALITY = 0.01  # weight of the orthogonality term

    def __init__(self, n_channels: int, n_classes: int, per_class: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.rand(n_classes, per_class, n_channels))
        self.weights = nn.Parameter(torch.full((n_classes, per_class), 10.0 / per_class))
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def start(self, features: Tensor, labels: Tensor) -> None:
        """Puts the prototypes on the loudest cells of random clips of their class."""
        loudest = features.flatten(2).norm(dim=1).argmax(1)  # (clip,)
        cells = features.flatten(2)[torch.arange(len(loudest)), :, loudest]  # (clip, channel)
        for label, prototypes in enumerate(self.prototypes.data):
            of_class = cells[labels == label]
            if len(of_class):
                prototypes.copy_(of_class[torch.randint(len(of_class), (len(prototypes),))])

    def similarities(self, features: Tensor) -> Tensor:
        """`relu(cos(z_s, p_cj))` of each cell and prototype, (clip, class, prototype, row, column)."""
        prototypes = self.prototypes / self.prototypes.norm(dim=2, keepdim=True).clamp_min(_TINY)
        cells = features / features.norm(dim=1, keepdim=True).clamp_min(_TINY)
        return torch.einsum("ncrt,kjc->nkjrt", cells, prototypes).relu()

    def forward(self, features: Tensor) -> Tensor:
        """The logits (clip, class)."""
        return (self.similarities(features).amax((3, 4)) * self.weights.relu()).sum(2) + self.bias

    def evidence(self, features: Tensor, target: Tensor) -> Tensor:
        """The weighted similarities to the prototypes of the class, (clip, row, column)."""
        weighted = self.similarities(features) * self.weights.relu()[..., None, None]
        return weighted[torch.arange(len(target)), target].sum(1)

    def penalty(self) -> Tensor:
        """`0.01 Σ_c ‖P̂_c P̂_cᵀ − I‖²` with the normalised prototypes of each class as the rows of `P̂_c`."""
        rows = self.prototypes / self.prototypes.norm(dim=2, keepdim=True).clamp_min(_TINY)
        products = rows @ rows.mT  # (class, prototype, prototype)
        return self.ORTHOGONALITY * (products - torch.eye(products.shape[1]).to(products)).square().sum()


class ChannelHead(TrainedHead):
    """The head of InfoDisent: rotated channels, each reduced to two cells, with weights that are not negative.

    The value of channel k is `max_s relu(y_ks) − max_s relu(−y_ks)` with `y = U z` and an orthogonal `U`; the logit of
    class c is `Σ_k relu(w_ck) v_k`.

    Args:
        n_channels: number of channels of the features.
        n_classes: number of classes.

    Source: Struski et al., "InfoDisent" (arXiv 2409.10329). Deviations: the strongest cell is taken by the maximum in
    the training, too, and not by a Gumbel softmax; the sum of the weights is penalised to make them few.

    Example:
        >>> import torch
        >>> from benchmarks.classifiers.trained_heads import ChannelHead
        >>> head = ChannelHead(n_channels=2, n_classes=1)
        >>> _ = head.weights.data.fill_(1.0)
        >>> head(torch.tensor([[3.0, 0.0], [-4.0, 1.0]])[None, :, None]).item()  # 3 and 1 − 4; U starts at the identity
        0.0
    """

    SPARSENESS = 1e-4  # weight of the sum of the weights

    def __init__(self, n_channels: int, n_classes: int) -> None:
        super().__init__()
        self.angles = nn.Parameter(torch.zeros(n_channels, n_channels))
        self.weights = nn.Parameter(torch.rand(n_classes, n_channels) / n_channels)

    def mixed(self, features: Tensor) -> Tensor:
        """`U z` with `U = exp(A − Aᵀ)`, of the shape of the features."""
        U = torch.linalg.matrix_exp(self.angles - self.angles.mT)
        return torch.einsum("kc,ncrt->nkrt", U, features)

    def forward(self, features: Tensor) -> Tensor:
        """The logits (clip, class)."""
        mixed = self.mixed(features).flatten(2)
        return (mixed.relu().amax(2) - (-mixed).relu().amax(2)) @ self.weights.relu().mT

    def evidence(self, features: Tensor, target: Tensor) -> Tensor:
        """The weighted values of the channels, each in the two cells that it is made of, (clip, row, column)."""
        mixed = self.mixed(features)
        flat = mixed.flatten(2)
        shown = torch.zeros_like(flat)
        for signed in (flat, -flat):
            strongest = signed.argmax(2, keepdim=True)
            shown.scatter_(2, strongest, flat.gather(2, strongest) * (signed.gather(2, strongest) > 0))
        return torch.einsum("nk,nks->ns", self.weights.relu()[target], shown).unflatten(1, mixed.shape[2:])

    def penalty(self) -> Tensor:
        """`10⁻⁴ Σ_ck relu(w_ck)`."""
        return self.SPARSENESS * self.weights.relu().sum()


HEADS: dict[str, Callable[[int, int], TrainedHead]] = {
    "AudioProtoPNet, 1 prototype": partial(PrototypeHead, per_class=1),
    "AudioProtoPNet, 5 prototypes": partial(PrototypeHead, per_class=5),
    "AudioProtoPNet, 10 prototypes": partial(PrototypeHead, per_class=10),
    "InfoDisent": ChannelHead,
}
"""Functions from the number of channels and of classes to a head before its training, by the names of tables."""


def train_head(head: TrainedHead, features: Tensor, labels: Tensor) -> None:
    """Trains a head in place by Adam, with torch's global random number generator.

    Args:
        head: the head; its parameters are set anew.
        features: features of the training clips, (clip, channel, row, column).
        labels: index of the class of each clip, int64 (clip,).
    """
    head.start(features, labels)
    optimiser = torch.optim.Adam(head.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    order = torch.cat([torch.randperm(len(features)) for _ in range(BATCH * STEPS // len(features) + 1)])
    for chosen in order[: BATCH * STEPS].split(BATCH):
        optimiser.zero_grad()
        loss = F.cross_entropy(head(features[chosen]), labels[chosen]) + head.penalty()
        loss.backward()
        optimiser.step()
        schedule.step()
