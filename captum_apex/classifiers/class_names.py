"""The name of a class, for figures and messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from captum_apex.audio.clip import encodable

__all__ = ["class_name"]


def class_name(label: Any, class_names: Sequence[str] | None = None) -> str:
    """The name of the class that a label or a target means.

    Args:
        label: index of a class, a tuple of indices, a list with one number per class (present above 0.5), or None.
        class_names: name of each class; by default the index is named.

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
        return ", ".join(class_name(index, class_names) for index, present in enumerate(label) if present > 0.5)
    if isinstance(label, tuple) and len(label) == 1:
        return class_name(label[0], class_names)
    if not class_names or isinstance(label, tuple):
        return f"class {label}"
    if not -len(class_names) <= int(label) < len(class_names):
        raise ValueError(f"expected `class_names` with a name for class {label}, but got {len(class_names)} names")
    return encodable(class_names[int(label)])
