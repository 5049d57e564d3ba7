"""Odd values for one or two arguments of a public function whose other arguments are right."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from captum_apex import (
    APEX,
    Classifier,
    ExplainedClips,
    Explainer,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    RegionSearch,
    SpectrogramAxes,
    basis_from_matrix,
    explain,
    explain_classes,
    explain_recording,
    fit_basis,
    metrics,
)
from captum_apex.masking import fills, grids
from captum_apex.recordings import as_waveform
from captum_apex.recordings.windows import Windows
from tests.fuzz.labels import small_model
from tests.fuzz.outcomes import accepted

ODD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "0": lambda: 0,
    "1": lambda: 1,
    "2": lambda: 2,
    "-1": lambda: -1,
    "-2": lambda: -2,
    "0.5": lambda: 0.5,
    "5.7": lambda: 5.7,
    "-0.1": lambda: -0.1,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "text": lambda: "loud",
    "empty text": lambda: "",
    "number as text": lambda: "1",
    "bytes": lambda: b"1",
    "np.int64": lambda: np.int64(1),
    "np.uint8": lambda: np.uint8(1),
    "np.float32": lambda: np.float32(0.5),
    "np.bool": lambda: np.bool_(True),
    "np.nan": lambda: np.float64("nan"),
    "np 0-d int": lambda: np.array(1),
    "np 0-d float": lambda: np.array(0.5),
    "np (1,)": lambda: np.array([1]),
    "np (2,)": lambda: np.array([0, 1]),
    "np mask": lambda: np.array([True, False]),
    "np strings": lambda: np.array(["dog", "rain", "fox", "siren"]),
    "np empty": lambda: np.array([]),
    "np (2, 2)": lambda: np.eye(2),
    "tensor 0-d int": lambda: torch.tensor(1),
    "tensor 0-d float": lambda: torch.tensor(0.5),
    "tensor NaN": lambda: torch.tensor(float("nan")),
    "tensor (1,)": lambda: torch.tensor([1]),
    "tensor (2,)": lambda: torch.tensor([0, 1]),
    "tensor mask": lambda: torch.tensor([True, False]),
    "tensor empty": lambda: torch.empty(0),
    "tensor (2, 2)": lambda: torch.eye(2),
    "tensor ones": lambda: torch.ones(2, 2),
    "complex tensor": lambda: torch.ones(2, 2, dtype=torch.complex64),
    "Series": lambda: pd.Series([0, 1]),
    "Series of texts": lambda: pd.Series(["dog", "rain", "fox", "siren"]),
    "Index": lambda: pd.Index(["dog", "rain", "fox", "siren"]),
    "categories": lambda: pd.Categorical(["dog", "rain", "fox", "siren"]),
    "NA": lambda: pd.NA,
    "list": lambda: [0, 1],
    "empty list": list,
    "list of floats": lambda: [0.0, 1.5],
    "list of bools": lambda: [True, False],
    "list of texts": lambda: ["dog", "rain", "fox", "siren"],
    "list of numpy": lambda: [np.int64(0), np.int64(1)],
    "list twice": lambda: [1, 1],
    "nested list": lambda: [[0], [1]],
    "tuple": lambda: (0, 1),
    "pair of floats": lambda: (0.5, 0.5),
    "empty tuple": lambda: (),
    "set": lambda: {0, 1},
    "set of texts": lambda: {"dog", "rain", "fox", "siren"},
    "dict": lambda: {0: "dog"},
    "range": lambda: range(2),
    "generator": lambda: (index for index in (0, 1)),
    "generator of texts": lambda: (name for name in ("dog", "rain", "fox", "siren")),
    "object": object,
}
INTEGERS = ("np.int64", "np.uint8", "np 0-d int", "tensor 0-d int")  # the same as 1
TEXTS = ("np strings", "Series of texts", "Index", "list of texts")  # the same as the list
ONE_OF_TWO = ("np (2,)", "tensor (2,)", "Series", "list", "tuple", "range", "list of numpy")  # the same as [0, 1]
_NUMBERS = (
    "None",
    "True",
    "0",
    "1",
    "2",
    "-1",
    "-2",
    "0.5",
    "5.7",
    "-0.1",
    "NaN",
    "infinity",
    "text",
    "number as text",
)
_NUMBERS += (*INTEGERS, "np.float32", "np.bool", "np.nan", "np 0-d float", "np (1,)", "np (2,)", "tensor 0-d float")
_NUMBERS += ("tensor NaN", "tensor (1,)", "tensor (2,)", "list", "empty list", "NA")
_SEQUENCES = (*ONE_OF_TWO, "np mask", "tensor mask", "list of bools", "list of floats", "np empty", "tensor empty")
_SEQUENCES += ("empty list", "empty tuple", "set", "dict", "generator", "nested list", "list twice", "np (2, 2)")
_TENSORS = (
    "None",
    "1",
    "0.5",
    "text",
    "np (2,)",
    "np (2, 2)",
    "np strings",
    "tensor (1,)",
    "tensor (2,)",
    "tensor mask",
)
_TENSORS += (
    "tensor empty",
    "tensor (2, 2)",
    "tensor ones",
    "complex tensor",
    "tensor NaN",
    "tensor 0-d float",
    "Series",
)
_TENSORS += ("list", "nested list", "list of floats", "empty list", "pair of floats")
_CHOICES = ("None", "text", "empty text", "1", "bytes", "np strings", "list of texts", "NaN", "True", "object")
_CHOICES += ("tensor (2,)",)
KINDS = {
    "integer": _NUMBERS,
    "quantity": _NUMBERS,
    "choice": _CHOICES,
    "channels": (*_NUMBERS, *_SEQUENCES),
    "target": (*_NUMBERS, *_SEQUENCES),
    "names": (*TEXTS, "set of texts", "generator of texts", "categories", "text", "empty list", "list twice", "dict"),
    "pair": (*_NUMBERS, *_SEQUENCES, "pair of floats"),
    "tensor": _TENSORS,
    "object": (
        *_CHOICES,
        "0.5",
        "-1",
        "empty list",
        "nested list",
        "dict",
        "set",
        "generator",
        "range",
        "tensor (2, 2)",
    ),
}
"""Role of an argument → kinds of values that people give."""


@dataclass(frozen=True)
class Function:
    """A public function with right arguments.

    Attributes:
        call: the function.
        right: its right arguments, by name.
        roles: role in `KINDS` → the arguments that have it.
    """

    call: Callable
    right: dict[str, Any]
    roles: dict[str, tuple[str, ...]]

    def role(self, parameter: str) -> str:
        """The role of an argument."""
        return next(role for role, parameters in self.roles.items() if parameter in parameters)


@cache
def functions() -> dict[str, Function]:
    """The functions by name, on a small model with a basis of its bank."""
    model = small_model()
    clips = torch.randn(4, 2, 3, 4, generator=torch.Generator().manual_seed(5)) + 0.5
    bank = FeatureBank.from_dataset(model, model[0], list(clips))
    basis = fit_basis(bank, "time", epochs=1, n_prototypes=(2, 2))
    apex, layer_apex = APEX(model, model[0], basis), LayerAPEX(model, model[0], basis)
    evidence = {"inputs": clips, "target": 1, "n_channels": 2, "sides": "positive"}
    explained = {"apex": apex, "inputs": clips, "n_channels": 1, "sides": "positive", "n_prototypes": 1, "search": None}
    roles = {"integer": ("n_channels", "n_prototypes"), "choice": ("sides",), "target": ("target",)}
    attributed = {**roles, "channels": ("channels",), "tensor": ("inputs",)}
    return {
        "LayerAPEX.attribute": Function(layer_apex.attribute, {**evidence, "channels": None}, attributed),
        "APEX.attribute": Function(apex.attribute, {**evidence, "channels": [0]}, attributed),
        "explain": Function(explain, {**explained, "target": 1}, {**roles, "tensor": ("inputs",)}),
        "explain_classes": Function(
            explain_classes, {**explained, "classes": torch.ones(4, 4) > 0}, {**roles, "tensor": ("classes", "inputs")}
        ),
        **_bases(model, clips, bank),
        **_recordings(model),
        **_explainers(model),
        **_measures(clips),
    }


def _bases(model: nn.Module, clips: Tensor, bank: FeatureBank) -> dict[str, Function]:
    taken = {"model": model, "layer": model[0], "dataset": list(clips), "schemes": ["time"], "layout": None}
    fitted = {"bank": bank, "scheme": "time", "epochs": 1, "learning_rate": 0.01, "weight_decay": 0.0, "seed": 0}
    fitted |= {"batch_size": 2, "n_prototypes": (2, 1), "reselect_every": 1}
    roles = {
        "integer": ("epochs", "seed", "batch_size", "reselect_every"),
        "quantity": ("learning_rate", "weight_decay"),
        "choice": ("scheme",),
        "pair": ("n_prototypes",),
    }
    matrix = {"integer": ("n_prototypes",), "choice": ("scheme",), "tensor": ("U",)}
    search = {"smallest": 0.8, "n_random": 1, "batch_size": 4}
    return {
        "FeatureBank.from_dataset": Function(
            FeatureBank.from_dataset,
            {**taken, "batch_size": 2, "max_memory": 2**20},
            {"integer": ("batch_size", "max_memory"), "choice": ("schemes", "layout"), "tensor": ("dataset",)},
        ),
        "fit_basis": Function(fit_basis, fitted, roles),
        "basis_from_matrix": Function(
            basis_from_matrix, {"bank": bank, "scheme": "time", "U": torch.eye(2), "n_prototypes": 2}, matrix
        ),
        "PrototypeBasis": Function(PrototypeBasis, {"U": torch.eye(2), "scheme": "time"}, matrix),
        "RegionSearch": Function(
            RegionSearch, search, {"integer": ("n_random", "batch_size"), "quantity": ("smallest",)}
        ),
    }


def _recordings(model: nn.Module) -> dict[str, Function]:
    def transform(waveform: Tensor) -> Tensor:
        means = waveform[: len(waveform) // 50 * 50].reshape(-1, 50).mean(1)
        return torch.stack([means, -means])[:, None]

    names = ["dog", "rain", "fox", "siren"]
    classifier = Classifier(model, transform, sample_rate=100, class_names=names, exclusive=False)
    apex = LayerAPEX(model, model[0], PrototypeBasis(torch.eye(2), "time"))
    waveform = torch.sin(torch.arange(700.0))
    made = {"model": model, "transform": transform, "sample_rate": 100, "length": 200, "class_names": names}
    heard = {"apex": apex, "waveform": waveform, "window": 2.0, "hop": 1.0, "classifier": classifier, "threshold": 0.1}
    heard |= {"n_channels": 1, "sides": "positive", "level": 0.5, "gap": 0.0, "batch_size": 2}
    roles = {
        "integer": ("n_channels", "batch_size", "sample_rate", "rate", "length", "hop_length", "n_fft"),
        "quantity": ("window", "hop", "threshold", "level", "gap"),
        "choice": ("sides", "layout", "input_layout", "mel_scale"),
        "names": ("class_names",),
        "tensor": ("waveform", "recording", "samples"),
    }
    cut = {"recording": waveform, "sample_rate": 100, "window": 2.0, "hop": 1.0}
    return {
        "Classifier": Function(Classifier, {**made, "layout": None, "input_layout": None}, roles),
        "explain_recording": Function(explain_recording, heard, roles),
        "Windows.of": Function(Windows.of, cut, roles),
        "as_waveform": Function(
            as_waveform, {"samples": waveform, "rate": 100, "sample_rate": 100, "length": 50}, roles
        ),
        "SpectrogramAxes": Function(
            SpectrogramAxes, {"sample_rate": 100, "hop_length": 10, "n_fft": 20, "mel_scale": "htk"}, roles
        ),
    }


class Tones:
    """Clips of one tone each, whose labels are their classes."""

    class_names = ("dog", "rain", "fox", "siren")
    labels = (0, 1, 2, 3)

    def __len__(self) -> int:
        return 4

    def name(self, index: int) -> str:
        return f"tone {index}"

    def waveform(self, index: int, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
        return torch.sin((0.1 + 0.05 * index) * torch.arange(400.0))

    def fingerprint(self) -> str:
        return "tones"


def _explainers(model: nn.Module) -> dict[str, Function]:
    def transform(waveform: Tensor) -> Tensor:
        means = waveform.reshape(-1, 50).mean(1)
        return torch.stack([means, -means])[:, None]

    names = ["dog", "rain", "fox", "siren"]
    classifier = Classifier(model, transform, 100, names, layer=model[0], length=400, exclusive=False)
    explainer = Explainer.fit(classifier, Tones(), ["time"])
    folder = Path(tempfile.mkdtemp())
    explainer.save(folder / "bases")
    clip = torch.sin(0.17 * torch.arange(400.0))
    search = RegionSearch(n_random=0)
    explained = {"clips": clip, "target": None, "threshold": None, "n_channels": 1, "n_prototypes": 2, "search": None}
    explained |= {"sides": "positive"}
    heard = {"recording": torch.cat([clip, clip]), "scheme": "time", "window": 4.0, "hop": 2.0, "threshold": 0.1}
    made = {"classifier": classifier, "bases": list(explainer.bases.values()), "recordings": Tones()}
    fitted = {"classifier": classifier, "recordings": Tones(), "schemes": ["time"], "layer": model[0], "seed": 0}
    written = {"path": folder / "page.html", "title": "Why?", "limit": 1.0, "names": {"time": {0: "knocks"}}}
    roles = {
        "integer": ("n_channels", "n_prototypes", "seed"),
        "quantity": ("threshold", "window", "hop", "limit"),
        "choice": ("sides", "scheme", "schemes", "title"),
        "object": ("classifier", "bases", "recordings", "layer", "paths", "names", "search"),
        "target": ("target",),
        "tensor": ("clips", "recording"),
    }
    loaded = {"paths": folder / "bases", "classifier": classifier, "recordings": Tones()}
    named = {"path": folder / "names.json", "names": {"time": {0: "knocks"}}}
    return {
        "Explainer": Function(Explainer, made, roles),
        "Explainer.fit": Function(Explainer.fit, fitted, roles),
        "Explainer.load": Function(Explainer.load, loaded, roles),
        "Explainer.located": Function(explainer.located, {"n_prototypes": 1}, roles),
        "Explainer.explain": Function(explainer.explain, explained, roles),
        "Explainer.explain with a search": Function(explainer.explain, {**explained, "search": search}, roles),
        "Explainer.explain_recording": Function(explainer.explain_recording, heard, roles),
        "Explainer.write_names": Function(explainer.write_names, named, roles),
        "ExplainedClips.write": Function(explainer.explain(clip, n_prototypes=2, search=None).write, written, roles),
    }


def _measures(clips: Tensor) -> dict[str, Function]:
    outputs, labels = torch.randn(6, 2, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 0, 1, 1, 0])
    roles = {
        "tensor": ("outputs", "labels", "attributions", "inputs"),
        "integer": ("n_regions", "n_masks", "seed"),
        "quantity": ("silence",),
        "choice": ("name",),
        "pair": ("sigma", "shape"),
    }
    return {
        "classification_scores": Function(metrics.classification_scores, {"outputs": outputs, "labels": labels}, roles),
        "equal_error_rate": Function(metrics.equal_error_rate, {"outputs": outputs, "labels": labels}, roles),
        "random_removals": Function(metrics.random_removals, {"n_regions": 4, "n_masks": 3, "seed": 0}, roles),
        "sparseness": Function(metrics.sparseness, {"attributions": clips}, roles),
        "silence_fill": Function(fills.silence_fill, {"inputs": clips, "silence": 0.0}, roles),
        "blur_fill": Function(fills.blur_fill, {"inputs": clips, "sigma": (0.2, 0.2)}, roles),
        "noise_fill": Function(fills.noise_fill, {"inputs": clips, "seed": 0}, roles),
        "named_fill": Function(fills.named_fill, {"name": "silence", "silence": 0.0}, roles),
        "named_grid": Function(grids.named_grid, {"name": "time", "shape": (64, 50)}, roles),
    }


def arguments(random: np.random.Generator, folder: Path) -> str | None:
    """A right call with odd values: refused by name, or the same as the plain value that they mean."""
    name = str(random.choice([*functions()]))
    function = functions()[name]
    given, odd = dict(function.right), {}
    parameters = [parameter for parameters in function.roles.values() for parameter in parameters if parameter in given]
    for parameter in random.choice(parameters, 1 if random.random() < 0.8 or len(parameters) < 2 else 2):
        kind = str(random.choice(KINDS[function.role(str(parameter))]))
        given[str(parameter)] = ODD[kind]()
        odd[str(parameter)] = kind
    what = f"{name}({', '.join(f'{parameter}={kind}' for parameter, kind in odd.items())})"
    expected = _expected(function, odd)
    try:
        with accepted(expected is not None and _runs(function, expected), what):
            found = _call(function, given, what)
    except (AssertionError, IndexError) as error:
        if "target" in odd and ("captum/_utils" in traceback.format_exc() or str(error).startswith("Target not")):
            return "error of Captum for a target"  # which the docstring names
        raise
    except (RuntimeError, NotImplementedError):
        if odd.keys() & {"inputs", "dataset"} and "torch/nn/modules" in traceback.format_exc():
            return "error of the model"  # which cannot take such inputs
        raise
    if expected is not None:
        assert _same(found, function.call(**expected)), f"{what} is another value than the plain one"
    return None


def _call(function: Function, given: dict[str, Any], what: str) -> Any:
    try:
        return function.call(**given)
    except BaseException as error:
        error.add_note(f"in the call {what}")
        raise


def _expected(function: Function, odd: dict[str, str]) -> dict[str, Any] | None:
    """The plain arguments that the odd ones mean; None where one of them means nothing plain."""
    plain = dict(function.right)
    for parameter, kind in odd.items():
        role = function.role(parameter)
        if kind in INTEGERS and role in ("integer", "quantity", "channels", "target"):
            plain[parameter] = 1
        elif kind in ONE_OF_TWO and role == "channels":
            plain[parameter] = [0, 1]
        elif kind in TEXTS and role == "names":
            plain[parameter] = ["dog", "rain", "fox", "siren"]
        else:
            return None
    return plain


def _runs(function: Function, given: dict[str, Any]) -> bool:
    """Whether a plain call is right; 1 may be out of range."""
    try:
        function.call(**given)
    except (ValueError, TypeError, IndexError, AssertionError):
        return False
    return True


def _same(one: Any, other: Any) -> bool:
    """Whether two results are equal, also inside of what has no equality of its own."""
    if isinstance(one, Tensor):
        return (
            isinstance(other, Tensor) and one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
        )
    if isinstance(one, ExplainedClips):
        return one.rows() == other.rows()
    if isinstance(one, (Explainer, FeatureBank, PrototypeBasis)):
        return type(one) is type(other)
    if isinstance(one, (list, tuple)) and not hasattr(one, "_fields"):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Classifier):
        return list(one.class_names) == list(other.class_names) and one.length == other.length
    if hasattr(one, "events"):
        return one.events == other.events
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other) if isinstance(one, (int, float, str, dict, Iterable)) else type(one) is type(other)
