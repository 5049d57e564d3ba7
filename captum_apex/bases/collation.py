"""Batches of clips: inputs, labels and further arguments of the model from a list of the dataset's items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["Collate", "batch_labels", "first_clip", "naming_arguments"]

_CALLERS = ("torch.nn.modules.module", "captum_apex.bases.feature_pass")  # who calls a model


class Collate:
    """Makes a batch `(inputs, labels, arguments)` from a list of items; the workers of a DataLoader can receive it.

    Args:
        collate_fn: function of the caller that makes a batch from a list of items; None for torch's.
        padded: whether the model takes padded clips with their lengths.
        complete: refuse a batch with another number of clips than its list of items; otherwise clips are only counted
            at the end of a pass.

    Example:
        >>> import torch
        >>> from captum_apex.bases.collation import Collate
        >>> collate = Collate(None, padded=True)
        >>> inputs, labels, (lengths,) = collate([(torch.tensor([1.0, 2.0, 3.0]), 0), (torch.tensor([4.0]), 1)])
        >>> inputs.tolist(), labels.tolist(), lengths.tolist()
        ([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]], [0, 1], [3, 1])
    """

    def __init__(self, collate_fn: Callable | None, padded: bool, complete: bool = False) -> None:
        self.collate_fn = collate_fn
        self.padded = padded
        self.complete = complete

    def __call__(self, items: list[Any]) -> tuple[Tensor, Tensor | None, tuple[Any, ...]]:
        """Makes a batch from a list of items.

        Returns:
            Inputs (clip, ...); labels, None where the items have none; further arguments of the model, of which the
            first is the lengths, int64 (clip,), where clips are `padded`.

        Raises:
            TypeError: the items have no tensor as inputs, or labels that are not numbers.
            ValueError: clips differ in shape or number, there is not one label per clip, or a label is no class.
        """
        lengths: tuple[Any, ...] = ()
        if self.collate_fn is None:
            if self.padded:
                items, of_clips = _padded(items)
                lengths = (of_clips,)
            _check_shapes(items)
        batch = _collated(items) if self.collate_fn is None else self._batch_of_user(items)
        entries = [batch] if isinstance(batch, Tensor) else list(batch) if isinstance(batch, (tuple, list)) else []
        inputs, labels, *further = [*entries, None, None][: max(2, len(entries))]
        arguments = (*lengths, *further)
        if not isinstance(inputs, Tensor) or (self.padded and not isinstance((*arguments, None)[0], Tensor)):
            returned = "(inputs, labels, lengths)" if self.padded else "(inputs, labels)"
            raise TypeError(
                "expected the dataset's items to be `inputs`, `(inputs, label)` or `(inputs, label, argument, ...)` "
                f"with `inputs` a tensor, but got {_described(items[0])}; pass a `collate_fn` that returns {returned}"
            )
        if self.complete and len(inputs) != len(items):
            raise ValueError(
                f"expected `collate_fn` to keep all {len(items)} clips of a batch, but {len(inputs)} came; a bank in a "
                "`folder` goes on at the clip that it has come to"
            )
        return inputs, None if labels is None else batch_labels(labels, len(inputs)), arguments

    def _batch_of_user(self, items: list[Any]) -> Any:
        """What the function of the caller makes of the items."""
        assert self.collate_fn is not None
        try:
            return self.collate_fn(items)
        except Exception as error:  # it is the user's code and may raise anything
            raise ValueError(
                f"expected `collate_fn` to make a batch of {len(items)} items such as {_described(items[0])}, but it "
                f"raised {type(error).__name__}: {error}"
            ) from error


def _padded(items: list[Any]) -> tuple[list[Any], Tensor]:
    """The items with zeros at the end of each clip, up to the longest clip's length; and the lengths, int64 (clip,)."""
    clips = [_clip_of(item) for item in items]
    if not all(isinstance(clip, Tensor) and clip.dim() for clip in clips):
        return items, torch.empty(0)  # `Collate` refuses these items and describes them
    lengths = torch.tensor([clip.shape[-1] for clip in clips])
    longest = int(lengths.max())
    padded_items = []
    for item, clip in zip(items, clips, strict=True):
        padded_clip = pad(clip, (0, longest - clip.shape[-1]))
        padded_items.append((padded_clip, *item[1:]) if isinstance(item, (tuple, list)) else padded_clip)
    return padded_items, lengths


def _clip_of(item: Any) -> Any:
    """The inputs of an item, with or without a label."""
    return item[0] if isinstance(item, (tuple, list)) and item else item


def _check_shapes(items: list[Any]) -> None:
    clips = [_clip_of(item) for item in items]
    shapes = [tuple(clip.shape) for clip in clips if hasattr(clip, "shape")]
    if len(set(shapes)) > 1:
        other = next(shape for shape in shapes if shape != shapes[0])
        raise ValueError(
            f"expected clips of one shape, but got {shapes[0]} and {other}; pass a `collate_fn`, "
            "or `batch_size=1`, which runs every clip alone, or `columns` for a model that takes padded clips"
        )


def _collated(items: list[Any]) -> Any:
    """The inputs and the labels of the items, each stacked; the items themselves where they have another form.

    Labels are made tensors one by one: torch would take a list as one label of each of several kinds.
    """
    clips = [_clip_of(item) for item in items]
    n_entries = {len(item) if isinstance(item, (tuple, list)) else 0 for item in items}
    if not all(isinstance(clip, (Tensor, np.ndarray)) for clip in clips) or len(n_entries) > 1:
        return None  # `Collate` refuses these items and describes them
    inputs = torch.stack([torch.as_tensor(clip) for clip in clips])
    if max(n_entries) < 2:
        return inputs
    further = [_stacked([item[place] for item in items], place) for place in range(2, max(n_entries))]
    if further and all(item[1] is None for item in items):
        return inputs, None, *further
    labels = [_label_tensor(item[1]) for item in items]
    kinds = {tuple(label.shape) for label in labels}
    if len(kinds) > 1:
        raise ValueError(f"expected labels of one kind for all clips, but got labels of the shapes {sorted(kinds)}")
    return inputs, torch.stack(labels), *further


def _stacked(values: list[Any], place: int) -> Tensor:
    """An argument of the model for each clip as one tensor, (clip, ...)."""
    try:
        return torch.stack([torch.as_tensor(value) for value in values])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"expected entry {place} of the dataset's items, an argument of the model, to be a number or a tensor of "
            f"one shape for all clips, but got {_described(values)} ({error}); pass a `collate_fn` that returns "
            "(inputs, labels, argument, ...)"
        ) from error


def first_clip(inputs: Tensor, arguments: tuple[Any, ...]) -> list[Any]:
    """The inputs and the further arguments of the first clip of a batch; the first is a copy.

    Args:
        inputs: inputs of the batch; the first axis is the clip.
        arguments: further arguments; a tensor, an array or a list with as many entries as there are clips has one for
            each.

    Example:
        >>> import torch
        >>> from captum_apex.bases.collation import first_clip
        >>> first_clip(torch.zeros(2, 1), (torch.tensor([16, 12]), "mean"))
        [tensor([[0.]]), tensor([16]), 'mean']
    """
    return [
        inputs[:1].clone(),
        *(value[:1] if _is_per_clip(value, len(inputs)) else value for value in arguments),
    ]


def _is_per_clip(value: Any, n_clips: int) -> bool:
    """Whether an argument has an entry for each clip."""
    is_array = isinstance(value, (Tensor, np.ndarray)) and value.ndim > 0
    return (is_array or isinstance(value, (list, tuple))) and len(value) == n_clips


def batch_labels(labels: Any, n_clips: int) -> Tensor:
    """The labels of a batch of clips.

    Args:
        labels: indices of classes, (clip,) or (clip, 1), or a number for each class, (clip, class); in a tensor, an
            array, a pandas object or a list with an entry per clip.
        n_clips: number of clips in the batch.

    Returns:
        Indices int64 (clip,), or numbers (clip, class).

    Raises:
        TypeError: the labels are not numbers.
        ValueError: there is not one label per clip, or a label is negative, not a whole number, NaN or infinite.

    Example:
        >>> from captum_apex.bases.collation import batch_labels
        >>> batch_labels([[2], [0]], n_clips=2), batch_labels([[0.0, 1.0]], n_clips=1)
        (tensor([2, 0]), tensor([[0., 1.]]))
    """
    tensor = _label_tensor(labels)
    if tensor.shape[:1] != (n_clips,) or tensor.dim() > 2:
        raise ValueError(
            f"expected one label for each of the {n_clips} clips, (clip,) or (clip, class), but got shape "
            f"{tuple(tensor.shape)}"
        )
    if tensor.dim() == 2 and tensor.shape[1] == 1 and not (tensor.is_floating_point() or tensor.dtype == torch.bool):
        tensor = tensor[:, 0]  # an index in an axis of its own
    _check_labels(tensor)
    return tensor.long() if tensor.dim() == 1 else tensor


def _check_labels(labels: Tensor) -> None:
    """Refuses labels that name no class."""
    if labels.is_complex() or (labels < 0).any() or not labels.isfinite().all():
        raise ValueError(
            f"expected labels of at least 0, but got {_extreme(labels)}; leave the label of every clip out where it is "
            "not known"
        )
    if labels.dim() == 1 and (labels != labels.long()).any():
        raise ValueError(f"expected labels to be indices of classes, but got {labels[labels != labels.long()][0]:g}")


def _extreme(labels: Tensor) -> str:
    """The first label that is no class, for a message."""
    wrong = labels if labels.is_complex() else labels[(labels < 0) | ~labels.isfinite()]
    return f"{wrong.flatten()[0].item():g}"


def _label_tensor(labels: Any) -> Tensor:
    try:
        if isinstance(labels, (str, bytes)):  # torch would take the bytes for numbers
            raise TypeError("a text is no label")
        entries = list(labels) if not hasattr(labels, "dtype") and isinstance(labels, Iterable) else labels
        if isinstance(entries, list) and any(isinstance(entry, Tensor) for entry in entries):
            return torch.stack([torch.as_tensor(entry) for entry in entries])
        return torch.as_tensor(entries if isinstance(entries, (Tensor, list)) else np.asarray(entries))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"expected labels to be numbers or tensors, but got {_described(labels)}; map class names to "
            "indices first, and leave the labels out where one is missing"
        ) from error


def _described(value: Any) -> str:
    """The type of a value, and those of its first entries."""
    if isinstance(value, (tuple, list)):
        entries = [type(entry).__name__ for entry in value[:3]] + ["…"] * (len(value) > 3)
        return f"{type(value).__name__} ({', '.join(entries)})"
    return type(value).__name__


@contextmanager
def naming_arguments(arguments: Sequence[Any], padded: bool = False) -> Iterator[None]:
    """Inside, the error of a model that does not take the further arguments of the clips says where they come from.

    Args:
        arguments: what the model that runs inside is given after the inputs.
        padded: whether the first of them is the lengths of padded clips.

    Example:
        >>> from captum_apex.bases.collation import naming_arguments
        >>> from torch import nn
        >>> try:
        ...     with naming_arguments([3]):
        ...         nn.ReLU()(1, 3)
        ... except TypeError as error:
        ...     print(str(error).partition(";")[0])
        expected a model that takes 1 further arguments, because the items of the data set have them after the label
    """
    try:
        yield
    except TypeError as error:
        if not arguments or not _was_not_taken(error):
            raise
        n_of_items = len(arguments) - padded
        reasons = ["`columns` is given, and with it the lengths of the clips"] if padded else []
        reasons += ["the items of the data set have them after the label"] if n_of_items else []
        remedy = "leave them out of the items if the model takes none" if n_of_items else "leave `columns` out"
        raise TypeError(
            f"expected a model that takes {len(arguments)} further arguments, because {' and '.join(reasons)}; "
            f"{remedy} ({error})"
        ) from error


def _was_not_taken(error: TypeError) -> bool:
    """Whether it is the error of a call, which the caller raises, and not one inside of the model."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") in _CALLERS
