"""Drawings as figures of matplotlib, in the style of the process."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.legend import Legend as MplLegend
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from dwfbench.show import style
from dwfbench.show.drawing import (
    LAYERS,
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

NOTE: dict[str, Any] = {"x": 0.01, "ha": "left", "color": "#555555"}
ON_PANEL: dict[str, Any] = {"frameon": True, "framealpha": 0.8, "edgecolor": "none", "handlelength": 2}
NAMED = 8  # entries that a scale names


def figure(drawing: Drawing, fig: Figure | None = None) -> Figure:
    """The figure of a drawing, in the style of the process; in ``fig``, if given, which is empty."""
    rows, columns = sum(_rows(group) for group in drawing.groups), max(group.columns for group in drawing.groups)
    fig = fig or Figure()
    fig.set_layout_engine("constrained")
    fig.set_size_inches(
        drawing.size[0] * columns + drawing.margin[0], drawing.size[1] * rows + drawing.margin[1] + _titles(drawing)
    )
    grid = fig.subplots(rows, columns, squeeze=False)
    panels: dict[tuple[int, int], Panel] = {}
    top = 0
    for group in drawing.groups:
        cells = [(top + number // group.columns, number % group.columns) for number in range(len(group.panels))]
        panels |= dict(zip(cells, map(bounded, group.panels), strict=True))
        top += _rows(group)
    for cell, axes in np.ndenumerate(grid):
        _draw_panel(axes, panels.get(cell))
        if cell in panels:
            _leave_out(axes, cell, panels)
    _label_groups(fig, drawing, grid)
    if drawing.title:
        fig.suptitle(drawing.title, fontsize=matplotlib.rcParams["axes.titlesize"])
    if drawing.legend and drawing.place == "inside":
        _add_legend(grid[0, 0], drawing.legend, loc="best", **ON_PANEL)
    elif drawing.legend and drawing.place == "below":
        _add_legend_below(fig, drawing.legend)
    elif drawing.legend:
        _add_legend_beside(fig, drawing.legend)
    if drawing.notes:
        fig.supxlabel("\n".join(drawing.notes), fontsize=matplotlib.rcParams["legend.fontsize"], **NOTE)
    return fig


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


def _label_groups(fig: Figure, drawing: Drawing, grid: np.ndarray) -> None:
    """Titles and legends of the groups. A title stands on its first panel, above that panel's own."""
    top = 0
    for group in drawing.groups:
        rows = grid[top : top + _rows(group)]
        top += len(rows)
        if group.title:
            above = "\n" if any(panel.title for panel in group.panels) else ""
            rows[0, 0].set_title(group.title + above, loc="left")
        if group.legend and (scale := group.legend.scale()):
            _add_scale(fig, *scale, list(rows.flat))
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
    mpl_axis = {"x": axes.xaxis, "y": axes.yaxis}[direction]
    axes.set(**{f"{direction}scale": axis.scale, f"{direction}lim": axis.ends, f"{direction}label": axis.label})
    if axis.scale == "linear" and axis.ticks is None:
        mpl_axis.set_major_locator(MaxNLocator(axis.most, integer=axis.whole, steps=[1, 2, 2.5, 5, 10]))
        return
    ticks = style.ticks_of(axis) or {}
    mpl_axis.set_major_locator(FixedLocator(list(ticks)))
    mpl_axis.set_major_formatter(FuncFormatter(lambda value, _: ticks.get(value, "")))
    mpl_axis.set_minor_locator(NullLocator())


def _leave_out(axes: Axes, cell: tuple[int, int], panels: dict[tuple[int, int], Panel]) -> None:
    """No numbers where the panel below or on the left has the same axis, and no label where it has the same label."""
    row, column = cell
    lower = [panels[row, column] for row, below in sorted(panels) if row > cell[0] and below == column]
    below = next((panel for panel in lower if not panel.absent), Panel())
    left = panels.get((row, column - 1), Panel())
    if below.x.label == panels[cell].x.label:
        axes.set_xlabel("")
        axes.tick_params(labelbottom=below.x != panels[cell].x)
    if left.y == panels[cell].y:
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
    arrow["markerfacecolor"] = _style(mark.ink)["markerfacecolor"]
    edge: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "in_layout": False}
    low, high = axes.get_xlim()
    inside = [x for x in _floats(mark.x) if low <= x <= high]
    yield from axes.plot(inside, np.full(len(inside), 0.015), **arrow, **edge)


def _band(axes: Axes, mark: Band) -> Iterator[Any]:
    low, high = _floats(mark.low), _floats(mark.high)
    valid = ~(np.isnan(low) | np.isnan(high))
    yield axes.fill_between(_floats(mark.x), low, high, where=valid, color=mark.ink.colour, alpha=mark.ink.alpha, lw=0)


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
BELOW = 11  # matplotlib's number of an arrow down to the lower edge


def _style(ink: Ink) -> dict[str, Any]:
    return {
        "color": ink.colour,
        "linestyle": _dash(ink),
        "linewidth": ink.width * _scale("lines.linewidth"),
        "alpha": ink.alpha,
        "marker": BELOW if ink.marker == "below" else ink.marker,
        "markersize": ink.size * _scale("lines.markersize"),
        "markerfacecolor": "none" if ink.face == style.EMPTY else ink.face or ink.colour,
    }


def _scale(name: Literal["lines.linewidth", "lines.markersize"]) -> float:
    """How much thicker or larger the style wants lines or markers than matplotlib's defaults have them."""
    return matplotlib.rcParams[name] / matplotlib.rcParamsDefault[name]


def _dash(ink: Ink) -> Any:
    return "" if ink.dash is None else (0, ink.dash) if ink.dash else "-"


def _floats(values: Any) -> np.ndarray:
    return np.asarray(values, float)


# ---------------------------------------------------------------- legends


def _add_legend(parent: Figure | Axes, legend: Legend, **options: Any) -> MplLegend:
    handles = [Line2D([], [], label=_listed(entry.label), **_style(entry.ink)) for entry in legend.entries]
    handles += [Line2D([], [], label=remark, linestyle="") for remark in legend.remarks]
    return parent.legend(handles=handles, title=legend.title or None, **{"handlelength": 2.8, **options})


def _add_legend_beside(fig: Figure, legend: Legend) -> None:
    """A legend on the right; the figure grows where that is taller."""
    extent = _add_legend(fig, legend, loc="outside right center").get_window_extent(RendererAgg(1, 1, fig.dpi))
    fig.set_figheight(max(fig.get_figheight(), extent.height / fig.dpi + 0.1))


def _add_legend_below(fig: Figure, legend: Legend) -> None:
    """A legend in as many columns as fit, for which the figure grows."""
    renderer = RendererAgg(1, 1, fig.dpi)
    for columns in range(6, 0, -1):
        box = _add_legend(fig, legend, loc="outside lower center", ncols=columns, columnspacing=1.2, handlelength=2)
        extent = box.get_window_extent(renderer)
        if extent.width <= fig.bbox.width or columns == 1:
            break
        box.remove()
    fig.set_figheight(fig.get_figheight() + extent.height / fig.dpi)


def _listed(label: str) -> str:
    """matplotlib leaves out of a legend what begins with an underscore."""
    return f" {label}" if label.startswith("_") else label


def _add_scale(fig: Figure, steps: Sequence[Entry], lines: Sequence[Entry], axes: list[Axes]) -> None:
    """A scale of colours that names some of its parts, the first above, and a legend of the others below."""
    ticks = np.unique(np.linspace(0, len(steps) - 1, NAMED).round().astype(int))
    colours = ListedColormap([entry.ink.colour for entry in steps])
    scale = ScalarMappable(BoundaryNorm(np.arange(len(steps) + 1) - 0.5, len(steps)), colours)
    bar = fig.colorbar(scale, ax=axes, ticks=ticks, aspect=30)
    bar.ax.set_yticklabels([steps[tick].label for tick in ticks])
    bar.ax.invert_yaxis()
    bar.ax.minorticks_off()
    if lines:
        _add_legend(fig, Legend(lines), loc="outside lower right")
