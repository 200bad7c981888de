"""Figures of the frames in `curves`, `dynamics` and `latency`: accuracy versus compression, density per layer, dynamics
of training, sizes of the weights, accuracy versus speed-up.

Every function takes a frame and writes one file, its format given by the ending (.png, .svg or .pdf),
parent folders included; equal frames give equal files. Each raises UsageError for another ending or for a
frame without rows.
A method has the same colour and marker in every figure; depths of DWF are shades of one blue, dark to light;
variants of a method differ in line style.
"""

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatter, MaxNLocator, NullLocator

from dwfbench.analysis import curves, frames
from dwfbench.analysis import dynamics as courses
from dwfbench.analysis import latency as measurements
from dwfbench.base.errors import UsageError
from dwfbench.base.text import short
from dwfbench.runs.store import replace

# Okabe and Ito's colours, completed by Tol's; told apart with any colour vision, and by the marker in print.
STYLES = {
    "dwf": ("#0b3d91", "o"),
    "spred": ("#cc79a7", "P"),
    "l1": ("#e69f00", "s"),
    "magnitude": ("#d55e00", "^"),
    "synflow": ("#000000", "X"),
    "snip": ("#009e73", "D"),
    "grasp": ("#882255", "v"),
    "random": ("#999933", "*"),
    "dense": ("#777777", ""),
}
SPARE = [("#44aa99", "h"), ("#aa4499", "<"), ("#8c564b", ">"), ("#f0e442", "d"), ("#661100", "p")]
DEPTH_COLOURS = ["#0b3d91", "#2f7fd0", "#6db6ea", "#abd9f5"]  # D = 2, 3, 4, deeper
WIDEST_BAND = 10  # points; a wider one would hide the others, and its runs show as much
LEGEND_LAYERS = 8  # more layers than these have a scale of colours instead of a legend
LINES: list[Any] = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2))]
SHADES = ListedColormap(matplotlib.colormaps["plasma"](np.linspace(0, 0.88, 256)))  # without pale yellow
BELOW: dict[str, Any] = {"marker": 11, "markersize": 5, "linestyle": ""}  # an arrow down to the lower edge
SPEEDS = [digit * 10.0**power for power in range(-3, 4) for digit in (1, 2, 5)]
TICKS = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.8,
    "savefig.dpi": 200,
    "svg.hashsalt": "dwfbench",
    "pdf.fonttype": 42,
}
QUANTITIES = {
    "compression": "compression ratio",
    "val_accuracy": "val. accuracy (%)",
    "misalignment": "misalignment",
    "norm": "norm",
}
ZERO_WIDTH = 0.7  # of the bar of zeros on the axis of log10 |w|
ZERO_LEFT = courses.FIRST_EDGE - 0.6 - ZERO_WIDTH
NO_DATES = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def accuracy(frame: pd.DataFrame, path: str | Path) -> None:
    """Test accuracy (%) versus CR of a `ResultSet.runs`, a panel per data set and model: a line through the
    mean over seeds with its band where that is no wider than `WIDEST_BAND`, small markers for the runs. Runs far
    below the rest are marked by arrows on the lower edge.
    """
    with _figure(frame, path) as figure:
        panels = list(frame.groupby(curves.PANEL))
        columns = min(len(panels), 3)
        rows = -(-len(panels) // columns)
        figure.set_size_inches(3.9 * columns + 1.7, 3.2 * rows)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        styles, means = line_styles(frame), curves.bands(frame)
        below = 0
        for axis, (panel, runs) in zip(axes, panels, strict=False):
            _accuracy_panel(axis, runs, _of(means, curves.PANEL, panel), styles)
            axis.set_title(_title(panel, runs))
            below += (runs["accuracy"] < axis.get_ylim()[0]).sum()
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
        if ((means["upper"] - means["lower"]) > WIDEST_BAND).any():
            handles.append(
                Line2D([], [], linestyle="", label=f"(bands wider than {WIDEST_BAND} points\nare not drawn)")
            )
        if below:
            handles.append(Line2D([], [], color="#777777", label="below the axis", **BELOW))
        figure.legend(handles=handles, loc="outside right center")


def layers(frame: pd.DataFrame, path: str | Path) -> None:
    """Density of each layer versus CR of a `ResultSet.layers` frame, both axes logarithmic: a panel per method,
    a line per layer from input (dark) to output (light), averaged over seeds. The dashed line is the density
    of the whole network; arrows on the lower edge are layers without any weight.
    """
    frame = frame[frame["method"] != "dense"]
    with _figure(frame, path) as figure:
        panels = list(frames.mean_layers(frame).groupby(curves.PANEL))
        rows = [-(-means["label"].nunique() // 4) for _, means in panels]
        columns = max(min(means["label"].nunique(), 4) for _, means in panels)
        figure.set_size_inches(2.0 * columns + 1.7, 1.8 * sum(rows) + 0.5 * len(panels))
        parts = figure.subfigures(len(panels), 1, height_ratios=rows, squeeze=False)[:, 0]
        for part, (panel, means), height in zip(parts, panels, rows, strict=True):
            part.suptitle(_title(panel, _of(frame, curves.PANEL, panel)), fontsize=9)
            _layers_part(part, means, height, columns)


def dynamics(frame: pd.DataFrame, path: str | Path, labels: list[str] | None = None) -> None:
    """CR, validation accuracy (%), misalignment and norm over the epochs, of a `dynamics.histories` frame: a row per
    curve, a line per strength or target compression (mean over seeds; the seeds are thin lines). A dot marks the
    first epoch with a CR above 1. Long courses of the accuracy are smoothed; of many knob values some are shown (see
    `dynamics.smoothed`, `dynamics.shown`). Shown are the curves `labels`, by default those turned by a strength (all,
    if there are none). A quantity that no run has is left out.
    """
    if labels is None:
        labels = list(frame.loc[frame["knob"] == "strength", "label"]) or list(frame["label"])
    frame = frame[frame["label"].isin(labels)]
    with _figure(frame, path) as figure:
        order = list(line_styles(frame))
        frame, window = courses.smoothed(frame)
        means = courses.mean_histories(frame)
        some = courses.shown(means)
        rows = sorted(some.groupby(curves.KEYS), key=lambda row: (*row[0][:2], order.index(row[0][2])))
        quantities = {
            name: title
            for name, title in QUANTITIES.items()
            if name in ("compression", "val_accuracy") or frame[name].notna().any()
        }
        figure.set_size_inches(2.3 * len(quantities) + 1.5, 1.75 * len(rows) + 0.6)
        axes = figure.subplots(len(rows), len(quantities), squeeze=False, sharex="row")
        for line, (key, lines) in zip(axes, rows, strict=True):
            _dynamics_row(line, lines, _of(frame, curves.KEYS, key), quantities)
            line[0].set_title(f"{key[2]} ({', '.join(key[:2])})", loc="left")
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        notes = ["Dots: first epoch with a compression ratio above 1."]
        if some["n"].max() > 1:
            notes.append("Thick lines: means over seeds (geometric, but for accuracy); thin lines: the seeds.")
        if window > 1:
            notes.append(f"Accuracy is a running mean over {window} recorded epochs.")
        if "norm" in quantities:
            notes.append(
                "Norm: sum of |w|^(2/D) over the prunable weights (L1: of |w|), the penalty without its strength."
            )
        if len(some) < len(means):
            notes.append(f"At most {courses.STRENGTHS} values a row, evenly spread in the log of the final CR.")
        figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=7.5, color="#555555")


def weights(frame: pd.DataFrame, path: str | Path) -> None:
    """Histograms of log10 |w| of a `dynamics.weights` frame: a row per curve, a column per epoch. The share of the
    weights that count as zero is the grey bar on the left, beyond the threshold (dashed).
    """
    with _figure(frame, path) as figure:
        styles = line_styles(frame)
        order = list(styles)
        rows = sorted(frame.groupby(curves.KEYS), key=lambda row: (*row[0][:2], order.index(row[0][2])))
        columns = int(frame.groupby(curves.KEYS)["epoch"].nunique().max())
        figure.set_size_inches(1.75 * columns + 1.3, 1.55 * len(rows) + 0.8)
        axes = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
        axes[0, 0].set_yscale("log")
        axes[0, 0].set_ylim(frame.loc[frame["share"] > 0, "share"].min() / 1.5, 400)  # room for a number above 100 %
        panels = sorted({key[:2] for key, _ in rows})
        if len(panels) == 1:
            figure.suptitle(", ".join(panels[0]), fontsize=9)
        for line, (key, bins) in zip(axes, rows, strict=True):
            _weights_row(line, bins, styles[key[2]]["color"])
            run = bins.iloc[0]
            parts = [*(key[:2] if len(panels) > 1 else ()), *textwrap.wrap(key[2], 24)]
            parts.append(f"λ = {run['knob_value']:.3g}, CR {short(run['compression'])}")
            line[0].set_ylabel("\n".join(parts), fontsize=7.5)
        figure.supxlabel("|w|", fontsize=8.5)
        figure.supylabel("share of the weights (%)", fontsize=8.5)


def latency(frame: pd.DataFrame, path: str | Path) -> None:
    """Test accuracy (%) versus CR, and beside it versus the measured speed-up over dense for every batch size, of a
    `latency.frame`: a row per data set and model; markers for the compact form, joined along the runs of a seed, and
    crosses for sparse CSR. The dashed line is dense's speed.
    """
    frame = frame[frame["form"] != "dense"]
    with _figure(frame, path) as figure:
        panels, batches = list(frame.groupby(curves.PANEL)), sorted(frame["batch"].unique())
        figure.set_size_inches(2.6 * (1 + len(batches)) + 1.7, 2.7 * len(panels) + 0.3)
        axes = figure.subplots(len(panels), 1 + len(batches), squeeze=False, sharey="row")
        styles = line_styles(frame)
        for line, (panel, rows) in zip(axes, panels, strict=True):
            runs = rows[rows["form"] == "compact"].drop_duplicates("id")
            _latency_panel(line[0], runs, "compression", styles)
            _cr_axis(line[0], runs["compression"], most=6)
            line[0].set(xlabel="compression ratio", ylabel="test accuracy (%)")
            line[0].set_title(_title(panel, runs), loc="left")
            for axis, batch in zip(line[1:], batches, strict=True):
                _latency_panel(axis, rows[rows["batch"] == batch], "speedup", styles)
                axis.axvline(1, color="#777777", linestyle=LINES[1], linewidth=0.8, zorder=1)
                axis.set(xscale="log", xlabel=f"speed-up, batch {batch}")
                axis.xaxis.set_major_locator(FixedLocator(SPEEDS))
                axis.xaxis.set_major_formatter(FuncFormatter(_tick))
                axis.xaxis.set_minor_locator(NullLocator())
        handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
        handles.append(Line2D([], [], label="sparse CSR", color="#777777", marker="x", linestyle=""))
        figure.legend(handles=handles, loc="outside right center")
        figure.supxlabel(
            "Speed-up: time of dense over that of the compact form (crosses: of sparse CSR), measured on "
            f"{' and '.join(measurements.places(frame))}.",
            x=0.01, ha="left", fontsize=7.5, color="#555555",
        )  # fmt: skip


@contextmanager
def _figure(frame: pd.DataFrame, path: str | Path) -> Iterator[Figure]:
    """An empty figure that is written to `path` at the end, wholly or not at all."""
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in NO_DATES:
        raise UsageError(f"A figure cannot be written as '{path.name}': end its name in .png, .svg or .pdf.")
    if frame.empty:
        raise UsageError("There is nothing to plot: no finished run matches.")
    # From the defaults: a user's matplotlibrc must not change the figures.
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **RC}):
        figure = Figure(layout="constrained")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = io.BytesIO()
        figure.savefig(picture, format=ending[1:], metadata=NO_DATES[ending])
        replace(path, picture.getvalue())


def line_styles(frame: pd.DataFrame) -> dict[str, dict]:
    """Line2D properties of every label, in the order of the legend: the canonical order of the methods, dense
    last.
    """
    known = dict.fromkeys(["method", "depth", "label"])
    rows = frame[[name for name in known if name in frame]].drop_duplicates()
    unknown = sorted(set(rows["method"]) - set(STYLES))
    looks = STYLES | {method: SPARE[i % len(SPARE)] for i, method in enumerate(unknown)}
    order = [*list(STYLES)[:-1], *unknown, "dense"]
    keyed = sorted(rows.itertuples(), key=lambda row: (order.index(row.method), _depth(row), row.label))
    styles: dict[str, dict] = {}
    variants: dict[tuple[str, int], dict[str, int]] = {}
    for row in keyed:
        colour, marker = looks[row.method]
        depth = _depth(row)
        if row.method == "dwf" and depth:
            colour = DEPTH_COLOURS[min(max(depth - 2, 0), len(DEPTH_COLOURS) - 1)]
        variant = variants.setdefault((row.method, depth), {}).setdefault(row.label, len(variants[row.method, depth]))
        styles[row.label] = {
            "color": colour,
            "marker": marker,
            "markerfacecolor": "white" if variant % 2 else colour,
            "linestyle": (0, (5, 2.5)) if row.method == "dense" else LINES[variant % len(LINES)],
        }
    return styles


def _depth(row: tuple) -> int:
    depth = getattr(row, "depth", np.nan)
    return 0 if np.isnan(depth) else int(depth)


# --- accuracy -----------------------------------------------------------------------------------------------


def _accuracy_panel(axis: Axes, runs: pd.DataFrame, means: pd.DataFrame, styles: dict[str, dict]) -> None:
    dense = set(runs.loc[runs["method"] == "dense", "label"])
    bottom, top = accuracy_limits(runs, means)
    for label in reversed([label for label in styles if label in set(runs["label"])]):
        style, mean = styles[label], means[means["label"] == label]
        line = {name: style[name] for name in ("color", "linestyle")}
        if label in dense:
            axis.axhline(runs.loc[runs["label"] == label, "accuracy"].mean(), zorder=1, **line)
            continue
        narrow = mean["upper"] - mean["lower"] <= WIDEST_BAND
        band = {"where": narrow, "color": style["color"], "alpha": 0.13, "lw": 0}
        axis.fill_between(mean["compression"], mean["lower"], mean["upper"], **band)
        axis.plot(mean["compression"], mean["accuracy"], zorder=3, **line)
        _points(axis, runs[runs["label"] == label], style, bottom)
    axis.set_ylim(bottom, top)
    _cr_axis(axis, runs.loc[~runs["label"].isin(dense), "compression"])
    axis.set_xlabel("compression ratio")
    axis.set_ylabel("test accuracy (%)")


def _points(axis: Axes, runs: pd.DataFrame, style: dict, bottom: float) -> None:
    """A marker for every run; an arrow on the lower edge for every run below it."""
    marker = {name: style[name] for name in ("color", "marker", "markerfacecolor")}
    axis.plot(
        runs["compression"],
        runs["accuracy"],
        linestyle="",
        zorder=4,
        markersize=3.4,
        markeredgewidth=0.7,
        **marker,
    )
    _edge_arrows(axis, runs.loc[runs["accuracy"] < bottom, "compression"], style["color"])


def _edge_arrows(axis: Axes, compressions: pd.Series, colour: str | tuple) -> None:
    transform = axis.get_xaxis_transform()
    options: dict[str, Any] = {
        "color": colour,
        "clip_on": False,
        "zorder": 5,
        "in_layout": False,
    }  # no room is needed for them
    axis.plot(compressions, np.full(len(compressions), 0.015), transform=transform, **BELOW, **options)


def accuracy_limits(runs: pd.DataFrame, means: pd.DataFrame) -> tuple[float, float]:
    """Ends of the accuracy axis: everything, unless the worst quarter of the runs would squeeze the others
    flat; never more than 25 points, or differences of one point could not be seen. Bands, which can be very wide, end
    at most 2 points above the best run.
    """
    lowest, quarter, best = runs["accuracy"].min(), runs["accuracy"].quantile(0.25), runs["accuracy"].max()
    bottom = max(lowest, best - min(2.5 * (best - quarter), 25))
    top = max(best, means["upper"].clip(upper=min(100, best + 2)).max()) if means["upper"].notna().any() else best
    margin = 0.04 * (top - bottom) or 0.5
    return bottom - margin, top + margin


# --- layers -------------------------------------------------------------------------------------------------


def _layers_part(part: SubFigure, means: pd.DataFrame, rows: int, columns: int) -> None:
    axes = part.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    names = means.sort_values("position").drop_duplicates("position")["layer"]
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(names)))
    labels = list(line_styles(means))
    for axis, label in zip(axes.flat, labels, strict=False):
        curve = means[means["label"] == label].sort_values("compression")
        for colour, (_, layer) in zip(colours, curve.groupby("position"), strict=False):
            density = layer["density"].where(layer["density"] > 0)
            axis.plot(layer["compression"], 100 * density, color=colour, marker=".")
            _edge_arrows(axis, layer.loc[layer["density"] == 0, "compression"], colour)
        whole = curve["compression"].drop_duplicates()
        axis.plot(whole, 100 / whole, color="#777777", linestyle=LINES[1], linewidth=1, zorder=1)
        axis.set_title(label)
    for position, axis in enumerate(axes.flat):
        axis.tick_params(labelbottom=position + columns >= len(labels))  # the lowest panel of every column
        if position >= len(labels):
            axis.set_axis_off()
    axes[0, 0].set_yscale("log")
    axes[0, 0].yaxis.set_major_formatter(FuncFormatter(_tick))
    _cr_axis(axes[0, 0], means["compression"], most=5)
    part.supxlabel("compression ratio", fontsize=8.5)
    part.supylabel("density of the layer (%)", fontsize=8.5)
    network = Line2D([], [], color="#777777", linestyle=LINES[1], linewidth=1, label="whole network")
    names = [name.removesuffix(".weight") for name in names]
    if len(names) > LEGEND_LAYERS:  # a legend of 20 lines is longer than the figure, a scale is not
        shown = np.unique(np.linspace(0, len(names) - 1, LEGEND_LAYERS).round().astype(int))
        scale = ScalarMappable(BoundaryNorm(np.arange(len(names) + 1) - 0.5, len(names)), ListedColormap(colours))
        bar = part.colorbar(scale, ax=axes, ticks=shown, aspect=30)
        bar.ax.set_yticklabels([names[position] for position in shown])
        bar.ax.invert_yaxis()  # the input above, as in the legend
        bar.ax.minorticks_off()
        part.legend(handles=[network], loc="outside lower right")
    else:
        pairs = zip(colours, names, strict=True)
        handles = [Line2D([], [], color=colour, label=name, marker=".") for colour, name in pairs]
        part.legend(handles=[*handles, network], loc="outside right center")


# --- dynamics -----------------------------------------------------------------------------------------------


def _dynamics_row(axes: np.ndarray, means: pd.DataFrame, runs: pd.DataFrame, quantities: dict[str, str]) -> None:
    values = sorted(means["knob_value"].dropna().unique()) or [np.nan]
    colours = dict(zip(values, SHADES(np.linspace(0, 1, len(values)) if len(values) > 1 else [0.6]), strict=True))
    for axis, (quantity, name) in zip(axes, quantities.items(), strict=True):
        axis.set_ylabel(name)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if means[quantity].isna().all():
            axis.set_axis_off()
            axis.text(0.5, 0.5, f"no {name}", ha="center", va="center", color="#777777", transform=axis.transAxes)
            continue
        if quantity != "val_accuracy":
            axis.set_yscale("log")
        for value, mean in means.groupby("knob_value", dropna=False):
            _course(axis, mean, _of(runs, ["knob_value"], (value,)), quantity, colours.get(value, SHADES(0.6)))
        if quantity == "misalignment":  # what lies below is rounding
            axis.set_ylim(bottom=max(axis.get_ylim()[0], 1e-12))
        if quantity == "val_accuracy":
            axis.set_ylim(_late_limits(means, runs))
        if quantity in ("compression", "norm"):
            axis.yaxis.set_major_formatter(FuncFormatter(_tick))
            axis.yaxis.set_minor_formatter(LogFormatter())  # speaks up only where powers of ten are too few
    finals = means.groupby("knob_value")["final_compression"].first()
    handles = [
        Line2D([], [], color=colours[value], label=f"{value:.3g}  (CR {short(cr)})") for value, cr in finals.items()
    ]
    title = "strength λ" if means["knob"].iloc[0] == "strength" else "target compression"
    axes[-1].legend(handles=handles, title=title, loc="center left", bbox_to_anchor=(1.02, 0.5), handlelength=1.2)


def _late_limits(means: pd.DataFrame, runs: pd.DataFrame) -> tuple[float, float]:
    """Ends of the accuracy axis: the rise in the first tenth of the epochs must not squeeze the rest flat."""
    drawn = runs[runs["knob_value"].isin(means["knob_value"])]
    late = drawn.loc[drawn["epoch"] > 0.1 * drawn["epoch"].max(), "val_accuracy"]
    lowest, best = late.min(), drawn["val_accuracy"].max()
    margin = 0.05 * (best - lowest) or 0.5
    return lowest - margin, best + margin


def _course(axis: Axes, mean: pd.DataFrame, runs: pd.DataFrame, quantity: str, colour: tuple) -> None:
    """The line of one knob value, its seeds, and the dot where it becomes sparse."""
    seeds = [run for _, run in runs.groupby("seed")]
    for run in seeds if len(seeds) > 1 else []:
        axis.plot(run["epoch"], run[quantity], color=colour, linewidth=0.5, alpha=0.45)
    axis.plot(mean["epoch"], mean[quantity], color=colour, linewidth=1.1, marker="." if len(mean) == 1 else "")
    sparse = mean[mean["compression"] > 1]
    axis.plot(sparse["epoch"][:1], sparse[quantity][:1], color=colour, marker="o", markersize=3.2, linestyle="")


# --- weights ------------------------------------------------------------------------------------------------


def _weights_row(axes: np.ndarray, bins: pd.DataFrame, colour: str) -> None:
    epochs = [rows for _, rows in bins.groupby("epoch")]
    for axis in axes[len(epochs) :]:
        axis.set_axis_off()
    for axis, rows in zip(axes, epochs, strict=False):
        zero, others = rows.iloc[0], rows.iloc[1:]
        epoch = zero["epoch"]
        axis.bar(others["low"], others["share"], others["high"] - others["low"], align="edge", color=colour)
        axis.bar(ZERO_LEFT, zero["share"], ZERO_WIDTH, align="edge", color="#888888")
        if zero["share"] > 0:
            share = f"{zero['share']:.3g}%" if zero["share"] >= 1 else f"{zero['share']:.1g}%"
            axis.text(ZERO_LEFT, zero["share"], share, va="bottom", fontsize=7, color="#555555", in_layout=False)
        axis.axvline(courses.FIRST_EDGE, color="#444444", linewidth=0.8, linestyle=LINES[1])
        axis.set_title(f"epoch {epoch:g}" + (" (onset)" if epoch == zero["onset"] else ""))
        axis.set_xticks([ZERO_LEFT + ZERO_WIDTH / 2, -6, -3, 0], ["0", "$10^{-6}$", "$10^{-3}$", "1"])
        axis.yaxis.set_major_formatter(FuncFormatter(_tick))


# --- latency ------------------------------------------------------------------------------------------------


def _latency_panel(axis: Axes, rows: pd.DataFrame, column: str, styles: dict[str, dict]) -> None:
    for label, style in styles.items():
        of_label = rows[rows["label"] == label].sort_values("compression")
        for _, runs in of_label[of_label["form"] == "compact"].groupby("seed"):
            axis.plot(runs[column], runs["accuracy"], linewidth=0.8, **style)
        if column == "speedup":
            sparse = of_label[of_label["form"] == "sparse"]
            axis.plot(sparse[column], sparse["accuracy"], color=style["color"], marker="x", linestyle="")


# --- shared -------------------------------------------------------------------------------------------------


def _of(frame: pd.DataFrame, columns: list[str], values: tuple) -> pd.DataFrame:
    return frame[(frame[columns] == list(values)).all(axis=1)]


def _title(panel: tuple, runs: pd.DataFrame) -> str:
    """ "mnist, lenet-300-100 (60 epochs, 3 seeds)", with ranges where curves differ."""
    parts = []
    if "epochs" in runs:
        parts.append(_count(runs["epochs"].min(), runs["epochs"].max(), "epoch"))
    seeds = runs.groupby("label")["seed"].nunique()
    parts.append(_count(seeds.min(), seeds.max(), "seed"))
    return f"{', '.join(panel)} ({', '.join(parts)})"


def _count(low: float, high: float, noun: str) -> str:
    return f"{low:g} {noun}{'s' if low != 1 else ''}" if low == high else f"{low:g}-{high:g} {noun}s"


def _cr_axis(axis: Axes, compressions: pd.Series, most: int = 9) -> None:
    """A logarithmic axis with at most `most` plain numbers."""
    if compressions.empty:
        return
    low, high = compressions.min() / 1.15, compressions.max() * 1.15
    axis.set_xlim(low, high)
    axis.set_xscale("log")
    ticks = [tick for tick in TICKS if low <= tick <= high] or [compressions.iloc[0]]
    axis.xaxis.set_major_locator(FixedLocator(ticks[:: -(-len(ticks) // most)]))
    axis.xaxis.set_major_formatter(FuncFormatter(_tick))
    axis.xaxis.set_minor_locator(NullLocator())


def _tick(value: float, _position: int) -> str:
    return short(value)
