"""Spectrogram panels: places are those of the axes, ticks are round, panels that are compared have the same colours."""

import ast
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from captum_apex import SCHEMES, Box, Classifier, Clip, Place, Region, Scheme, SpectrogramAxes, figures
from captum_apex.figures.canvas import canvas
from captum_apex.figures.outlines import draw_outline, union_path
from captum_apex.figures.spectrogram import draw_clip, draw_map
from captum_apex.figures.titles import fitted

AXES = {
    "htk": SpectrogramAxes(16000, 512, 160, n_mels=10),
    "slaney": SpectrogramAxes(8000, 512, 160, n_mels=10, mel_scale="slaney", f_min=50, f_max=3800),
    "linear": SpectrogramAxes(8000, 20, 160),
    "linear, cropped": SpectrogramAxes(8000, 20, 160, f_min=400, f_max=3600),
    "frames begin at the first sample": SpectrogramAxes(8000, 20, 160, center=False),
}
REGION = Region((Box(0.25, 0.5, 0.1, 0.4),))


def clip(axes=AXES["htk"], n_frames=7, low=-60.0, label="dog"):
    return Clip(torch.linspace(low, 0, axes.n_bins * n_frames).view(axes.n_bins, n_frames), axes, label=label)


def panels(figure):
    """Those that show an image, without the colour bars."""
    return [panel for panel in figure.axes if panel.images]


def places(panel):
    """Left, right, low and high of every outline, in data coordinates."""
    boxes = [patch.get_path().get_extents() for patch in panel.patches]
    return [Place(box.y0, box.y1, box.x0, box.x1) for box in boxes]


def changes(line):
    """Where neighbouring pixels differ."""
    return np.flatnonzero((line[1:] != line[:-1]).any(1)) + 1


# --- where things lie ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_every_bin_and_frame_is_drawn_where_the_axes_have_it(axes):
    """Looked up in the pixels: a chessboard changes its colour exactly at the edges."""
    n_frames = 6
    board = (torch.arange(axes.n_bins)[:, None] + torch.arange(n_frames)) % 2
    figure = Figure(figsize=(5, 5), dpi=100)
    panel = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    draw_clip(panel, Clip(board.float(), axes), (0, 1))
    panel.set_axis_off()
    drawing = FigureCanvasAgg(figure)
    drawing.draw()
    pixels = np.asarray(drawing.buffer_rgba())[::-1]  # rows from below
    inner = [edge for edge in axes.bin_edges.tolist() if panel.get_ylim()[0] < edge < panel.get_ylim()[1]]
    assert len(inner) == axes.n_bins - 1
    np.testing.assert_allclose(
        changes(pixels[:, 2]), panel.transData.transform([(0, edge) for edge in inner])[:, 1], atol=1
    )
    inner = axes.frame_edges(n_frames)[1:-1].tolist()
    np.testing.assert_allclose(
        changes(pixels[2]), panel.transData.transform([(edge, 100) for edge in inner])[:, 0], atol=1
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_regions_are_outlined_at_their_place(scheme, axes):
    own = clip(axes)
    region = scheme.region([2, 1][: len(scheme.sequences)], 4, 5)
    panel = panels(figures.spectrogram(own, region))[0]
    place = (
        own.place(region.boxes[0]) if len(region.boxes) == 1 else own.place(Box(0, 1, 0, 1))
    )  # a cross reaches everywhere
    assert places(panel)[0] == pytest.approx(place)


@pytest.mark.parametrize(
    ("box", "rotation"),
    [
        (Box(0.0, 1.0, 0.8, 0.9), "vertical"),
        (Box(0.2, 0.4, 0.75, 1.0), "horizontal"),
        (Box(0.0, 1.0, 0.6, 1.0), "horizontal"),
        (Box(0.0, 1.0, 0.0, 0.6), None),
    ],
)
def test_silence_is_written_into_a_region_below_the_floor(box, rotation):
    """The clip is silent from 0.6 of it on."""
    axes = AXES["htk"]
    levels = clip(axes, n_frames=100).decibels.clone()
    levels[:, 60:] = -60.0
    figure = figures.spectrogram(Clip(levels, axes), Region((box,)))
    texts = panels(figure)[0].texts
    assert [text.get_text() for text in texts] == (["silence"] if rotation else [])
    if rotation:
        assert texts[0].get_rotation() == {"vertical": 90.0, "horizontal": 0.0}[rotation]
        x, y = texts[0].get_position()
        assert x == pytest.approx(axes.seconds(50 * (box.start + box.end)))
        assert y == pytest.approx(axes.hertz(5 * (box.low + box.high)))


def test_regions_of_samples_are_outlined_in_seconds():
    own = Clip.from_waveform(torch.randn(8000, generator=torch.Generator().manual_seed(0)), 8000)
    panel = panels(figures.spectrogram(own, Scheme("time").region([1], 1, 4)))[0]
    assert places(panel)[0] == pytest.approx(Place(0, 4000, 0.25, 0.5))


def test_maps_cover_the_whole_input():
    """Of any size: a map of two columns changes half-way between the ends, one of three rows at a third of the bins."""
    own, panel = clip(n_frames=7), Figure().add_subplot()
    draw_clip(panel, own, (-60, 0))
    image = draw_map(panel, own, np.zeros((3, 2)), cmap="RdBu_r", limits=(-1, 1))
    corners = (image.get_transform() - panel.transData).transform(np.reshape(image.get_extent(), (2, 2)).T)
    start, end = (
        own.axes.seconds(7.0) - 7 * 0.01,
        own.axes.seconds(7.0),
    )  # the first frame begins half a hop before the clip
    np.testing.assert_allclose(corners, [[start, own.axes.hertz(0.0)], [end, own.axes.hertz(10.0)]])


def test_a_map_of_samples_reaches_from_the_first_to_the_last_sample():
    """A map on the bins of the picture lies on the picture, which is wider by half a frame and half a bin."""
    own, panel = Clip.from_waveform(torch.linspace(-1, 1, 8000), 8000), Figure().add_subplot()
    picture = draw_clip(panel, own, (-60, 0))
    samples, bins = (
        draw_map(panel, own, np.zeros((1, 50)), cmap="RdBu_r", limits=(-1, 1), on_bins=on_bins)
        for on_bins in (False, True)
    )
    assert samples.get_extent() == pytest.approx([0, 1, 0, 4000])
    assert bins.get_extent() == pytest.approx(picture.get_extent())
    assert picture.get_extent()[0] < 0


def test_an_image_leaves_the_axes_alone():
    own, panel = clip(), Figure().add_subplot()
    draw_clip(panel, own, (-60, 0))
    assert panel.get_xlim() == pytest.approx((0, own.seconds(1.0)))
    assert panel.get_ylim() == pytest.approx((own.hertz(0.0), own.hertz(1.0)))


# --- outlines -----------------------------------------------------------------------------------------------------


def loops(path):
    """The closed lines of a path, each (point, 2) with the first point again at the end."""
    return [part.vertices for part in path._iter_connected_components()]


def area(path):
    """Signed, by the shoelace formula: holes count negative."""
    return sum(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2 for x, y in (loop.T for loop in loops(path)))


def length(path):
    return sum(float(np.abs(np.diff(loop, axis=0)).sum()) for loop in loops(path))


def test_a_cross_is_one_line_of_twelve_corners():
    path = union_path([Place(0, 3, 1, 2), Place(1, 2, 0, 3)])
    assert [len(loop) for loop in loops(path)] == [13]
    assert (area(path), length(path)) == (5, 12)


def test_a_ring_has_a_line_inside():
    path = union_path([Place(0, 1, 0, 3), Place(2, 3, 0, 3), Place(0, 3, 0, 1), Place(0, 3, 2, 3)])
    assert sorted(len(loop) for loop in loops(path)) == [5, 5]
    assert (area(path), length(path)) == (8, 16)


def test_boxes_that_are_apart_or_touch_at_a_corner_keep_their_edges():
    for other in (Place(1, 2, 1, 2), Place(5, 6, 5, 6)):
        path = union_path([Place(0, 1, 0, 1), other])
        assert (area(path), length(path)) == (2, 8)


@pytest.mark.parametrize("seed", range(20))
def test_outlines_have_the_area_and_the_length_of_the_union(seed):
    generator = np.random.default_rng(seed)
    inside = np.zeros((9, 9), dtype=bool)
    boxes = []
    for _ in range(generator.integers(1, 7)):
        (low, high), (start, end) = (sorted(generator.choice(8, 2, replace=False).tolist()) for _ in range(2))
        boxes.append(Place(low, high, start, end))
        inside[low + 1 : high + 1, start + 1 : end + 1] = True
    path = union_path(boxes)
    edges = (inside[1:] != inside[:-1]).sum() + (inside[:, 1:] != inside[:, :-1]).sum()
    assert (area(path), length(path)) == (inside.sum(), edges)


def test_an_empty_region_has_no_line():
    assert len(draw_outline(Figure().add_subplot(), clip(), Region(())).get_path().vertices) == 0


# --- ticks and labels ---------------------------------------------------------------------------------------------


def ticks(axis):
    return dict(zip([label.get_text() for label in axis.get_ticklabels()], axis.get_ticklocs().tolist(), strict=True))


def test_mel_bands_have_octaves_as_ticks_and_are_evenly_spaced():
    axes = SpectrogramAxes(16000, 512, 160, n_mels=64)
    panel = panels(figures.spectrogram(clip(axes)))[0]
    assert ticks(panel.yaxis) == {"250": 250, "500": 500, "1k": 1000, "2k": 2000, "4k": 4000}
    heights = panel.transData.transform([(0, hertz) for hertz in axes.bin_edges.tolist()])[:, 1]
    np.testing.assert_allclose(np.diff(heights), np.diff(heights)[0], rtol=1e-6)


def test_a_linear_spectrogram_has_a_linear_axis():
    panel = panels(figures.spectrogram(clip(SpectrogramAxes(8000, 512, 160))))[0]
    assert ticks(panel.yaxis) == {"0": 0, "1k": 1000, "2k": 2000, "3k": 3000, "4k": 4000}
    assert panel.get_yscale() == "linear"


def test_axes_and_colour_bar_say_their_units():
    figure = figures.spectrogram(clip(), REGION)
    panel, bar = figure.axes
    assert (panel.get_xlabel(), panel.get_ylabel(), bar.get_ylabel()) == ("time in s", "frequency in Hz", "level in dB")
    assert panel.get_title() == "dog"


def test_panels_of_equal_axes_are_labelled_once():
    figure = figures.clips([clip(label=str(k)) for k in range(4)], n_columns=2)
    assert [panel.get_ylabel() for panel in panels(figure)] == ["frequency in Hz", "", "frequency in Hz", ""]
    assert [panel.get_xlabel() for panel in panels(figure)] == ["", "", "time in s", "time in s"]
    assert [panel.xaxis.get_tick_params()["labelbottom"] for panel in panels(figure)] == [False, False, True, True]


def test_panels_of_other_axes_have_their_own_numbers():
    figure = figures.clips(
        [clip(n_frames=5), clip(AXES["slaney"], n_frames=9), clip(n_frames=9), clip(n_frames=9)], n_columns=2
    )
    assert [panel.xaxis.get_tick_params()["labelbottom"] for panel in panels(figure)] == [True, True, True, True]
    assert [panel.yaxis.get_tick_params()["labelleft"] for panel in panels(figure)] == [True, True, True, False]


def test_clips_side_by_side_have_the_same_colours_for_the_same_level():
    figure = figures.clips([clip(low=-60), clip(low=-20)], [REGION, None])
    limits = {panel.images[0].get_clim() for panel in panels(figure)}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == pytest.approx(-60, abs=2)
    assert high == pytest.approx(0, abs=0.5)
    assert [len(panel.patches) for panel in panels(figure)] == [1, 0]


def test_colours_reach_at_most_80_decibels_deep():
    panel = panels(figures.spectrogram(clip(low=-300)))[0]
    low, high = panel.images[0].get_clim()
    assert high - low == pytest.approx(80)


def test_a_silent_clip_can_be_drawn():
    silent = Clip(torch.full((10, 7), -100.0), AXES["htk"])
    assert panels(figures.spectrogram(silent))[0].images[0].get_clim() == pytest.approx((-101, -99))


@pytest.mark.parametrize(("shown", "regions"), [([], None), ([clip()], [None, None])])
def test_a_contact_sheet_needs_a_region_or_none_for_each_clip(shown, regions):
    with pytest.raises(ValueError, match="expected clips, and one region or None for each, but got"):
        figures.clips(shown, regions)


# --- titles -------------------------------------------------------------------------------------------------------


def test_long_names_do_not_overlap():
    long = "Phylloscopus trochilus, the willow warbler of northern and temperate Europe, singing in the early morning"
    figure = figures.clips([clip(label=long)] * 4)
    figure.draw_without_rendering()
    boxes = [panel.title.get_window_extent() for panel in panels(figure)]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert panels(figure)[0].get_title().startswith("Phylloscopus trochilus")


def test_text_is_broken_between_words_and_cut_at_the_last_line():
    assert fitted("one", 3) == "one"
    assert fitted("first second", 0.6) == "first\nsecond"
    assert fitted("first second third fourth", 0.6, lines=2).startswith("first\nsec")
    assert fitted("first second third fourth", 0.6, lines=2).endswith("…")
    assert fitted("", 1) == ""


def test_names_are_no_formulas():
    figure = figures.spectrogram(clip(label="a $ b $ \\c$"))
    figure.draw_without_rendering()  # would raise
    assert not panels(figure)[0].title.get_parse_math()


# --- where it is drawn --------------------------------------------------------------------------------------------


def test_axes_given_are_drawn_on():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert figures.spectrogram(clip(), ax=right) is figure
    assert (len(left.images), len(right.images)) == (0, 1)


def test_a_subfigure_given_is_drawn_on():
    figure = Figure(figsize=(8, 4))
    left, right = figure.subfigures(1, 2)
    assert figures.clips([clip(), clip()], figure=right) is figure
    assert (len(left.axes), len(right.axes)) == (0, 3)
    assert type(figure.get_layout_engine()).__name__ == "ConstrainedLayoutEngine"


def test_a_figure_keeps_its_own_layout_and_size():
    figure = Figure(figsize=(3, 9), layout="tight")
    assert canvas(figure, 5, 5) is figure
    assert type(figure.get_layout_engine()).__name__ == "TightLayoutEngine"
    assert tuple(figure.get_size_inches()) == (3, 9)


def test_nothing_is_left_of_removed_axes():
    figure = Figure()
    panel: Axes = figure.add_subplot()
    panel.remove()
    with pytest.raises(ValueError, match="expected axes or a subfigure that belong to a figure"):
        figures.spectrogram(clip(), ax=panel)


def test_pyplot_is_not_used():
    for path in Path(figures.__file__).parent.glob("*.py"):
        names = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, (ast.Import, ast.ImportFrom))
        ]
        assert not any("pyplot" in ast.unparse(node) for node in names), path
        assert ".show(" not in path.read_text()


def test_the_zeros_after_a_short_clip_are_blank_hatched_and_named():
    classifier = Classifier(torch.nn.Linear(8000, 1), torch.square, 8000, ["dog"], length=8000)
    short = classifier.drawn_whole(torch.rand(2400))
    (panel,) = panels(figures.spectrogram(short))
    assert [text.get_text() for text in panel.texts] == ["filled with zeros after 0.30 s"]
    (span,) = [patch for patch in panel.patches if patch.get_hatch()]
    assert span.get_x() == pytest.approx(0.3, abs=512 / 8000)
    blank = np.ma.getmaskarray(np.ma.masked_invalid(panel.images[0].get_array()))
    assert blank.all(0).argmax() == short.heard.shape[1]  # the first frame that hears no sample of the clip
    (panel,) = panels(figures.spectrogram(classifier.drawn_whole(torch.rand(8000))))
    assert not panel.texts
    assert not any(patch.get_hatch() for patch in panel.patches)


def test_what_a_feature_extractor_has_filled_is_blank_hatched_and_named():
    axes = SpectrogramAxes(8000, 200, 80, n_mels=4, center=False)
    decibels = torch.cat([torch.linspace(-60.0, -20.0, 4 * 48).view(4, 48), torch.full((4, 52), 30.0)], 1)
    filled = Clip(decibels, axes, torch.rand(4000))
    (panel,) = panels(figures.spectrogram(filled))
    values = panel.images[0].get_array()
    assert not np.ma.getmaskarray(np.ma.masked_invalid(values))[:, :48].any()
    assert np.ma.getmaskarray(np.ma.masked_invalid(values))[:, 48:].all()
    assert panel.images[0].get_clim()[1] == pytest.approx(-20.0, abs=0.2)
    (span,) = [patch for patch in panel.patches if patch.get_hatch()]
    assert span.get_x() == pytest.approx(axes.seconds(48.0))
    assert [text.get_text() for text in panel.texts] == ["filled by the feature extractor"]
    whole = Clip(decibels, axes, torch.rand(8120))
    (panel,) = panels(figures.spectrogram(whole))
    assert not panel.texts
    assert not panel.patches
