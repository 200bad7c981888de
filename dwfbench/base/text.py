"""Texts as messages and tables show them: numbers, rows, and the name that was meant."""

import difflib
import re
from collections.abc import Collection, Iterable, Sequence


def short(value: float | None, digits: int = 3) -> str:
    """So many significant digits, or all before the point where there are more: 0.00123, 1.23, 1234; - for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def knob(name: str | None, value: float | None) -> str:
    """What a run is turned by: strength 0.001; - without a knob."""
    return "-" if name is None or value is None else f"{name} {short(value, 4)}"


ACCURACY = "accuracy"
"""What runs are judged by, unless their data set brings a score of its own."""


def shared_score(scores: Iterable[str]) -> str:
    """The name of what some runs are judged by: of the score of all of them, or just "score" where these differ."""
    different = set(scores)
    return "score" if len(different) > 1 else next(iter(different), ACCURACY)


def judged_by(score: str, text: str) -> str:
    """A text on accuracy, for runs that are judged by this score."""
    return text.replace(ACCURACY.capitalize(), capital(score)).replace(ACCURACY, score)


def capital(text: str) -> str:
    """A text with a capital at its beginning and all else as it is."""
    return text[:1].upper() + text[1:]


def by_number(name: str) -> str:
    """What names are ordered by, so that "epochs=15" comes before "epochs=120"."""
    return re.sub(r"\d+\.?\d*(e[+-]?\d+)?", lambda number: f"{float(number[0]):032.16f}", name)


def aligned(rows: list[list[str]], left: Collection[str] | None = None) -> str:
    """Rows, the header first, as lines of padded texts: the columns headed by a word of `left` flush left, the
    others flush right; None: all flush left. No newline at the end.
    """
    return "\n".join("  ".join(row).rstrip() for row in padded(rows, rows[0] if left is None else left))


def padded(rows: list[list[str]], left: Collection[str]) -> list[list[str]]:
    """The same rows with the texts of a column as long as each other."""
    columns = []
    for column in zip(*rows, strict=True):
        width = max(map(len, column))
        columns.append([text.ljust(width) if column[0] in left else text.rjust(width) for text in column])
    return [list(row) for row in zip(*columns, strict=True)]


def first_few(texts: Sequence[str]) -> str:
    """The first five of some texts, and how many more there are: "a, b, c, d, e and 3 more"."""
    remainder = f" and {len(texts) - 5} more" if len(texts) > 5 else ""
    return f"{', '.join(texts[:5])}{remainder}"


def no_such(noun: str, name: str, names: Collection[str], addition: str = "") -> str:
    """ "There is no figure 'wegihts'; did you mean weights? Choose one of accuracy, weights."; ``addition`` follows the
    name."""
    return f"There is no {noun} {name!r}{addition}{nearest(name, names)} Choose one of {', '.join(names)}."


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" for the known name that is closest, or that begins so, if there is one; else "."."""
    plain = {word.lower().replace("_", "-"): word for word in known}
    letters = name.lower().replace("_", "-")
    close = difflib.get_close_matches(letters, plain, n=1) or [word for word in plain if word.startswith(letters)]
    return f"; did you mean {plain[close[0]]}?" if name and close else "."
