"""How the layers share what is kept of a network."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dwfbench.base.text import short
from dwfbench.show import looks, style
from dwfbench.show.drawing import Arrows, Axis, Drawing, Entry, Group, Ink, Legend, Line, Mark, Panel, Points, cut
from dwfbench.show.figures import Figure, gap

if TYPE_CHECKING:
    import pandas as pd

WHOLE = Ink(style.GREY, dash=style.DASHED, width=1)


@dataclass(frozen=True)
class Layers(Figure):
    """Density of each layer, nnz / numel, averaged over seeds, a line for each from the input (dark) to the output
    (light). The dashed line is the density of the whole network; arrows on the lower edge are layers without weights.
    """

    name = "layers"
    summary = "Densities of layers"

    max_gap: float = gap()

    def frame(self, results):
        return results.layers[results.layers["method"] != "dense"]  # a dense network's layers are dense

    def draw(self, frame):
        from dwfbench.analysis.frames import PANEL, mean_layers

        groups = []
        for key, means in mean_layers(frame).groupby(PANEL):
            runs = frame[(frame[PANEL] == list(key)).all(axis=1)]
            groups.append(group(style.heading(key, runs), means, self.max_gap))
        return Drawing(groups, size=(2.0, 1.8), margin=(1.7, 0.3))


def group(title: str, means: "pd.DataFrame", max_gap: float) -> Group:
    """A data set and model: a panel a method, all with the same axes."""
    names = list(means.sort_values("position").drop_duplicates("position")["layer"].str.removesuffix(".weight"))
    inks = [Ink(colour, "o", size=2) for colour in style.shades("viridis", len(names))]
    lowest = 100 * means.loc[means["density"] > 0, "density"].min()
    x = style.cr_axis(means["compression"], most=5)
    y = Axis("density (%)", "log", min(lowest / 1.5, 50), 150)
    labels = list(looks.inks(means))
    panels = [Panel(x, y, marks(means[means["label"] == label], names, inks, max_gap), label) for label in labels]
    entries = [*map(Entry, names, inks), Entry("whole network", WHOLE)]
    return Group(panels, min(len(panels), 4), title, Legend(entries, ordered=True))


def marks(curve: "pd.DataFrame", names: list[str], inks: list[Ink], max_gap: float) -> list[Mark]:
    """A line and points a layer, and its arrows where it is empty."""
    curve = curve.sort_values("compression")
    ratios = curve["compression"].drop_duplicates()
    numel = curve.drop_duplicates("position")["numel"].sum()
    drawn_marks: list[Mark] = [Line(WHOLE, "whole network", ratios, 100 / ratios)]
    for name, ink, (_, layer) in zip(names, inks, curve.groupby("position"), strict=False):
        filled, empty = layer[layer["density"] > 0], layer[layer["density"] == 0]
        density = 100 * layer["density"].where(layer["density"] > 0)
        drawn_marks.append(Line(ink, name, *cut(layer["compression"], density, layer["compression"], max_gap, numel)))
        drawn_marks.append(Points(ink, name, filled["compression"], 100 * filled["density"], details(name, filled)))
        if len(empty):
            drawn_marks.append(Arrows(replace(ink, size=4), name, empty["compression"], details(name, empty)))
    return drawn_marks


def details(name: str, layer: "pd.DataFrame") -> dict[str, list[str]]:
    return {
        "layer": [name] * len(layer),
        "CR": [short(value, 4) for value in layer["compression"]],
        "density (%)": [f"{100 * value:.3g}" for value in layer["density"]],
    }
