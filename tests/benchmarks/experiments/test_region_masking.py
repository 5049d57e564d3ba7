"""The masking test of regions: every column against a slow re-writing, clip by clip and channel by channel."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from benchmarks.classifiers.networks import PlainCNN
from benchmarks.experiments import region_masking
from benchmarks.experiments.located_evidence import explanations_of, region_masks
from benchmarks.runs import subject
from benchmarks.statistics import interval
from benchmarks.tasks import ClipDataset
from captum_apex import SCHEMES, Box, LayerAPEX, Region
from captum_apex.masking.fills import blur_fill, mean_fill
from tests.small import small_subject


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An untrained network on a few scenes, with bases hardly fitted and a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTUM_APEX_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(subject, "FIT", {"epochs": 1, "n_prototypes": (8, 2)})
        yield small_subject()


def in_time(whole):
    """The subject with one scheme alone."""
    return dataclasses.replace(whole, bases={SCHEMES[1]: whole.bases[SCHEMES[1]]})


def by_hand(small, masks, fill):
    """Drop in probability, whether the label is predicted, whether the prediction stays: (clip, 3), clip by clip."""
    indices, inputs = small.test_clips(len(masks))
    found = []
    for index, clip, mask in zip(indices, inputs, masks, strict=True):
        hidden = clip.clone()
        hidden[:, mask] = fill(clip)[:, mask]
        with torch.no_grad():
            before, after = (small.model(x[None])[0].double().softmax(0) for x in (clip, hidden))
        y, label = before.argmax(), small.task.test[index][1]
        found.append(((before[y] - after[y]).item(), after.argmax().item() == label, (after.argmax() == y).item()))
    return np.array(found, dtype=float)


SIGMA = {"time": (0.0, 0.25), "frequency": (0.25, 0.0)}  # of the blur that is the fill of the search
FILLS = {
    "surroundings": lambda clip, scheme, silence: blur_fill(clip[None], SIGMA[scheme])[0],
    "silence": lambda clip, scheme, silence: torch.full_like(clip, silence),
    "mean": lambda clip, scheme, silence: mean_fill(clip[None])[0],
}
MIRRORED = ((-1,), (-2,))  # the two random places, known here: mirrored in time, and mirrored in frequency


def falls_by_hand(small, scheme, explanations, masks, fill):
    """Share of its contribution that each channel of each clip loses when its own mask is filled, one by one."""
    apex, falls = LayerAPEX(small.model, small.layer, small.bases[scheme]), []
    for clip, explanation, of_clip in zip(small.test_clips(len(masks))[1], explanations, masks, strict=True):
        with torch.no_grad():
            y = int(small.model(clip[None]).argmax())
        for evidence, mask in zip(explanation.evidence, of_clip, strict=True):
            hidden = torch.where(mask, fill(clip), clip)[None]
            falls.append(
                1 - apex.decompose(hidden, y).contributions[0, evidence.channel].item() / evidence.contribution
            )
    return np.array(falls)


def line_by_hand(small, n_clips, scheme, region, name):
    """All columns of a line of the table but `p_holm`."""
    fill = lambda clip: FILLS[name](clip, scheme, small.task.silence)  # noqa: E731
    explanations = explanations_of(small, small.bases[scheme], small.test_clips(n_clips)[1], 3)
    of_channels = [region_masks(None, each, (64, 126), region) for each in explanations]
    unions = torch.stack([masks.any(0) for masks in of_channels])
    own = by_hand(small, unions, fill)
    chance = np.mean([by_hand(small, unions.flip(axes), fill) for axes in MIRRORED], axis=0)
    random_falls = [
        falls_by_hand(small, scheme, explanations, [masks.flip(axes) for masks in of_channels], fill)
        for axes in MIRRORED
    ]
    difference = own - chance
    low, high = interval(difference[:, 0])
    accuracy_low, accuracy_high = interval(-difference[:, 1])
    return {
        "clips": n_clips,
        "share": np.mean([union.double().mean().item() for union in unions]),
        "drop": own[:, 0].mean(),
        "drop_random": chance[:, 0].mean(),
        "ratio": own[:, 0].mean() / max(chance[:, 0].mean(), 0.001),
        "channel": np.median(falls_by_hand(small, scheme, explanations, of_channels, fill)),
        "channel_random": np.median(np.mean(random_falls, axis=0)),
        "difference": difference[:, 0].mean(),
        "low": low,
        "high": high,
        "p": p_by_hand(difference[:, 0]),
        "accuracy": own[:, 1].mean(),
        "accuracy_random": chance[:, 1].mean(),
        "accuracy_before": by_hand(small, unions & False, fill)[:, 1].mean(),
        "accuracy_difference": -difference[:, 1].mean(),
        "accuracy_low": accuracy_low,
        "accuracy_high": accuracy_high,
        "kept": own[:, 2].mean(),
        "kept_random": chance[:, 2].mean(),
    }


def p_by_hand(difference):
    """Among all signs of the differences, the share in which the sum of positive ranks is as extreme, twice."""
    ranks = stats.rankdata(np.abs(difference))
    sums = np.array([ranks @ np.array(signs) for signs in itertools.product((0, 1), repeat=len(ranks))])
    observed = ranks[difference > 0].sum()
    return min(1, 2 * min((sums >= observed).mean(), (sums <= observed).mean()))


def test_every_column_is_that_of_its_definition(small, monkeypatch):
    mirrors = itertools.cycle([lambda masks, axes=axes: masks.flip(axes) for axes in MIRRORED])
    monkeypatch.setattr(region_masking, "moved", lambda masks, generator: next(mirrors)(masks))
    bases = {scheme: small.bases[scheme] for scheme in SCHEMES[1:3]}
    assert list(map(str, bases)) == ["time", "frequency"]
    frame = region_masking.masking_test(dataclasses.replace(small, bases=bases), 6, draws=2)
    keys = ["scheme", "fill", "region"]
    assert [tuple(line) for line in frame[keys].to_numpy()] == [
        (scheme, fill, region)
        for scheme, region, fill in itertools.product(("time", "frequency"), ("cell", "found"), FILLS)
    ]
    for line in frame.to_dict("records"):
        expected = line_by_hand(small, 6, line["scheme"], line["region"], line["fill"])
        assert {*line} == {*keys, "p_holm", *expected}
        for column, value in expected.items():
            precision = 1e-3 if column.startswith("channel") else 1e-6
            assert line[column] == pytest.approx(value, abs=precision), (column, [line[key] for key in keys])
    assert frame["difference"].abs().max() > 1e-6
    step_down = 0.0
    for place, index in enumerate(frame["p"].sort_values(kind="stable").index):
        step_down = max(step_down, min(1, frame["p"][index] * (len(frame) - place)))
        assert frame["p_holm"][index] == pytest.approx(step_down)


def located(monkeypatch, mask, n_clips, seen=None):
    """Puts this mask in the place of the regions of all clips; their evidence is not looked for."""
    seen = [] if seen is None else seen
    clip = region_masking._LocatedClip([], dict.fromkeys(region_masking.REGIONS, mask[None]))

    def of(workers, stage):
        seen.append(stage.inputs)
        return {scheme: [clip] * n_clips for scheme in stage.bases}

    monkeypatch.setattr(region_masking, "_located", of)


def test_a_region_that_is_the_whole_clip_is_no_better_than_a_random_one(small, monkeypatch):
    located(monkeypatch, torch.ones(64, 126, dtype=torch.bool), 5)
    frame = region_masking.masking_test(in_time(small), 5, draws=3, fills=["mean"])
    assert set(frame.share) == {1.0}
    assert frame["drop"].abs().min() > 0
    assert (frame[["difference", "low", "high", "accuracy_difference"]] == 0).all().all()
    assert set(frame.p) == {1.0}
    assert frame.channel.isna().all()


def test_a_region_that_alone_matters_is_better_than_a_random_one(small, monkeypatch):
    """The model sees only the lowest bins of the first frames, where the masks are; it is right where it sees sound."""

    class Corner(PlainCNN):
        def forward(self, clips):
            level = clips[:, 0, :8, :10].mean((1, 2)) - small.task.silence - 0.01
            return torch.stack([level, *[torch.zeros_like(level)] * 7], 1)

    located(monkeypatch, Region((Box(0.0, 0.125, 0.0, 10 / 126),)).mask(64, 126), 16)
    task = dataclasses.replace(
        small.task, test=ClipDataset(small.task.test.log_mels, torch.zeros(16, dtype=torch.int64))
    )
    corner = dataclasses.replace(in_time(small), model=Corner(8), task=task)
    frame = region_masking.masking_test(corner, 16, draws=4, fills=["silence"])
    assert (frame.low > 0).all()
    assert (frame.accuracy_before == 1).all()
    assert (frame.accuracy == 0).all()
    assert (frame.accuracy_difference == frame.accuracy_random).all()
    assert (frame.accuracy_low > 0.8).all()
    assert (frame.accuracy_high <= 1).all()
    assert (frame.p < 0.001).all()
    assert (frame.drop_random < 0.2 * frame["drop"]).all()


def test_the_masking_test_of_the_training_part_masks_its_clips(small, monkeypatch):
    seen = []
    located(monkeypatch, torch.ones(64, 126, dtype=torch.bool), 3, seen)
    region_masking.masking_test(in_time(small), 3, "train", draws=1, fills=["mean"])
    indices, inputs = small.clips("train", 3)
    assert torch.equal(seen[0], inputs)
    assert torch.equal(seen[0][1], small.task.train[indices[1]][0])


def test_the_masking_test_is_the_same_in_one_process_and_in_two(small, monkeypatch):
    monkeypatch.setattr(region_masking, "CLIPS_AT_ONCE", 4)  # the evidence is looked for in two batches
    two = dataclasses.replace(small, bases={scheme: small.bases[scheme] for scheme in SCHEMES[1:3]})
    one, both = (region_masking.masking_test(two, 6, draws=1, fills=["mean"], jobs=jobs) for jobs in (1, 2))
    assert list(one.region) == ["cell", "found"] * 2
    assert one.channel.notna().all()
    pd.testing.assert_frame_equal(one, both, check_exact=True)
