"""Pictures of explanations: every region, name and number is in its place, only the prototypes drawn are loaded."""

from dataclasses import replace
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from captum_apex import SCHEMES, Box, Explanation, PrototypeBasis, Region, RegionEffect, basis_from_matrix, figures
from captum_apex.explanations.explanation import prototypes_of
from captum_apex.figures.charts import remainders
from captum_apex.figures.colours import DASHED
from captum_apex.figures.effects import panel_lines
from captum_apex.figures.outlines import union_path
from tests.explained import CLASSES, QUERY, Recorded, all_schemes, basis, clip_of, explained, network

CLIP = clip_of(QUERY[0])


def panels(figure):
    return [panel for panel in figure.axes if panel.images]


def is_outlined(panel, clip, regions):
    """Whether the panel's outlines are exactly these regions."""
    drawn = [patch.get_path().vertices for patch in panel.patches]
    wanted = [union_path([clip.place(box) for box in region.boxes]).vertices for region in regions]
    return len(drawn) == len(wanted) and all(
        np.array_equal(one, other) for one, other in zip(drawn, wanted, strict=True)
    )


def without_effects(explanation):
    return replace(explanation, evidence=tuple(replace(channel, effect=None) for channel in explanation.evidence))


def with_effects(explanation, *effects):
    channels = zip(explanation.evidence, effects, strict=True)
    return replace(explanation, evidence=tuple(replace(channel, effect=effect) for channel, effect in channels))


def is_dashed(patch):
    """Whether a line has dashes: the pattern that matplotlib keeps has lengths then."""
    return bool(patch._dash_pattern[1])


def bars(panel):
    """Start and end of every bar."""
    return [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in panel.patches]


# --- explanation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_explanation_has_a_row_for_each_channel(scheme):
    found = explained(scheme)
    figure = figures.explanation(found, CLIP, Recorded(), class_names=CLASSES)
    head, *rows = panels(figure)
    assert len(found.evidence) == 2
    assert len(rows) == 2 * (1 + 3)
    assert is_outlined(head, CLIP, [part.region for part in found.evidence])
    for part, row in zip(found.evidence, (rows[:4], rows[4:]), strict=True):
        assert is_outlined(row[0], CLIP, [part.region])
        name, contribution, *effect = row[0].get_title().splitlines()
        assert effect == panel_lines(part.effect)
        assert name == f"channel {part.channel}: purity {part.purity:.2f}"
        assert contribution.startswith(f"contribution +{part.contribution:.3g} (")
        for panel, prototype in zip(row[1:], part.prototypes, strict=True):
            clip = Recorded()[prototype.index]
            assert is_outlined(panel, clip, [prototype.region])
            assert panel.get_title() == f"{CLASSES[prototype.label]}\nprototype, purity {prototype.purity:.2f}"
            assert np.array_equal(panel.images[0].get_array(), clip.decibels)


def test_the_share_is_of_what_the_layer_adds():
    found = replace(without_effects(explained()), score=2.0, score_without_layer=-2.0)
    own = replace(found, evidence=(replace(found.evidence[0], contribution=1.0),))
    title = panels(figures.explanation(own, CLIP, Recorded()))[1].get_title()
    assert title.endswith("\ncontribution +1 (25%)")
    without = panels(figures.explanation(replace(own, score=-3.0), CLIP, Recorded()))[1].get_title()
    assert without.endswith("\ncontribution +1")  # no share of something negative


def test_a_channel_of_the_negative_side_says_so():
    found = explained()
    own = replace(found, evidence=(replace(found.evidence[0], side=-1),))
    title = panels(figures.explanation(own, CLIP, Recorded()))[1].get_title()
    assert " (negative): purity " in title.replace("\n", " ")


def test_all_panels_of_an_explanation_have_the_same_colours():
    figure = figures.explanation(explained(), CLIP, Recorded())
    assert len({panel.images[0].get_clim() for panel in panels(figure)}) == 1
    assert [panel.get_ylabel() for panel in figure.axes].count("level in dB") == 1


def test_only_the_prototypes_shown_are_loaded_and_each_once():
    found, clips = explained(n_prototypes=2), Recorded()
    figures.explanation(found, CLIP, clips)
    assert sorted(clips.looked_up) == sorted(
        {prototype.index for part in found.evidence for prototype in part.prototypes}
    )


def test_the_heading_asks_why_the_class():
    figure = figures.explanation(explained("frequency"), CLIP, Recorded(), class_names=CLASSES)
    figure.draw_without_rendering()  # a name with a dollar sign is no formula
    assert figure.subfigs[0].get_suptitle() == "Why “$5 bell”? Perspective: frequency\nclip: query.wav"
    assert figures.explanation(explained(), CLIP, Recorded()).subfigs[0].get_suptitle().startswith("Why “class 2”?")


def test_a_clip_without_evidence_is_drawn_alone():
    figure = figures.explanation(replace(explained(), evidence=()), CLIP, Recorded())
    figure.draw_without_rendering()
    assert [is_outlined(panel, CLIP, []) for panel in panels(figure)] == [True]


def test_long_names_do_not_overlap():
    names = [
        f"{name}, the willow warbler of northern and temperate Europe, singing in the early morning" for name in CLASSES
    ]
    for figure in (
        figures.explanation(explained(), CLIP, Recorded(), class_names=names),
        figures.perspectives(all_schemes(), CLIP, Recorded(), class_names=names),
    ):
        figure.draw_without_rendering()
        boxes = [panel.title.get_window_extent() for panel in panels(figure) if panel.get_title()]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


GOOD = RegionEffect(channel=0.63, random=(0.0, 0.02), score=2.5)
BAD = RegionEffect(channel=0.1, random=(0.2,), score=-0.5, fires_on="the border")


def test_only_a_region_no_better_than_random_is_dashed_and_the_caption_says_so():
    found = with_effects(explained(n_prototypes=1, search=None), GOOD, BAD)
    figure = figures.explanation(found, CLIP, Recorded())
    head, first, _, second, _ = panels(figure)
    assert [is_dashed(patch) for patch in head.patches] == [False, True]
    assert [is_dashed(line) for line in head.get_legend().get_lines()] == [False, True]
    assert [is_dashed(panel.patches[0]) for panel in (first, second)] == [False, True]
    assert first.get_title().splitlines()[2:] == ["masking 63%, random 1%", "logit falls by 2.5"]
    assert second.get_title().splitlines()[2:] == [
        "masking 10%, random 20%",
        "logit rises by 0.5",
        "no better than a random place",
        "(up to 20%)",
        "fires at the border",
    ]
    assert "Dashed outline" in figure.subfigs[1].get_suptitle()


def test_without_a_region_worse_than_random_nothing_is_dashed():
    found = with_effects(explained(n_prototypes=1, search=None), GOOD, GOOD)
    figure = figures.explanation(found, CLIP, Recorded())
    assert not any(is_dashed(patch) for panel in panels(figure) for patch in panel.patches)
    assert "Dashed" not in figure.subfigs[1].get_suptitle()


def test_without_a_search_there_are_no_effects():
    figure = figures.explanation(explained(search=None), CLIP, Recorded())
    assert not any("masking" in panel.get_title() for panel in figure.axes)
    assert "asking" not in figure.subfigs[1].get_suptitle()
    assert not any(is_dashed(patch) for panel in panels(figure) for patch in panel.patches)


def test_the_legend_of_a_perspective_gives_the_effects():
    found = with_effects(explained(search=None), GOOD, BAD)
    panel = panels(figures.perspectives([found], CLIP))[0]
    first, second = (text.get_text().splitlines()[1:] for text in panel.get_legend().get_texts())
    assert first == panel_lines(GOOD)
    assert second == panel_lines(BAD)


def test_a_region_of_silence_says_so_in_its_row_and_in_the_legends():
    silence = Region((Box(0.0, 1.0, 0.75, 1.0),))
    first, second = explained().evidence
    found = replace(explained(), evidence=(replace(first, region=silence), second))
    levels = CLIP.decibels.clone()
    levels[:, levels.shape[1] // 2 :] = levels.min()
    clip = replace(CLIP, decibels=levels)
    figure = figures.explanation(found, clip, Recorded())
    head, *rows = panels(figure)
    assert [[text.get_text() for text in panel.texts] for panel in (head, rows[0], rows[4])] == [[], ["silence"], []]
    for legend in (head.get_legend(), panels(figures.perspectives([found], clip))[0].get_legend()):
        assert ["silence" in text.get_text() for text in legend.get_texts()] == [True, False]


def test_maps_of_the_channels_stand_beside_the_clip():
    found = with_effects(explained(n_prototypes=1), GOOD, BAD)
    figure = figures.channel_maps(found, CLIP, Recorded(), class_names=CLASSES)
    rows = np.reshape(panels(figure), (2, 2))
    for (levels, channel_map), channel in zip(rows, found.evidence, strict=True):
        assert np.array_equal(levels.images[0].get_array(), CLIP.decibels)
        assert len(channel_map.images) == 2
        assert is_outlined(levels, CLIP, [channel.region])
        assert is_outlined(channel_map, CLIP, [channel.region])
    with pytest.raises(ValueError, match="expected channels with a map, but got none"):
        figures.channel_maps(explained(search=None), CLIP)


# --- perspectives -------------------------------------------------------------------------------------------------


def test_the_perspectives_stand_side_by_side():
    found = all_schemes()
    figure = figures.perspectives(found, CLIP, class_names=CLASSES)
    assert [panel.get_title() for panel in panels(figure)] == ["square", "time", "frequency", "time-frequency"]
    for panel, explanation in zip(panels(figure), found, strict=True):
        assert is_outlined(panel, CLIP, [part.region for part in explanation.evidence])
        legend = [text.get_text() for text in panel.get_legend().get_texts()]
        assert [text.split(":")[0] for text in legend] == [f"channel {part.channel}" for part in explanation.evidence]
    note = "beside each channel: its contribution to the logit, and its share of what the layer adds"
    assert figure.get_suptitle().startswith(f"Why “$5 bell”?\nclip: query.wav\n{note}\n“Masking”: ")


@pytest.mark.parametrize("size", [6, 10, 18])
def test_a_legend_does_not_hide_the_name_of_the_perspective(size):
    with mpl.rc_context({"font.size": size}):
        figure = figures.perspectives(all_schemes(n_channels=3), CLIP)
        figure.draw_without_rendering()
        for panel in panels(figure):
            assert panel.title.get_window_extent().y0 >= panel.get_legend().get_window_extent().y1


def test_below_a_perspective_stand_the_prototypes_of_its_strongest_channel():
    found = all_schemes(n_prototypes=2)
    found[1] = replace(found[1], evidence=())
    shown = panels(figures.perspectives(found, CLIP, Recorded(), class_names=CLASSES))
    rows = np.reshape(shown[4:], (2, 3))
    for column, explanation in zip(rows.T, (found[0], *found[2:]), strict=True):
        for panel, prototype in zip(column, explanation.evidence[0].prototypes, strict=True):
            assert is_outlined(panel, Recorded()[prototype.index], [prototype.region])
            assert panel.get_title().startswith(CLASSES[prototype.label])


def test_perspectives_need_an_explanation():
    with pytest.raises(ValueError, match="expected at least one explanation, but got none"):
        figures.perspectives([], CLIP)


# --- before and after ---------------------------------------------------------------------------------------------


def test_before_and_after_show_the_same_channel_in_two_bases():
    raw, after = basis_from_matrix(network()[2], "time", torch.eye(6, dtype=torch.float64)), basis()
    figure = figures.before_and_after(raw, after, 3, Recorded(), n_prototypes=2, class_names=CLASSES)
    rows = np.reshape(panels(figure), (2, 2))
    for row, own, name in zip(rows, (raw, after), ("before", "after"), strict=True):
        for rank, panel in enumerate(row):
            prototype = prototypes_of(own, 3, 2)[rank]
            assert prototype.index == own.prototype_indices[3, rank]
            assert is_outlined(panel, Recorded()[prototype.index], [prototype.region])
            assert panel.get_title().endswith(f"purity {own.positive.purities[3, rank]:.2f}")
        assert (
            row[0].get_ylabel().startswith(f"{name} fitting: mean purity {own.positive.purities[3, :2].mean():.2f}\n")
        )
    assert len({panel.images[0].get_clim() for panel in rows.flat}) == 1


def test_before_and_after_need_prototypes():
    with pytest.raises(ValueError, match="expected a basis with prototypes"):
        figures.before_and_after(PrototypeBasis(torch.eye(6), "time"), basis(), 0, Recorded())
    with pytest.raises(ValueError, match="expected `n_prototypes` from 1 to the 4"):
        figures.before_and_after(basis(), basis(), 0, Recorded(), n_prototypes=5)


def test_a_class_is_shown_by_its_channels_and_their_prototypes():
    bank, own = network()[2], basis()
    activations = bank.means @ own.U.to(bank.means).T
    above = (activations[torch.arange(15) % 3 == 1].mean(0) - activations.mean(0)) / activations.std(0, correction=0)
    first, second = above.argsort(descending=True)[:2].tolist()
    recorded = Recorded()
    figure = figures.class_prototypes(own, bank, 1, recorded, n_channels=2, n_prototypes=3, class_names=CLASSES)
    rows = np.reshape(panels(figure), (2, 3))
    for row, channel in zip(rows, (first, second), strict=True):
        assert (
            row[0]
            .get_ylabel()
            .startswith(f"channel {channel}: {above[channel]:.1f} standard\ndeviations above the mean\n")
        )
        for panel, prototype in zip(row, prototypes_of(own, channel, 3), strict=True):
            assert is_outlined(panel, Recorded()[prototype.index], [prototype.region])
            assert panel.get_title().startswith(CLASSES[prototype.index % 3])
    assert "“rain”" in figure.get_suptitle()
    assert sorted(set(recorded.looked_up)) == sorted(recorded.looked_up)
    assert len({panel.images[0].get_clim() for panel in rows.flat}) == 1


def test_a_class_without_clips_has_no_channels():
    with pytest.raises(ValueError, match="a class that the bank has clips of, but got 7"):
        figures.class_prototypes(basis(), network()[2], 7, Recorded())


def test_subfigures_given_are_drawn_on():
    figure = Figure(figsize=(20, 8))
    parts = figure.subfigures(1, 3)
    for part, draw in zip(
        parts,
        (
            lambda part: figures.explanation(explained(), CLIP, Recorded(), figure=part),
            lambda part: figures.perspectives(all_schemes(), CLIP, figure=part),
            lambda part: figures.before_and_after(basis(), basis(), 0, Recorded(), figure=part),
        ),
        strict=True,
    ):
        before = len(figure.axes)
        assert draw(part) is figure
        assert (
            len(figure.axes) - before
            == len([panel for own in (part, *part.subfigs) for panel in own.axes if panel.figure])
            > 1
        )
    figure.draw_without_rendering()


def test_outlines_that_coincide_are_all_visible():
    found = without_effects(explained())
    same = replace(found, evidence=(found.evidence[0],) * 3)
    widths = [patch.get_linewidth() for patch in panels(figures.explanation(same, CLIP, Recorded()))[0].patches]
    assert widths == sorted(set(widths), reverse=True)
    assert 1.5 * sum(DASHED[1]) < 10  # points, for a line 1.5 wide; the outline of a spot has some 40


# --- waterfall ----------------------------------------------------------------------------------------------------


def labels(panel):
    return [label.get_text() for label in panel.get_yticklabels()]


def test_the_waterfall_leads_from_the_bias_to_the_score():
    found = explained("square")
    assert abs(found.completeness) < 1e-9
    panel = figures.waterfall(found, class_names=CLASSES).axes[0]
    (first, *steps, last) = bars(panel)
    assert first == pytest.approx((0, found.score_without_layer))
    assert last == pytest.approx((0, found.score))
    assert [end for _, end in (first, *steps[:-1])] == pytest.approx([start for start, _ in steps])
    assert [end - start for start, end in steps[:-1]] == pytest.approx([part.contribution for part in found.evidence])
    assert steps[-1][1] == pytest.approx(found.score)
    names = [f"channel {part.channel}" for part in found.evidence]
    assert labels(panel) == ["without the layer", *names, "other channels", "logit: $5 bell"]
    assert panel.yaxis_inverted()


def test_what_does_not_add_up_has_a_bar_of_its_own():
    found = Explanation(SCHEMES[0], 1, score=2.0, score_without_layer=-0.5, evidence=(), total=3.0)
    panel = figures.waterfall(found).axes[0]
    assert labels(panel) == ["without the layer", "other channels", "unexplained", "logit: class 1"]
    np.testing.assert_allclose(bars(panel), [(0, -0.5), (-0.5, 2.5), (2.5, 2.0), (0, 2.0)])
    colours = [bar.get_facecolor()[:3] for bar in panel.patches]
    assert colours[0] == colours[3]
    assert len(set(colours)) == 3  # towards, against, totals


@pytest.mark.parametrize(("total", "names"), [(1.4985, []), (1.4975, ["unexplained"])])
def test_an_unexplained_remainder_within_rounding_is_left_out(total, names):
    """Rounding is up to a thousandth of the waterfall's largest value, here 2."""
    found = Explanation(SCHEMES[0], 1, score=2.0, score_without_layer=0.5, evidence=(), total=total)
    assert list(remainders(found)) == ["other channels", *names]


def test_the_numbers_of_the_waterfall_stand_within_its_axes():
    """Also where the longest bars end on the right and the last one leads back from there."""
    found = Explanation(
        SCHEMES[0], 1, score=1.5, score_without_layer=0.0, evidence=explained(n_channels=1).evidence, total=1.5
    )
    found = replace(found, evidence=(replace(found.evidence[0], contribution=3.3),))
    panel = figures.waterfall(found).axes[0]
    panel.figure.draw_without_rendering()
    for text in panel.texts:
        assert text.get_window_extent().x1 <= panel.get_window_extent().x1, text.get_text()


def test_a_score_without_classes_has_no_name():
    panel = figures.waterfall(replace(explained(), target=None)).axes[0]
    assert labels(panel)[-1] == "logit"


def test_a_class_without_a_name_is_refused():
    with pytest.raises(ValueError, match="expected `class_names` with a name for class 2, but got 2 names"):
        figures.waterfall(explained(), class_names=CLASSES[:2])
