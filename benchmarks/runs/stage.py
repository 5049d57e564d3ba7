"""What all cells of a run share: the model, its bases, and the clips with the classes that are explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor, nn

from benchmarks.methods import METHODS, Query
from benchmarks.methods.learners import FailedTrainingError, LearnedNetwork
from benchmarks.methods.query import ClassifiedClips, logits
from benchmarks.runs.subject import Subject
from benchmarks.tasks import Split, Task
from captum_apex.layers.cell_places import CellPlaces
from captum_apex.masking.fills import named_fill, own_phase
from captum_apex.masking.grids import n_regions, named_grid
from captum_apex.masking.segments import segment_grid

SEGMENTS = ("segments", "segment-means")
"""Region grids of the segments of each clip, such as its words. By the second one, the segments are ranked by the mean
of a map over them, and not by its sum."""


@dataclass(frozen=True, kw_only=True)
class Stage(ClassifiedClips):
    """The clips of a run and the model on them; it is sent to the workers as it is. `target` is the predicted class.

    Attributes:
        indices: index of each clip in its split of the task.
        labels: index of the true class of each clip.
        segments: the segment of each bin of each clip, int64 (clip, frequency, time); None if they are unknown.
        truth: bins on which the class event lies, bool (clip, frequency, time), all False for a clip for which they
            are unknown; None if they are unknown for all clips.
        learned: networks that methods learned from the training clips, by the names of their learners.
    """

    indices: list[int]
    labels: list[int]
    truth: Tensor | None
    segments: Tensor | None = None
    learned: Mapping[str, LearnedNetwork] = field(default_factory=dict)

    @classmethod
    def of(cls, subject: Subject, n_clips: int, split: Split = "test") -> Stage:
        """The stage of a run on this number of clips of a split; the truth is known for test clips only."""
        return cls.on(subject, *subject.clips(split, n_clips), split)

    @classmethod
    def on(cls, subject: Subject, indices: list[int], inputs: Tensor, split: Split = "test") -> Stage:
        """The stage on the clips of these indices of a split, with their inputs as `Subject.clips` gives them."""
        task = subject.task
        dataset = getattr(task, split)
        truth = task.truth if split == "test" else None
        return cls(
            model=subject.model,
            layer=subject.layer,
            inputs=inputs,
            target=logits(subject.model, inputs).argmax(1),
            silence=task.silence,
            bases=subject.bases,
            seed=subject.seed,
            band_shares=None if task.band_shares is None else task.band_shares.to(inputs),
            places=subject.bank.origin.places or CellPlaces(),
            twins=_twins(task, split, indices, inputs),
            indices=indices,
            labels=[dataset[index][1] for index in indices],
            truth=None if truth is None else torch.stack([truth(index) for index in indices]),
            segments=_segments(task, indices, inputs) if split == "test" and task.segments else None,
        )

    @property
    def known_truth(self) -> Tensor:
        """`truth`, of clips for which it is known."""
        assert self.truth is not None  # this line is for the type checker
        return self.truth

    def grid(self, name: str) -> Tensor:
        """The region of each bin in the region grid of this name, int64 (frequency, time).

        With a name in `SEGMENTS`, clips have grids of their own: (clip, frequency, time).

        Raises:
            ValueError: the segments of the clips are unknown.
        """
        if name in SEGMENTS:
            if self.segments is None:
                raise ValueError(
                    f"expected test clips whose segments are known for the grid {name!r}, but they are not"
                )
            return self.segments
        return named_grid(name, tuple(self.inputs.shape[2:])).to(self.inputs.device)

    def fill(self, name: str) -> Tensor:
        """The values of the fill of this name, of the shape of the inputs.

        In spectra it replaces the magnitudes; the phases of the clips stay.
        """
        fill = named_fill(name, self.silence)
        return (fill if self.band_shares is None else own_phase(fill))(self.inputs)

    def query(self, grid: Tensor, fill: Tensor, names: tuple[str, ...] = ()) -> Query:
        """What a method gets in a cell with this region grid and fill, to compute the maps of these names."""
        shared = {each.name: getattr(self, each.name) for each in fields(ClassifiedClips)}
        needed = {name for method in names for name in METHODS[method].learned} & self.learned.keys()
        learned = {name: self._network(name) for name in sorted(needed)}
        return Query(**shared, grid=grid, fill=fill, names=names, learned=learned)

    def _network(self, name: str) -> nn.Module | FailedTrainingError:
        try:
            return self.learned[name].network(name, self)
        except FailedTrainingError as error:
            return error

    def clips(self, selection: slice) -> Self:
        """The same stage with the selected clips only, without the memory of the others, since it is sent to a worker.

        What scoring does not need is left out: the truth, the twins and the networks of methods.
        """
        stage = super().clips(selection)
        return replace(
            stage,
            inputs=stage.inputs.clone(),
            target=stage.target.clone(),
            indices=self.indices[selection],
            labels=self.labels[selection],
            truth=None,
            twins=None,
            learned={},
            segments=None if self.segments is None else self.segments[selection].clone(),
        )

    def batches(self, size: int) -> Iterator[tuple[slice, Stage]]:
        """The stage of at most `size` clips at a time, each with the positions of its clips in this one."""
        for start in range(0, len(self.indices), size):
            selection = slice(start, start + size)
            yield selection, self.clips(selection)


def _twins(task: Task, split: Split, indices: list[int], inputs: Tensor) -> Tensor | None:
    """The input of each clip's twin; None if clips have no twins, or are spectra."""
    if task.twin is None or task.band_shares is not None:
        return None
    dataset = getattr(task, split)
    return torch.stack([dataset[task.twin(index)][0] for index in indices]).to(inputs)


def _segments(task: Task, indices: list[int], inputs: Tensor) -> Tensor:
    """The segment of each bin of each test clip, (clip, frequency, time).

    Raises:
        ValueError: a clip has a single segment, of which no part can be masked.
    """
    assert task.segments is not None  # this line is for the type checker
    grids = []
    for index in indices:
        times = torch.as_tensor(task.segments(index), dtype=torch.float64)
        grid = segment_grid(tuple(inputs.shape[2:]), task.axes.frame_position(times).tolist())
        if n_regions(grid) < 2:
            raise ValueError(f"expected times that divide test clip {index} into segments, but got {times.tolist()}")
        grids.append(grid)
    return torch.stack(grids).to(inputs.device)
