"""Rows as text and as HTML."""

import pytest

from captum_apex.result_tables import counted, html_table, listed, text_table


def test_columns_are_as_wide_as_their_longest_cell_and_numbers_end_in_a_line():
    rows = [["siren", 12.5, None], ["a long name", -3, "x"]]
    assert text_table(["class", "score", ""], rows).splitlines() == [
        "class        score",
        "siren         12.5",
        "a long name     -3  x",
    ]


def test_a_table_without_rows_is_its_header():
    assert text_table(["a", "b"], []) == "a  b"


@pytest.mark.parametrize("name", ["a\nb", "caf\udce9", "a\tb", "\x1b[31m"])
def test_a_cell_is_one_line_that_can_be_printed(name):
    line = text_table(["file"], [[name]]).splitlines()[1]
    assert "\N{REPLACEMENT CHARACTER}" in line
    line.encode()
    assert "\x1b" not in line


def test_cells_of_html_are_text():
    table = html_table(["<b>"], [["<script>"], [None]], caption="a & b")
    assert table == (
        "<table><caption>a &amp; b</caption><thead><tr><th>&lt;b&gt;</th></tr></thead>"
        "<tbody><tr><td>&lt;script&gt;</td></tr><tr><td></td></tr></tbody></table>"
    )


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")]
)
def test_long_lists_are_cut(names, text):
    assert listed(names, most=2) == text


def test_nouns_take_an_s():
    assert [counted(number, "clip") for number in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
