"""Labels of any kind that people have, as indices of classes; and the class that a name means."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from enum import Enum
from numbers import Integral
from typing import Any

from captum_apex.recordings.several_labels import (
    BETWEEN_LABELS,
    WHOLE,
    combined_classes,
    first_unknown,
    has_combination,
    pieces_of,
    sorted_names,
)

__all__ = ["Labels", "class_indices", "class_labels", "composed", "is_missing", "named_class"]

Labels = tuple[Any, ...]
"""Index of the class of each clip; or, for clips of several classes, a 0 or 1 for each class of each clip."""

_NUMBER = re.compile(r"\s*\d+(?:\.\s+|[\s_-]+)(?=[^\W\d_])")  # 001_dog, 1 - Dog, 1. Dog; but not 1.5 kHz or 10-20 kHz
_SEPARATORS = re.compile(r"[\s_-]+")
_N_NAMES = 10  # names of classes in a message


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): macOS gives a folder that is typed as 'ö' the name 'o' with an accent.

    Example:
        >>> from captum_apex.recordings.class_labels import composed
        >>> len("o\u0308"), len(composed("o\u0308"))
        (2, 1)
    """
    return unicodedata.normalize("NFC", name)


def named_class(value: Any) -> Any:
    """The name of a class as a text, where it is given as a text of any type, as bytes, a whole number or an enum.

    Args:
        value: the name; a member of an enumeration stands for its value, and bytes are UTF-8.

    Returns:
        A Python string; a value of another type as it is.

    Example:
        >>> import numpy as np
        >>> from captum_apex.recordings.class_labels import named_class
        >>> named_class(np.str_("dog")), named_class(7), named_class(None)
        ('dog', '7', None)
    """
    if isinstance(value, Enum):
        value = value.value
    if hasattr(value, "item") and not getattr(value, "shape", ()):  # of NumPy or torch
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return str(value) if isinstance(value, (str, int)) else value


def class_indices(names: Iterable[str], class_names: Sequence[str]) -> dict[str, int]:
    """The class that each name means: the class of the same name, otherwise the only one with a similar name.

    Similar are names that differ in upper and lower case, in `_`, `-` and spaces between words, in the form in which
    Unicode stores accents, or in a number before one of them: the folder `001_dog_bark` means the class "dog bark".

    Args:
        names: names of folders, or labels.
        class_names: names of the classes, in the order of their indices.

    Returns:
        The index of the class by each name. Names that mean no class are left out.

    Raises:
        ValueError: a name is similar to several classes and the name of none, or two names that differ in a number
            mean one class, such as `1_dog` and `2_dog`.

    Example:
        >>> from captum_apex.recordings.class_labels import class_indices
        >>> class_indices(["001_dog_bark", "Rain", "fox"], ["rain", "dog bark"])
        {'001_dog_bark': 1, 'Rain': 0}
        >>> class_indices(["Dog"], ["dog", "DOG"])
        Traceback (most recent call last):
            ...
        ValueError: expected 'Dog' to mean one class, but it is similar to 'dog', 'DOG'; name it like one of them
    """
    indices: dict[str, int] = {}
    names_by_index: dict[int, str] = {}
    by_key = _by_key(class_names)
    exact = {composed(name): index for index, name in enumerate(class_names)}
    exact |= {name: index for index, name in enumerate(class_names)}
    for name in names:
        index = exact.get(name, exact.get(composed(name)))
        if index is None:
            index = _similar(name, class_names, by_key)
        if index is None:
            continue
        other = names_by_index.setdefault(index, name)
        if _key(other) != _key(name):
            raise ValueError(
                f"expected {other!r} and {name!r} to mean two classes, but both mean {class_names[index]!r}; where "
                f"that is right, name both {class_names[index]!r}"
            )
        indices[name] = index
    return indices


def _by_key(class_names: Sequence[str]) -> dict[tuple[str, bool], list[int]]:
    """The classes by what their names have in common with similar ones, with and without a number before the name."""
    by_key: dict[tuple[str, bool], list[int]] = {}
    for index, name in enumerate(class_names):
        by_key.setdefault((_key(name), True), []).append(index)
        if _NUMBER.match(name):
            by_key.setdefault((_key(_NUMBER.sub("", name, count=1)), False), []).append(index)
    return by_key


def _similar(name: str, class_names: Sequence[str], by_key: Mapping[tuple[str, bool], list[int]]) -> int | None:
    """The only class with a similar name."""
    key = _key(name)
    same = by_key.get((key, True), []) if key.strip() else []
    if not same:  # only one of the two may have a number, because 1_dog and 2_dog may be different classes
        without = by_key.get((_key(_NUMBER.sub("", name, count=1)), True), []) if _NUMBER.match(name) else []
        same = without + by_key.get((key, False), [])
    if len(same) > 1:
        several = ", ".join(repr(class_names[index]) for index in same)
        raise ValueError(
            f"expected {name!r} to mean one class, but it is similar to {several}; name it like one of them"
        )
    return same[0] if same else None


def _key(name: str) -> str:
    """What similar names have in common."""
    return _SEPARATORS.sub(" ", composed(name).strip().casefold())


def class_labels(
    values: Any, place: Callable[[int], str], class_names: Sequence[str] | None = None
) -> tuple[Labels | None, tuple[str, ...]]:
    """Labels of any kind as indices of classes.

    Args:
        values: one label per clip, in a list, an array, a tensor or a column of a table. A label is the name of a class
            (also as bytes or a member of an enumeration) or, with `class_names`, its index, False or True where there
            are two classes, a list of names or indices, or one 0 or 1 for each class. A text that is no class can be
            several names with `,`, `;`, `|` or spaces between them. None, NaN and an empty text mean that there is no
            label; where another text is several names, an empty text means none of the classes.
        place: function that says which clip an index is, for messages.
        class_names: names of the classes, in the order of their indices. By default the categories of a pandas column;
            otherwise the different labels, sorted, or the names that they consist of where these are fewer, with a
            warning. Where they are numbers, labels that are numbers are names, too.

    Returns:
        The labels, None where no clip has one, and the names of the classes.

    Raises:
        TypeError: a label is of another kind.
        ValueError: a label is no class or could mean two, some clips have a label and others have none, or labels are
            of several kinds. The message names the first such clip and its label.

    Example:
        >>> from captum_apex.recordings.class_labels import class_labels
        >>> class_labels(["rain", "dog", "rain"], "clip {}".format)
        ((1, 0, 1), ('dog', 'rain'))
        >>> class_labels([["dog", "rain"], []], "clip {}".format, class_names=["dog", "rain", "fox"])
        (((1, 1, 0), (0, 0, 0)), ('dog', 'rain', 'fox'))
        >>> class_labels(["dog", "cat"], "clip {}".format, class_names=["dog", "rain"])
        Traceback (most recent call last):
            ...
        ValueError: expected labels among the classes (dog, rain), but got 'cat' for clip 1
    """
    entries = _entries(values)
    if class_names is not None and any(isinstance(name, Integral) for name in class_names):  # then so are the labels
        entries = [named_class(entry) for entry in entries]
    missing = [is_missing(entry) for entry in entries]
    categories = getattr(values, "categories", getattr(getattr(values, "cat", None), "categories", None))
    if class_names is None and categories is not None:
        class_names = [str(category) for category in categories]
        entries = [None if absent else str(entry) for entry, absent in zip(entries, missing, strict=True)]
    if class_names is None:
        class_names = combined_classes([entry for entry, absent in zip(entries, missing, strict=True) if not absent])
    class_names = None if class_names is None else tuple(map(named_class, class_names))
    if all(missing):
        return None, class_names or ()
    if any(missing) and not _are_names_of_several(entries, class_names):
        raise ValueError(
            f"expected a label for every clip or for none, but there is none for {place(missing.index(True))} and "
            f"{entries[missing.index(False)]!r} for {place(missing.index(False))}; leave out the clips without a "
            "label, or where they have none of the classes, give every clip a list of its classes"
        )
    kinds = [_kind(entry, place, index) for index, entry in enumerate(entries)]
    other = next((index for index, kind in enumerate(kinds) if kind is not kinds[0]), None)
    if other is not None:
        raise ValueError(
            f"expected labels of one kind, but got {entries[0]!r} for {place(0)} and {entries[other]!r} for "
            f"{place(other)}"
        )
    return kinds[0](entries, place, class_names)


def _are_names_of_several(entries: Sequence[Any], class_names: tuple[str, ...] | None) -> bool:
    """Whether entries are texts of which one names several classes, so that an empty text names none."""
    if class_names is None or not all(isinstance(entry, str) for entry in entries):
        return False
    texts = {entry.strip() for entry in entries} - set(class_names)
    return has_combination(texts, lambda names: class_indices(names, class_names))


def is_missing(value: Any) -> bool:
    """Whether a value of a table is none: None, NaN, pandas' NA or NaT, or an empty text.

    Example:
        >>> from captum_apex.recordings.class_labels import is_missing
        >>> is_missing(float("nan")), is_missing(" "), is_missing(0)
        (True, True, False)
    """
    if isinstance(value, str):
        return not value.strip()
    is_nan = isinstance(value, float) and math.isnan(value)
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def _entries(values: Any) -> list[Any]:
    """The values of a column, as Python's own numbers, texts and lists where they are NumPy's, torch's or an enum's."""
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    return [_plain(entry) for entry in listed]


def _plain(entry: Any) -> Any:
    if isinstance(entry, (Enum, bytes)):
        value = entry.value if isinstance(entry, Enum) else entry
        return named_class(value) if isinstance(value, (str, bytes)) else value
    return entry.tolist() if hasattr(entry, "tolist") else entry


def _kind(entry: Any, place: Callable[[int], str], index: int) -> Callable:
    """The function that reads labels of the kind of an entry."""
    if isinstance(entry, bool):
        return _of_bools
    if isinstance(entry, str):
        return _of_texts
    if isinstance(entry, (int, float)):
        return _of_numbers
    if isinstance(entry, (list, tuple, Set)):
        return _of_lists
    raise TypeError(
        f"expected labels to be names or indices of classes, or lists of them, but got {type(entry).__name__} "
        f"{entry!r} for {place(index)}"
    )


def _of_texts(
    entries: Sequence[str], place: Callable[[int], str], class_names: tuple[str, ...] | None
) -> tuple[Labels, tuple[str, ...]]:
    texts = [entry.strip() for entry in entries]
    if class_names is None:
        names = sorted_names({composed(text) for text in texts})
        indices = {name: index for index, name in enumerate(names)}
        return tuple(indices[composed(text)] for text in texts), tuple(names)
    indices = class_indices(dict.fromkeys(texts), class_names)
    if len(indices) == len(set(texts)):
        return tuple(indices[text] for text in texts), class_names
    if not indices and all(WHOLE.fullmatch(text) for text in texts):
        return _of_numbers([float(text) for text in texts], place, class_names)
    if not indices and all(text.casefold() in ("true", "false") for text in texts):
        return _of_bools([text.casefold() == "true" for text in texts], place, class_names)
    for separator in BETWEEN_LABELS:
        lists = [[text] if text in indices else pieces_of(text, separator) for text in texts]
        known = class_indices({piece: None for pieces in lists for piece in pieces}, class_names)
        if all(piece in known for pieces in lists for piece in pieces):
            return _rows([[known[piece] for piece in pieces] for pieces in lists], len(class_names)), class_names
    unknown = first_unknown(texts, lambda names: class_indices(dict.fromkeys(names), class_names))
    if unknown is None:
        wrong = next(index for index, text in enumerate(texts) if text not in indices)
        unknown = (wrong, entries[wrong])
    raise ValueError(_no_class(unknown[1], place(unknown[0]), class_names))


def _of_numbers(
    entries: Sequence[float], place: Callable[[int], str], class_names: tuple[str, ...] | None
) -> tuple[Labels, tuple[str, ...]]:
    for index, entry in enumerate(entries):
        if not float(entry).is_integer():
            raise ValueError(f"expected labels to be names or indices of classes, but got {entry!r} for {place(index)}")
    numbers = [int(entry) for entry in entries]
    if class_names is None:
        indices = {number: index for index, number in enumerate(sorted(set(numbers)))}
        return tuple(indices[number] for number in numbers), tuple(map(str, indices))
    for index, number in enumerate(numbers):
        _check_index(number, place(index), class_names)
    return tuple(numbers), class_names


def _of_bools(
    entries: Sequence[bool], place: Callable[[int], str], class_names: tuple[str, ...] | None
) -> tuple[Labels, tuple[str, ...]]:
    if class_names is None:
        return tuple(map(int, entries)), ("False", "True")
    if len(class_names) != 2:
        raise ValueError(
            f"expected labels of {len(class_names)} classes ({_listed(class_names)}), but got {entries[0]!r} for "
            f"{place(0)}, which says nothing about more or fewer than two classes"
        )
    names = [str(entry) for entry in entries]
    for index, (entry, name) in enumerate(zip(entries, names, strict=True)):
        if name in class_names and class_names[entry] != name:
            raise ValueError(_two_meanings(entry, place(index), class_names))
    return tuple(map(int, entries)), class_names


def _of_lists(
    entries: Sequence[Sequence], place: Callable[[int], str], class_names: tuple[str, ...] | None
) -> tuple[Labels, tuple[str, ...]]:
    lists = [_entries(entry) for entry in entries]
    are_texts = all(isinstance(each, str) for entry in lists for each in entry)
    if class_names is None and are_texts:
        class_names = tuple(sorted_names({composed(each.strip()) for entry in lists for each in entry}))
    if class_names is None:
        raise ValueError(
            f"expected `class_names` for labels that are lists of numbers, such as {entries[0]!r} for {place(0)}"
        )
    n_classes = len(class_names)
    if all(len(entry) == n_classes and all(_is_0_or_1(each) for each in entry) for entry in lists):
        return tuple(tuple(int(each) for each in entry) for entry in lists), class_names
    if are_texts:
        return _rows(_indices_of_texts(lists, place, class_names), n_classes), class_names
    rows = []
    for index, entry in enumerate(lists):
        for each in entry:
            if isinstance(each, bool) or not isinstance(each, (int, float)):
                raise ValueError(_no_class(entry, place(index), class_names))
        rows.append(_of_numbers(entry, lambda _, index=index: place(index), class_names)[0])  # type: ignore[misc]
    return _rows(rows, n_classes), class_names


def _indices_of_texts(
    lists: Sequence[Sequence[str]], place: Callable[[int], str], class_names: tuple[str, ...]
) -> list[list[int]]:
    indices = class_indices({each.strip(): None for entry in lists for each in entry}, class_names)
    for index, entry in enumerate(lists):
        for each in entry:
            if each.strip() not in indices:
                raise ValueError(_no_class(each, place(index), class_names))
    return [[indices[each.strip()] for each in entry] for entry in lists]


def _rows(lists: Sequence[Sequence[int]], n_classes: int) -> tuple[tuple[int, ...], ...]:
    """A 0 or 1 for each class of each clip, from the indices of its classes."""
    return tuple(tuple(int(index in present) for index in range(n_classes)) for present in map(set, lists))


def _is_0_or_1(value: Any) -> bool:
    return isinstance(value, (int, float)) and value in (0, 1)


def _check_index(number: int, place: str, class_names: tuple[str, ...]) -> None:
    if not 0 <= number < len(class_names):
        raise ValueError(
            f"expected labels from 0 to {len(class_names) - 1}, the indices of the classes "
            f"({_listed(class_names)}), but got {number} for {place}"
        )
    if str(number) in class_names and class_names[number] != str(number):
        raise ValueError(_two_meanings(number, place, class_names))


def _two_meanings(value: int, place: str, class_names: tuple[str, ...]) -> str:
    return (
        f"expected labels with one meaning, but {value!r} for {place} is the name of a class and also the index of the "
        f"class {class_names[value]!r}; give the names as strings"
    )


def _no_class(value: Any, place: str, class_names: tuple[str, ...]) -> str:
    return f"expected labels among the classes ({_listed(class_names)}), but got {value!r} for {place}"


def _listed(class_names: Sequence[str]) -> str:
    return ", ".join(class_names[:_N_NAMES]) + (", …" if len(class_names) > _N_NAMES else "")
