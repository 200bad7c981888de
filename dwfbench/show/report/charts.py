"""The figures as sections of the page: groups of charts with their legends."""

import inspect
from dataclasses import dataclass, field
from typing import Any

from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.text import judged_by, shared_score
from dwfbench.show import vega
from dwfbench.show.drawing import Group, Legend
from dwfbench.show.figures import Figure


@dataclass
class Charts:
    """The charts of a page by name, and what its sections say around them."""

    charts: dict[str, dict] = field(default_factory=dict)

    def section(self, figure: Figure, results: ResultSet) -> dict[str, Any] | None:
        """A figure as a section; None where there is nothing to draw."""
        frame = figure.frame(results)
        if frame.empty:
            return None
        drawing, score = figure.draw(frame), shared_score(results.runs["score"])
        large = any(group.large for group in drawing.groups)
        return {
            "name": figure.name,
            "title": judged_by(score, figure.summary),
            "reading": judged_by(score, inspect.getdoc(figure) or ""),
            "large": large,
            "legend": _legend(drawing.legend) if not large else None,
            "groups": [self._group(figure.name, group, drawing.legend) for group in drawing.groups],
            "notes": drawing.notes,
        }

    def _group(self, name: str, group: Group, legend: Legend | None) -> dict[str, Any]:
        panels = []
        for panel in group.panels:
            chart = f"{name}-{len(self.charts)}"
            if not panel.absent:
                self.charts[chart] = vega.chart(panel, group.large)
            names = {mark.name for mark in panel.marks}
            panel_legend = _legend(legend, names) if group.large else None
            title = panel.title or panel.y.label
            panels.append(
                {"chart": chart, "title": title, "heading": panel.title, "absent": panel.absent, "legend": panel_legend}
            )
        row = len(group.panels) <= group.columns
        return {
            "title": group.title,
            "panels": panels,
            "legend": _legend(group.legend),
            "large": group.large,
            "row": row,
        }


def _legend(legend: Legend | None, names: set[str] | None = None) -> dict[str, Any] | None:
    """A legend for the page, of a large chart with the ``names`` that its reader can hide; a scale's ends and colours
    where it is one.
    """
    if legend is None:
        return None
    steps, entries = legend.scale() or ([], legend.entries)
    if names is not None:
        entries = [entry for entry in entries if entry.label in names]
    return {
        "title": legend.title,
        "scale": [vega.sample(entry.label, entry.ink) for entry in steps],
        "entries": [vega.sample(entry.label, entry.ink) for entry in entries],
        "remarks": [" ".join(remark.split()) for remark in legend.remarks],
    }
