"""Names of channels, in Python, in files and in pages."""

import json
import re

import pytest
import torch

from captum_apex import ExplainedClips, PrototypeBasis, Scheme
from captum_apex.explaining.channel_names import read_names, write_names
from captum_apex.report import Page
from tests import explained

BASES = {Scheme.TIME: PrototypeBasis(torch.eye(3), "time"), Scheme.SQUARE: PrototypeBasis(torch.eye(4), "square")}
NAMES = {"time": {2: "knöcks", 0: "rain"}, "square": {3: "a call"}}


def test_names_are_read_as_they_were_written(tmp_path):
    path = write_names(tmp_path / "names.json", NAMES, BASES)
    assert read_names(path, BASES) == NAMES
    assert read_names(path, {Scheme.TIME: BASES[Scheme.TIME]}) == {"time": NAMES["time"]}
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["format"] == "captum-apex channel names 1"
    assert content["bases"][0] == {
        "basis": BASES[Scheme.TIME].fingerprint,
        "scheme": "time",
        "channels": {"2": {"name": "knöcks", "note": ""}, "0": {"name": "rain", "note": ""}},
    }


def test_a_channel_that_has_only_a_note_has_no_name(tmp_path):
    path = write_names(tmp_path / "names.json", {"time": {1: ""}}, BASES)
    assert read_names(path, BASES) == {}


def test_names_of_other_bases_and_of_no_page_are_refused(tmp_path):
    path = write_names(tmp_path / "names.json", {"square": {3: "a call"}}, BASES)
    with pytest.raises(ValueError, match="of these bases, but they are of others"):
        read_names(path, {Scheme.TIME: BASES[Scheme.TIME]})
    for text in ("", "[]", "{}", '{"format": "another", "bases": []}', '{"format": "captum-apex channel names 1"}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"names\.json to hold names of channels, as a page exports them"):
            read_names(path, BASES)
    with pytest.raises(FileNotFoundError, match=r"channel names at .*none\.json, but there is none"):
        read_names(tmp_path / "none.json", BASES)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ({"time": {3: "x"}}, ValueError, "channels from 0 to 2 in the names for 'time', but got 3"),
        ({"time": {-1: "x"}}, ValueError, "channels from 0 to 2"),
        ({"frequency": {0: "x"}}, ValueError, "names of channels for 'time', 'square', .* but got 'frequency'"),
        ({"time": {0: 5}}, TypeError, "the name of channel 0 to be a text, but got int"),
        ({"time": {"knocks": 0}}, TypeError, "the channel"),
    ],
)
def test_wrong_names_are_refused_and_the_file_stays(tmp_path, names, error, message):
    path = write_names(tmp_path / "names.json", NAMES, BASES)
    before = path.read_bytes()
    with pytest.raises(error, match=message):
        write_names(path, names, BASES)
    assert path.read_bytes() == before


def test_a_page_has_the_names_that_it_is_given(tmp_path):
    bases = {Scheme.TIME: explained.basis("time")}
    clip = explained.clip_of(explained.QUERY[0])
    page = Page(clip, [explained.explained("time", n_channels=1)], explained.Recorded(), explained.CLASSES)
    clips = ExplainedClips((page,))
    wanted = {bases[Scheme.TIME].fingerprint: {"1": {"name": "knocks", "note": ""}}}
    file = write_names(tmp_path / "names.json", {"time": {1: "knocks"}}, bases)
    for names in ({"time": {1: "knocks"}}, file, str(file)):
        assert names_in(clips.write(tmp_path / "page.html", names=names)) == wanted
    assert names_in(clips.write(tmp_path / "page.html")) == {}
    with pytest.raises(ValueError, match="for the schemes of the explanations, 'time', but got 'square'"):
        clips.write(tmp_path / "page.html", names={"square": {1: "knocks"}})
    with pytest.raises(TypeError, match="expected `names` to be a mapping .* but got list"):
        clips.write(tmp_path / "page.html", names=["knocks"])


def names_in(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="facts"[^>]*>(.*?)</script>', text, re.DOTALL)[1])["names"]
