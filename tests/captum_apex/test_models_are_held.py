"""Every public function that takes the user's model holds it in evaluation mode and leaves it as it was.

The functions are found by their signatures, so a new one without an example call here fails a test.
"""

import importlib
import inspect
import pkgutil
import re
import tempfile
from dataclasses import replace
from functools import partial

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn
from torch.overrides import _get_current_function_mode_stack

import captum_apex
from captum_apex import (
    APEX,
    Classifier,
    Explainer,
    FeatureBank,
    LayerAPEX,
    RegionSearch,
    SpectrogramAxes,
    basis_from_matrix,
    explain,
    explain_classes,
    explain_recording,
    insert_basis,
    listening,
    locate_prototypes,
)
from captum_apex.attribution.channel_outputs import ChannelOutputs
from captum_apex.attribution.evidence_score import EvidenceScore, InnerScore
from captum_apex.attribution.occlusion import two_sided_occlusion
from captum_apex.attribution.recorded_pass import in_recorded_pass, recorded_pass
from captum_apex.audio.regions import Box, Region
from captum_apex.bases.bank_writer import BankWriter
from captum_apex.bases.clip_loading import ClipLoading
from captum_apex.bases.feature_pass import FeaturePass
from captum_apex.bases.schemes import Scheme
from captum_apex.classifiers.logits import naming_score_counts, score_count_fault
from captum_apex.cli.layer_choice import layers_of, layers_to_choose_from
from captum_apex.examination import examine
from captum_apex.explaining.classifier_bases import fit_bases
from captum_apex.explaining.clip_pages import ClipPages, EvidenceSettings
from captum_apex.explanations.clip_channels import channels_by_activation, channels_by_contribution
from captum_apex.explanations.event_regions import EventRegions
from captum_apex.explanations.events import ChannelEvent
from captum_apex.explanations.evidence_regions import EvidenceRegions
from captum_apex.explanations.merging import EventInWindow
from captum_apex.explanations.prototype_regions import PrototypeRegions
from captum_apex.layers.hooks import frozen, held
from captum_apex.layers.layout import Layout
from captum_apex.layers.placing import cell_places
from captum_apex.layers.still_models import prepared
from captum_apex.layers.suggestions import suggest_layers, suggested_layout
from captum_apex.metrics import (
    deletion,
    deletion_insertion,
    insertion,
    mask_fidelity,
    masked_outputs,
    masked_scores,
    misalignment,
    mixed_outputs,
)
from captum_apex.recordings.windows import Windows

TAKES_A_MODEL = re.compile(r"Module|APEX|Classifier|ChannelValues|EvidenceScore")
NAMES_OF_MODELS = {"forward_func", "model", "apex", "classifier"}


def takes_a_model(function):
    """Whether a function has a parameter for a model, or for an object that has one."""
    return any(
        parameter.name in NAMES_OF_MODELS or TAKES_A_MODEL.search(str(parameter.annotation))
        for parameter in inspect.signature(function).parameters.values()
    )


def public_functions():
    """The functions and methods of the package that can run a model, by their names."""
    found = set()
    for module_info in pkgutil.walk_packages(captum_apex.__path__, "captum_apex."):
        if module_info.name.endswith("__main__"):
            continue
        module = importlib.import_module(module_info.name)
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            if getattr(value, "__module__", "") != module.__name__:
                continue
            if inspect.isfunction(value) and takes_a_model(value):
                found.add(name)
            elif inspect.isclass(value):
                found |= methods(value)
    return found


def methods(kind):
    """The public methods of a class that has a model, those of its abstract bases too, or those that take one."""
    has_a_model = "__init__" in vars(kind) and takes_a_model(kind.__init__)
    bases = [base for base in kind.__bases__ if inspect.isabstract(base) and base.__module__.startswith("captum_apex.")]
    own = {name for each in [kind, *(bases if has_a_model else [])] for name in vars(each) if not name.startswith("_")}
    functions = {name: inspect.unwrap(getattr(kind, name)) for name in own if callable(getattr(kind, name))}
    return {f"{kind.__name__}.{name}" for name, value in functions.items() if has_a_model or takes_a_model(value)}


class Probe(nn.Module):
    """A network whose results depend on its mode, and which notes in which mode it runs, or fails when it runs."""

    def __init__(self):
        super().__init__()
        self.spectrogram = nn.Identity()
        self.layer = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)
        self.modes = []
        self.fails = False

    def forward(self, clips):
        features = self.layer(self.spectrogram(clips))
        self.modes += [module.training for module in self.modules()]
        if self.fails:
            raise KeyError("the model fails")
        return self.head(self.dropout(features.mean((2, 3))))


class Failing(nn.Module):
    """Stands where a pass may end early, before the end of the network."""

    def __init__(self, probe):
        super().__init__()
        self.probe = (probe,)

    def forward(self, clips):
        (probe,) = self.probe
        probe.modes += [module.training for module in probe.modules()]
        if probe.fails:
            raise KeyError("the model fails")
        return clips


CLIPS = torch.rand(6, 1, 8, 16, generator=torch.Generator().manual_seed(0))
FILLS = torch.zeros_like(CLIPS)
GRID = torch.arange(16).expand(8, 16) // 4


class Subject:
    """The objects that the example calls need, on a probe in evaluation mode."""

    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = Probe().eval()
        self.model.spectrogram = Failing(self.model)
        self.layer = self.model.layer
        bank = FeatureBank.from_dataset(self.model, self.layer, list(CLIPS))
        self.basis = basis_from_matrix(bank, "time", torch.eye(4), n_prototypes=2)
        self.at_layer = LayerAPEX(self.model, self.layer, self.basis)
        self.apex = APEX(self.model, self.layer, self.basis)
        self.inner = APEX(
            self.model, self.layer, self.basis, projection=IntegratedGradients, input_layer=self.model.spectrogram
        )
        self.decomposition = self.at_layer.decompose(CLIPS, 1)
        self.weights = self.at_layer.weights(self.decomposition, torch.ones(6, 4, dtype=torch.bool))
        self.classifier = Classifier(
            self.model,
            lambda waveform: waveform.view(1, 8, 16),
            128,
            ["a", "b", "c"],
            SpectrogramAxes(128, 14, 8),
            exclusive=False,
        )
        self.evidence = explain(self.at_layer, CLIPS[:1], 1, n_prototypes=1, search=None)[0].evidence
        bases = [replace(self.basis, origin=replace(self.basis.origin, dataset="sounds"))]
        self.explainer = Explainer(self.classifier, bases, Sounds())
        self.pages = ClipPages(self.classifier, self.explainer.apexes, self.explainer.training)
        self.channels = channels_by_contribution(self.apex, CLIPS, (), self.decomposition, 0, [0, 1], 8)

    def scores(self, clips):
        return self.model(clips)

    def measures(self, function, **settings):
        return function(self.model, CLIPS, CLIPS, FILLS, grid=GRID, target=1, points=3, **settings)

    def naming_score_counts(self):
        with pytest.raises(ValueError, match="the classes do not fit"), naming_score_counts(self.classifier):
            raise ValueError("the classes do not fit")

    def event_regions(self):
        windows = Windows.of(torch.rand(256), 128, 1.0, 1.0)
        event = ChannelEvent(1.25, 1.5, None, None, 0, "a", 0.9, channel=0, side=1, contribution=1.0)
        regions = EventRegions(self.apex, self.classifier, windows, RegionSearch())
        return regions.refined([EventInWindow(event, 1.0, columns=(4, 8), rows=(0, 8), n_rows=8)])

    def written_events(self):
        with tempfile.TemporaryDirectory() as folder:
            listening.write(f"{folder}/a.wav", torch.rand(256), 128)
            settings = {"window": 1.0, "hop": 1.0, "threshold": 0.1}
            return self.explainer.write_events(folder, f"{folder}/events.csv", **settings)

    def written_evidence(self):
        with tempfile.TemporaryDirectory() as folder:
            listening.write(f"{folder}/a.wav", torch.rand(128), 128)
            return self.explainer.write_evidence([f"{folder}/a.wav"], f"{folder}/evidence.csv", search=None)

    def evidence_regions(self):
        regions = EvidenceRegions(self.apex, CLIPS, (), RegionSearch(), list(CLIPS))
        return regions.located(self.evidence, self.decomposition, clip=0, target=1)

    def inside(self, manager):
        with manager:
            return self.model(CLIPS)


class Sounds:
    """The clips as recordings."""

    class_names = ()
    labels = None

    def __len__(self):
        return len(CLIPS)

    def name(self, index):
        return f"clip {index}"

    def waveform(self, index, sample_rate, length=None, *, convert=True):
        return CLIPS[index].flatten()

    def fingerprint(self):
        return "sounds"


MASKS = torch.zeros(6, 2, 4, dtype=torch.bool)
CELL = Region((Box(0.0, 1.0, 0.0, 0.25),))
CALLS = {
    "APEX.attribute": lambda s: (
        s.apex.attribute(CLIPS, 1, return_convergence_delta=True),
        s.inner.attribute(CLIPS[:1], 1),
    ),
    "APEX.evidence_weights": lambda s: s.apex.evidence_weights(CLIPS, 1),
    "LayerAPEX.attribute": lambda s: s.at_layer.attribute(CLIPS, 1, return_convergence_delta=True),
    "LayerAPEX.decompose": lambda s: s.at_layer.decompose(CLIPS, 1),
    "LayerAPEX.decompose_each": lambda s: list(s.at_layer.decompose_each(CLIPS, lambda output: [0, 2])),
    "LayerAPEX.score_without_layer": lambda s: s.at_layer.score_without_layer(CLIPS, 1),
    "LayerAPEX.output_without_layer": lambda s: s.at_layer.output_without_layer(CLIPS),
    "EvidenceScore.forward": lambda s: EvidenceScore(s.model, s.layer)(CLIPS, s.weights),
    "InnerScore.forward": lambda s: InnerScore(EvidenceScore(s.model, s.layer), s.model.spectrogram, "spectrogram")(
        CLIPS, CLIPS, s.weights
    ),
    "ChannelOutputs.forward": lambda s: ChannelOutputs(s.model, s.layer, s.basis)(CLIPS),
    "ChannelOutputs.peaks": lambda s: ChannelOutputs(s.model, s.layer, s.basis).peaks(CLIPS),
    "misalignment": lambda s: misalignment(s.scores, CLIPS, CLIPS[:, 0] > 0.5, [0] * 6, n_steps=2),
    "insert_basis": lambda s: insert_basis(s.model, s.layer, s.basis, CLIPS),
    "FeatureBank.from_dataset": lambda s: FeatureBank.from_dataset(s.model, s.layer, list(CLIPS)),
    "FeaturePass.write": lambda s: FeaturePass(s.model, s.layer, ClipLoading.of(list(CLIPS)), "cpu").write(
        BankWriter(6, [Scheme.TIME], "layer", Layout())
    ),
    "ClipPages.page": lambda s: s.pages.page(
        s.explainer.classifier.drawn(CLIPS[0].flatten()),
        CLIPS[0],
        [0.0] * 3,
        1,
        EvidenceSettings(2, 2, "positive", RegionSearch()),
    ),
    "ClipPages.pages": lambda s: s.pages.pages(
        s.explainer.classifier.drawn(CLIPS[0].flatten()),
        CLIPS[0],
        "a clip",
        lambda scores: [0, 1],
        EvidenceSettings(2, 2, "positive", RegionSearch()),
    ),
    "ClipPages.scores": lambda s: s.pages.scores(CLIPS[0], "a clip"),
    "recorded_pass": lambda s: recorded_pass(s.model, s.layer, CLIPS),
    "in_recorded_pass": lambda s: s.inside(in_recorded_pass(s.model, s.layer)),
    "Explainer.explain": lambda s: s.explainer.explain(CLIPS[0].flatten()),
    "Explainer.explain_recording": lambda s: s.explainer.explain_recording(
        torch.rand(256), window=1.0, hop=1.0, threshold=0.1
    ),
    "Explainer.write_events": Subject.written_events,
    "Explainer.write_evidence": Subject.written_evidence,
    "Explainer.fit": lambda s: Explainer.fit(s.classifier, Sounds(), ["time"], layer=s.layer),
    "Explainer.located": lambda s: s.explainer.located(1),
    "layers_of": lambda s: layers_of(replace(s.classifier, length=128)),
    "layers_to_choose_from": lambda s: layers_to_choose_from(replace(s.classifier, length=128)),
    "cell_places": lambda s: cell_places(s.model, s.layer, CLIPS[:1]),
    "suggest_layers": lambda s: suggest_layers(s.model, CLIPS),
    "examine": lambda s: examine(s.model, CLIPS),
    "two_sided_occlusion": lambda s: two_sided_occlusion(s.model, CLIPS, FILLS, GRID, 1),
    "suggested_layout": lambda s: suggested_layout(s.model, s.layer, CLIPS),
    "fit_bases": lambda s: list(fit_bases(s.classifier, Sounds(), ["time"], layer=s.layer)),
    "score_count_fault": lambda s: score_count_fault(s.classifier),
    "naming_score_counts": lambda s: s.naming_score_counts(),
    "Classifier.scores": lambda s: s.classifier.scores(CLIPS[0], "a clip"),
    "channels_by_activation": lambda s: channels_by_activation(s.apex, CLIPS[:1], (), [0], 1, 8),
    "channels_by_contribution": lambda s: channels_by_contribution(s.inner, CLIPS, (), s.decomposition, 0, [0], 8),
    "EventRegions.refined": Subject.event_regions,
    "EvidenceRegions.located": Subject.evidence_regions,
    "Classifier.silence_probabilities": lambda s: s.classifier.silence_probabilities(1.0),
    "Classifier.silence_scores": lambda s: s.classifier.silence_scores(128),
    "explain": lambda s: explain(s.apex, CLIPS, n_prototypes=2, dataset=list(CLIPS)),
    "explain_classes": lambda s: explain_classes(s.apex, CLIPS[:1], lambda logits: logits > -9, n_prototypes=2),
    "explain_recording": lambda s: explain_recording(
        s.apex, torch.rand(256), 1.0, 1.0, classifier=s.classifier, threshold=0.1
    ),
    "PrototypeRegions.of": lambda s: PrototypeRegions(s.apex, list(CLIPS), RegionSearch()).of(0, 0, 1),
    "PrototypeRegions.find_all": lambda s: PrototypeRegions(s.apex, list(CLIPS), RegionSearch()).find_all([(0, 0, 1)]),
    "PrototypeRegions.find": lambda s: PrototypeRegions(s.apex, list(CLIPS), RegionSearch()).find(0, [0], 1),
    "locate_prototypes": lambda s: locate_prototypes(s.apex, list(CLIPS), n_prototypes=1, channels=[0]),
    "frozen": lambda s: s.inside(frozen(s.model)),
    "held": lambda s: s.inside(held(s.model)),
    "prepared": lambda s: s.inside(prepared(s.model)),
    "RegionSearch.locate": lambda s: RegionSearch().locate(s.channels, [CELL, CELL], 1, score=1.0),
    "ChannelValues.maps": lambda s: s.channels.maps(FILLS[:1], [0.5, 1.0]),
    "ChannelValues.of": lambda s: s.channels.of(CLIPS),
    "ChannelValues.on_grid": lambda s: s.channels.on_grid(CLIPS),
    "ChannelValues.with_scores": lambda s: s.channels.with_scores(CLIPS, 1),
    "deletion": lambda s: s.measures(deletion),
    "deletion_insertion": lambda s: s.measures(deletion_insertion),
    "insertion": lambda s: s.measures(insertion),
    "mask_fidelity": lambda s: mask_fidelity(
        nn.Sequential(s.model, nn.Softmax(1)), CLIPS, torch.full_like(CLIPS, 0.5), FILLS, target=1
    ),
    "masked_outputs": lambda s: masked_outputs(s.model, CLIPS, FILLS, MASKS, GRID),
    "masked_scores": lambda s: masked_scores(s.model, CLIPS, FILLS, MASKS, GRID, 1),
    "mixed_outputs": lambda s: mixed_outputs(s.model, CLIPS, FILLS, torch.tensor(0.5)),
}
AROUND_THE_MODEL = {
    "function": lambda s, model: lambda clips: model(clips).softmax(1),
    "function of an object": lambda s, model: lambda clips: s.model(clips),
    "partial": lambda s, model: partial(model),
    "method": lambda s, model: model.forward,
    "method of an object": lambda s, model: s.scores,
    "wrapper": lambda s, model: nn.Sequential(model, nn.Softmax(1)),
}
RUNS_NO_MODEL = {
    # The caller runs the model inside the block, and takes `held` or `frozen` to hold it.
    *("candidates", "visited"),
    *("captured", "copied", "hold", "hooked", "plain_paths", "recorded_graph", "released", "replaced", "watched"),
    # They call a function of the caller, which holds the model.
    *("EvidenceScore.check_gradient", "LayerGraph.check_reached", "gradient_stop"),
    # They only look at the model.
    *(
        "Explainer.load",
        "Explainer.save",
        "ClipSource.read",
        "InputDataset.fingerprint",
        "InputDataset.label_name",
        "apex_for",
        "apexes_of",
        "at_layer_of",
        "clip_sources",
        "file_sources",
        "ClipRequest.of",
        "ClipRequest.labels",
        "Classifier.probabilities",
        "check_layout",
        "check_origin",
        "channel_counts",
        "chosen_layer",
        "device_of",
        "fingerprint",
        "is_script",
        "kind_name",
        "known_axes",
        "layer_name",
        "model_of",
        "models_of",
        "selected_as",
        "takes_hooks",
    ),
    *("submodule", "on_one_device", "from_transformers", "PooledNorm.of", "RecordingGrid.of", "WindowMerger.of"),
    *("APEX.has_convergence_delta", "LayerAPEX.has_convergence_delta", "LayerAPEX.reads_input"),
    # They compute with what the model gave, or with the stored statistics of a norm.
    *(
        "checked_output",
        "tensor_in",
        "with_tensor",
        "LayerAPEX.matrices",
        "LayerAPEX.selected_channels",
        "LayerAPEX.weights",
    ),
    *("PooledNorm.check", "PooledNorm.on_grid", "PooledNorm.spread", "GridNorm.forward"),
    # They run the transform of the classifier, but not its model.
    "Classifier.dataset",
    "about_rows",
    *(f"InputDataset.{name}" for name in ("clip", "input", "name", "sound", "unfilled", "waveform")),
    "training_recordings",
    *("readable_recordings", "warned_readable"),
    *("ClipPages.forget", "ClipPages.labelled", "ClipPages.training_indices", "check_classifier"),
    *("Explainer.read_names", "Explainer.write_names"),  # they are about files
    # The module in their signature is a library for audio files.
    *("AudioFile.close", "AudioFile.read", "AudioFile.what_is_missing", "joined_streams", "PlainSamples.opened"),
    # They are models themselves.
    *("LogitsModel.forward", "MatrixBefore.forward", "MatrixBefore.multiplied"),
    *("SelectedOutput.forward", "SelectedOutput.extra_repr", "MixedSources.forward"),
    *("SelectedOutput.around", "EmbeddedWindows.forward", "EmbeddedWindows.extra_repr", "FrameByFrame.forward"),
    # `insert_basis` and `FeatureBank.from_dataset` run them.
    *("arguments_taken", "weighted_modules", "warn_of_neighbours"),
    # `examine` runs them.
    *("ExaminedModel.clips", "ExaminedModel.of", "ExaminedModel.seconds", "with_delta", "with_places"),
    # They ask `Classifier.silence_scores`, and say nothing where it fails.
    *("QuietEvents.add", "QuietEvents.marked", "warn_of_classes_in_silence"),
    "model_name",  # it asks for the name of the class
    # They find modules by their names, or are models themselves.
    *("named_layers", "ChosenRun.around", "ChosenRun.extra_repr", "ChosenRun.forward"),
    *("ChosenRun.get_submodule", "ChosenRun.set_submodule"),
    *("are_flipped", "changed_classifier", "faults_of_transform", "new_classifier"),
}


def test_every_public_function_that_takes_a_model_has_an_example_call():
    assert public_functions() == CALLS.keys() | RUNS_NO_MODEL


def state(model):
    """Everything of a model that a call could leave changed."""
    modules = dict(model.named_modules())
    return (
        {name: module.training for name, module in modules.items()},
        {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        {name: (len(module._forward_hooks), len(module._forward_pre_hooks)) for name, module in modules.items()},
        {name: tensor.tolist() for name, tensor in model.state_dict().items()},
        (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), len(_get_current_function_mode_stack())),
    )


def mixed_training(model):
    """A model in training mode with parts that are not, and a parameter without gradients."""
    model.train()
    model.dropout.eval()
    model.head.bias.requires_grad_(False)


@pytest.mark.filterwarnings("ignore:digital silence gets .?c")  # of an untrained model
@pytest.mark.parametrize("name", CALLS)
def test_a_model_in_training_is_held_in_evaluation_mode(name):
    subject = Subject()
    model = subject.model
    mixed_training(model)
    model.modes.clear()
    before = state(model)
    CALLS[name](subject)
    assert model.modes
    assert not any(model.modes)
    assert state(model) == before


SILENT_ABOUT_FAILURES = {"layers_to_choose_from", "naming_score_counts", "score_count_fault"}
"""What gives the end of a message, or another message, which is empty for a model that fails."""


@pytest.mark.parametrize("name", sorted(CALLS.keys() - SILENT_ABOUT_FAILURES))
def test_a_model_that_fails_is_left_as_it_was(name):
    subject = Subject()
    mixed_training(subject.model)
    subject.model.fails = True
    before = state(subject.model)
    # `Classifier.scores` says which clip it was.
    with pytest.raises((KeyError, ValueError), match="the model fails"):
        CALLS[name](subject)
    assert state(subject.model) == before


@pytest.mark.parametrize("name", sorted(SILENT_ABOUT_FAILURES))
def test_a_model_that_fails_while_another_error_is_explained_is_left_as_it_was(name):
    subject = Subject()
    mixed_training(subject.model)
    subject.model.fails = True
    before = state(subject.model)
    CALLS[name](subject)
    assert state(subject.model) == before


@pytest.mark.parametrize("name", AROUND_THE_MODEL)
def test_a_measure_holds_the_model_behind_a_function(name):
    subject = Subject()
    mixed_training(subject.model)
    subject.model.modes.clear()
    before = state(subject.model)
    mixed_outputs(AROUND_THE_MODEL[name](subject, subject.model), CLIPS, FILLS, torch.tensor(0.5))
    assert subject.model.modes
    assert not any(subject.model.modes)
    assert state(subject.model) == before
