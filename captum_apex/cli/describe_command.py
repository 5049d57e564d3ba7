"""`describe`: says what files of bases and folders of feature banks hold."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captum_apex.cli.descriptions import BANK_FILE, PART_FILE, PARTS, describe_bank, describe_basis
from captum_apex.defaults import BASIS_SUFFIX
from captum_apex.result_tables import counted


def run(options: argparse.Namespace) -> int:
    """Says what files of bases and folders of feature banks hold."""
    paths = [each for path in options.paths for each in _files(path)]
    descriptions = []
    for path in paths:
        description = _described(path)
        descriptions.append({"path": str(path), **description})
        if not options.as_json:
            print("\n".join([str(path), *_lines(description)]))
    if options.as_json:
        print(json.dumps({"described": descriptions}))
    return 0


def _described(path: Path) -> dict[str, Any]:
    """What a file of a basis or a folder of a bank holds."""
    if not path.is_dir():
        return describe_basis(path)
    if (path / BANK_FILE).exists():
        return describe_bank(path)
    from captum_apex.cli.part_descriptions import describe_parts  # imports torch

    return describe_parts(path)


def _files(path: Path) -> list[Path]:
    """The bases and banks that a path stands for."""
    if path.name == BANK_FILE or (path / PART_FILE).exists():
        return [path.parent]
    if not path.is_dir() or (path / BANK_FILE).exists() or any(path.glob(PARTS)):
        return [path]
    files = sorted(path.glob(f"*{BASIS_SUFFIX}")) or sorted({part.parent for part in path.glob(f"*/{PARTS}")})
    if not files:
        raise FileNotFoundError(f"expected bases, *{BASIS_SUFFIX}, or a bank in {path}, but there are none")
    return files


def _lines(description: Mapping[str, Any]) -> list[str]:
    """A description in words, one line per fact."""
    facts = _basis_facts(description) if description["kind"] == "basis" else _bank_facts(description)
    facts |= {
        "layer": f"{description['layer'] or 'not known'}{_grid(description)}",
        "clips": _clips(description),
        "model": f"weights {description['model_fingerprint'] or 'not known (a plain function)'}",
        "format": description["format"],
    }
    width = max(map(len, facts)) + 2
    return [f"  {name.ljust(width)}{text}" for name, text in facts.items()]


def _basis_facts(description: Mapping[str, Any]) -> dict[str, str]:
    kind = "orthogonal" if description["orthogonal"] else "invertible"
    prototypes = "none"
    if description["n_prototypes"] is not None:
        regions = f"regions of {description['n_located']}" if description["n_located"] else "without regions"
        prototypes = (
            f"{description['n_prototypes']} per channel, mean purity {description['mean_purity']:.2f}, {regions}"
        )
        prototypes += "" if description["negative_side"] else ", without those of the negative side"
    return {
        "basis": f"for {description['scheme']}, {counted(description['n_channels'], 'channel')}, {kind}",
        "prototypes": prototypes,
        "fingerprint": description["fingerprint"],
    }


def _bank_facts(description: Mapping[str, Any]) -> dict[str, str]:
    size = f"{description['n_bytes'] / 1e6:.1f} MB"
    facts = {"bank": f"of {counted(description['n_channels'], 'channel')}, {size}"}
    if "n_parts" in description:
        begun = f"{description['n_written']} of {description['n_clips']} clips"
        facts["parts"] = f"{description['n_finished']} of {description['n_parts']} finished, with {begun}"
    if description.get("unfinished"):
        facts["missing"] = ", ".join(description["unfinished"])
    return facts | {
        "schemes": ", ".join(description["schemes"]) or "none, means alone",
        "labels": "yes" if description["has_labels"] else "none",
    }


def _grid(description: Mapping[str, Any]) -> str:
    texts = [" (its input)" if description["at_input"] else ""]
    if description["norm"]:
        texts.append(f", normalised by {description['norm']}")
    if description["grid"]:
        n_rows, n_columns = description["grid"]
        texts.append(f", grid of {counted(n_rows, 'row')} and {counted(n_columns, 'column')}")
    texts.append(f", layout {description['layout']}")
    return "".join(texts)


def _clips(description: Mapping[str, Any]) -> str:
    dataset = description["dataset_fingerprint"]
    shape = description["input_shape"]
    inputs = f", inputs of shape {tuple(shape)}" if shape else ", inputs of several lengths"
    return f"{description['n_clips']}{inputs}" + (f", fingerprint {dataset}" if dataset else "")
