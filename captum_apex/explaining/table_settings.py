"""What the rows of a table depend on, so that rows of other settings are not joined with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.classifier import Classifier
from captum_apex.layers.input_summaries import input_summary, is_same_input
from captum_apex.layers.models import fingerprint
from captum_apex.version import __version__

__all__ = ["about_rows", "differences"]

_IN_WORDS = {
    "kind": "the kind of the table",
    "version": "the version of captum-apex",
    "weights": "the weights of the model",
    "bases": "the bases",
    "training": "the recordings of the bases",
    "reading": "what the Classifier does with files",
    "transform": "what the transform gives for a trial",
}
_LONGEST_TRIAL = 2**26  # samples
_LONG = 40  # characters of a value in a message


def about_rows(
    kind: str,
    classifier: Classifier,
    bases: Iterable[PrototypeBasis],
    settings: Mapping[str, Any],
    *,
    n_samples: int | None = None,
) -> dict[str, Any]:
    """What rows depend on, by name, as JSON can hold it.

    Of the transform, which may be any code, it has what it gives for noise: the shape, the mean and the size.

    Args:
        kind: what the rows are.
        classifier: the classifier.
        bases: the bases.
        settings: the arguments, by name.
        n_samples: number of samples that the transform is tried with; None for the classifier's `length`, or a second.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier, PrototypeBasis
        >>> from captum_apex.explaining.table_settings import about_rows
        >>> classifier = Classifier(torch.nn.Linear(9, 1), lambda waveform: waveform[:9], 8000, ["dog"])
        >>> about = about_rows("events", classifier, [PrototypeBasis(torch.eye(2), "time")], {"threshold": 0.5})
        >>> about["transform"]["shape"], about["threshold"]
        ([9], 0.5)
    """
    reading = ("sample_rate", "length", "axes", "layout", "convert", "input_layout", "exclusive", "short", "background")
    values = {name: getattr(classifier, name) for name in reading}
    return {
        "kind": kind,
        "version": __version__,
        "weights": fingerprint(classifier.model),
        "bases": {str(basis.scheme): _digest_of_basis(basis) for basis in bases},
        "reading": _digest([json.dumps(_plain({**values, "class_names": classifier.class_names}))]),
        "transform": _trial(classifier, n_samples or classifier.length or round(classifier.sample_rate)),
        **{name: _plain(value) for name, value in settings.items()},
    }


def differences(former: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between the settings of two tables, in words; empty where nothing does.

    Args:
        former: what rows depend on, by name, as `about_rows` gives it.
        now: the same for other rows.

    Example:
        >>> from captum_apex.explaining.table_settings import differences
        >>> differences({"weights": "12ab", "threshold": 0.5}, {"weights": "12ab", "threshold": 0.7})
        '`threshold` 0.5 became 0.7'
    """
    names = [name for name in {**former, **now} if not _is_same(name, former.get(name), now.get(name))]
    return ", ".join(_difference(name, former.get(name), now.get(name)) for name in names)


def _difference(name: str, former: Any, now: Any) -> str:
    words = _IN_WORDS.get(name, f"`{name}`")
    values = [_short(value) for value in (former, now)]
    if values[0] == values[1] or name == "reading":
        return f"{words} differs"
    return f"{words} {values[0]} became {values[1]}"


def _short(value: Any) -> str:
    text = "nothing" if value in ("", None) else repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _is_same(name: str, former: Any, now: Any) -> bool:
    if name != "transform" or former is None or now is None:
        return former == now
    return is_same_input(former, now)


def _trial(classifier: Classifier, n_samples: int) -> dict[str, Any] | None:
    """What the transform gives for noise; None where it takes no noise of that length, of which the work says more."""
    noise = 0.1 * torch.randn(min(n_samples, _LONGEST_TRIAL), generator=torch.Generator().manual_seed(0))
    try:
        inputs = classifier.inputs(noise, "a trial")
    except ValueError:
        return None
    return input_summary(inputs)


def _digest_of_basis(basis: PrototypeBasis) -> str:
    """A hash of a basis with its prototypes, which `PrototypeBasis.fingerprint` leaves out."""
    texts = [basis.fingerprint]
    for side in (basis.positive, basis.negative):
        values = [] if side is None else [getattr(side, each.name) for each in fields(side)]
        texts += ["" if value is None else _digest([_bytes_of(value).hex()]) for value in values]
    return _digest(texts)


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode(errors="surrogateescape")).hexdigest()


def _plain(value: Any) -> Any:
    """A setting as JSON can hold it: a dataclass by its fields, an array by its values, a function by its name."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, partial):
        return [_plain(value.func), _plain(value.args), _plain(value.keywords)]
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)
