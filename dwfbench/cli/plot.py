"""The command that draws figures. It imports all of them, as its help names them and their options, so that a file of a
figure with an error keeps no other command from its work.
"""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dwfbench.base.errors import UsageError
from dwfbench.base.files import refuse_other, write
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
        note="\b\n" + "\n".join(["Figures:", *(f"  {name:<12}{figure.summary}" for name, figure in figures().items())]),
    ),
)
@guarded
@with_flags(SELECTING | figure_flags() | flags_of(Layout, LAYOUT))
def plot(
    figure_name: Annotated[
        str, typer.Argument(metavar="FIGURE", help="what to draw, or all that the runs allow")
    ] = "accuracy",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG, SVG, PDF or PGF (for LaTeX) [default: RESULTS/FIGURE.png]"),
    ] = None,
    debug: Debug = False,
    **flags: Any,
) -> int:
    """Draw stored runs: accuracy against compression, or another figure."""
    layout, drawn_figures = from_given(Layout, flags), chosen_figures(figure_name, flags)
    selection = selected(flags)
    if selection.threshold is not None and not all(figure.recounts() for figure in drawn_figures):
        recounted = ", ".join(name for name, figure in figures().items() if figure().recounts())
        raise UsageError(f"--threshold recounts the plot {recounted}, with its default axis, and no other.")
    if output is not None and figure_name == ALL:
        raise UsageError("--output names the file of one figure; leave it out with all.")
    from dwfbench.analysis.resultset import ResultSet

    records = records_of(selection, {need for figure in drawn_figures for need in figure.needs})
    stored = ResultSet(records).only(method=selection.method)
    paths = [path for figure in drawn_figures for path in draw(figure, stored, output, selection, layout)]
    return OK if paths else NOTHING


def chosen_figures(figure_name: str, flags: dict[str, Any]) -> list[Figure]:
    """The figures of a name, with the options that were given for them."""
    by_name = figures()
    if figure_name not in (choices := (*by_name, ALL)):
        raise UsageError(no_such("plot", figure_name, choices))
    for flag, owners in owners_of_options().items():
        if flags[flag] is not None and figure_name not in (*owners, ALL):
            raise UsageError(f"--{flag.replace('_', '-')} is an option of {', '.join(owners)}, not of {figure_name}.")
    return [from_given(figure, flags) for name, figure in by_name.items() if figure_name in (name, ALL)]


def draw(figure: Figure, stored: "ResultSet", output: Path | None, selection: Selection, layout: Layout) -> list[Path]:
    """The files of a figure, written and named on stdout; none, with a reason on stderr, where nothing can be drawn."""
    from dwfbench.show import files, tables

    frame = figure.frame(stored)
    if frame.empty:
        if figure.absent():
            message(f"No finished run in {selection.places} that fits {figure.absent()}")
        else:
            nothing(selection, stored.records.values())
        return []
    path = output or selection.sources[0].folder / f"{figure.name}.png"
    beside = {path.with_suffix(ending): tables.csv(table) for ending, table in figure.tables(stored).items()}
    for file, text in beside.items():
        refuse_other(file, text)
    drawing = figure.draw(frame)
    files.write(drawing, path, layout)
    for file, text in beside.items():
        write(file, text.encode())
    paths = [path, *beside]
    for file in paths:
        answer(str(file))
    for sentence in layout.caption(drawing):
        message(f"For the caption: {sentence}")
    return paths
