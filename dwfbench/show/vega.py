"""Drawings as charts of a page: a Vega-Lite specification a panel, and the tables of points that it draws.

Colours are CSS colours for light and dark pages in one, so that one drawing serves the screen, a dark screen and print.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from dwfbench.show import drawing, style
from dwfbench.show.drawing import Arrows, Axis, Band, Bars, Ink, Line, Mark, Panel, Points, Rule, Text, bounded

DIGITS = 5  # significant ones of a number in a table: finer than a pixel, far coarser than a file's limit
LARGE, SMALL = 420, 170  # heights of charts, in pixels
MOST_POINTS = 100  # of a line in a small chart, where more could not be told apart
WIDTH = 1.5  # pixels of a line for each point of its width

TEXT, FAINT = "light-dark(#3c4043,#c3c7cc)", "light-dark(#e6e6e6,#33373d)"
CONFIG = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **{"labelColor": TEXT, "titleColor": TEXT, "titleFontWeight": "normal", "labelFontSize": 11},
        **{"gridColor": FAINT, "domainColor": TEXT, "tickColor": TEXT, "titleFontSize": 12},
    },
}

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
    "x": "M-.7,-.7L.7,.7M.7,-.7L-.7,.7",
    "below": "M0,.8L.8,-.7H-.8Z",
}
"""The markers as outlines in a box of -1 to 1, for Vega's points and the page's legend alike."""


def on_both(colour: str) -> str:
    """A colour for light pages and, after a comma, its stand-in for dark ones."""
    return f"light-dark({colour},{style.on_dark(colour)})"


def sample(label: str, ink: Ink) -> dict[str, Any]:
    """What the page's legend draws of an ink: label, stroke, fill and outline of the marker, dash (None: no line)."""
    dash = None if ink.dash is None else [2 * part for part in ink.dash] or [1, 0]
    look = {"stroke": on_both(ink.colour), "fill": on_both(ink.face or ink.colour), "dash": dash}
    return {"label": label, "shape": SHAPES[ink.marker] if ink.marker else "", **look}


def chart(panel: Panel, large: bool = False) -> dict[str, Any]:
    """A panel as {"spec": a specification, "tables": {name: {"columns": names, "rows": lists}}}.

    Of a large one the page sets the list `hidden` of names whose marks are not shown; wheel with Ctrl or Command zooms,
    dragging moves, a double click resets.
    """
    panel = bounded(panel)
    marks_by_layer: dict[tuple, list[Mark]] = {}
    for mark in panel.marks:  # a layer's marks are of one type and have the same details
        layer = (drawing.LAYERS.index(type(mark)), getattr(mark, "axis", ""), *getattr(mark, "details", ()))
        marks_by_layer.setdefault(layer, []).append(mark)
    layers: list[dict[str, Any]] = []
    tables: dict[str, dict[str, list]] = {}
    for number, axis, *details in sorted(marks_by_layer, key=lambda layer: layer[:2]):
        marks = marks_by_layer[number, axis, *details]
        name = f"{type(marks[0]).__name__.lower()}{axis}"
        name += f"{len(tables)}" * (name in tables)
        spec, tables[name] = _layer(name, marks, panel, large)
        layers.append(spec)
    words = f"{panel.y.label} against {panel.x.label}" + (f", {panel.title}" if panel.title else "")
    spec = {
        "width": "container",
        "height": LARGE if large else SMALL,
        "description": words,
        "params": [{"name": "hidden", "value": []}] if large else [],
        "layer": layers,
        "resolve": {"scale": dict.fromkeys(LOOKS, "independent")},
    }
    return {"spec": spec, "tables": tables}


# ---------------------------------------------------------------- layers


def _layer(name: str, marks: Sequence[Mark], panel: Panel, large: bool) -> tuple[dict[str, Any], dict[str, list]]:
    """Marks of one type and with the same details as a layer of a specification, and the table that it draws."""
    mark_type = type(marks[0])
    looks = list(dict.fromkeys((mark.name, mark.ink) for mark in marks))
    rows = [
        {"look": looks.index((mark.name, mark.ink)), **row}
        for number, mark in enumerate(marks)
        for row in _rows(mark, number, panel, large)
    ]
    encoding = _positions(marks[0], panel, large) | _look(mark_type, [ink for _, ink in looks])
    names = [name for name, _ in looks]
    spec: dict[str, Any] = {"name": name, "data": {"name": name}, "mark": MARKS[mark_type], "encoding": encoding}
    if titles := list(getattr(marks[0], "details", ())):
        encoding["tooltip"] = [
            {"field": f"detail{number}", "type": "nominal", "title": title} for number, title in enumerate(titles)
        ]
    elif mark_type is Line and any(names):
        spec["transform"] = [{"calculate": f"{json.dumps(names)}[datum.look]", "as": "name"}]
        encoding["tooltip"] = [{"field": "name", "type": "nominal", "title": "line"}]
    if large:
        spec["transform"] = [
            *spec.get("transform", []),
            {"filter": f"indexof(hidden, {json.dumps(names)}[datum.look]) < 0"},
        ]
        if name == "points":  # a parameter belongs to one layer
            spec["params"] = [ZOOM]
    return spec, table(rows)


MARKS: dict[type[Mark], dict[str, Any]] = {
    Rule: {"type": "rule", "clip": True},
    Band: {"type": "area", "clip": True},
    Bars: {"type": "rect", "clip": True},
    Line: {"type": "line", "clip": True},
    Points: {"type": "point", "clip": True, "opacity": 1},
    Arrows: {"type": "point", "size": 75, "strokeWidth": 1, "opacity": 1, "shape": SHAPES["below"], "yOffset": -4},
    Text: {"type": "text", "align": "left", "baseline": "bottom", "fontSize": 10},
}

ZOOM = {
    "name": "zoom",
    "bind": "scales",
    "select": {
        "type": "interval",
        "zoom": "wheel![event.ctrlKey || event.metaKey]",  # the bare wheel scrolls the page
        "translate": "[pointerdown[event.pointerType !== 'touch'], window:pointerup] > window:pointermove!",
    },
}


def _positions(mark: Mark, panel: Panel, large: bool) -> dict[str, Any]:
    """The channels of place, by which fields of the table's rows."""
    x, y = _axis(panel.x, "across", large), _axis(panel.y, "height", large)
    part = {"field": "part", "type": "nominal"}
    match mark:
        case Band():
            return {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "detail": part}
        case Bars():
            return {"x": x | {"field": "left"}, "x2": {"field": "right"}, "y": y, "y2": {"field": "low"}}
        case Arrows():
            return {"x": x, "y": {"value": "height"}}
        case Line():
            return {"x": x, "y": y, "detail": part, "order": {"value": None}}
        case Text():
            return {"x": x, "y": y, "text": {"field": "text", "type": "nominal"}}
        case Rule():
            return {"x": x} if mark.axis == "x" else {"y": y}
    return {"x": x, "y": y}


def _axis(axis: Axis, field: str, large: bool) -> dict[str, Any]:
    guide: dict[str, Any] = {"tickCount": axis.most, "labelOverlap": "greedy"}
    if axis.whole:
        guide["tickMinStep"] = 1
    if ticks := style.ticks_of(axis):
        texts = json.dumps(list(ticks.values()), ensure_ascii=False)
        guide |= {"values": list(ticks), "labelExpr": f"{texts}[indexof({json.dumps(list(ticks))}, datum.value)]"}
    if large and axis.scale == "log":
        guide = {"labelExpr": style.ZOOMED_LABEL, "labelBound": True, "labelOverlap": "greedy", "labelSeparation": 4}
    scale = {"type": axis.scale, "domain": list(map(_rounded, axis.ends)), "nice": False}
    if axis.scale == "linear":
        scale["zero"] = False
    return {"field": field, "type": "quantitative", "title": axis.label, "scale": scale, "axis": guide}


# ---------------------------------------------------------------- looks

LOOKS = ("stroke", "fill", "strokeDash", "strokeWidth", "opacity", "shape", "size")


def _look(mark_type: type[Mark], inks: Sequence[Ink]) -> dict[str, Any]:
    """The channels of looks, by the number of the ink."""
    stroke = [on_both(ink.colour) for ink in inks]
    fill = [on_both(ink.face or ink.colour) for ink in inks]
    lines: dict[str, list] = {
        "stroke": stroke,
        "strokeDash": [[2 * part for part in ink.dash or ()] or [1, 0] for ink in inks],
        "strokeWidth": [WIDTH * ink.width for ink in inks],
    }
    channels: dict[type[Mark], dict[str, list]] = {
        Rule: lines,
        Line: lines | {"opacity": [ink.alpha for ink in inks]},
        Band: {"fill": stroke, "opacity": [ink.alpha for ink in inks]},
        Bars: {"fill": stroke},
        Points: {
            **{"stroke": stroke, "fill": fill, "shape": [SHAPES[ink.marker] for ink in inks]},
            **{"size": [3 * ink.size**2 for ink in inks], "strokeWidth": [0.35 * ink.size for ink in inks]},
        },
        Arrows: {"stroke": stroke, "fill": fill},
        Text: {"fill": stroke},
    }
    return {channel: _of_ink(channel, values) for channel, values in channels[mark_type].items()}


def _of_ink(channel: str, values: list) -> dict[str, Any]:
    if all(value == values[0] for value in values):
        return {"value": values[0]}
    scale = {"domain": list(range(len(values))), "range": values}
    data_type = "ordinal" if channel in ("opacity", "size", "strokeWidth") else "nominal"
    return {"field": "look", "type": data_type, "scale": scale, "legend": None}


# ---------------------------------------------------------------- tables


def _rows(mark: Mark, part: int, panel: Panel, large: bool) -> Iterable[dict[str, Any]]:
    """The rows of a mark. Lines and bands are cut where they are broken: ``part`` tells the parts of all apart."""
    match mark:
        case Line():
            points = zip(mark.x, _above(mark.y, panel.y), strict=True)
            for number, run in enumerate(unbroken(points)):
                for x, y in run if large else spread(run, MOST_POINTS):
                    yield {"part": f"{part}.{number}", "across": x, "height": y}
        case Band():
            for number, run in enumerate(unbroken(zip(mark.x, mark.low, mark.high, strict=True))):
                yield from ({"part": f"{part}.{number}", "across": x, "low": low, "high": high} for x, low, high in run)
        case Bars():
            bars = [bar for bar in zip(mark.left, mark.right, mark.height, strict=True) if bar[2] > 0]
            yield from ({"left": left, "right": right, "height": top, "low": panel.y.low} for left, right, top in bars)
        case Points() | Arrows():
            heights = mark.y if isinstance(mark, Points) else [None] * len(mark.x)
            details = zip(*mark.details.values(), strict=True) if mark.details else [()] * len(mark.x)
            for x, y, texts in zip(mark.x, heights, details, strict=True):
                position = {"across": x} if y is None else {"across": x, "height": y}
                yield position | {f"detail{number}": text for number, text in enumerate(texts)}
        case Rule():
            yield {"across" if mark.axis == "x" else "height": mark.value}
        case Text():
            yield {"across": mark.x, "height": mark.y, "text": mark.text}


def _above(values: Iterable[float], axis: Axis) -> list[float]:
    """Values as a logarithmic axis can have them: what is not positive lies far below its end, and is clipped."""
    if axis.scale == "linear":
        return list(values)
    return [value if not value <= 0 else axis.ends[0] / 1e6 for value in values]


def unbroken(points: Iterable[tuple[float, ...]]) -> list[list[tuple[float, ...]]]:
    """The runs of points between those with a NaN."""
    runs = groupby(points, key=lambda point: not any(math.isnan(value) for value in point))
    return [list(run) for is_unbroken, run in runs if is_unbroken]


def spread(values: Sequence, most: int) -> list:
    """At most ``most`` of the values, evenly spread, with both ends."""
    last = len(values) - 1
    return [values[round(step * last / (most - 1))] for step in range(most)] if last >= most else list(values)


def table(rows: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """Rows as {"columns": names, "rows": lists}, with numbers rounded and null for what is missing."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return {"columns": columns, "rows": [[_rounded(row.get(name)) for name in columns] for row in rows]}


def _rounded(value: Any) -> Any:
    """A number with DIGITS significant digits, whole ones without a point; None for what is not finite."""
    if value is None or isinstance(value, str):
        return value
    if not math.isfinite(value):
        return None
    short = float(f"{float(value):.{DIGITS}g}")
    return int(short) if short.is_integer() else short
