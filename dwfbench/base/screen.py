"""Tables and sentences as a screen of some width shows them: what rows share as a heading, lines broken at words."""

import os
import re
import shutil
import textwrap
from collections.abc import Collection, Sequence
from typing import TextIO

from dwfbench.base.text import aligned

GAP = 2
"""Blanks between two columns."""


def width(stream: TextIO) -> int | None:
    """The columns of the terminal that a stream goes to, or that COLUMNS names; None for a file or a pipe."""
    return shutil.get_terminal_size().columns if os.environ.get("COLUMNS") or stream.isatty() else None


def wrapped(text: str, columns: int | None) -> str:
    """A text with its lines broken at words, but not within `...`, which is there to be copied."""
    if columns is None:
        return text.replace("\0", " ")
    protected = re.sub(r"`[^`]*`", lambda quoted: quoted[0].replace(" ", "\0"), text)
    lines = ["\n".join(_lines(line, columns)) for line in protected.splitlines()]
    return "\n".join(lines).replace("\0", " ")


def _lines(text: str, columns: int) -> list[str]:
    return textwrap.wrap(text, max(columns, 1), break_long_words=False, break_on_hyphens=False)


def table(
    rows: list[list[str]],
    left: Collection[str] | None = None,
    settings: Collection[str] = (),
    columns: int | None = None,
) -> str:
    """Rows, the header first, as lines without a newline at the end; `left` as for `text.aligned`.

    Without a number of `columns`, as for a file, all cells are there. On a screen a setting that all rows share is said
    once, above them, and so are columns of results without a value; what is too wide is broken at words, then into
    several tables, each with the column that tells rows apart.
    """
    if columns is None:
        return aligned(rows, left)
    header, *body = rows
    alike = {index for index, cells in enumerate(zip(*body, strict=True)) if len(body) > 1 and len({*cells}) == 1}
    shared = [index for index in sorted(alike) if header[index] in settings]
    blank = [index for index in sorted(alike.difference(shared)) if body[0][index] == "-"]
    headings = [f"{header[index]}: {body[0][index]}".replace(" ", "\0") for index in shared]
    headings += [f"no\0value: {', '.join(header[index] for index in blank)}"] if blank else []
    differing = [[cell for index, cell in enumerate(row) if index not in (*shared, *blank)] for row in rows]
    flush = header if left is None else left
    tables = [aligned(broken(table_rows, columns), flush) for table_rows in parted(differing, columns, flush)]
    return "\n\n".join([*([wrapped("; ".join(headings), columns)] if headings else []), *tables])


def parted(rows: list[list[str]], columns: int, left: Collection[str]) -> list[list[list[str]]]:
    """The columns of rows in as many tables as it takes to fit; those after the first begin with what tells rows apart:
    the column of words that has the most values."""
    cells = list(zip(*rows, strict=True))
    words = [index for index, column in enumerate(cells) if column[0] in left] or [0]
    key = max(words, key=lambda index: (len({*cells[index]}), -index))
    parts: list[list[int]] = [[]]
    for index in range(len(cells)):
        needed = sum(GAP + _narrowest(cells[column]) for column in (*parts[-1], index)) - GAP
        if needed > columns and len(parts[-1]) > 1:
            parts.append([key])
        parts[-1] += [index] if index not in parts[-1] else []
    return [[[row[index] for index in part] for row in rows] for part in parts]


def broken(rows: list[list[str]], columns: int) -> list[list[str]]:
    """Rows with cells broken at words, so that they fit if words do; what is left of a cell stands in further rows."""
    cells = list(zip(*rows, strict=True))
    sizes = [max(map(len, column)) for column in cells]
    narrow = [_narrowest(column) for column in cells]
    spare = sum(sizes) + GAP * (len(sizes) - 1) - columns
    while spare > 0 and (wide := [index for index in range(len(sizes)) if sizes[index] > narrow[index]]):
        # The column in which the fewest cells are broken, of several the widest.
        widest = min(wide, key=lambda index: (sum(len(cell) >= sizes[index] for cell in cells[index]), -sizes[index]))
        sizes[widest] -= 1
        spare -= 1
    lines: list[list[str]] = []
    for row in rows:
        parts = [
            [part.replace("\0", " ") for part in _lines(cell.replace("± ", "±\0"), size)] or [""]
            for cell, size in zip(row, sizes, strict=True)
        ]
        height = max(map(len, parts))
        lines += [[part[line] if line < len(part) else "" for part in parts] for line in range(height)]
    return lines


def _narrowest(cells: Sequence[str]) -> int:
    """The width that a column needs: that of its longest word."""
    return max(len(word) for cell in cells for word in cell.replace("± ", "±+").split() or [""])
