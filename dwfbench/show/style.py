"""The one table of styles, of files and of the page: colours, lines, markers, and the numbers on axes."""

import colorsys
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dwfbench.base.text import shared_score, short
from dwfbench.show.drawing import Axis, Panel, bounded

if TYPE_CHECKING:
    import pandas as pd

GREY, FAINT, DARK_PAGE = "#777777", "#e6e6e6", "#16181d"
LINES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1, 1.2), (4, 1.2, 1, 1.2))
DASHED = LINES[1]
MARKERS = ("", "o", "s", "^", "v", "<", ">", "D", "d", "P", "X", "*", "h", "p", "x")
"""The markers that every renderer has, by matplotlib's letters."""
BEYOND = 1.15  # the ends of an axis of ratios lie this factor beyond the runs
WIDEST_BAND = 10  # points; a wider one would hide the others, and its runs show as much

EMPTY = "#ffffff00"
"""The face of a marker through which others can be seen."""

ON_DARK = {
    EMPTY: EMPTY,
    "#0b3d91": "#3f74e0",
    "#2f7fd0": "#55a0f0",
    "#6db6ea": "#8fcbf5",
    "#abd9f5": "#cdeafc",
    "#000000": "#f2f2f2",
    "#882255": "#c8508f",
    "#aa4499": "#c15fb0",
    "#8c564b": "#b07a6e",
    "#661100": "#c4452c",
    "#777777": "#8f959c",
    "#ffffff": DARK_PAGE,
}
"""What is drawn on a dark page for a colour that would be lost there, or taken for another."""


def on_dark(colour: str) -> str:
    """A colour for a dark page: as it is where it can be seen, with a contrast of 3; lighter where it could not."""
    if colour in ON_DARK:
        return ON_DARK[colour]
    hue, lightness, saturation = colorsys.rgb_to_hls(*_parts(colour))
    while contrast(colour, DARK_PAGE) < 3:
        lightness += 0.02
        colour = _of_parts(colorsys.hls_to_rgb(hue, lightness, saturation))
    return colour


def contrast(first_colour: str, second_colour: str) -> float:
    """Of two colours, from 1 to 21, as WCAG defines it."""
    low, high = sorted((_luminance(first_colour), _luminance(second_colour)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _parts(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _parts(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def _of_parts(parts: Iterable[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def tint(colour: str) -> str:
    """A colour half-way to white."""
    return _of_parts((1 + part) / 2 for part in _parts(colour))


def shades(name: str, number: int) -> list[str]:
    """So many colours of a colour map of matplotlib, from dark to light without the pale end."""
    import matplotlib
    from matplotlib.colors import to_hex

    positions = [0.88 * step / (number - 1) for step in range(number)] if number > 1 else [0.5] * number
    return [to_hex(matplotlib.colormaps[name](position)) for position in positions]


# ---------------------------------------------------------------- numbers


def ticks(low: float, high: float, most: int) -> list[float]:
    """1, 2 and 5 of every power of ten between the ends of a logarithmic axis, more digits where these are few. Only
    powers of ten where these would be more than ``most``, and every second, third, ... where there are still too many.
    """
    coarse, fine = _between(low, high, (1, 2, 5)), _between(low, high, (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9))
    if len(coarse) <= most:
        return coarse if len(coarse) > 2 else _thinned(fine, most) or [float(f"{math.sqrt(low * high):.2g}")]
    tens = _between(low, high, (1,))
    return _thinned(tens if len(tens) > 1 else coarse, most)


def _between(low: float, high: float, digits: Sequence[float]) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    return [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]


def _thinned(values: list[float], most: int) -> list[float]:
    return values[:: -(-len(values) // most)] if values else []


ZOOMED_TICK = "round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))"
ZOOMED_LABEL = (
    f"domain('x')[1] < 10 * domain('x')[0] || indexof([1, 2, 5], {ZOOMED_TICK}) >= 0 ? format(datum.value, ',') : ''"
)
"""The same rule in Vega's language, for an axis that the reader moves: every tick in less than a decade."""


def number(value: float) -> str:
    """A number on an axis: 0.001, 10, 1000, and 10⁻⁶ or 2·10⁷ where zeros would have to be counted."""
    if value <= 0 or 1e-3 <= value < 1e6:
        return short(value)
    digits, exponent = f"{value:.2e}".split("e")
    return power(int(exponent)) if float(digits) == 1 else f"{float(digits):g}·{power(int(exponent))}"


def ticks_of(axis: Axis) -> Mapping[float, str] | None:
    """The positions and texts of a bounded axis' ticks; None for a linear one that has none of its own."""
    if axis.ticks or axis.scale == "linear":
        return axis.ticks
    return {value: number(value) for value in ticks(*axis.ends, axis.most)}


def settled(panel: Panel) -> Panel:
    """The panel with the ends and the ticks of its axes."""
    panel = bounded(panel)
    return replace(panel, x=replace(panel.x, ticks=ticks_of(panel.x)), y=replace(panel.y, ticks=ticks_of(panel.y)))


def power(exponent: int) -> str:
    """A power of ten: 10⁻⁶."""
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def ratio_axis(label: str, ratios: Sequence[float], most: int) -> Axis:
    """A logarithmic axis around positive numbers, also around none."""
    if not len(ratios):
        return Axis(label, "log", 1, 10, most=most)
    return Axis(label, "log", min(ratios) / BEYOND, max(ratios) * BEYOND, most=most)


def cr_axis(compressions: Sequence[float], most: int) -> Axis:
    """The axis of compression ratios around some, also around none."""
    return ratio_axis("compression ratio", compressions, most)


def score_axis(runs: "pd.DataFrame", part: str = "test", **ends: Any) -> Axis:
    """The axis of what some runs are judged by: "test accuracy (%)"."""
    return Axis(f"{part} {shared_score(runs['score'])} (%)", **ends)


# ---------------------------------------------------------------- words


def heading(panel: Sequence[str], runs: "pd.DataFrame") -> str:
    """ "mnist, lenet-300-100 (60 epochs, 3 seeds)", with ranges where curves differ."""
    parts = []
    if "epochs" in runs:
        parts.append(_count(runs["epochs"].min(), runs["epochs"].max(), "epoch"))
    seeds = runs.groupby("label")["seed"].nunique()
    parts.append(_count(seeds.min(), seeds.max(), "seed"))
    return f"{', '.join(panel)} ({', '.join(parts)})"


def _count(low: float, high: float, noun: str) -> str:
    return f"{low:g} {noun}{'s' if low != 1 else ''}" if low == high else f"{low:g}-{high:g} {noun}s"
