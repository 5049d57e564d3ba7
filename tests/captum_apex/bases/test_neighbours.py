"""Models whose features of a clip depend on the other clips of its batch are noticed by the bank."""

import warnings

import pytest
import torch
from torch import nn

from captum_apex import FeatureBank
from tests.networks import NETWORKS, NormHead, PoolingHead, build, clips

BATCH = "the features of a clip depend on the other clips of its batch"


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double().eval()


def of_batch(model):
    """The statistics of the batch in the stem."""
    model.stem[1] = nn.BatchNorm2d(5, track_running_stats=False)
    return model


class Centred(PoolingHead):
    """The mean over the clips is taken off, by hand."""

    def forward(self, clips):
        features = self.features(self.stem(clips))
        return self.classifier(self.relu(features - features.mean(0)).mean((2, 3)))


class Instances(PoolingHead):
    """Each clip has its own statistics."""

    def __init__(self):
        super().__init__()
        self.stem[1] = nn.InstanceNorm2d(5)


class Noisy(PoolingHead):
    def forward(self, clips):
        features = self.features(self.stem(clips))
        return self.classifier(self.relu(features + torch.randn_like(features)).mean((2, 3)))


def warnings_of(model, dataset, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bank = FeatureBank.from_dataset(model, model.relu, dataset, places=False, **settings)
    return bank, [str(each.message) for each in caught]


DEPENDENT = {"batch normalisation": lambda: of_batch(PoolingHead()), "mean over the clips": Centred}


@pytest.mark.parametrize("name", DEPENDENT)
@pytest.mark.parametrize("schemes", [["square"], ["time"], ["frequency"]])
def test_a_model_that_mixes_the_clips_of_a_batch_is_named(name, schemes):
    model = seeded(DEPENDENT[name])
    bank, (message,) = warnings_of(model, list(clips(6)), batch_size=4, schemes=schemes)
    alone, nothing = warnings_of(model, list(clips(6)), batch_size=1, schemes=schemes)
    assert not nothing
    assert message.startswith(BATCH)
    assert "pass batch_size=1" in message
    assert ("because 'stem.1', a BatchNorm2d, normalises" in message) == (name == "batch normalisation")
    # what the message says, calculated for the first clip
    (cells,) = bank.cells.values()
    (expected,) = alone.cells.values()
    pairs = [(cells[0], expected[0]), (bank.means[0], alone.means[0])]
    share = max(((one - other).norm() / max(one.norm(), other.norm())).item() for one, other in pairs)
    assert f"differ by {share:.0%} from" in message


def test_banks_of_one_clip_a_batch_are_right():
    """With `batch_size=1`, each clip has what the model gives for it alone."""
    model = seeded(Centred)
    bank, _ = warnings_of(model, list(clips(4)), batch_size=1)
    assert torch.equal(bank.means, torch.zeros(4, 6, dtype=torch.float64))  # a clip alone is its own mean


INDEPENDENT = {  # those with a ReLU module
    **{name: network.make for name, network in NETWORKS.items() if name not in ("nonlinear", "tokens")},
    "instance normalisation": Instances,
    "channels of half size": lambda: NormHead(width=2),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", INDEPENDENT)
def test_no_other_model_is_named(name, dtype):
    model = seeded(INDEPENDENT[name]).to(dtype)
    _, messages = warnings_of(model, list(clips(6, dtype=dtype)), batch_size=4)
    assert not messages


class Louder(PoolingHead):
    """Features of batches are larger, by a share that is a power of two and so the same in every precision."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, clips):
        features = self.relu(self.features(self.stem(clips)) * (1 + self.share * (len(clips) > 1)))
        return self.classifier(features.mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("share", "usual", "half"), [(1 / 64, 0, 0), (1 / 32, 1, 0), (1 / 16, 1, 0), (1 / 8, 1, 1)])
def test_differences_of_2_percent_are_named_and_of_10_in_half_precision(dtype, share, usual, half):
    model = seeded(lambda: Louder(share)).to(dtype)
    _, messages = warnings_of(model, list(clips(6, dtype=dtype)), batch_size=4)
    assert len(messages) == (half if dtype.itemsize == 2 else usual)


def test_silent_clips_and_single_clips_are_no_error():
    model = seeded(PoolingHead)
    assert not warnings_of(model, [torch.zeros(1, 8, 10, dtype=torch.float64)] * 3)[1]
    assert not warnings_of(seeded(Centred), list(clips(1)))[1]


def test_the_first_clip_of_several_lengths_is_compared_without_the_columns_of_longer_ones():
    model = seeded(PoolingHead)
    dataset = [clips(1, columns=columns, seed=columns + i)[0] for i, columns in enumerate((8, 8, 16, 16))]
    _, messages = warnings_of(model, dataset, batch_size=2)
    assert not messages
    _, (message,) = warnings_of(seeded(DEPENDENT["batch normalisation"]), dataset, batch_size=2)
    assert message.startswith(BATCH)


def test_a_model_that_draws_numbers_is_told_from_one_that_mixes_clips():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, (message,) = warnings_of(seeded(Noisy), list(clips(6)), batch_size=4)
    assert message.startswith("the model gives other features when a clip runs a second time")


def test_a_model_that_takes_no_clip_alone_is_named():
    class Vectors(PoolingHead):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(6, track_running_stats=False)
            self.relu = nn.ReLU()

        def forward(self, clips):
            pooled = self.norm(self.features(self.stem(clips)).mean((2, 3)))
            return self.classifier(self.relu(pooled[:, :, None, None])[:, :, 0, 0])

    _, (message,) = warnings_of(seeded(Vectors), list(clips(6)), batch_size=3)
    assert message.startswith("the model does not run on one clip alone (ValueError: Expected more than 1 value")
    assert message.endswith("because 'norm', a BatchNorm1d, normalises with the statistics of the batch")


def test_the_dataset_runs_once_and_one_clip_again_up_to_the_layer():
    model, layer = build("pooling")
    seen = {"stem": [], "classifier": []}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, arguments, name=name: seen[name].append(len(arguments[0]))
        )
        for name in seen
    ]
    before = clips(11)
    FeatureBank.from_dataset(model, layer, before, batch_size=4, places=False)
    for handle in handles:
        handle.remove()
    assert seen == {"stem": [4, 4, 3, 1], "classifier": [4, 4, 3]}
    assert torch.equal(before, clips(11))
