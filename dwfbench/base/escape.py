"""Texts of records, which anybody may have written, as other formats take them: they show as they are and do nothing.

Labels, names of data sets and of networks reach tables that are pasted into papers, issues and spreadsheets.
"""

import re
from typing import Any

MARKDOWN = re.compile(r"[\\`*_\[\]<&|~$]|(?<=:)//|(?<=\bwww)\.", re.IGNORECASE)
"""What begins emphasis, code, links (also bare addresses), HTML, entities, formulas or another cell."""

LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "λ": r"$\lambda$"},
        **{"[": "{[}", "*": "{*}"},  # which the end of the row before would take for its own
    }
)

FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""How a cell begins that a spreadsheet calculates; the last four are full-width forms of the others."""


def markdown(text: str) -> str:
    """A text for a cell of a Markdown table."""
    return MARKDOWN.sub(lambda sign: f"\\{sign[0]}", text)


def latex(text: str) -> str:
    """A text for a cell of a LaTeX table."""
    return text.translate(LATEX)


def spreadsheet(cell: Any) -> Any:
    """A cell of a CSV file: a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell
