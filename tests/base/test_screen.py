"""Tables and sentences of a given width."""

import pytest

from dwfbench.base import screen, streams

ROWS = [
    ["Data", "Method", "Runs", "CR 2", "CR 10", "CR 100"],
    ["digits", "dense", "3", "90.00", "-", "-"],
    ["digits", "dwf D=3 (lr=0.1)", "3", "90.00", "88.12 ± 0.30", "-"],
]
SETTINGS = ("Data", "Runs")


def test_what_all_rows_share_is_said_once_above_and_results_stay():
    assert screen.table(ROWS, ("Method",), SETTINGS, 80) == (
        "Data: digits; Runs: 3; no value: CR 100\n\n"
        "Method             CR 2         CR 10\n"
        "dense             90.00             -\n"
        "dwf D=3 (lr=0.1)  90.00  88.12 ± 0.30"
    )


def test_a_file_has_all_cells():
    assert [line.split()[0] for line in screen.table(ROWS, ("Method",), SETTINGS).splitlines()] == [
        "Data",
        "digits",
        "digits",
    ]


def test_a_single_row_keeps_its_columns():
    assert screen.table(ROWS[:2], settings=SETTINGS, columns=80).splitlines()[0].split() == [
        "Data",
        "Method",
        "Runs",
        "CR",
        "2",
        "CR",
        "10",
        "CR",
        "100",
    ]


def test_cells_are_broken_at_words_until_the_table_fits():
    assert screen.table(ROWS, ("Method",), SETTINGS, 30) == (
        "Data: digits; Runs: 3;\nno value: CR 100\n\n"
        "Method     CR 2   CR 10\n"
        "dense     90.00       -\n"
        "dwf D=3   90.00   88.12\n"
        "(lr=0.1)         ± 0.30"
    )


@pytest.mark.parametrize("columns", [10, 20, 30, 40, 80, 200])
def test_no_line_is_longer_than_the_screen_if_words_are_not_and_no_word_is_lost(columns):
    shown = screen.table(ROWS, ("Method",), SETTINGS, columns)
    longest = max(len(word) for row in ROWS for cell in row for word in cell.split())
    assert max(map(len, shown.splitlines())) <= max(columns, 2 * longest + screen.GAP)
    assert {word for row in ROWS for cell in row for word in cell.split()} <= {
        word.strip(";:,") for word in shown.split()
    }


def test_columns_that_do_not_fit_stand_in_another_table_with_what_tells_rows_apart():
    rows = [["id", "a", "b", "c"], ["x1", "11111", "22222", "33333"], ["x2", "11112", "22223", "33334"]]
    assert screen.table(rows, ("id",), (), 17) == (
        "id      a      b\nx1  11111  22222\nx2  11112  22223\n\nid      c\nx1  33333\nx2  33334"
    )


def test_sentences_are_broken_at_words_but_not_within_a_command():
    text = "Now draw it: `dwfbench plot accuracy` does."
    assert screen.wrapped(text, 20) == "Now draw it:\n`dwfbench plot accuracy`\ndoes."
    assert screen.wrapped(text, None) == text


def test_the_width_is_that_of_columns_or_of_a_terminal_and_none_of_a_file(monkeypatch):
    assert streams.width() is None
    monkeypatch.setenv("COLUMNS", "72")
    assert streams.width() == 72
