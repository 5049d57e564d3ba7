"""Labels of clips of which some have none of the classes, such as the negatives of a detector of one class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from captum_apex.recordings.class_labels import Labels, class_labels

__all__ = ["labels_with_background", "names_with_background", "rows_without_background"]


def labels_with_background(
    values: Any,
    place: Callable[[int], str],
    class_names: Sequence[str] | None = None,
    background: str | None = None,
) -> tuple[Labels | None, tuple[str, ...]]:
    """Labels of any kind, among them that of clips without any of the classes.

    Args:
        values: one label per clip, as in `class_labels`.
        place: function that says which clip an index is, for messages.
        class_names: names of the classes, in the order of their indices; needed with a background.
        background: the label of clips without any of the classes. Where there is one class, the labels 0 and False mean
            the background, and 1 and True the class. None for no such label.

    Returns:
        The labels and the names of the classes, as from `class_labels`; with a background the labels are a 0 or 1 for
        each class of each clip.

    Raises:
        ValueError: there is a background without `class_names`, or a label is no class; errors as in `class_labels`.

    Example:
        >>> from captum_apex.recordings.background_labels import labels_with_background
        >>> labels_with_background(["call", "no call"], "clip {}".format, ["call"], "no call")
        (((1,), (0,)), ('call',))
        >>> labels_with_background([0, 1], "clip {}".format, ["call"], "no call")
        (((0,), (1,)), ('call',))
    """
    if background is None:
        return class_labels(values, place, class_names)
    if class_names is None:
        raise ValueError(f"expected `class_names` with the background {background!r}, but got None")
    names = names_with_background(class_names, background)
    if _are_rows(values, len(class_names)):
        return class_labels(values, place, class_names)
    labels, _ = class_labels(values, place, names)
    return None if labels is None else rows_without_background(labels, names, background), tuple(class_names)


def names_with_background(class_names: Sequence[str], background: str) -> tuple[str, ...]:
    """The names of the classes and of the background, in the order of their numbers in labels.

    Args:
        class_names: names of the classes.
        background: name of clips without any of them; the last number, but 0 where there is one class.

    Example:
        >>> from captum_apex.recordings.background_labels import names_with_background
        >>> names_with_background(["call"], "no call"), names_with_background(["dog", "rain"], "nothing")
        (('no call', 'call'), ('dog', 'rain', 'nothing'))
    """
    return (background, *class_names) if len(class_names) == 1 else (*class_names, background)


def rows_without_background(labels: Labels, names: Sequence[str], background: str) -> Labels:
    """Labels among the classes and the background as a 0 or 1 for each class alone.

    Args:
        labels: index of the name of each clip, or a 0 or 1 for each name of each clip.
        names: names of the classes and of the background.
        background: name of the background.

    Example:
        >>> from captum_apex.recordings.background_labels import rows_without_background
        >>> rows_without_background((0, 1), ("no call", "call"), "no call")
        ((0,), (1,))
    """
    classes = [index for index, name in enumerate(names) if name != background]
    return tuple(
        tuple(label[index] if isinstance(label, tuple) else int(label == index) for index in classes)
        for label in labels
    )


def _are_rows(values: Any, n_classes: int) -> bool:
    """Whether labels have a 0 or 1 for each class already, so that the background needs no name."""
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    return n_classes > 1 and all(isinstance(entry, (list, tuple)) and len(entry) == n_classes for entry in listed)
