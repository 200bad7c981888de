"""What a compression costs, by training budget."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dwfbench.base.errors import UsageError
from dwfbench.show import looks, style
from dwfbench.show.drawing import Axis, Drawing, Entry, Group, Ink, Legend, Line, Mark, Panel, Points
from dwfbench.show.figures import Figure, gap, option

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Budget(Figure):
    """Test accuracy at a compression ratio, a panel for each, against the epochs of training. Lines are means over
    seeds, broken where the runs of half of a budget's seeds or fewer say it, upright ones the range of seeds; dense
    training is dashed.
    """

    name = "budget"
    summary = "Accuracy by training budget"

    at: str = option("2,10,30,100,300", "compression ratios, a panel each")
    max_gap: float = gap()

    def absent(self):
        return "belongs to a curve that was trained with several numbers of epochs."

    def ratios(self) -> list[float]:
        """The compression ratios. UsageError where the option does not list any."""
        try:
            values = [float(word) for word in self.at.split(",")]
        except ValueError:
            raise UsageError(f"--at takes compression ratios, not {self.at!r}.") from None
        if not all(1 <= value < float("inf") for value in values):
            raise UsageError("--at takes compression ratios of at least 1.")
        return values

    def frame(self, results):
        """A row for every method, number of epochs, CR and seed, NaN where its runs say no accuracy; dense at each."""
        import pandas as pd

        from dwfbench.analysis import curves, frames

        runs = results.runs
        labels = frames.labels_across([results.records[run] for run in runs["id"]], "epochs")
        runs = runs.assign(label=runs["id"].map(labels))
        tables = [
            curves.interpolate(rows, self.ratios(), self.max_gap, neighbours=False).assign(epochs=epochs)
            for epochs, rows in runs[runs["method"] != "dense"].groupby("epochs")
        ]
        dense = runs[runs["method"] == "dense"]
        tables += [
            dense[["dataset", "model", "label", "seed", "accuracy", "epochs"]].assign(compression=ratio)
            for ratio in self.ratios()
        ]
        values = pd.concat(tables)
        curve = ["dataset", "model", "label"]
        values = values.merge(runs[[*curve, "method", "depth", "score"]].drop_duplicates(curve), on=curve)
        valued_epochs = values["epochs"].where(values["accuracy"].notna())
        budgets = valued_epochs.groupby([values[name] for name in curve]).transform("nunique")
        return values[budgets > 1]

    def draw(self, frame):
        inks = looks.inks(frame)
        groups = []
        for key, of_model in frame.groupby(["dataset", "model"]):
            panels = [panel(ratio, rows, inks) for ratio, rows in of_model.groupby("compression")]
            # The heading counts the seeds of a label: here those of a curve at one budget.
            budgets = of_model.assign(label=of_model["label"] + of_model["epochs"].astype(str))
            groups.append(Group(panels, 5, style.heading(key, budgets)))
        return Drawing(groups, Legend([Entry(label, ink) for label, ink in inks.items()]), size=(2.1, 2.6))


def panel(ratio: float, rows: "pd.DataFrame", inks: dict[str, Ink]) -> Panel:
    """The methods at a CR: a point for the mean of every number of epochs."""
    ticks = {float(epochs): f"{epochs:g}" for epochs in sorted(rows["epochs"].unique())}
    marks: list[Mark] = []
    for label, of_label in rows.groupby("label"):
        by_epochs = of_label.groupby("epochs")["accuracy"].agg(["mean", "min", "max", "count", "size"])
        by_epochs = by_epochs.where(by_epochs["count"] * 2 > by_epochs["size"])  # or it were a single seed's luck
        name, x = str(label), by_epochs.index.to_numpy(float)
        marks.append(Line(inks[name], name, x, by_epochs["mean"]))
        for epochs, low, high in by_epochs.loc[by_epochs["max"] > by_epochs["min"], ["min", "max"]].itertuples():
            marks.append(Line(replace(inks[name], dash=()), name, [epochs, epochs], [low, high]))
        if inks[name].marker:
            valued = by_epochs["mean"].dropna()
            marks.append(Points(inks[name], name, valued.index.to_numpy(float), valued))
    return Panel(Axis("epochs", "log", ticks=ticks), style.score_axis(rows), marks, title=f"CR {ratio:g}")
