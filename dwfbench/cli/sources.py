"""What the commands that read results share: the flags that name and choose them, and their records."""

from pathlib import Path
from typing import Annotated

import typer

from dwfbench.base.text import nearest
from dwfbench.cli.app import NOTHING, message
from dwfbench.cli.help import STORED
from dwfbench.cli.values import names
from dwfbench.runs import resultsets
from dwfbench.runs.record import Record
from dwfbench.runs.resultsets import Source

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
Data = Annotated[Path | None, typer.Option("--data-dir", help="where data sets lie, or are downloaded to")]
Debug = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
Cut = Annotated[
    float | None,
    typer.Option(help="count weights below this as zero, as recorded [default: as trained]", rich_help_panel=STORED),
]
Listed = Annotated[str | None, typer.Option(help="only these, separated by commas", rich_help_panel=STORED)]

Tagged = Annotated[
    str | None, typer.Option(help="only runs with one of these tags, separated by commas", rich_help_panel=STORED)
]


def stored_records(
    named: list[Source],
    dataset,
    model,
    method=None,
    threshold: float | None = None,
    tag=None,
    history: bool = False,
    weights: bool = False,
    measurement: bool = False,
) -> list[Record]:
    """Records of the result sets that pass the filters; damaged ones are named on stderr, and so are names without a
    run, such as misspelt ones.

    Commands filter by ``method`` later: labels and the dense reference come from all methods' runs.
    """
    from dwfbench.analysis.resultset import counted_at, filter_records

    records, damaged = resultsets.load(named, history, weights, measurement)
    for sentence in damaged:
        message(sentence)
    tell_absent(records, named, {"data set": names(dataset), "model": names(model), "method": names(method)})
    records = tagged(filter_records(records, names(dataset), names(model)), names(tag))
    return records if threshold is None else counted_at(records, threshold)


def tell_absent(records: list[Record], named: list[Source], wanted: dict[str, list[str] | None]) -> None:
    """A sentence for every name that no record has, with the nearest that one has."""
    for what, listed in wanted.items():
        own = sorted({getattr(record.spec, what.replace("data set", "dataset")) for record in records})
        known = [*own, *(name.partition("@")[0] for name in own)]
        for name in [name for name in listed or () if own and name not in known]:
            message(f"No run in {places(named)} is of the {what} {name!r}{nearest(name, own)} It has {', '.join(own)}.")


def tagged(records: list[Record], tags: list[str] | None) -> list[Record]:
    """The records with one of the tags; None lets everything through."""
    return records if tags is None else [each for each in records if not set(tags).isdisjoint(each.provenance.tags)]


def places(named: list[Source]) -> str:
    return " and ".join(str(source.path) for source in named)


def nothing(named: list[Source]) -> int:
    message(f"No finished run in {places(named)} fits; train some with `dwfbench run`.")
    return NOTHING
