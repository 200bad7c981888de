"""The looks of curves: a method owns its colours and its marker, and no two curves of a figure look alike.

A method says its look as a literal in its class, ``look = ("#e69f00", "s")``. It is read from the source of the
method's entry point and not by importing it: torch would take seconds, and results are read without it. A method that
is not installed here, or says nothing that can be drawn, gets a spare look that follows from its name alone.
"""

import ast
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING, Any

from dwfbench.base import plugins
from dwfbench.base.text import by_number
from dwfbench.show.drawing import Ink
from dwfbench.show.style import LINES, MARKERS, tint

if TYPE_CHECKING:
    import pandas as pd

COLOUR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True)
class Look:
    """The colours of a method (where there are several, of depths 2, 3, ..., the last also of deeper ones), and its
    marker; a method without one ("") is drawn in dashes.
    """

    colours: tuple[str, ...]
    marker: str

    def colour(self, depth: float) -> str:
        """That of a curve of this depth, which is NaN for most methods."""
        return self.colours[int(min(max(depth - 2, 0), len(self.colours) - 1))] if depth == depth else self.colours[0]


_COLOURS = ("#00798c", "#b5179e", "#7f5539", "#6a7b00", "#e76f51", "#4a4e69")
SPARE = [Look((colour,), marker) for marker, colour in product("h<>dp*", _COLOURS)]
"""Looks that no method of ours has."""


def inks(frame: "pd.DataFrame") -> dict[str, Ink]:
    """The ink of every label of a frame with the columns method, label and (where it has one) depth, in the order of
    the legend: DWF by its depths, the other methods by name, dense last.

    Variants of a method differ in line and face of the marker.
    """
    rows = frame.drop_duplicates("label")
    depths = rows["depth"] if "depth" in rows else [float("nan")] * len(rows)
    curves = sorted(zip(rows["method"], depths, rows["label"], strict=True), key=_place)
    looks = of_methods(rows["method"])
    numbers: dict[tuple[str, str], int] = {}
    by_label = {}
    for method, depth, label in curves:
        look = looks[method]
        colour = look.colour(depth)
        number = numbers[colour, look.marker] = numbers.get((colour, look.marker), -1) + 1
        by_label[label] = _variant(colour, look.marker, number)
    return by_label


def _place(curve: tuple[str, float, str]) -> tuple:
    method, depth, label = curve
    return method == "dense", method != "dwf", method, depth if depth == depth else 0, by_number(label)


def _variant(colour: str, marker: str, number: int) -> Ink:
    """The ink of a method's curve of that number among those of one colour: twelve differ, of points without a line
    three. Curves without a marker begin with a dashed line, and have a wider one after every four.
    """
    if not marker:
        return Ink(colour, dash=LINES[(number + 1) % len(LINES)], width=Ink.width * (1 + number // len(LINES)))
    return Ink(colour, marker, (None, "#ffffff", tint(colour))[number % 3], LINES[number % len(LINES)])


def of_methods(names: Iterable[str]) -> dict[str, Look]:
    """A look for every method, all different. A method keeps its own, whoever else is drawn, unless one that comes
    before it has the same: our own come first, then those of packages by name. So do spare looks, which come last.
    """
    points = plugins.find("method")[0]
    own_looks = {name: look_of(points[name]) if name in points else None for name in set(names)}

    def rank(name: str) -> tuple[bool, bool, str]:
        package = points[name].dist if name in points else None
        return own_looks[name] is None, package is None or package.name != "dwfbench", name

    looks: dict[str, Look] = {}
    for name in sorted(own_looks, key=rank):
        look = own_looks[name]
        start = zlib.crc32(name.encode("utf-8", "replace")) % len(SPARE)
        choices = [*([look] if look else []), *SPARE[start:], *SPARE[:start]]
        looks[name] = next((look for look in choices if not _is_taken(look, looks)), choices[0])
    return looks


def _is_taken(look: Look, looks: Mapping[str, Look]) -> bool:
    return any(other.marker == look.marker and set(other.colours) & set(look.colours) for other in looks.values())


# ---------------------------------------------------------------- what a method says


def look_of(point: EntryPoint) -> Look | None:
    """The look that the class of an entry point has, None where it has none that can be drawn."""
    try:
        literal = _literal(ast.parse(_source(point)), point.attr)
    except (ImportError, OSError, SyntaxError, ValueError):
        return None
    match literal:
        case (str() | [*_] as colours, str(marker)) if marker in MARKERS:
            colours = [colours] if isinstance(colours, str) else colours
            if colours and all(isinstance(colour, str) and COLOUR.fullmatch(colour) for colour in colours):
                return Look(tuple(colours), marker)
    return None


def _source(point: EntryPoint) -> str:
    """The source of an entry point's module, for which no package is imported; empty where there is none."""
    package, *submodules = point.module.split(".")
    name, spec = package, find_spec(package)
    for submodule in submodules:
        name = f"{name}.{submodule}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations) if spec else None
    reader = getattr(spec and spec.loader, "get_source", None)
    return (reader and reader(name)) or ""


def _literal(module: ast.Module, name: str) -> Any:
    """What is assigned to ``look`` in the body of a class, None for no literal. ValueError for another expression."""
    classes = [item for item in module.body if isinstance(item, ast.ClassDef) and item.name == name]
    for line in (line for item in classes for line in item.body):
        match line:
            case ast.Assign(targets=[ast.Name(id="look")], value=value):
                return ast.literal_eval(value)
            case ast.AnnAssign(target=ast.Name(id="look"), value=ast.expr() as value):
                return ast.literal_eval(value)
    return None
