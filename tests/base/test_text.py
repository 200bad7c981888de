"""Numbers as people read them."""

import pytest

from dwfbench.base.text import judged_by, shared_score, short


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


def test_several_scores_are_called_score():
    assert [shared_score(names) for names in ([], ["accuracy"], ["r2", "r2"], ["r2", "accuracy"])] == [
        "accuracy",
        "accuracy",
        "r2",
        "score",
    ]


def test_a_text_names_the_score():
    assert judged_by("accuracy", "Accuracy, and chance accuracy") == "Accuracy, and chance accuracy"
    assert judged_by("explainedVariance", "Accuracy: chance accuracy") == "ExplainedVariance: chance explainedVariance"
