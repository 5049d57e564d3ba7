"""TextGrid files in both text forms, written as Praat and forced aligners write them."""

import pytest

from captum_apex.recordings import Interval, read_text_grid

PHONES = [(0.0, 0.31, ""), (0.31, 0.5, "T"), (0.5, 0.875, 'a "quoted" 7 = 8!'), (0.875, 1e0, "ö")]
WORDS = [(0.0, 0.5, "two"), (0.5, 1.0, "")]


def long_form(tiers):
    """Praat's long form, with a tier of points at the end."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", "xmax = 1 ", "tiers? <exists> "]
    lines += [f"size = {len(tiers) + 1} ", "item []: "]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", "        xmax = 1 ", f"        intervals: size = {len(intervals)} "]
        for place, (start, end, label) in enumerate(intervals, 1):
            text = label.replace('"', '""')
            lines += [f"        intervals [{place}]:", f"            xmin = {start} ", f"            xmax = {end} "]
            lines += [f'            text = "{text}" ']
    lines += [
        f"    item [{len(tiers) + 1}]:",
        '        class = "TextTier" ',
        '        name = "peaks" ',
        "        xmin = 0 ",
    ]
    lines += ["        xmax = 1 ", "        points: size = 1 ", "        points [1]:", "            number = 0.2 "]
    return "\n".join([*lines, '            mark = "high" ', ""])


def short_form(tiers):
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "1", "<exists>", str(len(tiers))]
    for name, intervals in tiers.items():
        lines += ['"IntervalTier"', f'"{name}"', "0", "1", str(len(intervals))]
        for start, end, label in intervals:
            text = label.replace('"', '""')
            lines += [str(start), str(end), f'"{text}"']
    return "\r\n".join(lines)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", [long_form, short_form])
def test_both_forms_give_the_intervals_of_the_tier(form, encoding, tmp_path):
    path = tmp_path / "clip.TextGrid"
    path.write_text(form({"words": WORDS, "phones": PHONES}), encoding=encoding, newline="")
    assert read_text_grid(path, "phones") == [Interval(*each) for each in PHONES]
    assert read_text_grid(str(path), "words") == [Interval(*each) for each in WORDS]


def test_the_only_tier_of_intervals_needs_no_name(tmp_path):
    path = tmp_path / "clip.TextGrid"
    path.write_text(long_form({"words": WORDS}))
    assert read_text_grid(path) == [Interval(*each) for each in WORDS]


@pytest.mark.parametrize(
    ("tier", "message"),
    [
        (
            None,
            "expected one tier of intervals, or the name of a tier in .*, but its tiers of .* are 'words', 'phones'",
        ),
        ("letters", "expected a tier 'letters' in .*, but its tiers of intervals are 'words', 'phones'"),
        ("peaks", "expected a tier 'peaks'"),
    ],
)
def test_a_tier_that_is_not_there_or_not_named(tier, message, tmp_path):
    path = tmp_path / "clip.TextGrid"
    path.write_text(long_form({"words": WORDS, "phones": PHONES}))
    with pytest.raises(ValueError, match=message):
        read_text_grid(path, tier)


@pytest.mark.parametrize(
    "text", ["", "clip,time\n0,0.5\n", short_form({"words": WORDS})[:-20], '"ooTextFile" "Pitch" 0 1']
)
def test_another_file_and_one_that_was_cut_are_refused(text, tmp_path):
    path = tmp_path / "clip.TextGrid"
    path.write_text(text)
    with pytest.raises(ValueError, match="to be a TextGrid in a text form of Praat, but it is not one"):
        read_text_grid(path)
