"""Batches of clips: inputs, labels and lengths from the items of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import default_collate

__all__ = ["Collate"]


class Collate:
    """Makes `(inputs, labels, lengths)` of a list of items, None where there are none; a class so that workers can have it."""

    def __init__(self, collate_fn: Callable | None, padded: bool) -> None:
        self.collate_fn, self.padded = collate_fn, padded

    def __call__(self, items: list[Any]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Makes a batch of a list of items."""
        lengths = None
        if self.collate_fn is None:
            items, lengths = _padded(items) if self.padded else (items, None)
            _check_shapes(items)
        batch = (self.collate_fn or default_collate)(items)
        parts = [batch] if isinstance(batch, Tensor) else list(batch) if isinstance(batch, (tuple, list)) else []
        if self.padded and self.collate_fn is not None and len(parts) == 3:
            lengths = parts.pop()
        inputs, labels = [*parts, None][:2] if len(parts) in (1, 2) else (None, None)
        if not isinstance(inputs, Tensor) or isinstance(lengths, Tensor) != self.padded:
            raise TypeError(
                "expected the dataset's items to be `inputs` or `(inputs, label)` with `inputs` a tensor, but got "
                f"{_described(items[0])}; pass a `collate_fn` that returns (inputs, labels{', lengths' if self.padded else ''})"
            )
        return inputs, None if labels is None else _label_tensor(labels), lengths


def _padded(items: list[Any]) -> tuple[list[Any], Tensor]:
    """The items with zeros at the end of each clip, up to the longest one's length; and the lengths they had, int64 (clip,)."""
    clips = [item[0] if isinstance(item, (tuple, list)) and item else item for item in items]
    if not all(isinstance(clip, Tensor) and clip.dim() for clip in clips):
        return items, torch.empty(0)  # to be refused as what it is
    lengths = torch.tensor([clip.shape[-1] for clip in clips])
    longer = [pad(clip, (0, int(lengths.max()) - clip.shape[-1])) for clip in clips]
    return [
        (clip, *item[1:]) if isinstance(item, (tuple, list)) else clip for clip, item in zip(longer, items, strict=True)
    ], lengths


def _check_shapes(items: list[Any]) -> None:
    clips = [item[0] if isinstance(item, (tuple, list)) and item else item for item in items]
    shapes = [tuple(clip.shape) for clip in clips if hasattr(clip, "shape")]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"expected clips of one shape, but got {shapes[0]} and {next(s for s in shapes if s != shapes[0])}; pass a `collate_fn`, "
            "or `batch_size=1`, which runs every clip alone, or `columns` for a model that takes padded clips"
        )


def _label_tensor(labels: Any) -> Tensor:
    try:
        return torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"expected labels to be numbers or tensors, but got {_described(labels)}; map class names to indices first"
        ) from error


def _described(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} ({', '.join(type(part).__name__ for part in value)})"
    return type(value).__name__
