"""Regions of prototypes that two processes find together, against those that one process finds."""

import json
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from captum_apex import (
    SCHEMES,
    Box,
    LayerAPEX,
    PrototypeBasis,
    Region,
    RegionEffect,
    RegionSearch,
    basis_from_matrix,
    locate_prototypes,
)
from captum_apex.bases.processes import Processes
from captum_apex.explanations import shared_search
from captum_apex.locating import LocatedRegion
from tests.captum_apex.bases.test_shared_bank import in_group
from tests.explained import TRAINING, basis, network
from tests.networks import invertible

FIELDS = ("boxes", "effects", "fires_on")

# Name → scheme and settings.
CASES = {
    **{str(scheme): (str(scheme), {"n_prototypes": 3}) for scheme in SCHEMES},
    "cross": ("time-frequency", {"n_prototypes": 2, "search": RegionSearch(cross=True, n_random=3)}),
    "some channels": ("time", {"n_prototypes": 4, "channels": [4, 1]}),
    "one clip": ("time", {"n_prototypes": 1, "channels": [2]}),
}


class Counted:
    """The training clips; `read` has the indices that were read, and `faulty` is a clip that cannot be read."""

    def __init__(self, faulty=None):
        self.read = []
        self.faulty = faulty

    def __len__(self):
        return len(TRAINING)

    def __getitem__(self, index):
        self.read.append(index)
        if index == self.faulty:
            raise OSError(f"no clip {index}")
        return TRAINING[index], index % 3


def attribution(scheme, seed=0):
    model, layer, bank = network()
    of_seed = basis_from_matrix(bank, scheme, invertible(seed=seed), n_prototypes=4) if seed else basis(scheme)
    return LayerAPEX(model, layer, of_seed)


def located(name, dataset, **settings):
    scheme, of_case = CASES[name]
    return locate_prototypes(attribution(scheme), dataset, **of_case, **settings)


def locate_all(rank, folder):
    read = {}
    shared_search._CLIPS_AT_ONCE = 2  # several exchanges
    for name in CASES:
        dataset = Counted()
        located(name, dataset, group=distributed.group.WORLD).save(Path(folder, f"{name}-{rank}.safetensors"))
        read[name] = dataset.read
    Path(folder, f"read-{rank}.json").write_text(json.dumps(read))
    wrong_calls(rank, folder)
    distributed.barrier()  # a process that ends early closes its connections while the other still reads


def wrong_calls(rank, folder):
    """What the errors say in each process."""
    group = distributed.group.WORLD
    apex = attribution("time")
    first = int(apex.basis.positive.indices[0, 0])
    calls = {
        "clip": lambda: locate_prototypes(apex, Counted(first if rank else None), group=group),
        "model": lambda: locate_prototypes(failing(apex) if rank else apex, Counted(), group=group),
        "basis": lambda: locate_prototypes(attribution("time", seed=rank), Counted(), group=group),
        "number": lambda: locate_prototypes(apex, Counted(), n_prototypes=1 + rank, group=group),
        "too many": lambda: locate_prototypes(apex, Counted(), n_prototypes=4 + rank, group=group),
        "search": lambda: locate_prototypes(apex, Counted(), search=RegionSearch(n_random=rank), group=group),
    }
    messages = {}
    for name, call in calls.items():
        try:
            call()
        except ValueError as error:
            messages[name] = str(error)
    Path(folder, f"messages-{rank}.json").write_text(json.dumps({"first": first, **messages}))


def failing(apex):
    """The same attribution object with a model that does not run; its weights are the same."""

    def fail(*_):
        raise KeyError("a fault")

    model, layer = apex.forward_func, apex.layer
    layer.register_forward_hook(fail)
    return LayerAPEX(model, layer, apex.basis)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regions")
    multiprocessing.spawn(in_group, (locate_all, str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_the_regions_of_two_processes_are_those_of_one_bit_for_bit(folder, name):
    expected = located(name, Counted())
    for rank in range(2):
        found = PrototypeBasis.load(folder / f"{name}-{rank}.safetensors")
        for side in ("positive", "negative"):
            for field in FIELDS:
                assert torch.equal(getattr(getattr(found, side), field), getattr(getattr(expected, side), field))
        assert found.fingerprint == expected.fingerprint


def test_each_clip_is_searched_in_one_process_and_both_have_a_share(folder):
    first, second = (json.loads((folder / f"read-{rank}.json").read_text()) for rank in range(2))
    for name in CASES:
        alone = Counted()
        located(name, alone)
        assert sorted(first[name] + second[name]) == sorted(alone.read)
        assert abs(len(first[name]) - len(second[name])) <= 1


def test_errors_and_other_arguments_are_errors_in_both_processes(folder):
    first, second = (json.loads((folder / f"messages-{rank}.json").read_text()) for rank in range(2))
    assert first == second
    where = "in all processes of the group, but process 1 has"
    assert first["clip"] == f"in process 1 of the group: OSError: no clip {first['first']}"
    assert first["model"] == "in process 1 of the group: KeyError: 'a fault'"
    assert first["basis"].startswith(f"expected the same basis {where}")
    assert first["number"].startswith(f"expected the same prototypes {where}")
    assert first["too many"].startswith(
        "in process 1 of the group: expected `n_prototypes` from 1 to the 4 of the basis"
    )
    assert first["search"].startswith(f"expected the same search {where} [0.8, False, 1, 16, True]")


def test_an_error_without_a_group_stays_what_it_is():
    apex = attribution("time")
    faulty = int(apex.basis.positive.indices[0, 0])
    with pytest.raises(OSError, match=f"^no clip {faulty}$"):
        locate_prototypes(apex, Counted(faulty))


def test_what_is_exchanged_keeps_every_bit():
    effect = RegionEffect(0.1 + 0.2, (1 / 3, -0.0), 2.5e-310, "silence", fires_elsewhere=True)
    region = Region((Box(0.1, 0.7, 1 / 3, 2 / 3), Box(0.0, 1.0, 0.25, 0.5)))
    for each in (LocatedRegion(region, effect), LocatedRegion(region)):
        again = shared_search._located(json.loads(json.dumps(shared_search._entry(each))))
        assert repr(again) == repr(each)


def test_progress_counts_all_regions():
    steps = []
    one = LocatedRegion(Region((Box(0.0, 1.0, 0.0, 1.0),)))
    clips = {(clip, 1): range(clip + 1) for clip in range(5)}
    found = shared_search.found_together(lambda *call: [one] * len(call[1]), clips, Processes(), steps.append)
    assert sum(steps) == len(found) == 15
