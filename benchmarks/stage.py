"""What all cells of a run share: the clips, what the model says of them whole, emptied and under random masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.methods import CLIPS_AT_ONCE, Query
from benchmarks.subject import Subject
from benchmarks.tasks import Split
from captum_apex import PrototypeBasis, Scheme
from captum_apex.masking import n_regions, named_fill, named_grid
from captum_apex.metrics import masked_outputs, random_removals

RANDOM_MASKS = 16  # per grid and fill, the same for every method and clip


@dataclass(frozen=True)
class Reference:
    """What the model says of the clips in one grid and fill, whatever the method.

    Attributes:
        whole: logits of the clips as they are, (clip, class).
        empty: logits of the fill alone, (clip, class).
        random: logits under random masks, (clip, mask, class).
        removed: which regions each random mask replaces, bool (mask, region).
    """

    whole: Tensor
    empty: Tensor
    random: Tensor
    removed: Tensor


@dataclass(frozen=True)
class Stage:
    """The clips of a run and the model on them; it travels to the workers as it is.

    Attributes:
        model: the classifier, in evaluation mode.
        layer: its explained layer.
        bases: the fitted bases.
        silence: a bin without sound.
        seed: of methods and ties.
        indices: test index of each clip.
        labels: of each clip.
        inputs: (clip, 1, frequency, time).
        target: the class that is explained, the predicted one, (clip,).
        truth: where the evidence lies, bool (clip, frequency, time), all False where unknown; None where no clip has one.
        references: by (grid, fill), filled by `observed`.
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
    references: dict[tuple[str, str], Reference] = field(default_factory=dict)

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
        return cls(subject.model, subject.layer, subject.bases, task.silence, subject.seed, indices, labels, inputs, target, truth)

    def grid(self, name: str) -> Tensor:
        """The region of each bin, int64 (frequency, time)."""
        return named_grid(name, tuple(self.inputs.shape[2:])).to(self.inputs.device)

    def fill(self, name: str) -> Tensor:
        """What replaces the inputs, of their shape."""
        return named_fill(name, self.silence)(self.inputs)

    def query(self, grid: Tensor, fill: Tensor) -> Query:
        """What a method is asked in a cell of this grid and fill."""
        return Query(self.model, self.layer, self.inputs, self.target, fill, grid, self.silence, self.bases, self.seed)

    def observed(self, grid_name: str, fill_name: str) -> Reference:
        """What the model says in this grid and fill; asked once, then remembered."""
        key = (grid_name, fill_name)
        if key not in self.references:
            self.references[key] = self._ask(self.grid(grid_name), self.fill(fill_name))
        return self.references[key]

    def _ask(self, grid: Tensor, fill: Tensor) -> Reference:
        regions = n_regions(grid)
        removed = random_removals(regions, RANDOM_MASKS, seed=self.seed)
        ends = torch.tensor([[False], [True]]).expand(2, regions)
        masks = torch.cat([ends, removed]).to(self.inputs.device)
        outputs = masked_outputs(self.model, self.inputs, fill, masks.expand(len(self.inputs), -1, -1), grid, batch_size=CLIPS_AT_ONCE)
        return Reference(outputs[:, 0], outputs[:, 1], outputs[:, 2:], removed.to(self.inputs.device))
