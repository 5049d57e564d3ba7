"""Checkpoints of AudioProtoPNet: the published formula cell by cell in float64, and refused layouts."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers import ConvNextConfig, ConvNextModel

from benchmarks.classifiers.published_head import published_checkpoint
from benchmarks.classifiers.trained_heads import train_head

N_CLASSES, PER_CLASS, N_CHANNELS = 3, 2, 5
EPSILON = 1e-4


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def features():
    values = random(2, N_CHANNELS, 2, 3)
    values[0, :, 0, 0] = 0.0  # a cell without any activation
    values[1] *= 1e-3  # cells that are about as short as the added channels
    return values


def weights(*, connects_all=False, bands=None, bias=True):
    n_prototypes = N_CLASSES * PER_CLASS
    tensors = {
        "prototype_vectors": random(n_prototypes, N_CHANNELS, 1, 1, seed=1),
        "last_layer.weight": random(N_CLASSES, n_prototypes if connects_all else PER_CLASS, seed=2),
    }
    tensors["prototype_vectors"][1] *= 1e-3
    if bias:
        tensors["last_layer.bias"] = random(N_CLASSES, seed=3)
    if bands:
        tensors["frequency_weights"] = random(n_prototypes, bands, seed=4)
    return tensors


def published_similarity(tensors, cell, prototype, row):
    """`cos_activation` of the published code for one cell and one prototype, its steps one after another."""
    x = [*cell, EPSILON, EPSILON]
    length = math.sqrt(sum(value**2 for value in x) + EPSILON)
    x = [64 * value / length for value in x]
    p = [*tensors["prototype_vectors"][prototype].flatten().tolist(), EPSILON, EPSILON]
    length = math.sqrt(sum(value**2 for value in p) + EPSILON)
    p = [value / (length + EPSILON) for value in p]
    similarity = sum(a * b for a, b in zip(x, p, strict=True)) / (64 * 1.01)
    if "frequency_weights" in tensors:
        similarity /= 1 + math.exp(-tensors["frequency_weights"][prototype, row].item())
    return max(similarity, 0.0)


def connections(tensors):
    """The weight of each class and prototype, written out where a class has its own only."""
    given = tensors["last_layer.weight"].clamp_min(0)
    if given.shape[1] != PER_CLASS:
        return given
    return torch.block_diag(*given[:, None])


def rows_and_columns(clip):
    return [(row, column) for row in range(clip.shape[1]) for column in range(clip.shape[2])]


LAYOUTS = [
    weights(),
    weights(bias=False),
    weights(connects_all=True),
    weights(bands=2),
    weights(connects_all=True, bands=2),
]


@pytest.mark.parametrize("tensors", LAYOUTS)
def test_logits_and_maps_are_those_of_the_published_formula(tensors, features):
    head = published_checkpoint(tensors, enlarge=False).head
    targets = torch.tensor([2, 0])
    logits = head(features)
    maps = head.evidence(features, targets)
    weight = connections(tensors)
    for number, clip in enumerate(features):
        places = rows_and_columns(clip)
        found = [
            [published_similarity(tensors, clip[:, row, column].tolist(), prototype, row) for row, column in places]
            for prototype in range(N_CLASSES * PER_CLASS)
        ]
        for label in range(N_CLASSES):
            wanted = tensors["last_layer.bias"][label].item() if "last_layer.bias" in tensors else 0.0
            wanted += sum(weight[label, p].item() * max(cells) for p, cells in enumerate(found))
            assert logits[number, label].item() == pytest.approx(wanted, rel=1e-12, abs=1e-14)
        for place, (row, column) in enumerate(places):
            wanted = sum(weight[targets[number], p].item() * cells[place] for p, cells in enumerate(found))
            assert maps[number, row, column].item() == pytest.approx(wanted, rel=1e-12, abs=1e-14)


def test_published_models_compare_prototypes_with_a_grid_of_twice_the_size(features):
    tensors = weights(bands=4)
    wide = published_checkpoint(tensors).head
    plain = published_checkpoint(tensors, enlarge=False).head
    larger = torch.empty(2, N_CHANNELS, 4, 6, dtype=torch.float64)
    for row in range(4):
        for column in range(6):  # places of the new cells on the old grid, kept within it
            y, x = min(max((row + 0.5) / 2 - 0.5, 0), 1), min(max((column + 0.5) / 2 - 0.5, 0), 2)
            top, left = min(int(y), 0), min(int(x), 1)
            cells = features[:, :, top : top + 2, left : left + 2]
            shares = torch.outer(torch.tensor([1 - (y - top), y - top]), torch.tensor([1 - (x - left), x - left]))
            larger[:, :, row, column] = (cells * shares.double()).sum((2, 3))
    torch.testing.assert_close(wide(features), plain(larger))
    assert wide.evidence(features, torch.tensor([0, 1])).shape == (2, 4, 6)


def test_the_penalty_is_the_published_orthogonality_term():
    tensors = weights()
    total = 0.0
    for label in range(N_CLASSES):
        rows = []
        for prototype in range(label * PER_CLASS, (label + 1) * PER_CLASS):
            vector = tensors["prototype_vectors"][prototype].flatten().tolist()
            length = math.sqrt(sum(value**2 for value in vector) + EPSILON) + EPSILON
            rows.append([value / length for value in vector])
        for a, one in enumerate(rows):
            for b, other in enumerate(rows):
                total += (sum(x * y for x, y in zip(one, other, strict=True)) - (a == b)) ** 2
    wanted = math.sqrt(total) / (N_CLASSES * PER_CLASS**2)
    assert published_checkpoint(tensors).head.penalty().item() == pytest.approx(wanted, rel=1e-12)


def test_a_file_gives_the_same_head_and_the_network_below_it(tmp_path):
    config = ConvNextConfig(num_channels=1, depths=[1, 1], hidden_sizes=[4, N_CHANNELS], num_stages=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = ConvNextModel(config).eval()
    tensors = {key: value.float() for key, value in weights().items()}
    whole = {f"model._orig_mod.{key}": value for key, value in tensors.items()}
    whole |= {f"model._orig_mod.backbone_model.model.{key}": value for key, value in backbone.state_dict().items()}
    whole["loss.scale"] = torch.ones(1)
    path = tmp_path / "model.safetensors"
    save_file(whole, path)
    checkpoint = published_checkpoint(path)
    other = ConvNextModel(config).eval()
    other.load_state_dict(checkpoint.backbone)
    clips = random(2, 1, 32, 48).float()
    with torch.no_grad():
        wanted = published_checkpoint(tensors).head(backbone(clips).last_hidden_state)
        assert torch.equal(checkpoint.head(other(clips).last_hidden_state), wanted)
    assert not checkpoint.head.training
    assert torch.equal(published_checkpoint(str(path)).head.prototypes, checkpoint.head.prototypes)
    with pytest.raises(FileNotFoundError, match=r"other\.safetensors"):
        published_checkpoint(tmp_path / "other.safetensors")


def test_a_training_goes_on_from_the_published_weights(features):
    tensors = {key: value.float() for key, value in weights().items()}
    given = {key: value.clone() for key, value in tensors.items()}
    head = published_checkpoint(tensors).head
    before = head.prototypes.clone()
    head.start(features.float(), torch.tensor([0, 1]))
    assert torch.equal(head.prototypes, before)
    loss = F.cross_entropy(head(features.float()), torch.tensor([0, 1]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        train_head(head, features.float(), torch.tensor([0, 1]))
    assert F.cross_entropy(head(features.float()), torch.tensor([0, 1])) < loss / 4
    assert all(torch.equal(tensors[key], value) for key, value in given.items())  # the caller's are not trained


def test_a_head_in_single_precision_is_close(features):
    tensors = weights(bands=4)
    single = published_checkpoint({key: value.float() for key, value in tensors.items()}).head(features.float())
    torch.testing.assert_close(single.double(), published_checkpoint(tensors).head(features), rtol=1e-5, atol=1e-6)


def renamed(old, new):
    return {new if key == old else key: value for key, value in weights().items()}


REFUSED = [
    ({"state_dict": {}, "epoch": 3}, r"one key `prototype_vectors`, but got `state_dict`, `epoch`; pass `checkpoint\["),
    ({}, "but got no key; pass the weights of one AudioProtoPNet"),
    ({f"stage{i}.bias": torch.ones(1) for i in range(8)}, "`stage0.bias`, .*`stage5.bias` and 2 more; pass"),
    (
        weights() | {"ema.prototype_vectors": torch.ones(1)},
        "one key .*, but got `prototype_vectors`, `ema.prototype_vectors`; pass",
    ),
    (renamed("last_layer.weight", "fc.weight"), "only the keys .* but got `fc.weight`; leave out"),
    (weights() | {"add_on_layers.0.weight": torch.ones(1)}, "after the prefix '', but got `add_on_layers.0.weight`;"),
    (
        {"model.prototype_vectors": torch.ones(4, 3, 1, 1)},
        "the key `model.last_layer.weight` beside `model.prototype_vectors`, but got `prototype_vectors`; add",
    ),
    (
        weights() | {"prototype_vectors": torch.ones(6, 5, 1, 2)},
        r"`prototype_vectors` of shape \(prot.* \(6, 5, 1, 2\);",
    ),
    (
        weights() | {"last_layer.weight": torch.ones(4, 1)},
        r"`last_layer.weight` of shape .* the same number .* \(4, 1\);",
    ),
    (
        weights() | {"last_layer.weight": torch.ones(3, 3)},
        r"or \(class, 6\), .* but got \(3, 3\); prototypes that were",
    ),
    (weights() | {"last_layer.weight": torch.ones(0, 6)}, r"but got \(0, 6\);"),
    (weights() | {"last_layer.bias": torch.ones(2)}, r"`last_layer.bias` of shape \(3,\), .* but got \(2,\);"),
    (weights() | {"frequency_weights": torch.ones(3, 4)}, r"`frequency_weights` of shape \(6, row\), .* got \(3, 4\);"),
    (weights() | {"last_layer.weight": -torch.ones(3, 2)}, "with numbers above 0, .* but got at most -1"),
    (weights() | {"last_layer.bias": torch.tensor([0.0, math.nan, 0.0])}, "`last_layer.bias` to hold finite numbers"),
    (
        {f"head.{key}": value for key, value in weights().items()} | {"model.backbone.norm.weight": torch.ones(5)},
        "as `head.backbone_model.…`, or none, but got `model.backbone.norm.weight`; rename",
    ),
    (weights() | {"last_layer.bias": torch.ones(3, dtype=torch.int8)}, "to hold floats, but got torch.int8; convert"),
]


@pytest.mark.parametrize(("tensors", "message"), REFUSED)
def test_other_layouts_are_refused(tensors, message):
    with pytest.raises(ValueError, match=message):
        published_checkpoint(tensors)


def test_a_file_of_another_format_is_not_unpickled(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": nn.Linear(1, 1).state_dict()}, path)
    with pytest.raises(ValueError, match=r"model.ckpt to be a safetensors file, but .*weights_only=True"):
        published_checkpoint(path)


def test_weights_of_rows_need_as_many_rows(features):
    head = published_checkpoint(weights(bands=3)).head
    with pytest.raises(ValueError, match="grid has 3 rows.*but got 4 with `enlarge=True`; pass inputs"):
        head(features)
