"""The head of a published AudioProtoPNet, from the file of its weights: prototypes, connections, published cosine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.classifiers.trained_heads import PrototypeHead

PROTOTYPES = "prototype_vectors"
WEIGHTS = "last_layer.weight"
BIAS = "last_layer.bias"
BANDS = "frequency_weights"
BACKBONE = "backbone_model."
SHOWN_KEYS = 6  # keys that an error lists


class PublishedHead(PrototypeHead):
    """The head of AudioProtoPNet with the published arithmetic, for weights that were trained elsewhere.

    With the channels of a cell `z_s` and those of a prototype `p`, both followed by two channels of the value
    `ε = 10⁻⁴`, the similarity is

        `g_s = relu(σ(v_r) z_s · p / (1.01 · sqrt(‖z_s‖² + ε) · (sqrt(‖p‖² + ε) + ε)))`

    where `σ(v_r)` is the weight of the prototype in the row `r` of the cell, for models that have such weights. The
    logit of class c is `b_c + Σ_p relu(w_cp) max_s g_s`, over the prototypes of the class, or over all where the
    weights are of all.

    Args:
        prototypes: prototypes of each class, (class, prototype, channel).
        weights: connections of each class to its prototypes, (class, prototype), or to those of all classes,
            (class, class × prototype).
        bias: added to the logits, (class,).
        bands: the values `v` of each prototype in each row of the grid, (class, prototype, row); None for models that
            have none.
        enlarge: whether the grid is first enlarged to twice its size in both directions, bilinearly.

    Source: the code of Heinrich et al., github.com/DBD-research-group/AudioProtoPNet, `PPNet` in evaluation mode.

    Example:
        >>> import torch
        >>> from benchmarks.classifiers.published_head import PublishedHead
        >>> head = PublishedHead(torch.eye(2)[:, None], torch.full((2, 1), 10.0), torch.zeros(2), enlarge=False)
        >>> logits = head(torch.tensor([[300.0, 0.0], [400.0, 1.0]])[None, :, None])  # cells (300, 400) and (0, 1)
        >>> [round(logit, 2) for logit in logits[0].tolist()]  # 10 / 1.01 times the largest cosines, 0.6 and 1
        [5.94, 9.9]
    """

    SMALLEST = 1e-4  # ε: value of the added channels, and what is added to squared and to plain lengths
    ADDED_CHANNELS = 2
    CEILING = 1.01  # divides the cosine

    def __init__(
        self, prototypes: Tensor, weights: Tensor, bias: Tensor, bands: Tensor | None = None, *, enlarge: bool
    ) -> None:
        super().__init__(prototypes.shape[2], len(prototypes), prototypes.shape[1])
        self.prototypes = nn.Parameter(prototypes)
        self.weights = nn.Parameter(weights)
        self.bias = nn.Parameter(bias)
        self.bands = None if bands is None else nn.Parameter(bands)
        self.enlarge = enlarge

    def start(self, features: Tensor, labels: Tensor) -> None:
        """Leaves the parameters as they are: a training goes on from them."""

    def similarities(self, features: Tensor) -> Tensor:
        """The similarity of each cell and prototype, (clip, class, prototype, row, column).

        Raises:
            ValueError: the grid has another number of rows than the weights of the rows.
        """
        if self.enlarge:
            features = F.interpolate(features, scale_factor=2, mode="bilinear")
        added = self.ADDED_CHANNELS * self.SMALLEST**2  # of the added channels, in each product
        lengths = (features.square().sum(1) + added + self.SMALLEST).sqrt()  # (clip, row, column)
        products = torch.einsum("ncrt,kjc->nkjrt", features, self.prototypes) + added
        divisors = self.CEILING * lengths[:, None, None] * (self._lengths() + self.SMALLEST)[..., None, None]
        return (self._row_weights(features.shape[2]) * products / divisors).relu()

    def forward(self, features: Tensor) -> Tensor:
        """The logits (clip, class)."""
        strongest = self.similarities(features).amax((3, 4))  # (clip, class, prototype)
        if self._connects_all:
            return strongest.flatten(1) @ self.weights.relu().mT + self.bias
        return (strongest * self.weights.relu()).sum(2) + self.bias

    def evidence(self, features: Tensor, target: Tensor) -> Tensor:
        """The weighted similarities to the prototypes that the class is connected to, (clip, row, column)."""
        similarities = self.similarities(features)
        clips = torch.arange(len(target))
        connected = similarities.flatten(1, 2) if self._connects_all else similarities[clips, target]
        return (connected * self.weights.relu()[target][..., None, None]).sum(1)

    def penalty(self) -> Tensor:
        """The published orthogonality term: the norm of all `P̂_c P̂_cᵀ − I`, divided by how many numbers they have."""
        rows = self.prototypes / (self._lengths(added=0.0) + self.SMALLEST)[..., None]
        products = rows @ rows.mT  # (class, prototype, prototype)
        return (products - torch.eye(products.shape[1]).to(products)).norm() / products.numel()

    @property
    def _connects_all(self) -> bool:
        return self.weights.shape != self.prototypes.shape[:2]

    def _lengths(self, added: float = ADDED_CHANNELS * SMALLEST**2) -> Tensor:
        return (self.prototypes.square().sum(2) + added + self.SMALLEST).sqrt()  # (class, prototype)

    def _row_weights(self, n_rows: int) -> Tensor:
        if self.bands is None:
            return self.prototypes.new_ones(())
        if self.bands.shape[2] != n_rows:
            raise ValueError(
                f"expected features whose grid has {self.bands.shape[2]} rows, one for each of `{BANDS}`, but got "
                f"{n_rows} with `enlarge={self.enlarge}`; pass inputs of the size that the checkpoint was trained on"
            )
        return self.bands.sigmoid()[..., None]  # (class, prototype, row, 1)


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What a checkpoint of AudioProtoPNet holds.

    Attributes:
        head: the head, in evaluation mode.
        backbone: the weights of the network below it, by their names in that network, for its `load_state_dict`; empty
            if the checkpoint has none under `backbone_model.`.
    """

    head: PublishedHead
    backbone: dict[str, Tensor]


def published_checkpoint(source: str | Path | Mapping[str, Tensor], *, enlarge: bool = True) -> PublishedCheckpoint:
    """Reads a checkpoint in the layout of the published code of AudioProtoPNet; nothing is unpickled.

    The keys are `prototype_vectors` (prototype, channel, 1, 1), of which the same number belongs to each class, class
    after class; `last_layer.weight` (class, prototypes of a class) or (class, prototype); and where the model has them,
    `last_layer.bias` (class,), `frequency_weights` (prototype, row) and `backbone_model.…`. They may all have one
    prefix, such as `model.` of Lightning; keys without it are ignored where the backbone is among those with it.
    Weights below 0 count as 0, as in the published models. The tensors are copied.

    Args:
        source: path of a safetensors file, or a state dict.
        enlarge: whether the grid of the features is enlarged to twice its size before it is compared with the
            prototypes, which no key of a checkpoint tells; published models do.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no safetensors file, or the layout is another; the text names what is missing.

    Example:
        >>> import torch
        >>> from benchmarks.classifiers.published_head import published_checkpoint
        >>> weights = {
        ...     "model.prototype_vectors": torch.ones(6, 4, 1, 1),
        ...     "model.last_layer.weight": torch.ones(3, 2),
        ...     "model.last_layer.bias": torch.full((3,), -2.0),
        ...     "model.backbone_model.model.layernorm.weight": torch.ones(4),
        ... }
        >>> checkpoint = published_checkpoint(weights)
        >>> checkpoint.head(torch.ones(1, 4, 2, 5)).shape, list(checkpoint.backbone)
        (torch.Size([1, 3]), ['layernorm.weight'])
    """
    tensors = dict(source) if isinstance(source, Mapping) else _read(Path(source))
    prefix = _prefix(tensors)
    below = {
        key.removeprefix(prefix): value.detach().clone() for key, value in tensors.items() if key.startswith(prefix)
    }
    backbone = {key: value for key, value in below.items() if key.startswith(BACKBONE)}
    if not backbone and (others := [key for key in tensors if not key.startswith(prefix)]):
        raise ValueError(
            f"expected the weights of the network below the head as `{prefix}{BACKBONE}…`, or none, but got "
            f"{_listed(others)}; rename them, or leave them out to read the head alone"
        )
    head = _head({key: value for key, value in below.items() if key not in backbone}, prefix, enlarge)
    names = {key.removeprefix(BACKBONE).removeprefix("model."): value for key, value in backbone.items()}
    return PublishedCheckpoint(head.eval(), names)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"expected {path} to be a safetensors file, but it is none: {error}; read the file of another format with "
            "`torch.load(path, weights_only=True)`, and pass its state dict"
        ) from error


def _prefix(tensors: Mapping[str, Tensor]) -> str:
    found = [key for key in tensors if key == PROTOTYPES or key.endswith(f".{PROTOTYPES}")]
    if len(found) == 1:
        return found[0].removesuffix(PROTOTYPES)
    advice = "pass the weights of one AudioProtoPNet, as its `state_dict()` names them"
    if "state_dict" in tensors:
        advice = 'pass `checkpoint["state_dict"]`'
    raise ValueError(f"expected one key `{PROTOTYPES}`, but got {_listed(found or tensors)}; {advice}")


def _head(tensors: dict[str, Tensor], prefix: str, enlarge: bool) -> PublishedHead:
    _check_keys(tensors, prefix)
    _check_shapes(tensors)
    vectors = tensors[PROTOTYPES]
    weights = tensors[WEIGHTS]
    by_class = (len(weights), len(vectors) // len(weights))
    prototypes = vectors.flatten(1).unflatten(0, by_class)  # (prototype, channel, 1, 1) → (class, prototype, channel)
    bands = tensors[BANDS].unflatten(0, by_class) if BANDS in tensors else None
    bias = tensors.get(BIAS, vectors.new_zeros(len(weights)))
    return PublishedHead(prototypes, weights, bias, bands, enlarge=enlarge)


def _check_keys(tensors: dict[str, Tensor], prefix: str) -> None:
    if unknown := [key for key in tensors if key not in (PROTOTYPES, WEIGHTS, BIAS, BANDS)]:
        raise ValueError(
            f"expected only the keys `{PROTOTYPES}`, `{WEIGHTS}`, `{BIAS}`, `{BANDS}` and `{BACKBONE}…` after the "
            f"prefix {prefix!r}, but got {_listed(unknown)}; leave out what the model does not use in evaluation, a "
            "model that uses it is another one"
        )
    if WEIGHTS not in tensors:
        raise ValueError(
            f"expected the key `{prefix}{WEIGHTS}` beside `{prefix}{PROTOTYPES}`, but got {_listed(tensors)}; add the "
            "connections of the classes to the prototypes"
        )
    if wrong := [key for key, value in tensors.items() if not torch.is_floating_point(value)]:
        raise ValueError(
            f"expected `{wrong[0]}` to hold floats, but got {tensors[wrong[0]].dtype}; convert it, if it is quantised"
        )
    if wrong := [key for key, value in tensors.items() if not value.isfinite().all()]:
        raise ValueError(f"expected `{wrong[0]}` to hold finite numbers, but it has NaN or infinite ones")


def _check_shapes(tensors: dict[str, Tensor]) -> None:
    n_prototypes = len(tensors[PROTOTYPES])
    n_classes = max(len(tensors[WEIGHTS]), 1)
    per_class = n_prototypes // n_classes
    of_weights = ((n_classes, per_class), (n_classes, n_prototypes))
    wanted = {
        PROTOTYPES: "(prototype, channel, 1, 1), prototypes of one cell",
        WEIGHTS: f"(class, prototypes of a class) or (class, {n_prototypes}), the same number for each class",
        BIAS: f"({n_classes},), one number for each class",
        BANDS: f"({n_prototypes}, row), one number for each prototype and row",
    }
    right = {
        PROTOTYPES: lambda shape: len(shape) == 4 and shape[2:] == (1, 1),
        WEIGHTS: lambda shape: shape in of_weights and n_classes * per_class == n_prototypes > 0,
        BIAS: lambda shape: shape == (n_classes,),
        BANDS: lambda shape: len(shape) == 2 and shape[0] == n_prototypes,
    }
    for key in (each for each in wanted if each in tensors):
        shape = tuple(tensors[key].shape)
        if not right[key](shape):
            raise ValueError(
                f"expected `{key}` of shape {wanted[key]}, but got {shape}; prototypes that were pruned must stay, "
                "with weights of 0"
            )
    if not (tensors[WEIGHTS] > 0).any():
        raise ValueError(
            f"expected `{WEIGHTS}` with numbers above 0, because those below count as 0, but got at most "
            f"{tensors[WEIGHTS].max().item():g}"
        )


def _listed(keys: Mapping[str, Tensor] | list[str]) -> str:
    names = [f"`{key}`" for key in keys]
    more = len(names) - SHOWN_KEYS
    return ", ".join(names[:SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "") or "no key"
