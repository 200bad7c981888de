"""Results in a notebook: frames to work with, and figures on matplotlib's axes."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from dwfbench.analysis.frames import PANEL
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.base.text import no_such
from dwfbench.runs.spec import from_given
from dwfbench.show import files, mpl, style
from dwfbench.show.figures import Figure, figures
from dwfbench.show.layout import Layout


class Results(ResultSet):
    """A `ResultSet` that draws itself: what `dwfbench.open` gives."""

    def __repr__(self) -> str:
        """ "dwfbench results: 315 runs of 14 curves; mnist, lenet-5 (60 epochs, 3 seeds)"."""
        headings = "; ".join(style.heading(key, runs) for key, runs in self.runs.groupby(PANEL))
        return (
            f"dwfbench results: {len(self.runs)} runs of {self.runs['curve'].nunique()} curves; {headings or 'empty'}"
        )

    def plot(self, figure: str = "accuracy", output: str | Path | None = None, **options: Any) -> Axes | np.ndarray:
        """Draw a figure as `dwfbench plot` does, with its options (`max_gap=4`) and the layout of any figure, see
        `show.layout.Layout` (`width="column"`, `xlim=(1, 100)`, `names={"dwf D=3": "DWF"}`).

        Returns the axes, an array of them where there are several panels; their figure is pyplot's current one, and
        `axes.figure` is yours to change and save. With `output` the file is written, too, as the command writes it.
        Raises UsageError for a figure or an option that there is not, and where no run has what is drawn.
        """
        import matplotlib.pyplot as plt

        chosen_figure, layout = _chosen_figure(figure, options)
        frame = chosen_figure.frame(self)
        if frame.empty:
            raise UsageError(f"No finished run {chosen_figure.absent() or 'has what this figure shows.'}")
        drawing = chosen_figure.draw(frame)
        if output is not None:
            files.write(drawing, Path(output), layout)
        with matplotlib.rc_context(files.settings(layout.style)):
            escape = files.in_latex if matplotlib.rcParams["text.usetex"] else files.without_formulas
            fig = mpl.figure(layout.laid_out(drawing, escape), plt.figure())
        axes = [ax for ax in fig.axes if ax.axison]
        return axes[0] if len(axes) == 1 else np.array(axes, object)


def _chosen_figure(name: str, options: dict[str, Any]) -> tuple[Figure, Layout]:
    by_name = figures()
    if name not in by_name:
        raise UsageError(no_such("figure", name, by_name))
    choices = sorted({item.name for owner in (by_name[name], Layout) for item in fields(owner)})
    for option in options:
        if option not in choices:
            raise UsageError(no_such("option", option, choices, f" of {name}"))
    return from_given(by_name[name], options), from_given(Layout, options)


open = Results.open
