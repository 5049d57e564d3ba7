"""Functions of arrays as models: embeddings of windows, heads that are fitted to them, and scores alone."""

import copy

import numpy as np
import pytest
import torch
from captum.attr import KernelShap, Occlusion
from sklearn.linear_model import LogisticRegression
from torch import nn

import captum_apex
from captum_apex import Classifier, FeatureBank, LayerAPEX, PrototypeBasis, explain, explain_recording, fit_basis
from captum_apex.attribution import two_sided_occlusion
from captum_apex.layers.cell_places import CellLine
from captum_apex.masking import region_grid, region_sums
from captum_apex.metrics import deletion_insertion
from captum_apex.pretrained import ArrayFunction, EmbeddedWindows, from_embeddings

RATE = 1000
WINDOW = 100
FREQUENCIES = (50, 120, 210, 330)  # Hz, of four classes


class Service:
    """A model behind NumPy: the amplitude of a window at some frequencies, (window, frequency)."""

    def __init__(self):
        self.sizes = []

    def __call__(self, windows):
        assert isinstance(windows, np.ndarray)
        assert windows.dtype == np.float32
        self.sizes.append(len(windows))
        amplitudes = np.abs(np.fft.rfft(windows, axis=1))[:, [hertz * WINDOW // RATE for hertz in FREQUENCIES]]
        windows[:] = np.nan  # what it gets is its own
        return amplitudes / WINDOW


class Tones:
    """Clips of 500 samples: noise, with the tone of the class of the clip in one window."""

    class_names = ("a", "b", "c", "d")

    def __init__(self, n_clips, seed, hop=WINDOW):
        generator = torch.Generator().manual_seed(seed)
        self.labels = tuple(index % 4 for index in range(n_clips))
        self.starts = (hop * torch.randint(0, 400 // hop + 1, (n_clips,), generator=generator)).tolist()
        self.waveforms = 0.05 * torch.randn(n_clips, 500, generator=generator)
        for waveform, label, start in zip(self.waveforms, self.labels, self.starts, strict=True):
            waveform[start : start + WINDOW] += tone(FREQUENCIES[label])

    def __len__(self):
        return len(self.waveforms)

    def name(self, index):
        return f"clip {index}"

    def waveform(self, index, sample_rate, length=None, *, convert=True):
        return self.waveforms[index][:length]

    def fingerprint(self):
        return f"tones {self.starts}"


def tone(hertz):
    return torch.sin(2 * torch.pi * hertz * torch.arange(WINDOW) / RATE)


@pytest.fixture(scope="module")
def training():
    return Tones(40, seed=0)


@pytest.fixture(scope="module")
def unseen():
    return Tones(20, seed=1)


@pytest.fixture
def classifier(training, unseen):
    return from_embeddings(Service(), training, unseen, sample_rate=RATE, window=WINDOW, length=500)


def test_scores_are_those_of_the_mean_embedding():
    head = nn.Linear(4, 3)
    model = EmbeddedWindows(Service(), head, WINDOW, hop=40)
    waveforms = torch.randn(3, 333)
    starts = range(0, 333 - WINDOW + 1, 40)
    for waveform, scores in zip(waveforms, model(waveforms), strict=True):
        embeddings = Service()(np.stack([waveform[start : start + WINDOW].numpy() for start in starts]))
        expected = head(torch.tensor(embeddings.mean(0), dtype=torch.float32))
        torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_a_function_gets_at_most_a_batch(batch_size):
    service = Service()
    whole = EmbeddedWindows(Service(), nn.Identity(), WINDOW)(torch.ones(2, 500).cumsum(1))
    batched = EmbeddedWindows(service, nn.Identity(), WINDOW, batch_size=batch_size)(torch.ones(2, 500).cumsum(1))
    torch.testing.assert_close(batched, whole)
    assert max(service.sizes) == min(batch_size, 5)  # the two clips are the same five windows


def test_a_window_is_embedded_once():
    service = Service()
    model = EmbeddedWindows(service, nn.Identity(), WINDOW, hop=50)
    recording = torch.randn(800)
    first = model(recording[None, :500])
    model(recording[None, 250:750])
    assert sum(service.sizes) == 14  # windows at 0, 50, ..., 650
    assert torch.equal(model(recording[None, :500]), first)
    assert sum(service.sizes) == 14


def test_old_embeddings_are_forgotten(monkeypatch):
    monkeypatch.setattr("captum_apex.pretrained.embedded_windows._REMEMBERED", 3)
    service = Service()
    model = EmbeddedWindows(service, nn.Identity(), WINDOW)
    waveforms = torch.randn(1, 500)
    assert torch.equal(model(waveforms), model(waveforms))
    assert len(model._remembered) == 3
    assert sum(service.sizes) > 5


def test_a_fitted_head_is_the_regression(training, classifier):
    """Probabilities of scikit-learn's own pipeline on the standardised mean embeddings."""
    embeddings = np.stack(
        [Service()(waveform.reshape(5, WINDOW).numpy().copy()).mean(0) for waveform in training.waveforms]
    ).astype(np.float64)
    mean, scale = embeddings.mean(0), embeddings.std(0)
    regression = LogisticRegression(max_iter=1000).fit((embeddings - mean) / scale, training.labels)
    expected = regression.predict_proba((embeddings - mean) / scale)
    got = classifier.probabilities(classifier.model(training.waveforms)).detach()
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_two_classes_have_the_probabilities_of_the_regression(training):
    class Two(Tones):
        class_names = ("low", "high")

        def __init__(self, n_clips, seed):
            super().__init__(n_clips, seed)
            self.labels = tuple(label // 2 for label in self.labels)

    two = Two(40, seed=0)
    classifier = from_embeddings(Service(), two, Two(20, seed=1), sample_rate=RATE, window=WINDOW, length=500)
    scores = classifier.model(two.waveforms).detach()
    assert classifier.model.head.weight.shape == (2, 4)
    torch.testing.assert_close(scores.sum(1), torch.zeros(40), rtol=0, atol=1e-5)
    assert (scores.argmax(1) == torch.tensor(two.labels)).all()


def test_the_accuracy_is_that_on_unseen_clips(training, unseen, classifier):
    assert classifier.model.accuracy == 1.0
    wrong = copy.copy(unseen)
    wrong.labels = tuple((label + (index < 5)) % 4 for index, label in enumerate(unseen.labels))
    other = from_embeddings(Service(), training, wrong, sample_rate=RATE, window=WINDOW, length=500)
    assert other.model.accuracy == 0.75
    assert "accuracy on unseen clips=0.75" in repr(other.model)


def test_contributions_are_those_of_the_head(training, unseen, classifier):
    """The head reads the mean embedding, so that the contribution of a cell is a product of two numbers."""
    bank = FeatureBank.from_dataset(classifier.model, classifier.layer, classifier.dataset(training))
    basis = fit_basis(bank, "time", n_prototypes=(20, 5), seed=0)
    decomposition = LayerAPEX(classifier.model, classifier.layer, basis).decompose(unseen.waveforms, 2)
    U = basis.U.double()
    embeddings = torch.tensor(Service()(unseen.waveforms.reshape(-1, WINDOW).numpy().copy()))
    in_basis = U @ embeddings.reshape(20, 5, 4).double().transpose(1, 2)  # (clip, channel, window)
    weights = torch.linalg.inv(U).T @ classifier.model.head.weight[2].double() / 5
    expected = (weights[:, None] * in_basis).sum(2)
    torch.testing.assert_close(decomposition.contributions.double(), expected, rtol=1e-4, atol=1e-4)
    total = decomposition.contributions.sum(1) + classifier.model.head.bias[2]
    torch.testing.assert_close(total, classifier.model(unseen.waveforms)[:, 2])


def test_regions_are_the_window_with_the_tone(training, unseen, classifier):
    explainer = captum_apex.Explainer.fit(classifier, training, schemes=["time"], seed=0)
    apex = LayerAPEX(classifier.model, classifier.layer, explainer.bases["time"])
    targets = torch.tensor(unseen.labels)
    for explanation, start in zip(explain(apex, unseen.waveforms, targets), unseen.starts, strict=True):
        evidence = explanation.evidence[0]
        (box,) = evidence.region.boxes
        # Waveforms are masked in frames of a Fourier transform, of 4 samples here.
        assert (box.start * 500, box.end * 500) == pytest.approx((start, start + WINDOW), abs=2)
        assert evidence.effect.better_than_random
        assert evidence.map is None  # no gradient reaches the samples
    labels = [training.labels[each.index] for each in evidence.prototypes]
    assert labels == [unseen.labels[-1]] * len(labels)


@pytest.mark.parametrize("hop", [100, 50, 30])
def test_places_of_windows_are_found(hop):
    model = EmbeddedWindows(Service(), nn.Identity(), WINDOW, hop)
    clips = list(torch.randn(3, 500, generator=torch.Generator().manual_seed(0)))
    origin = FeatureBank.from_dataset(model, model.embeddings, clips).origin
    n_windows = 1 + 400 // hop
    assert origin.grid == (1, n_windows)
    assert origin.places.time == CellLine(50.0, float(hop), 500, n_windows, receptive_field=WINDOW)


def test_events_of_a_recording(training, unseen):
    service = Service()
    classifier = from_embeddings(service, training, unseen, sample_rate=RATE, window=WINDOW, length=500)
    recording = 0.05 * torch.randn(3000, generator=torch.Generator().manual_seed(2))
    recording[1300:1400] += tone(FREQUENCIES[1])
    basis = PrototypeBasis(torch.eye(4), "time")
    apex = LayerAPEX(classifier.model, classifier.layer, basis)
    before = sum(service.sizes)
    found = explain_recording(apex, recording, 0.5, 0.1, classifier=classifier, threshold=0.8, n_channels=1)
    named = [event for event in found.events if event.name == "b"]
    assert [(event.start, event.end) for event in named] == [pytest.approx((1.3, 1.4))]
    assert sum(service.sizes) - before == 30  # each window once, though five clips have it


def test_the_models_own_head(training):
    """Three lines, where the network comes with its last layer."""
    head = nn.Linear(4, 4)
    model = EmbeddedWindows(Service(), head, WINDOW)
    classifier = Classifier(model, torch.clone, RATE, list("abcd"), length=500, layer=model.embeddings)
    bases = captum_apex.Explainer.fit(classifier, training, schemes=["square"], seed=0).bases
    assert bases["square"].purity_history[-1] > 0.9
    assert model.head is head


SCORES = ArrayFunction(lambda waveforms: np.stack([waveforms[:, 10:20].sum(1), waveforms[:, 60:70].sum(1)], 1), 1)


def test_occlusion_and_captum_take_a_function_of_arrays():
    waveforms = torch.rand(2, 100, generator=torch.Generator().manual_seed(0))
    fills = torch.zeros_like(waveforms)
    grid = region_grid((100,), 1, 10)
    expected = torch.zeros(2, 10)
    expected[:, 6] = waveforms[:, 60:70].sum(1)
    occluded = two_sided_occlusion(SCORES, waveforms, fills, grid, target=1)
    torch.testing.assert_close(region_sums(occluded, grid).float(), 2 * expected)
    captums = Occlusion(SCORES).attribute(waveforms, (10,), (10,), fills, 1) / 10
    torch.testing.assert_close(region_sums(captums, grid).float(), expected)
    torch.manual_seed(0)
    shap = KernelShap(SCORES).attribute(waveforms[:1], fills[:1], 1, feature_mask=grid[None], n_samples=100)
    assert region_sums(shap, grid).argmax() == 6
    curves = deletion_insertion(SCORES, waveforms, occluded, fills=fills, grid=grid, target=1)
    torch.testing.assert_close(curves.deletion[:, 1:], torch.zeros(2, 10), rtol=0, atol=1e-5)


def test_two_sided_occlusion_is_the_formula():
    """Against one pass for each copy, for a model in which regions act together, over spectrograms."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    inputs = torch.randn(3, 2, 4, 6).double()
    fills = torch.randn(3, 2, 4, 6).double()
    grid = region_grid((4, 6), 2, 3)
    got = region_sums(two_sided_occlusion(model, inputs, fills, grid, target=0), grid)
    for region in range(6):
        inside = (grid == region).expand_as(inputs)
        without = torch.where(inside, fills, inputs)
        alone = torch.where(inside, inputs, fills)
        expected = model(inputs) - model(without) + model(alone) - model(fills)
        torch.testing.assert_close(got[:, region], expected[:, 0].detach())


def test_a_model_without_a_layer_says_that_no_gradient_passes():
    model = nn.Sequential(nn.ReLU(), ArrayFunction(lambda values: values.sum((2, 3))))
    apex = LayerAPEX(model, model[0], PrototypeBasis(torch.eye(2), "time"))
    with pytest.raises(ValueError, match="no gradient"):
        apex.decompose(torch.ones(1, 2, 3, 4), 0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda arrays: arrays[0], r"return output\[None\]"),
        (lambda arrays: arrays.sum(), r"expected the function to give an array \(1, class\) .* got shape \(\)"),
        (lambda arrays: np.concatenate([arrays, arrays]), "one row of numbers for each clip"),
        (lambda arrays: {"scores": arrays}, "got dict"),
    ],
)
def test_functions_that_give_something_else(function, message):
    with pytest.raises(ValueError, match=message):
        ArrayFunction(function)(torch.ones(1, 3))


def test_arguments_that_are_refused(training, unseen):
    with pytest.raises(TypeError, match="expected a function of NumPy arrays, but got str"):
        ArrayFunction("model.onnx")
    with pytest.raises(ValueError, match="batch_size"):
        ArrayFunction(Service(), batch_size=0)
    with pytest.raises(TypeError, match="expected `head` to be a torch.nn.Module, but got ndarray"):
        EmbeddedWindows(Service(), np.eye(3), WINDOW)
    with pytest.raises(ValueError, match="at least the 100 samples of a window"):
        EmbeddedWindows(Service(), nn.Identity(), WINDOW)(torch.ones(1, 99))
    shape = {"sample_rate": RATE, "window": WINDOW, "length": 500}
    single = copy.copy(training)
    single.labels = (0,) * 40
    with pytest.raises(ValueError, match="got none of b, c, d"):
        from_embeddings(Service(), single, unseen, **shape)
    several = copy.copy(training)
    several.labels = np.eye(4, dtype=int)[list(training.labels)]
    with pytest.raises(ValueError, match="one label for each clip"):
        from_embeddings(Service(), several, unseen, **shape)
    with pytest.raises(ValueError, match="NaN or infinity for clip 0"):
        from_embeddings(lambda windows: windows[:, :3] * np.nan, training, unseen, **shape)
    unlabelled = copy.copy(unseen)
    unlabelled.labels = None
    with pytest.raises(ValueError, match="`unseen` to be clips with labels"):
        from_embeddings(Service(), training, unlabelled, **shape)
