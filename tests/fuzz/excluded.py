"""Failures that are known and not mended yet. A case that shows one is counted as `excluded`, not as right.

To switch a check on, delete its entry. `FUZZ_STRICT=1` switches all on. An entry without cases in the table at the end
of `make fuzz` is mended: delete it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A known failure.

    Attributes:
        target: name of the target.
        pattern: regular expression that the text of the failure holds: number of the case, traceback and message.
    """

    target: str
    pattern: str

    def matches(self, target: str, text: str) -> bool:
        """Whether a failure is this one."""
        return target == self.target and re.search(self.pattern, text, re.DOTALL) is not None


KNOWN = (
    # An enumeration compares an array with its values before we see it.
    Entry("arguments", r"truth value of an array.*in the call [^\n]*scheme=np strings"),
)
"""Failures by what is wrong; the files of the package that they stand in are in the traceback of the case."""
STRICT = bool(os.environ.get("FUZZ_STRICT"))
EXCLUDED = () if STRICT else KNOWN
