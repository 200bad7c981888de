"""Numbers as people read them."""

import pytest

from dwfbench.base.text import short


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0012345, "0.00123"), (2, "2"), (9.999, "10"), (99.95, "100"), (1000.0, "1000"), (22183.3, "22183")],
)
def test_short_numbers_have_no_exponent_where_they_are_large(value, text):
    assert short(value) == text


def test_four_digits_are_as_short():
    assert [short(value, 4) for value in (0.0012345, 2.1448, 998.84, 29577.8)] == [
        "0.001234",
        "2.145",
        "998.8",
        "29578",
    ]
