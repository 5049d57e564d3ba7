"""Charts: purity over the epochs, curves with their bands, and a basis as a whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from captum_apex import FeatureBank, PrototypeBasis, SpectrogramAxes, basis_from_matrix, figures
from captum_apex.figures.basis_overview import class_deviations, frequency_profiles, prototype_counts
from tests.explained import AXES, CLASSES, TRAINING, basis, network
from tests.networks import invertible

HISTORY = torch.tensor([0.1, 0.2, 0.4])


def fitted(history=HISTORY):
    return PrototypeBasis(torch.eye(3), "time", purity_history=history)


def lines(panel):
    return {line.get_label(): line.get_xydata() for line in panel.get_lines()}


# --- purity -------------------------------------------------------------------------------------------------------


def test_purity_is_drawn_over_the_epochs():
    panel = figures.purity({"orthogonal": fitted(), "invertible": fitted(HISTORY + 0.1)}).axes[0]
    drawn = lines(panel)
    np.testing.assert_allclose(drawn["orthogonal"], [[0, 0.1], [1, 0.2], [2, 0.4]])
    np.testing.assert_allclose(drawn["invertible"], [[0, 0.2], [1, 0.3], [2, 0.5]])
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["orthogonal", "invertible"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("epoch", "mean purity of the prototypes")


def test_one_basis_is_named_by_its_scheme():
    assert list(lines(figures.purity(fitted()).axes[0])) == ["time"]


def test_a_basis_that_was_not_fitted_is_refused():
    with pytest.raises(ValueError, match="expected fitted bases, which have a purity history, but 'raw' has none"):
        figures.purity({"raw": fitted(torch.empty(0))})


# --- curves -------------------------------------------------------------------------------------------------------


def band(panel, which=0):
    """Lower and upper end at every point, (2, point)."""
    corners = panel.collections[which].get_paths()[0].vertices
    xs = sorted(set(corners[:, 0]))
    return np.array(
        [[corners[corners[:, 0] == x, 1].min() for x in xs], [corners[corners[:, 0] == x, 1].max() for x in xs]]
    )


def test_curves_have_the_mean_and_its_interval():
    values = np.random.default_rng(1).normal(0.5, 0.1, (400, 3))
    panel = figures.curves([0.0, 0.5, 1.0], {"APEX": values}, ylabel="logit").axes[0]
    ((name, curve),) = lines(panel).items()
    np.testing.assert_allclose(curve, np.column_stack([[0, 0.5, 1], values.mean(0)]))
    assert name == f"APEX, area {values.mean(0) @ [0.25, 0.5, 0.25]:.2f}"
    half = 1.96 * values.std(0) / 20  # of the normal distribution, which the mean of 400 clips nearly has
    np.testing.assert_allclose(band(panel), [values.mean(0) - half, values.mean(0) + half], atol=0.12 * half.max())
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("share of the clip removed", "logit")


def test_bands_repeat_and_change_with_the_seed():
    values = {"a": torch.rand(7, 4, generator=torch.Generator().manual_seed(0))}
    drawn = [band(figures.curves(torch.linspace(0, 1, 4), values, seed=seed).axes[0]) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_clips_may_have_fractions_of_their_own():
    panel = figures.curves([[0.0, 0.4, 1.0], [0.0, 0.6, 1.0]], {"a": torch.zeros(2, 3)}).axes[0]
    np.testing.assert_allclose(next(iter(lines(panel).values()))[:, 0], [0, 0.5, 1])


@pytest.mark.parametrize("shape", [(3,), (5, 4), (0, 3)])
def test_curves_of_another_shape_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"expected `values` of shape \(clip, 3\), a point for each fraction, but got .* for 'a'"
    ):
        figures.curves([0, 0.5, 1], {"a": torch.zeros(shape)})


def test_axes_given_are_drawn_on():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert figures.purity(fitted(), ax=left) is figure
    assert figures.curves([0, 1], {"a": torch.zeros(2, 2)}, ax=right) is figure
    assert [len(panel.get_lines()) for panel in (left, right)] == [1, 1]


# --- channels -----------------------------------------------------------------------------------------------------


def bank(**changes):
    return replace(network()[2], **changes)


def tick_names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_deviations_follow_their_definition():
    activations, labels = bank().means @ invertible().T, bank().labels
    found = class_deviations(activations, labels)
    for label in range(3):
        for channel in range(6):
            own = activations[:, channel].numpy()
            wanted = (own[labels == label].mean() - own.mean()) / own.std()
            assert found[label, channel].item() == pytest.approx(wanted)


def test_channels_are_ordered_by_the_classes_that_they_carry():
    figure = figures.channels(basis(), bank(), class_names=CLASSES, n_channels=2)
    panel = figure.axes[0]
    strength = class_deviations(bank().means @ invertible().T, bank().labels)
    wanted = list(dict.fromkeys(strength.topk(2, dim=1).indices.flatten().tolist()))
    assert tick_names(panel.xaxis) == [str(channel) for channel in wanted]
    assert tick_names(panel.yaxis) == list(CLASSES)
    np.testing.assert_allclose(panel.images[0].get_array(), strength[:, wanted])
    low, high = panel.images[0].get_clim()
    assert low == -high
    counts = {
        (round(text.get_position()[0]), round(text.get_position()[1])): int(text.get_text()) for text in panel.texts
    }
    for column, channel in enumerate(wanted):
        for row in range(3):
            own = int((basis().positive.labels[channel] == row).sum())
            assert counts.get((column, row), 0) == own == prototype_counts(basis(), wanted, 3)[row, column]


def test_profiles_are_the_prototypes_means_by_frequency():
    rows = bank().cells["frequency"]
    found = frequency_profiles(basis(), bank(), [4])
    wanted = torch.stack([(invertible() @ rows[index])[4] for index in basis().prototype_indices[4]]).mean(0)
    torch.testing.assert_close(found, wanted[None])
    panel = [own for own in figures.channels(basis(), bank(), AXES).axes if own.images][1]
    assert panel.get_ylim() == pytest.approx((AXES.hertz(0.0), AXES.hertz(8.0)))
    assert panel.get_ylabel() == "frequency in Hz"
    values = np.asarray(panel.images[0].get_array())  # (row, channel)
    np.testing.assert_allclose(np.abs(values).max(0), 1)
    first = frequency_profiles(basis(), bank(), [int(tick_names(panel.xaxis)[0])])[0]
    np.testing.assert_allclose(values[:, 0], first / first.abs().max())


def test_profiles_lie_on_a_linear_axis_too():
    axes = SpectrogramAxes(8000, 20, 160)
    panel = [own for own in figures.channels(basis(), bank(), axes).axes if own.images][1]
    assert tuple(panel.images[0].get_extent()[2:]) == pytest.approx((0, 4000))


def test_profiles_of_inputs_with_high_frequencies_first_are_turned():
    upright, turned = (
        [panel for panel in figures.channels(basis(), bank(), axes).axes if panel.images][1]
        for axes in (AXES, AXES.flipped())
    )
    assert turned.get_ylim() == upright.get_ylim()
    assert np.array_equal(turned.images[0].get_array(), upright.images[0].get_array()[::-1])


def test_without_rows_or_axes_there_is_one_panel():
    own = bank(cells={scheme: cells for scheme, cells in bank().cells.items() if scheme == "time"})
    for figure in (figures.channels(basis(), own, AXES), figures.channels(basis(), bank())):
        assert len([panel for panel in figure.axes if panel.images]) == 1


def test_weights_take_the_place_of_the_deviations():
    weights = torch.arange(18.0).view(3, 6) - 5
    figure = figures.channels(basis(), bank(), weights=weights, n_channels=1)
    panel, colours = figure.axes
    assert tick_names(panel.xaxis) == ["5"]
    np.testing.assert_allclose(panel.images[0].get_array(), weights[:, [5]])
    assert colours.get_ylabel() == "weight"


def test_what_a_view_of_the_channels_needs():
    with pytest.raises(ValueError, match="expected a bank with labels, one class per clip"):
        figures.channels(basis(), bank(labels=None))
    with pytest.raises(ValueError, match="expected a basis with labelled prototypes"):
        figures.channels(PrototypeBasis(torch.eye(6), "time"), bank())
    with pytest.raises(
        ValueError, match=r"expected `weights` of shape \(class, 6\), a row for each class, but got \(2, 6\)"
    ):
        figures.channels(basis(), bank(), weights=torch.zeros(2, 6))
    wider = FeatureBank.from_dataset(
        torch.nn.Sequential(own := torch.nn.Conv2d(1, 7, 1)), own, [(clip.float(), 0) for clip in TRAINING]
    )
    with pytest.raises(ValueError, match="expected a basis of the bank's 7 channels, but got one of 6"):
        figures.channels(basis_from_matrix(network()[2], "time", invertible()), wider)
