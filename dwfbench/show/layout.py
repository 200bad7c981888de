"""How a figure lies on its page: width, type, ends of axes, title, legend and names, the same for every figure.

The fields of ``Layout`` are flags of ``dwfbench plot`` and arguments of ``results.plot``. They change the drawing that
a figure made, so a new figure has all of them.
"""

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from dwfbench.base.errors import UsageError
from dwfbench.runs.spec import setting, settle
from dwfbench.show import style
from dwfbench.show.drawing import Arrows, Axis, Drawing, Entry, Ink, Panel, Points, bounded, reworded
from dwfbench.show.names import Names, read_names

WIDTHS = {"column": 3.25, "page": 6.75}
"""Of a figure in one column of a page with two, and across both: inches, as conferences have them."""
BESIDE = 0.45  # inches for the numbers and the label on the left of all panels
LEGEND = 1.3  # inches for a legend beside the panels of a group
NARROWEST = 1.2  # inches of a panel; narrower ones go into another row
LETTER = {"screen": 0.55 * 9 / 72, "paper": 0.45 * 8 / 72}  # inches, the mean width of a letter in a title
BELOW = Entry("below the axis", Ink(style.GREY, "below", dash=None, size=5))


@dataclass(frozen=True)
class Layout:
    """The layout of any figure. In Python ``xlim`` and ``ylim`` may be pairs, ``width`` a number and ``names`` a
    mapping, too. Raises UsageError for what does not fit.
    """

    width: str | None = setting(None, "of the figure: column (3.25 inches), page (6.75) or a number of inches")
    style: str = setting(
        "screen", "paper: 8 pt serif type, thin lines, notes for the caption on stderr", choices=("screen", "paper")
    )
    xlim: str | None = setting(None, "LOW,HIGH, either may be empty: of the first panel's axis and all alike")
    ylim: str | None = setting(None, "LOW,HIGH, the same for the other axis")
    title: str = setting("auto", "a text, or none; auto: data set, network, epochs and seeds")
    legend: str = setting("auto", "where it stands", choices=("auto", "right", "below", "inside", "none"))
    names: str | None = setting(None, 'TOML file of names to show: "dwf D=3" = "DWF, $D = 3$"')

    def __post_init__(self) -> None:
        for name in ("xlim", "ylim"):
            if isinstance(ends := getattr(self, name), Sequence) and not isinstance(ends, str):
                object.__setattr__(self, name, ",".join("" if end is None else f"{end:g}" for end in ends))
        if isinstance(self.width, (int, float)):
            object.__setattr__(self, "width", f"{self.width:g}")
        settle(self, but=["names"] if isinstance(self.names, (Mapping, Path)) else [])
        _ = self.inches, self.ends("xlim"), self.ends("ylim"), self.shown_names  # refused here, before anything is read

    @property
    def inches(self) -> float | None:
        """The width; None for as wide as the panels need."""
        if self.width is None or self.width in WIDTHS:
            return WIDTHS.get(self.width or "")
        try:
            inches = float(self.width)
        except ValueError:
            inches = math.nan
        if not 1 <= inches <= 50:
            raise UsageError(f"--width must be column, page or inches from 1 to 50, not {self.width!r}.")
        return inches

    def ends(self, name: str) -> tuple[float | None, float | None]:
        """The ends of ``xlim`` or ``ylim``; None for those that follow from the marks."""
        text = getattr(self, name)
        if text is None:
            return None, None
        try:
            low, high = (float(part) if part.strip() else None for part in text.split(","))
        except ValueError:
            low, high = math.nan, None
        numbers = [end for end in (low, high) if end is not None]
        if not all(map(math.isfinite, numbers)) or numbers != sorted(set(numbers)):
            raise UsageError(f"--{name} takes two numbers, the smaller first, not {text!r}.")
        return low, high

    @cached_property
    def shown_names(self) -> dict[str, str]:
        """The names to show, by what they stand for."""
        return read_names(self.names)

    def laid_out(self, drawing: Drawing, escape: Callable[[str], str]) -> Drawing:
        """The drawing as it lies on this page, with texts in the renderer's language: ``escape`` makes those of records
        harmless; the names given by the user stay as they are.
        """
        first = next((panel for group in drawing.groups for panel in group.panels if not panel.absent), Panel())
        groups = [
            replace(group, panels=[self._panel(panel, first) for panel in group.panels]) for group in drawing.groups
        ]
        drawing = self._titled(replace(drawing, groups=groups))
        drawing = self._with_legend(drawing)
        if self.style == "paper":
            drawing = replace(drawing, notes=(), legend=drawing.legend and replace(drawing.legend, remarks=()))
        shown_names = Names({self.title: self.title} | self.shown_names)  # a title is the user's, too
        groups = [replace(group, panels=list(map(style.settled, group.panels))) for group in drawing.groups]
        return self._fitted(reworded(replace(drawing, groups=groups), lambda text: shown_names.of(text, escape)))

    def caption(self, drawing: Drawing) -> list[str]:
        """What this layout leaves to the caption."""
        remarks = drawing.legend.remarks if drawing.legend else ()
        return [" ".join(text.split()) for text in (*drawing.notes, *remarks)] if self.style == "paper" else []

    def _panel(self, panel: Panel, first: Panel) -> Panel:
        x = self._limited("xlim", panel.x) if panel.x.label == first.x.label else panel.x
        y = self._limited("ylim", panel.y) if panel.y.label == first.y.label else panel.y
        return replace(panel, x=x, y=y)

    def _limited(self, flag: str, axis: Axis) -> Axis:
        low, high = self.ends(flag)
        if axis.scale == "log" and any(end is not None and end <= 0 for end in (low, high)):
            raise UsageError(f"--{flag} of this figure takes numbers above 0: its axis is logarithmic.")
        axis = replace(axis, low=axis.low if low is None else low, high=axis.high if high is None else high)
        if axis.low is not None and axis.high is not None and axis.low >= axis.high:
            raise UsageError(f"--{flag} leaves nothing to see: the axis would go from {axis.low:g} to {axis.high:g}.")
        return axis

    def _titled(self, drawing: Drawing) -> Drawing:
        if self.title == "auto":
            return drawing
        titles = sum(bool(group.title) for group in drawing.groups) + sum(
            bool(panel.title) and not group.title for group in drawing.groups for panel in group.panels
        )
        if self.title != "none" and titles > 1:
            return replace(drawing, title=self.title)
        title = "" if self.title == "none" else self.title
        groups = [
            replace(group, title=title)
            if group.title
            else replace(group, panels=[replace(panel, title=title) for panel in group.panels])
            for group in drawing.groups
        ]
        return replace(drawing, groups=groups)

    def _with_legend(self, drawing: Drawing) -> Drawing:
        if self.legend == "none":
            return replace(drawing, legend=None, groups=[replace(group, legend=None) for group in drawing.groups])
        group, *other_groups = drawing.groups
        if self.inches is not None and not other_groups and group.legend and not group.legend.scale():
            drawing = replace(drawing, groups=[replace(group, legend=None)], legend=group.legend)
        panels = [panel for group in drawing.groups for panel in group.panels]
        if drawing.legend and any(is_below(panel) for panel in panels):
            drawing = replace(drawing, legend=replace(drawing.legend, entries=[*drawing.legend.entries, BELOW]))
        if self.legend != "auto":
            return replace(drawing, place=self.legend)
        columns = max(group.columns for group in drawing.groups)
        beside = self.inches is None or self.inches - drawing.margin[0] >= 0.7 * drawing.size[0] * columns
        return replace(drawing, place="right" if beside else "below")

    def _fitted(self, drawing: Drawing) -> Drawing:
        """In as many columns as the width has room for, with the panels' proportions; long titles in several lines."""
        columns = max(group.columns for group in drawing.groups)
        width, height = drawing.size
        beside = _beside(drawing)
        if self.inches is not None:
            columns = max(1, min(columns, int((self.inches - beside) / NARROWEST)))
            width = max((self.inches - beside) / columns, 0.5)
            height = max(height / drawing.size[0] * width, NARROWEST)
        groups = [
            replace(
                group,
                columns=min(columns, group.columns),
                title=self._wrapped(group.title, width * min(columns, group.columns)),
                panels=[replace(panel, title=self._wrapped(panel.title, width)) for panel in group.panels],
            )
            for group in drawing.groups
        ]
        return replace(drawing, groups=groups, size=(width, height), margin=(beside, drawing.margin[1]))

    def _wrapped(self, title: str, inches: float) -> str:
        """A title in lines of so many inches, broken in no formula."""
        unbroken = re.sub(r"(?<!\\)\$[^$]*\$", lambda formula: formula[0].replace(" ", "\0"), title)
        letters = max(12, int(inches / LETTER[self.style]))
        return textwrap.fill(unbroken, letters, break_long_words=False).replace("\0", " ")


USUAL = Layout()


def _beside(drawing: Drawing) -> float:
    """Inches beside all panels."""
    if drawing.legend and drawing.place == "right":
        return drawing.margin[0]
    scales = any(group.legend for group in drawing.groups)
    return BESIDE + (LEGEND if scales else 0)


def is_below(panel: Panel) -> bool:
    """Whether some of its runs are drawn as arrows on its lower edge."""
    has_arrows = any(isinstance(mark, Points) and mark.arrows for mark in panel.marks)
    return has_arrows and any(isinstance(mark, Arrows) for mark in bounded(panel).marks)
