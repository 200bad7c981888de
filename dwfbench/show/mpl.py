"""Drawings as files, by matplotlib: PNG, SVG, PDF, and PGF for LaTeX. Equal drawings give equal files.

What a user has set, in a matplotlibrc or in this process, is left as it is; the rest is ours.
"""

import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.backends.backend_pgf import LatexError
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.legend import Legend as MplLegend
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from dwfbench.base import escape
from dwfbench.base.errors import UsageError
from dwfbench.base.files import replace
from dwfbench.show import style
from dwfbench.show.drawing import (
    Arrows,
    Axis,
    Band,
    Bars,
    Drawing,
    Entry,
    Group,
    Ink,
    Legend,
    Line,
    Mark,
    Panel,
    Points,
    Rule,
    Text,
    bounded,
)
from dwfbench.show.layout import USUAL, Layout

RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": style.FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.dpi": 200,
    "svg.hashsalt": "dwfbench",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "pgf.texsystem": "pdflatex",
    "pgf.rcfonts": False,  # the document's
}
STYLES: dict[str, dict[Any, Any]] = {
    "screen": {},
    "paper": {
        "font.family": ["STIXGeneral", "serif"],  # letters of the second where the first has none
        "mathtext.fontset": "stix",
        **dict.fromkeys(("font.size", "axes.titlesize", "legend.fontsize", "legend.title_fontsize"), 8),
        **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
        **{
            "lines.linewidth": 1.1,
            "lines.markersize": 4.8,
            "grid.linewidth": 0.4,
            "xtick.major.size": 2.5,
            "ytick.major.size": 2.5,
            "savefig.dpi": 300,
        },
    },
}
BACKENDS = ("backend", "backend_fallback", "interactive", "toolbar")  # where windows open, of which there are none here
NO_DATES: dict[str, dict[str, Any]] = {
    ".png": {},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
    ".pgf": {},
}
NOTE: dict[str, Any] = {"x": 0.01, "ha": "left", "color": "#555555"}
ON_PANEL: dict[str, Any] = {"frameon": True, "framealpha": 0.8, "edgecolor": "none", "handlelength": 2}
NAMED = 8  # entries that a scale names

Type = TypeVar("Type", bound=Mark)


def write(drawing: Drawing, path: Path, layout: Layout = USUAL) -> None:
    """Write a drawing in the format of the path's ending, wholly or not at all, parent folders included.

    Raises UsageError for another ending, and where LaTeX, which a .pgf needs, is not there or fails.
    """
    ending = path.suffix.lower()
    if ending not in NO_DATES:
        raise UsageError(f"A figure cannot be written as '{path.name}': end its name in .png, .svg, .pdf or .pgf.")
    with matplotlib.rc_context(settings(layout.style)):
        latex = ending == ".pgf" or matplotlib.rcParams["text.usetex"]
        if ending == ".pgf" and not shutil.which(program := matplotlib.rcParams["pgf.texsystem"]):
            raise UsageError(f"{path.name} needs LaTeX: there is no program {program!r} here; .pdf needs none.")
        matplotlib.rcParams["text.parse_math"] = not latex  # which reads formulas itself
        picture = io.BytesIO()
        made = figure(layout.laid_out(drawing, in_latex if latex else without_formulas))
        try:
            made.savefig(picture, format=ending[1:], **NO_DATES[ending])
        except (LatexError, RuntimeError, ValueError) as error:
            if not latex:
                raise
            raise UsageError(f"LaTeX cannot set a text of this figure ({_reason(error)})") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, picture.getvalue())


def settings(look: str) -> dict[Any, Any]:
    """matplotlib's settings of a style: its defaults, ours, and above all what the user has set."""
    file = matplotlib.matplotlib_fname()
    inner = Path(matplotlib.get_data_path(), "matplotlibrc")
    own = (
        {}
        if inner.exists() and inner.samefile(file)
        else matplotlib.rc_params_from_file(file, use_default_template=False)
    )
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if name not in BACKENDS}
    here = {name: matplotlib.rcParams[name] for name in defaults if matplotlib.rcParams[name] != defaults[name]}
    return {
        name: value for name, value in {**defaults, **RC, **STYLES[look], **own, **here}.items() if name in defaults
    }


def without_formulas(text: str) -> str:
    """A text of a record, which may hold dollars and a formula that is none."""
    return text.replace("$", r"\$")


def in_latex(text: str) -> str:
    """A text of a record, or a number of ours, for LaTeX."""
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    return re.sub("[⁻⁰¹²³⁴-⁹]+", lambda part: f"$^{{{part[0].translate(raised)}}}$", escape.latex(text))


def _reason(error: Exception) -> str:
    """LaTeX's own words: the line that begins with an exclamation mark."""
    lines = str(error).splitlines()
    return next((line.lstrip("! ") for line in lines if line.startswith("!")), lines[0])


def figure(drawing: Drawing, made: Figure | None = None) -> Figure:
    """The figure of a drawing, in the style of the process; in ``made``, if given, which is empty."""
    rows, columns = sum(_rows(group) for group in drawing.groups), max(group.columns for group in drawing.groups)
    made = made or Figure()
    made.set_layout_engine("constrained")
    made.set_size_inches(
        drawing.size[0] * columns + drawing.margin[0], drawing.size[1] * rows + drawing.margin[1] + _titles(drawing)
    )
    grid = made.subplots(rows, columns, squeeze=False)
    panels: dict[tuple[int, int], Panel] = {}
    top = 0
    for group in drawing.groups:
        places = [(top + number // group.columns, number % group.columns) for number in range(len(group.panels))]
        panels |= dict(zip(places, map(bounded, group.panels), strict=True))
        top += _rows(group)
    for place, axes in np.ndenumerate(grid):
        _draw_panel(axes, panels.get(place))
        if place in panels:
            _leave_out(axes, place, panels)
    _label_groups(made, drawing, grid)
    if drawing.title:
        made.suptitle(drawing.title, fontsize=matplotlib.rcParams["axes.titlesize"])
    if drawing.legend and drawing.place == "inside":
        _add_legend(grid[0, 0], drawing.legend, loc="best", **ON_PANEL)
    elif drawing.legend and drawing.place == "below":
        _add_legend_below(made, drawing.legend)
    elif drawing.legend:
        _add_legend(made, drawing.legend, loc="outside right center")
    if drawing.notes:
        made.supxlabel("\n".join(drawing.notes), fontsize=matplotlib.rcParams["legend.fontsize"], **NOTE)
    return made


def _rows(group: Group) -> int:
    return -(-len(group.panels) // group.columns)


def _titles(drawing: Drawing) -> float:
    """Inches for the titles of groups that stand above those of panels, and for further lines."""
    above = sum(bool(group.title) and any(panel.title for panel in group.panels) for group in drawing.groups)
    lines = sum(
        max(text.count("\n") for text in (group.title, *(panel.title for panel in group.panels)))
        for group in drawing.groups
    )
    return 0.2 * above + 0.15 * lines + (0.25 if drawing.title else 0)


def _label_groups(made: Figure, drawing: Drawing, grid: np.ndarray) -> None:
    """Titles and legends of the groups. A title stands on its first panel, above that panel's own."""
    top = 0
    for group in drawing.groups:
        rows = grid[top : top + _rows(group)]
        top += len(rows)
        if group.title:
            above = "\n" if any(panel.title for panel in group.panels) else ""
            rows[0, 0].set_title(group.title + above, loc="left")
        if group.legend and (scale := group.legend.scale()):
            _add_scale(made, *scale, list(rows.flat))
        elif group.legend and group.legend.entries:
            beside = rows[0, group.columns - 1]
            _add_legend(beside, group.legend, loc="center left", bbox_to_anchor=(1.02, 0.5), handlelength=1.8)


# ---------------------------------------------------------------- panels


def _draw_panel(axes: Axes, panel: Panel | None) -> None:
    if panel is None or panel.absent:
        axes.set_axis_off()
        words = panel.absent if panel else ""
        axes.text(0.5, 0.5, words, ha="center", va="center", color=style.GREY, transform=axes.transAxes)
        return
    axes.set_title(panel.title)
    for direction, axis in (("x", panel.x), ("y", panel.y)):
        _set_axis(axes, direction, axis)
    for order, mark in enumerate(panel.marks):
        for artist in DRAWN[type(mark)](axes, mark):
            artist.set_zorder(LAYERS.index(type(mark)) + order / (1 + len(panel.marks)))


def _set_axis(axes: Axes, direction: str, axis: Axis) -> None:
    shown = {"x": axes.xaxis, "y": axes.yaxis}[direction]
    axes.set(**{f"{direction}scale": axis.scale, f"{direction}lim": axis.ends, f"{direction}label": axis.label})
    if axis.scale == "linear" and axis.ticks is None:
        shown.set_major_locator(MaxNLocator(axis.most, integer=axis.whole, steps=[1, 2, 2.5, 5, 10]))
        return
    ticks = style.ticks_of(axis) or {}
    shown.set_major_locator(FixedLocator(list(ticks)))
    shown.set_major_formatter(FuncFormatter(lambda value, _: ticks.get(value, "")))
    shown.set_minor_locator(NullLocator())


def _leave_out(axes: Axes, place: tuple[int, int], panels: dict[tuple[int, int], Panel]) -> None:
    """No numbers where the panel below or on the left has the same axis, and no label where it has the same label."""
    row, column = place
    lower = [panels[row, column] for row, below in sorted(panels) if row > place[0] and below == column]
    below = next((panel for panel in lower if not panel.absent), Panel())
    left = panels.get((row, column - 1), Panel())
    if below.x.label == panels[place].x.label:
        axes.set_xlabel("")
        axes.tick_params(labelbottom=below.x != panels[place].x)
    if left.y == panels[place].y:
        axes.set_ylabel("")
        axes.tick_params(labelleft=False)


# ---------------------------------------------------------------- marks


def _line(axes: Axes, mark: Line) -> Iterator[Any]:
    line = {name: value for name, value in _style(mark.ink).items() if not name.startswith("marker")}
    yield from axes.plot(_floats(mark.x), _floats(mark.y), **line)


def _points(axes: Axes, mark: Points) -> Iterator[Any]:
    points = _style(mark.ink) | {"linestyle": "", "markeredgewidth": 0.2 * mark.ink.size}
    yield from axes.plot(_floats(mark.x), _floats(mark.y), **points)


def _arrows(axes: Axes, mark: Arrows) -> Iterator[Any]:
    arrow: dict[str, Any] = {"marker": BELOW, "markersize": 5, "linestyle": "", "color": mark.ink.colour}
    edge: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "in_layout": False}
    low, high = axes.get_xlim()
    inside = [x for x in _floats(mark.x) if low <= x <= high]
    yield from axes.plot(inside, np.full(len(inside), 0.015), **arrow, **edge)


def _band(axes: Axes, mark: Band) -> Iterator[Any]:
    low, high = _floats(mark.low), _floats(mark.high)
    drawn = ~(np.isnan(low) | np.isnan(high))
    yield axes.fill_between(_floats(mark.x), low, high, where=drawn, color=mark.ink.colour, alpha=mark.ink.alpha, lw=0)


def _bars(axes: Axes, mark: Bars) -> Iterator[Any]:
    left, right = _floats(mark.left), _floats(mark.right)
    yield from axes.bar(left, _floats(mark.height), right - left, align="edge", color=mark.ink.colour)


def _rule(axes: Axes, mark: Rule) -> Iterator[Any]:
    line = {"color": mark.ink.colour, "linestyle": _dash(mark.ink), "linewidth": _style(mark.ink)["linewidth"]}
    yield (axes.axvline if mark.axis == "x" else axes.axhline)(mark.value, **line)


def _text(axes: Axes, mark: Text) -> Iterator[Any]:
    text = {"va": "bottom", "fontsize": matplotlib.rcParams["legend.fontsize"], "color": mark.ink.colour}
    yield axes.text(mark.x, mark.y, mark.text, in_layout=False, **text)


DRAWN: dict[type[Mark], Callable[[Axes, Any], Iterator[Any]]] = {
    Rule: _rule,
    Band: _band,
    Bars: _bars,
    Line: _line,
    Points: _points,
    Arrows: _arrows,
    Text: _text,
}
LAYERS = list(DRAWN)
"""What lies above what: the later marks."""
BELOW = 11  # matplotlib's number of an arrow down to the lower edge


def _style(ink: Ink) -> dict[str, Any]:
    return {
        "color": ink.colour,
        "linestyle": _dash(ink),
        "linewidth": ink.width * _scale("lines.linewidth"),
        "alpha": ink.alpha,
        "marker": BELOW if ink.marker == "below" else ink.marker,
        "markersize": ink.size * _scale("lines.markersize"),
        "markerfacecolor": ink.face or ink.colour,
    }


def _scale(name: Literal["lines.linewidth", "lines.markersize"]) -> float:
    """How much thicker or larger the style wants lines or markers than matplotlib's defaults have them."""
    return matplotlib.rcParams[name] / matplotlib.rcParamsDefault[name]


def _dash(ink: Ink) -> Any:
    return "" if ink.dash is None else (0, ink.dash) if ink.dash else "-"


def _floats(values: Any) -> np.ndarray:
    return np.asarray(values, float)


# ---------------------------------------------------------------- legends


def _add_legend(at: Figure | Axes, legend: Legend, **more: Any) -> MplLegend:
    handles = [Line2D([], [], label=_listed(entry.label), **_style(entry.ink)) for entry in legend.entries]
    handles += [Line2D([], [], label=remark, linestyle="") for remark in legend.remarks]
    return at.legend(handles=handles, title=legend.title or None, **{"handlelength": 2.8, **more})


def _add_legend_below(made: Figure, legend: Legend) -> None:
    """A legend in as many columns as fit, for which the figure grows."""
    renderer = RendererAgg(1, 1, made.dpi)
    for columns in range(6, 0, -1):
        box = _add_legend(made, legend, loc="outside lower center", ncols=columns, columnspacing=1.2, handlelength=2)
        extent = box.get_window_extent(renderer)
        if extent.width <= made.bbox.width or columns == 1:
            break
        box.remove()
    made.set_figheight(made.get_figheight() + extent.height / made.dpi)


def _listed(label: str) -> str:
    """matplotlib leaves out of a legend what begins with an underscore."""
    return f" {label}" if label.startswith("_") else label


def _add_scale(made: Figure, parts: Sequence[Entry], others: Sequence[Entry], axes: list[Axes]) -> None:
    """A scale of colours that names some of its parts, the first above, and a legend of the others below."""
    named = np.unique(np.linspace(0, len(parts) - 1, NAMED).round().astype(int))
    colours = ListedColormap([entry.ink.colour for entry in parts])
    scale = ScalarMappable(BoundaryNorm(np.arange(len(parts) + 1) - 0.5, len(parts)), colours)
    bar = made.colorbar(scale, ax=axes, ticks=named, aspect=30)
    bar.ax.set_yticklabels([parts[place].label for place in named])
    bar.ax.invert_yaxis()
    bar.ax.minorticks_off()
    if others:
        _add_legend(made, Legend(others), loc="outside lower right")
