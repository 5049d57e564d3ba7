"""The cost of explanations: passes of the model, and values that are read one by one, do not grow with the batch."""

import pytest
import torch

from captum_apex import SCHEMES, FeatureBank, LayerAPEX, basis_from_matrix, explain, explain_classes
from tests.networks import build, clips, invertible
from tests.operations import Operations, operations, passes

MOST_READS = 40  # of a batch
FEW, MANY = 3, 24  # clips


def subject(scheme, columns=None):
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, [(clip, i % 3) for i, clip in enumerate(clips(15, seed=5))])
    basis = basis_from_matrix(bank, scheme, invertible(), n_prototypes=4)
    return model, LayerAPEX(model, layer, basis, columns=columns)


def operations_of_batch(scheme, n_clips):
    _, apex = subject(scheme)
    inputs = clips(n_clips, seed=6)
    return operations(lambda: explain(apex, inputs, search=None, sides="both"))


def operations_of_classes(scheme, n_clips, n_classes):
    """Each of the first classes is explained in every clip."""
    _, apex = subject(scheme)
    inputs = clips(n_clips, seed=6)
    classes = (torch.arange(4) < n_classes).expand(n_clips, -1)
    return operations(lambda: explain_classes(apex, inputs, classes, search=None, sides="both"))


def operations_of_padded_clips(n_clips):
    """Clips of three lengths; the scores are multiplied by them."""
    _, apex = subject("time", columns=lambda lengths: lengths[:, 0])
    inputs = clips(n_clips, seed=6)
    lengths = 3 + torch.arange(n_clips)[:, None] % 3
    return operations(lambda: explain(apex, inputs, 1, lengths, search=None, sides="both"))


@pytest.mark.parametrize("read", [torch.Tensor.tolist, torch.Tensor.item, bool, int, float, torch.nonzero])
def test_every_way_to_read_a_value_is_counted(read):
    value = torch.ones(())
    with Operations() as counted:
        read(value)
    assert counted.n_reads == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_reads_of_a_batch_do_not_grow_with_its_clips(scheme):
    few, many = (operations_of_batch(scheme, n) for n in (FEW, MANY))
    assert 0 < few.n_reads == many.n_reads <= MOST_READS
    assert many.counts.total() <= few.counts.total() + 5


def test_the_reads_of_padded_clips_do_not_grow_with_their_number():
    few, many = (operations_of_padded_clips(n) for n in (FEW, MANY))
    assert 0 < few.n_reads == many.n_reads <= MOST_READS


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_reads_of_a_class_do_not_grow_with_the_clips(scheme):
    one, four = ([operations_of_classes(scheme, n, n_classes).n_reads for n in (FEW, MANY)] for n_classes in (1, 4))
    assert one[0] == one[1] <= MOST_READS
    assert four[0] == four[1] <= 4 * MOST_READS


def test_all_classes_take_two_passes():
    model, apex = subject("time")
    inputs = clips(FEW, seed=6)
    every = torch.ones(FEW, 4, dtype=torch.bool)
    assert len(passes(model, lambda: explain(apex, inputs, search=None))) == 2
    assert len(passes(model, lambda: explain_classes(apex, inputs, every, search=None))) == 2


def test_the_grid_is_brought_into_the_basis_once_for_all_classes():
    """One product for the grid of the clips, and one for the gradient of each class."""
    products = [operations_of_classes("time", FEW, n).counts["bmm"] for n in (1, 2, 4)]
    assert products == [2, 3, 5]
