"""Fits that two processes compute together, each with its part of a bank, against fits of one process."""

import json
import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from captum_apex import SCHEMES, FeatureBank, PrototypeBasis, Scheme, basis_from_matrix, fit_basis
from captum_apex.bases import shared_bank
from captum_apex.bases.processes import Processes
from captum_apex.bases.shared_bank import SharedBank
from captum_apex.layers.origin import Origin

N_CLIPS = 23
N_FIRST = 9  # clips of the first of two parts
SHORT = {"epochs": 4, "n_prototypes": (12, 3)}
PATIENCE = timedelta(seconds=60)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bank(width=6, columns=None, labels="one", dtype=torch.float32, half=False):
    grids = (random(N_CLIPS, width, 3, 5).relu() + 0.01).to(dtype)
    cells = {scheme: scheme.cells(grids, columns)[0].contiguous() for scheme in SCHEMES[:3]}
    means = cells[Scheme.SQUARE].nanmean(2)
    if half:
        cells = {scheme: each.half() for scheme, each in cells.items()}
    given = {"one": torch.arange(N_CLIPS) % 4, "several": random(N_CLIPS, 3, seed=1) > 0, "none": None}
    origin = Origin("layer", grid=(3, 5), n_clips=N_CLIPS, input_shape=None if columns is not None else (1, 6, 10))
    return FeatureBank(cells, means, given[labels], origin)


def wide_bank():
    return bank(260, dtype=torch.float64)  # Adam enlarges the rounding errors of small gradients


COLUMNS = torch.tensor([5, 3, 4, 2, 5, 5, 3, 4, 1] + [5] * (N_CLIPS - N_FIRST))

# Name → bank, what is done with it, and settings.
CASES = {
    **{f"gradient {scheme}": (bank, fit_basis, {"scheme": str(scheme), **SHORT}) for scheme in SCHEMES},
    **{
        f"closed form {scheme}": (bank, fit_basis, {"scheme": str(scheme), "method": "closed-form", **SHORT})
        for scheme in SCHEMES
    },
    "invertible": (bank, fit_basis, {"scheme": "time", "orthogonal": False, **SHORT}),
    "wide": (
        lambda: bank(260, dtype=torch.float64),
        fit_basis,
        {"scheme": "time", "epochs": 2, "n_prototypes": (4, 2)},
    ),
    "several lengths": (lambda: bank(columns=COLUMNS), fit_basis, {"scheme": "square", **SHORT}),
    "several labels": (lambda: bank(labels="several"), fit_basis, {"scheme": "frequency", **SHORT}),
    "no labels": (lambda: bank(labels="none"), fit_basis, {"scheme": "frequency", **SHORT}),
    "half precision": (lambda: bank(half=True), fit_basis, {"scheme": "time", "method": "closed-form", **SHORT}),
    "more prototypes than clips of a part": (bank, fit_basis, {"scheme": "time", "n_prototypes": (20, 15)}),
    "a matrix": (bank, basis_from_matrix, {"scheme": "time-frequency", "U": torch.linalg.qr(random(6, 6))[0]}),
    "float64": (lambda: bank(dtype=torch.float64), fit_basis, {"scheme": "time", **SHORT}),
}


def part_of(whole, rank):
    clips = slice(0, N_FIRST) if rank == 0 else slice(N_FIRST, None)
    cells = {scheme: each[clips] for scheme, each in whole.cells.items()}
    n_columns = 5 - int(cells[Scheme.TIME][:, 0].isnan().all(0).sum())  # padded to the widest clip of the part
    cells = {
        scheme: each.unflatten(2, (3 if scheme is Scheme.SQUARE else 1, 5))[..., :n_columns].flatten(2)
        if scheme is not Scheme.FREQUENCY
        else each
        for scheme, each in cells.items()
    }
    means = whole.means[clips]
    origin = replace(whole.origin, n_clips=len(means), grid=(3, n_columns))
    return FeatureBank(cells, means, None if whole.labels is None else whole.labels[clips], origin, part=(rank, 2))


def fit_all(rank, folder):
    for name, (made, function, settings) in CASES.items():
        basis = function(part_of(made(), rank), **settings, group=distributed.group.WORLD)
        basis.save(Path(folder, f"{name}-{rank}.safetensors"))
    distributed.barrier()  # a process that ends early closes its connections while the other still reads


def wrong_calls(rank, folder):
    """What the errors say in each process."""
    part = part_of(bank(), rank)
    other_weights = replace(part, origin=replace(part.origin, fingerprint=f"weights {rank}"))
    without_time = replace(part, cells={Scheme.SQUARE: part.cells[Scheme.SQUARE]}) if rank else part
    calls = {
        "the whole bank": lambda group: fit_basis(replace(bank(), part=None), "time", group=group),
        "settings": lambda group: fit_basis(part, "time", epochs=rank, group=group),
        "weights": lambda group: fit_basis(other_weights, "time", group=group),
        "order": lambda group: fit_basis(replace(part, part=(1 - rank, 2)), "time", group=group),
        "scheme": lambda group: fit_basis(without_time, "time", group=group),
    }
    messages = {}
    for name, call in calls.items():
        try:
            call(distributed.group.WORLD)
        except ValueError as error:
            messages[name] = str(error)
    Path(folder, f"messages-{rank}.json").write_text(json.dumps(messages))
    distributed.barrier()


def lose_one(rank, folder):
    """The second process ends in the middle of a fit."""
    if rank:
        shared_bank.SharedBank.most_active_again = lambda *_: os._exit(7)
    start = time.monotonic()
    try:
        fit_basis(part_of(bank(), rank), "time", epochs=9, group=distributed.group.WORLD)
    except RuntimeError as error:
        Path(folder, "lost.json").write_text(json.dumps([str(error), time.monotonic() - start]))


def in_group(rank, function, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", timeout=PATIENCE, rank=rank, world_size=2)
    function(rank, folder)
    if function is not lose_one:
        distributed.barrier()  # a process that ends early can abort the other one while it leaves the group
    os._exit(0)  # gloo's own threads can abort a process that leaves the group in the usual way, when its work is done


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    multiprocessing.spawn(in_group, (fit_all, str(folder)), nprocs=2)
    return {name: [PrototypeBasis.load(folder / f"{name}-{rank}.safetensors") for rank in range(2)] for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_a_fit_in_two_processes_is_that_of_one(bases, name):
    made, function, settings = CASES[name]
    expected = function(made(), **settings)
    for found in bases[name]:
        torch.testing.assert_close(found.U, expected.U, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.purity_history, expected.purity_history, rtol=0, atol=1e-5)
        assert found.origin == expected.origin
        for side in ("positive", "negative"):
            ours, theirs = (getattr(basis, side) for basis in (found, expected))
            assert torch.equal(ours.indices, theirs.indices)
            assert torch.equal(ours.peaks, theirs.peaks)
            torch.testing.assert_close(ours.purities, theirs.purities, rtol=0, atol=1e-5)
            torch.testing.assert_close(ours.activations, theirs.activations, rtol=1e-4, atol=1e-5)
            for field in ("labels", "columns"):
                one, other = (getattr(prototypes, field) for prototypes in (ours, theirs))
                assert (one is None) == (other is None), field
                assert one is None or torch.equal(one, other), field


@pytest.mark.parametrize("name", CASES)
def test_both_processes_have_the_same_basis_bit_for_bit(bases, name):
    first, second = bases[name]
    assert torch.equal(first.U, second.U)
    assert torch.equal(first.purity_history, second.purity_history)
    for side in ("positive", "negative"):
        for field in ("indices", "activations", "purities", "peaks"):
            assert torch.equal(getattr(getattr(first, side), field), getattr(getattr(second, side), field))


def test_the_prototypes_come_from_both_parts(bases):
    indices = bases["gradient time"][0].positive.indices
    assert (indices < N_FIRST).any()
    assert (indices >= N_FIRST).any()


def test_wrong_banks_and_settings_are_refused_in_all_processes(tmp_path):
    multiprocessing.spawn(in_group, (wrong_calls, str(tmp_path)), nprocs=2)
    first, second = (json.loads((tmp_path / f"messages-{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert first["the whole bank"].startswith("expected each process of the group to have its own part of the bank")
    assert first["settings"] == (
        "expected the same epochs in all processes of the group, but process 1 has 1, and process 0 0"
    )
    assert first["weights"].startswith("expected the same weights of the model in all processes of the group")
    assert first["order"] == "in process 0 of the group: expected part (0, 2) of the dataset, but got (1, 2)"
    assert first["scheme"].startswith("in process 1 of the group: expected a bank with the cells of 'time'")


def test_a_process_that_ends_is_noticed_by_the_other(tmp_path):
    start = multiprocessing.get_context("spawn").Process
    processes = [start(target=in_group, args=(rank, lose_one, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(2 * PATIENCE.total_seconds())
    assert processes[1].exitcode == 7
    message, seconds = json.loads((tmp_path / "lost.json").read_text())
    assert message.startswith("expected all 2 processes of the group to go on together, but another one has ended")
    assert seconds < PATIENCE.total_seconds() / 2


def test_what_is_no_group_is_refused():
    with pytest.raises(TypeError, match="expected `group` to be a process group of torch.distributed, .* got int"):
        fit_basis(bank(), "time", group=1)


def test_without_a_group_nothing_is_exchanged(monkeypatch):
    for name in ("all_reduce", "broadcast", "all_gather"):
        monkeypatch.setattr(distributed, name, lambda *_, **__: pytest.fail("an exchange"))
    fit_basis(bank(), "time", **SHORT)
    assert Processes().gathered(torch.ones(1)) == [torch.ones(1)]


def test_the_part_stays_with_the_bank(tmp_path):
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
    clips = random(4, 2, 3, 3).float()
    part = FeatureBank.from_dataset(model, model[0], clips, folder=tmp_path, part=(1, 2), batch_size=2)
    assert part.part == part.to("cpu").part == (1, 2)
    assert SharedBank(part, "time").n_clips == 2
