"""The reference classifiers: what they are built of, and that training is honest and repeatable."""

import copy
from dataclasses import replace

import pytest
import torch
from captum.attr import LRP, DeepLift
from torch import nn
from torch.nn import functional as F

from benchmarks.classifiers import training
from benchmarks.classifiers.networks import NETWORKS, LayerError, PlainCNN, explained_layer, head, pooled_norm
from benchmarks.classifiers.recipes import RECIPES, Recipe
from benchmarks.classifiers.training import accuracy, train_classifier, trained_classifier
from benchmarks.tasks import TASKS, ClipDataset, Task
from benchmarks.tasks.task import LogMel, Normalisation
from captum_apex.layers import PooledNorm

GRIDS = {
    "scenes": (64, 126),
    "crowded": (64, 126),
    "digits": (64, 126),
    "environment": (64, 216),
    "vocoded": (64, 126),
    "spliced": (64, 126),
}
QUICK = Recipe(epochs=6, batch=8, learning_rate=3e-3, roll=0.2, mask=0.1, mixup=0.2)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def task():
    """Three classes: a loud row low, in the middle, or high, in noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(72) % 3
    clips = torch.randn(72, 1, 32, 64, generator=generator)
    for clip, label in zip(clips, labels.tolist(), strict=True):
        clip[0, 4 + 10 * label : 8 + 10 * label] += 2
    return Task(
        name="rows",
        classes=("low", "middle", "high"),
        sample_rate=8000,
        log_mel=LogMel(8000, n_fft=512, window=256, hop=64, lowest=50.0, floor=-60.0, bands=32),
        normalisation=Normalisation(0.0, 1.0),
        silence=-3.0,
        train=ClipDataset(clips[:48], labels[:48]),
        test=ClipDataset(clips[48:], labels[48:]),
        waveform=lambda split, index: torch.zeros(8000),
    )


def grid_of(model, shape):
    found = []
    hook = explained_layer(model).register_forward_hook(lambda module, inputs, output: found.append(output.shape))
    model.eval()(torch.zeros(1, 1, *shape))
    hook.remove()
    return tuple(found[0])


# Networks


@pytest.mark.parametrize("task_name", TASKS)
def test_the_cnn_has_a_fine_grid(task_name):
    _, channels, rows, columns = grid_of(PlainCNN(8), GRIDS[task_name])
    assert (channels, rows) == (128, 8)
    assert columns >= 12


@pytest.mark.parametrize("task_name", TASKS)
def test_the_convnext_has_a_grid_of_at_least_4_by_12(task_name):
    _, _, rows, columns = grid_of(NETWORKS["convnext"](8), GRIDS[task_name])
    assert rows >= 4
    assert columns >= 12


@pytest.mark.parametrize("network", NETWORKS)
def test_there_is_a_logit_for_every_class(network):
    torch.manual_seed(0)
    assert NETWORKS[network](7).eval()(torch.zeros(2, 1, 64, 126)).shape == (2, 7)


def test_the_convnext_normalises_between_pooling_and_classifier():
    names = [type(module).__name__ for module in NETWORKS["convnext"](8).head.children()]
    assert any("Norm" in name for name in names[: names.index("Linear")])
    assert isinstance(
        NETWORKS["convnext"](8).norm_pre, nn.Identity
    )  # nothing between the explained layer and the pooling


def test_the_logit_of_the_cnn_is_linear_in_the_pooled_layer():
    """Σ over the grid of the mean features times the classifier's weights, plus its bias."""
    torch.manual_seed(0)
    model, log_mels = PlainCNN(5).eval(), torch.randn(3, 1, 64, 126)
    expected = model.features(log_mels).mean(dim=(2, 3)) @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(model(log_mels), expected)


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning")
def test_captum_has_rules_for_every_module_of_the_cnn():
    """LRP adds up to the logit without a bias, and DeepLift is complete: neither holds if an operation has no rule."""
    torch.manual_seed(0)
    model = PlainCNN(5).eval()
    nn.init.zeros_(model.classifier.bias)
    log_mels = torch.randn(2, 1, 64, 126, requires_grad=True)
    relevance = LRP(copy.deepcopy(model)).attribute(log_mels, target=1)
    torch.testing.assert_close(relevance.sum(dim=(1, 2, 3)), model(log_mels)[:, 1], rtol=1e-2, atol=1e-3)
    _, delta = DeepLift(copy.deepcopy(model)).attribute(log_mels, target=1, return_convergence_delta=True)
    torch.testing.assert_close(delta, torch.zeros(2), atol=1e-3, rtol=0)


def test_no_relu_of_the_cnn_is_in_place_or_used_twice():
    model, calls = PlainCNN(5).eval(), []
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    for relu in relus:
        assert not relu.inplace
        relu.register_forward_hook(lambda module, inputs, output: calls.append(module))
    model(torch.zeros(1, 1, 64, 126))
    assert len(calls) == len(set(calls)) == len(relus) == 4


def test_another_model_has_no_layer_to_explain():
    with pytest.raises(TypeError, match="made by one of cnn, convnext, but got a Linear"):
        explained_layer(nn.Linear(2, 2))


def test_the_head_behind_the_norm_takes_the_normalised_grid():
    model = NETWORKS["convnext"](5).eval()
    norm = pooled_norm(model)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    taken = []
    handle = explained_layer(model).register_forward_hook(lambda *arguments: taken.append(arguments[2]))
    with torch.no_grad():
        logits = model(torch.randn(2, 1, 64, 50, generator=torch.Generator().manual_seed(0)))
        handle.remove()
        grid = PooledNorm(norm, "norm").on_grid(taken[0])
        torch.testing.assert_close(head(model, explained_layer(model), norm)(grid), logits, rtol=0, atol=1e-5)
    assert pooled_norm(NETWORKS["cnn"](5)) is None


@pytest.mark.parametrize(
    ("network", "name"),
    [("cnn", "features.relu2"), ("cnn", "features.conv1"), ("convnext", "stages.2"), ("convnext", "stem")],
)
def test_an_earlier_layer_has_a_longer_head(network, name):
    model = NETWORKS[network](5).eval()
    layer, taken = explained_layer(model, name), []
    assert layer is model.get_submodule(name)
    handle = layer.register_forward_hook(lambda *own: taken.append(own[2]))
    with torch.no_grad():
        logits = model(torch.randn(2, 1, 64, 50, generator=torch.Generator().manual_seed(0)))
        handle.remove()
        torch.testing.assert_close(head(model, layer)(taken[0]), logits, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("network", "name"), [("cnn", "pool"), ("cnn", "features"), ("convnext", "head"), ("convnext", "stages.9")]
)
def test_a_layer_that_is_not_before_the_pooling_is_refused(network, name):
    with pytest.raises(LayerError, match=f"expected the name of a layer before pooling, one of .*, but got '{name}'"):
        explained_layer(NETWORKS[network](5), name)


# Augmentation


def test_twins_come_in_one_batch_and_are_augmented_alike(task):
    clips = task.train.log_mels.clone()
    clips[1::2] = clips[0::2] + 100  # what is told apart afterwards, and where nothing is masked
    paired = replace(task, train=ClipDataset(clips, torch.arange(len(clips)) % 2))
    seen = 0
    for inputs, targets in training._batches(paired, replace(QUICK, epochs=2, mixup=0.0, mask=0.3, twins=True)):
        assert inputs.shape == (QUICK.batch, 1, 32, 64)
        assert targets.argmax(1).tolist() == [0, 1] * (QUICK.batch // 2)
        masked = inputs[0::2] == 0
        assert torch.equal(masked, inputs[1::2] == 0)
        assert masked.any()
        torch.testing.assert_close(inputs[1::2][~masked], inputs[0::2][~masked] + 100)
        seen += len(inputs)
    assert seen == 2 * len(clips)


def test_rolling_is_a_circular_shift_of_each_clip():
    torch.manual_seed(0)
    clips = torch.randn(20, 1, 4, 10)
    rolled = training._rolled(clips, 0.3)
    shifts = []
    for before, after in zip(clips, rolled, strict=True):
        fitting = [shift for shift in range(-3, 4) if torch.equal(after, before.roll(shift, dims=2))]
        assert len(fitting) == 1
        shifts += fitting
    assert min(shifts) < 0 < max(shifts)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_mask_hides_one_stretch_of_one_axis(dim):
    torch.manual_seed(0)
    hidden = training._masked(torch.ones(50, 1, 20, 20), 0.4, dim) == 0
    other = 5 - dim
    assert torch.equal(hidden.any(dim=other), hidden.all(dim=other))
    widths = hidden.any(dim=other)[:, 0].sum(dim=1)
    assert widths.max() <= 9
    assert len(widths.unique()) > 4
    for places in hidden.any(dim=other)[:, 0]:
        assert places.int().diff().clamp_min(0).sum() + places[0] <= 1


def test_mixup_mixes_clips_and_labels_with_the_same_weight():
    torch.manual_seed(0)
    targets = torch.eye(6)
    clips = targets[:, None, None]  # clip i is its own label
    mixed, mixed_targets = training._mixed(clips, targets, 1.0)
    assert torch.equal(mixed[:, 0, 0], mixed_targets)
    torch.testing.assert_close(mixed_targets.sum(dim=1), torch.ones(6))
    assert ((mixed_targets > 0) & (mixed_targets < 1)).any()


# Training


@pytest.mark.parametrize("network", NETWORKS)
def test_training_learns_what_is_there(task, network):
    model = train_classifier(task, network, seed=0, recipe=QUICK)
    assert not model.training
    assert accuracy(model, task.test) > 0.9


def test_the_test_part_is_not_looked_at(task):
    poisoned = replace(task, test=ClipDataset(torch.full_like(task.test.log_mels, torch.nan), task.test.labels))
    one, other = (train_classifier(which, "cnn", seed=1, recipe=replace(QUICK, epochs=1)) for which in (task, poisoned))
    for before, after in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(before, after)


def test_a_seed_gives_the_same_network_and_leaves_the_random_state(task):
    recipe = replace(QUICK, epochs=1)
    state = torch.get_rng_state()
    first = train_classifier(task, "cnn", seed=4, recipe=recipe).classifier.weight
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(train_classifier(task, "cnn", seed=4, recipe=recipe).classifier.weight, first)
    assert not torch.equal(train_classifier(task, "cnn", seed=5, recipe=recipe).classifier.weight, first)


@pytest.mark.parametrize("network", ["cnn", "convnext"])
def test_the_number_of_threads_does_not_change_the_network(task, network):
    before = torch.get_num_threads()
    weights = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            model = train_classifier(task, network, seed=4, recipe=replace(QUICK, epochs=1))
            assert torch.get_num_threads() == threads
            weights.append(torch.cat([value.flatten() for value in model.state_dict().values()]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_progress_is_shown_on_request_only(task, capsys):
    recipe = replace(QUICK, epochs=1)
    train_classifier(task, "cnn", recipe=recipe)
    assert capsys.readouterr().err == ""
    train_classifier(task, "cnn", recipe=recipe, progress=True)
    assert "training cnn on rows: 100%" in capsys.readouterr().err


def test_an_unknown_network_is_refused(task):
    with pytest.raises(ValueError, match="expected `network` to be one of cnn, convnext, but got 'vgg'"):
        train_classifier(task, "vgg", recipe=QUICK)


def test_there_is_a_recipe_for_every_task_and_network():
    assert set(RECIPES) == {(task, network) for task in TASKS for network in NETWORKS}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_trained_classifier_is_trained_once(task, network, monkeypatch):
    monkeypatch.setitem(RECIPES, ("rows", network), replace(QUICK, epochs=1))
    first = trained_classifier(task, network, seed=0)
    monkeypatch.setattr(training, "train_classifier", None)
    state = torch.get_rng_state()
    again = trained_classifier(task, network, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert not again.training
    assert torch.equal(again(task.test.log_mels), first(task.test.log_mels))


def test_another_seed_recipe_or_clip_is_another_classifier(task, monkeypatch):
    calls = []

    def train(*args, **kwargs):
        calls.append(1)
        return PlainCNN(3)

    monkeypatch.setattr(training, "train_classifier", train)
    for _ in range(2):
        trained_classifier(task, "cnn", seed=0)
        trained_classifier(task, "cnn", seed=1)
        trained_classifier(replace(task, train=ClipDataset(task.train.log_mels + 1, task.train.labels)), "cnn", seed=0)
    assert len(calls) == 3
    monkeypatch.setitem(RECIPES, ("rows", "cnn"), QUICK)
    trained_classifier(task, "cnn", seed=0)
    assert len(calls) == 4


def test_accuracy_counts_the_largest_logits():
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, clips):
            return F.one_hot(clips.mean(dim=(1, 2, 3)).long(), 4).float() + self.weight

    clips = torch.arange(4.0)[:, None, None, None].expand(4, 1, 2, 2)
    assert accuracy(Mean(), ClipDataset(clips, torch.tensor([0, 1, 1, 3])), batch=3) == 0.75


@pytest.mark.parametrize("network", NETWORKS)
def test_the_head_is_what_follows_the_layer(network):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NETWORKS[network](5).eval()
    clips, taken = torch.randn(2, 1, 64, 40), []
    handle = explained_layer(model).register_forward_hook(lambda *own: taken.append(own[2]))
    with torch.no_grad():
        logits = model(clips)
        handle.remove()
        torch.testing.assert_close(head(model, explained_layer(model))(taken[0]), logits, rtol=0, atol=0)


def test_a_recipe_can_start_from_another_task(task, monkeypatch, tmp_path):
    """All weights but the last layer's begin as they were there."""
    monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path))
    monkeypatch.setitem(RECIPES, ("rows", "cnn"), QUICK)
    monkeypatch.setattr(training, "load_task", lambda name, seed: task)
    former = trained_classifier(task, "cnn", seed=1).state_dict()
    still = replace(QUICK, epochs=1, learning_rate=1e-9, weight_decay=0.0, start="rows")
    begun = train_classifier(task, "cnn", recipe=still, seed=1).state_dict()
    fresh = train_classifier(task, "cnn", recipe=replace(still, start=""), seed=1).state_dict()
    for name in ("features.conv0.weight", "features.conv3.weight"):
        torch.testing.assert_close(begun[name], former[name], rtol=0, atol=1e-6)
        assert not torch.allclose(fresh[name], former[name], atol=1e-3)
    torch.testing.assert_close(begun["classifier.weight"], fresh["classifier.weight"], rtol=0, atol=1e-6)
