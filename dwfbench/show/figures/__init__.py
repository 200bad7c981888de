"""The figures, a file each: a new one is a new file in this folder and nothing else (docs/adding-a-figure.md).

``dwfbench plot`` and its help, ``dwfbench report`` and ``make tables`` go through what lies here. The help imports
these files, so they import pandas, numpy and what needs them where they draw.
"""

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from dwfbench.runs.spec import setting, settle
from dwfbench.show.drawing import Drawing

if TYPE_CHECKING:
    import pandas as pd

    from dwfbench.analysis.resultset import ResultSet

option = setting
"""An option of a figure: a dataclass field with default, help text and range, which is a flag of ``dwfbench plot``."""


def gap() -> float:
    """The option of figures whose lines go along the compression ratio."""
    return option(2.0, "factor in CR beyond which no line is drawn between runs", low=1)


@dataclass(frozen=True)
class Figure:
    """A figure, whose docstring tells readers of the report what they see; its fields are options."""

    name: ClassVar[str]
    """That of its file: the word after ``dwfbench plot``."""
    summary: ClassVar[str]
    """What it shows, as a title."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What it reads beside the records: history, weights, measurement."""

    def __post_init__(self) -> None:
        settle(self)

    def frame(self, results: "ResultSet") -> "pd.DataFrame":
        """The tidy table that is drawn; without rows where there is nothing to draw."""
        raise NotImplementedError

    def draw(self, frame: "pd.DataFrame") -> Drawing:
        """What is drawn of a table with rows."""
        raise NotImplementedError

    def recounts(self) -> bool:
        """Whether it shows runs as ``--threshold`` counts them."""
        return False

    def absent(self) -> str:
        """What no run has where there is nothing to draw, and what to do, after "No finished run that fits"."""
        return ""

    def tables(self, results: "ResultSet") -> dict[str, "pd.DataFrame"]:
        """Tables that belong beside the file of the figure, by the ending of their names."""
        return {}


def figures() -> dict[str, type[Figure]]:
    """The figures by name: the classes that the files of this folder define."""
    by_name: dict[str, type[Figure]] = {}
    for file in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{file.name}")
        defined = [
            item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__
        ]
        by_name |= {item.name: item for item in defined if issubclass(item, Figure)}
    return by_name
