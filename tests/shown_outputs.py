"""What a page of the documentation shows of the outputs of its blocks, and whether they print that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import torch

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ROUNDED = re.compile(r"(-?\d+\.\d+%?|-?\d+%)")
_LEFT_OUT = "…"
_PROCESSOR = "AVX512"


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Args:
        kind: the word behind the fence, such as `python`.
        code: what is in the block.
        line: number of its first line on the page.
        output: the block of `text` directly below it, which is what this block prints; None where there is none.
    """

    kind: str
    code: str
    line: int
    output: str | None


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page in their order; those of outputs are no blocks of their own."""
    fences = [*_FENCE.finditer(text), None]
    blocks = []
    output_of_last = None
    for fence, following in pairwise(fences):
        is_followed = following and following[1] == "text" and not text[fence.end() : following.start()].strip()
        if fence is not output_of_last:
            output_of_last = following if is_followed and fence[1] != "text" else None
            line = text.count("\n", 0, fence.start()) + 2
            blocks.append(Block(fence[1], fence[2], line, output_of_last[2] if output_of_last else None))
    return blocks


def agree(shown: str, printed: str, *, rounded: bool = False) -> bool:
    """Whether a block prints what the page shows.

    Args:
        shown: the output on the page; `…` stands for any text that is left out.
        printed: the output of the block.
        rounded: whether numbers with a decimal point and percentages may differ by one in their last shown digit, as
            those of a trained network do between processors. All other characters have to be equal in any case.
    """
    pieces = _ROUNDED.split(shown) if rounded else [shown]
    pattern = "".join(_any_like(piece) if i % 2 else _literal(piece) for i, piece in enumerate(pieces))
    found = re.fullmatch(pattern, printed, re.DOTALL)
    return found is not None and all(map(_close, pieces[1::2], found.groups()))


def on_the_processor_of_the_pages() -> bool:
    """Whether torch uses the instructions here with which the outputs of the pages were made.

    Others round otherwise, and a training that goes on from there ends in another network.
    """
    return torch.backends.cpu.get_cpu_capability() == _PROCESSOR


def _literal(text: str) -> str:
    return ".*".join(map(re.escape, text.split(_LEFT_OUT)))


def _any_like(number: str) -> str:
    """A pattern of numbers with as many decimals."""
    n_decimals = len(number.rstrip("%").partition(".")[2])
    return r"(-?\d+" + (rf"\.\d{{{n_decimals}}}" if n_decimals else "") + "%" * number.endswith("%") + ")"


def _close(shown: str, printed: str) -> bool:
    as_integers = [int(re.sub(r"[.%]", "", number)) for number in (shown, printed)]
    return abs(as_integers[0] - as_integers[1]) <= 1
