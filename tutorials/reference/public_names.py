"""The public names of the library and where each is defined, read from `__all__` without importing the library."""

from __future__ import annotations

import re

import griffe

_LINE_LENGTH = 80
_ARGUMENTS_OF = re.compile(r"arguments_of\((\w+)\)")
_NAME_IN_BACKTICKS = re.compile(r"(?<![\[`])`([A-Za-z_][\w.]*)`(?![\]`])")


def public_objects(room: griffe.Module) -> list[griffe.Object]:
    """The public objects of a room, in alphabetical order.

    They are what the room's `__all__` lists, and what the package's `__all__` lists and the room defines.
    A module without an `__all__` shows what it defines.
    """
    package = room.package
    objects = [_definition(room, name) for name in room.exports or ()]
    objects += [entry for entry in _package_objects(package) if entry.path.startswith(f"{room.path}.")]
    if not objects:
        objects = [member for member in room.members.values() if not member.is_alias and not member.is_private]
    return sorted({entry.path: entry for entry in objects}.values(), key=lambda entry: entry.name.lower())


def import_line(room: griffe.Module, objects: list[griffe.Object]) -> str:
    """How a reader imports a room's objects: from the package where it has the name, otherwise through the room."""
    in_package = {entry.path for entry in _package_objects(room.package)}
    names = [entry.name for entry in objects if entry.path in in_package]
    if len(names) < len(objects):
        names.append(room.name)
    line = f"from captum_apex import {', '.join(names)}"
    if len(line) <= _LINE_LENGTH:
        return line
    return "\n".join(["from captum_apex import (", *(f"    {name}," for name in names), ")"])


def identifiers(package: griffe.Module) -> dict[str, str]:
    """Where each name is defined that texts write in backticks: `fit_basis`, `LayerAPEX.attribute`, `figures.maps`."""
    names = {}
    for room in package.modules.values():
        for entry in public_objects(room) if room.name not in ("cli", "files", "__main__") else ():
            names[f"{room.name}.{entry.name}"] = entry.path
            if entry.is_class:
                methods = [member for member in entry.members.values() if member.is_function and not member.is_private]
                names |= {f"{entry.name}.{method.name}": method.path for method in methods if method.docstring}
    return names | {entry.name: entry.path for entry in _package_objects(package)}


def room_identifiers(room: griffe.Module) -> dict[str, str]:
    """Where the names are defined that texts of a room write without the room's name: `deletion_insertion`, `Curves`.

    Names of one word in lower case are left out: in a text they are arguments more often than functions.
    """
    entries = public_objects(room)
    return {entry.name: entry.path for entry in entries if "_" in entry.name or not entry.name.islower()}


def documented(entry: griffe.Object) -> list[griffe.Object]:
    """An object and all that it contains, as far as they have docstrings."""
    inner = [other for member in entry.members.values() if not member.is_alias for other in documented(member)]
    return [*([entry] if entry.docstring else []), *inner]


def copy_arguments(package: griffe.Module) -> None:
    """Gives functions the arguments of the function that their decorator names, as the interpreter does."""
    for entry in documented(package):
        for decorator in entry.decorators if entry.is_function else ():
            if source := _ARGUMENTS_OF.search(str(decorator.value)):
                entry.parameters = entry.parent.members[source[1]].parameters


def linked(text: str, names: dict[str, str]) -> str:
    """A text in Markdown, its names in backticks as links to the reference."""

    def link(match: re.Match[str]) -> str:
        return f"[{match[0]}][{names[match[1]]}]" if match[1] in names else match[0]

    return _NAME_IN_BACKTICKS.sub(link, text)


def _package_objects(package: griffe.Module) -> list[griffe.Object]:
    """What the package itself exports, without its modules."""
    objects = [_definition(package, name) for name in package.exports or ()]
    return [entry for entry in objects if not entry.is_module]


def _definition(module: griffe.Module, name: str) -> griffe.Object:
    """What a name of a module stands for, at the place where it is defined."""
    member = module.members[name]
    return member.final_target if member.is_alias else member
