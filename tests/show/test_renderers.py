"""The two renderers: what lies in a file of matplotlib is what lies in a chart of the page."""

import math

import numpy as np
import pytest

from dwfbench.analysis.resultset import ResultSet
from dwfbench.show import mpl, vega
from dwfbench.show.drawing import (
    Arrows,
    Axis,
    Band,
    Bars,
    Drawing,
    Group,
    Ink,
    Line,
    Panel,
    Points,
    Rule,
    bounded,
    cut,
    padded,
)
from dwfbench.show.figures import figures
from tests.deploy.test_measure import measured_runs
from tests.show.test_figures import METHODS, budgets, record, records

INK = Ink("#123456", "o")


def rows(chart, name):
    """The rows of a table as dicts, none where the chart has no such layer."""
    found = chart["tables"].get(name, {"columns": [], "rows": []})
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def rounded(*values):
    return tuple(float(f"{value:.5g}") for value in values)


def in_chart(panel):
    """What the page draws of a panel: points of lines, points, arrows and bars."""
    chart = vega.chart(panel)
    return {
        "lines": {rounded(row["across"], row["height"]) for row in rows(chart, "line")},
        "points": {rounded(row["across"], row["height"]) for row in rows(chart, "points")},
        "arrows": {rounded(row["across"]) for row in rows(chart, "arrows")},
        "bars": {rounded(row["left"], row["height"]) for row in rows(chart, "bars")},
        "bands": {rounded(row["across"], row["low"], row["high"]) for row in rows(chart, "band")},
        "rules": {rounded(row["across"]) for row in rows(chart, "rulex")}
        | {rounded(row["height"]) for row in rows(chart, "ruley")},
    }


def in_file(axes):
    """The same of axes of matplotlib."""
    found = {name: set() for name in ("lines", "points", "arrows", "bars", "bands", "rules")}
    for line in axes.lines:
        places = list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))
        if line.get_marker() == mpl.BELOW:
            found["arrows"] |= {rounded(x) for x, _ in places}
        elif line.get_transform() != axes.transData:
            across = line.get_ydata()[0] == 0
            found["rules"] |= {rounded(places[0][0 if across else 1])}
        else:
            kind = "points" if line.get_linestyle() == "None" else "lines"
            floor = axes.get_ylim()[0] / 1e6 if axes.get_yscale() == "log" else -math.inf
            found[kind] |= {rounded(x, y if y > 0 else max(y, floor)) for x, y in places if not math.isnan(y)}
    found["bars"] = {rounded(bar.get_x(), bar.get_height()) for bar in axes.patches if bar.get_height() > 0}
    for band in axes.collections:
        for path in band.get_paths():
            ends = {}
            for x, y in path.vertices:
                ends.setdefault(float(x), []).append(float(y))
            found["bands"] |= {rounded(x, min(ys), max(ys)) for x, ys in ends.items()}
    return found


EACH = [
    *(("accuracy", lambda: [*records(), record(*METHODS[3], 0, 100.0, accuracy=0.1)]),),
    *((name, records) for name in ("dynamics", "layers", "weights")),
    ("latency", measured_runs),
    ("budget", budgets),
]


@pytest.mark.parametrize(("name", "runs"), EACH, ids=[name for name, _ in EACH])
def test_both_renderers_draw_the_same(name, runs):
    figure = figures()[name]()
    drawing = figure.draw(figure.frame(ResultSet(runs())))
    made = mpl.figure(drawing)
    columns = max(group.columns for group in drawing.groups)
    top, compared = 0, 0
    for group in drawing.groups:
        for number, panel in enumerate(group.panels):
            axes = made.axes[(top + number // group.columns) * columns + number % group.columns]
            if not panel.absent:
                assert in_file(axes) == in_chart(panel)
                assert axes.get_title() == panel.title
                ends = (*bounded(panel).x.ends, *bounded(panel).y.ends)
                assert (*axes.get_xlim(), *axes.get_ylim()) == pytest.approx(ends)
                compared += sum(map(len, in_file(axes).values()))
        top += -(-len(group.panels) // group.columns)
    assert compared > 5


@pytest.mark.parametrize("method", [METHODS[0], METHODS[1], METHODS[3], METHODS[5]], ids=lambda method: method[1])
def test_every_method_is_drawn_alone(method):
    for kind in figures().values():
        figure = kind()
        frame = figure.frame(ResultSet(records(seeds=1, methods=[method])))
        if len(frame):
            drawing = figure.draw(frame)
            assert mpl.figure(drawing).axes
            assert all(vega.chart(panel)["tables"] for group in drawing.groups for panel in group.panels if panel.marks)


def test_looks_are_the_same():
    panel = Panel(marks=[Line(INK, "a", [1, 2], [1, 2]), Line(Ink("#654321", dash=(4, 2)), "b", [1, 2], [2, 1])])
    drawn = mpl.figure(Drawing([Group([panel], 1)])).axes[0].lines
    assert [(line.get_color(), line.is_dashed()) for line in drawn] == [("#123456", False), ("#654321", True)]
    encoding = vega.chart(panel)["spec"]["layer"][0]["encoding"]
    assert [colour.split("(")[1].split(",")[0] for colour in encoding["stroke"]["scale"]["range"]] == [
        *("#123456", "#654321")
    ]
    assert encoding["strokeDash"]["scale"]["range"] == [[1, 0], [8, 4]]


def test_a_line_and_a_band_are_broken_where_a_number_is_missing():
    nan = math.nan
    panel = Panel(
        marks=[Line(INK, "", [1, 2, 3, 4], [1, nan, 3, 4]), Band(INK, "", [1, 2, 3], [0, 0, nan], [nan, 2, 2])]
    )
    chart = vega.chart(panel)
    parts = [(row["part"], row["across"]) for row in rows(chart, "line")]
    assert parts == [("0.0", 1), ("0.1", 3), ("0.1", 4)]
    assert [(row["across"], row["low"], row["high"]) for row in rows(chart, "band")] == [(2, 0, 2)]
    assert np.isnan(mpl.figure(Drawing([Group([panel], 1)])).axes[0].lines[0].get_ydata()[1])


def test_a_line_is_cut_between_runs_that_are_too_far_apart():
    nan = pytest.approx(math.nan, nan_ok=True)
    assert cut([1, 2, 4, 9], [5, 6, 7, 8], [1, 2, 4, 9], 2) == ([1, 2, 4, nan, 9], [5, 6, 7, nan, 8])
    assert cut([1, 2, 4, 9], [5, 6, 7, 8], [1, 2, 4, 9], 2.25) == ([1, 2, 4, 9], [5, 6, 7, 8])
    assert cut([], [], [], 2) == ([], [])


@pytest.mark.parametrize("name", ["accuracy", "latency", "layers"])
@pytest.mark.parametrize(("max_gap", "whole"), [(2, False), (6, True)])
def test_no_figure_draws_a_line_over_a_gap(name, max_gap, whole):
    """Of runs at CR 2, 10 and 30, and of measured ones at 9 and 30."""
    figure = figures()[name](max_gap=max_gap)
    drawing = figure.draw(figure.frame(ResultSet(measured_runs() if name == "latency" else records())))
    marks = [mark for group in drawing.groups for panel in group.panels for mark in panel.marks]
    lines = [mark for mark in marks if type(mark) is Line and mark.name != "whole network"]
    drawn = [piece for line in lines for piece in vega.unbroken(zip(line.x, line.y, strict=True)) if len(piece) > 1]
    assert lines
    assert bool(drawn) is whole


def test_what_is_not_positive_lies_below_a_logarithmic_axis():
    panel = Panel(
        y=Axis(scale="log", low=0.1), marks=[Line(INK, "", [1, 2], [1, 0]), Bars(INK, "", [0, 1], [1, 2], [0, 1])]
    )
    chart = vega.chart(panel)
    assert [row["height"] for row in rows(chart, "line")] == [1, pytest.approx(1e-7)]
    assert [(row["left"], row["low"], row["height"]) for row in rows(chart, "bars")] == [(1, 0.1, 1)]


def test_long_lines_of_small_charts_keep_their_ends():
    line = Line(INK, "", list(range(1000)), [1.0] * 1000)
    small = [row["across"] for row in rows(vega.chart(Panel(marks=[line])), "line")]
    assert (len(small), small[0], small[-1]) == (vega.MOST_POINTS, 0, 999)
    assert len(rows(vega.chart(Panel(marks=[line]), large=True), "line")) == 1000


def test_every_mark_of_a_large_chart_can_be_hidden_and_explained():
    details = {"run": ["a", "b"]}
    marks = [Points(INK, "one", [1, 2], [3, 4], details), Arrows(INK, "two", [1], {"run": ["c"]}), Rule(INK, "three")]
    spec = vega.chart(Panel(marks=marks), large=True)["spec"]
    assert spec["params"] == [{"name": "hidden", "value": []}]
    assert [layer["transform"][-1]["filter"] for layer in spec["layer"]] == [
        f'indexof(hidden, ["{name}"][datum.look]) < 0' for name in ("three", "one", "two")
    ]
    assert spec["layer"][1]["encoding"]["tooltip"] == [{"field": "detail0", "type": "nominal", "title": "run"}]


def test_points_of_other_details_are_explained_by_their_own():
    runs = Points(INK, "one", [1], [3], {"run": ["a"], "seed": ["0"]})
    published = Points(INK, "two", [2], [4], {"method": ["b"], "source": ["a paper"]})
    chart = vega.chart(Panel(marks=[runs, published, runs]), large=True)
    titles = {
        layer["name"]: [entry["title"] for entry in layer["encoding"]["tooltip"]] for layer in chart["spec"]["layer"]
    }
    assert titles == {"points": ["run", "seed"], "points1": ["method", "source"]}
    assert [len(chart["tables"][name]["rows"]) for name in titles] == [2, 1]
    assert ["params" in layer for layer in chart["spec"]["layer"]] == [True, False]


def test_tables_hold_plain_numbers():
    made = vega.table([{"a": np.float64(1), "b": "x"}, {"a": math.nan, "b": None}, {"a": 123.456789, "b": "y"}])
    assert made == {"columns": ["a", "b"], "rows": [[1, "x"], [None, None], [123.46, "y"]]}
    assert type(made["rows"][0][0]) is int


@pytest.mark.parametrize(
    ("values", "log", "ends"),
    [
        ([1, 3], False, (0.9, 3.1)),
        ([2], False, (1.9, 2.1)),
        ([0], False, (-0.5, 0.5)),
        ([], False, (0, 1)),
        ([], True, (1, 10)),
    ],
)
def test_ends_of_axes(values, log, ends):
    assert padded(values, log) == pytest.approx(ends)


def test_the_ends_of_a_logarithmic_axis_are_as_far_from_the_marks_in_its_logarithm():
    low, high = padded([1, 100], log=True)
    assert (low, high) == pytest.approx((10**-0.1, 10**2.1))
