"""What a compression is worth in time."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dwfbench.show import looks, style
from dwfbench.show.drawing import Axis, Drawing, Entry, Group, Ink, Legend, Line, Mark, Panel, Points, Rule, cut, padded
from dwfbench.show.figures import Figure, gap

if TYPE_CHECKING:
    import pandas as pd

DENSE = Ink(style.GREY, dash=style.DASHED, width=0.8)


@dataclass(frozen=True)
class Latency(Figure):
    """Test accuracy versus CR and, for every batch size, versus the measured speed-up over dense: markers for the
    compact form, joined along the runs of a seed, and crosses for sparse CSR. The dashed line is dense's speed. A point
    whose interval spans it is neither faster nor slower, and left out.
    """

    name = "latency"
    summary = "Accuracy versus speed-up"
    needs = ("measurement",)

    max_gap: float = gap()

    def absent(self):
        return "was measured; `dwfbench measure RUN` measures those that were trained with --save-model."

    def frame(self, results):
        return results.latency[results.latency["form"] != "dense"]

    def draw(self, frame):
        from dwfbench.analysis.curves import PANEL
        from dwfbench.analysis.latency import places, undecided

        inks = looks.inks(frame)
        batches = sorted(frame["batch"].unique())
        groups = [
            group(style.heading(key, rows), rows, batches, inks, self.max_gap) for key, rows in frame.groupby(PANEL)
        ]
        entries = [Entry(label, ink) for label, ink in inks.items()]
        entries.append(Entry("sparse CSR", Ink(style.GREY, "x", dash=None)))
        notes = [
            "Speed-up: time of dense over that of the compact form (crosses: of sparse CSR), measured on "
            f"{' and '.join(places(frame))}."
        ]
        if count := int(undecided(frame).sum()):
            notes.append(f"Left out: {count} of {len(frame)} speed-ups, whose 95 % interval spans 1.")
        if count := int(frame["low"].isna().sum()):
            notes.append(f"No interval is known of {count} of {len(frame)} speed-ups.")
        return Drawing(groups, Legend(entries), notes, size=(2.6, 2.7), margin=(1.7, 0.3))


def group(title: str, rows: "pd.DataFrame", batches: list[int], inks: dict[str, Ink], max_gap: float) -> Group:
    """A data set and model: a panel for the CR, and one a batch size."""
    from dwfbench.analysis.latency import undecided

    low, high = padded(rows["accuracy"])
    y = style.score_axis(rows, low=low, high=high)
    runs = rows[rows["form"] == "compact"].drop_duplicates("id")
    x = style.cr_axis(runs["compression"], most=6)
    panels = [Panel(x, y, marks(runs, "compression", inks, max_gap))]
    decided = rows[~undecided(rows)]
    for batch in batches:
        x = Axis(f"speed-up, batch {batch}", "log", most=6)
        panel_marks = [Rule(DENSE, "", "x", 1), *marks(decided[decided["batch"] == batch], "speedup", inks, max_gap)]
        panels.append(Panel(x, y, panel_marks))
    return Group(panels, len(panels), title)


def marks(rows: "pd.DataFrame", column: str, inks: dict[str, Ink], max_gap: float) -> list[Mark]:
    """The runs of every label: of a seed by CR, in both forms where these differ in what is on the axis."""
    drawn_marks: list[Mark] = []
    for label, ink in inks.items():
        of_label = rows[rows["label"] == label].sort_values("compression")
        for _, runs in of_label[of_label["form"] == "compact"].groupby("seed"):
            points = cut(runs[column], runs["accuracy"], runs["compression"], max_gap, runs["numel"].max())
            drawn_marks.append(Line(replace(ink, width=0.8), label, *points))
            drawn_marks.append(Points(ink, label, runs[column], runs["accuracy"]))
        sparse = of_label[of_label["form"] == "sparse"]
        if column == "speedup" and len(sparse):
            drawn_marks.append(Points(Ink(ink.colour, "x"), label, sparse[column], sparse["accuracy"]))
    return drawn_marks
