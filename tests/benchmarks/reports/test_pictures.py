"""The pictures of the README and the guides."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.reports import pictures
from benchmarks.reports.contact_sheet import first_of
from captum_apex import Scheme
from tests.small import small_subject


@pytest.fixture(scope="module")
def subject():
    return small_subject()


def test_all_pictures_are_written_with_a_palette(subject, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "prepare", lambda *_, **__: subject)
    paths = pictures.write(tmp_path / "new")
    assert sorted(path.name for path in paths) == sorted(path.name for path in (tmp_path / "new").iterdir())
    for path in paths:
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("PNG", "P")
            assert len(image.getcolors()) <= 64
        assert path.stat().st_size < 150_000


def test_the_map_picture_has_the_truth_on_the_clip_and_two_maps_beside_it(subject):
    clip = first_of(subject.task, subject.task.classes.index("falling chirp"))
    picture = pictures.map_picture(subject, clip, Scheme.SQUARE)
    assert isinstance(picture, Figure)
    titles = [panel.get_title().split("\n")[0] for panel in picture.axes]
    assert titles[:3] == ["falling chirp", "enlarged", "through Integrated Gradients"]


def test_the_explanation_picture_has_two_prototypes_for_each_channel(subject):
    picture = pictures.explanation_picture(subject, 0, Scheme.FREQUENCY, n_channels=2)
    assert sum("prototype" in panel.get_title() for panel in picture.axes) == 4


def test_the_waterfall_picture_begins_without_the_layer_and_ends_with_the_score(subject):
    panel = pictures.waterfall_picture(subject, 0, Scheme.SQUARE).axes[0]
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert names[0] == "without the layer"
    assert names[-1].startswith("logit")


def test_the_clearest_clip_has_the_most_regions_on_the_sound_and_then_the_largest_logit(subject, monkeypatch):
    label = subject.task.classes.index("galloping rhythm")
    first, second = (subject.task.test.labels == label).nonzero().flatten().tolist()
    for best in (first, second):
        monkeypatch.setattr(pictures, "_n_on_the_sound", lambda _, index, __, best=best: int(index == best))
        assert pictures.clearest(subject, label, [Scheme.SQUARE], n_channels=1) == best
    monkeypatch.setattr(pictures, "_n_on_the_sound", lambda *_: 1)
    logits = {index: subject.model(subject.task.test[index][0][None])[0, label].item() for index in (first, second)}
    assert pictures.clearest(subject, label, [Scheme.SQUARE], n_channels=1) == max(logits, key=logits.get)
