"""Further arguments of the model for each clip, such as attention masks: in the items of the dataset, or collated."""

import numpy as np
import pytest
import torch
from torch import nn

from captum_apex import APEX, FeatureBank, basis_from_matrix, explain, fit_basis, locate_prototypes
from tests.networks import clips, invertible


class Masked(nn.Module):
    """A model with an attention mask (clip, time) and a gain for each clip, both of which the layer depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.layer = nn.ReLU()
        self.classifier = nn.Linear(6, 4)

    def forward(self, inputs, mask, gain=1.0):
        gain = gain if isinstance(gain, float) else gain[:, None, None, None]
        features = self.layer(self.conv(inputs) * mask[:, None, None] * gain)
        return self.classifier(features.sum((2, 3)) / mask.sum(1)[:, None])


def masked() -> Masked:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Masked().double().eval()


CLIPS = clips(7)
MASKS = torch.arange(10) < torch.tensor([10, 4, 7, 3, 9, 1, 5])[:, None]
GAINS = torch.linspace(0.5, 2.0, 7, dtype=torch.float64)
LABELS = [0, 1, 2, 3, 0, 1, 2]


def grid_alone(model, index, *arguments):
    """The output of the layer for one clip, calculated without the library's hooks."""
    features = model.conv(CLIPS[index : index + 1]) * arguments[0][index, None, None, None]
    gain = arguments[1][index] if len(arguments) > 1 else 1.0
    return (features * gain).relu()[0].detach()


def collated(items):
    return (
        torch.stack([item[0] for item in items]),
        torch.tensor([item[2] for item in items]),
        torch.stack([item[1] for item in items]),
    )


# the items, `collate_fn`, the arguments, and the labels
FORMS = {
    "mask": ([*zip(CLIPS, LABELS, MASKS, strict=True)], None, (MASKS,), LABELS),
    "mask and gain": ([*zip(CLIPS, LABELS, MASKS, GAINS.tolist(), strict=True)], None, (MASKS, GAINS), LABELS),
    "no labels": ([(clip, None, mask.numpy()) for clip, mask in zip(CLIPS, MASKS, strict=True)], None, (MASKS,), None),
    "label last": ([*zip(CLIPS, MASKS, LABELS, strict=True)], collated, (MASKS,), LABELS),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("form", FORMS)
def test_a_bank_holds_what_each_clip_gives_with_its_arguments(form, batch_size):
    items, collate_fn, arguments, labels = FORMS[form]
    model = masked()
    bank = FeatureBank.from_dataset(model, model.layer, items, batch_size=batch_size, collate_fn=collate_fn)
    assert (None if bank.labels is None else bank.labels.tolist()) == labels
    for index in range(7):
        grid = grid_alone(model, index, *arguments)
        torch.testing.assert_close(bank.means[index], grid.mean((1, 2)), rtol=0, atol=1e-12)
        torch.testing.assert_close(bank.cells["square"][index], grid.flatten(1), rtol=0, atol=1e-12)


def test_the_bank_agrees_with_what_attribute_explains():
    """The activations of the prototypes are those of the explained clip with the same arguments."""
    model = masked()
    bank = FeatureBank.from_dataset(model, model.layer, FORMS["mask and gain"][0], batch_size=4)
    basis = fit_basis(bank, "time", epochs=2, n_prototypes=(3, 2))
    apex = APEX(model, model.layer, basis)
    activations = apex.layer_apex.decompose(CLIPS, 1, (MASKS, GAINS)).activations
    for channel, indices in enumerate(basis.positive.indices.tolist()):
        torch.testing.assert_close(
            basis.positive.activations[channel].double(), activations[indices, channel], rtol=0, atol=1e-10
        )


def test_regions_of_prototypes_are_found_with_the_arguments_of_their_clips():
    """As for a function that knows the arguments of the only clip."""
    model = masked()
    arguments = (MASKS[1:2], GAINS[1:2])
    items = [(CLIPS[1], 2, MASKS[1], GAINS[1].item())]

    def bound(inputs):
        return model(inputs, *(each.expand(len(inputs), *each.shape[1:]) for each in arguments))

    boxes = []
    for function, dataset in ((model, items), (bound, [CLIPS[1]])):
        basis = basis_from_matrix(
            FeatureBank.from_dataset(function, model.layer, dataset), "time", invertible(), n_prototypes=1
        )
        located = locate_prototypes(APEX(function, model.layer, basis), dataset, n_prototypes=1)
        boxes.append(located.positive.boxes)
        further = arguments if function is model else None
        (found,) = explain(APEX(function, model.layer, basis), CLIPS[1:2], 2, further, n_prototypes=1, dataset=dataset)
        boxes.append(torch.tensor([[each.region.boxes[0].start, each.region.boxes[0].end] for each in found.evidence]))
    assert torch.equal(boxes[0], boxes[2])
    assert torch.equal(boxes[1], boxes[3])


def test_lengths_come_before_the_other_arguments():
    """Clips of several lengths: `columns` takes the lengths, and the model the lengths and then the gain."""

    class OfLengths(Masked):
        def forward(self, inputs, lengths, gain):
            return super().forward(inputs, torch.arange(inputs.shape[-1]) < lengths[:, None], gain)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OfLengths().double().eval()
    lengths = MASKS.sum(1).tolist()
    items = [(clip[..., :length], 0, gain) for clip, length, gain in zip(CLIPS, lengths, GAINS.tolist(), strict=True)]
    settings = {"columns": lambda lengths: lengths, "schemes": ["time"], "batch_size": 4}
    bank = FeatureBank.from_dataset(model, model.layer, items, **settings)
    alone = FeatureBank.from_dataset(model, model.layer, items, **{**settings, "batch_size": 1})
    torch.testing.assert_close(bank.means, alone.means, rtol=0, atol=1e-12)
    for index, length in enumerate(lengths):
        features = model.conv(CLIPS[index : index + 1, ..., :length]) * GAINS[index]
        torch.testing.assert_close(alone.means[index], features.relu().mean((2, 3))[0].detach(), rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [list, tuple, np.asarray])
def test_an_argument_that_is_a_list_has_an_entry_for_each_clip_also_for_the_first_one_alone(kind):
    class Named(Masked):
        def forward(self, inputs, names):
            assert len(names) == len(inputs)
            return super().forward(inputs, MASKS[[int(name) for name in names]])

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Named().double().eval()
    items = [*zip(CLIPS, [str(index) for index in range(7)], strict=True)]

    def collate_fn(items):
        return torch.stack([item[0] for item in items]), None, kind([item[1] for item in items])

    bank = FeatureBank.from_dataset(model, model.layer, items, batch_size=4, collate_fn=collate_fn)
    for index in range(7):
        torch.testing.assert_close(bank.means[index], grid_alone(masked(), index, MASKS).mean((1, 2)))


class Plain(nn.Module):
    """A model without further arguments."""

    def __init__(self):
        super().__init__()
        self.layer = nn.ReLU()

    def forward(self, inputs):
        return self.layer(inputs).mean((2, 3))


class Faulty(Masked):
    """A model that takes them and has another fault."""

    def forward(self, inputs, *arguments):
        return super().forward(inputs, arguments[0]) + len(3)


@pytest.mark.parametrize("wrapped", [False, True])
def test_arguments_that_the_model_does_not_take_are_said_to_come_from_where_they_do(wrapped):
    """From the items, or from `columns`; another error of the model stays as it is."""
    model = Plain()
    function = (lambda *arguments: model(*arguments)) if wrapped else model
    items = FORMS["mask"][0]
    of_items = r"takes 1 further arguments, because the items .* after the label; leave them out of the items .*\("
    with pytest.raises(TypeError, match=of_items):
        FeatureBank.from_dataset(function, model.layer, items)
    of_columns = (
        r"takes 1 further arguments, because `columns` is given, .* lengths of the clips; leave `columns` out \("
    )
    with pytest.raises(TypeError, match=of_columns):
        FeatureBank.from_dataset(function, model.layer, list(CLIPS), columns=lambda lengths: lengths)
    with pytest.raises(TypeError, match=r"takes 2 further .* lengths of the clips and the items .* after the label"):
        FeatureBank.from_dataset(function, model.layer, items, columns=lambda lengths: lengths)
    faulty = Faulty().double()
    with pytest.raises(TypeError, match=r"^object of type 'int' has no len\(\)$"):
        FeatureBank.from_dataset(faulty, faulty.layer, items)


def test_arguments_that_cannot_be_stacked_ask_for_a_collate_function():
    model = masked()
    for last, message in ((MASKS[0, :4], r"one shape for all clips, but got list \(Tensor, Tensor\)"), ("a", "list")):
        with pytest.raises(ValueError, match=f"expected entry 2 of the dataset's items, .*{message}.*`collate_fn`"):
            FeatureBank.from_dataset(model, model.layer, [(CLIPS[0], 0, MASKS[0]), (CLIPS[1], 1, last)])
