"""Pictures that compare: signed maps centred on zero, the masking strip, twins, waveforms."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from captum_apex import Box, Clip, Region, SpectrogramAxes, figures
from captum_apex.figures.outlines import union_path
from captum_apex.figures.signed_maps import channel_map, map_scale, signed_map

AXES = SpectrogramAxes(16000, 512, 160, n_mels=8)
GENERATOR = torch.Generator().manual_seed(0)
CLIP = Clip(
    torch.randn(8, 20, generator=GENERATOR), AXES, torch.randn(3200, generator=GENERATOR), name="one.wav", label="dog"
)
SOUND = Clip.from_waveform(torch.randn(4000, generator=GENERATOR), 8000, name="two.wav")
REGION = Region((Box(0.25, 0.5, 0.1, 0.4),))


def panels(figure):
    return [panel for panel in figure.axes if panel.images]


def drawn(panel):
    """The topmost image's values and colour limits."""
    return np.asarray(panel.images[-1].get_array()), panel.images[-1].get_clim()


def outlines(panel):
    return [patch.get_path().vertices.tolist() for patch in panel.patches]


OUTLINE = union_path([CLIP.place(REGION.boxes[0])]).vertices.tolist()

# --- maps ---------------------------------------------------------------------------------------------------------


def test_maps_are_centred_on_zero_each_by_its_own_scale():
    weak, strong = torch.zeros(1, 1, 8, 20), torch.zeros(8, 20)
    weak[0, 0, 2:, 5:] = -0.5
    strong[:, :10] = 40.0
    first, *rest = panels(figures.maps(CLIP, {"weak": weak, "strong": strong}, REGION))
    assert first.get_title() == "dog, one.wav"
    assert outlines(first) == [OUTLINE]
    assert [panel.get_title() for panel in rest] == ["weak\nfull colour: ±0.5", "strong\nfull colour: ±40"]
    for panel, wanted in zip(rest, (weak[0, 0] / 0.5, strong / 40), strict=True):
        values, limits = drawn(panel)
        np.testing.assert_allclose(values, wanted)
        assert limits == (-1, 1)
        np.testing.assert_array_equal(
            panel.images[-1].get_alpha(), wanted.abs()
        )  # nothing hides the clip where the map is zero
        np.testing.assert_array_equal(panel.images[0].get_array(), CLIP.decibels)


def test_a_few_bins_do_not_take_all_the_colour():
    values = np.full((10, 100), 0.1)
    values[0, 0] = 100.0
    assert map_scale(values) == pytest.approx(0.1)
    lonely = np.zeros((10, 100))
    lonely[0, 0] = -3.0
    assert map_scale(lonely) == 3  # where the quantile is zero, the largest


def test_a_map_of_zeros_says_so():
    panel = panels(figures.maps(CLIP, {"Nothing": torch.zeros(8, 20)}))[1]
    assert panel.get_title() == "Nothing\nzero everywhere"
    assert not drawn(panel)[0].any()


def test_maps_of_samples_are_summed_in_frames():
    samples = torch.zeros(1, 1, 4000)
    samples[0, 0, 2000:] = 1.0
    values = signed_map(samples, "IG", SOUND)
    assert values.shape == (1, SOUND.decibels.shape[1])
    assert values.sum() == pytest.approx(2000)
    assert not values[0, : values.shape[1] // 2 - 1].any()
    panel = panels(figures.maps(SOUND, {"IG": samples}))[1]
    assert tuple(panel.images[-1].get_extent()) == (0, 0.5, 0, 4000)  # a linear axis: in seconds and Hz


def test_the_map_of_a_channel_lies_at_its_hertz_and_seconds():
    """Four quarters of a waveform's map change at a half of the highest frequency and of the duration."""
    quarters = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    upper = SOUND.axes.bin_centres[:, None] >= 2000
    late = SOUND.axes.frame_centres(SOUND.decibels.shape[1]) >= 0.25
    np.testing.assert_array_equal(channel_map(quarters, SOUND), 1 + late + 2 * upper)
    np.testing.assert_array_equal(channel_map(CLIP.decibels, CLIP), CLIP.decibels)


def test_maps_and_their_colours_are_named():
    figure = figures.maps(CLIP, {str(k): torch.randn(8, 20, generator=GENERATOR) for k in range(5)}, n_columns=3)
    assert len(panels(figure)) == 6
    assert [panel.get_ylabel() for panel in figure.axes if not panel.images] == [
        "level in dB",
        "attribution, each map on its own scale",
    ]


@pytest.mark.parametrize(
    ("clip", "values", "message"),
    [
        (CLIP, torch.zeros(2, 8, 20), r"map 'a' of shape \(…, frequency, time\).*but got \(2, 8, 20\)"),
        (CLIP, torch.zeros(20), r"\(…, frequency, time\).*but got \(20,\)"),
        (CLIP, torch.full((8, 20), torch.nan), "the map 'a' to be finite"),
        (SOUND, torch.zeros(1, 0), r"\(…, sample\).*but got \(1, 0\)"),
    ],
)
def test_what_is_no_map_is_refused(clip, values, message):
    with pytest.raises(ValueError, match=message):
        figures.maps(clip, {"a": values})


# --- masking ------------------------------------------------------------------------------------------------------


def test_the_masking_strip_shows_the_clip_its_region_and_what_is_left():
    cross = Region((Box(0.25, 0.5, 0.0, 1.0), Box(0.0, 1.0, 0.1, 0.4)))
    masked = Clip(CLIP.decibels.masked_fill(cross.mask(8, 20), -70.0), AXES)
    first, second, third = panels(figures.masking(CLIP, cross, masked))
    assert [panel.get_title() for panel in (first, second, third)] == ["original: dog, one.wav", "region", "masked"]
    np.testing.assert_array_equal(first.images[0].get_array(), CLIP.decibels)
    np.testing.assert_array_equal(third.images[0].get_array(), masked.decibels)
    cover = second.images[1].get_alpha()
    np.testing.assert_array_equal(cover > 0, ~cross.mask(8, 20).numpy())  # what is outside is covered
    assert len({panel.images[0].get_clim() for panel in (first, second, third)}) == 1
    assert outlines(first) == []
    assert (
        outlines(second) == outlines(third) == [union_path([CLIP.place(box) for box in cross.boxes]).vertices.tolist()]
    )


# --- twins --------------------------------------------------------------------------------------------------------


def test_twins_and_what_differs():
    fake = Clip(CLIP.decibels[:, :15] + 3.0, AXES, label="fake")
    first, second, third = panels(figures.twins(CLIP, fake, (REGION, None)))
    assert [panel.get_title() for panel in (first, second, third)] == ["dog, one.wav", "fake", "second minus first"]
    assert first.images[0].get_clim() == second.images[0].get_clim()
    values, limits = drawn(third)
    np.testing.assert_allclose(values, np.full((8, 15), 3.0), rtol=1e-6)
    assert limits == pytest.approx((-3, 3))
    assert third.get_xlim() == second.get_xlim()
    assert (outlines(first), outlines(second)) == ([OUTLINE], [])


def test_the_bars_of_twins_have_units():
    figure = figures.twins(CLIP, CLIP)
    assert [panel.get_ylabel() for panel in figure.axes if not panel.images] == ["level in dB", "difference in dB"]
    assert drawn(panels(figure)[2])[1] == (-1, 1)  # nothing differs


def test_twins_need_the_same_axes():
    with pytest.raises(ValueError, match="expected twins on the same axes"):
        figures.twins(CLIP, SOUND)


# --- waveform -----------------------------------------------------------------------------------------------------


def line(panel):
    """The envelope's corners, (point, 2)."""
    return panel.collections[0].get_paths()[0].vertices


def test_the_waveform_is_drawn_over_seconds():
    samples = torch.zeros(4000)
    samples[1000], samples[3000] = 0.5, -0.25
    panel = figures.waveform(Clip.from_waveform(samples, 8000, name="click.wav")).axes[0]
    corners = line(panel)
    assert corners[corners[:, 1].argmax()] == pytest.approx([1000 / 8000, 0.5], abs=4 / 8000)
    assert corners[corners[:, 1].argmin()] == pytest.approx([3000 / 8000, -0.25], abs=4 / 8000)
    assert panel.get_xlim() == (0, 0.5)
    assert (panel.get_xlabel(), panel.get_ylabel(), panel.get_title()) == ("time in s", "amplitude", "click.wav")


def test_attributions_lie_behind_the_waveform():
    attributions = torch.zeros(1, 4000)
    attributions[0, 3000:] = -2.0
    figure = figures.waveform(SOUND, attributions, [Region((Box(0, 1, 0.5, 0.75),))])
    panel = panels(figure)[0]
    values, (low, high) = drawn(panel)
    assert low == -high
    assert values.sum() == pytest.approx(-2000)
    assert panel.images[0].get_extent()[:2] == [0, 0.5]
    assert panel.images[0].zorder < panel.collections[0].zorder
    assert figure.axes[1].get_ylabel().startswith("attribution, ±")
    span = panel.patches[0].get_extents().transformed(panel.transData.inverted())
    assert (span.x0, span.x1) == pytest.approx((0.25, 0.375))


def test_maps_of_spectrograms_are_summed_over_frequency():
    attributions = torch.randn(1, 1, 8, 20, generator=GENERATOR)
    values, _ = drawn(panels(figures.waveform(CLIP, attributions))[0])
    np.testing.assert_allclose(values[0], attributions[0, 0].double().sum(0), rtol=1e-6)


def test_bands_mark_no_time():
    cross = Region((Box(0.25, 0.5, 0.0, 1.0), Box(0.0, 1.0, 0.1, 0.4)))
    panel = figures.waveform(CLIP, regions=[cross]).axes[0]
    assert len(panel.patches) == 1
    assert panel.patches[0].get_x() == pytest.approx(CLIP.seconds(0.1))


def test_a_waveform_is_needed():
    with pytest.raises(ValueError, match="expected a clip with a waveform, but it has none"):
        figures.waveform(Clip(CLIP.decibels, AXES))


def test_targets_given_are_drawn_on():
    figure = Figure(figsize=(12, 12))
    parts = figure.subfigures(4, 1)
    assert figures.maps(CLIP, {"a": torch.ones(8, 20)}, figure=parts[0]) is figure
    assert figures.masking(CLIP, REGION, CLIP, figure=parts[1]) is figure
    assert figures.twins(CLIP, CLIP, figure=parts[2]) is figure
    assert figures.waveform(CLIP, ax=parts[3].add_subplot()) is figure
    assert [len([panel for panel in part.axes if panel.images]) for part in parts] == [2, 3, 3, 0]
    figure.draw_without_rendering()
