"""Texts that are the names of several classes, such as "dog, rain"."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from typing import Any

from captum_apex.caller import warn_caller
from captum_apex.result_tables import listed

__all__ = [
    "BETWEEN_LABELS",
    "WHOLE",
    "combined_classes",
    "first_unknown",
    "has_combination",
    "pieces_of",
    "sorted_names",
]

BETWEEN_LABELS = (",", ";", "|", " ")
"""What may stand between several labels in one text."""

WHOLE = re.compile(r"\d+(?:\.0+)?")
"""A text that is a whole number."""


def sorted_names(names: Collection[str]) -> list[str]:
    """The names of classes in the order of their indices: by number where all are numbers, so that 2 comes before 10.

    Args:
        names: the different names.

    Example:
        >>> from captum_apex.recordings.several_labels import sorted_names
        >>> sorted_names({"10", "2"}), sorted_names({"10 kHz", "2 kHz"})
        (['2', '10'], ['10 kHz', '2 kHz'])
    """
    are_numbers = all(WHOLE.fullmatch(name) for name in names)
    return sorted(names, key=(lambda name: (float(name), name)) if are_numbers else None)


def pieces_of(text: str, separator: str) -> list[str]:
    """The names in a text.

    Args:
        text: the text.
        separator: what stands between the names.

    Example:
        >>> from captum_apex.recordings.several_labels import pieces_of
        >>> pieces_of("dog, rain,", ",")
        ['dog', 'rain']
    """
    return [piece.strip() for piece in text.split(separator) if piece.strip()]


def combined_classes(labels: Sequence[Any]) -> list[str] | None:
    """The names that labels are combined of, with a warning that says so; None where each label is one class.

    Labels are combinations where they consist of fewer names than there are different labels. The name "Boat, Water
    vehicle" of one class has pieces that no other label has, so that the pieces are more than the labels.

    Args:
        labels: the labels, which are combinations only where all are texts.

    Example:
        >>> import warnings
        >>> from captum_apex.recordings.several_labels import combined_classes
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     combined_classes(["dog, rain", "rain", "dog"]), combined_classes(["Boat, Water vehicle", "Dog"])
        (['dog', 'rain'], None)
    """
    if not all(isinstance(label, str) for label in labels):
        return None
    different = {unicodedata.normalize("NFC", label.strip()) for label in labels}
    for separator in BETWEEN_LABELS[:3]:
        lists = [pieces_of(text, separator) for text in different]
        names = sorted_names({name for pieces in lists for name in pieces})
        if any(len(pieces) > 1 for pieces in lists) and len(names) < len(different):
            break
    else:
        return None
    warn_caller(
        f"labels such as {min(different - set(names))!r} are read as several classes, of which there are {len(names)} "
        f"({listed(names)}); give `class_names` to say which classes there are, in the order of the model's scores"
    )
    return names


def has_combination(texts: Iterable[str], known: Callable[[Sequence[str]], Container[str]]) -> bool:
    """Whether one of the texts is the names of several classes.

    Args:
        texts: the labels.
        known: function that gives those of some names that are classes.

    Example:
        >>> from captum_apex.recordings.several_labels import has_combination
        >>> has_combination(["dog", "dog; rain"], {"dog", "rain"}.intersection)
        True
    """
    lists = [pieces_of(text, separator) for separator in BETWEEN_LABELS for text in texts]
    return any(_are_all(pieces, known(pieces)) for pieces in lists if len(pieces) > 1)


def first_unknown(texts: Sequence[str], known: Callable[[Sequence[str]], Container[str]]) -> tuple[int, str] | None:
    """The first name in labels of several names that is no class, with the index of its label.

    Args:
        texts: the labels.
        known: function that gives those of some names that are classes.

    Returns:
        None where labels do not seem to be several names. For names with a space between them, one label must consist
        of classes alone; otherwise the name of one class may have several words.

    Example:
        >>> from captum_apex.recordings.several_labels import first_unknown
        >>> first_unknown(["dog, rain", "dog", "dog, rian"], {"dog", "rain"}.intersection)
        (2, 'rian')
    """
    whole = known(texts)
    best: tuple[int, list[list[str]], Container[str]] | None = None
    for separator in BETWEEN_LABELS:
        lists = [[text] if text in whole else pieces_of(text, separator) for text in texts]
        classes = known([piece for pieces in lists for piece in pieces])
        counts = [(len(pieces), sum(piece in classes for piece in pieces)) for pieces in lists if len(pieces) > 1]
        n_known = sum(count for _, count in counts)
        is_certain = separator != " " or any(count == size for size, count in counts)
        if n_known and is_certain and (best is None or n_known > best[0]):
            best = (n_known, lists, classes)
    if best is None:
        return None
    _, lists, classes = best
    unknown = ((index, piece) for index, pieces in enumerate(lists) for piece in pieces if piece not in classes)
    return next(unknown, None)


def _are_all(names: Iterable[str], classes: Container[str]) -> bool:
    return all(name in classes for name in names)
