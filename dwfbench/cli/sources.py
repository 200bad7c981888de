"""What the commands that read results share: the flags that select runs, and their records."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dwfbench.cli.app import NOTHING, message
from dwfbench.cli.help import STORED
from dwfbench.cli.values import names
from dwfbench.runs import brackets
from dwfbench.runs.record import Record
from dwfbench.runs.selection import Selection

Results = Annotated[Path, typer.Option("--results", help="folder of the run records")]
ResultSets = Annotated[
    list[str],
    typer.Option(
        "--results",
        metavar="[LABEL=]PATH",
        help="folder or archive of run records; several are compared as one",
        rich_help_panel=STORED,
    ),
]
RESULTS = ["results"]
Format = Annotated[str, typer.Option(help="table, markdown, latex, csv or json")]
TableOrJson = Annotated[str, typer.Option(help="table or json")]
Data = Annotated[Path | None, typer.Option("--data-dir", help="where data sets lie, or are downloaded to")]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
Cut = Annotated[
    float | None,
    typer.Option(help="count weights below this as zero, as recorded [default: as trained]", rich_help_panel=STORED),
]
Listed = Annotated[str | None, typer.Option(help="only these, separated by commas", rich_help_panel=STORED)]
ListedMethods = Annotated[
    str | None,
    typer.Option(help='only these, separated by commas; "dwf[depth=3]" by settings, too', rich_help_panel=STORED),
]

Tagged = Annotated[
    str | None, typer.Option(help="only runs with one of these tags, separated by commas", rich_help_panel=STORED)
]

SELECTING: dict[str, tuple[Any, Any]] = {
    "results": (ResultSets, RESULTS),
    **dict.fromkeys(("dataset", "model"), (Listed, None)),
    "method": (ListedMethods, None),
    "threshold": (Cut, None),
    "tag": (Tagged, None),
}
"""The flags of a ``Selection``, by name: (annotation, default)."""


def selected(flags: Mapping[str, Any]) -> Selection:
    """What these flags select; a command may lack some."""
    texts = {name: flags.get(name) for name in ("dataset", "model", "tag")}
    listed = {name: names(text) for name, text in texts.items() if text is not None}
    if (text := flags.get("method")) is not None:
        listed["method"] = brackets.split(text)
    return Selection(tuple(flags["results"]), threshold=flags.get("threshold"), **listed)


def records_of(selection: Selection, needs: Iterable[str] = ()) -> list[Record]:
    """Its records; what is to be told of them is on stderr."""
    records, sentences = selection.load(needs)
    for sentence in sentences:
        message(sentence)
    return records


def nothing(selection: Selection, records: Iterable[Record] = ()) -> int:
    """Says that its ``records`` have nothing to show, but not without those that ended otherwise; the exit code."""
    untested = [record for record in records if record.status != "ok" or record.test_accuracy is None]
    statuses = Counter("not tested" if record.status == "ok" else record.status for record in untested)
    others = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    told = f" ({others})" if others else ""
    message(f"No finished run in {selection.places} fits{told}; train some with `dwfbench run`.")
    return NOTHING
