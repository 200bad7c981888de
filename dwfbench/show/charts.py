"""The report's charts: Vega-Lite specifications made with Altair, and the tables of points that they draw.

A specification names its tables ("runs", "means", ...) and holds no data: the page keeps every table once and hands
it over. Colours are CSS colours for light and dark pages in one, so that one drawing serves the screen, a dark screen
and print. Styles and their order are those of `figures`. Units as in `curves`, densities in percent.
"""

import altair as alt
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from dwfbench.runs.record import Layer
from dwfbench.show import figures

DIGITS = 5  # significant ones of a number in a table: finer than a pixel, far coarser than a file's limit
SHADES = 12  # steps between the weakest and the strongest strength
FEW_LAYERS = 5  # up to these a run's tooltip names every layer
DASH = 2  # matplotlib's dashes count line widths, of 2 pixels here
TEXT, FAINT = "light-dark(#3c4043,#c3c7cc)", "light-dark(#e6e6e6,#33373d)"

# What would be lost on a dark page, or be taken for another method there.
ON_DARK = {
    "#0b3d91": "#3f74e0",
    "#2f7fd0": "#55a0f0",
    "#6db6ea": "#8fcbf5",
    "#abd9f5": "#cdeafc",
    "#000000": "#f2f2f2",
    "#882255": "#c8508f",
    "#aa4499": "#c15fb0",
    "#8c564b": "#b07a6e",
    "#661100": "#c4452c",
    "#777777": "#8f959c",
    "white": "#16181d",
}

# Outlines in a box of -1 to 1, for Vega's points and the page's legend alike.
SHAPES = {
    "": "M-.7,0A.7,.7,0,1,1,.7,0A.7,.7,0,1,1,-.7,0Z",
    "o": "M-.7,0A.7,.7,0,1,1,.7,0A.7,.7,0,1,1,-.7,0Z",
    "P": "M-.3,-.8H.3V-.3H.8V.3H.3V.8H-.3V.3H-.8V-.3H-.3Z",
    "s": "M-.65,-.65H.65V.65H-.65Z",
    "^": "M0,-.8L.8,.7H-.8Z",
    "v": "M0,.8L.8,-.7H-.8Z",
    "<": "M-.8,0L.7,-.8V.8Z",
    ">": "M.8,0L-.7,-.8V.8Z",
    "X": "M-.75,-.45L-.45,-.75L0,-.3L.45,-.75L.75,-.45L.3,0L.75,.45L.45,.75L0,.3L-.45,.75L-.75,.45L-.3,0Z",
    "D": "M0,-.9L.9,0L0,.9L-.9,0Z",
    "d": "M0,-.9L.55,0L0,.9L-.55,0Z",
    "*": "M0,-1L.24,-.32L.95,-.31L.38,.12L.59,.81L0,.4L-.59,.81L-.38,.12L-.95,-.31L-.24,-.32Z",
    "h": "M0,-.85L.74,-.43V.43L0,.85L-.74,.43V-.43Z",
    "p": "M0,-.85L.81,-.26L.5,.69H-.5L-.81,-.26Z",
}

CONFIG = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **{"labelColor": TEXT, "titleColor": TEXT, "titleFontWeight": "normal", "labelFontSize": 11},
        **{"gridColor": FAINT, "domainColor": TEXT, "tickColor": TEXT, "titleFontSize": 12},
    },
}


def on_both(light: str, dark: str | None = None) -> str:
    """A colour for light pages and, after a comma, its stand-in for dark ones."""
    return f"light-dark({light},{dark or ON_DARK.get(light, light)})"


def scale(name: str, number: int) -> list[str]:
    """`number` colours of a matplotlib colour map, without the pale end on light and the dark end on dark pages."""
    colours = matplotlib.colormaps[name]
    light, dark = np.linspace(0, 0.88, number), np.linspace(0.42, 1, number)
    return [on_both(to_hex(colours(a)), to_hex(colours(b))) for a, b in zip(light, dark, strict=True)]


def legend(styles: dict[str, dict]) -> list[dict]:
    """What draws each label of `plots.styles`: label, stroke, fill (of the marker), shape (an outline), dash."""
    return [
        {
            "label": label,
            "stroke": on_both(style["color"]),
            "fill": on_both(style["markerfacecolor"]),
            "shape": SHAPES[style["marker"]],
            "dash": [1, 0] if style["linestyle"] == "-" else [DASH * part for part in style["linestyle"][1]],
        }
        for label, style in styles.items()
    ]


def table(frame: pd.DataFrame, columns: list[str]) -> dict:
    """A frame's columns for the page: {"columns": names, "rows": lists}, null for what is missing."""
    rows = frame[columns].astype(object).to_numpy().tolist()
    return {"columns": columns, "rows": [[_plain(value) for value in row] for row in rows]}


def _plain(value: object) -> object:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if value is None or value is pd.NA:
        return None
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, float):
        short = float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
        return int(short) if short is not None and short.is_integer() else short
    return str(value)


# --- accuracy -----------------------------------------------------------------------------------------------


def accuracy(entries: list[dict], crs: tuple[float, float], percents: tuple[float, float]) -> dict:
    """Test accuracy versus CR, of the tables "runs", "means" and "dense"; `entries` of `legend`.

    The page sets the list `hidden` of labels. Wheel with Ctrl or Command zooms, dragging moves, a double click resets.
    """
    hidden = alt.param(name="hidden", value=[])
    zoom = alt.selection_interval(
        name="zoom",
        bind="scales",
        zoom="wheel![event.ctrlKey || event.metaKey]",  # the bare wheel scrolls the page
        translate="[pointerdown[event.pointerType !== 'touch'], window:pointerup] > window:pointermove!",
    )
    x = alt.X("compression:Q").title("compression ratio").scale(type="log", domain=list(crs), nice=False)
    x = x.axis(labelExpr=CR_LABEL, labelBound=True, labelOverlap="greedy", labelSeparation=4)
    y = alt.Y("accuracy:Q").title("test accuracy (%)").scale(zero=False, domain=list(percents), nice=False)
    colour, dash = _by_label(alt.Stroke, entries, "stroke"), _by_label(alt.StrokeDash, entries, "dash")

    def of(name: str) -> alt.Chart:
        return alt.Chart(alt.NamedData(name), name=name).transform_filter("indexof(hidden, datum.label) < 0")

    dense = of("dense").mark_rule(strokeWidth=DASH, clip=True).encode(y=y, stroke=colour, strokeDash=dash)
    band = of("means").mark_area(opacity=0.15, clip=True).transform_filter("isValid(datum.lower)")
    band = band.encode(x=x, y=alt.Y("lower:Q"), y2="upper:Q", fill=_by_label(alt.Fill, entries, "stroke"))
    line = of("means").mark_line(strokeWidth=DASH, clip=True).encode(x=x, y=y, stroke=colour, strokeDash=dash)
    points = of("runs").mark_point(size=34, strokeWidth=1.2, clip=True, opacity=1)
    points = points.encode(
        x=x,
        y=y,
        stroke=colour,
        fill=_by_label(alt.Fill, entries, "fill"),
        shape=_by_label(alt.Shape, entries, "shape"),
        tooltip=RUN_TOOLTIP,
    )
    below = of("runs").transform_filter("datum.below").mark_point(size=40, shape=SHAPES["v"], strokeWidth=0, opacity=1)
    below = below.encode(x=x, y=alt.value("height"), fill=_by_label(alt.Fill, entries, "stroke"), tooltip=RUN_TOOLTIP)
    layered = alt.layer(
        dense,
        band.properties(name="bands"),
        line,
        points.add_params(zoom),
        below.properties(name="below"),
    ).resolve_scale(fill="independent")
    described = "Test accuracy against compression ratio, a line for every method and a point for every run"
    return _finished(layered.add_params(hidden), 420, described)


# 1, 2, 5, 10, ... over decades, every tick below one: the page may have zoomed in.
FIRST_DIGIT = "round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))"
WITHIN_A_DECADE = "domain('x')[1] < 10 * domain('x')[0]"
CR_LABEL = f"{WITHIN_A_DECADE} || indexof([1, 2, 5], {FIRST_DIGIT}) >= 0 ? format(datum.value, ',') : ''"

RUN_TOOLTIP = [
    alt.Tooltip("id:N").title("run"),
    alt.Tooltip("label:N").title("method"),
    alt.Tooltip("seed:Q").title("seed"),
    alt.Tooltip("knob:N").title("knob"),
    alt.Tooltip("compression:Q").title("CR").format(",.4~r"),
    alt.Tooltip("accuracy:Q").title("test accuracy (%)").format(".2f"),
    alt.Tooltip("layers:N").title("density of layers"),
]


def _by_label(channel: type, entries: list[dict], look: str) -> alt.SchemaBase:
    named = channel("label:N", legend=None)
    return named.scale(domain=[entry["label"] for entry in entries], range=[entry[look] for entry in entries])


def _ticks(low: float, high: float, most: int = 5) -> list[int]:
    """At most `most` round numbers on a short logarithmic axis."""
    ticks = [tick for tick in figures.TICKS if low <= tick <= high]
    return ticks[:: -(-len(ticks) // most)] if ticks else []


def layer_text(layers: list[Layer]) -> str:
    """Densities in a few words: "fc1 2.1 %, fc2 10 %"; of many layers the thinnest, the median and the densest."""
    found = [(100 * layer.nnz / layer.numel, layer.name.removesuffix(".weight")) for layer in layers]
    if len(found) <= FEW_LAYERS:
        return ", ".join(f"{name} {density:.3g} %" for density, name in found)
    low, high = min(found), max(found)
    middle = float(np.median([density for density, _ in found]))
    return f"{low[1]} {low[0]:.3g} % (thinnest), median {middle:.3g} %, {high[1]} {high[0]:.3g} % (densest)"


# --- layers and dynamics --------------------------------------------------------------------------------------


def layers(names: list[str], colours: list[str], crs: tuple[float, float], lowest: float) -> dict:
    """Density of each layer versus CR, of the table "layers"; the page sets the `label` that is shown.

    Density is percent, from `lowest` up; layers without any weight are marked on the lower edge.
    """
    x = alt.X("compression:Q").title("compression ratio").scale(type="log", domain=list(crs), nice=False)
    x = x.axis(format=",", labelOverlap=True, values=_ticks(*crs))
    y = alt.Y("density:Q").title("density (%)").scale(type="log", domain=[lowest, 100], nice=False)
    y = y.axis(format=",", labelOverlap=True, tickCount=4, gridOpacity=OF_TEN)
    base = alt.Chart(alt.NamedData("layers")).transform_filter("datum.label === label")

    def coloured(channel: type) -> alt.SchemaBase:
        return channel("layer:N", legend=None).scale(domain=names, range=colours)

    tooltip = [
        alt.Tooltip("layer:N").title("layer"),
        alt.Tooltip("compression:Q").title("CR").format(",.4~r"),
        alt.Tooltip("density:Q").title("density (%)").format(".3~r"),
    ]
    whole = base.transform_calculate(density="100 / datum.compression")
    whole = whole.mark_line(stroke=on_both("#777777"), strokeDash=[5, 3], strokeWidth=1, clip=True).encode(x=x, y=y)
    positive = base.transform_filter("datum.density > 0")
    line = positive.mark_line(strokeWidth=1.6).encode(x=x, y=y, stroke=coloured(alt.Stroke))
    points = positive.mark_point(size=16, shape=SHAPES["o"], strokeWidth=0, opacity=1)
    points = points.encode(x=x, y=y, fill=coloured(alt.Fill), tooltip=tooltip)
    empty = base.transform_filter("datum.density === 0").mark_point(
        size=40, shape=SHAPES["v"], strokeWidth=0, opacity=1
    )
    empty = empty.encode(x=x, y=alt.value("height"), fill=coloured(alt.Fill), tooltip=tooltip)
    parts = {"whole": whole, "lines": line, "points": points, "empty": empty}
    layered = alt.layer(*(part.properties(name=name) for name, part in parts.items()))
    described = "Density of each layer against compression ratio"
    return _finished(layered.add_params(alt.param(name="label", value="")), 170, described)


OF_TEN = alt.condition(
    "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6", alt.value(1), alt.value(0)
)
"""Grid lines at powers of ten only: a small chart has no room for those between."""

QUANTITIES = {
    "compression": "compression ratio",
    "val_accuracy": "validation accuracy (%)",
    "misalignment": "misalignment",
}


def dynamics(quantity: str) -> dict:
    """A quantity over the epochs, of the table "steps": a line per run, coloured by the column `shade`.

    The page sets the `label` that is shown. `shade` counts from 0 to SHADES - 1.
    """
    y = alt.Y(f"{quantity}:Q").title(QUANTITIES[quantity])
    if quantity == "val_accuracy":
        y = y.scale(zero=False).axis(tickCount=5)
    elif quantity == "compression":
        y = y.scale(type="log").axis(format=",", labelOverlap=True, tickCount=4, gridOpacity=OF_TEN)
    else:
        y = y.scale(type="log").axis(format="~e", labelOverlap=True, tickCount=4, gridOpacity=OF_TEN)
    shade = alt.Stroke("shade:O", legend=None).scale(domain=list(range(SHADES)), range=scale("plasma", SHADES))
    steps = alt.Chart(alt.NamedData("steps"), name="steps").transform_filter("datum.label === label")
    chart = steps.mark_line(strokeWidth=1.4, point=False).encode(
        x=alt.X("epoch:Q").title("epoch").axis(tickMinStep=1, tickCount=5),
        y=y,
        stroke=shade,
        detail="id:N",
        tooltip=[alt.Tooltip("id:N").title("run"), alt.Tooltip("knob:N").title("knob")],
    )
    return _finished(chart.add_params(alt.param(name="label", value="")), 170, f"{QUANTITIES[quantity]} over epochs")


def _finished(chart: alt.TopLevelMixin, height: int, description: str) -> dict:
    """As wide as its place on the page, described for screen readers."""
    return chart.properties(width="container", height=height, description=description, config=CONFIG).to_dict()
