"""What readers do with the page: the list of clips, the view of a channel, the player, tables, keyboard."""

import csv
import dataclasses
import io
import json
import math
import os
from pathlib import Path

import pytest

from captum_apex import SCHEMES, Clip, RegionEffect, report
from tests.browser import all_of, button, contrast, name_of, now, pressed, show, slow_down, texts, wait_until
from tests.pages import CLASSES, chirp, explanation, page

AXE = os.environ.get("CAPTUM_APEX_AXE", "")  # a copy of axe-core's axe.min.js

# The controls that the Tab key reaches.
TAB_STOPS = """
    const all = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")];
    return all.filter((node) => node.tabIndex >= 0 && node.getClientRects().length && !node.disabled).length;
"""


def small_page(number, scheme=SCHEMES[1]):
    """A clip without sound; the explained class, the score and the evidence depend on its number."""
    target = number % 3
    shown = explanation(scheme, target=target, n_channels=1 + number % 2)
    shown = dataclasses.replace(shown, score=1.0 + number % 5, record={"basis": "ab12"})
    clip = chirp(50 + number, name=f"night/query_{50 + number}.wav", label=CLASSES[number % 2], silent=True)
    scores = [float(label == target) for label in range(len(CLASSES))]
    prototypes = {index: chirp(index, label=CLASSES[index], silent=True) for index in range(3)}
    return page(clip=clip, explanations=[shown], scores=scores, prototypes=prototypes, maps={})


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Eight clips."""
    return report.write(tmp_path_factory.mktemp("many") / "page.html", [small_page(number) for number in range(8)])


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """One clip of two seconds, with a region in silence."""
    first, second = explanation(SCHEMES[1]).evidence
    effect = RegionEffect(channel=0.63, random=(0.01,), score=2.5)
    quiet = dataclasses.replace(second, region=SCHEMES[1].region([9], 4, 10))
    evidence = (dataclasses.replace(first, effect=effect), quiet)
    waveform = chirp(4, seconds=2.0).waveform.clone()
    waveform[14000:] = 0
    clip = dataclasses.replace(Clip.from_waveform(waveform, 8000), name="query_50.wav", label="three")
    moments = dataclasses.replace(explanation(SCHEMES[1]), evidence=evidence)
    subject = page(clip=clip, explanations=[explanation(SCHEMES[0]), moments])
    return report.write(tmp_path_factory.mktemp("one") / "page.html", [subject])


def listed(browser):
    return [name.removeprefix("query_").removesuffix(".wav") for name in names_in_list(browser)]


def names_in_list(browser):
    return [text.split(", ")[-1] for text in texts(browser, "#list a > .name")]


def choose(browser, key, text):
    from selenium.webdriver.support.ui import Select

    Select(all_of(browser, f"#list-{key}")[0]).select_by_visible_text(text)


def test_the_list_is_searched_sorted_and_filtered(browser, many):
    show(browser, many)
    assert listed(browser) == ["50", "51", "52", "53", "54", "55", "56", "57"]
    choose(browser, "order", "lowest logit")  # 1 + number mod 5
    assert listed(browser) == ["50", "55", "51", "56", "52", "57", "53", "54"]
    choose(browser, "class", "one")
    assert listed(browser) == ["51", "57", "54"]
    assert texts(browser, ".count") == ["3 of 8 clips"]
    choose(browser, "right", "right")
    assert listed(browser) == ["51", "57"]
    all_of(browser, "#search")[0].send_keys("night 57")
    assert listed(browser) == ["57"]
    all_of(browser, "#list a")[0].click()
    wait_until(lambda: texts(browser, "h2") == ["one, query_57.wav"])
    assert all_of(browser, "#list a[aria-current]")[0].text.startswith("query_57.wav\nexplained: one\n")


@pytest.mark.parametrize("width", [1440, 390])
def test_the_class_that_a_clip_is_labelled_with_is_read_in_full(browser, tmp_path, width):
    names = ["Great Northern Loon", "Black-crowned Night-Heron", "Chestnut-backed Chickadee"]
    shown = [explanation(SCHEMES[1], target=0, n_channels=1)]
    arguments = {"explanations": shown, "class_names": names, "scores": [3.0, 1.0, 2.0], "maps": {}}
    pages = [page(clip=chirp(50 + i, label=names[i], silent=True), **arguments) for i in range(3)]
    show(browser, report.write(tmp_path / "page.html", pages), width=width)
    lines = [
        [line.text for line in link.find_elements("css selector", ".class")] for link in all_of(browser, "#list a")
    ]
    explained = "explained: Great Northern Loon"
    assert lines == [[explained], [explained, f"labelled: {names[1]}"], [explained, f"labelled: {names[2]}"]]
    cut = "e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth"
    assert browser.execute_script(f"return [...document.querySelectorAll('nav .class')].some((e) => {cut})") is False


@pytest.mark.parametrize("width", [1440, 390])
def test_the_list_shows_the_clip_that_is_chosen(browser, many, width):
    """The list alone is scrolled, and not the page."""
    show(browser, many, width=width)
    browser.get("about:blank")
    browser.get(many.as_uri() + "#clip=8")
    inside = """
        const [list, link] = ["#list ol", "#list a[aria-current]"].map((name) => document.querySelector(name));
        const [outer, inner] = [list, link].map((node) => node.getBoundingClientRect());
        return [inner.top >= outer.top && inner.bottom <= outer.bottom, scrollY];
    """
    assert browser.execute_script(inside) == [True, 0]


def test_on_a_phone_sorting_and_filtering_are_folded(browser, many):
    show(browser, many)
    assert not all_of(browser, ".choices summary")[0].is_displayed()
    assert all_of(browser, "#list-order")[0].is_displayed()
    show(browser, many, width=390)
    assert not all_of(browser, "#list-order")[0].is_displayed()
    all_of(browser, ".choices summary")[0].click()
    assert all_of(browser, "#list-order")[0].is_displayed()


def test_the_most_explained_clip_is_the_one_whose_channels_add_up_to_most_of_the_score(browser, many):
    """Evidence adds 2 or 3 in turn, above 0.5 without the layer: 2 / 0.5 for clip 50, 3 / 1.5 for clip 51."""
    show(browser, many)
    shares = {f"{50 + i}": (2.0 + i % 2) / (0.5 + i % 5) for i in range(8)}
    choose(browser, "order", "least covered")
    assert listed(browser) == sorted(shares, key=lambda name: shares[name])
    choose(browser, "order", "most covered")
    assert [shares[name] for name in listed(browser)] == sorted(shares.values(), reverse=True)
    lines = texts(browser, "#list a")
    assert "\nno share covered: the layer adds little to the logit " in lines[0]  # 600% of that little says nothing
    assert any("\n200% covered (Moment) " in line for line in lines)


def test_a_share_names_its_perspective_and_a_missing_share_its_reason(browser, tmp_path):
    """Two channels add 3 and one adds 2, of 4 that the layer adds; a layer that takes 1 from the logit adds nothing."""
    both = [explanation(SCHEMES[1], n_channels=1), explanation(SCHEMES[2])]
    lower = [dataclasses.replace(each, score=-0.5) for each in both]
    prototypes = {index: chirp(index, silent=True) for index in range(3)}
    pages = [page(50 + i, explanations=shown, prototypes=prototypes, maps={}) for i, shown in enumerate((both, lower))]
    show(browser, report.write(tmp_path / "page.html", pages))
    first, second = texts(browser, "#list a")
    assert "\n75% covered (Band) " in first
    assert "\nno share covered: the layer adds nothing " in second
    assert "%" not in second
    meanings = [each.get_attribute("title") for each in all_of(browser, "#list a .about:last-child")]
    assert meanings[0].startswith("The channels shown in Band make up this share of what the layer adds to the logit; ")
    assert "The greater part lies" not in meanings[0]
    assert meanings[1].startswith("The rest of the model gives this score, or nearly, without ")


def probable_page(number):
    """The logit of the explained class is −4 + number, that of the other classes 0, so the first choice changes."""
    small = small_page(number)
    scores = [number - 4.0 if label == number % 3 else 0.0 for label in range(len(CLASSES))]
    return dataclasses.replace(small, scores=scores, exclusive=False)


def test_clips_are_sorted_and_filtered_by_probability(browser, tmp_path):
    """Probabilities are 1 / (1 + exp(4 − number)): 0.018, 0.047, 0.12, 0.27, 0.5, 0.73, 0.88, 0.95."""
    show(browser, report.write(tmp_path / "page.html", [probable_page(number) for number in range(8)]))
    choose(browser, "probability", "at least 0.5")
    choose(browser, "order", "least probable")
    assert listed(browser) == ["54", "55", "56", "57"]
    choose(browser, "order", "most probable")
    assert listed(browser) == ["57", "56", "55", "54"]
    choose(browser, "probability", "below 0.5")
    assert listed(browser) == ["53", "52", "51", "50"]
    assert "probability 0.27" in texts(browser, "#list a")[0]
    all_of(browser, "#list a")[0].click()
    wait_until(lambda: "probability 0.27" in texts(browser, ".verdict")[0])
    rows = [row.text.split() for row in all_of(browser, ".scores tbody tr")]
    assert rows[0][-2:] == ["0.00", "0.50"]
    assert rows[-1][-2:] == ["−1.00", "0.27"]
    assert "The sigmoid of the logit" in texts(browser, ".notes")[0]


def test_the_softmax_gives_the_probabilities_of_classes_that_exclude_each_other(browser, tmp_path):
    scores = [math.log(6.0), *[0.0] * 6]  # probabilities 1/2 and six times 1/12
    subject = dataclasses.replace(small_page(0), scores=scores, exclusive=True)
    show(browser, report.write(tmp_path / "page.html", [subject]))
    assert texts(browser, ".scores tbody td.figure:last-child") == ["0.50", *["0.08"] * 4]
    assert "The softmax of the logits" in texts(browser, ".notes")[0]


def test_without_known_probabilities_only_logits_are_shown(browser, many):
    show(browser, many)
    assert not all_of(browser, "#list-probability")
    assert not any("robab" in text for text in texts(browser, "body"))


def test_the_address_names_the_clip_and_the_perspective(browser, one, many):
    show(browser, one)
    assert browser.title == "three, query_50.wav · Why the model heard that"
    all_of(browser, "[role=tab]")[1].click()
    wait_until(lambda: browser.current_url.endswith("#clip=1&perspective=time"))
    browser.back()
    wait_until(lambda: all_of(browser, "[role=tab]")[0].get_attribute("aria-selected") == "true")
    browser.get("about:blank")
    browser.get(one.as_uri() + "#clip=1&perspective=time")
    assert [tab.get_attribute("aria-selected") for tab in all_of(browser, "[role=tab]")] == ["false", "true"]
    browser.get(many.as_uri() + "#clip=3&perspective=time")
    wait_until(lambda: browser.title.startswith("zero, query_52.wav"))


def test_a_channel_leads_to_the_clips_that_share_it(browser, many):
    show(browser, many)
    all_of(browser, ".card .channel")[0].click()
    wait_until(lambda: texts(browser, "h2") == ["Channel 10"])
    assert browser.current_url.endswith("#perspective=time&channel=10")
    assert browser.title.startswith("Channel 10 ·")
    assert "Among the strongest channels of 8 of 8 explanations, in 8 clips." in texts(browser, ".verdict")[0]
    rows = [row.text.split() for row in all_of(browser, ".classes tbody tr")]
    assert rows == [["one", "3", "+2.00", "0.25"], ["zero", "3", "+2.00", "0.25"], ["two", "2", "+2.00", "0.25"]]
    assert len(all_of(browser, "#main ul.prototypes > li")) == 3
    assert texts(browser, "#main ul.prototypes .file") == ["clip_0.wav", "clip_1.wav", "clip_2.wav"]
    links = all_of(browser, "#main ol a")
    assert len(links) == 8
    links[1].click()
    wait_until(lambda: texts(browser, "h2") == ["one, query_51.wav"])
    browser.back()
    wait_until(lambda: texts(browser, "h2") == ["Channel 10"])


def test_a_channel_keeps_the_name_and_the_note_of_the_reader(browser, many):
    link = many.as_uri() + "#perspective=time&channel=11"
    show(browser, many)
    browser.get(link)
    wait_until(lambda: all_of(browser, "#channel-name"))
    all_of(browser, "#channel-name")[0].send_keys("rising <trill>")
    all_of(browser, "#channel-note")[0].send_keys("in the dawn chorus")
    show(browser, many)  # loads the file again
    browser.get(many.as_uri() + "#clip=2")
    wait_until(lambda: texts(browser, ".channel") == ["Channel 10", "Channel 11 “rising <trill>”"])
    browser.get(link)
    wait_until(lambda: all_of(browser, "#channel-note"))
    assert all_of(browser, "#channel-note")[0].get_attribute("value") == "in the dawn chorus"
    saved = saved_by(browser, "Export names")
    assert saved["name"] == "why-the-model-heard-that-channel-names.json"
    channels = {"11": {"name": "rising <trill>", "note": "in the dawn chorus"}}
    assert json.loads(saved["text"])["bases"] == [{"basis": "ab12", "scheme": "time", "channels": channels}]
    browser.execute_script("localStorage.clear()")


def test_a_page_is_written_with_names_until_the_reader_gives_others(browser, tmp_path):
    names = {"ab12": {10: {"name": "siren", "note": "rises"}, 11: {"name": "<b>", "note": ""}}, "cd": {}}
    path = report.write(tmp_path / "named.html", [small_page(number) for number in range(3)], names=names)
    show(browser, path)
    browser.get(path.as_uri() + "#clip=2")
    wait_until(lambda: texts(browser, ".channel") == ["Channel 10 “siren”", "Channel 11 “<b>”"])
    browser.get(path.as_uri() + "#perspective=time&channel=10")
    wait_until(lambda: all_of(browser, "#channel-note"))
    assert all_of(browser, "#channel-note")[0].get_attribute("value") == "rises"
    all_of(browser, "#channel-name")[0].send_keys("s")
    assert json.loads(saved_by(browser, "Export names")["text"])["bases"][0]["channels"] == {
        "10": {"name": "sirens", "note": "rises"},
        "11": {"name": "<b>", "note": ""},
    }
    browser.execute_script("rename(facts.pages[0].perspectives[0], 11, { name: '', note: '' })")
    show(browser, path)  # loads the file again
    browser.get(path.as_uri() + "#clip=2")
    wait_until(lambda: texts(browser, ".channel") == ["Channel 10 “sirens”", "Channel 11"])
    browser.execute_script("localStorage.clear()")


def test_names_are_imported_from_a_file(browser, many, tmp_path):
    names = {"basis": "ab12", "scheme": "time", "channels": {"10": {"name": "siren", "note": ""}}}
    file = tmp_path / "names.json"
    file.write_text(json.dumps({"format": "captum-apex channel names 1", "bases": [names]}))
    show(browser, many)
    browser.get(many.as_uri() + "#perspective=time&channel=10")
    wait_until(lambda: all_of(browser, "input[type=file]"))
    all_of(browser, "input[type=file]")[0].send_keys(str(file))
    wait_until(lambda: all_of(browser, "#channel-name")[0].get_attribute("value") == "siren")
    file.write_text("{}")
    all_of(browser, "input[type=file]")[0].send_keys(str(file))
    wait_until(lambda: texts(browser, "#message") == ["This file cannot be imported: it does not hold channel names"])
    browser.execute_script("localStorage.clear()")


def saved_by(browser, name):
    """What a button offers as a file."""
    browser.execute_script("download = (name, text, type) => { window.saved = { name, text, type }; }")
    button(browser, name).click()
    return browser.execute_script("return window.saved")


def test_the_evidence_is_a_table_and_a_list(browser, one):
    show(browser, one)
    saved = saved_by(browser, "Evidence as CSV")
    rows = list(csv.DictReader(io.StringIO(saved["text"])))
    assert [(row["scheme"], row["channel"]) for row in rows] == [
        ("square", "10"),
        ("square", "11"),
        ("time", "10"),
        ("time", "11"),
    ]
    row = rows[2]
    numbers = {name: float(row[name]) for name in ("score", "contribution", "purity", "start_s", "end_s")}
    assert numbers == {"score": 4.5, "contribution": 2, "purity": 0.25, "start_s": 0.2, "end_s": 0.4}
    assert (row["low_hz"], row["high_hz"]) == ("", "")  # a moment has no band
    assert (row["clip"], row["label"], row["explained"], row["side"]) == ("query_50.wav", "three", "three", "1")
    assert (row["channel_falls"], row["random_falls"], row["score_falls"]) == ("0.63", "0.01", "2.5")
    assert row["prototypes"] == "clip_0.wav; clip_1.wav; clip_2.wav"
    # The spot of channel 11 lies below the tone, which rises from 700 Hz.
    assert [row["silent"] for row in rows] == ["no", "yes", "no", "yes"]
    listed = json.loads(saved_by(browser, "Evidence as JSON")["text"])
    assert [each["contribution"] for each in listed] == [2, 1, 2, 1]
    assert [listed[2][name] for name in ("low_hz", "high_hz")] == [None, None]
    (spot,) = listed[0]["boxes"]
    assert {name: float(rows[0][name]) for name in spot} == {name: listed[0][name] for name in spot} == spot
    assert 0 <= spot["low_hz"] < spot["high_hz"] <= 4000
    assert [prototype["purity"] for prototype in listed[0]["prototypes"]] == [0.5, 0.375, 0.25]


def test_names_are_text_for_a_spreadsheet(browser, one):
    show(browser, one)
    browser.execute_script("facts.clips[facts.pages[0].clip].name = '=cmd\\n.wav'; facts.pages[0].explained = '-3 dB'")
    rows = list(csv.DictReader(io.StringIO(saved_by(browser, "Evidence as CSV")["text"])))
    assert {(row["clip"], row["explained"]) for row in rows} == {("'=cmd .wav", "'-3 dB")}
    listed = json.loads(saved_by(browser, "Evidence as JSON")["text"])
    assert listed[0]["clip"] == "=cmd\n.wav"


def test_the_table_is_downloaded(browser, one, tmp_path):
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    show(browser, one)
    button(browser, "Evidence as CSV").click()
    file = tmp_path / "why-the-model-heard-that-evidence.csv"
    wait_until(file.exists)
    assert file.read_bytes().startswith(b"clip,label,explained,score,probability,scheme,channel,")


def test_silence_is_said_and_not_played(browser, one):
    show(browser, one)
    all_of(browser, "[role=tab]")[1].click()
    heard, silent = all_of(browser, ".card")
    assert "The region is silence." not in heard.text
    assert "The region is silence." in silent.text
    names = [name_of(found) for found in silent.find_elements("css selector", ".query button")]
    assert names == ["clip with the region of channel 11"]
    assert all_of(browser, ".large img")[0].get_attribute("alt").endswith("silence.")


def test_loop_half_speed_and_gain_hold_for_every_sound(browser, one):
    show(browser, one)
    state = "return [player.loop, player.playbackRate, player.preservesPitch, bar.amplifier?.gain.value ?? null]"
    button(browser, "Play the clip").click()
    wait_until(lambda: pressed(browser) == ["Play the clip"])
    assert browser.execute_script(state) == [False, 1, True, None]
    for name in ("Loop", "Half speed"):
        button(browser, name).click()
    slider = all_of(browser, "#gain")[0]
    slider.send_keys("\ue014\ue014")  # right
    assert texts(browser, ".gain output") == ["+6 dB"]
    button(browser, "region of channel 10").click()
    wait_until(lambda: "region of channel 10" in pressed(browser))
    assert browser.execute_script(state) == [True, 0.5, True, pytest.approx(10 ** (6 / 20))]
    assert texts(browser, "#playing")[0].startswith("region of channel 10")


def test_the_surroundings_are_half_a_second_on_both_sides(browser, one):
    """The second moment of ten in two seconds: 0.2–0.4 s."""
    show(browser, one)
    all_of(browser, "[role=tab]")[1].click()
    slow_down(browser, rate=0.5)
    button(browser, "± 0.5 s around the region of channel 10").click()
    wait_until(lambda: now(browser) > 0.05)
    assert browser.execute_script("return [current.from, current.until]") == [0, pytest.approx(0.9)]
    wait_until(lambda: pressed(browser) == [])
    assert now(browser) == pytest.approx(0.9, abs=0.3)  # not at the end, 2 s


def test_the_times_of_a_short_clip_have_four_digits(browser, tmp_path):
    """The second moment of ten in 64 ms."""
    prototypes = {index: chirp(index, seconds=0.064) for index in range(3)}
    moments = [explanation(SCHEMES[1], n_channels=1)]
    subject = page(clip=chirp(50, seconds=0.064), explanations=moments, prototypes=prototypes, maps={})
    show(browser, report.write(tmp_path / "page.html", [subject]))
    assert texts(browser, ".query .caption") == ["In this clip, peak cell: 0.0020–0.0090 s"]
    (slider,) = all_of(browser, "[role=slider]")
    slider.send_keys("\ue014")  # right: a fiftieth of the clip
    assert slider.get_attribute("aria-valuemax") == "0.0640"
    assert slider.get_attribute("aria-valuenow") == "0.0013"
    assert slider.get_attribute("aria-valuetext") == "0.0013 seconds"
    button(browser, "Play the clip").click()
    wait_until(lambda: texts(browser, "#time")[0].endswith(" / 0.0640 s"))


def test_the_keyboard_seeks(browser, one):
    show(browser, one)
    slow_down(browser)
    (slider,) = all_of(browser, "[role=slider]")
    assert slider.get_attribute("aria-valuetext") == "0.00 seconds"
    slider.send_keys("\ue00f")  # page down, below the beginning
    assert slider.get_attribute("aria-valuenow") == "0.00"
    slider.send_keys("\ue014\ue014\ue00e")  # right twice, page up: 0.04 + 0.04 + 0.2 s
    assert slider.get_attribute("aria-valuenow") == "0.28"
    slider.send_keys("\ue007")  # enter
    wait_until(lambda: now(browser) > 0.28)
    assert pressed(browser) == ["Play the clip"]
    slider.send_keys("\ue00e")
    wait_until(lambda: now(browser) > 0.48)
    slider.send_keys(" ")
    wait_until(lambda: pressed(browser) == [])
    assert 0.48 < now(browser) < 1


def test_a_narrow_region_of_a_long_clip_is_enlarged_below(browser, tmp_path):
    """The second of 40 moments of 20 s, 0.5–1 s; the first two seconds are shown."""
    scheme = SCHEMES[1]
    shown = explanation(scheme, n_channels=1, prototypes=())
    region = scheme.region([1], 1, 40)
    evidence = dataclasses.replace(shown.evidence[0], region=region)
    clip = chirp(1, seconds=20.0, silent=True)
    subject = page(clip=clip, explanations=[dataclasses.replace(shown, evidence=(evidence,))], prototypes={}, maps={})
    show(browser, report.write(tmp_path / "page.html", [subject]))
    (strip,) = all_of(browser, ".strip .picture")
    place = browser.execute_script(
        "const box = arguments[0].getBoundingClientRect(), line = arguments[0].querySelector('.outline');"
        "const shape = line.getBBox(), to = line.getScreenCTM();"
        "return [shape.x, shape.x + shape.width].map((x) => (x * to.a + to.e - box.left) / box.width)",
        strip,
    )
    assert place == pytest.approx([0.25, 0.5], abs=0.01)
    assert texts(browser, ".strip .seconds span") == ["0", "0.5", "1", "1.5", "2 s"]


def test_a_short_clip_is_shown_once(browser, one):
    show(browser, one)
    assert all_of(browser, ".strip") == []


def test_the_tab_key_meets_one_control_of_each_group(browser, one, many):
    show(browser, one)
    stops = browser.execute_script(TAB_STOPS)
    cards = len(all_of(browser, ".card"))
    # skip, tables, slider, play, tabs, footer, settings, gain; the channel, its sounds and its prototypes of each card
    assert stops == 8 + 3 * cards
    group = all_of(browser, ".card [role=toolbar]")[0]
    first, second, *_ = group.find_elements("css selector", "button")
    first.send_keys("\ue014")
    assert browser.switch_to.active_element == second
    assert [found.get_attribute("tabindex") for found in (first, second)] == ["-1", "0"]
    second.send_keys("\ue011")  # home
    assert browser.switch_to.active_element == first
    show(browser, many)
    assert len([link for link in all_of(browser, "#list a") if link.get_attribute("tabindex") == "0"]) == 1


@pytest.mark.parametrize("address", ["#clip=1", "#perspective=time&channel=10"])
def test_the_names_of_controls_hold_their_text_and_differ(browser, one, address):
    show(browser, one)
    browser.get(one.as_uri() + address)
    controls = [found for found in all_of(browser, "button, a[href], [role=slider], input") if found.is_displayed()]
    names = [name_of(found) for found in controls]
    assert all(names)
    assert [name for name in names if names.count(name) > 1] == []
    for found, name in zip(controls, names, strict=True):
        visible = browser.execute_script(
            "const copy = arguments[0].cloneNode(true);"
            "for (const node of copy.querySelectorAll('.unseen')) node.remove(); return copy.textContent.trim()",
            found,
        )
        assert visible in name


@pytest.mark.parametrize("dark", [False, True])
def test_the_borders_of_controls_stand_out(browser, many, dark):
    show(browser, many, dark=dark)
    browser.get(many.as_uri() + "#perspective=time&channel=10")
    wait_until(lambda: all_of(browser, "textarea"))
    borders = browser.execute_script(
        """
        const ground = (e) => {
          for (; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if (!/, 0\\)$/.test(colour)) return colour;
          }
        };
        const all = [...document.querySelectorAll("button, input:not(.unseen), select, textarea")];
        const shown = all.filter((e) => e.getClientRects().length && e.type !== "range");
        return shown.map((e) => [e.outerHTML, getComputedStyle(e).borderTopColor, ground(e.parentElement)]);
        """
    )
    assert len(borders) > 6
    worst = min(borders, key=lambda entry: contrast(*entry[1:]))
    assert contrast(*worst[1:]) >= 3, worst


def test_pictures_and_numbers_are_there_without_scripts(running, one):
    running.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(running, one)
        assert texts(running, "#main h2") == ["three, query_50.wav", "Prototypes"]
        assert "Explained: three, score 4.5." in texts(running, "#main section p")[0]
        rows = [row.text for row in all_of(running, "#main tbody tr")]
        assert len(rows) == 4
        assert rows[2].startswith("10 2 0.25 0.20–0.40 s zero, clip_0.wav (")
        assert "silence" in rows[3]
        pictures = [image for image in all_of(running, "#main img") if image.is_displayed()]
        assert len(pictures) == 1 + 3
        assert all(int(image.get_property("naturalWidth")) > 50 for image in pictures)
    finally:
        running.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.skipif(not AXE, reason="CAPTUM_APEX_AXE names no copy of axe-core")
@pytest.mark.parametrize("address", ["#clip=1", "#perspective=time&channel=10"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing(running, many, address, width):
    show(running, many, width=width)
    running.get(many.as_uri() + address)
    running.execute_cdp_cmd("Runtime.evaluate", {"expression": Path(AXE).read_text(encoding="utf-8")})
    violations = running.execute_async_script(
        "const done = arguments[0]; axe.run(document).then(({ violations }) => done(violations))"
    )
    assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []
