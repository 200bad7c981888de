"""The command that draws figures. It imports all of them, as its help names them and their options, so that a file of a
figure with an error keeps no other command from its work.
"""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dwfbench.base.errors import UsageError
from dwfbench.base.files import replace
from dwfbench.base.streams import answer
from dwfbench.base.text import nearest
from dwfbench.cli.app import NOTHING, OK, SETTINGS, guarded, message
from dwfbench.cli.help import LAYOUT, Command, examples
from dwfbench.cli.options import described, flags_of, option, with_flags
from dwfbench.cli.sources import RESULTS, Cut, Debug, Listed, ResultSets, Tagged, nothing, places, stored_records
from dwfbench.cli.values import names
from dwfbench.runs import resultsets
from dwfbench.runs.resultsets import Source
from dwfbench.show.figures import Figure, figures
from dwfbench.show.layout import Layout

if TYPE_CHECKING:
    from dwfbench.analysis.resultset import ResultSet

app = typer.Typer(**SETTINGS)

ALL = "all"


def figure_flags() -> dict[str, tuple[Any, Any]]:
    """The options of the figures as flags, each with the figures that have it; their values are checked by these."""
    owners: dict[str, list[str]] = {}
    items: dict[str, Any] = {}
    for name, kind in figures().items():
        for item in fields(kind):
            owners.setdefault(item.name, []).append(name)
            items[item.name] = item
    return {
        name: option(item.type | None, f"of {', '.join(owners[name])}: {described(item)}")
        for name, item in items.items()
    }


@app.command(
    "plot",
    cls=Command,
    epilog=examples(
        "dwfbench plot dynamics --method dwf,l1",
        "dwfbench plot weights --compression 30",
        "dwfbench plot --width column --style paper --title none -o accuracy.pdf",
        "dwfbench plot all --results theirs.zip",
        note="\b\n" + "\n".join(["Figures:", *(f"  {name:<12}{kind.summary}" for name, kind in figures().items())]),
    ),
)
@guarded
@with_flags(figure_flags() | flags_of(Layout, LAYOUT))
def plot(
    kind: Annotated[
        str, typer.Argument(metavar="FIGURE", help="what to draw, or all that the runs allow")
    ] = "accuracy",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG, SVG, PDF or PGF (for LaTeX) [default: RESULTS/FIGURE.png]"),
    ] = None,
    results: ResultSets = RESULTS,
    dataset: Listed = None,
    model: Listed = None,
    method: Listed = None,
    threshold: Cut = None,
    tag: Tagged = None,
    debug: Debug = False,
    **given: Any,
) -> int:
    """Draw stored runs: accuracy against compression, or another figure."""
    said = {name: value for name, value in given.items() if value is not None}
    layout = Layout(**{item.name: said.pop(item.name) for item in fields(Layout) if item.name in said})
    chosen = chosen_figures(kind, said)
    if threshold is not None and not all(figure.recounts() for figure in chosen):
        recounted = ", ".join(name for name, known in figures().items() if known().recounts())
        raise UsageError(f"--threshold recounts the plot {recounted}, with its default axis, and no other.")
    if output is not None and kind == ALL:
        raise UsageError("--output names the file of one figure; leave it out with all.")
    from dwfbench.analysis.resultset import ResultSet

    named = resultsets.sources(results)
    needs = dict.fromkeys((need for figure in chosen for need in figure.needs), True)
    stored = ResultSet(stored_records(named, dataset, model, method, threshold, tag, **needs)).only(
        method=names(method)
    )
    written = [path for figure in chosen for path in draw(figure, stored, output, named, layout)]
    return OK if written else NOTHING


def chosen_figures(kind: str, given: dict[str, Any]) -> list[Figure]:
    """The figures of a name, with the options that were given for them."""
    known = figures()
    if kind not in (*known, ALL):
        choices = (*known, ALL)
        raise UsageError(f"There is no plot {kind!r}{nearest(kind, choices)} Choose one of {', '.join(choices)}.")
    taken = {name: {item.name for item in fields(figure)} for name, figure in known.items()}
    for flag in given:
        owners = [name for name in known if flag in taken[name]]
        if kind not in (*owners, ALL):
            raise UsageError(f"--{flag.replace('_', '-')} is an option of {', '.join(owners)}, not of {kind}.")
    chosen = known if kind == ALL else {kind: known[kind]}
    return [
        figure(**{flag: value for flag, value in given.items() if flag in taken[name]})
        for name, figure in chosen.items()
    ]


def draw(figure: Figure, stored: "ResultSet", output: Path | None, named: list[Source], layout: Layout) -> list[Path]:
    """The files of a figure, written and named on stdout; none, with a reason on stderr, where nothing can be drawn."""
    from dwfbench.show import files, tables

    frame = figure.frame(stored)
    if frame.empty:
        if figure.absent():
            message(f"No finished run in {places(named)} that fits {figure.absent()}")
        else:
            nothing(named)
        return []
    path = output or named[0].folder / f"{figure.name}.png"
    written = [path]
    drawing = figure.draw(frame)
    try:
        files.write(drawing, path, layout)
        for ending, table in figure.tables(stored).items():
            written.append(path.with_suffix(ending))
            replace(written[-1], tables.csv(table).encode())
    except OSError as error:
        raise UsageError(f"{written[-1]} cannot be written ({error.strerror or error}).") from None
    for path in written:
        answer(str(path))
    for sentence in layout.caption(drawing):
        message(f"For the caption: {sentence}")
    return written
