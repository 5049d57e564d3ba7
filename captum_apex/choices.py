"""Arguments that are one of several names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

__all__ = ["one_of"]


def one_of(value: Any, what: str, names: Collection[str]) -> str:
    """A name, after a check that it is one of those that exist.

    Args:
        value: the value.
        what: what the name is, for messages, such as the argument in backquotes.
        names: all names that exist.

    Raises:
        TypeError: the value is no string, such as an array or a list of names.
        ValueError: there is no such name.

    Example:
        >>> from captum_apex.choices import one_of
        >>> one_of("both", "`sides`", ["positive", "both"])
        'both'
    """
    expected = f"expected {what} to be one of {', '.join(repr(str(name)) for name in names)}"
    if not isinstance(value, str):  # first, because an array is compared entry by entry, and a list has no hash
        shape = getattr(value, "shape", None)
        content = repr(value) if shape is None else f"of shape {tuple(shape)}"
        raise TypeError(f"{expected}, but got {type(value).__name__} {content}")
    if value not in names:
        raise ValueError(f"{expected}, but got {str(value)!r}")
    return value
