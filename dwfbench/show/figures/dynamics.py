"""The course of training: when zeros come, what they cost, how balanced the factors are, and how large the penalty."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dwfbench.base.text import judged_by, shared_score, short
from dwfbench.show import looks, style
from dwfbench.show.drawing import Axis, Drawing, Entry, Group, Ink, Legend, Line, Mark, Panel, Points, padded
from dwfbench.show.figures import Figure

if TYPE_CHECKING:
    import pandas as pd

QUANTITIES = {
    "compression": "compression ratio",
    "val_accuracy": "val. accuracy (%)",
    "misalignment": "misalignment",
    "norm": "norm",
}
ROUNDING = 1e-12  # a misalignment below this is rounding


@dataclass(frozen=True)
class Dynamics(Figure):
    """Courses of runs, a row a curve and a line a strength; methods without one are left out beside those with one."""

    name = "dynamics"
    summary = "Dynamics of training"
    needs = ("history", "weights")

    def frame(self, results):
        steps = results.history
        turned = steps["label"].isin(steps.loc[steps["knob"] == "strength", "label"])
        return steps[turned] if turned.any() else steps

    def tables(self, results):
        return {".csv": results.phases} if len(results.phases) else {}

    def draw(self, frame):
        from dwfbench.analysis import dynamics
        from dwfbench.analysis.frames import KEYS

        order = list(looks.inks(frame))
        frame, window = dynamics.smoothed(frame)
        # A penalty may be negative (a sum of logarithms), and has then no place on its axis.
        frame = frame.assign(norm=frame["norm"].where(frame["norm"] > 0))
        means = dynamics.mean_histories(frame)
        courses = dynamics.shown(means)
        present = [name for name in QUANTITIES if name in ("compression", "val_accuracy") or frame[name].notna().any()]
        rows = sorted(courses.groupby(KEYS), key=lambda row: (*row[0][:2], order.index(row[0][2])))
        groups = []
        for key, lines in rows:
            runs = frame[(frame[KEYS] == list(key)).all(axis=1) & frame["knob_value"].isin(lines["knob_value"])]
            groups.append(group(f"{key[2]} ({', '.join(key[:2])})", lines, runs, present))
        notes = remarks(courses, window, "norm" in present, dynamics.STRENGTHS if len(courses) < len(means) else 0)
        notes = [judged_by(shared_score(frame["score"]), note) for note in notes]
        return Drawing(groups, notes=notes, size=(2.3, 1.75), margin=(1.5, 0.6))


def remarks(means: "pd.DataFrame", window: int, norm: bool, most: int) -> list[str]:
    """What has to be known to read the lines; ``most`` knob values a row where some are left out."""
    notes = ["Dots: first epoch with a compression ratio above 1."]
    if means["n"].max() > 1:
        notes.append("Thick lines: means over seeds (geometric, but for accuracy); thin lines: the seeds.")
    if window > 1:
        notes.append(f"The accuracy is a running mean over {window} recorded epochs.")
    if norm:
        notes.append("Norm: sum of |w|^(2/D) over the prunable weights (L1: of |w|), the penalty without its strength.")
    if most:
        notes.append(f"At most {most} values a row, evenly spread in the log of the final CR.")
    return notes


def group(title: str, means: "pd.DataFrame", runs: "pd.DataFrame", quantities: list[str]) -> Group:
    """A curve: a panel a quantity, a line a knob value."""
    values = sorted(means["knob_value"].dropna().unique())
    colours = dict(zip(values, style.shades("plasma", len(values)), strict=True))
    finals = means.groupby("knob_value")["final_compression"].first()
    inks = {value: Ink(colours[value], width=1.1) for value in finals.index}
    names = {value: f"{value:.3g}  (CR {short(cr)})" for value, cr in finals.items()}
    title_of_legend = "strength λ" if means["knob"].iloc[0] == "strength" else "target compression"
    legend = Legend([Entry(names[value], inks[value]) for value in inks], title_of_legend)
    panels = []
    for quantity in quantities:
        if means[quantity].isna().all():
            panels.append(Panel(absent=judged_by(shared_score(runs["score"]), f"no {QUANTITIES[quantity]}")))
            continue
        marks: list[Mark] = []
        for value, mean in means.groupby("knob_value", dropna=False):
            ink = inks.get(value, Ink(style.shades("plasma", 1)[0], width=1.1))
            of_value = runs[runs["knob_value"] == value] if value in inks else runs
            marks += course(mean, of_value, quantity, ink, names.get(value, ""))
        panels.append(Panel(Axis("epoch", whole=True), axis(quantity, runs, means), marks))
    return Group(panels, len(panels), title, legend)


def course(mean: "pd.DataFrame", runs: "pd.DataFrame", quantity: str, ink: Ink, name: str) -> list[Mark]:
    """The line of one knob value, its seeds, and the dot where it becomes sparse."""
    seeds = [run for _, run in runs.groupby("seed")]
    thin = replace(ink, width=0.5, alpha=0.45)
    marks: list[Mark] = [Line(thin, name, run["epoch"], run[quantity]) for run in seeds if len(seeds) > 1]
    marks.append(Line(ink, name, mean["epoch"], mean[quantity]))
    if len(mean) == 1:
        marks.append(Points(replace(ink, marker="o", size=2), name, mean["epoch"], mean[quantity]))
    sparse = mean[mean["compression"] > 1][:1]
    return [*marks, Points(replace(ink, marker="o", size=3.2), name, sparse["epoch"], sparse[quantity])]


def axis(quantity: str, runs: "pd.DataFrame", means: "pd.DataFrame") -> Axis:
    """Of the accuracy, the rise in the first tenth of the epochs must not squeeze the rest flat."""
    label = QUANTITIES[quantity]
    if quantity == "val_accuracy":
        late = runs.loc[runs["epoch"] > 0.1 * runs["epoch"].max(), quantity]
        low, high = padded([late.min(), runs[quantity].max()])
        return style.score_axis(runs, "val.", low=low, high=high)
    if quantity != "misalignment":
        return Axis(label, "log")
    values = [*runs[quantity], *means[quantity]]
    low, _ = padded([value for value in values if value > 0], log=True)
    return Axis(label, "log", low=max(low, ROUNDING))
