"""Numbers as people read them."""

import pytest

from dwfbench.base.text import by_number, judged_by, shared_score, short


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


def test_names_are_ordered_by_their_numbers():
    variants = [
        "dwf D=3 (epochs=15)",
        "dwf D=3 (epochs=120)",
        "dwf D=12",
        "l1 (eps=1e-05)",
        "l1 (eps=0.25)",
        "l1 (eps=0.5)",
    ]
    names = ["dwf D=3", *variants]
    assert sorted(set(names), key=by_number) == names
