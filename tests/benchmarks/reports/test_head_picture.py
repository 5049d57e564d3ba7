"""The picture of a head beside APEX: its texts, its regions, and which clip it shows."""

from dataclasses import replace

import pytest
import torch

from benchmarks.classifiers import trained_heads
from benchmarks.experiments.head_prototypes import HeadExplanation, head_explanation, trained_head
from benchmarks.reports import head_picture as module
from benchmarks.reports.head_picture import head_picture, recognised_clip
from captum_apex import LayerAPEX, explain
from tests.small import small_subject

NAME = "AudioProtoPNet, 5 prototypes"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTUM_APEX_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(trained_heads, "STEPS", 5)
        yield replace(small_subject(), seed=3)


def titles(figure):
    return [panel.get_title() for panel in figure.axes if panel.get_title()]


def test_both_halves_have_the_strongest_prototypes_and_their_clips(small):
    figure = head_picture(small, NAME, 2)
    names = small.task.classes
    of_head = head_explanation(small, NAME, 2, n_channels=3, n_prototypes=2)
    apex = LayerAPEX(small.model, small.layer, small.bases["square"])
    inputs = small.task.test[2][0][None]
    (of_apex,) = explain(apex, inputs, n_channels=3, n_prototypes=2, search=None)
    expected = []
    for evidence, row, measure in (
        (of_head.evidence, "the clip, prototype {}", "similarity"),
        (of_apex.evidence, "the clip, channel {}", "purity"),
    ):
        for each in evidence:
            expected.append(f"{row.format(each.channel)}\n{measure} {each.purity:.2f}, adds {each.contribution:.2f}")
            expected += [f"{names[p.label]}\ntraining clip, {measure} {p.purity:.2f}" for p in each.prototypes]
    assert [text.replace("\n", " ") for text in titles(figure)] == [text.replace("\n", " ") for text in expected]
    left, right = (part.get_suptitle() for part in figure.subfigs)
    assert left == f"{NAME}: {names[of_head.predicted]!r}, logit {of_head.logit:.2f}"
    assert right == f"APEX, square: {names[int(of_apex.target)]!r}, logit {of_apex.score:.2f}"
    panels = [panel for panel in figure.axes if panel.images]
    shown = [
        place
        for evidence in (of_head.evidence, of_apex.evidence)
        for each in evidence
        for place in (each, *each.prototypes)
    ]
    assert len(panels) == len(shown) == 18
    for panel, place in zip(panels, shown, strict=True):
        (box,) = place.region.boxes
        (low, high), (bottom, top) = panel.get_xlim(), panel.get_ylim()
        vertices = torch.tensor(panel.patches[-1].get_path().vertices)
        across = (vertices[:, 0] - low) / (high - low)
        assert across.min().item() == pytest.approx(box.start, abs=0.02)
        assert across.max().item() == pytest.approx(box.end, abs=0.02)
        assert bottom <= vertices[:, 1].min() < vertices[:, 1].max() <= top


def test_the_clip_is_the_first_that_both_recognise(small):
    head = trained_head(small, NAME)
    with torch.no_grad():
        features = small.model.features(small.task.test.log_mels)
        own = small.model(small.task.test.log_mels).argmax(1)
        predicted = head(features).argmax(1)
    # The small network recognises hardly a clip, so the labels are made to fit those of some clips.
    labels = small.task.test.labels.clone()
    both = own == predicted
    labels[both] = (own[both] + 1) % 8
    task = replace(small.task, test=type(small.task.test)(small.task.test.log_mels, labels))
    with pytest.raises(ValueError, match="a test clip whose class both the network and the head .* predict, but none"):
        recognised_clip(replace(small, task=task), NAME)
    last = int(both.nonzero()[-1])
    assert last > 0
    labels[last] = own[last]
    assert recognised_clip(replace(small, task=task), NAME) == last


def test_a_logit_without_evidence_says_so(small, monkeypatch):
    nothing = HeadExplanation(4, -2.0, ())
    monkeypatch.setattr(module, "head_explanation", lambda *_, **__: nothing)
    figure = head_picture(small, NAME, 2)
    assert titles(figure)[0] == "nothing adds to the logit"
    assert len([panel for panel in figure.axes if panel.images]) == 1 + 9
