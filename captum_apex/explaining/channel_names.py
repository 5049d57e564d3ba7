"""Names that people give to channels: the file that a page exports and imports."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import Scheme
from captum_apex.files import replaced
from captum_apex.numbers import whole_number

__all__ = ["Entries", "Names", "entries_by_basis", "read_entries", "read_names", "write_names"]

Names = Mapping[str, Mapping[int, str]]
"""Scheme → channel → name, such as `{"time": {17: "knocks"}}`."""

Entries = dict[str, dict[int, dict[str, str]]]
"""Fingerprint of the basis → channel → its `name` and `note`."""

_FORMAT = "captum-apex channel names 1"  # as in channel_names.js


def read_names(path: str | os.PathLike, bases: Mapping[Scheme, PrototypeBasis]) -> dict[str, dict[int, str]]:
    """The names of channels in a file that a page has exported, or that `write_names` wrote.

    Args:
        path: path of the file.
        bases: the bases, by scheme; a basis is known by its fingerprint.

    Returns:
        Scheme → channel → name. Schemes without a name are left out, and so are notes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no names of channels, or none of these bases.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import PrototypeBasis, Scheme
        >>> from captum_apex.explaining.channel_names import read_names, write_names
        >>> bases = {Scheme.TIME: PrototypeBasis(torch.eye(3), "time")}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_names(Path(folder, "names.json"), {"time": {2: "knocks"}}, bases)
        ...     read_names(path, bases)
        {'time': {2: 'knocks'}}
    """
    entries = read_entries(path)
    if entries and not any(basis.fingerprint in entries for basis in bases.values()):
        raise ValueError(f"expected {path} to hold names of channels of these bases, but they are of others")
    names = {}
    for scheme, basis in bases.items():
        of_basis = entries.get(basis.fingerprint, {})
        named = {channel: entry["name"] for channel, entry in of_basis.items() if entry["name"]}
        if named:
            names[str(scheme)] = named
    return names


def write_names(path: str | os.PathLike, names: Names, bases: Mapping[Scheme, PrototypeBasis]) -> Path:
    """Writes names of channels as a file that a page imports; see `read_names`.

    Args:
        path: path of the file.
        names: scheme → channel → name.
        bases: the bases, by scheme.

    Raises:
        TypeError: a channel is no whole number, or a name is no text.
        ValueError: there is no basis of a scheme, or it has no such channel.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import PrototypeBasis, Scheme
        >>> from captum_apex.explaining.channel_names import write_names
        >>> bases = {Scheme.TIME: PrototypeBasis(torch.eye(3), "time")}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_names(Path(folder, "names.json"), {"time": {2: "knocks"}}, bases).name
        'names.json'
    """
    _check_mapping(names)
    listed = []
    for scheme, of_scheme in names.items():
        if Scheme(scheme) not in bases:
            given = ", ".join(map(repr, map(str, bases)))
            raise ValueError(f"expected names of channels for {given}, of which there are bases, but got {scheme!r}")
        basis = bases[Scheme(scheme)]
        for channel in of_scheme:
            if not 0 <= whole_number(channel, "the channel") < basis.n_channels:
                raise ValueError(
                    f"expected channels from 0 to {basis.n_channels - 1} in the names for {scheme!r}, but got {channel}"
                )
        channels = {str(channel): entry for channel, entry in _entries(of_scheme).items()}
        listed.append({"basis": basis.fingerprint, "scheme": str(Scheme(scheme)), "channels": channels})
    text = json.dumps({"format": _FORMAT, "bases": listed}, indent=1, ensure_ascii=False)
    with replaced(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def entries_by_basis(names: Names | str | os.PathLike | None, fingerprints: Mapping[str, str]) -> Entries:
    """Names of channels as a page holds them.

    Args:
        names: scheme → channel → name, or the path of a file, whose notes are taken as well; None for none.
        fingerprints: fingerprint of the basis of each scheme.

    Raises:
        ValueError: there is no basis of a scheme.

    Example:
        >>> from captum_apex.explaining.channel_names import entries_by_basis
        >>> entries_by_basis({"time": {17: "knocks"}}, {"time": "0b7f"})
        {'0b7f': {17: {'name': 'knocks', 'note': ''}}}
    """
    if names is None:
        return {}
    if isinstance(names, (str, os.PathLike)):
        return read_entries(names)
    _check_mapping(names)
    for scheme in names:
        if not fingerprints.get(str(scheme)):
            known = ", ".join(map(repr, filter(fingerprints.get, fingerprints))) or "none that is known"
            raise ValueError(f"expected `names` for the schemes of the explanations, {known}, but got {scheme!r}")
    return {fingerprints[str(scheme)]: _entries(of_scheme) for scheme, of_scheme in names.items()}


def read_entries(path: str | os.PathLike) -> Entries:
    """The names and notes in a file, for all bases in it; errors as in `read_names`.

    Args:
        path: path of the file.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.explaining.channel_names import read_entries
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "names.json")
        ...     _ = path.write_text('{"format": "captum-apex channel names 1", "bases": []}')
        ...     read_entries(path)
        {}
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"expected a file of channel names at {os.fspath(path)}, but there is none")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        return {each["basis"]: _read_channels(each["channels"]) for each in content["bases"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"expected {path} to hold names of channels, as a page exports them, but it cannot be read: "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_mapping(names: Names) -> None:
    for each in [names, *(names.values() if isinstance(names, Mapping) else ())]:
        if not isinstance(each, Mapping):
            raise TypeError(
                'expected `names` to be a mapping such as {"time": {17: "knocks"}}, or the path of a file where it is '
                f"read, but got {type(each).__name__}"
            )


def _read_channels(channels: Mapping[str, Mapping[str, Any]]) -> dict[int, dict[str, str]]:
    return {
        int(channel): {"name": str(entry["name"]), "note": str(entry.get("note", ""))}
        for channel, entry in channels.items()
    }


def _entries(names: Mapping[int, str]) -> dict[int, dict[str, str]]:
    """The names of the channels of one basis as entries without notes."""
    entries = {}
    for channel, name in names.items():
        if not isinstance(name, str):
            raise TypeError(f"expected the name of channel {channel} to be a text, but got {type(name).__name__}")
        entries[whole_number(channel, "the channel", least=0)] = {"name": name, "note": ""}
    return entries
