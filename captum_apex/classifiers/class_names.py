"""The name of a class, for figures and messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from captum_apex.numbers import whole_number
from captum_apex.recordings.class_labels import class_indices, named_class
from captum_apex.texts import encodable

__all__ = [
    "checked_background",
    "checked_class_names",
    "class_index",
    "class_name",
    "closest_names",
    "means_nothing",
    "ordered_names",
    "target_name",
]

_NOTHING = {"background", "no", "noise", "none", "nothing", "silence", "silent"}  # words of a name
_FEW = 12  # names that a message lists in full


def checked_class_names(names: Iterable[str]) -> Sequence[str]:
    """The names of the classes as a list or a tuple: those given, or a list of Python strings.

    Args:
        names: different names in an order: a list, a tuple, a NumPy array, a pandas Index or Series, a generator.
            Whole numbers, bytes and members of an enumeration become strings.

    Raises:
        TypeError: the names are one string, have no order (a set) or are of another type.
        ValueError: there is no name, or a name occurs twice.

    Example:
        >>> import numpy as np
        >>> from captum_apex.classifiers.class_names import checked_class_names
        >>> checked_class_names(np.array(["dog", "rain"])), checked_class_names(range(3))
        (['dog', 'rain'], ['0', '1', '2'])
    """
    listed = ordered_names(names)
    texts = [named_class(name) for name in listed]
    n_numbers = sum(
        isinstance(text, str) and not isinstance(name, str) for name, text in zip(listed, texts, strict=True)
    )
    if not all(isinstance(text, str) for text in texts) or 0 < n_numbers < len(texts):
        raise TypeError(f"expected `class_names` to be strings or whole numbers, but got {listed!r}")
    if not texts or len(set(texts)) != len(texts):
        raise ValueError(f"expected `class_names` to be different strings, at least one, but got {listed!r}")
    return listed if listed is names and all(type(name) is str for name in listed) else texts


def ordered_names(names: Iterable[str]) -> Sequence[str]:
    """The names by their place; a label of a pandas object is not its place.

    Raises:
        TypeError: the names are one string, or have no order.

    Example:
        >>> import pandas as pd
        >>> from captum_apex.classifiers.class_names import ordered_names
        >>> ordered_names(pd.Series(["dog", "rain"], index=[1, 0]))
        ['dog', 'rain']
    """
    if isinstance(names, (list, tuple)):
        return names
    if isinstance(names, (str, bytes, Set, Mapping)) or not isinstance(names, Iterable):
        raise TypeError(
            f"expected `class_names` to be strings in the order of the model's scores, such as a list, but got "
            f"{type(names).__name__}"
        )
    return list(names)


def class_name(label: Any, class_names: Sequence[str] | None = None, background: str | None = None) -> str:
    """The name of the class that a label or a target means.

    Args:
        label: index of a class, a tuple of indices, a list with one number per class (present above 0.5), or None.
        class_names: name of each class; by default the index is named.
        background: name of a clip without any of the classes; None for an empty text.

    Returns:
        The name, several names with commas, or an empty text for None. What is no Unicode in a name is shown by
        replacement characters.

    Raises:
        ValueError: the class has no name.

    Example:
        >>> from captum_apex.classifiers.class_names import class_name
        >>> class_name(1, ["dog", "rain"]), class_name([1.0, 1.0], ["dog", "rain"])
        ('rain', 'dog, rain')
        >>> class_name(3), class_name(None)
        ('class 3', '')
    """
    if label is None:
        return ""
    if isinstance(label, list):  # a multi-label dataset has one number per class
        present = [index for index, number in enumerate(label) if number > 0.5]
        return ", ".join(class_name(index, class_names) for index in present) or encodable(background or "")
    if isinstance(label, tuple) and len(label) == 1:
        return class_name(label[0], class_names)
    class_names = () if class_names is None else ordered_names(class_names)
    if not class_names or isinstance(label, tuple):
        return f"class {label}"
    if not -len(class_names) <= int(label) < len(class_names):
        raise ValueError(f"expected `class_names` with a name for class {label}, but got {len(class_names)} names")
    return encodable(str(named_class(class_names[int(label)])))


def target_name(target: Any, class_names: Sequence[str] | None = None) -> str:
    """The name of an explained class; None means the only class of a model with a single output.

    Args:
        target: index of the class, or None.
        class_names: name of each class.

    Example:
        >>> from captum_apex.classifiers.class_names import target_name
        >>> target_name(None, ["call"]), target_name(1, ["dog", "rain"]), target_name(None, ["dog", "rain"])
        ('call', 'rain', '')
    """
    only = target is None and class_names is not None and len(ordered_names(class_names)) == 1
    return class_name(0 if only else target, class_names)


def checked_background(background: Any, class_names: Sequence[str], exclusive: bool | None) -> str | None:
    """The name of clips without any of the classes.

    Args:
        background: what the user gave.
        class_names: names of the classes.
        exclusive: whether each clip has exactly one class.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty, is the name of a class, or each clip has a class.

    Example:
        >>> from captum_apex.classifiers.class_names import checked_background
        >>> checked_background("no call", ["call"], None)
        'no call'
    """
    if background is None:
        return None
    if not isinstance(background, str):
        raise TypeError(f"expected `background` to be a string or None, but got {type(background).__name__}")
    if not background or background in class_names:
        raise ValueError(f"expected `background` to be another name than those of the classes, but got {background!r}")
    if exclusive:
        raise ValueError(
            f"expected no `background` with `exclusive=True`, because each clip has a class, but got {background!r}"
        )
    return background


def class_index(label: str | int, class_names: Sequence[str]) -> int:
    """The index of a class that is given by its name or its index.

    Args:
        label: name or index of the class; an index may also be given as text, and a name as that of a folder of
            recordings, such as `001_dog_bark`, where it means one class.
        class_names: names of the classes, in the order of the model's scores.

    Raises:
        ValueError: there is no such class.

    Example:
        >>> from captum_apex.classifiers.class_names import class_index
        >>> [class_index(label, ["dog", "rain"]) for label in ("rain", 0, "01_Dog")]
        [1, 0, 0]
    """
    text = label if isinstance(label, str) else str(whole_number(label, "target", least=0))
    if text in class_names:
        return list(class_names).index(text)
    if text.isdecimal() and int(text) < len(class_names):
        return int(text)
    similar = class_indices([text], class_names)
    if similar:
        return similar[text]
    raise ValueError(
        f"expected a class or a number from 0 to {len(class_names) - 1}, but got {label!r}; there are: "
        f"{_known_names(text, class_names)}"
    )


def _known_names(name: str, names: Sequence[str]) -> str:
    """All names where there are few, those that look like the name first; otherwise only these."""
    if len(names) > _FEW:
        return closest_names(name, names)
    close = difflib.get_close_matches(name, names, _FEW, 0.5)
    return ", ".join(dict.fromkeys([*close, *names]))


def closest_names(name: str, names: Sequence[str], most: int = _FEW) -> str:
    """The names that look like a name that does not exist, for a message.

    Args:
        name: the name that does not exist.
        names: the names that exist.
        most: how many of them are listed at most.

    Returns:
        The most similar names, or the first names where none is similar, separated by commas.

    Example:
        >>> from captum_apex.classifiers.class_names import closest_names
        >>> closest_names("feature", ["features", "head"])
        'features, …'
    """
    close = difflib.get_close_matches(name, names, most, 0.5)
    listed = close or names[:most]
    return ", ".join(listed) + (", …" if len(listed) < len(names) else "")


def means_nothing(name: str) -> bool:
    """Whether a class is for clips without any of the others, as its name says, so that silence rightly gets it.

    Args:
        name: name of the class.

    Example:
        >>> from captum_apex.classifiers.class_names import means_nothing
        >>> means_nothing("nothing"), means_nothing("no_call"), means_nothing("dog_bark")
        (True, True, False)
    """
    return not _NOTHING.isdisjoint(re.split(r"[^a-z]+", name.lower()))
