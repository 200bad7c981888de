"""Accuracy versus compression, the figure of the benchmark."""

from dataclasses import dataclass, replace
from itertools import cycle
from statistics import median
from textwrap import fill
from typing import TYPE_CHECKING

from dwfbench.analysis.axes import AXES, CURVES, across, along
from dwfbench.base.text import knob, short
from dwfbench.show import looks, style
from dwfbench.show.drawing import Band, Drawing, Entry, Group, Ink, Legend, Line, Mark, Panel, Points, Rule
from dwfbench.show.figures import Figure, gap, option

if TYPE_CHECKING:
    import pandas as pd

    from dwfbench.runs.record import Layer, Record

FEW_LAYERS = 5  # up to these a run's details name every layer


@dataclass(frozen=True)
class Accuracy(Figure):
    """Lines are means over seeds, with their bands; points are runs. No line is drawn between runs that are far apart
    (--max-gap). The horizontal line is dense. Arrows on the lower edge are runs below the axis.
    """

    name = "accuracy"
    summary = "Accuracy versus compression"
    needs = ("measurement",)

    axis: str = option("compression", "what to draw it against", choices=AXES)
    max_gap: float = gap()
    published: bool = option(True, "numbers of others, where there are any, as open grey marks")

    def recounts(self):
        return self.axis == "compression"

    def absent(self):
        return "was measured; `dwfbench measure RUN` finds the bytes." if self.axis == "bytes" else ""

    def frame(self, results):
        runs = results.runs.assign(across=across(results, self.axis))
        runs = runs.assign(layers=[layers_of(results.records[run]) for run in runs["id"]])
        finite = runs["across"] < float("inf")
        return runs[finite | (runs["method"] == "dense")] if finite.any() else runs[finite]

    def draw(self, frame):
        import numpy as np

        from dwfbench.analysis import curves
        from dwfbench.analysis.cautions import off_target
        from dwfbench.analysis.published import published

        inks = looks.inks(frame)
        placed = along(frame, self.axis) if self.axis in CURVES else frame
        means = curves.bands(placed[placed["compression"].notna()], self.max_gap)
        astray = off_target(frame, self.max_gap) if self.axis in CURVES else []
        lined = [key not in astray for key in means[curves.KEYS].itertuples(index=False, name=None)]
        means = means[np.array(lined, dtype=bool)] if self.axis in CURVES else means[:0]
        wide = means["upper"] - means["lower"] > style.WIDEST_BAND
        means = means.assign(lower=means["lower"].mask(wide), upper=means["upper"].mask(wide))
        numbers = published() if self.published and self.axis == "compression" else published()[:0]
        panels = []
        for key, runs in frame.groupby(curves.PANEL):
            lines, points = (table[(table[curves.PANEL] == list(key)).all(axis=1)] for table in (means, numbers))
            panels.append(panel(style.heading(key, runs), AXES[self.axis], runs, lines, inks, of_others(points)))
        entries = [Entry(label, ink) for label, ink in inks.items()]
        marks = [mark for panel in panels for mark in panel.marks]
        entries += {mark.name: Entry(mark.name, mark.ink) for mark in marks if mark.name not in inks}.values()
        remarks = [f"(bands wider than {style.WIDEST_BAND} points\nare not drawn)"] if wide.any() else []
        if astray:
            labels = ", ".join(dict.fromkeys(label for *_, label in astray))
            remarks.append(fill(f"(no line: runs of {labels} end far from the CR asked for)", 32))
        legend = Legend(entries, remarks=remarks)
        return Drawing([Group(panels, min(len(panels), 3), large=True)], legend, size=(3.9, 3.2), margin=(1.7, 0))


def panel(
    title: str,
    axis: str,
    runs: "pd.DataFrame",
    means: "pd.DataFrame",
    inks: dict[str, Ink],
    published: list[Points],
) -> Panel:
    """One data set and model; what comes first in the legend lies above the others, open marks of others above all."""
    heights = [height for points in published for height in points.y]
    low, high = limits(runs, means)
    bottom, top = min([low, *(height - 0.2 for height in heights)]), max([high, *(height + 0.2 for height in heights)])
    marks: list[Mark] = []
    for label in reversed([label for label in inks if label in set(runs["label"])]):
        of_label = runs[runs["label"] == label]
        if (of_label["method"] == "dense").any():
            marks.append(Rule(inks[label], label, "y", of_label["accuracy"].mean()))
        else:
            marks += curve(label, inks[label], of_label, means[means["label"] == label])
    marks += published
    sparse = runs.loc[runs["method"] != "dense", "across"]
    x = style.ratio_axis(axis, [*sparse, *(ratio for points in published for ratio in points.x)], most=9)
    return Panel(x, style.score_axis(runs, low=bottom, high=top, most=12), marks, title)


def curve(label: str, ink: Ink, runs: "pd.DataFrame", mean: "pd.DataFrame") -> list[Mark]:
    """The mean with its band, and a marker for every run, or an arrow where it lies below the axis."""
    lines = [
        Band(replace(ink, alpha=0.13), label, mean["compression"], mean["lower"], mean["upper"]),
        Line(ink, label, mean["compression"], mean["accuracy"]),
    ]
    return [
        *(lines if len(mean) else []),
        Points(replace(ink, size=3.4), label, runs["across"], runs["accuracy"], details(runs), arrows=True),
    ]


def of_others(points: "pd.DataFrame") -> list[Points]:
    """Published results of a data set and model, a method at a time."""
    return [
        Points(
            Ink(style.GREY, marker, style.EMPTY, dash=None, size=5),
            f"{method} (published)",
            rows["compression"],
            rows["accuracy"],
            {
                "method": list(rows["method"]),
                "CR": [short(value, 4) for value in rows["compression"]],
                "test accuracy (%)": [f"{value:.2f}" for value in rows["accuracy"]],
                "source": list(rows["source"]),
            },
        )
        for marker, (method, rows) in zip(cycle("osD^v"), points.groupby("method"), strict=False)
    ]


def limits(runs: "pd.DataFrame", means: "pd.DataFrame") -> tuple[float, float]:
    """Ends of the accuracy axis: everything, unless the worst quarter of the runs would squeeze the others
    flat; never more than 25 points, or differences of one point could not be seen. Bands end at most 2 points above the
    best run.
    """
    lowest, quarter, best = runs["accuracy"].min(), runs["accuracy"].quantile(0.25), runs["accuracy"].max()
    bottom = max(lowest, best - min(2.5 * (best - quarter), 25))
    top = max(best, means["upper"].clip(upper=min(100, best + 2)).max()) if means["upper"].notna().any() else best
    margin = 0.04 * (top - bottom) or 0.5
    return bottom - margin, top + margin


# ---------------------------------------------------------------- what a page says of a run


def details(runs: "pd.DataFrame") -> dict[str, list[str]]:
    return {
        "run": list(runs["id"]),
        "method": list(runs["label"]),
        "seed": [f"{seed:d}" for seed in runs["seed"]],
        "knob": [knob(run.knob, run.knob_value) for run in runs.itertuples()],
        "CR": [short(value, 4) for value in runs["compression"]],
        style.score_axis(runs).label: [f"{value:.2f}" for value in runs["accuracy"]],
        "density of layers": list(runs["layers"]),
    }


def layers_of(record: "Record") -> str:
    """The densities of a run's layers; "-" where they were not counted at the threshold at which the run was."""
    return densities(record.layers) if sum(layer.nnz for layer in record.layers) == record.nnz else "-"


def densities(layers: "list[Layer]") -> str:
    """In a few words: "fc1 2.1 %, fc2 10 %"; of many layers the thinnest, the median and the densest."""
    listed = [(100 * layer.nnz / layer.numel, layer.name.removesuffix(".weight")) for layer in layers]
    if len(listed) <= FEW_LAYERS:
        return ", ".join(f"{name} {density:.3g} %" for density, name in listed)
    (low, thinnest), (high, densest) = min(listed), max(listed)
    middle = median(density for density, _ in listed)
    return f"{thinnest} {low:.3g} % (thinnest), median {middle:.3g} %, {densest} {high:.3g} % (densest)"
