"""Loads the clips of a dataset in their order, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler, default_collate

from captum_apex.bases.collation import Collate
from captum_apex.numbers import whole_number

__all__ = ["ClipLoading"]

_OF_WORKERS = ("prefetch_factor", "timeout", "worker_init_fn", "multiprocessing_context")


@dataclass(frozen=True)
class ClipLoading:
    """A dataset, and how its clips are loaded.

    Args:
        dataset: the clips.
        batch_size: number of clips in a batch.
        collate: makes a batch from a list of items.
        settings: further settings of the `DataLoader`, such as the number of workers.

    Example:
        >>> import torch
        >>> from captum_apex.bases.clip_loading import ClipLoading
        >>> loading = ClipLoading.of(torch.eye(3), batch_size=2)
        >>> loading.n_clips, [inputs.tolist() for inputs, _, _ in loading.batches(range(1, 3))]
        (3, [[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    """

    dataset: Dataset | Sequence
    batch_size: int
    collate: Collate
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        dataset: Dataset | Sequence | DataLoader,
        batch_size: int = 32,
        num_workers: int = 0,
        collate_fn: Callable | None = None,
        *,
        padded: bool = False,
        complete: bool = False,
    ) -> ClipLoading:
        """The loading that arguments ask for, those of a `DataLoader` where one is given.

        Args:
            dataset: a map-style dataset, or a `DataLoader` that goes through one in its order.
            batch_size: number of clips in a batch; not used with a `DataLoader`.
            num_workers: number of processes that load clips; not used with a `DataLoader`.
            collate_fn: function of the caller that makes a batch from a list of items.
            padded: whether the model takes padded clips with their lengths.
            complete: refuse a batch with another number of clips than its list of items.

        Raises:
            TypeError: the dataset is iterable-style.
            ValueError: a `DataLoader` shuffles, drops clips, or has a sampler of its own; or a number is out of range.
        """
        settings: dict[str, Any] = {"num_workers": num_workers}
        if isinstance(dataset, DataLoader):
            loader = _in_order(dataset)
            dataset = loader.dataset
            batch_size = cast(int, loader.batch_size)
            settings["num_workers"] = loader.num_workers
            settings |= {name: getattr(loader, name) for name in _OF_WORKERS} if loader.num_workers else {}
            if collate_fn is None and loader.collate_fn is not default_collate:
                collate_fn = loader.collate_fn
        batch_size = whole_number(batch_size, "batch_size", least=1)
        return cls(dataset, batch_size, Collate(collate_fn, padded=padded, complete=complete), settings)

    @property
    def n_clips(self) -> int:
        """The number of clips in the dataset, after a check that its items can be indexed.

        Raises:
            TypeError: the dataset is iterable-style.
            ValueError: it is empty.
        """
        dataset = self.dataset
        is_iterable = isinstance(dataset, IterableDataset)
        if is_iterable or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise TypeError(
                "expected a map-style dataset (with __getitem__ and __len__), so that a prototype's index means a clip"
                f", but got {type(dataset).__name__}; put an iterable one into a list first"
            )
        n_clips = 0 if isinstance(dataset, Tensor) and not dataset.dim() else len(dataset)
        if n_clips == 0:
            raise ValueError("expected a dataset with at least one clip, but it is empty")
        return n_clips

    @property
    def fingerprint(self) -> str:
        """The fingerprint of a dataset that has one, such as `captum_apex.classifiers.InputDataset`; else empty."""
        fingerprint_of = getattr(self.dataset, "fingerprint", None)
        given = fingerprint_of() if callable(fingerprint_of) else ""
        return given if isinstance(given, str) else ""

    def name(self, index: int) -> str:
        """The name of a clip for messages: what the dataset calls it, or its index."""
        name = getattr(self.dataset, "name", None)
        return name(index) if callable(name) else f"clip {index}"

    def batches(self, clips: range, *, pinned: bool = False) -> DataLoader:
        """The batches `(inputs, labels, arguments)` of some clips.

        Args:
            clips: indices of the clips.
            pinned: whether the batches that processes load come in memory that a GPU can copy from by itself.
        """
        # Without a generator, a DataLoader draws a seed from the global random state.
        pinned = pinned and self.settings.get("num_workers", 0) > 0
        settings = {**self.settings, "generator": torch.Generator(), "pin_memory": pinned}
        return DataLoader(
            cast(Dataset, self.dataset), self.batch_size, sampler=clips, collate_fn=self.collate, **settings
        )

    def first_batch(self, clips: range) -> tuple[Tensor, Tensor | None, tuple[Any, ...]]:
        """The first batch of some clips, without processes.

        Args:
            clips: indices of the clips.
        """
        loading = ClipLoading(self.dataset, self.batch_size, self.collate)
        return next(iter(loading.batches(clips[: self.batch_size])))


def _in_order(loader: DataLoader) -> DataLoader:
    """The loader, after a check that it gives every clip, in the order of the dataset."""
    if isinstance(loader.dataset, IterableDataset):
        raise TypeError(
            "expected a DataLoader of a map-style dataset, so that a prototype's index means a clip, but got one of "
            f"{type(loader.dataset).__name__}; put its clips into a list first"
        )
    if loader.batch_size is None or type(loader.sampler) is not SequentialSampler or loader.drop_last:
        raise ValueError(
            "expected a DataLoader that gives every clip in the order of its dataset, so that a prototype's index is "
            "that of a clip, but it shuffles, drops the last batch, or has a sampler of its own; make it with "
            "DataLoader(dataset, batch_size, shuffle=False)"
        )
    return loader
