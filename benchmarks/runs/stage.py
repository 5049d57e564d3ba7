"""What all cells of a run share: the model, its bases, and the clips with the classes that are explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.methods import CLIPS_AT_ONCE, Query
from benchmarks.runs.subject import Subject
from benchmarks.tasks import Split
from captum_apex import PrototypeBasis, Scheme
from captum_apex.masking.fills import named_fill, own_phase
from captum_apex.masking.grids import named_grid


@dataclass(frozen=True)
class Stage:
    """The clips of a run and the model on them; it travels to the workers as it is.

    Attributes:
        model: the classifier, in evaluation mode.
        layer: its explained layer.
        bases: the fitted bases.
        silence: a bin without sound.
        seed: of methods, masks and ties.
        indices: test index of each clip.
        labels: of each clip.
        inputs: log-mels (clip, 1, frequency, time), or spectra (clip, 2, frequency, time).
        target: the class that is explained, the predicted one, (clip,).
        truth: where the evidence lies, bool (clip, frequency, time), all False where unknown; None where no clip has one.
        band_shares: of spectra, see `benchmarks.tasks.Task`; None for log-mels.
    """

    model: nn.Module
    layer: nn.Module
    bases: Mapping[Scheme, PrototypeBasis]
    silence: float
    seed: int
    indices: list[int]
    labels: list[int]
    inputs: Tensor
    target: Tensor
    truth: Tensor | None
    band_shares: Tensor | None

    @classmethod
    def of(cls, subject: Subject, n_clips: int, part: Split = "test") -> Stage:
        """The stage of a run over so many clips of a part; truth is known of test clips alone."""
        task = subject.task
        dataset = getattr(task, part)
        indices, inputs = subject.clips(part, n_clips)
        with torch.no_grad():
            target = torch.cat([subject.model(batch).argmax(1) for batch in inputs.split(CLIPS_AT_ONCE)])
        truth = None if task.truth is None or part == "train" else torch.stack([task.truth(index) for index in indices])
        labels = [dataset[index][1] for index in indices]
        shares = None if task.band_shares is None else task.band_shares.to(inputs)
        return cls(
            subject.model,
            subject.layer,
            subject.bases,
            task.silence,
            subject.seed,
            indices,
            labels,
            inputs,
            target,
            truth,
            shares,
        )

    def grid(self, name: str) -> Tensor:
        """The region of each bin, int64 (frequency, time)."""
        return named_grid(name, tuple(self.inputs.shape[2:])).to(self.inputs.device)

    def fill(self, name: str) -> Tensor:
        """What replaces the inputs, of their shape; in spectra their magnitudes, with the clips' own phases."""
        fill = named_fill(name, self.silence)
        return (fill if self.band_shares is None else own_phase(fill))(self.inputs)

    def query(self, grid: Tensor, fill: Tensor) -> Query:
        """What a method is asked in a cell of this grid and fill."""
        return Query(
            self.model,
            self.layer,
            self.inputs,
            self.target,
            fill,
            grid,
            self.silence,
            self.bases,
            self.seed,
            band_shares=self.band_shares,
        )

    def parts(self, size: int) -> Iterator[tuple[slice, Stage]]:
        """The same stage for a few clips at a time, without their truth, each with the places of its clips."""
        for start in range(0, len(self.indices), size):
            own = slice(start, start + size)
            yield (
                own,
                replace(
                    self,
                    indices=self.indices[own],
                    labels=self.labels[own],
                    inputs=self.inputs[own].clone(),  # not with the storage of all clips, when it travels
                    target=self.target[own].clone(),
                    truth=None,  # it was looked at when the maps were summed
                ),
            )
