"""Labels with a number for each class, most of which are 0: stored in a file as the others alone."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["dense_labels", "sparse_labels"]

_PARTS = ("places", "values", "shape")
_MOST_VALUES = 2**32  # that are made of a file; a small file may ask for more than there is memory


def sparse_labels(name: str, labels: Tensor) -> dict[str, Tensor] | None:
    """The tensors to store in place of labels, by their names; None where they would be no smaller.

    Args:
        name: name of the labels.
        labels: labels, (…, class).

    Example:
        >>> import torch
        >>> from captum_apex.bases.sparse_labels import dense_labels, sparse_labels
        >>> labels = torch.zeros(1, 2, 50)
        >>> labels[0, 1, 7] = 1.0
        >>> stored = sparse_labels("labels", labels)
        >>> {key: tensor.tolist() for key, tensor in stored.items()}
        {'labels.places': [57], 'labels.values': [1.0], 'labels.shape': [1, 2, 50]}
        >>> torch.equal(dense_labels("labels", stored), labels)
        True
    """
    flat = labels.flatten()
    places = flat.nonzero()[:, 0]
    parts = (places, flat[places], torch.tensor(labels.shape))
    if sum(part.nbytes for part in parts) >= labels.nbytes:
        return None
    return {f"{name}.{part}": tensor for part, tensor in zip(_PARTS, parts, strict=True)}


def dense_labels(name: str, tensors: dict[str, Tensor]) -> Tensor | None:
    """The labels that `sparse_labels` stored, whose tensors are taken out of the dictionary; None where there are none.

    Args:
        name: name of the labels.
        tensors: tensors by name.

    Raises:
        KeyError: one of the tensors is missing.
        ValueError: they do not fit each other.

    Example:
        >>> from captum_apex.bases.sparse_labels import dense_labels
        >>> print(dense_labels("labels", {}))
        None
    """
    if f"{name}.shape" not in tensors:
        return None
    places, values, shape = (tensors.pop(f"{name}.{part}") for part in _PARTS)
    sizes = shape.tolist() if shape.dim() == 1 else []
    if len(sizes) != 3 or shape.dtype != torch.int64 or min(sizes) < 0:
        raise ValueError(f"expected the shape of `{name}` as three sizes, but got {shape.tolist()}")
    if places.dtype != torch.int64 or places.dim() != 1 or places.shape != values.shape:
        raise ValueError(f"expected a place for each value of `{name}`, but got {tuple(places.shape)}")
    n_values = sizes[0] * sizes[1] * sizes[2]
    if n_values > _MOST_VALUES:
        raise ValueError(f"expected at most {_MOST_VALUES:,} values of `{name}`, but got the shape {tuple(sizes)}")
    if places.numel() and (int(places.min()) < 0 or int(places.max()) >= n_values):
        raise ValueError(f"expected places in `{name}` of shape {tuple(sizes)}, but they reach to {places.max()}")
    labels = torch.zeros(n_values, dtype=values.dtype)
    labels[places] = values
    return labels.view(sizes)
