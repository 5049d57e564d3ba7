"""A run of a layer that runs several times in a pass: explained as autograd on the output of that run says by hand."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from captum_apex import (
    ChosenRun,
    Classifier,
    Explainer,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    Recordings,
    SelectedOutput,
    examine,
    insert_basis,
    listening,
    suggest_layers,
)
from captum_apex.cli.loading import chosen_layer
from captum_apex.layers.chosen_run import named_layers
from captum_apex.layers.hooks import copied
from captum_apex.layers.models import fingerprint, layer_name, model_name, model_of, on_one_device
from captum_apex.layers.origin import Origin
from tests.networks import clips, invertible

N_RUNS = 3


class Again(nn.Module):
    """A block with one set of weights that is applied three times; the last module works in place."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.inner = nn.ModuleDict({"block": nn.Sequential(nn.Tanh(), nn.Conv2d(6, 6, 3, padding=1))})
        self.last = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 4)
        self.between = lambda index: None

    @property
    def block(self):
        return self.inner["block"]

    def forward(self, inputs):
        features = self.stem(inputs)
        for index in range(N_RUNS):
            features = self.block(features)
            self.between(index)
        return self.head(self.last(features).mean((2, 3)))


class OverFrames(nn.Module):
    """A cell that takes one frame after another and carries a state."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell(8, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, inputs):  # (clip, 1, frequency, time)
        state = None
        for frame in inputs[:, 0].unbind(-1):
            state = self.cell(frame, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


def seeded(make=Again):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double().eval()


def by_hand(model, inputs, run):
    """What the block gave in one run, and the gradient of the score of class 1 there."""
    features = model.stem(inputs)
    for index in range(N_RUNS):
        features = model.block[1](features.tanh())
        if index == run:
            chosen = features = features.detach().requires_grad_()
    scores = model.head(features.relu().mean((2, 3)))
    return chosen.detach(), torch.autograd.grad(scores[:, 1].sum(), chosen)[0]


def over_frames_by_hand(model, inputs, run):
    state = torch.zeros(len(inputs), 6, dtype=torch.float64)
    memory = torch.zeros_like(state)
    for index in range(inputs.shape[-1]):
        if isinstance(model.cell, nn.LSTMCell):
            state, memory = model.cell(inputs[:, 0, :, index], (state, memory))
        else:
            state = model.cell(inputs[:, 0, :, index], state)
        if index == run:
            chosen = state = state.detach().requires_grad_()
    gradient = torch.autograd.grad(model.head(state)[:, 1].sum(), chosen)[0]
    return chosen.detach()[:, :, None, None], gradient[:, :, None, None]


def contributions_by_hand(grid, gradient, U):
    """`c_k = Σ (U⁻ᵀ G)_k (U Z)_k`, with the inverse computed."""
    return torch.einsum("kc,ncft,kd,ndft->nk", U, grid, torch.linalg.inv(U).T, gradient)


def basis_of(layer="", layout=None, scheme="square"):
    origin = Origin(layer=layer) if layout is None else Origin(layer=layer, layout=layout)
    return PrototypeBasis(invertible(), scheme, origin=origin)


def hooks_of(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("run", range(N_RUNS))
def test_contributions_are_those_of_autograd_at_the_output_of_the_run(run):
    model = seeded()
    chosen = ChosenRun(model, model.block, run)
    assert torch.equal(chosen(clips()), model(clips()))
    grid, gradient = by_hand(model, clips(), run)
    bank = FeatureBank.from_dataset(chosen, chosen.layer, clips())
    torch.testing.assert_close(bank.means.double(), grid.mean((2, 3)), rtol=1e-6, atol=1e-7)
    basis = basis_of(layer_name(chosen, chosen.layer))
    got = LayerAPEX(chosen, chosen.layer, basis).decompose(clips(), target=1).contributions
    expected = contributions_by_hand(grid, gradient, basis.U.double())
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    assert hooks_of(chosen) == 0


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.RNNCell, nn.LSTMCell])
def test_a_frame_of_a_cell_is_explained(cell):
    model = seeded(lambda: OverFrames(cell))
    run = 6  # of ten frames
    chosen = ChosenRun(model, model.cell, run)
    bank = FeatureBank.from_dataset(chosen, chosen.layer, clips(), layout="n c -> n c 1 1", schemes=["square"])
    assert bank.origin.layer == "cell_run_6"
    basis = basis_of("cell_run_6", bank.origin.layout)
    got = LayerAPEX(chosen, chosen.layer, basis).decompose(clips(), target=1).contributions
    grid, gradient = over_frames_by_hand(model, clips(), run)
    torch.testing.assert_close(got, contributions_by_hand(grid, gradient, basis.U.double()), rtol=1e-9, atol=1e-12)


def test_the_names_and_the_fingerprint_are_those_of_the_model():
    model = seeded()
    chosen = ChosenRun(model, model.block, 1)
    assert layer_name(chosen, model.stem) == "stem"
    assert layer_name(chosen, model.block[1]) == "inner.block.1"
    assert layer_name(chosen, chosen.layer) == "inner_block_run_1"
    assert fingerprint(chosen) == fingerprint(model) != ""
    assert model_name(chosen) == "Again"
    assert chosen.get_submodule("inner.block") is model.block
    assert chosen.get_submodule("inner_block_run_1") is chosen.layer
    assert chosen.get_submodule("model.stem") is model.stem  # its name in this module
    with pytest.raises(AttributeError, match="has no attribute `tail`"):
        chosen.get_submodule("tail")
    assert "module='inner.block', run=1" in repr(chosen)
    names = [name for name, _ in named_layers(chosen)]
    assert names == ["", *[name for name, _ in model.named_modules()], "inner_block_run_1"]


@pytest.mark.parametrize("run", range(N_RUNS))
def test_the_run_is_suggested_beside_the_layers_of_the_model(run):
    model = seeded()
    chosen = ChosenRun(model, model.block, run)
    layers = suggest_layers(chosen, clips(1))
    assert layers[0].name == "last"
    (suggested,) = [layer for layer in layers if layer.module is chosen.layer]
    assert (suggested.name, suggested.channels, suggested.grid) == (f"inner_block_run_{run}", 6, (8, 10))
    assert {layer.name for layer in suggest_layers(model, clips(1))} <= {layer.name for layer in layers}
    assert examine(chosen, clips(2)).layers[0].name == "last"


def test_bases_of_other_layers_fit_the_model_and_the_chosen_run():
    model = seeded()
    chosen = ChosenRun(model, model.block, 1)
    expected = LayerAPEX(model, model.last, basis_of()).attribute(clips(), 1)
    for fitted, used in ((model, chosen), (chosen, model), (chosen, ChosenRun(model, model.block, 0))):
        bank = FeatureBank.from_dataset(fitted, model.last, clips())
        basis = PrototypeBasis(invertible(), "square", origin=bank.origin)
        assert bank.origin.layer == "last"
        torch.testing.assert_close(LayerAPEX(used, model.last, basis).attribute(clips(), 1), expected, rtol=0, atol=0)
        with pytest.raises(ValueError, match="the layer 'last', on which the basis was fitted, but got 'stem'"):
            LayerAPEX(used, model.stem, basis)


def test_the_basis_of_one_run_is_refused_for_another():
    model = seeded()
    first, second = (ChosenRun(model, model.block, run) for run in (0, 1))
    for wrapped in (first, nn.Sequential(first, nn.Identity())):
        origin = FeatureBank.from_dataset(wrapped, first.layer, clips()).origin
        basis = PrototypeBasis(invertible(), "square", origin=origin)
        LayerAPEX(first, first.layer, basis)
        for wrong, layer in ((second, second.layer), (wrapped, model.last), (nn.Sequential(second), second.layer)):
            with pytest.raises(ValueError, match=r"expected the layer '.*block_run_0', .* but got "):
                LayerAPEX(wrong, layer, basis)


def test_several_runs_are_chosen_one_from_the_other():
    model = seeded()
    first = ChosenRun(model, model.block, 0)
    both = ChosenRun(first, model.block, 2)
    assert torch.equal(both(clips()), model(clips()))
    for layer, run in ((first.layer, 0), (both.layer, 2)):
        assert layer_name(both, layer) == f"inner_block_run_{run}"
        got = LayerAPEX(both, layer, basis_of(f"inner_block_run_{run}")).decompose(clips(), target=1).contributions
        expected = contributions_by_hand(*by_hand(model, clips(), run), invertible().double())
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_a_selection_a_wrapper_and_a_copy_have_the_same_layer():
    model = seeded()
    run = 1
    expected = contributions_by_hand(*by_hand(model, clips(), run), invertible().double())
    chosen = ChosenRun(model, model.block, run)
    selected = SelectedOutput(nn.DataParallel(nn.Sequential(model, nn.Softmax(1))), model.head)
    of_selection = ChosenRun(selected, model.block, run)
    assert layer_name(of_selection, of_selection.layer) == "0_inner_block_run_1"
    of_parallel = ChosenRun(nn.DataParallel(model), model.block, run)
    copy = deepcopy(chosen)
    assert copy.layer is not chosen.layer
    wrappers = [
        *((chosen, chosen.layer), (partial(chosen), chosen.layer), (nn.DataParallel(chosen), chosen.layer)),
        (SelectedOutput(chosen, lambda scores: scores), chosen.layer),
        *((of_selection, of_selection.layer), (of_parallel, of_parallel.layer), (copy, copy.layer)),
    ]
    for wrapped, layer in wrappers:
        got = LayerAPEX(wrapped, layer, basis_of()).decompose(clips(), target=1).contributions
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
        assert hooks_of(model_of(wrapped)) == 0
    assert on_one_device(of_parallel).layer is of_parallel.layer
    assert torch.equal(ChosenRun(torch.compile(model), model.block, run)(clips()), model(clips()))


def test_a_basis_is_inserted_where_its_inverse_can_be_placed():
    model = seeded()
    chosen = ChosenRun(model, model.block[1], 0)
    at_last = insert_basis(chosen, model.last, basis_of(), clips())
    at_model = insert_basis(model, model.last, basis_of(), clips())
    assert torch.equal(at_last.get_submodule("head").weight, at_model.head.weight)
    torch.testing.assert_close(at_last(clips()), model(clips()), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="expected only pooling between .inner_block_1_run_0. and"):
        insert_basis(chosen, chosen.layer, basis_of(), clips())
    assert isinstance(chosen.layer, nn.Identity)


class Linearly(Again):
    """The same without functions of single channels, so that a linear head reads the last run."""

    def __init__(self):
        super().__init__()
        self.last = nn.Identity()


def test_a_basis_is_inserted_at_the_last_run():
    model = seeded(Linearly)
    chosen = ChosenRun(model, model.block, 2)
    inserted = insert_basis(SelectedOutput(chosen, lambda scores: scores), chosen.layer, basis_of(), clips())
    torch.testing.assert_close(inserted(clips()), model(clips()), rtol=1e-9, atol=1e-12)
    U = invertible().double()
    torch.testing.assert_close(inserted.model.get_submodule("head").weight, model.head.weight @ torch.linalg.inv(U))
    grid, _ = by_hand(model, clips(), 2)
    with torch.no_grad():
        values = []
        inserted.model.layer.register_forward_hook(lambda _, __, output: values.append(output))
        inserted(clips())
    torch.testing.assert_close(values[0], torch.einsum("kc,ncft->nkft", U, grid), rtol=1e-9, atol=1e-12)


class Repeated(nn.Module):
    def __init__(self, n_runs, gives=lambda output: output):
        super().__init__()
        self.block = nn.Tanh()
        self.gives = gives
        self.n_runs = n_runs

    def forward(self, inputs):
        for _ in range(self.n_runs):
            inputs = self.block(inputs)
        return inputs.mean((2, 3))


@pytest.mark.parametrize(("n_runs", "said"), [(0, "it ran 0 times"), (1, "it ran once"), (2, "it ran 2 times")])
def test_too_few_runs_are_an_error_that_counts_them(n_runs, said):
    model = Repeated(n_runs)
    chosen = ChosenRun(model, model.block, n_runs)
    with pytest.raises(ValueError, match=rf"'block' to have a run {n_runs} in a pass, counted from 0, but {said}$"):
        chosen(clips())
    assert hooks_of(chosen) == 0
    with pytest.raises(ValueError, match="to run in the forward pass, but it never did|counted from 0"):
        FeatureBank.from_dataset(chosen, chosen.layer, clips())


@pytest.mark.parametrize("failing", range(N_RUNS))
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_behind_where_the_pass_fails(failing, error):
    model = seeded()
    chosen = ChosenRun(model, model.block, 1)
    expected = model(clips())

    def fail(index):
        if index == failing:
            raise error("the model fails")

    model.between = fail
    for call in (chosen, partial(LayerAPEX(chosen, chosen.layer, basis_of()).attribute, target=1)):
        with pytest.raises(error, match="the model fails"):
            call(clips())
        assert hooks_of(chosen) == 0
    model.between = lambda index: None
    assert torch.equal(model(clips()), expected)
    assert torch.equal(chosen(clips()), expected)


def in_thread(function, *arguments):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result(timeout=60)


def test_passes_of_other_threads_are_neither_counted_nor_led_through_the_layer():
    """Between any two runs of the pass, another thread runs the whole model."""
    model = seeded()
    chosen = ChosenRun(model, model.block, 1)
    threads = []
    chosen.layer.register_forward_hook(lambda *_: threads.append(threading.get_ident()))
    own = threading.get_ident()
    others = []

    def run_beside(_):
        if threading.get_ident() == own:
            others.append(in_thread(model, clips(2, seed=5)))

    model.between = run_beside
    got = LayerAPEX(chosen, chosen.layer, basis_of()).decompose(clips(), target=1).contributions
    assert len(others) >= N_RUNS
    assert set(threads) == {own}
    expected = contributions_by_hand(*by_hand(model, clips(), 1), invertible().double())
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    model.between = lambda _: None
    assert all(torch.equal(other, model(clips(2, seed=5))) for other in others)


def test_two_threads_choose_runs_of_one_model_at_once():
    model = seeded()
    meeting = threading.Barrier(2)
    model.between = lambda _: meeting.wait(timeout=60)  # the runs alternate

    def decomposed(run):
        chosen = ChosenRun(model, model.block, run)
        return LayerAPEX(chosen, chosen.layer, basis_of()).decompose(clips(), target=1).contributions

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(decomposed, (0, 2)))
    for run, got in zip((0, 2), results, strict=True):
        expected = contributions_by_hand(*by_hand(model, clips(), run), invertible().double())
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    assert hooks_of(model) == 0


def test_a_copy_that_is_made_during_a_pass_has_no_hook():
    model = seeded()
    chosen = ChosenRun(model, model.block, 1)
    copies = []
    model.between = lambda index: copies.append(copied(model)) if index == 0 else None
    chosen(clips())
    assert hooks_of(copies[0]) == 0


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_what_is_no_run_of_a_module_is_refused():
    model = Repeated(2)
    with pytest.raises(ValueError, match="`run` to be at least 0, but got -1; count from the first run on, because"):
        ChosenRun(model, model.block, -1)
    with pytest.raises(TypeError, match="`run` to be an int"):
        ChosenRun(model, model.block, "last")
    with pytest.raises(ValueError, match="`module` to be a module inside the model, but this ReLU is not in Repeated"):
        ChosenRun(model, nn.ReLU(), 0)
    with pytest.raises(TypeError, match="`model` to be a torch.nn.Module, but got function"):
        ChosenRun(clips, model.block, 0)
    with pytest.raises(TypeError, match="`module` to be a torch.nn.Module, but got str"):
        ChosenRun(model, "block", 0)
    scripted = nn.Sequential(torch.jit.script(nn.ReLU()))
    with pytest.raises(ValueError, match="takes hooks as `module`, but '0' is TorchScript"):
        ChosenRun(scripted, scripted[0], 0)
    model.block = nn.Sequential()
    model.block.forward = lambda inputs: {"features": inputs}
    with pytest.raises(ValueError, match="'block' to give a tensor, .* but got a dict with"):
        ChosenRun(model, model.block, 0)(clips())


def test_the_errors_for_a_layer_that_runs_several_times_name_the_way_out():
    model = seeded()
    with pytest.raises(ValueError, match=r"`captum_apex.ChosenRun\(model, module, run\)`"):
        FeatureBank.from_dataset(model, model.block, clips())
    assert "choose a run by captum_apex.ChosenRun" in suggest_layers(model, clips(1)).left_out["inner.block"]


RATE = 800
CLASSES = ["dog", "rain", "siren"]


class Windows(nn.Module):
    """A model of waveforms with a block in three places; `blocks` may hold one block three times, or three of them."""

    def __init__(self, blocks):
        super().__init__()
        self.windows = nn.Conv1d(1, 6, 10, stride=10)
        self.blocks = blocks
        self.head = nn.Linear(6, 3)

    def forward(self, waveforms):
        features = self.windows(waveforms[:, None])
        for block in self.blocks:
            features = block(features)
        return self.head(features.relu().mean(2))


def waveform_model(apart):
    block = nn.Sequential(nn.Conv1d(6, 6, 3, padding=1), nn.Tanh())
    return Windows(nn.ModuleList([deepcopy(block) if apart else block for _ in range(N_RUNS)]))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    time = torch.arange(RATE) / RATE
    for index in range(9):
        path = folder / CLASSES[index % 3] / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        listening.write(path, 0.3 * torch.sin(2 * torch.pi * (40 + 30 * index) * time), RATE)
    return Recordings.in_folder(folder, CLASSES)


def explained(model, layer, recordings):
    classifier = Classifier(
        model,
        lambda waveform: waveform,
        RATE,
        CLASSES,
        length=RATE,
        layer=layer,
        layout="n c t -> n c 1 t",
        exclusive=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few recordings
        explainer = Explainer.fit(classifier, recordings, ["time"])
    sound = torch.sin(torch.arange(RATE) / 3)
    return explainer, explainer.explain(sound, n_prototypes=2)[0].explanations


def test_a_classifier_is_explained_as_one_whose_runs_are_modules_of_their_own(recordings, tmp_path):
    """From the fit to the saved bases; the oracle is the same model with three blocks of equal weights."""
    unrolled = seeded(partial(waveform_model, apart=True)).float()
    _, expected = explained(unrolled, unrolled.blocks[1], recordings)
    model = seeded(partial(waveform_model, apart=False)).float()
    chosen = ChosenRun(model, model.blocks[0], 1)
    explainer, got = explained(chosen, chosen.layer, recordings)
    assert got == expected
    assert explainer.bases["time"].origin.layer == "blocks_0_run_1"
    explainer.save(tmp_path / "bases")
    loaded = Explainer.load(tmp_path / "bases", explainer.classifier, recordings)
    assert loaded.explain(torch.sin(torch.arange(RATE) / 3), n_prototypes=2)[0].explanations == got
    assert chosen_layer(explainer.classifier, "blocks_0_run_1") is chosen.layer
    assert chosen_layer(explainer.classifier, "windows") is model.windows
