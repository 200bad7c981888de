"""Numbers as people read them."""

import pytest

from dwfbench.rounding import short


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0012345, "0.00123"), (2, "2"), (9.999, "10"), (99.95, "100"), (1000.0, "1000"), (22183.3, "22183")],
)
def test_short_numbers_have_no_exponent_where_they_are_large(value, text):
    assert short(value) == text
