"""Each published model gives through its few lines what its package gives by itself."""

import importlib
import json
import sys

import pytest
import torch
from captum.attr import FeatureAblation

from benchmarks.experiments.published_rows import at_layer
from benchmarks.published import (
    bat_calls,
    crepe_pitch,
    pesto_frames,
    resemblyzer_speakers,
    silero_speech,
    speech_quality,
)
from benchmarks.published.held_clips import HeldClips, same_group
from benchmarks.published.published_models import PUBLISHED_MODELS
from benchmarks.published.wheels import file_of, without
from captum_apex import FeatureBank
from captum_apex.attribution import two_sided_occlusion
from captum_apex.layers import Layout
from captum_apex.layers.cell_places import CellPlaces
from captum_apex.layers.hooks import captured
from captum_apex.layers.placing import cell_places
from captum_apex.masking import region_grid, region_sums
from captum_apex.metrics import deletion_insertion
from captum_apex.pretrained import ArrayFunction
from tests.benchmarks.published.subjects import needing, needs, subject

pytestmark = pytest.mark.filterwarnings("ignore")


@needing("torchcrepe")
def test_the_classes_of_torchcrepe_are_its_frequencies():
    prepared = subject("torchcrepe").classifier
    convert = sys.modules["torchcrepe"].convert
    for pitch in (0, 100, 359):
        cents = convert.bins_to_cents(torch.tensor(pitch, dtype=torch.float64))
        dithered = 10 * 2 ** (cents / 1200)  # the package adds noise of at most half a class
        assert abs(1200 * torch.log2(dithered / float(prepared.class_names[pitch].split()[0]))) < 21


@needing("pesto-pitch")
def test_the_scores_of_pesto_are_those_of_its_frames_weighted_by_their_confidence():
    """The softmax of the scores of each frame is what the package gives."""
    prepared = subject("pesto-pitch").classifier
    waveform = subject("pesto-pitch").explained.waveforms[3]
    with torch.no_grad():
        _, confidence, _, activations = pesto_frames.load()(waveform[None])  # (clip, frame), (clip, frame, class)
        frames = prepared.model.model(waveform[None])[3]
        scores = prepared.model(prepared.transform(waveform)[None])
    assert frames.shape[1] == pesto_frames.FRAMES
    torch.testing.assert_close(frames.softmax(2), activations, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scores, (frames * confidence[..., None]).mean(1))


@needing("pesto-pitch")
def test_a_channel_of_pesto_says_where_the_pitch_is_and_not_which():
    """Its layers do the same at every row, so prototypes share where a channel counts, beside the row of the pitch."""
    whole = subject("pesto-pitch")
    (basis,) = whole.bases
    training = torch.stack([whole.classifier.transform(waveform) for waveform in whole.training.waveforms])
    both = [at_layer(whole.classifier, basis).decompose(inputs, predicted=True) for inputs in (whole.inputs, training)]
    rows = [pesto_frames.CENTS * decomposition.relevance.sum(3).argmax(2) for decomposition in both]  # (clip, channel)
    pitches = [pesto_frames.pitch(whole.classifier, clips) for clips in (whole.explained, whole.training)]
    places, offsets = [], []
    for clip, contributions in enumerate(both[0].contributions):
        channel = int(contributions.where(both[0].activations[clip] > 0, -torch.inf).argmax())
        chosen = basis.positive.indices[channel, :4]
        distance = rows[0][clip, channel] - rows[1][chosen, channel]
        places.append(distance.abs())
        offsets.append((distance - (pitches[0][clip] - pitches[1][chosen])).abs())
    assert torch.cat(offsets).median() < 1.5 * pesto_frames.CENTS
    assert torch.cat(places).median() > 5 * pesto_frames.CENTS


@needing("Resemblyzer")
def test_the_scores_rank_the_speakers_as_the_package_does():
    whole = subject("Resemblyzer")
    encoder = resemblyzer_speakers.load()
    with torch.no_grad():
        enrolled = resemblyzer_speakers.enrolled()
        assert list(enrolled) == whole.classifier.class_names
        means = [
            torch.stack([encoder(whole.classifier.transform(sound)[None])[0] for sound in sounds]).mean(0)
            for sounds in enrolled.values()
        ]
        similarity = encoder(whole.inputs) @ torch.nn.functional.normalize(torch.stack(means)).T
        scores = whole.classifier.model(whole.inputs)
    assert (scores.argsort(1) == similarity.argsort(1)).all()
    lengths = scores / similarity  # the package divides the embedding of a clip by its length
    torch.testing.assert_close(lengths, lengths[:, :1].expand_as(lengths), rtol=1e-4, atol=0)
    heard = [whole.classifier.class_names[index] for index in scores.argmax(1).tolist()]
    assert sum(map(str.__eq__, heard, whole.explained.groups)) >= 0.9 * len(heard)


@needing("silero-vad")
def test_the_parent_of_the_parts_of_silero_gives_what_the_scripted_model_gives():
    whole = subject("silero-vad")
    scripted = torch.jit.load(file_of("silero_vad", "data/silero_vad.jit")).eval()
    waveform = whole.explained.waveforms[2]
    with torch.no_grad():
        logits = [scripted(chunk[None], 16_000).logit() for chunk in waveform.split(silero_speech.CHUNK)]
        score = whole.classifier.model(whole.classifier.transform(waveform)[None])
    torch.testing.assert_close(score, torch.stack(logits).mean(0), rtol=1e-5, atol=1e-5)


@needing("silero-vad")
def test_a_scripted_layer_is_refused_with_what_to_do():
    silero = silero_speech.load()
    with pytest.raises(ValueError, match=r"'encoder' is TorchScript; put it into"):
        FeatureBank.from_dataset(silero, silero.encoder, [torch.zeros(576)])


@needing("batdetect2")
def test_the_detector_finds_the_boxes_that_are_published_beside_the_recordings():
    """The network on our spectrogram gives the probabilities that the package has stored in the boxes."""
    bats = bat_calls.load()
    differences = []
    for path, samples, _ in bat_calls.recordings():
        with torch.no_grad():
            padded = torch.nn.functional.pad(samples, (0, 4096))
            picture = bat_calls.whole_spectrogram(padded)[..., :512]
            detected = bats(picture[None]).pred_det[0, 0].amax(0)  # (column,)
        for box in json.loads(path.with_suffix(".json").read_text())["annotation"]:
            column = int((box["start_time"] * bat_calls.RATE - 384) / 256)
            nearest = detected[max(column - 3, 0) : column + 4].max().item()
            differences.append(abs(nearest - box["det_prob"]))
    assert len(differences) == 44
    assert sorted(differences)[35] < 0.1  # four fifths; the package resamples in another way


@pytest.mark.parametrize("package", [pytest.param(each, marks=needs(each)) for each in ("torchcrepe", "batdetect2")])
def test_columns_that_hear_the_whole_input_have_no_places(package):
    model = PUBLISHED_MODELS[package]
    classifier = model.classifier(model.load())
    waveform = 0.1 * torch.randn(classifier.length, generator=torch.Generator().manual_seed(0))
    clip = classifier.inputs(waveform)[None]
    layout = Layout.of(classifier.layout)
    about = {"layout": layout, "input_layout": classifier.input_layout}
    assert cell_places(classifier.model, classifier.layer, clip, **about) == CellPlaces()

    def grid(inputs):
        with torch.no_grad(), captured(classifier.layer, "", prepare=torch.clone, stop=True) as capture:
            classifier.model(inputs)
        return layout.grid(capture.value, "")

    tenth = clip.shape[-1] // 10
    for part in (slice(tenth), slice(-tenth, None)):
        louder = clip.clone()
        louder[..., part] += 10 * clip.std()
        change = (grid(louder) - grid(clip)).abs().amax((0, 1, 2))
        assert change.min() > 0.01 * change.max()


@needing("torchcrepe")
def test_columns_of_torchcrepe_lie_nearly_one_column_later_than_cells_that_fill_the_frame():
    """From the kernels, strides and paddings of the package; each layer ends in a pooling of two, the last without."""
    crepe = crepe_pitch.load()
    centre, step = 0.5, 1.0
    for number in range(1, 7):
        convolution = getattr(crepe, f"conv{number}")
        before = 254 if number == 1 else 31
        centre += ((convolution.kernel_size[0] - 1) / 2 - before) * step
        step *= convolution.stride[0]
        if number < 6:
            centre += step / 2
            step *= 2
    assert (centre - step / 2) / step == pytest.approx(0.97, abs=0.01)


@needing("speechmos")
def test_a_session_of_onnx_runtime_is_a_black_box():
    """The lines of the guide, on the file of the package: the scores of its modules, and maps by masking."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(file_of("speechmos", "dnsmos_models/sig_bak_ovr.onnx")))
    (waveform,) = session.get_inputs()
    black_box = ArrayFunction(lambda waveforms: session.run(None, {waveform.name: waveforms})[0])
    clip = torch.stack(speech_quality.clips("test", 1).waveforms[:1])
    with torch.no_grad():
        torch.testing.assert_close(black_box(clip), speech_quality.load()(clip), rtol=1e-5, atol=1e-5)
    silence = torch.zeros_like(clip)
    grid = region_grid((speech_quality.SAMPLES,), rows=1, columns=2)
    attributions = two_sided_occlusion(black_box, clip, silence, grid, target=2)
    first, second = (clip * (grid == half) for half in (0, 1))
    whole, alone_0, alone_1, empty = (black_box(each)[0, 2] for each in (clip, first, second, silence))
    wanted = torch.stack([whole - alone_1 + alone_0 - empty, whole - alone_0 + alone_1 - empty])
    torch.testing.assert_close(region_sums(attributions, grid)[0], wanted.double(), rtol=1e-4, atol=1e-5)
    ablated = FeatureAblation(black_box).attribute(clip, target=2, feature_mask=grid[None])
    falls = torch.stack([whole - alone_1, whole - alone_0])
    torch.testing.assert_close(ablated[0, [0, -1]].to(falls), falls, rtol=1e-4, atol=1e-5)
    curves = deletion_insertion(black_box, clip, attributions, fills=silence, grid=grid, target=2)
    assert curves.difference.shape == (1,)
    assert curves.difference.isfinite().all()


def test_modules_that_are_missing_are_missing_again_behind_the_import():
    with without("missing_package", "missing_package.module"):
        assert importlib.import_module("missing_package.module") is not None
    assert not {"missing_package", "missing_package.module"} & set(sys.modules)


def test_the_groups_of_clips_are_compared_pair_by_pair():
    clips = HeldClips([torch.zeros(1)] * 2, ["a", "b"], ["theo", "lucas"])
    assert same_group(clips, clips).tolist() == [[1, 0], [0, 1]]
