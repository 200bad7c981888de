"""What texts of records are in Markdown, LaTeX and spreadsheets."""

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dwfbench.base import escape

ODD = [
    r"a\|b",
    "a|b",
    r"\\|",
    "[click](https://example.com)",
    "![](https://example.com/x.png)",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "&lt;b&gt;",
    "`code` *a* _b_ **c** ~~d~~",
    "a ``` b",
    "https://example.com www.example.com <https://example.com>",
    "[a]: https://example.com",
]


def shown(text):
    """What a reader of Markdown makes of the text in a cell, as plain text; tags are those of the table alone."""
    table = f"| {escape.markdown(text)} | x |\n| - | - |\n"
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(table)
    cells = re.findall(r"<th>(.*?)</th>", page, re.DOTALL)
    assert len(cells) == 2
    assert "<" not in cells[0]
    return unescape(cells[0])


@pytest.mark.parametrize("text", ODD)
def test_markdown_shows_a_text_as_it_is(text):
    assert shown(text) == text
    assert not re.search(r"https?://|www\.", escape.markdown(text))  # which some readers make a link of


@given(st.text("\\\\|`*_[]()<>&~$!#-+.=:aw1/", max_size=12))
def test_any_signs_are_shown_as_they_are(text):
    assert shown(f"a{text}b") == f"a{text}b"


@given(st.text('\\\\{}$&%#^_~<>|[]*a="-', max_size=12))
def test_latex_holds_no_command_of_a_text(text):
    escaped = escape.latex(text)
    signs = {f"\\{sign}" for sign in "&%$#_{}"}
    words = {rf"\text{name}" for name in ("backslash", "asciitilde", "asciicircum", "bar", "less", "greater")}
    assert set(re.findall(r"\\[a-z]+|\\.", escaped)) <= signs | words
    left = re.sub(r"\\text[a-z]+\{\}|\\.", "", escaped)
    assert not set(left) & set("\\\\$&%#^_~<>|")
    assert left.count("{") == left.count("}") == left.count("[") + left.count("*")
    assert not re.match(r"[\[*]", escaped)


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", " =1", "\t=1", "\uff1d1"])
def test_a_text_is_no_formula(text):
    assert escape.spreadsheet(text) == f"'{text}"


@pytest.mark.parametrize("cell", [-1.5, -2, None, "a=b", "dwf D=3", "a-b", ""])
def test_numbers_and_other_texts_stay(cell):
    assert escape.spreadsheet(cell) is cell
