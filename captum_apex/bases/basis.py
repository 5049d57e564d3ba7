"""The fitted artefact: a disentangled basis of a layer's channels, with the prototypes of each channel."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from captum_apex.bases.schemes import Scheme
from captum_apex.files import replaced
from captum_apex.layers.origin import Origin

__all__ = ["PrototypeBasis", "Prototypes"]

_FORMAT = "captum-apex basis 1"


@dataclass(frozen=True, eq=False)
class Prototypes:
    """The prototypes of one side of every channel, best first.

    Args:
        indices: the clips, as indices into the dataset, int64 (channel, prototype).
        activations: mean of the channel over the clip's grid, (channel, prototype).
        purities: in [-1, 1], (channel, prototype).
        peaks: the peak cell in each of the scheme's sequences, int64 (channel, prototype, sequence), counted in the clip's own grid.
        labels: the clips' labels, (channel, prototype) or (channel, prototype, class); None where the dataset has none.
        columns: how many columns the clips' grids have, int64 (channel, prototype); None where all have those of the basis's origin.
    """

    indices: Tensor
    activations: Tensor
    purities: Tensor
    peaks: Tensor
    labels: Tensor | None = None
    columns: Tensor | None = None


@dataclass(frozen=True, eq=False)
class PrototypeBasis:
    """An invertible change of channels and, where it was fitted on clips, the prototypes of every channel.

    Args:
        U: (channel, channel); `Ẑ[:, i, j] = U · Z[:, i, j]` at every position of the grid.
        scheme: the perspective that it was fitted for.
        positive: the clips that activate each channel most; None for a matrix without prototypes.
        negative: the clips with the most negative activation, for explanations with both sides.
        purity_history: mean purity of the prototypes before fitting and after each epoch, (epoch + 1,).
        origin: the layer, the grid and the weights that it was fitted on.

    Raises:
        ValueError: where an entry is not finite, `U` is not square and invertible, or shapes do not agree.

    >>> basis = PrototypeBasis(torch.eye(3), "time")
    >>> basis.scheme, basis.n_channels, basis.prototype_indices
    (<Scheme.TIME: 'time'>, 3, None)
    """

    U: Tensor
    scheme: Scheme
    positive: Prototypes | None = None
    negative: Prototypes | None = None
    purity_history: Tensor = field(default_factory=lambda: torch.empty(0))
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scheme", Scheme(self.scheme))
        object.__setattr__(
            self, "U", self.U.detach().clone()
        )  # what the caller does with its tensor later does not reach the basis
        for name, tensor in _tensors(self).items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise ValueError(f"expected `{name}` to be finite, but it has NaN or infinity")
        if self.U.dim() != 2 or self.U.shape[0] != self.U.shape[1] or not self.U.is_floating_point():
            raise ValueError(
                f"expected `U` to be a square matrix of floats, but got {self.U.dtype} of shape {tuple(self.U.shape)}"
            )
        _ = self.inverse
        for side in ("positive", "negative"):
            _check_prototypes(side, getattr(self, side), self)

    @property
    def n_channels(self) -> int:
        """Width of the layer."""
        return self.U.shape[0]

    @cached_property
    def inverse(self) -> Tensor:
        """U⁻¹ in float64, (channel, channel)."""
        inverse, failed = torch.linalg.inv_ex(self.U.double())
        if failed or not inverse.isfinite().all():
            raise ValueError("expected `U` to be invertible, but it is singular")
        return inverse

    @property
    def prototype_indices(self) -> Tensor | None:
        """Clips that activate each channel most, best first, int64 (channel, prototype), into the dataset."""
        return None if self.positive is None else self.positive.indices

    def save(self, path: str | os.PathLike) -> None:
        """Writes one safetensors file, beside the target first, then renamed: an interrupted save leaves the old file whole."""
        about = {"scheme": str(self.scheme), "origin": asdict(self.origin)}
        tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in _tensors(self).items()}
        with replaced(path) as beside:
            save_file(tensors, beside, {"format": _FORMAT, "about": json.dumps(about)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> PrototypeBasis:
        """Reads a basis that `save` wrote; nothing in the file is executed.

        Raises:
            FileNotFoundError: where there is no such file.
            ValueError: naming the file, where it is damaged, truncated or something else.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"expected a basis file at {os.fspath(path)}, but there is none")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise ValueError(f"its format is {metadata.get('format')!r}, not {_FORMAT!r}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is not a dict
            return _from_parts(tensors, json.loads(metadata["about"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected {os.fspath(path)} to be a captum-apex basis, but it cannot be read: {error}"
            ) from error


def _tensors(basis: PrototypeBasis) -> dict[str, Tensor]:
    tensors = {"U": basis.U, "purity_history": basis.purity_history}
    for side in ("positive", "negative"):
        prototypes = getattr(basis, side)
        if prototypes is not None:
            tensors |= {f"{side}.{f.name}": getattr(prototypes, f.name) for f in fields(prototypes)}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _from_parts(tensors: dict[str, Tensor], about: dict[str, Any]) -> PrototypeBasis:
    sides = {}
    for side in ("positive", "negative"):
        own = {name.removeprefix(f"{side}."): tensor for name, tensor in tensors.items() if name.startswith(f"{side}.")}
        sides[side] = Prototypes(**own) if own else None
    origin = Origin.from_dict(about["origin"])
    return PrototypeBasis(
        tensors["U"], about["scheme"], purity_history=tensors["purity_history"], origin=origin, **sides
    )


def _check_prototypes(side: str, prototypes: Prototypes | None, basis: PrototypeBasis) -> None:
    if prototypes is None:
        return
    indices, n_clips = prototypes.indices, basis.origin.n_clips
    if indices.dtype != torch.int64 or indices.dim() != 2 or indices.shape[0] != basis.n_channels:
        raise ValueError(
            f"expected `{side}.indices` to be int64 (channel, prototype) with {basis.n_channels} channels, "
            f"but got {indices.dtype} of shape {tuple(indices.shape)}"
        )
    if indices.numel() and (indices.min() < 0 or (n_clips and indices.max() >= n_clips)):
        raise ValueError(
            f"expected `{side}.indices` to lie in the dataset of {n_clips} clips, but they reach from {indices.min()} to {indices.max()}"
        )
    shape, n_sequences = tuple(indices.shape), len(basis.scheme.sequences)
    if prototypes.peaks.dtype != torch.int64 or (prototypes.peaks.numel() and prototypes.peaks.min() < 0):
        raise ValueError(
            f"expected `{side}.peaks` to be cell indices, int64 from 0 on, but got {prototypes.peaks.dtype}"
        )
    if prototypes.labels is not None and tuple(prototypes.labels.shape[:2]) != tuple(indices.shape):
        raise ValueError(
            f"expected `{side}.labels` of shape {tuple(indices.shape)}, but got {tuple(prototypes.labels.shape)}"
        )
    wanted = {"activations": shape, "purities": shape, "peaks": (*shape, n_sequences)}
    if prototypes.columns is not None:
        wanted["columns"] = shape
    for name, expected in wanted.items():
        got = tuple(getattr(prototypes, name).shape)
        if got != expected:
            raise ValueError(f"expected `{side}.{name}` of shape {expected}, but got {got}")
