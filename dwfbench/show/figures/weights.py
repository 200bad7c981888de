"""The sizes of weights while a network becomes sparse."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dwfbench.base.text import short
from dwfbench.show import looks, style
from dwfbench.show.drawing import Axis, Bars, Drawing, Group, Ink, Mark, Panel, Rule, Text
from dwfbench.show.figures import Figure, option

if TYPE_CHECKING:
    import pandas as pd

ZERO_WIDTH = 0.7  # of the bar of zeros on the axis of log10 |w|


@dataclass(frozen=True)
class Weights(Figure):
    """Histograms of log10 |w| at several epochs, of one run a curve. The share of the weights that count as zero is the
    grey bar on the left, beyond the threshold (dashed).
    """

    name = "weights"
    summary = "Sizes of weights"
    needs = ("history", "weights")

    compression: float = option(100.0, "show the runs with a CR nearest to this", low=1)

    def absent(self):
        return (
            "has a strength and a record of its weights (weights.csv, which older runs lack); `dwfbench run --force` "
            "trains them again."
        )

    def frame(self, results):
        return results.weights(self.compression)

    def draw(self, frame):
        from dwfbench.analysis.dynamics import FIRST_EDGE
        from dwfbench.analysis.frames import KEYS

        inks = looks.inks(frame)
        order = list(inks)
        rows = sorted(frame.groupby(KEYS), key=lambda row: (*row[0][:2], order.index(row[0][2])))
        columns = max(bins["epoch"].nunique() for _, bins in rows)
        zero = FIRST_EDGE - 0.6 - ZERO_WIDTH
        ticks = {zero + ZERO_WIDTH / 2: "0", -6: style.power(-6), -3: style.power(-3), 0: "1"}
        x = Axis("|w|", low=zero - 0.4, high=frame["high"].max() + 0.4, ticks=ticks)
        lowest = frame.loc[frame["share"] > 0, "share"].min() / 1.5
        y = Axis("share of weights (%)", "log", lowest, 400)  # room for a number above 100 %
        groups = []
        for key, bins in rows:
            run = bins.iloc[0]
            title = f"{key[2]} ({', '.join(key[:2])}), λ = {run['knob_value']:.3g}, CR {short(run['compression'])}"
            panels = [panel(epoch, of_epoch, inks[key[2]], zero, x, y) for epoch, of_epoch in bins.groupby("epoch")]
            groups.append(Group(panels, columns, title))
        return Drawing(groups, size=(1.75, 1.55), margin=(1.3, 0.4))


def panel(epoch: float, bins: "pd.DataFrame", ink: Ink, start: float, x: Axis, y: Axis) -> Panel:
    """The bins of an epoch, of which the first holds the zeros; their bar begins at ``start``."""
    zeros, nonzero = bins.iloc[0], bins.iloc[1:]
    share = zeros["share"]
    marks: list[Mark] = [
        Bars(ink, "", nonzero["low"], nonzero["high"], nonzero["share"]),
        Bars(Ink("#888888"), "", [start], [start + ZERO_WIDTH], [share]),
        Rule(Ink("#444444", dash=style.DASHED, width=0.8), "", "x", zeros["high"]),
    ]
    if share > 0:
        marks.append(Text(Ink("#555555"), "", start, share, f"{share:.3g}%" if share >= 1 else f"{share:.1g}%"))
    return Panel(x, y, marks, f"epoch {epoch:g}" + (" (onset)" if epoch == zeros["onset"] else ""))
