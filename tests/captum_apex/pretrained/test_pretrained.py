"""Classifiers of transformers: tiny ones, made from configurations."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from captum_apex import (
    APEX,
    Explainer,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    Recordings,
    SpectrogramAxes,
    fit_basis,
    from_transformers,
)
from captum_apex.__main__ import main
from captum_apex.layers.hooks import watched
from captum_apex.layers.layout import Layout
from captum_apex.layers.origin import Origin

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "num_labels": 3}
CONVOLUTIONS = {
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_feat_extract_layers": 3,
}
POSITIONS = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
FRAMES = SIZES | CONVOLUTIONS | POSITIONS | {"classifier_proj_size": 16}
SETTINGS = {
    "Data2VecAudio": {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5},
    "Hubert": {"conv_pos_batch_norm": True},
    "UniSpeech": {"use_weighted_layer_sum": True},
    "Wav2Vec2Conformer": {"conv_depthwise_kernel_size": 5},
}
PADDED = (
    "Data2VecAudio",
    "Hubert",
    "UniSpeech",
    "UniSpeechSat",
    "Wav2Vec2",
    "Wav2Vec2Bert",
    "Wav2Vec2Conformer",
    "WavLM",
)
IMAGES = {
    "ConvNext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "ConvNextV2": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "EfficientNet": {"hidden_dim": 128, "width_coefficient": 0.1, "depth_coefficient": 0.1},
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
}
AST = {key: SIZES[key] for key in SIZES} | {
    "num_mel_bins": 24,
    "max_length": 40,
    "patch_size": 8,
    "frequency_stride": 4,
    "time_stride": 6,
}
NORMS = ("group", "layer")

# transformers asks torch so
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")


def build(name, head="ForSequenceClassification", **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**settings)
        model = getattr(transformers, f"{name}{head}")(config).eval()
        for parameter in model.parameters():
            if parameter.dim():
                nn.init.normal_(parameter, std=0.3)
    return model


def frames(name, norm="layer", **settings):
    if name == "Wav2Vec2Bert":
        return build(name, **SIZES, classifier_proj_size=16, **settings)
    return build(name, **(FRAMES | SETTINGS.get(name, {}) | {"feat_extract_norm": norm} | settings))


def ast(**settings):
    return build("AST", "ForAudioClassification", **(AST | settings))


def whisper():
    settings = {
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "num_mel_bins": 24,
    }
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    return build(
        "Whisper",
        "ForAudioClassification",
        max_source_positions=50,
        classifier_proj_size=16,
        num_labels=3,
        **settings,
        **ends,
    )


def apex(classifier, scheme="square", n_channels=None):
    n_channels = n_channels or classifier.layer.out_features
    return LayerAPEX(
        classifier.model,
        classifier.layer,
        PrototypeBasis(torch.eye(n_channels), scheme, origin=Origin(layout=classifier.layout)),
    )


def grid(classifier, inputs, *arguments):
    seen = []
    with torch.no_grad(), watched(classifier.layer, "layer", lambda features: seen.append(features.clone())):
        classifier.model(inputs, *arguments)
    return Layout.of(classifier.layout).grid(seen[0])


def clips(name, dtype=torch.float64):
    """Clips of four lengths; for all but the last, the last convolution leaves some frames out."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(160, 20), (160, 13), (160, 7), (160, 1)] if name == "Wav2Vec2Bert" else [(401,), (333,), (250,), (34,)]
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def padded(sounds):
    lengths = torch.tensor([sound.shape[-1] for sound in sounds])
    return torch.stack(
        [F.pad(sound, (0, int(lengths.max()) - sound.shape[-1]), value=7.0) for sound in sounds]
    ), lengths


@pytest.mark.parametrize("name", [*PADDED, "SEW", "SEWD"])
def test_over_frames_logits_are_the_models_and_contributions_add_up_to_them(name):
    model = frames(name).double()
    classifier = from_transformers(model)
    inputs = torch.stack([clip[..., -13:] if name == "Wav2Vec2Bert" else clip[:333] for clip in clips(name)[:2]])
    expected = model(inputs.transpose(1, 2) if name == "Wav2Vec2Bert" else inputs).logits
    assert torch.equal(classifier.model(inputs), expected)
    _, delta = apex(classifier).attribute(inputs, target=1, n_channels=None, return_convergence_delta=True)
    torch.testing.assert_close(delta, torch.zeros(2).double(), rtol=0, atol=1e-12)
    relevance = apex(classifier).attribute(inputs, target=1, n_channels=None)
    torch.testing.assert_close(relevance.sum((1, 2, 3)), expected[:, 1] - model.classifier.bias[1], rtol=0, atol=1e-12)
    assert (classifier.layer, classifier.sample_rate, classifier.class_names) == (
        model.projector,
        16000,
        ["LABEL_0", "LABEL_1", "LABEL_2"],
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", PADDED)
def test_a_batch_of_mixed_lengths_gives_what_each_clip_gives_alone(name, norm):
    classifier = from_transformers(frames(name, norm).double())
    inputs, lengths = padded(clips(name))
    n_columns = classifier.columns(lengths).tolist()
    logits, maps, together = classifier.model(inputs, lengths), grid(classifier, inputs, lengths), apex(classifier)
    relevance = together.attribute(inputs, [0, 1, 2, 0], lengths, n_channels=None)
    for clip, (sound, target) in enumerate(zip(clips(name), (0, 1, 2, 0), strict=True)):
        torch.testing.assert_close(logits[clip], classifier.model(sound[None])[0], rtol=0, atol=1e-12)
        alone = grid(classifier, sound[None])[0]
        assert n_columns[clip] == alone.shape[-1]
        torch.testing.assert_close(maps[clip, ..., : n_columns[clip]], alone, rtol=0, atol=1e-12)
        only = together.attribute(sound[None], target, n_channels=None)[0]
        torch.testing.assert_close(relevance[clip, ..., : n_columns[clip]], only, rtol=0, atol=1e-12)
        assert not relevance[clip, ..., n_columns[clip] :].any()


@pytest.mark.parametrize("norm", NORMS)
def test_a_basis_of_padded_clips_explains_them_as_each_alone(norm):
    classifier = from_transformers(frames("Wav2Vec2", norm).double())
    sounds = [sound[:n] for sound in clips("Wav2Vec2")[:3] for n in (330, 210, 120, 60)]
    together = FeatureBank.from_dataset(
        classifier.model, classifier.layer, sounds, layout=classifier.layout, columns=classifier.columns
    )
    alone = FeatureBank.from_dataset(classifier.model, classifier.layer, sounds, layout=classifier.layout, batch_size=1)
    for scheme in ("square", "time"):
        torch.testing.assert_close(together.cells[scheme], alone.cells[scheme], rtol=0, atol=1e-12, equal_nan=True)
    basis = fit_basis(together, "time", epochs=1, n_prototypes=(6, 3))
    inputs, lengths = padded(sounds)
    maps = APEX(
        classifier.model, classifier.layer, basis, input_layout=classifier.input_layout, columns=classifier.columns
    ).attribute(inputs, 1, lengths)
    for clip, sound in enumerate(sounds):
        only = APEX(classifier.model, classifier.layer, basis, input_layout=classifier.input_layout).attribute(
            sound[None], 1
        )[0]
        torch.testing.assert_close(maps[clip, : len(sound)], only, rtol=0, atol=1e-12)
        assert not maps[clip, len(sound) :].any()


@pytest.mark.parametrize("norm", NORMS)
def test_without_help_transformers_does_not_keep_the_padding_out(norm):
    """Shows that the tests above can fail: with an attention mask alone, padding changes the logits."""
    model = frames("Data2VecAudio" if norm == "layer" else "Wav2Vec2", norm).double()
    inputs, lengths = padded(clips("Wav2Vec2"))
    plain = model(inputs, attention_mask=(torch.arange(401) < lengths[:, None]).long()).logits
    assert (plain - from_transformers(model).model(inputs, lengths)).abs().max() > 1e-4


def test_gradients_pass_to_padded_inputs_as_to_each_alone():
    classifier = from_transformers(frames("Wav2Vec2", "group").double())
    inputs, lengths = padded(clips("Wav2Vec2"))
    gradient = torch.autograd.grad(classifier.model(inputs.requires_grad_(), lengths)[:, 0].sum(), inputs)[0]
    for clip, sound in enumerate(clips("Wav2Vec2")):
        alone = torch.autograd.grad(classifier.model(sound.requires_grad_()[None])[0, 0], sound)[0]
        torch.testing.assert_close(gradient[clip, : len(sound)], alone, rtol=0, atol=1e-12)
        assert not gradient[clip, len(sound) :].any()


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([401, 29], "enough for one column of the layer, but got"),
        ([402, 400], "at most 401"),
        ([401], r"of shape \(2,\), at most 401 .*got \[401\]"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths, message):
    classifier = from_transformers(frames("Wav2Vec2"))
    with pytest.raises(ValueError, match=message):
        classifier.model(torch.zeros(2, 401), torch.tensor(lengths))


@pytest.mark.parametrize(("lengths", "got"), [([401, 400], "list"), (torch.tensor([401.0, 400.0]), "torch.float32")])
def test_lengths_that_are_no_integers_are_refused(lengths, got):
    classifier = from_transformers(frames("Wav2Vec2"))
    with pytest.raises(TypeError, match=rf"`lengths` to be a tensor of integers \(clip,\), but got {got}"):
        classifier.model(torch.zeros(2, 401), lengths)


@pytest.mark.parametrize(
    "model", [frames("SEW"), frames("SEWD"), ast(), whisper()], ids=lambda model: type(model).__name__
)
def test_models_that_cannot_take_padded_clips_say_so(model):
    classifier = from_transformers(model)
    assert classifier.columns is None
    inputs = classifier.inputs(torch.randn(16000))[None]
    with pytest.raises(
        ValueError, match=f"one length, without `lengths`: {type(model).__name__} cannot take padded ones"
    ):
        classifier.model(inputs, torch.tensor([inputs.shape[-1]]))


@pytest.mark.parametrize("name", ["Wav2Vec2", "WavLM", "Wav2Vec2Bert"])
def test_the_model_stays_as_it_is_and_masks_of_training_are_off(name):
    """SpecAugment, layer drop and dropout act only in training mode, which is off during the call."""
    model = frames(name, "group", mask_time_prob=0.9, mask_time_length=2, layerdrop=0.9, hidden_dropout=0.5)
    evaluated = from_transformers(copy.deepcopy(model))
    classifier = from_transformers(model.train())
    inputs, lengths = padded(clips(name, torch.float32))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    given = [apex(one).attribute(inputs, 0, lengths, n_channels=None) for one in (classifier, evaluated, classifier)]
    assert torch.equal(given[0], given[1])
    assert torch.equal(given[0], given[2])
    hooks_before = [(dict(module._forward_hooks), dict(module._forward_pre_hooks)) for module in model.modules()]
    stopped = model.projector.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        classifier.model(inputs, lengths)
    stopped.remove()
    assert [
        (dict(module._forward_hooks), dict(module._forward_pre_hooks)) for module in model.modules()
    ] == hooks_before
    assert not any("captum_apex" in repr(hook) for hooks in hooks_before for each in hooks for hook in each.values())
    assert (classifier.model.training, evaluated.model.training) == (True, False)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_inputs_are_cast_to_the_models_dtype():
    model = frames("Wav2Vec2").bfloat16()
    sound = clips("Wav2Vec2", torch.float32)[0][None]
    assert torch.equal(from_transformers(model).model(sound), model(sound.bfloat16()).logits)


def test_over_frames_only_square_and_time_make_sense():
    classifier = from_transformers(frames("Wav2Vec2"))
    for scheme in ("frequency", "time-frequency"):
        with pytest.raises(ValueError, match=r"no frequency axis\); it supports: square, time$"):
            apex(classifier, scheme).attribute(torch.randn(1, 400), 0)


def test_waveforms_are_normalised_by_the_feature_extractor():
    classifier = from_transformers(frames("Wav2Vec2"))
    sound = torch.randn(400) * 0.1 + 0.5
    expected = (sound.double() - sound.double().mean()) / (sound.double().var(correction=0) + 1e-7).sqrt()
    torch.testing.assert_close(classifier.inputs(sound).double(), expected, rtol=0, atol=1e-5)
    assert (classifier.axes, classifier.input_layout) == (None, "n t")
    assert not classifier.transform.feature_extractor.return_attention_mask


def test_a_frame_that_fills_the_last_token_is_left_out():
    """An input frame of wav2vec 2.0 BERT holds two frames: of 9 frames, the last one is dropped."""
    classifier = from_transformers(frames("Wav2Vec2Bert"))
    n_samples = 8 * 160 + 400  # nine windows
    sound = torch.randn(n_samples)
    assert classifier.inputs(sound).shape == (160, 4)
    whole = classifier.transform.feature_extractor(sound.numpy(), sampling_rate=16000, return_tensors="pt")[
        "input_features"
    ][0]
    assert torch.equal(classifier.inputs(sound), whole[:4].T)


def test_patch_tokens_lie_on_the_grid_where_their_patches_do():
    model = ast()
    classifier = from_transformers(model)
    assert classifier.layer is model.audio_spectrogram_transformer.layers[-2]
    inputs = torch.randn(2, 24, 40)
    seen = []
    with torch.no_grad(), watched(classifier.layer, "layer", lambda features: seen.append(features)):
        classifier.model(inputs)
    rows, columns = len(range(0, 24 - 7, 4)), len(range(0, 40 - 7, 6))
    token, expected = 2, torch.empty(2, 32, rows, columns)  # after the class token and the distillation token
    for row in range(rows):
        for column in range(columns):
            expected[:, :, row, column] = seen[0][:, token]
            token += 1
    assert token == seen[0].shape[1]
    assert torch.equal(classifier.layout.grid(seen[0]), expected)


@pytest.mark.parametrize(("low", "start"), [(0, 0), (8, 12), (16, 30), (4, 24)])
def test_a_burst_changes_the_cell_of_its_place_most(low, start):
    """The bins and frames of a patch change its token most; initial weights keep most of a token's embedding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = from_transformers(transformers.ASTForAudioClassification(transformers.ASTConfig(**AST)).eval())
    quiet = torch.zeros(1, 24, 40)
    burst = quiet.clone()
    burst[:, low : low + 8, start : start + 8] = 1
    change = (grid(classifier, burst) - grid(classifier, quiet)).norm(dim=1)[0]
    assert divmod(int(change.argmax()), change.shape[1]) == (low // 4, start // 6)


def test_all_patch_tokens_carry_gradient_but_contributions_do_not_add_up():
    model = ast().double()
    classifier = from_transformers(model)
    inputs = torch.randn(2, 24, 40).double()
    assert torch.equal(classifier.model(inputs), model(inputs.transpose(1, 2)).logits)
    relevance, delta = apex(classifier, n_channels=32).attribute(
        inputs, 1, n_channels=None, return_convergence_delta=True
    )
    assert (relevance != 0).all()
    assert delta.abs().min() > 1e-3


def tone(hertz, start, seconds=1.0, rate=16000):
    """Silence with a short tone in it."""
    time = torch.arange(round(seconds * rate)) / rate
    return 0.3 * torch.sin(2 * math.pi * hertz * time) * ((time - start).abs() < 0.02)


@pytest.mark.parametrize(
    "model", [ast(num_mel_bins=64, max_length=110, patch_size=16), whisper()], ids=lambda model: type(model).__name__
)
@pytest.mark.parametrize(("hertz", "seconds"), [(500.0, 0.3), (3000.0, 0.62)])
def test_a_tone_is_where_the_axes_say(model, hertz, seconds):
    classifier = from_transformers(model)
    inputs = classifier.inputs(tone(hertz, seconds))
    power = 10 ** (classifier.decibels(inputs)[:, :98] / 10)  # the frames after these are padding by the extractor
    band, frame = int(power.sum(1).argmax()), float((power.sum(0) * torch.arange(98)).sum() / power.sum()) + 0.5
    assert abs(classifier.axes.bin_position(hertz) - (band + 0.5)) < 1
    assert abs(classifier.axes.seconds(frame) - seconds) < 0.003
    assert classifier.input_layout == "n f t"


def test_the_patches_decibels_are_those_of_the_filter_bank():
    from torchaudio.compliance.kaldi import fbank, get_mel_banks

    classifier = from_transformers(ast())
    centres = get_mel_banks(24, 512, 16000.0, 20.0, 0.0, 100.0, -500.0, 1.0)[
        1
    ]  # no warping; of a Fourier transform of 512 samples
    torch.testing.assert_close(classifier.axes.bin_centres.float(), centres.flatten(), rtol=0, atol=0.1)
    sound = torch.randn(16000) * 0.1
    power = fbank(sound[None], sample_frequency=16000, window_type="hanning", num_mel_bins=24, use_log_fbank=False)[:40]
    torch.testing.assert_close(classifier.decibels(classifier.inputs(sound)), 10 * power.T.log10(), rtol=0, atol=1e-3)


def test_whispers_decibels_are_those_of_the_mel_spectrogram():
    from torchaudio.transforms import MelSpectrogram

    classifier = from_transformers(whisper())
    sound = torch.randn(16000) * 0.1
    mel = MelSpectrogram(16000, 400, hop_length=160, n_mels=24, norm="slaney", mel_scale="slaney")
    torch.testing.assert_close(
        classifier.decibels(classifier.inputs(sound)), 10 * mel(sound)[:, :-1].log10(), rtol=0, atol=0.02
    )
    assert classifier.axes == SpectrogramAxes.from_transform(mel)
    assert torch.equal(
        classifier.model(classifier.inputs(sound)[None]), classifier.model.model(classifier.inputs(sound)[None]).logits
    )
    _, delta = apex(classifier).attribute(
        classifier.inputs(sound)[None], 1, n_channels=None, return_convergence_delta=True
    )
    assert delta.abs() < 1e-5


@pytest.mark.parametrize(("model", "length"), [(ast(), 39 * 160 + 400), (whisper(), 16000)], ids=["AST", "Whisper"])
def test_the_length_is_what_the_feature_extractor_reads(model, length):
    """What is cut off is not heard, the last sample that is left is, and short sounds are padded by the extractor."""
    classifier = from_transformers(model)
    assert classifier.length == length
    sound = torch.randn(2 * length, generator=torch.Generator().manual_seed(0)) * 0.1
    changed = sound.clone()
    changed[length - 100 : length] *= 9
    assert torch.equal(classifier.inputs(classifier.fitted(sound)), classifier.inputs(sound))
    assert not torch.equal(classifier.inputs(classifier.fitted(changed)), classifier.inputs(classifier.fitted(sound)))
    short = sound[: length // 2]
    assert torch.equal(classifier.fitted(short), short)
    assert len(classifier.drawn(short).waveform) == len(short)
    assert len(classifier.drawn(sound).waveform) == length


@pytest.mark.parametrize("model", [ast(), frames("Wav2Vec2Bert")], ids=lambda model: type(model).__name__)
def test_what_a_feature_extractor_gives_with_time_first_is_not_taken_for_time_last(model):
    classifier = from_transformers(model)
    inputs = classifier.inputs(torch.randn(16000))[None]
    with pytest.raises(ValueError, match=r"expected inputs \(clip, \d+, time\), time last"):
        classifier.model(inputs.transpose(1, 2))


def test_a_model_of_one_layer_has_nothing_to_explain():
    with pytest.raises(ValueError, match="at least two layers.*but got 1"):
        from_transformers(ast(num_hidden_layers=1))


AXES = SpectrogramAxes(32000, 1024, 320, n_mels=64)


@pytest.mark.parametrize("name", IMAGES)
def test_image_classifiers_take_a_spectrogram_of_the_users(name):
    model = build(name, "ForImageClassification", num_channels=1, num_labels=3, **IMAGES[name])
    classifier = from_transformers(model, transform=lambda waveform: waveform[: 64 * 96].reshape(1, 64, 96), axes=AXES)
    inputs = torch.stack([classifier.inputs(torch.randn(32000)) for _ in range(2)])
    assert torch.equal(classifier.model(inputs), model(inputs).logits)
    last = model.base_model(inputs).last_hidden_state
    assert torch.equal(grid(classifier, inputs), last)
    assert last.shape[2:] > (1, 1)
    assert (classifier.sample_rate, classifier.axes, classifier.input_layout, classifier.columns) == (
        32000,
        AXES,
        "n c f t",
        None,
    )


def test_image_classifiers_need_a_transform_and_axes():
    model = build("ConvNext", "ForImageClassification", num_channels=1, num_labels=3, **IMAGES["ConvNext"])
    for given in ({}, {"axes": AXES}, {"transform": lambda waveform: waveform}):
        with pytest.raises(
            ValueError, match=r"`transform` and `axes` of the spectrogram .* from_transformers\(model, transform=lambda"
        ):
            from_transformers(model, **given)
    with pytest.raises(ValueError, match="which takes images, but got a `feature_extractor`"):
        from_transformers(model, feature_extractor=transformers.Wav2Vec2FeatureExtractor())


@pytest.mark.parametrize("given", [{"axes": AXES}, {"transform": lambda waveform: waveform}])
def test_models_with_a_feature_extractor_take_no_transform(given):
    with pytest.raises(
        ValueError, match="for image classifiers alone, but Wav2Vec2ForSequenceClassification has a `feature_ex"
    ):
        from_transformers(frames("Wav2Vec2"), **given)


def test_what_is_no_feature_extractor_is_refused():
    message = "`feature_extractor` to be one of transformers, for Wav2Vec2ForSequenceClassification, but got function"
    with pytest.raises(TypeError, match=message):
        from_transformers(frames("Wav2Vec2"), feature_extractor=lambda waveform: waveform)


@pytest.mark.parametrize("model", [ast(), whisper()], ids=lambda model: type(model).__name__)
def test_a_feature_extractor_of_waveforms_is_refused_where_a_spectrogram_is_wanted(model):
    with pytest.raises(TypeError, match=f"for {type(model).__name__}, but got Wav2Vec2FeatureExtractor"):
        from_transformers(model, feature_extractor=transformers.Wav2Vec2FeatureExtractor())


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 2), build("Wav2Vec2", "ForCTC", **FRAMES)], ids=lambda model: type(model).__name__
)
def test_unknown_classes_are_refused_with_the_way_by_hand(model):
    with pytest.raises(
        ValueError, match=f"ASTForAudioClassification.* but got '{type(model).__name__}'; any other .* by hand"
    ):
        from_transformers(model)


@pytest.mark.parametrize(
    ("problem", "exclusive"),
    [("single_label_classification", True), ("multi_label_classification", False), ("regression", None), (None, None)],
)
def test_the_problem_type_says_whether_classes_are_exclusive(problem, exclusive):
    assert from_transformers(frames("Wav2Vec2", problem_type=problem)).exclusive is exclusive


def test_a_class_of_ones_own_is_known_by_what_it_derives_from():
    class Mine(transformers.Wav2Vec2ForSequenceClassification):
        pass

    model = Mine(transformers.Wav2Vec2Config(**FRAMES))
    assert from_transformers(model).layer is model.projector


def saved(folder, model, extractor=None):
    model.save_pretrained(folder)
    if extractor is not None:
        extractor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("as_name", [str, lambda path: path], ids=["str", "Path"])
def test_a_folder_is_loaded_with_its_feature_extractor(tmp_path, as_name):
    names = {"id2label": {0: "cat", 1: "dog", 2: "rain"}, "label2id": {"cat": 0, "dog": 1, "rain": 2}}
    model = frames("Wav2Vec2", **names)
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000, do_normalize=False)
    classifier = from_transformers(as_name(saved(tmp_path, model.half(), extractor)))
    sound = torch.randn(400)
    assert torch.equal(classifier.inputs(sound), sound)
    assert (classifier.sample_rate, classifier.class_names) == (8000, ["cat", "dog", "rain"])
    torch.testing.assert_close(classifier.model(sound[None]), model.float()(sound[None]).logits)


def test_a_model_from_a_folder_finds_the_feature_extractor_beside_it(tmp_path):
    saved(tmp_path, ast(), transformers.ASTFeatureExtractor(num_mel_bins=24, max_length=40, mean=1.5, std=2.0))
    model = transformers.ASTForAudioClassification.from_pretrained(tmp_path)
    assert from_transformers(model).transform.feature_extractor.mean == 1.5
    other = transformers.ASTFeatureExtractor(num_mel_bins=24, max_length=40)
    assert from_transformers(model, feature_extractor=other).transform.feature_extractor is other


def test_a_folder_without_a_feature_extractor_says_what_to_do(tmp_path):
    folder = saved(tmp_path, frames("Wav2Vec2"))
    with pytest.raises(OSError, match="a feature extractor beside the weights .*; pass `feature_extractor`"):
        from_transformers(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor()
    assert from_transformers(folder, feature_extractor=extractor).transform.feature_extractor is extractor


def test_a_name_out_of_reach_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("nobody/no-such-model", str(tmp_path / "none")):
        with pytest.raises(
            OSError, match=f"expected '{name}' to be a folder .* without a network, fetch it where there is one"
        ):
            from_transformers(name)


def test_pickled_weights_are_not_read(tmp_path):
    model = frames("Wav2Vec2")
    saved(tmp_path, model, transformers.Wav2Vec2FeatureExtractor())
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="with safetensors in it, but got"):
        from_transformers(tmp_path)


def test_damaged_weights_are_named(tmp_path):
    saved(tmp_path, frames("Wav2Vec2"), transformers.Wav2Vec2FeatureExtractor())
    with open(tmp_path / "model.safetensors", "r+b") as file:
        file.truncate(100)
    with pytest.raises(OSError, match=f"expected '{tmp_path}' to be a folder .*, but got: .*header"):
        from_transformers(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_code_beside_the_weights_is_not_run_whatever_one_answers(tmp_path, monkeypatch, name):
    """transformers would ask at the terminal without `trust_remote_code=False`."""
    saved(tmp_path, frames("Wav2Vec2"), transformers.Wav2Vec2FeatureExtractor())
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w').close()\nclass Theirs:\n    pass\n")
    settings = json.loads((tmp_path / name).read_text()) | dict.fromkeys(
        ("model_type", "feature_extractor_type"), "theirs"
    )
    settings["auto_map"] = dict.fromkeys(("AutoConfig", "AutoFeatureExtractor"), "theirs.Theirs")
    (tmp_path / name).write_text(json.dumps(settings))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.raises((OSError, ValueError), match="custom code"):
        from_transformers(tmp_path)
    assert not (tmp_path / "was_run").exists()


def test_a_folder_of_another_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"but got '.*' with \['Wav2Vec2ForCTC'\]; any other"):
        from_transformers(
            saved(tmp_path, build("Wav2Vec2", "ForCTC", **FRAMES), transformers.Wav2Vec2FeatureExtractor())
        )


FACTORY = """
from captum_apex import from_transformers

def classifier():
    return from_transformers("model")
"""


@pytest.mark.parametrize("name", ["wav2vec2", "ast"])
def test_the_command_line_needs_no_layer(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}_factory.py").write_text(FACTORY)
    names = {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}, "num_labels": 2}
    if name == "ast":
        saved("model", ast(**names), transformers.ASTFeatureExtractor(num_mel_bins=24, max_length=40))
    else:
        saved("model", frames("Wav2Vec2", **names), transformers.Wav2Vec2FeatureExtractor())
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "recordings" / label).mkdir(parents=True)
        for take in range(3):
            sound = generator.uniform(-0.5, 0.5, 4000 - 500 * take)  # of several lengths
            soundfile.write(tmp_path / "recordings" / label / f"{take}.wav", sound, 16000)
    model = ["--model", f"{name}_factory:classifier"]
    assert main(["fit", "recordings", *model, "--out", "bases", "--epochs", "1"]) == 0
    fitted = {path.stem for path in (tmp_path / "bases").iterdir()}
    assert fitted == ({"square", "time", "frequency", "time-frequency"} if name == "ast" else {"time"})
    clip = "recordings/cat/1.wav"
    assert main(["explain", clip, *model, "--basis", "bases", "--data", "recordings", "--out", "page.html"]) == 0
    assert (tmp_path / "page.html").stat().st_size > 10000
    capsys.readouterr()


def test_files_longer_than_the_feature_extractor_reads_are_warned_of(tmp_path):
    names = {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}, "num_labels": 2}
    classifier = replace(from_transformers(ast(**names)), exclusive=True)
    generator = np.random.default_rng(0)
    for name in ("cat/a.wav", "dog/b.wav"):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / name, generator.uniform(-0.5, 0.5, 16000), 16000)
    recordings = Recordings.in_folder(tmp_path, classifier.class_names)
    with pytest.warns(UserWarning, match=r"of files of up to 1 s only the first 0\.415 s are used"):
        explainer = Explainer.fit(classifier, recordings, ["time"])
    for clips in (recordings.path(0), recordings, torch.zeros(16000)):
        with pytest.warns(UserWarning, match=r"only their first 0\.415 s are explained"):
            explained = explainer.explain(clips, search=None, n_prototypes=1)
        assert len(explained[0].clip.waveform) == classifier.length
    found = explainer.explain_recording(torch.zeros(16000), threshold=1.0, search=None)  # warnings are errors
    assert found.duration == 1.0


def test_fit_over_frames_refuses_frequency(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "frames_factory.py").write_text(FACTORY)
    saved("model", frames("Wav2Vec2"), transformers.Wav2Vec2FeatureExtractor())
    (tmp_path / "recordings").mkdir()
    soundfile.write(tmp_path / "recordings" / "a.wav", np.ones(4000) / 2, 16000)
    assert (
        main(
            [
                "fit",
                "recordings",
                "--model",
                "frames_factory:classifier",
                "--scheme",
                "frequency",
                "--out",
                "basis.safetensors",
            ]
        )
        == 2
    )
    assert "(a layer over frames has no frequency axis); it supports: square, time" in capsys.readouterr().err
