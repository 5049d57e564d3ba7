"""Classes in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["class_name"]


def class_name(label: Any, class_names: Sequence[str] | None = None) -> str:
    """A label or a target in words.

    Args:
        label: an int, a tuple of them, a row of a multi-label dataset, or None.
        class_names: the name of each class; without them the number is used.

    Raises:
        ValueError: for a class that has no name.

    >>> class_name(1, ["dog", "rain"]), class_name([1.0, 1.0], ["dog", "rain"]), class_name(3), class_name(None)
    ('rain', 'dog, rain', 'class 3', '')
    """
    if label is None:
        return ""
    if isinstance(label, list):  # of a multi-label dataset: one number per class
        return ", ".join(class_name(index, class_names) for index, present in enumerate(label) if present > 0.5)
    if isinstance(label, tuple) and len(label) == 1:
        return class_name(label[0], class_names)
    if not class_names or isinstance(label, tuple):
        return f"class {label}"
    if not -len(class_names) <= int(label) < len(class_names):
        raise ValueError(f"expected `class_names` with a name for class {label}, but got {len(class_names)} names")
    return class_names[int(label)]
