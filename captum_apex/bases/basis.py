"""A disentangled basis of a layer's channels, with the prototypes of each channel."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_apex.audio.regions import Region
from captum_apex.bases.schemes import Scheme
from captum_apex.bases.sparse_labels import dense_labels, sparse_labels
from captum_apex.bases.summaries import is_orthogonal, layer_in_words, prototypes_in_words
from captum_apex.files import read_tensors, write_tensors
from captum_apex.layers.origin import Origin
from captum_apex.result_tables import counted, html_table

__all__ = ["PrototypeBasis", "Prototypes"]

_FORMAT = "captum-apex basis 2"
_SPARSE_LABELS = "captum-apex basis 3"
_WITHOUT_CHECKSUM = "captum-apex basis 1"
_NO_LIMIT = 2**62
_N_NO_SOUNDS = 5  # length of `captum_apex.locating.nothing.NO_SOUNDS`
_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False, repr=False)
class Prototypes:
    """The prototypes of one side of every channel, best first.

    Args:
        indices: indices of the clips in the dataset, int64 (channel, prototype).
        activations: mean of the channel over the clip's grid, (channel, prototype).
        purities: purity of each prototype, in [-1, 1], (channel, prototype).
        peaks: index of the peak cell in each of the scheme's sequences, int64 (channel, prototype, sequence), counted
            in the grid of the clip.
        labels: labels of the clips, (channel, prototype) or (channel, prototype, class); None where the dataset has
            none.
        columns: number of columns of the clips' grids, int64 (channel, prototype); None where all grids have the size
            in the origin of the basis.
        boxes: regions of the prototypes in their clips, from `locate_prototypes`: low, high, start and end of each box
            as fractions of the axes, (channel, prototype, box, 4), −1 where there is no box; None without regions.
        effects: share of the channel's activation that masking the region takes away, then the same for random places,
            (channel, prototype, 1 + place).
        fires_on: what the channel fires on, as a number in `captum_apex.locating.nothing.NO_SOUNDS`, int64 (channel,
            prototype); −1 where no effect was measured.

    Example:
        >>> import torch
        >>> from captum_apex import PrototypeBasis, Prototypes
        >>> indices = torch.tensor([[4], [7]])
        >>> peaks = torch.tensor([[[0]], [[2]]])
        >>> prototypes = Prototypes(indices, activations=torch.ones(2, 1), purities=torch.ones(2, 1), peaks=peaks)
        >>> PrototypeBasis(torch.eye(2), "time", prototypes).prototype_indices.tolist()
        [[4], [7]]
    """

    indices: Tensor
    activations: Tensor
    purities: Tensor
    peaks: Tensor
    labels: Tensor | None = None
    columns: Tensor | None = None
    boxes: Tensor | None = None
    effects: Tensor | None = None
    fires_on: Tensor | None = None

    def __repr__(self) -> str:
        channels = counted(len(self.indices), "channel")
        return f"Prototypes of {channels}: {prototypes_in_words(self.purities, self.boxes, Origin())}"


def matrix_tensor(matrix: Any) -> Tensor:
    """A matrix as a tensor, from a tensor, an array or nested lists.

    Raises:
        TypeError: the value is none of these.

    Example:
        >>> import numpy as np
        >>> from captum_apex.bases.basis import matrix_tensor
        >>> matrix_tensor(np.eye(2, dtype=np.float32))
        tensor([[1., 0.],
                [0., 1.]])
    """
    try:
        return torch.as_tensor(matrix)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"expected `U` to be a matrix, but got {type(matrix).__name__}") from error


@dataclass(frozen=True, eq=False, repr=False)
class PrototypeBasis:
    """An invertible change of channels and, where it was fitted on clips, the prototypes of every channel.

    Args:
        U: invertible matrix, (channel, channel); `Ẑ[:, i, j] = U · Z[:, i, j]` at every position of the grid.
        scheme: the scheme that the basis was fitted for, by name or object.
        positive: prototypes of the positive side, the clips with the largest activation of each channel; None for a
            matrix without prototypes.
        negative: prototypes of the negative side, the clips with the most negative activation of each channel.
        purity_history: mean purity of the prototypes before fitting and after each epoch, (epoch + 1,). In banks of
            more than 8192 clips they are, after an epoch without a new choice, the most active of those before it.
        origin: the layer, the grid and the weights that the basis was fitted on.

    Raises:
        ValueError: an entry is not finite, `U` is not square and invertible, or shapes do not fit each other.

    Example:
        >>> import torch
        >>> from captum_apex import PrototypeBasis
        >>> basis = PrototypeBasis(torch.tensor([[2.0, 0.0], [0.0, 4.0]]), "time")
        >>> basis.scheme, basis.n_channels, basis.inverse.tolist()
        (<Scheme.TIME: 'time'>, 2, [[0.5, 0.0], [0.0, 0.25]])
    """

    U: Tensor
    scheme: Scheme
    positive: Prototypes | None = None
    negative: Prototypes | None = None
    purity_history: Tensor = field(default_factory=lambda: torch.empty(0))
    origin: Origin = field(default_factory=Origin)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scheme", Scheme(self.scheme))
        # A copy: the caller may change its tensor later.
        object.__setattr__(self, "U", matrix_tensor(self.U).detach().clone())
        for name, tensor in _tensors(self).items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise ValueError(f"expected `{name}` to be finite, but it has NaN or infinity")
        if self.U.dim() != 2 or self.U.shape[0] != self.U.shape[1] or not self.U.is_floating_point():
            raise ValueError(
                f"expected `U` to be a square matrix of floats, but got {self.U.dtype} of shape {tuple(self.U.shape)}"
            )
        _ = self.inverse  # raises for a singular matrix
        if self.purity_history.dim() != 1:
            raise ValueError(f"expected `purity_history` (epoch,), but got shape {tuple(self.purity_history.shape)}")
        _check_range("purity_history", self.purity_history, -1, 1)
        for side in ("positive", "negative"):
            _check_prototypes(side, getattr(self, side), self)

    @property
    def n_channels(self) -> int:
        """Number of channels of the layer."""
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
        """Indices of the clips that activate each channel most, best first, int64 (channel, prototype)."""
        return None if self.positive is None else self.positive.indices

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what the channels are: the scheme, the matrix, and the layer and the model of the origin.

        Example:
            >>> import torch
            >>> from captum_apex import PrototypeBasis
            >>> PrototypeBasis(torch.eye(2), "time").fingerprint[:12]
            '0b7fd02da799'
        """
        about = (str(self.scheme), self.origin.layer, self.origin.fingerprint, self.U.shape)
        digest = hashlib.sha256(repr(about).encode(errors="replace"))
        digest.update(self.U.cpu().double().numpy().tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        lines = [f"  {name}: {text}" for name, text in self._summary()]
        return "\n".join([f"PrototypeBasis for {str(self.scheme)!r}, {self._channels_in_words()}", *lines])

    def _repr_html_(self) -> str:
        rows = [("scheme", self.scheme), ("channels", self._channels_in_words()), *self._summary()]
        return html_table([], rows, "PrototypeBasis")

    def _channels_in_words(self) -> str:
        return f"{counted(self.n_channels, 'channel')}, {'orthogonal' if is_orthogonal(self.U) else 'invertible'}"

    def _summary(self) -> list[tuple[str, str]]:
        purities = None if self.positive is None else self.positive.purities
        boxes = None if self.positive is None else self.positive.boxes
        prototypes = prototypes_in_words(purities, boxes, self.origin)
        return [("layer", layer_in_words(self.origin)), ("prototypes", prototypes)]

    def region(self, peaks: Sequence[int], n_rows: int, n_columns: int, *, intersection: bool = False) -> Region:
        """The region that peak cells cover, where the cells of the layer lie in the input.

        Args:
            peaks: index of the peak cell in each of the scheme's sequences.
            n_rows: number of frequency rows of the layer's grid.
            n_columns: number of its time columns.
            intersection: the rectangle where strip and band of `time-frequency` meet, as in `Scheme.region`.

        Example:
            >>> import torch
            >>> from captum_apex import PrototypeBasis
            >>> PrototypeBasis(torch.eye(2), "time").region([1], n_rows=1, n_columns=4).boxes
            (Box(low=0.0, high=1.0, start=0.25, end=0.5),)
        """
        return self.scheme.region(peaks, n_rows, n_columns, intersection=intersection, places=self.origin.places)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the basis to one safetensors file with a checksum.

        After an interrupted save the old file is unchanged. A file that is replaced keeps its permissions.

        Raises:
            OSError: the file cannot be written.
        """
        about = {"scheme": str(self.scheme), "origin": asdict(self.origin)}
        tensors = _tensors(self)
        written_as = _FORMAT  # earlier versions read it too
        for name in ("positive.labels", "negative.labels"):
            if name in tensors and tensors[name].dim() == 3 and (stored := sparse_labels(name, tensors[name])):
                del tensors[name]
                tensors |= stored
                written_as = _SPARSE_LABELS
        write_tensors(path, tensors, {"format": written_as, "about": json.dumps(about)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> PrototypeBasis:
        """Reads a basis that `save` wrote into memory; nothing in the file is executed.

        The file is compared with its checksum. Files of versions before the checksum load as well; damage in them is
        noticed only where shapes do not fit or values are out of range.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, truncated or not a basis (the message names the file).
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"expected a basis file at {os.fspath(path)}, but there is none")
        try:
            tensors, metadata = read_tensors(path, {_FORMAT: True, _SPARSE_LABELS: True, _WITHOUT_CHECKSUM: False})
            return _from_tensors(tensors, json.loads(metadata["about"]))
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected {os.fspath(path)} to be a captum-apex basis, but it cannot be read: {error}"
            ) from error


def _tensors(basis: PrototypeBasis) -> dict[str, Tensor]:
    """The tensors of a basis by their names in the file, such as `positive.indices`."""
    tensors = {"U": basis.U, "purity_history": basis.purity_history}
    for side in ("positive", "negative"):
        prototypes = getattr(basis, side)
        if prototypes is not None:
            tensors |= {f"{side}.{f.name}": getattr(prototypes, f.name) for f in fields(prototypes)}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _from_tensors(tensors: dict[str, Tensor], about: dict[str, Any]) -> PrototypeBasis:
    """The inverse of `_tensors`, with the scheme and the origin from the file's metadata."""
    sides = {}
    for side in ("positive", "negative"):
        prefix = f"{side}."
        labels = dense_labels(f"{prefix}labels", tensors)
        entries = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        entries |= {} if labels is None else {"labels": labels}
        sides[side] = Prototypes(**entries) if entries else None
    origin = Origin.from_dict(about["origin"])
    _check_origin(origin)
    return PrototypeBasis(
        tensors["U"], about["scheme"], purity_history=tensors["purity_history"], origin=origin, **sides
    )


def _check_prototypes(side: str, prototypes: Prototypes | None, basis: PrototypeBasis) -> None:
    """Raises a ValueError where the prototypes of a side do not fit the basis."""
    if prototypes is None:
        return
    indices = prototypes.indices
    n_clips = basis.origin.n_clips
    if indices.dtype != torch.int64 or indices.dim() != 2 or indices.shape[0] != basis.n_channels:
        raise ValueError(
            f"expected `{side}.indices` to be int64 (channel, prototype) with {basis.n_channels} channels, "
            f"but got {indices.dtype} of shape {tuple(indices.shape)}"
        )
    if indices.numel() and (indices.min() < 0 or (n_clips and indices.max() >= n_clips)):
        raise ValueError(
            f"expected `{side}.indices` to lie in the dataset of {n_clips} clips, but they reach from {indices.min()} "
            f"to {indices.max()}"
        )
    if prototypes.peaks.dtype != torch.int64 or (prototypes.peaks.numel() and prototypes.peaks.min() < 0):
        raise ValueError(
            f"expected `{side}.peaks` to be cell indices, int64 from 0 on, but got {prototypes.peaks.dtype}"
        )
    if prototypes.labels is not None and tuple(prototypes.labels.shape[:2]) != tuple(indices.shape):
        raise ValueError(
            f"expected `{side}.labels` of shape {tuple(indices.shape)}, but got {tuple(prototypes.labels.shape)}"
        )
    _check_shapes_of_prototypes(side, prototypes, len(basis.scheme.sequences))
    _check_values_of_prototypes(side, prototypes, basis)


def _check_shapes_of_prototypes(side: str, prototypes: Prototypes, n_sequences: int) -> None:
    shape = tuple(prototypes.indices.shape)
    shapes = {"activations": shape, "purities": shape, "peaks": (*shape, n_sequences)}
    shapes |= {name: shape for name in ("columns", "fires_on") if getattr(prototypes, name) is not None}
    if prototypes.boxes is not None:
        shapes["boxes"] = (*shape, prototypes.boxes.shape[2] if prototypes.boxes.dim() == 4 else 1, 4)
    if prototypes.effects is not None:
        shapes["effects"] = (*shape, prototypes.effects.shape[2] if prototypes.effects.dim() == 3 else 1)
    for name, expected in shapes.items():
        got = tuple(getattr(prototypes, name).shape)
        if got != expected:
            raise ValueError(f"expected `{side}.{name}` of shape {expected}, but got {got}")


def _check_values_of_prototypes(side: str, prototypes: Prototypes, basis: PrototypeBasis) -> None:
    """Raises a ValueError where a value cannot be what it stands for, such as a region outside the clip."""
    grid = basis.origin.grid
    n_columns = _NO_LIMIT if grid is None else grid[1]
    _check_range(f"{side}.purities", prototypes.purities, -1, 1)
    if prototypes.columns is not None:
        _check_range(f"{side}.columns", prototypes.columns, 1, n_columns, torch.int64)
    if prototypes.fires_on is not None:
        _check_range(f"{side}.fires_on", prototypes.fires_on, -1, _N_NO_SOUNDS - 1, torch.int64)
    if grid is not None:
        columns = torch.tensor(n_columns) if prototypes.columns is None else prototypes.columns
        rows = torch.tensor(grid[0])
        n_cells = {Scheme.TIME: columns, Scheme.FREQUENCY: rows, Scheme.SQUARE: rows * columns}
        for i, sequence in enumerate(basis.scheme.sequences):
            if (prototypes.peaks[..., i] >= n_cells[sequence]).any():
                raise ValueError(
                    f"expected `{side}.peaks` to be cells of a grid of {grid[0]} rows and {grid[1]} columns, but they "
                    f"reach to {prototypes.peaks[..., i].max()}"
                )
    if prototypes.boxes is not None:
        boxes = prototypes.boxes[(prototypes.boxes != -1).any(-1)]  # (box, 4)
        _check_range(f"{side}.boxes", boxes, 0, 1)
        if (boxes[:, 0::2] >= boxes[:, 1::2]).any():
            raise ValueError(f"expected `{side}.boxes` to end behind their beginning, but one does not")


def _check_range(name: str, values: Tensor, lowest: float, highest: float, dtype: torch.dtype | None = None) -> None:
    """Raises a ValueError for values beyond a range by more than rounding, or of another type; floats by default."""
    if values.dtype != dtype if dtype is not None else not values.is_floating_point():
        raise ValueError(f"expected `{name}` to be {dtype or 'floats'}, but got {values.dtype}")
    if values.numel() and (values.min() < lowest - _ROUNDING or values.max() > highest + _ROUNDING):
        raise ValueError(
            f"expected `{name}` to lie between {lowest} and {highest}, but they reach from {values.min()} to "
            f"{values.max()}"
        )


def _check_origin(origin: Origin) -> None:
    """Raises a ValueError where a file's record of the layer has values of another kind."""
    sizes = [size for sizes in (origin.grid, origin.input_shape) if sizes is not None for size in sizes]
    if not all(isinstance(size, int) and size > 0 for size in sizes) or len(origin.grid or (1, 1)) != 2:
        raise ValueError(f"expected sizes of the grid and of inputs, but got {origin.grid} and {origin.input_shape}")
    texts = (origin.layer, origin.fingerprint, origin.dataset, origin.norm)
    if not all(isinstance(text, str) for text in texts) or not isinstance(origin.n_clips, int):
        raise ValueError(f"expected a record of the layer, but got {origin}")
