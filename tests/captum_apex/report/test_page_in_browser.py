"""The page as a reader sees it, in a headless Chromium."""

import base64
import dataclasses
import io
import itertools
import math
import re
import time

import numpy as np
import pytest
import torch
from PIL import Image

from captum_apex import SCHEMES, Box, Clip, ExplainedClips, Region, RegionEffect, SpectrogramAxes, report
from captum_apex.cli.command_results import table_of
from captum_apex.texts import fixed_text
from tests.browser import (
    all_of,
    button,
    contrast,
    luminance,
    now,
    pressed,
    requests,
    show,
    slow_down,
    texts,
    wait_until,
)
from tests.pages import CLASSES, chirp, explanation, page

HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\"><svg onload=window.hacked=1>"
)
LONG = "A_recording_whose_name_never_ends_" * 4

# Texts on plain ground, with their colours: [text, colour, ground].
COLOURS = """
    const ground = (e) => {
      for (; e; e = e.parentElement) {
        const colour = getComputedStyle(e).backgroundColor;
        if (!/, 0\\)$/.test(colour)) return colour;
      }
    };
    const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    const all = [...document.querySelectorAll("body *")];
    const shown = all.filter((e) => own(e) && e.getClientRects().length && !e.closest(".picture, script, noscript"));
    return shown.map((e) => [e.textContent, getComputedStyle(e).color, ground(e)]);
"""
# Where the outlines of the large picture lie on it, as [left, top, right, bottom] in shares of the image.
OUTLINES = """
    const image = document.querySelector(".large img").getBoundingClientRect();
    return [...document.querySelectorAll(".large .outline")].map((path) => {
      const box = path.getBBox(), to = path.getScreenCTM();
      const x = (v) => (v * to.a + to.e - image.left) / image.width;
      const y = (v) => (v * to.d + to.f - image.top) / image.height;
      return [x(box.x), y(box.y), x(box.x + box.width), y(box.y + box.height)];
    });
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Two clips."""
    second = page(51, explanations=[explanation(scheme, target=2) for scheme in SCHEMES[1:]])
    return report.write(tmp_path_factory.mktemp("page") / "page.html", [page(50), second])


def chosen(browser):
    """Titles of the tab that is chosen and of the panels that are shown."""
    tabs = [tab.text for tab in all_of(browser, "[role=tab]") if tab.get_attribute("aria-selected") == "true"]
    return tabs, [
        panel.get_attribute("data-scheme") for panel in all_of(browser, "[role=tabpanel]") if panel.is_displayed()
    ]


def test_tabs_switch_by_click_and_by_key(browser, path):
    show(browser, path)
    tabs = all_of(browser, "[role=tab]")
    assert chosen(browser) == (["Spot"], ["square"])
    tabs[2].click()
    assert chosen(browser) == (["Band"], ["frequency"])
    for key, tab, scheme in (
        ("\ue014", "Moment and band", "time-frequency"),  # right
        ("\ue014", "Spot", "square"),
        ("\ue012", "Moment and band", "time-frequency"),  # left
        ("\ue011", "Spot", "square"),  # home
        ("\ue010", "Moment and band", "time-frequency"),  # end
    ):
        browser.switch_to.active_element.send_keys(key)
        assert chosen(browser) == ([tab], [scheme])
        assert browser.switch_to.active_element.text == tab
    assert [tab.get_attribute("tabindex") for tab in tabs] == ["-1", "-1", "-1", "0"]


def test_every_image_loads_and_says_what_it_shows(browser, path):
    show(browser, path)
    loaded = "return [...document.images].every((i) => i.complete && i.naturalWidth > 0)"
    wait_until(lambda: browser.execute_script(loaded))
    sizes = browser.execute_script("return [...document.images].map((i) => [i.naturalWidth, i.naturalHeight])")
    assert len(sizes) == 1 + 2 * (1 + 3) + 1  # the clip; the channels of one scheme, clip and prototypes; a map
    assert all(size == [101, 32] for size in sizes)
    described = [image.get_attribute("alt") for image in all_of(browser, "img")]
    assert described[0].startswith("Spectrogram of three, query_50.wav, 1 s. Outline 1: 0.10–0.20 s, ")
    assert "Attribution map by LayerGradCam of three, query_50.wav" in described[-1]
    assert all(described)


def test_a_player_plays_and_pauses(browser, path):
    show(browser, path)
    slow_down(browser)
    play = button(browser, "Play the clip")
    play.click()
    wait_until(lambda: now(browser) > 0.1)
    assert pressed(browser) == ["Play the clip"]
    play.click()
    wait_until(lambda: browser.execute_script("return document.querySelector('audio').paused"))
    stopped = now(browser)
    assert 0.1 < stopped < 1
    time.sleep(0.15)
    assert now(browser) == stopped
    assert pressed(browser) == []
    slow_down(browser, rate=1)
    play.click()
    wait_until(lambda: now(browser) > stopped)  # it goes on where it was
    wait_until(lambda: all(line.get_attribute("hidden") for line in all_of(browser, ".cursor")))  # to its end
    assert pressed(browser) == []


def test_only_one_sound_plays(browser, path):
    show(browser, path)
    slow_down(browser)
    for description in (
        "Play the clip",
        "without it (the clip without the region of channel 11)",
        "clip of prototype 1 of channel 10, zero",
    ):
        button(browser, description).click()
        # The sound before it stops at once, and this one begins when its file is ready.
        wait_until(lambda description=description: pressed(browser) == [description] and now(browser) > 0.05)
    assert len(all_of(browser, "audio, video")) == 1
    browser.switch_to.active_element.send_keys("\ue00c")  # escape
    wait_until(lambda: pressed(browser) == [])
    assert browser.execute_script("return document.querySelector('audio').paused")


def test_the_cursor_stands_where_the_sound_is(browser, path):
    show(browser, path)
    slow_down(browser)
    all_of(browser, "[role=tab]")[1].click()
    play = button(browser, "region of channel 11")  # 0.195–0.295 s, heard from 0.045 s on
    play.click()
    wait_until(lambda: now(browser) > 0.1)
    play.click()
    wait_until(lambda: browser.execute_script("return document.querySelector('audio').paused"))
    time.sleep(0.05)
    places = "[...document.querySelectorAll('.cursor')].filter((e) => !e.hidden).map((e) => parseFloat(e.style.left))"
    shares = [place / 100 for place in browser.execute_script(f"return {places}")]
    queries = 1 + 2 + 1
    assert len(shares) == queries  # on every picture of this clip, and on no other
    assert shares == pytest.approx([(0.5 + 100 * (0.045 + now(browser))) / 101] * queries, abs=0.003)


def test_a_click_on_the_picture_plays_from_there(browser, path):
    from selenium.webdriver import ActionChains

    show(browser, path)
    slow_down(browser)
    ActionChains(browser).move_to_element(all_of(browser, ".large .seek")[0]).click().perform()
    wait_until(lambda: now(browser) > 0.5)
    button(browser, "Play the clip").click()
    wait_until(
        lambda: pressed(browser) == []
    )  # the button follows the player's own event, which a busy browser sends later
    assert 0.5 < now(browser) < 0.95


def test_outlines_lie_at_their_share_of_the_picture(browser, path):
    show(browser, path)
    for tab, scheme in zip(all_of(browser, "[role=tab]"), SCHEMES, strict=True):
        tab.click()
        for found, part in zip(browser.execute_script(OUTLINES), explanation(scheme).evidence, strict=True):
            boxes = part.region.boxes
            sides = [
                min(b.start for b in boxes),
                1 - max(b.high for b in boxes),
                max(b.end for b in boxes),
                1 - min(b.low for b in boxes),
            ]
            assert found == pytest.approx(sides, abs=1e-4)


def test_the_waterfall_s_bars_follow_on_each_other(browser, path):
    show(browser, path)
    bars = browser.execute_script(
        "return [...document.querySelectorAll('#panel-0 .waterfall .track .bar')]"
        ".map((e) => [e.style.left, e.style.width].map(parseFloat))"
    )
    assert texts(browser, "#panel-0 .waterfall th") == [
        "without the layer",
        "1 · channel 10",
        "2 · channel 11",
        "other channels",
        "logit",
    ]
    assert texts(browser, "#panel-0 .waterfall .figure") == ["0.50", "+2.00", "+1.00", "+1.00", "4.50"]
    ends = [(0, 0.5), (0.5, 2.5), (2.5, 3.5), (3.5, 4.5), (0, 4.5)]
    for bar, (start, end) in zip(bars, ends, strict=True):
        assert bar == pytest.approx([100 * start / 4.5, 100 * (end - start) / 4.5], abs=0.01)


def test_the_scores_name_the_explained_class(browser, path):
    show(browser, path)
    assert texts(browser, ".scores .figure") == ["5.25", "4.50", "3.00", "2.00", "1.00"]
    (marked,) = all_of(browser, ".scores .marked th")
    assert marked.get_attribute("textContent") == "2. three, explained"
    (verdict,) = texts(browser, ".verdict")
    assert verdict.startswith("Explained: three, logit 4.50. The model’s first choice is two, logit 5.25. The clip")
    assert verdict.endswith(" is labelled three. the model is wrong")


def test_small_numbers_are_not_rounded_to_nothing(browser, tmp_path):
    shown = explanation(SCHEMES[0], n_channels=1)
    small = dataclasses.replace(shown.evidence[0], contribution=0.0032)
    shown = dataclasses.replace(shown, evidence=(small,), score=-0.046, score_without_layer=0.0, total=-0.046)
    show(
        browser,
        report.write(
            tmp_path / "page.html", [page(explanations=[shown], scores=[0.1, 12.0, 0.0, -0.046, 1e-9, 1.0, 1.0])]
        ),
    )
    assert texts(browser, "#panel-0 .waterfall .figure") == ["0.00", "+0.0032", "−0.049", "−0.046"]
    assert texts(browser, ".scores .figure") == ["12.00", "1.00", "1.00", "0.10", "0.0000", "−0.046"]
    assert "adds +0.0032 to the logit · purity" in texts(browser, "#panel-0 .about")[0]


def test_regions_that_are_the_same_are_all_visible(browser, tmp_path):
    shown = explanation(SCHEMES[0], n_channels=1).evidence[0]
    same = dataclasses.replace(
        explanation(SCHEMES[0]), evidence=tuple(dataclasses.replace(shown, channel=k) for k in range(5))
    )
    show(browser, report.write(tmp_path / "page.html", [page(explanations=[same])]))
    drawn = (
        "return [...document.querySelectorAll('%s .overlay path')]"
        ".map((e) => [e.getAttribute('class'), e.style.strokeDasharray])"
    )
    large = browser.execute_script(drawn % ".large")
    assert [kind for kind, _ in large] == ["halo"] * 5 + ["outline"] * 5  # no dark ground over a line
    assert {dashes for _, dashes in large[5:]} == {"none"}
    widths = "return [...document.querySelectorAll('.large .outline')].map((e) => parseFloat(e.style.strokeWidth))"
    assert browser.execute_script(widths) == [10, 8, 6, 4, 2]
    assert browser.execute_script(drawn % ".middle")[1] == ["outline", "none"]


def test_a_region_says_what_it_is_worth_and_the_map_has_a_switch(browser, tmp_path):
    good = RegionEffect(channel=0.63, random=(0.01,), score=2.5)
    bad = RegionEffect(channel=0.1, random=(0.2,), fires_on="silence")
    first, second = explanation(SCHEMES[0]).evidence
    prototype = dataclasses.replace(first.prototypes[0], effect=bad, map=torch.ones(20, 30))
    evidence = (
        dataclasses.replace(
            first, effect=good, map=torch.ones(200, 300), prototypes=(prototype, *first.prototypes[1:])
        ),
        dataclasses.replace(second, effect=dataclasses.replace(bad, fires_elsewhere=True), cell=first.region),
    )
    subject = page(explanations=[dataclasses.replace(explanation(SCHEMES[0]), evidence=evidence)])
    show(browser, report.write(tmp_path / "page.html", [subject]))
    assert texts(browser, ".effect") == [
        "Masking the region takes 63% of the channel, a random place 1% on average · the logit falls by 2.50",
        "masking 10%, random 20% · no better than a random place (up to 20%) · fires on silence",  # its prototype
        "Masking the region takes 10% of the channel, a random place 20% on average · "
        "no better than a random place (up to 20%) · fires on silence · fires more strongly elsewhere",
        f"It fires at {texts(browser, '.query .caption')[0].removeprefix('In this clip: ')}",
    ]
    dashes = "return [...document.querySelectorAll('.large .outline')].map((e) => e.style.strokeDasharray)"
    solid, dashed = browser.execute_script(dashes)
    assert solid == "none"
    assert dashed != "none"
    (switch,) = all_of(browser, ".card .switch")  # the second channel has no map
    shown = all_of(browser, ".map")  # of the clip and of the one prototype that has a map
    assert [each.is_displayed() for each in shown] == [False, False]
    switch.send_keys(" ")
    assert [each.is_displayed() for each in shown] == [True, True]
    assert switch.get_attribute("aria-pressed") == "true"
    sizes = "return arguments[0].map((e) => [e.naturalWidth, e.naturalHeight])"
    assert browser.execute_script(sizes, shown) == [[128, 64], [30, 20]]
    switch.click()
    assert [each.is_displayed() for each in shown] == [False, False]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    ("cells", "tags"),
    [
        ((3, 4, 3), ["13", "2"]),
        ((9, 9, 8, 9), ["124", "3"]),
        ((0, 0, 0, 1), ["123", "4"]),
        ((19, 19, 19, 19, 19), ["12345"]),
        ((3, 4, 5, 6), ["1", "2", "3", "4"]),
    ],
)
def test_regions_with_one_corner_share_a_tag_and_no_tag_hides_another(browser, tmp_path, cells, tags, width):
    """Cells of twenty along time."""
    scheme = SCHEMES[1]
    shown = explanation(scheme, n_channels=1).evidence[0]
    evidence = tuple(
        dataclasses.replace(shown, channel=k, region=scheme.region([cell], 1, 20)) for k, cell in enumerate(cells)
    )
    subject = page(explanations=[dataclasses.replace(explanation(scheme), evidence=evidence)])
    show(browser, report.write(tmp_path / "page.html", [subject]), width=width)
    numbers = "return [...document.querySelectorAll('.large .tag')].map((e) => e.textContent)"
    assert browser.execute_script(numbers) == tags
    boxes = (
        "return [...document.querySelectorAll('.large .tag')].map((e) => e.getBoundingClientRect())"
        ".map((box) => [box.left, box.top, box.right, box.bottom])"
    )
    for one, two in itertools.combinations(browser.execute_script(boxes), 2):
        beside = one[2] <= two[0] + 0.5 or two[2] <= one[0] + 0.5
        below = one[3] <= two[1] + 0.5 or two[3] <= one[1] + 0.5
        assert beside or below, (one, two)
    inside = (
        "const picture = document.querySelector('.large .picture').getBoundingClientRect();"
        "return [...document.querySelectorAll('.large .tag')].map((e) => e.getBoundingClientRect())"
        ".every((box) => box.left >= picture.left - 0.5 && box.right <= picture.right + 0.5)"
    )
    assert browser.execute_script(inside)


@pytest.mark.parametrize("width", [1440, 1024, 390])
@pytest.mark.parametrize("seed", range(4))
def test_tags_of_boxes_that_lie_close_together_are_on_their_boxes_and_hide_no_other(browser, tmp_path, seed, width):
    """Five small boxes at the lower or upper edge, or anywhere, with random sides."""
    random = np.random.default_rng(seed)
    shown = explanation(SCHEMES[0], n_channels=1).evidence[0]
    boxes = []
    for _ in range(5):
        low, start = random.uniform(0, 0.15) + (0.8 if seed == 1 else 0), random.uniform(0, 0.2 if seed else 0.9)
        boxes.append(Box(low=low, high=low + random.uniform(0.02, 0.1), start=start, end=start + 0.05))
    evidence = tuple(dataclasses.replace(shown, channel=k, region=Region((box,))) for k, box in enumerate(boxes))
    subject = page(explanations=[dataclasses.replace(explanation(SCHEMES[0]), evidence=evidence)], maps={})
    show(browser, report.write(tmp_path / "page.html", [subject]), width=width)
    tags = browser.execute_script(
        "return [...document.querySelectorAll('.large .tag')].map((e) => e.getBoundingClientRect())"
        ".map((box) => [box.left, box.top, box.right, box.bottom])"
    )
    stalks = browser.execute_script(
        "return [...document.querySelectorAll('.large .tag')].map((tag) => getComputedStyle(tag, '::after').height)"
    )
    picture = "return Object.values(document.querySelector('.large .picture').getBoundingClientRect().toJSON())"
    left, top, wide, high = browser.execute_script(picture)[:4]
    assert len(tags) == 5
    assert all(top - 0.5 <= tag[1] and tag[3] <= top + high + 0.5 for tag in tags)
    for one, two in itertools.combinations(tags, 2):
        assert one[2] <= two[0] + 0.5 or two[2] <= one[0] + 0.5 or one[3] <= two[1] + 0.5 or two[3] <= one[1] + 0.5
    for tag, box, stalk in zip(tags, boxes, stalks, strict=True):
        assert tag[0] <= left + box.end * wide + 2
        assert tag[2] >= left + box.start * wide - 5  # a tag with one number is narrower than its place
        distance = max(tag[1] - (top + (1 - box.low) * high), top + (1 - box.high) * high - tag[3])
        assert distance <= 2 + (float(stalk.removesuffix("px")) if stalk != "auto" else 0)


def test_the_tags_of_bands_sit_on_their_bands(browser, tmp_path):
    """Bands of 20 that lie close together: the tags stand side by side, each on the upper side of its band."""
    scheme = SCHEMES[2]
    shown = explanation(scheme, n_channels=1).evidence[0]
    evidence = tuple(
        dataclasses.replace(shown, channel=k, region=scheme.region([cell], 20, 1))
        for k, cell in enumerate((8, 9, 7, 10))
    )
    subject = page(explanations=[dataclasses.replace(explanation(scheme), evidence=evidence)], maps={})
    show(browser, report.write(tmp_path / "page.html", [subject]))
    places = browser.execute_script(
        "const box = document.querySelector('.large .picture').getBoundingClientRect();"
        "return [...document.querySelectorAll('.large .tag')].map((e) => e.getBoundingClientRect())"
        ".map((tag) => [(tag.left - box.left) / box.width, (tag.bottom - box.top) / box.height])"
    )
    bottoms = [bottom for _, bottom in places]
    assert bottoms == pytest.approx([1 - 9 / 20, 1 - 10 / 20, 1 - 8 / 20, 1 - 11 / 20], abs=0.01)
    assert len({round(left, 2) for left, _ in places}) > 1


def test_clips_are_chosen_from_the_list(browser, path):
    show(browser, path)
    links = all_of(browser, "nav a")
    all_of(browser, "[role=tab]")[2].click()
    links[1].click()
    wait_until(lambda: texts(browser, "h2") == ["three, query_51.wav"])
    assert texts(browser, ".verdict")[0].startswith("Explained: two")
    assert chosen(browser) == (["Band"], ["frequency"])  # the perspective stays
    assert texts(browser, "[role=tab]") == ["Moment", "Band", "Moment and band"]
    assert [link.get_attribute("aria-current") for link in links] == [None, "page"]
    wait_until(lambda: browser.execute_script("return [...document.images].every((i) => i.naturalWidth === 101)"))
    browser.back()
    wait_until(lambda: texts(browser, "h2") == ["three, query_50.wav"])


def test_a_link_can_name_a_clip(browser, path):
    show(browser, path)
    browser.get(path.as_uri() + "#2")
    wait_until(lambda: texts(browser, "h2") == ["three, query_51.wav"])


def test_hostile_names_are_shown_and_do_nothing(browser, tmp_path):
    named = page(
        clip=chirp(1, name=HOSTILE.replace("/", "∕"), label=HOSTILE),  # a file's name holds no slash
        class_names=[HOSTILE, *CLASSES[1:3], HOSTILE, *CLASSES[4:]],
        maps={HOSTILE: torch.ones(32, 101)},
    )
    show(browser, report.write(tmp_path / "page.html", [named, named], title=HOSTILE))
    assert browser.execute_script("return window.hacked") is None
    assert browser.title == f"{HOSTILE}, {HOSTILE.replace('/', '∕')} · {HOSTILE}"
    assert texts(browser, "h1") == [HOSTILE]
    assert texts(browser, "h2") == [f"{HOSTILE}, {HOSTILE.replace('/', '∕')}"]
    assert texts(browser, ".comparison .caption") == [HOSTILE]
    assert texts(browser, ".scores .marked .name") == [HOSTILE]
    assert browser.execute_script("return document.scripts.length") == 2


@pytest.mark.parametrize("name", ["query.wav", LONG])
def test_nothing_is_wider_than_a_phone(browser, tmp_path, name):
    named = {"clip": chirp(1, name=name, label=name), "maps": {name: torch.ones(32, 101)}}
    subject = page(class_names=[name, *CLASSES[1:3], name, *CLASSES[4:]], **named)
    show(browser, report.write(tmp_path / "page.html", [subject, subject], title=name), width=390)
    for tab in all_of(browser, "[role=tab]"):
        tab.click()
        assert browser.execute_script("return [innerWidth, document.scrollingElement.scrollWidth]") == [390, 390]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_texts_stand_out_from_their_ground(browser, path, dark, media):
    show(browser, path, dark=dark, media=media)
    wait_until(lambda: media == "screen" or all_of(browser, "#print h2"))
    found = browser.execute_script(COLOURS)
    assert len(found) > 100
    worst = min(found, key=lambda entry: contrast(*entry[1:]))
    assert contrast(*worst[1:]) >= 4.5, worst
    light = luminance(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert (light < 0.1) if dark and media == "screen" else (light > 0.9)


def test_print_holds_every_clip_and_perspective_and_no_controls(browser, path):
    show(browser, path, media="print")
    wait_until(lambda: texts(browser, "#print h2") == ["three, query_50.wav", "three, query_51.wav"])
    titles = ["Spot", "Moment", "Band", "Moment and band"]
    assert [title.text for title in all_of(browser, "#print .printed")] == [*titles, *titles[1:]]
    assert not any(found.is_displayed() for found in all_of(browser, "button, nav, input, main"))
    lead = texts(browser, "#print .sheet-of-clip > .lead")[0]
    assert lead.endswith("and the training clips in which it responds most.")  # no tabs on paper
    order = "return [...document.querySelectorAll('#print h3.printed, #print .large')].map((e) => e.localName)"
    assert browser.execute_script(order) == ["h3", "div"] * 7  # each picture below its title
    assert texts(browser, "#print .notes dt")[:2] == ["Logit", "Contribution"]
    assert all(found.is_displayed() for found in all_of(browser, "footer dt"))  # how the page was made
    show(browser, path)
    assert not any(found.is_displayed() for found in all_of(browser, "footer dt"))
    assert all_of(browser, "#print *") == []


def test_a_printed_file_has_pages_for_every_clip_with_its_pictures(browser, path):
    show(browser, path, media="")
    sheets, images = printed(browser)
    assert sheets > 2 * 4  # two clips in three or four perspectives, with two cards each
    assert images >= 2 + 3 + 1  # each clip, each prototype and the map once
    wait_until(lambda: all_of(browser, "#print *") == [])


def test_of_many_clips_a_picture_and_a_table_are_printed(browser, tmp_path):
    silent = {index: chirp(index, silent=True, label=CLASSES[index]) for index in range(3)}
    pages = [page(clip=chirp(50 + i, silent=True), prototypes=silent, maps={}) for i in range(4)]
    path = report.write(tmp_path / "page.html", pages)
    show(browser, path, media="")
    sheets, images = printed(browser)
    assert 4 <= sheets <= 3 * 4 + 1  # the last one says how to read them
    assert images == 4  # no prototypes
    show(browser, path, media="print")
    wait_until(lambda: len(all_of(browser, "#print h2")) == 4)
    assert len(all_of(browser, "#print .spectrogram")) == 4 * 4
    rows = texts(browser, "#print .evidence-table tbody tr")
    assert len(rows) == 4 * 4 * 2
    assert rows[2] == "1 10 +2.00 0.25\n0.10–0.20 s\nzero, clip_0.wav\none, clip_1.wav\ntwo, clip_2.wav"


@pytest.mark.parametrize("n_clips", [1, 4])
def test_nothing_is_wider_than_a_sheet_of_paper(browser, tmp_path, n_clips):
    named = {index: chirp(index, name=LONG, label=LONG, silent=True) for index in range(3)}
    names = [LONG, *CLASSES[1:]]
    clip = chirp(50, name=LONG, label=LONG, silent=True)
    subject = page(clip=clip, prototypes=named, class_names=names, exclusive=True, maps={})
    show(browser, report.write(tmp_path / "page.html", [subject] * n_clips), width=718, media="print")
    wait_until(lambda: len(all_of(browser, "#print h2")) == n_clips)
    assert browser.execute_script("return [innerWidth, document.scrollingElement.scrollWidth]") == [718, 718]


def printed(browser):
    """The numbers of sheets and of different images in the printed page."""
    file = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    return len(re.findall(rb"/Type /Page\b", file)), len(re.findall(rb"/Subtype /Image", file))


def test_a_clip_without_sound_has_no_buttons_for_it(browser, tmp_path):
    silent = page(clip=chirp(1, silent=True), prototypes={index: chirp(index, silent=True) for index in range(3)})
    show(browser, report.write(tmp_path / "page.html", [silent]))
    assert all_of(browser, "button.sound, .seek") == []
    assert not all_of(browser, "nav")[0].is_displayed()
    assert not all_of(browser, "#player-bar")[0].is_displayed()


def test_what_there_is_not_is_not_shown(browser, tmp_path):
    bare = page(explanations=[explanation(SCHEMES[0], n_channels=0)], maps={}, scores=(), class_names=())
    show(browser, report.write(tmp_path / "page.html", [bare]))
    assert "No channel supports the class in this perspective." in texts(browser, "#panel-0 p")
    assert all_of(browser, ".scores, .comparison *") == []
    assert texts(browser, ".verdict") == ["Explained: class 3, logit 4.50. The clip is labelled three."]


def test_a_channel_without_prototypes_names_none(browser, tmp_path):
    show(
        browser,
        report.write(
            tmp_path / "page.html", [page(explanations=[explanation(SCHEMES[0], prototypes=())], prototypes={})]
        ),
    )
    assert len(all_of(browser, ".card")) == 2
    assert texts(browser, ".card .caption") == [
        "In this clip, peak cell: 0.10–0.20 s, 71–503 Hz",
        "In this clip, peak cell: 0.20–0.30 s, 71–503 Hz",
    ]


def test_places_are_a_line_each_in_the_order_of_time(browser, tmp_path):
    boxes = (Box(0.5, 0.75, 0.6, 0.9), Box(0.0, 0.25, 0.1, 0.3))
    square = explanation(SCHEMES[0], n_channels=1)
    evidence = dataclasses.replace(square.evidence[0], region=Region(boxes))
    subject = page(explanations=[dataclasses.replace(square, evidence=(evidence,))])
    file = report.write(tmp_path / "page.html", [subject] * 4)
    show(browser, file)
    assert texts(browser, ".query .caption p") == ["In this clip, peak cell, 2 places:"]
    assert texts(browser, ".places li") == ["1\n0.10–0.30 s, 71–503 Hz", "1\n0.60–0.90 s, 1178–2230 Hz"]
    show(browser, file, media="print")
    wait_until(lambda: len(all_of(browser, "#print h2")) == 4)
    assert texts(browser, "#print .line")[:2] == ["0.10–0.30 s, 71–503 Hz", "0.60–0.90 s, 1178–2230 Hz"]


def test_the_page_and_the_command_line_write_a_place_alike(browser, tmp_path):
    """Halves, a time of which the table has 0.035 s, and boxes in no order; two begin at once."""
    boxes = (
        Box(0.5, 0.75, 0.125, 0.5),
        Box(0.078125, 0.25, 0.125, 0.25),
        Box(0.25, 0.5, 0.03499999999, 0.375),
    )
    square = explanation(SCHEMES[0], n_channels=1)
    evidence = dataclasses.replace(square.evidence[0], region=Region(boxes))
    clip = Clip.from_waveform(chirp(1).waveform, 8000)
    subject = page(clip=clip, explanations=[dataclasses.replace(square, evidence=(evidence,))], maps={})
    path = report.write(tmp_path / "page.html", [subject])
    show(browser, path)
    lines = ["0.04–0.38 s, 1000–2000 Hz", "0.13–0.25 s, 313–1000 Hz", "0.13–0.50 s, 2000–3000 Hz"]
    assert [text.split("\n")[1] for text in texts(browser, ".places li")] == lines
    rows = ExplainedClips((subject,)).rows()
    assert [line.strip() for line in table_of([{"boxes": rows[0]["boxes"]}]).splitlines()[1:]] == lines
    plain = path.read_text(encoding="utf-8").split('<noscript id="plain">')[1].split("</noscript>")[0]
    assert " and ".join(lines) in plain


def test_the_script_rounds_as_python_does(browser, path):
    """Halves that are exact in base 2, the next numbers on both sides, and others."""
    halves = [k / 8 for k in range(-40, 40)]
    values = [*halves, *np.nextafter(halves, 9), *np.nextafter(halves, -9), *np.random.default_rng(0).normal(0, 3, 99)]
    show(browser, path)
    for digits in range(5):
        script = "return arguments[0].map((value) => fixed(value, arguments[1]))"
        seen = browser.execute_script(script, [float(value) for value in values], digits)
        wanted = [fixed_text(float(value), digits) for value in values]
        assert [float(text.replace("−", "-")) for text in seen] == [float(text) for text in wanted]


def test_the_pictures_of_prototypes_are_in_a_line_whatever_is_written_above_and_below(browser, tmp_path):
    shown = explanation(SCHEMES[0], n_channels=1)
    first, *others = shown.evidence[0].prototypes
    bad = RegionEffect(channel=0.1, random=(0.2,), fires_on="the end of a sound")
    evidence = dataclasses.replace(shown.evidence[0], prototypes=(dataclasses.replace(first, effect=bad), *others))
    clips = {index: chirp(index, label=LONG if index == 1 else CLASSES[index]) for index in range(3)}
    subject = page(explanations=[dataclasses.replace(shown, evidence=(evidence,))], prototypes=clips)
    show(browser, report.write(tmp_path / "page.html", [subject]))
    places = "return [...document.querySelectorAll('.examples %s')].map((e) => e.getBoundingClientRect().top)"
    for part in (".picture", ".seconds"):
        tops = browser.execute_script(places % part)
        assert len(tops) == 3
        assert max(tops) - min(tops) < 1


def test_a_prototype_without_a_label_names_its_file_once(browser, tmp_path):
    shown = explanation(SCHEMES[0], n_channels=1)
    prototypes = tuple(dataclasses.replace(each, label=None) for each in shown.evidence[0].prototypes)
    shown = dataclasses.replace(shown, evidence=(dataclasses.replace(shown.evidence[0], prototypes=prototypes),))
    clips = {index: chirp(index, name=f"night/query_{index}.wav") for index in range(3)}
    show(browser, report.write(tmp_path / "page.html", [page(explanations=[shown], prototypes=clips)]))
    assert texts(browser, ".examples li .caption p")[:3] == ["query_0.wav", "0.00–0.10 s, 71–503 Hz", "purity 0.50"]


@pytest.mark.parametrize(
    ("grid", "lead"),
    [
        ((4, 10), "Spots in time and frequency that support the class: each outline has a time and a band."),
        ((1, 10), "Moments that support the class, at any frequency: each outline spans all bands."),
        ((10, 1), "Frequency bands that support the class, at any time: each outline spans the whole clip."),
    ],
)
def test_a_spot_of_one_row_is_no_band_and_of_one_column_no_moment(browser, tmp_path, grid, lead):
    shown = explanation(SCHEMES[0])
    evidence = tuple(
        dataclasses.replace(each, region=SCHEMES[0].region([rank], *grid)) for rank, each in enumerate(shown.evidence)
    )
    show(
        browser,
        report.write(tmp_path / "page.html", [page(explanations=[dataclasses.replace(shown, evidence=evidence)])]),
    )
    assert texts(browser, "#panel-0 .lead") == [lead]


def test_the_page_says_what_its_cards_show(browser, path, tmp_path):
    show(browser, path)
    assert texts(browser, "#main > h3") == ["What supports “three”"]
    assert texts(browser, "#main > .lead") == [
        "A channel is a feature that the model has learned. Each card shows one that supports the class: where it "
        "responds in this clip, and the training clips in which it responds most. The tabs look at the same clip in "
        "different ways."
    ]
    alone = page(explanations=[explanation(SCHEMES[0], prototypes=())], prototypes={}, class_names=(), scores=[4.5])
    show(browser, report.write(tmp_path / "page.html", [alone]))
    assert texts(browser, "#main > .lead")[0].endswith("where it responds in this clip.")


def test_the_page_says_which_scheme_a_perspective_is(browser, path):
    show(browser, path)
    text = "Each is a scheme of the tables and of the command line: Spot is “square”, Moment is “time”"
    assert [line for line in texts(browser, ".notes dd") if line.startswith(text)] != []


def test_the_scale_says_what_its_levels_are_measured_against(browser, path):
    show(browser, path)
    (text, *_) = texts(browser, ".below .legend")
    assert text.startswith("Level; 0 dB is the loudest point of this picture:")
    assert re.findall(r"\S*\d dB", text.split(":")[1]) == ["−55 dB", "0 dB"]


def test_a_card_says_where_a_region_is_the_peak_cell_and_was_not_searched_for(browser, tmp_path):
    effect = RegionEffect(channel=0.63, random=(0.01,), score=2.5)
    first, second = explanation(SCHEMES[1]).evidence
    found = tuple(dataclasses.replace(prototype, effect=effect) for prototype in first.prototypes)
    evidence = (dataclasses.replace(first, effect=effect, prototypes=found), second)
    subject = page(explanations=[dataclasses.replace(explanation(SCHEMES[1]), evidence=evidence)], maps={})
    show(browser, report.write(tmp_path / "page.html", [subject]))
    assert texts(browser, ".query .caption") == ["In this clip: 0.10–0.20 s", "In this clip, peak cell: 0.20–0.30 s"]
    prototypes = "Prototypes: the training clips that activate it most"
    assert texts(browser, ".examples > .caption") == [prototypes, f"{prototypes}, each with its peak cell"]


@pytest.mark.parametrize("box", [Box(0.5, 0.54, 0.2, 0.8), Box(0.0, 1.0, 0.4, 0.45)])
@pytest.mark.parametrize("others", [(), (Box(0.0, 0.4, 0.0, 0.3),)])
def test_the_outline_of_a_thin_region_hides_nothing_of_it(browser, tmp_path, box, others):
    """Pixels of the first prototype with and without its outline."""
    shown = explanation(SCHEMES[0], n_channels=1)
    region = Region((*others, box))
    prototypes = tuple(dataclasses.replace(each, region=region) for each in shown.evidence[0].prototypes)
    evidence = (dataclasses.replace(shown.evidence[0], prototypes=prototypes),)
    subject = page(explanations=[dataclasses.replace(shown, evidence=evidence)], maps={})
    show(browser, report.write(tmp_path / "page.html", [subject]))
    (picture, *_) = all_of(browser, ".examples .picture")
    drawn = [seen(picture)]
    browser.execute_script("arguments[0].querySelector('svg').style.visibility = 'hidden'", picture)
    drawn.append(seen(picture))
    changed = (drawn[0] != drawn[1]).any(-1)
    height, width = changed.shape
    top, bottom, left, right = (1 - box.high) * height, (1 - box.low) * height, box.start * width, box.end * width
    inside = changed[math.ceil(top) + 1 : math.floor(bottom) - 1, math.ceil(left) + 1 : math.floor(right) - 1]
    assert inside.size > 100
    assert not inside.any()
    middle = changed[:, int(left + right) // 2] if box.low else changed[int(top + bottom) // 2]
    assert middle.sum() >= 4  # a line of 2 pixels on both sides


def seen(node):
    return np.asarray(Image.open(io.BytesIO(node.screenshot_as_png)).convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("axes", "labels"),
    [
        (SpectrogramAxes(8000, 256, 80, n_mels=32, f_min=50.0), ["71", "250", "500", "1k", "2k", "3.9 kHz"]),
        (SpectrogramAxes(8000, 62, 80), ["0", "1k", "2k", "3k", "4 kHz"]),
        (SpectrogramAxes(1000, 62, 10), ["0", "100", "200", "300", "400", "500 Hz"]),
    ],
)
def test_the_frequency_axis_has_its_ends_and_its_unit_beside_the_highest(browser, tmp_path, axes, labels):
    clip = Clip(chirp(50).decibels, axes)
    subject = page(clip=clip, explanations=[explanation(SCHEMES[0], n_channels=1)], maps={})
    show(browser, report.write(tmp_path / "page.html", [subject]))
    shown = all_of(browser, ".large .hertz span")
    assert [label.text for label in shown] == labels
    picture = all_of(browser, ".large .picture")[0].rect
    box = all_of(browser, ".large .hertz")[0].rect
    assert shown[-1].rect["y"] + shown[-1].rect["height"] / 2 == pytest.approx(picture["y"], abs=0.05 * box["height"])
    assert shown[0].rect["y"] > picture["y"] + 0.9 * picture["height"]
    assert min(label.rect["x"] for label in shown) >= box["x"]  # none is wider than the axis
    assert texts(browser, ".large .seconds span")[0] == "0"


def test_the_page_cannot_send_anything(running, path):
    show(running, path)
    blocked = running.execute_async_script(
        """
        const done = arguments[0], blocked = [];
        document.addEventListener("securitypolicyviolation", (e) => blocked.push(e.effectiveDirective));
        new Image().src = "http://127.0.0.1:9/a.png";
        fetch("http://127.0.0.1:9/b").catch(() => setTimeout(() => done(blocked), 50));
        """
    )
    assert sorted(blocked) == ["connect-src", "img-src"]


def test_a_request_would_be_seen(running, tmp_path):
    """So that the check after each test can fail."""
    (tmp_path / "open.html").write_text("<img src='http://127.0.0.1:9/a.png'>")
    show(running, tmp_path / "open.html")
    wait_until(lambda: "http://127.0.0.1:9/a.png" in requests(running))
