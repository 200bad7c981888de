"""The modules beside a file that is named on the command line: found by its imports, read once, and run from there.

``import layers`` in ``nets/own.py`` means ``nets/layers.py``, as it does where Python runs the file itself. What is
read belongs to the file's checksum, and goes with it to other processes and machines, which need not have the folder.
Modules of Python itself, and others that are imported already, are no neighbours.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from dwfbench.base import foreign
from dwfbench.base.files import content

MOST = 1 << 22
"""Bytes of a module."""


class Neighbour(NamedTuple):
    """A module by its name, which may have dots, and the file and bytes that it is made of."""

    name: str
    path: str
    code: bytes

    @property
    def is_package(self) -> bool:
        return Path(self.path).name == "__init__.py"


def of(path: Path, code: bytes) -> tuple[Neighbour, ...]:
    """The neighbours of a file with that content, and theirs, by name. OSError where one cannot be read."""
    by_name: dict[str, Neighbour] = {}
    waiting = [code]
    while waiting:
        for name in imported(waiting.pop()):
            for neighbour in [] if name in by_name or is_known(name, path.parent) else files_of(name, path.parent):
                by_name[neighbour.name] = neighbour
                waiting.append(neighbour.code)
    return tuple(by_name[name] for name in sorted(by_name))


def imported(code: bytes) -> Iterator[str]:
    """The top-level names of the modules that some code imports, functions included; none of code that is not valid."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # whoever runs it says so
        return
    for item in ast.walk(tree):
        if isinstance(item, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.level == 0 and item.module:
            yield item.module.partition(".")[0]


def is_known(name: str, folder: Path) -> bool:
    """Whether a name is that of another module already: Python's, ours, or one imported from elsewhere."""
    origin = getattr(sys.modules.get(name), "__file__", None)
    elsewhere = name in sys.modules and (
        origin is None or not Path(origin).absolute().is_relative_to(folder.absolute())
    )
    return (
        name in sys.stdlib_module_names
        or name in ("dwfbench", "baselines")
        or (elsewhere and name not in _finder.modules)
    )


def files_of(name: str, folder: Path) -> Iterator[Neighbour]:
    """The module of that name in a folder, and all that are in it, if it is a package."""
    single, package = folder / f"{name}.py", folder / name / "__init__.py"
    if package.is_file():
        for path in sorted(package.parent.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield Neighbour(dotted, str(path), content(path, MOST))
    elif single.is_file():
        yield Neighbour(name, str(single), content(single, MOST))


class Finder(MetaPathFinder, Loader):
    """Makes modules of neighbours, from the very bytes that a checksum is of."""

    def __init__(self) -> None:
        self.modules: dict[str, Neighbour] = {}

    def offer(self, neighbours: Sequence[Neighbour]) -> None:
        """Let these be importable from now on, in the place of others of their names."""
        if neighbours and self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        for neighbour in neighbours:
            if self.modules.get(neighbour.name) != neighbour:
                sys.modules.pop(neighbour.name, None)
            self.modules[neighbour.name] = neighbour
            foreign.owned(neighbour.name)

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        neighbour = self.modules.get(fullname)
        if neighbour is None:
            return None
        return spec_from_loader(fullname, self, origin=neighbour.path, is_package=neighbour.is_package)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        neighbour = self.modules[module.__name__]
        module.__file__ = neighbour.path
        exec(compile(neighbour.code, neighbour.path, "exec"), module.__dict__)


_finder = Finder()
offer = _finder.offer
