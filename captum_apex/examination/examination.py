"""The report on a model, as text, as HTML and as an object."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from captum_apex.classifiers.class_names import means_nothing
from captum_apex.classifiers.logits import silence_bar
from captum_apex.examination.examined_layer import HEADER, ExaminedLayer
from captum_apex.examination.faults import TOLERANCE
from captum_apex.layers.cell_places import WHOLE
from captum_apex.result_tables import html_table, listed, text_table

__all__ = ["Examination"]

_MOST_LINES = 12
_NOTHING_TO_MEND = (
    "No fault was found, and the Classifier can stay as it is. Not checked: whether the model was trained on sounds at "
    "its `sample_rate`, to which all files are resampled, and whether `class_names` are in the order of the scores; "
    "`fit` on labelled recordings says how many of them the model recognises."
)


@dataclass(frozen=True, repr=False)
class Examination:
    """What `examine` found out about a model; it is printed as a table of layers and what follows from it.

    Args:
        model_name: the name of the model's class.
        input_layout: axes of the inputs as they were read.
        input_shape: shape of one input, without the clip axis.
        layers: the layers that can be explained, in the order of preference; that of a `Classifier` comes first where
            it is not among those that `suggest_layers` proposes.
        left_out: why other modules cannot be explained, by their names.
        scores: the scores of the first clip, one per class; empty where the model does not give one per class.
        class_names: the names of the classes; empty where they are not known.
        scores_are: what the scores are: `"logits"`, or what `"softmax"`, `"log-softmax"` or `"sigmoid"` gives.
        batch_difference: largest difference between the scores of clips in a batch and one by one, as a share of the
            largest score; None where the model takes no batch of two.
        faults: what would make explanations wrong, in sentences.
        code: the call of `Classifier` to paste; empty where the examined one can stay as it is.
        exclusive: whether the classes exclude each other, as far as a `Classifier` says so.
        silence: the probability of each class in digital silence, highest first, as in
            `Classifier.silence_probabilities`; empty where it is not known.

    Example:
        >>> import torch
        >>> from captum_apex import examine
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> features = nn.Sequential(nn.Conv1d(1, 4, 9, stride=4), nn.ReLU())
        >>> model = nn.Sequential(features, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2), nn.Sigmoid())
        >>> examination = examine(model, torch.rand(2, 1, 100))
        >>> examination.scores_are, examination.layers[0].places.time.receptive_field
        ('sigmoid', 9)
        >>> for fault in examination.faults:
        ...     print(fault.partition(". ")[0])
        The model ends in a sigmoid: contributions would be those to a probability
    """

    model_name: str
    input_layout: str
    input_shape: tuple[int, ...]
    layers: tuple[ExaminedLayer, ...]
    left_out: dict[str, str]
    scores: tuple[float, ...]
    class_names: tuple[str, ...]
    scores_are: str
    batch_difference: float | None
    faults: tuple[str, ...]
    code: str
    exclusive: bool | None = None
    silence: Mapping[str, float] = field(default_factory=dict)

    @property
    def predicted(self) -> int | None:
        """The index of the class with the highest score; None where there is one score, or none per class."""
        return max(range(len(self.scores)), key=self.scores.__getitem__) if len(self.scores) > 1 else None

    @property
    def batch_agrees(self) -> bool | None:
        """Whether clips have the same scores in a batch and one by one; None where the model takes no batch of two."""
        return None if self.batch_difference is None else self.batch_difference <= TOLERANCE

    def __repr__(self) -> str:
        table = [text_table(*self._table())] if self.layers else []
        faults = [f"to mend: {fault}" for fault in self.faults]
        code = ["", self._before_code(), "", self.code] if self.code else []
        return "\n".join([self._title(), *table, *self._notes(), "", *self._results(), *faults, *code])

    def _repr_html_(self) -> str:
        """The report for a notebook."""
        table = html_table(*self._table()) if self.layers else ""
        lines = [*self._notes(), *self._results()]
        faults = "".join(f"<li>{html.escape(fault)}</li>" for fault in self.faults)
        return "".join(
            [
                _div(self._title()),
                table,
                *map(_div, lines),
                f"<div>to mend:</div><ul>{faults}</ul>" if faults else "",
                f"{_div(self._before_code())}<pre>{html.escape(self.code)}</pre>" if self.code else "",
            ]
        )

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of the table of layers, without columns that are empty."""
        rows = [layer.texts for layer in self.layers[:_MOST_LINES]]
        shown = [index for index in range(len(HEADER)) if any(row[index] for row in rows)]
        return [HEADER[index] for index in shown], [[row[index] for index in shown] for row in rows]

    def _title(self) -> str:
        shape = " × ".join(map(str, self.input_shape))
        layers = "layers to explain, the best first:" if self.layers else "no module gives a grid that can be explained"
        return f'{self.model_name}, with inputs of {shape} that are read as "{self.input_layout}"; {layers}'

    def _notes(self) -> list[str]:
        notes = []
        if len(self.layers) > _MOST_LINES:
            notes.append(f"and {len(self.layers) - _MOST_LINES} earlier ones, see `layers`")
        faults = dict.fromkeys(layer.fault for layer in self.layers if layer.fault)
        for fault in faults:
            notes.append(f"{', '.join(layer.name for layer in self.layers if layer.fault == fault)}: {fault}")
        return notes + _first_of([f"left out: {name}: {reason}" for name, reason in self.left_out.items()])

    def _results(self) -> list[str]:
        lines = [] if not self.scores else [self._prediction()]
        if self.batch_difference is None:
            lines.append("The model takes one clip at a time.")
        elif self.batch_agrees:
            lines.append("Clips have the same scores in a batch and one by one.")
        if self.layers and self.layers[0].linear is not None:
            lines.append(self._linearity(self.layers[0]))
        lines += self._heard_in_silence() if self.silence else []
        lines += self._hearing_of_cells()
        if not self.code and not self.faults:
            lines.append(_NOTHING_TO_MEND)
        return lines

    def _prediction(self) -> str:
        target = self.predicted or 0
        name = f" {self.class_names[target]!r}" if self.class_names else f" {target}" * (len(self.scores) > 1)
        if self.predicted is None:
            return f"The score{' of' * bool(name)}{name} is {self.scores[0]:.3g}."
        if self.exclusive is False and self.scores_are == "logits" and self.scores[target] <= 0:
            return f"The model detects no class: the highest score is {self.scores[target]:.3g}, that of{name}."
        return f"The model predicts the class{name}, with the score {self.scores[target]:.3g}."

    def _heard_in_silence(self) -> list[str]:
        """What to know where digital silence has a class for the model."""
        bar = silence_bar(len(self.class_names), self.exclusive)
        detected = [
            f"{name!r} (probability {value:.2f})"
            for name, value in self.silence.items()
            if value > bar and not means_nothing(name)
        ]
        if not detected:
            return []
        return [
            f"Digital silence gets {listed(detected)}: what is explained for it need not be in the sound, and quiet "
            "places of a recording can become its events; `threshold` sets how probable an event must be."
        ]

    def _hearing_of_cells(self) -> list[str]:
        """What to know where a cell hears about all of the clip."""
        layer = self.layers[0] if self.layers else None
        line = None if layer is None else layer.places.time
        if layer is None or line is None:
            return []
        if line.exact and (line.receptive_field is None or line.receptive_field < WHOLE * line.size):
            return []
        seconds = layer.receptive_field_seconds
        heard = "all of the clip" if seconds is None else f"{seconds:.1f} s, all of the clip"
        return [
            f"A cell of {layer.name} hears {heard}: the start and the "
            "end of an event in a recording are uncertain by as much. A smaller `hop` and a higher `level`, or a layer "
            "before, make them finer."
        ]

    def _linearity(self, layer: ExaminedLayer) -> str:
        if layer.linear:
            return f"The contributions of all channels of {layer.name} add up to what the layer does to the score."
        return (
            f"The rest of the model behind {layer.name} is not linear: the contributions of all channels miss "
            f"{layer.delta_share:.0%} of what the layer does to the score (the delta)."
        )

    def _before_code(self) -> str:
        return "to paste, with your names for those in capitals:" if "SAMPLE_RATE" in self.code else "to paste:"


def _first_of(lines: Sequence[str]) -> list[str]:
    more = [f"left out: {len(lines) - _MOST_LINES} others, see `left_out`"] if len(lines) > _MOST_LINES else []
    return [*lines[:_MOST_LINES], *more]


def _div(text: str) -> str:
    return f"<div>{html.escape(text)}</div>"
