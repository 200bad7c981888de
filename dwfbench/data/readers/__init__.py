"""Where data sets come from: one short reader for each kind, and the registry of the sets known by name.

A reader returns a `Source` of images or `Tensors`, plain numpy arrays; `dwfbench.data` makes tensors of them. Nothing
here imports torch before a set is read, so that the processes that decode images start quickly.

A file of this folder names what it reads in ``SETS``. A package adds a data set by an entry point of the group
``dwfbench.datasets``, a reader like ours: ``read(places: Places) -> Source``. Its docstring's first line is the
summary, a line "Source: ..." names the source. A file has one under any name, ``path/to/file.py:NAME``.
"""

import pkgutil
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from dwfbench.base import plugins
from dwfbench.data.readers import foreign
from dwfbench.data.readers.base import DataError, Known, Places, Source, Tensors

__all__ = ["KNOWN", "DataError", "Known", "Places", "Source", "Tensors", "describe", "identity", "names", "reader"]


def _known_sets() -> dict[str, Known]:
    """The sets that the files of this folder name in their ``SETS``."""
    modules = [import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
    return {name: known_set for module in modules for name, known_set in getattr(module, "SETS", {}).items()}


KNOWN = _known_sets()


def names() -> list[str]:
    """The names of all data sets, ours first."""
    return [*KNOWN, *plugins.find("data set", KNOWN)[0]]


def identity(name: str) -> str | None:
    """What runs call the data set of a name: `NAME@<12 hex digits>` for one from a file; None if there is none."""
    if plugins.names_file(name):
        return plugins.read("data set", name).identity
    return name if reader(name) is not None else None


def reader(name: str) -> Callable[[Places], Source | Tensors] | None:
    """What reads the data set of a name; None where there is none of this name, which then may be a path."""
    load = foreign_reader(name)
    if name in KNOWN:
        return KNOWN[name].read
    return None if load is None else partial(foreign.read, load, name)


def foreign_reader(name: str) -> Callable[[], Any] | None:
    """What loads the reader of others of this name, which may be a file's identity, too; None where there is none."""
    return plugins.of_others("data set", name, KNOWN)


def describe() -> list[dict[str, str]]:
    """The data sets known by name, as dicts of `name`, `summary` and `source`; ours first.

    Those of packages that cannot be used are named on stderr and left out.
    """
    return plugins.describe("data set", KNOWN)
