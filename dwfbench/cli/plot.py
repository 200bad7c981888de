"""The command that draws figures. It imports all of them, as its help names them and their options, so that a file of a
figure with an error keeps no other command from its work.
"""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dwfbench.base.errors import UsageError
from dwfbench.base.files import write
from dwfbench.base.streams import answer
from dwfbench.base.text import no_such
from dwfbench.cli.app import NOTHING, OK, SETTINGS, guarded, message
from dwfbench.cli.help import LAYOUT, Command, examples
from dwfbench.cli.options import described, flags_of, option, with_flags
from dwfbench.cli.sources import SELECTING, Debug, nothing, records_of, selected
from dwfbench.runs.selection import Selection
from dwfbench.runs.spec import from_given
from dwfbench.show.figures import Figure, figures
from dwfbench.show.layout import Layout

if TYPE_CHECKING:
    from dwfbench.analysis.resultset import ResultSet

app = typer.Typer(**SETTINGS)

ALL = "all"


def figure_flags() -> dict[str, tuple[Any, Any]]:
    """The options of the figures as flags, each with the figures that have it; their values are checked by these."""
    items: dict[str, Any] = {item.name: item for figure in figures().values() for item in fields(figure)}
    return {
        name: option(items[name].type | None, f"of {', '.join(owners)}: {described(items[name])}")
        for name, owners in owners_of_options().items()
    }


def owners_of_options() -> dict[str, list[str]]:
    """The figures that have an option, by its name."""
    owners: dict[str, list[str]] = {}
    for name, figure in figures().items():
        for item in fields(figure):
            owners.setdefault(item.name, []).append(name)
    return owners


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
@with_flags(SELECTING | figure_flags() | flags_of(Layout, LAYOUT))
def plot(
    kind: Annotated[
        str, typer.Argument(metavar="FIGURE", help="what to draw, or all that the runs allow")
    ] = "accuracy",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG, SVG, PDF or PGF (for LaTeX) [default: RESULTS/FIGURE.png]"),
    ] = None,
    debug: Debug = False,
    **given: Any,
) -> int:
    """Draw stored runs: accuracy against compression, or another figure."""
    layout, drawn = from_given(Layout, given), chosen_figures(kind, given)
    chosen = selected(given)
    if chosen.threshold is not None and not all(figure.recounts() for figure in drawn):
        recounted = ", ".join(name for name, known in figures().items() if known().recounts())
        raise UsageError(f"--threshold recounts the plot {recounted}, with its default axis, and no other.")
    if output is not None and kind == ALL:
        raise UsageError("--output names the file of one figure; leave it out with all.")
    from dwfbench.analysis.resultset import ResultSet

    records = records_of(chosen, {need for figure in drawn for need in figure.needs})
    stored = ResultSet(records).only(method=chosen.method)
    written = [path for figure in drawn for path in draw(figure, stored, output, chosen, layout)]
    return OK if written else NOTHING


def chosen_figures(kind: str, given: dict[str, Any]) -> list[Figure]:
    """The figures of a name, with the options that were given for them."""
    known = figures()
    if kind not in (choices := (*known, ALL)):
        raise UsageError(no_such("plot", kind, choices))
    for flag, owners in owners_of_options().items():
        if given[flag] is not None and kind not in (*owners, ALL):
            raise UsageError(f"--{flag.replace('_', '-')} is an option of {', '.join(owners)}, not of {kind}.")
    return [from_given(figure, given) for name, figure in known.items() if kind in (name, ALL)]


def draw(figure: Figure, stored: "ResultSet", output: Path | None, chosen: Selection, layout: Layout) -> list[Path]:
    """The files of a figure, written and named on stdout; none, with a reason on stderr, where nothing can be drawn."""
    from dwfbench.show import files, tables

    frame = figure.frame(stored)
    if frame.empty:
        if figure.absent():
            message(f"No finished run in {chosen.places} that fits {figure.absent()}")
        else:
            nothing(chosen)
        return []
    path = output or chosen.sources[0].folder / f"{figure.name}.png"
    drawing = figure.draw(frame)
    files.write(drawing, path, layout)
    beside = {path.with_suffix(ending): tables.csv(table) for ending, table in figure.tables(stored).items()}
    for place, text in beside.items():
        write(place, text.encode())
    written = [path, *beside]
    for place in written:
        answer(str(place))
    for sentence in layout.caption(drawing):
        message(f"For the caption: {sentence}")
    return written
