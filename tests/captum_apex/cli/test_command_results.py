"""What commands end with, and what `describe` says: tables, JSON objects, files without torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from captum_apex import FeatureBank, PrototypeBasis, locate_prototypes
from captum_apex.__main__ import main
from captum_apex.attribution.apex import APEX
from captum_apex.bases.basis import Prototypes
from captum_apex.cli.command_results import table_of
from captum_apex.cli.descriptions import describe_bank, describe_basis
from tests import explained

ROOT = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bases").mkdir()
    explained.basis("time").save("bases/time.safetensors")
    explained.basis("square").save("bases/square.safetensors")
    explained.network()[2].save("bank")
    return tmp_path


def test_a_basis_is_described_as_it_is_loaded(here):
    basis = PrototypeBasis.load("bases/time.safetensors")
    description = describe_basis(Path("bases/time.safetensors"))
    assert description["scheme"] == str(basis.scheme)
    assert description["n_channels"] == basis.n_channels
    assert description["n_prototypes"] == basis.positive.indices.shape[1]
    assert description["mean_purity"] == pytest.approx(basis.positive.purities.mean().item(), abs=1e-6)
    assert description["grid"] == list(basis.origin.grid)
    assert description["layer"] == basis.origin.layer
    assert description["n_clips"] == basis.origin.n_clips
    assert description["model_fingerprint"] == basis.origin.fingerprint
    assert description["fingerprint"] == basis.fingerprint
    assert description["n_located"] == 0
    assert not description["orthogonal"]


def test_the_prototypes_that_are_located_are_counted(here):
    model, layer, _ = explained.network()
    apex = APEX(model, layer, explained.basis("time"))
    locate_prototypes(apex, explained.TRAINING, n_prototypes=2).save("located.safetensors")
    assert describe_basis(Path("located.safetensors"))["n_located"] == 2


def test_a_basis_without_prototypes_is_described(here, capsys):
    PrototypeBasis(torch.eye(3), "frequency").save("eye.safetensors")
    assert main(["describe", "eye.safetensors"]) == 0
    printed = capsys.readouterr().out
    assert "for frequency, 3 channels, orthogonal" in printed
    assert "prototypes   none" in printed


def test_a_bank_is_described_as_it_is_loaded(here):
    bank = FeatureBank.load("bank")
    description = describe_bank(Path("bank"))
    assert (description["n_clips"], description["n_channels"]) == (bank.n_clips, bank.n_channels)
    assert description["schemes"] == ["square", "time", "frequency", "time-frequency"]
    assert description["has_labels"]
    assert description["model_fingerprint"] == bank.origin.fingerprint
    assert description["n_bytes"] == sum(tensor.nbytes for tensor in bank._arrays().values())


def test_a_folder_stands_for_its_bases_and_a_bank_for_itself(here, capsys):
    assert main(["describe", "bases", "bank", "bank/bank.json", "bases/time.safetensors", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)["described"]
    assert [(each["kind"], each["path"]) for each in described] == [
        ("basis", "bases/square.safetensors"),
        ("basis", "bases/time.safetensors"),
        ("bank", "bank"),
        ("bank", "bank"),
        ("basis", "bases/time.safetensors"),
    ]


def test_what_is_described_is_printed_in_words(here, capsys):
    assert main(["describe", "bases/time.safetensors", "bank"]) == 0
    printed = capsys.readouterr().out
    basis = PrototypeBasis.load("bases/time.safetensors")
    purity = basis.positive.purities.mean().item()
    assert f"\n  prototypes   4 per channel, mean purity {purity:.2f}, without regions\n" in printed
    assert "\n  layer        relu, grid of 4 rows and 5 columns, layout n c f t -> n c f t\n" in printed
    assert f"\n  model        weights {basis.origin.fingerprint}\n" in printed
    assert "\n  schemes  square, time, frequency, time-frequency\n" in printed


def part(index, n_parts=3, model=None, layer=None, clips=None, **settings):
    model = model or torch.nn.Sequential(torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1))
    clips = torch.rand(10, 2, 4, 5, generator=torch.Generator().manual_seed(0)) if clips is None else clips
    settings = {"folder": "parts", "schemes": ["time", "frequency"], "batch_size": 2, "places": False, **settings}
    return FeatureBank.from_dataset(model, model[0], clips, part=(index, n_parts), **settings)


class Stopped(torch.nn.Module):
    """A layer that is interrupted at its second batch."""

    n_calls = 0

    def forward(self, inputs):
        self.n_calls += 1
        if self.n_calls > 1:
            raise KeyboardInterrupt
        return inputs.relu()


def test_parts_are_described_with_what_is_missing(here, capsys):
    part(0)
    with pytest.raises(KeyboardInterrupt):
        part(1, model=torch.nn.Sequential(Stopped(), torch.nn.AdaptiveAvgPool2d(1)))
    assert main(["describe", "parts", "--json"]) == 0
    (described,) = json.loads(capsys.readouterr().out)["described"]
    assert (described["n_parts"], described["n_finished"], described["n_written"]) == (3, 1, 4)
    assert described["unfinished"] == ["part-1-of-3 has 2 of 4 clips", "part-2-of-3 is missing"]
    assert described["n_bytes"] == 4 * (2 * (5 + 4) * 4 + 2 * 4 + 8)  # cells, means and the number of columns
    assert main(["describe", "parts", "parts/part-0-of-3"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n  parts    1 of 3 finished, with 4 of 10 clips\n") == 2
    assert printed.count("\n  missing  part-1-of-3 has 2 of 4 clips, part-2-of-3 is missing\n") == 2


def test_finished_parts_are_described_as_the_bank_that_they_are(here, capsys):
    for index in range(3):
        part(index)
    bank = FeatureBank.load("parts")
    bank.save("saved")
    assert main(["describe", "parts", "saved", "--json"]) == 0
    parts, saved = json.loads(capsys.readouterr().out)["described"]
    of_parts = {name: parts.pop(name) for name in ("n_parts", "n_finished", "n_written", "unfinished")}
    assert of_parts == {"n_parts": 3, "n_finished": 3, "n_written": 10, "unfinished": []}
    other = ("path", "format", "n_bytes")  # the files of parts also have the number of columns of each clip
    assert {**parts, **dict.fromkeys(other)} == {**saved, **dict.fromkeys(other)}
    assert parts["n_bytes"] == saved["n_bytes"] + 10 * 8


def test_parts_that_are_damaged_or_not_of_one_bank_are_refused(here, capsys):
    Path("parts/part-0-of-3").mkdir(parents=True)
    assert main(["describe", "parts"]) == 2
    assert "hold parts of a feature bank, but none of their clips are counted yet" in capsys.readouterr().err
    part(0)
    part(1, clips=torch.ones(12, 2, 4, 5))
    assert main(["describe", "parts"]) == 2
    assert "part-0-of-3 and part-1-of-3 are not of one bank: the number of clips" in capsys.readouterr().err
    damaged("parts/part-0-of-3/time.rows")
    assert main(["describe", "parts"]) == 2
    assert "time.rows is that of other content: it is damaged" in capsys.readouterr().err


def test_whole_files_are_described_without_torch(here):
    source = "import sys; from captum_apex.__main__ import main; "
    source += "status = main(['describe', 'bases', 'bank', '--json'])\n"
    source += "print([name for name in ('torch', 'captum') if name in sys.modules], status)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[] 0"


def damaged(path):
    content = bytearray(Path(path).read_bytes())
    content[-1] ^= 1
    Path(path).write_bytes(content)


def test_damaged_wrong_and_missing_files_have_the_errors_of_loading(here, capsys):
    damaged("bases/time.safetensors")
    Path("text.safetensors").write_text("no basis")
    save_file({"a": torch.zeros(2)}, "other.safetensors")
    for path in ("bases/time.safetensors", "text.safetensors", "other.safetensors", "none.safetensors"):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            PrototypeBasis.load(path)
        assert main(["describe", path]) == 2
        assert capsys.readouterr().err == f"python -m captum_apex: {error.value}\n"
    damaged(next(Path("bank").glob("means-*.npy")))
    with pytest.raises(ValueError, match="the file is damaged") as error:
        FeatureBank.load("bank")
    assert main(["describe", "bank"]) == 2
    assert capsys.readouterr().err == f"python -m captum_apex: {error.value}\n"
    Path("empty").mkdir()
    assert main(["describe", "empty"]) == 2
    assert "expected bases, *.safetensors, or a bank in empty, but there are none" in capsys.readouterr().err


def test_a_right_checksum_in_a_wrong_file_is_an_error_of_loading(here, capsys):
    from captum_apex.files import write_tensors

    write_tensors("wrong.safetensors", {"a": torch.zeros(2)}, {"format": "captum-apex basis 2", "about": "{}"})
    assert main(["describe", "wrong.safetensors"]) == 2
    assert "expected wrong.safetensors to be a captum-apex basis" in capsys.readouterr().err


def test_files_without_a_checksum_are_described(here, monkeypatch):
    wanted = describe_basis(Path("bases/time.safetensors"))
    monkeypatch.setattr("captum_apex.cli.descriptions._checked_basis", lambda path: None)
    loaded = describe_basis(Path("bases/time.safetensors"))
    assert loaded | {"format": "", "mean_purity": 0} == wanted | {"format": "", "mean_purity": 0}
    assert loaded["mean_purity"] == pytest.approx(wanted["mean_purity"], abs=1e-6)
    wanted = describe_bank(Path("bank"))
    monkeypatch.setattr("captum_apex.cli.descriptions._checked_bank", lambda folder: None)
    assert describe_bank(Path("bank")) | {"format": ""} == wanted | {"format": ""}


def test_a_basis_whose_labels_are_stored_without_zeros_is_described_as_any_other(here, monkeypatch):
    """Also without torch, which would read it."""
    indices = torch.ones(2, 1).long()
    numbers = torch.ones(2, 1)
    described = {}
    for n_classes in (1, 50):
        labels = torch.zeros(2, 1, n_classes)
        labels[:, :, 0] = 1
        basis = PrototypeBasis(torch.eye(2), "time", Prototypes(indices, numbers, numbers, indices[..., None], labels))
        basis.save("many.safetensors")
        monkeypatch.setattr("captum_apex.cli.descriptions._loaded_basis", None)
        described[n_classes] = describe_basis(Path("many.safetensors"))
    assert described[50] == described[1] | {"format": "captum-apex basis 3"}


def test_a_basis_without_the_negative_side_says_so(here, capsys):
    one = torch.ones(2, 1)
    basis = PrototypeBasis(torch.eye(2), "time", Prototypes(one.long(), one, one, one.long()[..., None]))
    basis.save("one.safetensors")
    assert main(["describe", "one.safetensors"]) == 0
    assert "mean purity 1.00, without regions, without those of the negative side" in capsys.readouterr().out


def test_places_are_one_column_and_unknown_ones_are_empty():
    strip = {"start_s": 1.0, "end_s": 2.5, "low_hz": None, "high_hz": None}
    box = {"start_s": 0.125, "end_s": 0.5, "low_hz": 612.7, "high_hz": 4120.0}
    hull = {"start_s": 0.125, "end_s": 2.5, "low_hz": 0.0, "high_hz": 8000.0}
    whole = dict.fromkeys(strip)
    rows = [
        {"clip": "a.wav", "label": "", **hull, "boxes": [strip, box]},
        {"clip": "b.wav", "label": "", **whole, "boxes": []},
        {"clip": "c.wav", "label": "", **hull, "boxes": [whole]},
        {"clip": "d.wav", "label": "", **whole, "boxes": None},
    ]
    lines = ["clip   where", "a.wav  1.00–2.50 s", "       0.13–0.50 s, 613–4120 Hz", "b.wav", "c.wav  all of the clip"]
    assert table_of(rows).splitlines() == [*lines, "d.wav"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (9.56e-05, "0.0001"),
        (-4e-06, "0"),
        (0.0, "0"),
        (-0.01234, "-0.0123"),
        (4.6, "4.6"),
        (9.999, "10"),
        (1234.5, "1234"),
    ],
)
def test_numbers_are_short_and_without_exponents(number, text):
    assert table_of([{"contribution": number}]).split() == ["contribution", text]


def test_where_a_channel_is_stronger_than_in_its_region_is_a_column():
    """Only where there is such a channel; an error of the page's row has None."""
    strip = {"start_s": 0.0307, "end_s": 0.0328, "low_hz": None, "high_hz": None}
    box = {**strip, "low_hz": 9000.0, "high_hz": 10000.0}
    far = {"clip": "a.wav", "boxes": [], "doubts": "fires more strongly elsewhere", "fires_at": [strip, box]}
    rows = [far, {"clip": "b.wav", "boxes": [], "doubts": "", "fires_at": []}, {**far, "fires_at": None}]
    lines = table_of(rows, digits=4).splitlines()
    assert lines[0].split() == ["clip", "doubts", "fires", "at", "where"]
    assert lines[1].split("  ", 2)[2] == "0.0307–0.0328 s; 0.0307–0.0328 s, 9000–10000 Hz"
    assert [line.endswith("Hz") for line in lines] == [False, True, False, False]
    assert "fires at" not in table_of(rows[1:2])


def test_a_short_box_has_two_different_ends():
    box = {"start_s": 0.4712, "end_s": 0.4741, "low_hz": None, "high_hz": None}
    assert table_of([{"boxes": [box]}]).splitlines()[1] == "0.471–0.474 s"
    assert table_of([{"boxes": [box]}], digits=4).splitlines()[1] == "0.4712–0.4741 s"
    assert table_of([{"boxes": [{**box, "end_s": 0.47121}]}], digits=4).splitlines()[1] == "0.47120–0.47121 s"
