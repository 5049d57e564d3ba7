"""Writes what is measured of each architecture into the guide: `python tutorials/reference/architectures.py`.

The guide has two tables. The first says how each model is made, and which layer and layout to take; it and the inputs
of the second are written by hand. This command makes each model with random weights, examines it with a clip of noise,
and replaces the grid, the schemes and the delta in the second table. Names of architectures as arguments measure these
alone.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_apex import SCHEMES, examine
from captum_apex.examination import ExaminedLayer
from captum_apex.layers import Layout

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "tutorials" / "guides" / "choose_a_layer.md"
N_LAYERS = (
    3  # that are measured; Swin's last norm comes after the layer of the table, and that for bands is no last one
)
ROUNDING = 1e-4  # of a share; a smaller delta is a rounding error


@dataclass(frozen=True)
class Architecture:
    """One architecture's rows of both tables, the cells without their back-ticks."""

    name: str
    model: str
    layer: str
    layout: str
    input: str
    axes: str
    grid: str
    schemes: str
    delta: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(map(int, self.input.split(" × ")))

    @property
    def line(self) -> str:
        """The row of the second table."""
        cells = (self.name, self.input, f"`{self.axes}`", self.grid, self.schemes, self.delta)
        return f"| {' | '.join(cells)} |"


def section() -> str:
    """The section of the guide."""
    found = re.search(r"\n## Architectures\n(.*?)\n## ", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise ValueError(f"expected {GUIDE} to have a section Architectures, but it has none")
    return found[1]


def architectures() -> list[Architecture]:
    """The architectures of the guide."""
    models, grids = (_cells(table) for table in re.findall(r"(?:^\|.*\|$\n)+", section(), re.MULTILINE))
    if [name for name, *_ in models] != [name for name, *_ in grids]:
        raise ValueError("expected the same architectures in both tables, in the same order")
    return [Architecture(*model, *grid[1:]) for model, grid in zip(models, grids, strict=True)]


def _cells(table: str) -> list[list[str]]:
    """The cells below the header: name, model, layer and layout; or name, input, axes, grid, schemes and delta."""
    return [
        [cell.strip().strip("`") for cell in line.strip("|").replace("<br>", "|").split("|")]
        for line in table.splitlines()[2:]
    ]


def defined_names() -> dict[str, Any]:
    """The names that the Python blocks of the section define."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", section(), re.DOTALL):
        exec(block, names)  # the guide's own code
    return names


def built(architecture: Architecture, names: dict[str, Any]) -> tuple[nn.Module, nn.Module, Layout]:
    """The model in training mode, its layer and its layout; its batch normalisations have the statistics of noise."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = eval(architecture.model, names).train()
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None  # the mean over all batches: one
        if norms:
            with torch.no_grad():
                model(torch.randn(2, *architecture.input_shape))
    layout = eval(architecture.layout, names) if architecture.layout else None
    return model, eval(architecture.layer, {"model": model}), Layout.of(layout)


def measured(architecture: Architecture, names: dict[str, Any]) -> Architecture:
    """The architecture with the grid, the schemes and the delta that `examine` finds."""
    model, module, layout = built(architecture, names)
    clip = torch.randn(1, *architecture.input_shape, generator=torch.Generator().manual_seed(1))
    report = examine(model, clip, input_layout=architecture.axes, n_layers=N_LAYERS, seconds=0)
    layers = [layer for layer in report.layers[:N_LAYERS] if layer.suggestion.module is module]
    if not layers or Layout.of(layers[0].suggestion.layout) != layout:
        raise ValueError(f"expected {architecture.name} to have the layer {architecture.layer}, but got\n{report}")
    suggestion = layers[0].suggestion
    schemes = [str(scheme) for scheme in SCHEMES if scheme.supports(*suggestion.grid)]
    return replace(
        architecture,
        grid=" × ".join(map(str, (suggestion.channels, *suggestion.grid))),
        schemes="all" if len(schemes) == len(SCHEMES) else ", ".join(schemes),
        delta=_delta(layers[0]),
    )


def _delta(layer: ExaminedLayer) -> str:
    """The delta as a share, to one digit; the largest rounding error for what is one."""
    share = max(layer.delta_share or 0.0, ROUNDING)
    digit, exponent = f"{share:.0e}".split("e")
    return f"{float(f'{share:.0e}'):g}" if int(exponent) > -3 else f"{digit}e{int(exponent)}"


def main(chosen: list[str]) -> None:
    """Replaces the rows of the chosen architectures, or of all."""
    names = defined_names()
    for architecture in architectures():
        if not chosen or architecture.name in chosen:
            new = measured(architecture, names)
            print(new.line)
            GUIDE.write_text(GUIDE.read_text(encoding="utf-8").replace(architecture.line, new.line), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # for the models in the tests
    main(sys.argv[1:])
