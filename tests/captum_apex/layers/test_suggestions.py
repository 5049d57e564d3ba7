"""The proposed layers and layouts, for every kind of layer."""

import warnings

import pytest
import torch
from timm import create_model
from torch import nn
from transformers import ASTConfig, ASTForAudioClassification, Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from captum_apex import FeatureBank, LayerAPEX, PrototypeBasis, SelectedOutput, suggest_layers
from captum_apex.layers.layout import Layout, check_layout
from captum_apex.layers.models import fingerprint
from captum_apex.layers.probe import changed_clips
from captum_apex.layers.visits import visited
from captum_apex.pretrained import LogitsModel

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "num_labels": 3}
OVER_TIME = "n c t -> n c 1 t"
TOKENS = "n t c -> n c 1 t"
SPECTROGRAM = (1, 32, 64)
WAVEFORM = (4000,)


class Planes(nn.Module):
    """Convolutions over frequency and time; a ReLU in place and a dropout behind them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Conv2d(8, 16, 3, 2)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout()
        self.head = nn.Linear(16, 3)

    def forward(self, inputs):
        return self.head(self.dropout(self.relu(self.second(self.first(inputs)))).mean((2, 3)))


class OverTime(nn.Module):
    """Convolutions over the waveform."""

    def __init__(self, wrap=lambda features: features):
        super().__init__()
        self.features = wrap(
            nn.Sequential(
                *(nn.Conv1d(1, 8, 9, 4), nn.BatchNorm1d(8), nn.ReLU()),
                *(nn.Conv1d(8, 16, 9, 4), nn.BatchNorm1d(16), nn.ReLU()),
            )
        )
        self.head = nn.Linear(16, 3)

    def forward(self, inputs):
        return self.head(self.features(inputs[:, None]).mean(2))


class Frames(nn.Module):
    """A transformer over the frames of a spectrogram; time is its first axis unless `batch_first`."""

    def __init__(self, batch_first):
        super().__init__()
        self.batch_first = batch_first
        self.embedding = nn.Linear(32, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, inputs):
        frames = self.embedding(inputs[:, 0].transpose(1, 2))
        if self.batch_first:
            return self.head(self.encoder(frames).mean(1))
        return self.head(self.encoder(frames.transpose(0, 1)).mean(0))


class Recurrent(Frames):
    """A recurrent layer in place of the transformer, which gives a tuple; its output can have a name."""

    def __init__(self, batch_first, named=False):
        super().__init__(batch_first)
        self.encoder = nn.GRU(16, 20, batch_first=batch_first)
        self.dropout = nn.Dropout()
        self.head = nn.Linear(20, 3)
        if named:
            self.output = nn.Identity()

    def forward(self, inputs):
        frames = self.embedding(inputs[:, 0].transpose(1, 2))
        frames, _ = self.encoder(frames if self.batch_first else frames.transpose(0, 1))
        if hasattr(self, "output"):
            frames = self.output(frames)
        return self.head(frames.mean(1 if self.batch_first else 0))


class Normed(nn.Module):
    """Convolutions, and a layer normalisation over the channels, which are moved to the last axis and stay there."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 16, 3, 2)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 3)

    def forward(self, inputs):
        return self.head(self.norm(self.features(inputs).permute(0, 2, 3, 1)).mean((1, 2)))


class Turned(nn.Module):
    """A block of the user's that changes the order of the axes: (clip, time, channel, frequency)."""

    def forward(self, features):
        return features.permute(0, 3, 1, 2).tanh()


class TimeFirst(nn.Module):
    """No kind of module says where the axes are."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 16, 3, 2)
        self.turned = Turned()
        self.head = nn.Linear(16, 3)

    def forward(self, inputs):
        return self.head(self.turned(self.features(inputs)).mean((1, 3)))


class Shared(Planes):
    """One ReLU for two places."""

    def forward(self, inputs):
        features = self.relu(self.second(self.relu(self.first(inputs))))
        return self.head(features.mean((2, 3)))


class Detached(Planes):
    """The scores have no gradient at the second convolution."""

    def forward(self, inputs):
        features = self.first(inputs)
        return self.head(self.second(features).detach().mean((2, 3)) + features.mean((1, 2, 3))[:, None])


class ClassMaps(Planes):
    """The classes' own maps are pooled, as in SqueezeNet."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, inputs):
        return self.head(self.relu(self.second(self.first(inputs)))).mean((2, 3))


def vision_transformer(pool):
    """Patches of 16 × 16 in two layers, and a class token."""
    return create_model(
        "vit_tiny_patch16_224", in_chans=1, img_size=(32, 64), num_classes=3, depth=2, embed_dim=24, global_pool=pool
    )


def swin():
    sizes = {"img_size": (32, 64), "depths": (1, 1), "num_heads": (1, 2), "embed_dim": 16, "window_size": 4}
    return create_model("swin_tiny_patch4_window7_224", in_chans=1, num_classes=3, **sizes)


def convnext():
    return create_model("convnext_atto", in_chans=1, num_classes=3, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))


def wav2vec2():
    config = Wav2Vec2Config(conv_dim=(16,) * 7, classifier_proj_size=24, **SMALL)
    return LogitsModel(Wav2Vec2ForSequenceClassification(config))


def spectrogram_transformer():
    return LogitsModel(ASTForAudioClassification(ASTConfig(max_length=100, num_mel_bins=48, **SMALL)))


def in_script(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that TorchScript is deprecated
        return torch.jit.script(module)


def traced(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module.eval(), torch.zeros(2, 1, 4000))


PATCHES = "n (f t) c -> n c f t"
AST = "model.audio_spectrogram_transformer"
CASES = {
    "planes": (Planes, SPECTROGRAM, "relu", None, 16, (7, 15)),
    "over time": (OverTime, WAVEFORM, "features", OVER_TIME, 16, (1, 248)),
    "parallel": (lambda: nn.DataParallel(OverTime()), WAVEFORM, "features", OVER_TIME, 16, (1, 248)),
    "compiled": (
        lambda: torch.compile(OverTime().eval(), backend="aot_eager"),
        WAVEFORM,
        "features",
        OVER_TIME,
        16,
        (1, 248),
    ),
    "script in a Sequential": (
        lambda: OverTime(lambda features: nn.Sequential(in_script(features))),
        *(WAVEFORM, "features", OVER_TIME, 16, (1, 248)),
    ),
    "traced": (lambda: OverTime(traced), WAVEFORM, "features", OVER_TIME, 16, (1, 248)),
    "transformer": (lambda: Frames(True), SPECTROGRAM, "encoder", TOKENS, 16, (1, 64)),
    "transformer, time first": (lambda: Frames(False), SPECTROGRAM, "encoder", "t n c -> n c 1 t", 16, (1, 64)),
    "channels last": (Normed, SPECTROGRAM, "norm", "n f t c -> n c f t", 16, (15, 31)),
    "axes of a user's block": (TimeFirst, SPECTROGRAM, "turned", "n t c f -> n c f t", 16, (15, 31)),
    "ViT, class token": (
        lambda: vision_transformer("token"),
        *((1, 32, 64), "blocks.0", Layout(PATCHES, {"f": 2}, class_tokens=1), 24, (2, 4)),
    ),
    "ViT, mean": (
        lambda: vision_transformer("avg"),
        *((1, 32, 64), "blocks", Layout(PATCHES, {"f": 2}, class_tokens=1), 24, (2, 4)),
    ),
    "Swin": (swin, (1, 32, 64), "norm", "n f t c -> n c f t", 32, (4, 8)),
    "ConvNeXt": (convnext, (1, 64, 128), "stages", None, 32, (2, 4)),
    "wav2vec 2.0": (wav2vec2, (8000,), "model.projector", TOKENS, 24, (1, 24)),
    "AST": (
        spectrogram_transformer,
        *((100, 48), f"{AST}.layers.1", Layout(PATCHES, {"f": 4}, class_tokens=2), 32, (4, 9)),
    ),
}
INPUT_LAYOUTS = {"AST": "n t f"}


def made(name):
    make, shape, *expected = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(), torch.randn(shape), expected


def own_hooks(module):
    """The hooks of a module, but for those that transformers adds when a model first runs."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return [hook for hook in hooks if "transformers" not in getattr(hook, "__module__", "")]


@pytest.mark.parametrize("name", CASES)
def test_the_first_layer_is_the_last_before_pooling_with_the_right_layout(name):
    model, clip, expected = made(name)
    weights = fingerprint(model)
    flags = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    first = suggest_layers(model, clip, input_layout=INPUT_LAYOUTS.get(name))[0]
    assert [first.name, first.layout, first.channels, first.grid] == expected
    assert fingerprint(model) == weights
    assert [module.training for module in model.modules()] == flags
    assert not any(map(own_hooks, model.modules()))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", CASES)
def test_every_proposed_layer_gives_a_bank_and_an_attribution(name):
    model, clip, _ = made(name)
    clips = torch.stack([clip, 2 * clip])
    for layer in suggest_layers(model, clips, input_layout=INPUT_LAYOUTS.get(name)):
        bank = FeatureBank.from_dataset(model, layer.module, clips, layout=layer.layout, schemes=["time"])
        assert (bank.n_channels, bank.origin.grid) == (layer.channels, layer.grid)
        basis = PrototypeBasis(torch.eye(layer.channels), "square", origin=bank.origin)
        assert LayerAPEX(model, layer.module, basis).attribute(clips, target=0).shape == (2, 1, *layer.grid)


@pytest.mark.parametrize("name", CASES)
def test_the_error_for_a_layout_that_does_not_fit_proposes_the_right_one(name):
    model, clip, (_, layout, *_) = made(name)
    if layout is None or name == "axes of a user's block":
        return  # four axes fit without a layout, and no kind of module contradicts
    layer = suggest_layers(model, clip, input_layout=INPUT_LAYOUTS.get(name))[0].module
    with pytest.raises(ValueError, match="expected") as error:
        FeatureBank.from_dataset(model, layer, clip[None])
    right = '("n (t f) c' if name == "AST" else Layout.of(layout).code  # the axes of its inputs are not given
    assert f"; pass {right}" in str(error.value).replace("Layout(", "(" if name == "AST" else "Layout(")


@pytest.mark.parametrize(("batch_first", "layout"), [(True, TOKENS), (False, "t n c -> n c 1 t")])
def test_a_recurrent_layer_is_proposed_by_the_first_tensor_of_its_tuple(batch_first, layout):
    clip = torch.randn(SPECTROGRAM)
    model = Recurrent(batch_first)
    layer = suggest_layers(model, clip)[0]
    assert (layer.name, layer.layout, layer.channels, layer.grid) == ("encoder", layout, 20, (1, 64))
    assert layer.reason == "last before pooling; the first tensor of its tuple; channels by its kind, GRU"
    bank = FeatureBank.from_dataset(model, layer.module, clip[None], layout=layout)
    assert (bank.n_channels, bank.origin.grid) == (20, (1, 64))
    names = [layer.name for layer in suggest_layers(Recurrent(batch_first, named=True), clip)]
    assert names[0] == "encoder"
    assert "output" not in names  # an identity, which gives the same values


def test_a_recurrent_layer_whose_last_state_is_read_says_so():
    class LastState(Recurrent):
        def forward(self, inputs):
            _, state = self.encoder(self.embedding(inputs[:, 0].transpose(1, 2)))
            return self.head(state[-1])

    layer = suggest_layers(LastState(True), torch.randn(SPECTROGRAM))[0]
    assert (layer.name, layer.layout) == ("encoder", TOKENS)
    assert layer.reason.startswith("last with places; the scores depend on its last column alone; the first tensor of")


class FramesAsClips(nn.Module):
    """A network over frequency that takes each frame for a clip; scores are the means over the frames."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv1d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv1d(8, 16, 1), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def forward(self, inputs):  # (clip, 1, frequency, time)
        frames = inputs.permute(0, 3, 1, 2).flatten(0, 1)  # (clip × frame, 1, frequency)
        return self.head(self.features(frames).mean(2)).unflatten(0, (len(inputs), -1)).mean(1)


def test_frames_that_a_model_takes_for_clips_are_the_time():
    """The contributions are those of the same network as a convolution over both axes, and add up but for the bias."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FramesAsClips().double().eval()
    clips = torch.randn(3, *SPECTROGRAM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = suggest_layers(model, clips)[0]
    assert (layer.name, layer.channels, layer.grid) == ("features", 16, (32, 64))
    assert layer.layout == ("(n t) c f -> n c f t", {"t": 64})
    assert "the model takes each frame for a clip" in layer.reason
    bank = FeatureBank.from_dataset(model, layer.module, list(clips), layout=layer.layout, schemes=["time-frequency"])
    assert bank.origin.grid == (32, 64)
    assert bank.origin.places.time.fills
    basis = PrototypeBasis(torch.eye(16), "time-frequency", origin=bank.origin)
    contributions = LayerAPEX(model, layer.module, basis).decompose(clips, 1)
    frames = clips.permute(0, 3, 1, 2)  # (clip, frame, 1, frequency)
    grid = torch.stack([model.features(each).permute(1, 2, 0) for each in frames]).detach()
    torch.testing.assert_close(contributions.features, grid)
    expected = grid.mean((2, 3)) @ model.head.weight[1]
    torch.testing.assert_close(contributions.relevance.sum((1, 2, 3)), expected.detach(), rtol=1e-9, atol=1e-12)


def test_a_layer_whose_cells_hear_everything_has_the_axes_of_the_module_before_it():
    """A change at one end moves nothing behind a convolution over the whole clip; such were left out before."""
    layers = [nn.Conv2d(1, 8, (9, 1), (4, 1)), nn.BatchNorm2d(8), nn.Conv2d(8, 8, (1995, 1), padding=(997, 0))]

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.wide = layers
            self.head = nn.Linear(8, 3)
            nn.init.constant_(self.wide.weight, 0.01)

        def forward(self, inputs):
            return self.head(self.wide(self.norm(self.first(inputs[:, None, :, None])).relu()).amax((2, 3)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        suggestions = suggest_layers(Deep(), torch.randn(WAVEFORM))
    first = suggestions[0]
    assert (first.name, first.layout, first.grid) == ("wide", "n c t f -> n c f t", (1, 998))
    assert first.reason.endswith("channels by its kind, Conv2d; the other axes as in norm")


class WorksInPlace(Planes):
    """A front end that changes in place what its own gradient needs."""

    def __init__(self):
        super().__init__()
        self.front = nn.Conv2d(1, 4, 3)
        self.first = nn.Conv2d(4, 8, 3, 2)

    def forward(self, inputs):
        spectrogram = self.front(inputs).exp().mul_(2)
        return self.head(self.relu(self.second(self.first(spectrogram))).mean((2, 3)))


class OneWay(nn.Module):
    """A function whose gradient cannot be computed, as of some kernels."""

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(_, inputs):
            return 2 * inputs

        @staticmethod
        def backward(*_):
            raise RuntimeError("the kernel has no backward\nat line 3")

    def forward(self, inputs):
        return self.Doubled.apply(inputs)


def test_layers_before_a_function_without_a_gradient_are_left_out_and_the_function_is_quoted():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), OneWay(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    suggestions = suggest_layers(model, torch.rand(1, 1, 16, 20))
    assert {each.name for each in suggestions} == {"1", "2"}
    assert suggestions.left_out["0"] == "no gradient at its output can be computed (the kernel has no backward)"


def narrowing(widths, ending=nn.Dropout):
    """Blocks on one grid, of which the last one has as many convolutions as there are widths, as PESTO has."""
    wide = [nn.Sequential(nn.Conv1d(inputs, 40, 5, padding=2), nn.ReLU()) for inputs in (1, 40)]
    sizes = zip([40, *widths], widths, strict=False)
    narrow = [module for size in sizes for module in (nn.Conv1d(*size, 1), nn.ReLU(), ending())]
    return nn.Sequential(*wide, nn.Sequential(*narrow), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(widths[-1], 4))


@pytest.mark.parametrize("ending", [nn.Dropout, nn.Tanh])
def test_a_container_stands_for_the_last_module_in_it(ending):
    """Both give the same tensor; the container has the name that a stage has, and a basis of it fits both."""
    model = narrowing([30, 10, 3], ending).eval()
    layer = suggest_layers(model, torch.randn(2, 1, 400))[0]
    assert (layer.name, layer.channels) == ("2", 3)
    outputs = []
    for module in (layer.module, model[2][-1]):
        module.register_forward_hook(lambda _, __, output: outputs.append(output))
    model(torch.randn(2, 1, 400))
    assert outputs[0] is outputs[1]


@pytest.mark.parametrize(("widths", "listed"), [([30, 10, 3], ["2", "1"]), ([30, 19], ["2", "1"]), ([30, 20], ["2"])])
def test_the_last_wide_block_is_listed_beside_a_narrow_layer(widths, listed):
    """Fewer than half of the channels are few."""
    layers = suggest_layers(narrowing(widths).eval(), torch.randn(2, 1, 400))
    assert [layer.name for layer in layers] == listed
    assert [layer.channels for layer in layers] == [widths[-1], 40][: len(listed)]


def test_a_front_end_that_works_in_place_hides_no_other_layer():
    suggestions = suggest_layers(WorksInPlace(), torch.randn(SPECTROGRAM))
    assert suggestions[0].name == "relu"
    assert suggestions.left_out == {"front": "the model changes in place what a gradient at its output needs"}


def test_modules_that_cannot_be_explained_are_left_out_with_the_reason():
    clip = torch.randn(SPECTROGRAM)
    assert suggest_layers(Shared(), clip).left_out == {
        "relu": "it runs 2 times in a pass; give each place a module of its own, such as an nn.Identity(), or choose a "
        "run by captum_apex.ChosenRun"
    }
    detached = suggest_layers(Detached(), clip)
    assert detached.left_out == {"second": "no gradient of the scores reaches its grid"}
    assert (detached[0].name, detached[0].reason) == ("first", "last that the scores depend on")
    assert "it is TorchScript" in suggest_layers(OverTime(in_script), torch.randn(WAVEFORM)).left_out["features"]


def test_a_model_in_script_has_no_layer_and_says_why():
    suggestions = suggest_layers(in_script(OverTime().eval()), torch.randn(WAVEFORM))
    assert len(suggestions) == 0
    assert "left out: the model: it is TorchScript" in repr(suggestions)
    with pytest.raises(IndexError, match="expected a layer to explain, but there is none; (?s:.*) it is TorchScript"):
        suggestions[0]


def test_a_layer_in_script_is_an_error_that_says_what_to_do():
    model = OverTime(in_script)
    with pytest.raises(ValueError, match="'features' is TorchScript; put it into an nn.Sequential"):
        FeatureBank.from_dataset(model, model.features, torch.randn(2, 4000), layout=OVER_TIME)


@pytest.mark.parametrize("n_more", [0, 1])
def test_maps_of_the_classes_come_last(n_more):
    """Also where a map of the background is left out of the scores."""
    model = ClassMaps()
    model.head = nn.Conv2d(16, 3 + n_more, 1)
    with_scores = SelectedOutput(model, lambda scores: scores[:, :3])
    names = [layer.name for layer in suggest_layers(with_scores, torch.randn(SPECTROGRAM))]
    assert names[0] == "relu"
    assert names[-1] == "head"


def test_an_example_is_a_batch_or_one_input_or_an_item_of_a_dataset():
    model = Planes()
    clip = torch.randn(SPECTROGRAM)
    tables = {repr(suggest_layers(model, example)) for example in (clip, clip[None], (clip, 2), clip.numpy())}
    assert len(tables) == 1
    function = suggest_layers(lambda inputs: model(inputs).softmax(1), clip)
    assert function[0].module is model.relu
    with pytest.raises(TypeError, match="expected `example` to be a tensor of inputs, but got dict"):
        suggest_layers(model, {})
    with pytest.raises(ValueError, match=r"to be inputs that the model takes, .*RuntimeError for the shape \(1, 2, 5"):
        suggest_layers(model, torch.zeros(1, 2, 5, 5))
    with pytest.raises(ValueError, match="expected `input_layout` to name the axes .* but got 'f t'"):
        suggest_layers(model, clip, input_layout="f t")


def test_a_model_that_gives_a_tuple_and_an_example_with_nan_are_refused():
    class Tuple(OverTime):
        def forward(self, inputs):
            return super().forward(inputs), 1

    with pytest.raises(ValueError, match="^expected the model Tuple to return a tensor of scores"):
        suggest_layers(Tuple(), torch.randn(WAVEFORM))
    with pytest.raises(ValueError, match="^expected finite values"):
        suggest_layers(OverTime(), torch.full(WAVEFORM, torch.nan))


def test_gradients_are_seen_also_where_the_caller_has_switched_them_off():
    model = OverTime()
    clip = torch.randn(WAVEFORM)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert suggest_layers(model, clip)[0].module is model.features


def test_the_axes_of_the_inputs_decide_which_axis_is_time():
    model = Planes()
    clip = torch.randn(1, 64, 32)
    assert suggest_layers(model, clip, input_layout="n c t f")[0].layout == "n c t f -> n c f t"
    guessed = suggest_layers(model, clip)
    assert guessed[0].layout is None
    assert "64 entries for frequency and 32 for time: if it is the other way round, pass" in repr(guessed)
    assert "pass input_layout" not in repr(suggest_layers(model, torch.randn(SPECTROGRAM)))


def test_a_constant_clip_serves_as_well():
    assert suggest_layers(Frames(True), torch.zeros(SPECTROGRAM))[0].layout == TOKENS


def test_the_table_is_printed_as_text_and_as_html():
    suggestions = suggest_layers(Frames(True), torch.randn(SPECTROGRAM))
    assert repr(suggestions).splitlines() == [
        'layers to explain, the best first; inputs of 1 × 32 × 64 are read as "n c f t":',
        "layer    channels  grid    layout              why",
        'encoder        16  1 × 64  "n t c -> n c 1 t"  last before pooling; channels by its kind, TransformerEncoder',
    ]
    page = suggestions._repr_html_()
    assert page.count("<tr>") == 2
    assert "&quot;n t c -&gt; n c 1 t&quot;" in page


class Block(nn.Module):
    """A block of the user's: its kind says nothing, the modules inside it know their channels."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 24)

    def forward(self, frames):
        return self.linear(frames).relu()


def test_a_layout_that_takes_known_channels_for_time_is_a_warning():
    output = torch.zeros(2, 50, 24)
    with pytest.warns(UserWarning, match='24 entries on axis 2, .* takes for time, and a Linear .* pass "n t c'):
        check_layout(Layout(OVER_TIME), Block(), output, "'block'")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_layout(Layout(TOKENS), Block(), output, "'block'")
        check_layout(Layout(OVER_TIME), Block(), torch.zeros(2, 24, 24), "'block'")


def test_a_layer_norm_over_axis_1_has_its_channels_there():
    class LayerNorm2d(nn.LayerNorm):
        """As that of timm and of torchvision."""

    check_layout(Layout(), LayerNorm2d(24), torch.zeros(2, 24, 5, 6))
    with pytest.raises(ValueError, match="expected channels on axis 3 of the layer, a LayerNorm"):
        check_layout(Layout(), nn.LayerNorm(6), torch.zeros(2, 4, 5, 6))


def test_a_transformer_says_where_its_clips_are():
    frames = torch.zeros(50, 2, 16)
    layer = nn.TransformerEncoderLayer(16, 2, 24)
    check_layout(Layout("t n c -> n c 1 t"), layer, frames)
    with pytest.raises(ValueError, match='expected clips on axis 1 of the layer, .* pass "t n c -> n c 1 t"'):
        check_layout(Layout(TOKENS), layer, frames)


class Averaging(nn.TransformerEncoderLayer):
    """A block as training can make it: each frame is mostly the mean of all."""

    def forward(self, frames, *_, **__):
        return frames + 40 * frames.mean(1, keepdim=True)


def test_a_block_that_spreads_a_change_over_all_frames_is_proposed():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Linear(32, 8)
            self.encoder = Averaging(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, clips):
            return self.head(self.encoder(self.embedding(clips.squeeze(1).transpose(1, 2))).mean(1))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        suggestions = suggest_layers(Model().eval(), torch.randn(SPECTROGRAM))
    assert (suggestions[0].name, suggestions[0].layout) == ("encoder", TOKENS)


def test_a_layer_behind_the_pooling_gets_no_layout_proposed():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"^(?!.*1 1).*; take a layer before the pooling"):
        FeatureBank.from_dataset(model, model[3], list(torch.rand(3, 1, 8, 16)), layout="n c t -> n c 1 t")


@pytest.mark.parametrize("seed", [0, 32, 52, 53, 64])  # in all but the first a channel hears high bands
def test_a_pooled_output_is_no_grid_whatever_its_channels_hear(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.AdaptiveAvgPool1d(1))
    clips = changed_clips(torch.zeros(1, 1, 90), ["n", "c", "t"])
    assert visited(dict(model.named_children()), lambda: model(clips))["1"].reading is None
