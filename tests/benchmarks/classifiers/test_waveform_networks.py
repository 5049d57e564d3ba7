"""The reference classifiers with their spectrogram inside."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.classifiers.networks import explained_layer, head
from benchmarks.classifiers.waveform_networks import on_bins
from benchmarks.experiments.located_evidence import explanations_of, region_masks
from benchmarks.experiments.region_masking import masking_test
from benchmarks.methods import METHODS
from benchmarks.methods.region_maps import enlarged
from benchmarks.runs.results import Results
from benchmarks.runs.runner import Settings, run
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import with_spectrogram_inside
from captum_apex import LayerAPEX, Scheme, SpectrogramAxes, insert_basis
from captum_apex.masking.fills import mean_fill
from captum_apex.masking.grids import region_sums
from tests.small import small_subject

LINEAR = SpectrogramAxes(16000, 1024, 256)
RUN = (
    "random",
    "energy",
    "Saliency",
    "LayerGradCam",
    "CAM",
    "APEX time",
    "APEX time, through IG",
    "Occlusion",
    "FeatureAblation",
)
REFUSED = {
    "LRP": "unsupported",
    "GuidedGradCam": "unsupported (expected inputs with the layer's rows",
    "LRP EpsilonPlus (zennit)": "unsupported (expected a network of layers, but its spectrogram is inside",
}


@pytest.fixture(scope="module")
def small():
    return small_subject()


@pytest.fixture(scope="module")
def inside(small):
    return with_spectrogram_inside(small)


@pytest.fixture(scope="module")
def stage(inside):
    return Stage.of(inside, 4)


def test_the_logits_are_those_of_the_network_on_the_log_mels(small, inside, stage):
    _, log_mels = small.test_clips(4)
    with torch.no_grad():
        torch.testing.assert_close(inside.model(stage.inputs), small.model(log_mels), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(inside.model[:2](stage.inputs), log_mels, atol=1e-3, rtol=0)
    assert stage.inputs.shape == (4, 2, 513, 126)
    assert stage.labels == [small.task.test[index][1] for index in stage.indices]


def test_the_layer_and_what_follows_it_are_the_network_s(small, inside):
    assert inside.layer is small.model.features
    assert explained_layer(inside.model, "features.relu2") is small.model.features.relu2
    features = torch.rand(1, 128, 8, 15)
    assert torch.equal(head(inside.model, inside.layer)(features), head(small.model, small.layer)(features))


def test_the_bases_explain_it_as_they_explain_the_network(small, inside, stage):
    _, log_mels = small.test_clips(4)
    for scheme in small.bases:
        plain = LayerAPEX(small.model, small.layer, small.bases[scheme]).attribute(log_mels, stage.target)
        own = LayerAPEX(inside.model, inside.layer, inside.bases[scheme]).attribute(stage.inputs, stage.target)
        torch.testing.assert_close(own, plain, atol=1e-4, rtol=1e-3)


def test_a_fill_changes_magnitudes_and_keeps_phases(stage):
    spectra, filled = (torch.complex(*own.unbind(1)) for own in (stage.inputs, stage.fill("mean")))
    magnitudes = mean_fill(spectra.abs()[:, None])[:, 0]
    torch.testing.assert_close(filled, torch.polar(magnitudes, spectra.angle()), atol=1e-5, rtol=1e-4)
    assert not stage.fill("silence").any()


def test_a_row_of_the_layer_s_grid_lands_on_its_hertz(small, inside, stage):
    """Row 5 of 8 are the mel bands 40 to 47; enlarging by a factor of 8 reaches half a row further on either side."""
    query = stage.query(stage.grid("square"), stage.inputs)
    at_layer = torch.zeros(4, 1, 8, 15)
    at_layer[:, :, 5, 7] = 1
    large = enlarged(at_layer, query)
    assert large.shape == (4, 1, 513, 126)
    heard = large[0, 0].sum(1).nonzero()[:, 0]
    low, high = small.task.axes.hertz(36.0), small.task.axes.hertz(52.0)
    edges = LINEAR.bin_edges
    assert edges[heard[0]] <= low < edges[heard[0] + 1]
    assert edges[heard[-1]] < high <= edges[heard[-1] + 1]
    centre = (large[0, 0].sum(1).double() * LINEAR.bin_centres).sum() / large[0].sum()
    assert small.task.axes.hertz(43.0) < centre < small.task.axes.hertz(46.0)
    of_bands = enlarged(at_layer, replace(query, inputs=torch.zeros(4, 1, 64, 126), band_shares=None))
    torch.testing.assert_close(large.sum((2, 3)), of_bands.sum((2, 3)))


def test_masks_and_truths_lie_on_every_bin_that_their_bands_touch(small, inside):
    bands, bins = small.task.axes.bin_edges, LINEAR.bin_edges
    masks = torch.rand(2, 64, 5, generator=torch.Generator().manual_seed(0)) > 0.9
    expected = np.zeros((2, 513, 5), bool)
    for clip, band, frame in masks.nonzero().tolist():
        for bin_ in range(513):
            if bins[bin_] < bands[band + 1] and bins[bin_ + 1] > bands[band]:
                expected[clip, bin_, frame] = True
    assert np.array_equal(on_bins(masks, inside.task.band_shares).numpy(), expected)
    assert torch.equal(inside.task.truth(3), on_bins(small.task.truth(3), inside.task.band_shares))
    assert inside.task.truth(3).any()


def test_the_masking_test_masks_the_bins_of_the_network_s_regions(small, inside, stage):
    def masks(subject, inputs, region):
        explanations = explanations_of(subject, subject.bases[Scheme.FREQUENCY], inputs, 3)
        masks_of = partial(region_masks, subject.task.band_shares)
        return torch.stack([masks_of(each, tuple(inputs.shape[2:]), region).any(0) for each in explanations])

    _, log_mels = small.test_clips(4)
    for name in ("cell", "found"):  # regions are found in the log-mels that the model computes
        plain = masks(small, log_mels, name)
        assert torch.equal(masks(inside, stage.inputs, name), on_bins(plain, inside.task.band_shares))
    few = replace(inside, bases={Scheme.FREQUENCY: inside.bases[Scheme.FREQUENCY]})
    row = masking_test(few, 4, draws=1, fills=["mean"]).iloc[1]
    region = masks(inside, stage.inputs, "found")[:, None]
    with torch.no_grad():
        before, after = (
            inside.model(each).double().softmax(1)
            for each in (stage.inputs, torch.where(region, stage.fill("mean"), stage.inputs))
        )
    assert row["drop"] == pytest.approx((before - after).gather(1, stage.target[:, None]).mean().item(), abs=1e-6)
    assert row["share"] == pytest.approx(region.double().mean().item())


def test_a_basis_can_be_put_into_the_network_behind_its_spectrogram(inside, stage):
    copy = insert_basis(inside.model, inside.layer, inside.bases[Scheme.TIME])
    with torch.no_grad():
        torch.testing.assert_close(copy(stage.inputs), inside.model(stage.inputs), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def rows(inside, tmp_path_factory):
    settings = Settings((*RUN, *REFUSED), grids=("square", "time"), fills=("mean",), clips=2, points=3)
    about = {
        "methods": settings.methods,
        "grids": settings.grids,
        "fills": settings.fills,
        "command": "run",
        "reference": "energy",
        "sources": {},
    }
    results = Results.open(tmp_path_factory.mktemp("runs") / "inside", {"task": "small"}, about)
    run(inside, settings, results)
    return pd.read_csv(results.collect())


def test_every_method_is_scored_or_says_why_not(rows):
    scored = rows[rows.method.isin(RUN)]
    assert set(scored.status) == {"ok"}
    assert scored.groupby(["method", "grid", "fill"]).size().eq(2).all()
    assert scored[["deletion", "insertion", "pointing"]].notna().all().all()
    for name, status in REFUSED.items():
        if "zennit" in name:
            pytest.importorskip("zennit")
        assert all(text.startswith(status) for text in rows[rows.method == name].status)


def test_a_curve_s_ends_are_the_clip_and_its_fill(inside, stage, rows):
    row = rows[(rows.method == "energy") & (rows.grid == "square") & (rows.fill == "mean")].iloc[1]
    own = Stage.of(inside, 2)
    with torch.no_grad():
        clip, fill = (
            inside.model(each[1:]).softmax(1)[0, row.predicted].item() for each in (own.inputs, own.fill("mean"))
        )
    curve = [float(number) for number in row.deletion_curve.split()]
    assert (curve[0], curve[-1]) == (pytest.approx(clip, abs=1e-5), pytest.approx(fill, abs=1e-5))


def test_energy_is_the_magnitude(stage):
    query = stage.query(stage.grid("square"), stage.inputs)
    found = METHODS["energy"].maps(replace(query, names=("energy",)))[0]
    torch.testing.assert_close(found[:, 0], torch.complex(*stage.inputs.unbind(1)).abs())


def test_occlusion_hides_both_parts_of_a_bin(inside):
    """One region that is the whole clip: what is lost with it is all that the fill does not say."""
    own = Stage.of(inside, 1)
    query = own.query(torch.zeros(513, 126, dtype=torch.int64), own.fill("silence"))
    whole, silent = (inside.model(each)[0, own.target[0]].item() for each in (query.inputs, query.fill))
    found = METHODS["Occlusion"].maps(replace(query, names=("Occlusion",)))[0]
    torch.testing.assert_close(
        found, torch.full_like(found, whole - silent), rtol=1e-4, atol=1e-6
    )  # Captum writes it into each bin
    shared = METHODS["FeatureAblation"].maps(replace(query, names=("FeatureAblation",)))[0]
    assert region_sums(shared, query.grid).item() == pytest.approx(whole - silent, rel=1e-4)
