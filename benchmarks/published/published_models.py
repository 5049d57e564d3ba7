"""The published models, and what is compared between a clip and its prototypes."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmarks.published import (
    bat_calls,
    crepe_pitch,
    pesto_frames,
    resemblyzer_speakers,
    silero_speech,
    speech_quality,
)
from benchmarks.published.held_clips import HeldClips
from captum_apex import Classifier


@dataclass(frozen=True)
class PublishedModel:
    """A published model with the lines that it needs, its clips and what its prototypes should share.

    Args:
        package: name of the package on PyPI that the weights come with.
        licence: licence of the weights.
        load: function that gives the model.
        classifier: function from the model to its `Classifier`: the lines that a user writes.
        glue: functions and classes that a user writes.
        clips: function from "train" or "test" and a number of clips per speaker to clips.
        likeness: function from the classifier, the explained clips and the clips of the prototypes to a number for each
            pair, (clip, prototype).
        shared: what the number is, in words.
        unit: unit of the number, which is then a distance; empty for 0 and 1.
        sizes: numbers of clips per speaker, of the training clips and of the explained ones.
        target: index of the explained class; None for the predicted one.
        schemes: the schemes to fit; None for all that the layer supports.
        double: whether the model runs in float64.
    """

    package: str
    licence: str
    load: Callable[[], Any]
    classifier: Callable[[Any], Classifier]
    glue: Sequence[Callable]
    clips: Callable[[str, int], HeldClips]
    likeness: Callable[[Classifier, HeldClips, HeldClips], Tensor]
    shared: str
    unit: str = ""
    sizes: tuple[int, int] = (60, 12)
    target: int | None = None
    schemes: Sequence[str] | None = None
    double: bool = True


def _model(package: str, licence: str, module: Any, shared: str, **more: Any) -> PublishedModel:
    functions = (module.load, module.classifier, module.GLUE, module.clips, module.likeness)
    return PublishedModel(package, licence, *functions, shared, **more)


# A grid of one row has the same cells for `square` and for `time`; only one of them is fitted.
PUBLISHED_MODELS = {
    model.package: model
    for model in (
        _model("torchcrepe", "MIT", crepe_pitch, "distance of the pitches", unit="cents", schemes=["time"]),
        _model("pesto-pitch", "LGPL-3.0", pesto_frames, "distance of the pitches", unit="cents", double=False),
        _model(
            "Resemblyzer",
            "Apache-2.0",
            resemblyzer_speakers,
            "same speaker",
            sizes=(20, 5),
            schemes=["time"],
        ),
        _model("silero-vad", "MIT", silero_speech, "speech", target=0, sizes=(12, 6), schemes=["time"], double=False),
        _model(
            "speechmos",
            "MIT",
            speech_quality,
            "distance of the overall qualities",
            unit="points",
            target=2,
            sizes=(6, 2),
        ),
        _model("batdetect2", "CC BY-NC 4.0", bat_calls, "call of the same species"),
    )
}


def n_statements(glue: Sequence[Callable]) -> int:
    """The number of statements in functions and classes, without docstrings.

    Example:
        >>> from benchmarks.published.published_models import n_statements
        >>> n_statements([n_statements])
        4
    """
    trees = [ast.parse(textwrap.dedent(inspect.getsource(each))) for each in glue]
    statements = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return sum(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in statements)
