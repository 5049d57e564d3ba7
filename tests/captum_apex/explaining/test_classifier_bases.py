"""What a classifier says of labelled clips, before bases are fitted on them."""

import pytest
import torch
from torch import nn

from captum_apex import Classifier, FeatureBank, Scheme
from captum_apex.explaining import classifier_bases
from captum_apex.explaining.classifier_bases import fit_bases, recognised
from captum_apex.layers import Origin

LOUD = (0, 2, 1, 1, 0, 2, 2, 0, 1, 0)  # the third of each clip that is loud


class Clips:
    """Clips that are loud in one third."""

    class_names = ("begin", "middle", "end")

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(LOUD)

    def name(self, index):
        return f"clip {index}"

    def waveform(self, index, sample_rate, length=None, *, convert=True):
        return torch.eye(3)[LOUD[index]].repeat_interleave(4)

    def fingerprint(self):
        return "clips"


def thirds(class_names=Clips.class_names):
    """A classifier whose scores are the sums over the thirds of a clip."""
    model = nn.Sequential(nn.Unflatten(1, (-1, 4)), nn.AvgPool1d(4), nn.Flatten())
    return Classifier(model, lambda waveform: waveform, 8000, class_names)


@pytest.mark.parametrize(("n_clips", "tried"), [(20, 10), (10, 10), (5, 5), (4, 4), (3, 3), (1, 1)])
def test_clips_are_spread_over_the_data_set(n_clips, tried):
    assert recognised(thirds().dataset(Clips(LOUD)), n_clips) == (tried, tried)


def test_another_order_of_the_classes_is_seen():
    labels = [(label + 1) % 3 for label in LOUD]
    assert recognised(thirds().dataset(Clips(labels))) == (0, 10)
    labels[0] = LOUD[0]
    assert recognised(thirds().dataset(Clips(torch.tensor(labels)))) == (1, 10)


def test_one_of_several_labels_is_enough():
    labels = torch.nn.functional.one_hot(torch.tensor(LOUD)).float()
    labels[:, 1] = 1.0
    assert recognised(thirds().dataset(Clips(labels))) == (10, 10)
    labels[1] = torch.tensor([1.0, 1.0, 0.0])
    assert recognised(thirds().dataset(Clips(labels))) == (9, 10)


def test_clips_of_no_class_are_not_tried():
    labels = torch.nn.functional.one_hot(torch.tensor(LOUD)).float()
    labels[:4] = 0
    assert recognised(thirds().dataset(Clips(labels))) == (6, 6)
    assert recognised(thirds().dataset(Clips(torch.zeros(10, 3)))) is None


def test_a_layout_is_for_the_classifier():
    layer = nn.Conv1d(1, 4, 3)
    model = nn.Sequential(nn.Unflatten(1, (1, 12)), layer, nn.AdaptiveAvgPool1d(1), nn.Flatten())
    classifier = Classifier(model, lambda waveform: waveform, 8000, ["a", "b", "c", "d"], layer=layer)
    with pytest.raises(ValueError, match='pass "n c t -> n c 1 t" as `layout` to the Classifier'):
        list(fit_bases(classifier, Clips(None)))


def test_nothing_is_said_without_labels_or_with_one_class():
    assert recognised(thirds().dataset(Clips(None))) is None
    one = Classifier(nn.Linear(12, 1), lambda waveform: waveform, 8000, ["loud"])
    clips = Clips([0] * len(LOUD))
    clips.class_names = ("loud",)
    assert recognised(one.dataset(clips)) is None


def test_a_layer_of_one_cell_is_refused():
    model = nn.Sequential(nn.Unflatten(1, (1, 1, 12)), nn.Conv2d(1, 4, (1, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier(model, lambda waveform: waveform, 8000, ["a", "b", "c", "d"], layer=model[2])
    with pytest.raises(ValueError, match="'2' gives one cell, .* take a layer before the pooling"):
        list(fit_bases(classifier, Clips(None)))
    next(fit_bases(classifier, Clips(None), layer=model[1], epochs=1))


def test_square_is_fitted_for_a_layer_of_one_row_only_where_it_is_asked_for():
    model = nn.Sequential(nn.Unflatten(1, (1, 1, 12)), nn.Conv2d(1, 3, (1, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier(model, lambda waveform: waveform, 8000, Clips.class_names, layer=model[1])
    assert [str(basis.scheme) for basis in fit_bases(classifier, Clips(None), epochs=1)] == ["time"]
    asked = fit_bases(classifier, Clips(None), ["square"], epochs=1)
    assert [str(basis.scheme) for basis in asked] == ["square"]


@pytest.mark.parametrize(("free", "fits"), [(881, True), (879, False)])
def test_a_bank_is_moved_to_a_gpu_only_where_it_fits(free, fits, monkeypatch):
    """With the cells of one scheme and the means, 704 bytes, which may be four fifths of what is free."""
    cells = {Scheme.TIME: torch.ones(8, 2, 10), Scheme.SQUARE: torch.ones(8, 2, 40)}
    bank = FeatureBank(cells, torch.ones(8, 2), None, Origin("layer", grid=(4, 10)))
    moved = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 10**9))
    monkeypatch.setattr(FeatureBank, "to", lambda self, device: moved.append(device) or self)
    if fits:
        of_scheme = classifier_bases._with_cells_of(bank, Scheme.TIME, torch.device("cuda"))
    else:
        with pytest.warns(
            UserWarning, match="the fit of 'time' runs on the CPU, because the 0.0 GB of its cells do not"
        ):
            of_scheme = classifier_bases._with_cells_of(bank, Scheme.TIME, torch.device("cuda"))
    assert list(of_scheme.cells) == [Scheme.TIME]
    assert moved == ([torch.device("cuda")] if fits else [])
