"""What the reference changes in docstrings before it shows them: examples become blocks of code, names become links."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from public_names import copy_arguments, documented, identifiers, linked, room_identifiers

_HEADING = re.compile(r"^( *)Example:$")
_CODE = re.compile(r"^ *(?:>>>|\.\.\.)")


class PlainDocstrings(griffe.Extension):
    """Rewrites each docstring of the package once, when the package is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        copy_arguments(pkg)
        names_everywhere = identifiers(pkg)
        for room in pkg.modules.values():
            names = names_everywhere | room_identifiers(room)
            for entry in documented(room):
                blocks = entry.docstring.value.split("\n\n")
                entry.docstring.value = "\n\n".join(_block(block, names) for block in blocks)


def _block(block: str, names: dict[str, str]) -> str:
    """A block between empty lines: `Examples` is the heading that the parser knows, also of code that has none."""
    if block.startswith(">>> "):
        return "Examples:\n" + textwrap.indent(block, "    ")
    lines = []
    in_code = False
    for line in block.splitlines():
        in_code = in_code or bool(_CODE.match(line))
        lines.append(line if in_code else linked(_HEADING.sub(r"\1Examples:", line), names))
    return "\n".join(lines)
