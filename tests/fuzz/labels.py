"""Labels of a dataset and the batches that a `collate_fn` makes of them, through the bank into the prototypes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from captum_apex import FeatureBank, LayerAPEX, basis_from_matrix, explain
from captum_apex.classifiers.class_names import class_name
from tests.fuzz.outcomes import accepted

NAMES = ("dog", "rain", "siren", "fox")


@cache
def small_model() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4)).eval()
    model[3].weight.data = torch.randn(4, 2, generator=generator)
    return model


KINDS = {
    "int": int,
    "numpy int": np.int64,
    "numpy 0-d": np.array,
    "tensor 0-d": torch.tensor,
    "small tensor": lambda index: torch.tensor(index, dtype=torch.int16),
    "tensor (1,)": lambda index: torch.tensor([index]),
    "numpy (1,)": lambda index: np.array([index]),
    "list (1,)": lambda index: [index],
    "one-hot tensor": lambda index: torch.eye(4)[index],
    "one-hot array": lambda index: np.eye(4, dtype=np.int64)[index],
    "one-hot list": lambda index: np.eye(4, dtype=np.int64)[index].tolist(),
    "bool": lambda index: bool(index % 2),
    "whole float": float,
    "float": lambda index: index + 0.5,
    "NaN": lambda index: float("nan"),
    "string": lambda index: NAMES[index],
    "bytes": lambda index: NAMES[index].encode(),
    "nothing": lambda index: None,
    "minus one": lambda index: -1,
    "object": lambda index: object(),
    "dict": lambda index: {"label": index},
    "pair": lambda index: (index, index),
}
PLAIN = ("int", "numpy int", "numpy 0-d", "tensor 0-d", "small tensor")
ONE_HOT = ("one-hot tensor", "one-hot array")


def labels(random: np.random.Generator, folder: Path) -> None:
    """Labels of one kind, or of mixed kinds, in batches of any size, with or without a `collate_fn` of the user."""
    n_clips = int(random.integers(1, 9))
    truth = random.integers(0, 4, n_clips).tolist()
    kind = str(random.choice([*KINDS]))
    kinds = [kind] * n_clips
    if random.random() < 0.2:
        kinds[int(random.integers(n_clips))] = str(random.choice([*KINDS]))
    clips = torch.from_numpy(random.normal(size=(n_clips, 2, 2, 3))).float()
    items: list = [(clip, KINDS[each](index)) for clip, each, index in zip(clips, kinds, truth, strict=True)]
    items = [list(item) if random.random() < 0.1 else item for item in items]
    broken = random.random() < 0.15
    if broken:
        place = int(random.integers(n_clips))
        items[place] = [clips[place], (clips[place],), (clips[place], 0, 0), (), None, {"x": clips[place]}][
            int(random.integers(6))
        ]
    collate = None
    if not broken and random.random() < 0.2:
        collate = _collates(n_clips)[str(random.choice([*_collates(n_clips)]))]
    plain = not broken and collate is None and {*kinds} == {kind}
    batch_size = int(random.integers(1, n_clips + 2))
    _check(items, clips, truth, batch_size, collate, plain, kind)


def _check(items, clips, truth, batch_size, collate, plain, kind):
    model = small_model()
    with accepted(plain and kind in (*PLAIN, *ONE_HOT), f"labels of kind {kind!r}"):
        bank = FeatureBank.from_dataset(model, model[0], items, batch_size=batch_size, collate_fn=collate)
    assert torch.allclose(bank.means, clips.relu().mean((2, 3))), "the means are not those of the clips"
    if bank.labels is not None:
        assert len(bank.labels) == len(clips), f"{len(bank.labels)} labels for {len(clips)} clips"
    if plain and kind in (*PLAIN, "tensor (1,)", "numpy (1,)"):
        assert bank.labels is not None
        assert bank.labels.flatten().tolist() == truth
    if plain and kind in (*ONE_HOT, "one-hot list"):
        assert bank.labels is not None
        assert bank.labels.shape == (len(clips), 4)
        assert bank.labels.argmax(1).tolist() == truth
    basis = basis_from_matrix(bank, "time", torch.eye(2), n_prototypes=min(2, len(clips)))
    (explanation,) = explain(LayerAPEX(model, model[0], basis), clips[:1] + 2, 1, n_prototypes=1, search=None)
    for evidence in explanation.evidence:
        name = class_name(evidence.prototypes[0].label, NAMES)
        if plain and kind != "bool" and kind != "pair":
            right = ("", NAMES[truth[evidence.prototypes[0].index]])
            assert name in right, f"a clip with a label of kind {kind!r} is named {name!r}, not {right[1]!r}"


def _collates(n_clips):
    """Functions of users; all but the first are wrong for some datasets."""
    return {
        "right": lambda items: (torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])),
        "no labels": lambda items: torch.stack([item[0] for item in items]),
        "one label": lambda items: (torch.stack([item[0] for item in items]), 1),
        "too many": lambda items: (torch.stack([item[0] for item in items]), torch.zeros(n_clips + 3)),
        "a clip twice": lambda items: (torch.stack([items[0][0], *(item[0] for item in items)]), None),
        "a clip less": lambda items: (torch.stack([item[0] for item in items[1:]]) if len(items) > 1 else None, None),
        "dict": lambda items: {"inputs": torch.stack([item[0] for item in items])},
        "None": lambda items: None,
        "strings": lambda items: (torch.stack([item[0] for item in items]), [str(item[1]) for item in items]),
        "three": lambda items: (torch.stack([item[0] for item in items]), None, None),
    }
