"""What a figure shows, said once and in the words of no plotting library: panels, their axes, and marks in them.

``mpl`` makes files of it and ``vega`` the charts of the report. Values are plain numbers in the units of their axis;
colours are "#rrggbb" on white; markers are letters of ``style.MARKERS``; widths and sizes are points.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any, Literal

Values = Sequence[float] | Any
"""Numbers, as a list, an array or a column of a frame."""


@dataclass(frozen=True)
class Ink:
    """How a mark is drawn: its line (``dash`` in line widths, () for a solid one, None for none) and its marker ("" for
    none), whose face has the ink's own colour unless another is given.
    """

    colour: str
    marker: str = ""
    face: str | None = None
    dash: tuple[float, ...] | None = ()
    width: float = 1.3
    size: float = 4
    alpha: float = 1


# ---------------------------------------------------------------- marks


@dataclass(frozen=True)
class Mark:
    """``name`` is that of the legend's entry to which a mark belongs."""

    ink: Ink
    name: str = ""


@dataclass(frozen=True)
class Line(Mark):
    """A line through points in their order; a NaN breaks it."""

    x: Values = ()
    y: Values = ()


@dataclass(frozen=True)
class Points(Mark):
    """Markers; ``details`` are texts that a page shows of each, by their titles. With ``arrows`` those below the panel
    have an arrow on its lower edge.
    """

    x: Values = ()
    y: Values = ()
    details: Mapping[str, Sequence[str]] = field(default_factory=dict)
    arrows: bool = False


@dataclass(frozen=True)
class Arrows(Mark):
    """Points that lie below the panel: arrows on its lower edge."""

    x: Values = ()
    details: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Band(Mark):
    """The area between two lines; a NaN in either breaks it."""

    x: Values = ()
    low: Values = ()
    high: Values = ()


@dataclass(frozen=True)
class Bars(Mark):
    """Bars from the lower edge up."""

    left: Values = ()
    right: Values = ()
    height: Values = ()


@dataclass(frozen=True)
class Rule(Mark):
    """A straight line through the whole panel, at a value of one of its axes."""

    axis: Literal["x", "y"] = "y"
    value: float = 0


@dataclass(frozen=True)
class Text(Mark):
    """Words that begin at a point, and stand on it."""

    x: float = 0
    y: float = 0
    text: str = ""


LAYERS = (Rule, Band, Bars, Line, Points, Arrows, Text)
"""What lies above what: the later marks."""


# ---------------------------------------------------------------- panels


@dataclass(frozen=True)
class Axis:
    """An axis: ends that are None follow from the marks; ``ticks`` are positions with their texts, by default those of
    the rule in ``style``, ``most`` at most; ``whole`` axes have no number between two whole ones.
    """

    label: str = ""
    scale: Literal["linear", "log"] = "linear"
    low: float | None = None
    high: float | None = None
    ticks: Mapping[float, str] | None = None
    most: int = 5
    whole: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """Those of an axis of a bounded panel."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high


@dataclass(frozen=True)
class Panel:
    """A pair of axes with marks, drawn in their order; ``absent`` says instead what there is none of."""

    x: Axis = Axis()
    y: Axis = Axis()
    marks: Sequence[Mark] = ()
    title: str = ""
    absent: str = ""


LONGEST = 8  # list of entries that differ in colour only


@dataclass(frozen=True)
class Entry:
    """What an ink stands for."""

    label: str
    ink: Ink


@dataclass(frozen=True)
class Legend:
    """Entries in their order, and remarks below. ``ordered`` ones differ in colour, from the first to the last."""

    entries: Sequence[Entry] = ()
    title: str = ""
    remarks: Sequence[str] = ()
    ordered: bool = False

    def scale(self) -> tuple[list[Entry], list[Entry]] | None:
        """The parts of a scale of colours and the entries beside it (other lines), where a list would be too long."""
        steps = [entry for entry in self.entries if entry.ink.dash == ()]
        lines = [entry for entry in self.entries if entry.ink.dash != ()]
        return (steps, lines) if self.ordered and len(steps) > LONGEST else None


@dataclass(frozen=True)
class Group:
    """Panels that belong together, in rows of ``columns``; ``large`` ones are explored rather than glanced at."""

    panels: Sequence[Panel]
    columns: int
    title: str = ""
    legend: Legend | None = None
    large: bool = False


@dataclass(frozen=True)
class Drawing:
    """A figure: a title and groups one below the other, a legend for all of them at its ``place``, and notes under it.

    ``size`` is the width and height of a panel, ``margin`` what is needed beside and between all of them, in inches.
    """

    groups: Sequence[Group]
    legend: Legend | None = None
    notes: Sequence[str] = ()
    size: tuple[float, float] = (2.3, 1.75)
    margin: tuple[float, float] = (1.5, 0.5)
    title: str = ""
    place: str = "right"


def reworded(drawing: Drawing, words: Callable[[str], str]) -> Drawing:
    """The drawing with every text that a reader sees as ``words`` makes it."""

    def legend(old: Legend | None) -> Legend | None:
        entries = [replace(entry, label=words(entry.label)) for entry in old.entries] if old else []
        return old and replace(old, entries=entries, title=words(old.title), remarks=list(map(words, old.remarks)))

    def axis(old: Axis) -> Axis:
        ticks = old.ticks and {value: words(text) for value, text in old.ticks.items()}
        return replace(old, label=words(old.label), ticks=ticks)

    def panel(old: Panel) -> Panel:
        marks = [replace(mark, text=words(mark.text)) if isinstance(mark, Text) else mark for mark in old.marks]
        texts = {"title": words(old.title), "absent": words(old.absent)}
        return replace(old, x=axis(old.x), y=axis(old.y), marks=marks, **texts)

    def group(old: Group) -> Group:
        return replace(old, panels=list(map(panel, old.panels)), title=words(old.title), legend=legend(old.legend))

    return replace(
        drawing,
        groups=list(map(group, drawing.groups)),
        legend=legend(drawing.legend),
        notes=list(map(words, drawing.notes)),
        title=words(drawing.title),
    )


# ---------------------------------------------------------------- gaps


def cut(x: Values, y: Values, ratios: Values, most: float, numel: float = math.inf) -> tuple[list[float], list[float]]:
    """The points of a line, broken where neighbours have compression ratios, of so many weights, too far apart."""
    from dwfbench.analysis.matched import near

    across, up, last = list[float](), list[float](), math.inf
    for position, height, ratio in zip(x, y, ratios, strict=True):
        if not near(last, ratio, most, numel):
            across.append(math.nan)
            up.append(math.nan)
        across.append(position)
        up.append(height)
        last = ratio
    return across, up


# ---------------------------------------------------------------- ends of axes

MARGIN = 0.05  # of an axis beyond its marks on either side


def bounded(panel: Panel) -> Panel:
    """The panel with both ends of both axes, and arrows for the points below it that want them."""
    panel = replace(panel, x=_bounded(panel.x, _values(panel, "x")), y=_bounded(panel.y, _values(panel, "y")))
    low, _ = panel.y.ends
    return replace(panel, marks=[drawn_mark for mark in panel.marks for drawn_mark in _with_arrows(mark, low)])


def _with_arrows(mark: Mark, low: float) -> list[Mark]:
    if not (isinstance(mark, Points) and mark.arrows):
        return [mark]
    below = [height < low for height in mark.y]
    details = {title: list(compress(texts, below)) for title, texts in mark.details.items()}
    arrows = [Arrows(mark.ink, mark.name, list(compress(mark.x, below)), details)] if any(below) else []
    return [replace(mark, arrows=False), *arrows]


def _bounded(axis: Axis, values: Iterable[float]) -> Axis:
    if axis.low is not None and axis.high is not None:
        return axis
    log = axis.scale == "log"
    low, high = padded([value for value in values if math.isfinite(value) and (value > 0 or not log)], log)
    return replace(axis, low=low if axis.low is None else axis.low, high=high if axis.high is None else axis.high)


def padded(values: Sequence[float], log: bool = False) -> tuple[float, float]:
    """Ends of an axis around values, also around a single one and around none."""
    if not len(values):
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = float(min(values)), float(max(values))
    if log:
        low, high = padded([math.log(low), math.log(high)])
        return math.exp(low), math.exp(high)
    margin = MARGIN * (high - low) or MARGIN * abs(high) or 0.5
    return low - margin, high + margin


def _values(panel: Panel, axis: str) -> Iterable[float]:
    columns = {"x": ("x", "left", "right"), "y": ("y", "low", "high", "height")}[axis]
    for mark in panel.marks:
        for column in columns:
            values = getattr(mark, column, ())
            yield from (values,) if isinstance(values, (int, float)) else values
