"""Tables as texts: aligned for a terminal, in Markdown, and in LaTeX for a paper.

A table is a list of rows of short texts, the header first. Names from records, which anybody may have written, are
escaped for each format (see ``escape``); what the user says, names, caption and label, is not.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from dwfbench.base import escape, screen
from dwfbench.base.errors import UsageError
from dwfbench.base.streams import width
from dwfbench.base.text import no_such, padded
from dwfbench.runs.spec import setting, settle
from dwfbench.show.names import Names, read_names

PANEL = ("Dataset", "Model")
WORDS = (*PANEL, "Method", "Axis", "Claim", "Verdict", "First", "Second", "Measure", "Expected")
"""Columns that are flush left, as numbers are flush right."""
SETTINGS = (*PANEL, "Runs", "Seeds", "Epochs", "Extra", "Dense")
"""Columns that a screen shows once, above the table, where all rows have the same."""
SAME = {"n": "seeds", "needed": "to decide"}
"""Columns of verdicts on claims that files for machines call otherwise."""
LONG = ("Sentence", "Reason", "Source")
"""Columns that are there for those who ask for them."""

Rows = list[list[str]]
Marks = Mapping[tuple[int, str], str]
"""Cells that stand out, by row of the body and column: "bold" ones, and "italic" ones."""


@dataclass(frozen=True)
class Sheet:
    """What a user wants of a table as text. In Python ``names`` may be a mapping. Raises UsageError for what does not
    fit.
    """

    columns: str | None = setting(None, 'only these, in this order, separated by commas: "Method,CR 10,Area"')
    names: str | None = setting(None, 'TOML file of names to show in texts: "dwf D=3" = "DWF, $D = 3$"')
    caption: str | None = setting(None, "of a LaTeX table [default with --label: what the table shows]")
    label: str | None = setting(None, "of a LaTeX table, for \\ref")

    def __post_init__(self) -> None:
        settle(self, but=["names"] if isinstance(self.names, Mapping) else [])
        _ = self.shown_names

    @cached_property
    def shown_names(self) -> Names:
        return Names(read_names(self.names))

    def chosen(self, header: Sequence[str]) -> list[int]:
        """The places of the columns asked for, whatever the case of their names; of "Area CR 2-300" Area is enough."""
        if self.columns is None:
            return [index for index, name in enumerate(header) if name not in LONG]
        indices = {_key(name): index for index, name in enumerate(header)}
        titles = [name.strip() for name in self.columns.split(",")]
        for name in titles:
            if _key(name) not in indices:
                raise UsageError(no_such("column", name, [short_name(title) for title in header]))
        return [indices[_key(name)] for name in titles]


PLAIN = Sheet()


def short_name(header: str) -> str:
    """The name of a column: that of an area without its range."""
    return re.sub(r"^Area CR .*", "Area", header)


def _key(name: str) -> str:
    """What the names of a column have in common."""
    name = short_name(name).lower()
    return SAME.get(name, name)


def text(
    rows: Rows, format: str, sheet: Sheet = PLAIN, marks: Marks | None = None, groups: Mapping[str, str] | None = None
) -> str:
    """The table in one of three formats: table, markdown, latex. ``groups`` are the headings, in LaTeX, of columns with
    a number at the end of their name, by what stands before it.
    """
    columns = sheet.chosen(rows[0])
    headed = format == "latex" and tuple(rows[0][:2]) == PANEL and not (sheet.columns and min(columns) < 2)
    if headed:
        columns = [column for column in columns if column > 1]
    keys = [tuple(row[:2]) if headed else () for row in rows[1:]]
    looks = [
        [(marks or {}).get((number, short_name(rows[0][column])), "") for column in columns]
        for number in range(len(rows) - 1)
    ]
    rows = [[row[column] for column in columns] for row in rows]
    if format == "latex":
        return Latex(sheet, groups or {}).table(rows, looks, keys)
    escaped = escape.markdown if format == "markdown" else str
    header, *body = [[sheet.shown_names.of(cell, escaped) for cell in row] for row in rows]
    body = marked(body, looks, format)
    left = [title for title, name in zip(header, rows[0], strict=True) if name in (*WORDS, *LONG)]
    if format == "table":
        return screen.table([header, *body], left, SETTINGS, width()) + "\n"
    header, *body = padded([header, *body], left)
    titled = zip(header, rows[0], strict=True)
    rule = ["-" * len(cell) if name in (*WORDS, *LONG) else "-" * (len(cell) - 1) + ":" for cell, name in titled]
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, rule, *body])


MARKED: dict[str, dict[str, Callable[[str], str]]] = {
    "table": {"": str, "bold": lambda cell: f"{cell} *", "italic": lambda cell: f"{cell} ~"},
    "markdown": {"": str, "bold": lambda cell: f"**{cell}**", "italic": lambda cell: f"*{cell}*"},
    "latex": {"": str, "bold": lambda cell: rf"\textbf{{{cell}}}", "italic": lambda cell: rf"\textit{{{cell}}}"},
}


def marked(body: Rows, looks: Rows, format: str) -> Rows:
    """The rows of texts with their marks."""
    wrappers = MARKED[format]
    return [[wrappers[look](cell) for cell, look in zip(*pair, strict=True)] for pair in zip(body, looks, strict=True)]


@dataclass(frozen=True)
class Latex:
    r"""A tabular of booktabs, in a table with a caption where one is asked for.

    Columns of one group have a heading in common (\multicolumn); data sets and networks are headings of rows, one alone
    is a comment.
    """

    sheet: Sheet
    groups: Mapping[str, str]

    def cell(self, text: str) -> str:
        text = " ".join(text.split())  # a line end would end a comment, and an empty line a paragraph
        text = self.sheet.shown_names.of(text, escape.latex).replace(r"\textgreater{}=", r"$\geq$")
        return re.sub(r"^-(?=[\d.]+(?: |$))", "$-$", text)  # the minus of a number, not a hyphen

    def table(self, rows: Rows, looks: Rows, keys: Sequence[tuple[str, ...]]) -> str:
        """`keys` are data set and network of each row of the body."""
        names, *body = rows
        body = marked([list(map(self.cell, row)) for row in body], looks, "latex")
        headings = [", ".join(map(self.cell, key)) for key in keys]
        single = len(set(headings)) == 1
        lines = [f"% {headings[0]}"] if single and headings[0] else []
        lines += [
            rf"\begin{{tabular}}{{{''.join('l' if name in (*WORDS, *LONG) else 'r' for name in names)}}}",
            r"\toprule",
        ]
        lines += [*self.header(names), *([] if body else [r"\midrule"])]
        for heading, group in groupby(zip(headings, body, strict=True), key=lambda pair: pair[0]):
            lines.append(r"\midrule")
            if not single:
                lines.append(rf"\multicolumn{{{len(names)}}}{{l}}{{\textit{{{heading}}}}} \\")
            lines += [" & ".join(row) + r" \\" for _, row in group]
        lines += [r"\bottomrule", r"\end{tabular}"]
        return "\n".join(self.floating(lines)) + "\n"

    def header(self, names: Sequence[str]) -> list[str]:
        """One line of titles, or two where columns have a heading in common."""
        parted = [self.parted(name) for name in names]
        titles = " & ".join(self.cell(title) for _, title in parted) + r" \\"
        if not any(group for group, _ in parted):
            return [titles]
        spans, rules, column = [], [], 1
        for group, columns in groupby(parted, key=lambda pair: pair[0]):
            width = len(list(columns))
            if group:
                spans.append(rf"\multicolumn{{{width}}}{{c}}{{{self.cell(group)}}}")
                rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
            else:
                spans += [""] * width
            column += width
        return [" & ".join(spans) + r" \\", " ".join(rules), titles]

    def parted(self, name: str) -> tuple[str, str]:
        """The heading that a column shares with others, "" for none, and its own title."""
        match = re.fullmatch(r"(.*?)([\d.]+)(pt|%)?", name)
        group = self.groups.get(f"{match[1]}{match[3] or ''}") if match else None
        return (group, f"{match[2]}") if match and group else ("", name)

    def floating(self, lines: list[str]) -> list[str]:
        if self.sheet.caption is None and self.sheet.label is None:
            return lines
        caption = [rf"\caption{{{self.sheet.caption}}}"] if self.sheet.caption is not None else []
        label = [rf"\label{{{self.sheet.label}}}"] if self.sheet.label is not None else []
        return [r"\begin{table}", r"\centering", *caption, *label, *lines, r"\end{table}"]


def captioned(sheet: Sheet, sentences: Sequence[str]) -> Sheet:
    """The sheet, whose caption says by itself what the table shows if there is to be one and none is given: without the
    sentences on columns that are left out.
    """
    if sheet.label is None or sheet.caption is not None:
        return sheet
    columns = (sheet.columns or "Area,CR@").lower()
    lines = re.split(r"(?<=\.) (?=[A-Z±])", " ".join(sentences))
    relevant = [
        line for line in lines if all(name in columns or not line.lower().startswith(name) for name in ("area", "cr@"))
    ]
    readable = re.sub(r"CR@-X(pt|%)", "CR within X", " ".join(relevant))
    return replace(sheet, caption=Latex(sheet, {}).cell(readable))
