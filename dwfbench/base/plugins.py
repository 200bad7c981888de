"""What others add to dwfbench: entry points of their packages, and classes and functions from single files.

A package announces methods, models and data sets in the groups ``dwfbench.methods``, ``dwfbench.models`` and
``dwfbench.datasets``. A name belongs to dwfbench first: a package that takes one of ours, or that shares its name with
another package, is left out and named. What cannot be loaded is named when it is asked for or listed; the others are
not affected.

A file is given as ``path/to/file.py:NAME``. What it defines is called ``NAME@<12 hex digits>``, after the file's
SHA-256, so that changed code is another method or model. Foreign code is run for these words and for entry points
only, never because a record names it.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial
from importlib import metadata
from importlib.metadata import EntryPoint, EntryPoints
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from dwfbench.base import foreign, neighbours
from dwfbench.base.errors import UsageError, one_line, reason
from dwfbench.base.files import content
from dwfbench.base.neighbours import Neighbour
from dwfbench.base.streams import message

GROUPS = {
    "method": "dwfbench.methods",
    "model": "dwfbench.models",
    "data set": "dwfbench.datasets",
    "logger": "dwfbench.loggers",
}
"""The roles that a plug-in may have, each with its group of entry points."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # no comma, colon, @ or slash: they mean something in flags

MOST_CODE = 1 << 24
"""Bytes of a file of code."""

_told: set[str] = set()


def tell(sentence: str) -> None:
    """On stderr, on one line, once a process."""
    if sentence not in _told:
        _told.add(sentence)
        message(one_line(sentence))


# ---------------------------------------------------------------- installed packages


def find(role: str, built_in: Collection[str] = ()) -> tuple[dict[str, EntryPoint], dict[str, str]]:
    """The entry points of a role (a key of GROUPS) by name, and a sentence for every name that was refused.

    ``built_in`` are the names of dwfbench that are not entry points. Nothing is imported. Both dicts are in the order
    of names.
    """
    by_name: dict[str, list[EntryPoint]] = {}
    for point in _installed(GROUPS[role], tuple(sys.path)):
        by_name.setdefault(point.name, []).append(point)
    usable, refused = {}, {}
    for name, points in sorted(by_name.items()):
        own_points = [point for point in points if _is_ours(point.dist)]
        foreign_points = [point for point in points if not _is_ours(point.dist)]
        if own_points:
            usable[name] = own_points[0]
        packages = " and ".join(sorted(map(origin, foreign_points)))
        if foreign_points and (own_points or name in built_in):
            refused[name] = f"The {role} {name!r} of {packages} is left out: dwfbench has a {role} of this name."
        elif len(foreign_points) > 1:
            refused[name] = f"The {role} {name!r} is left out: {packages} both have one; uninstall one of them."
        elif foreign_points and not NAME.fullmatch(name):
            refused[name] = (
                f"The {role} {name!r} of {packages} is left out: names are letters, digits, '.', '_' and '-'."
            )
        elif foreign_points:
            usable[name] = foreign_points[0]
    return usable, refused


@cache
def _installed(group: str, path: tuple[str, ...]) -> EntryPoints:
    """A group's entry points of the packages on ``path``, looked for once: it takes milliseconds, a run asks often."""
    return metadata.entry_points(group=group)


@cache
def _is_ours(package: metadata.Distribution | None) -> bool:
    """A package's name is parsed anew whenever it is asked for."""
    return package is not None and package.name == "dwfbench"


def origin(point: EntryPoint) -> str:
    """The package of an entry point and the object that it names: "dwfbench-hoyer 0.1 (dwfbench_hoyer:Hoyer)"."""
    return f"{package_of(point)} ({point.value})"


def package_of(point: EntryPoint) -> str:
    """The package of an entry point and its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"


def load(role: str, point: EntryPoint) -> Any:
    """What an entry point names. UsageError with the reason where it cannot be loaded or is not callable."""
    if _is_ours(point.dist):
        refuse_shadow(point)
    else:
        foreign.owned(point.module, package_of(point))
    try:
        with foreign.contained():
            target = point.load()
    except Exception as error:  # a broken plug-in is named; it must not look like our own failure
        raise UsageError(broken(role, point, foreign.told(error))) from error
    if not callable(target):
        raise UsageError(broken(role, point, f"it must be callable, and not {type(target).__name__}"))
    return target


def refuse_shadow(point: EntryPoint) -> None:
    """UsageError where Python would import another package than ours: one on PyPI is called `baselines`, too."""
    package, root = point.value.partition(":")[0].partition(".")[0], Path(__file__).parents[2]
    spec = find_spec(package)
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    if folder is None or folder.parent.resolve() != root.resolve():
        raise UsageError(
            f"The package {package!r} that Python finds is {folder or 'missing'}, not the one of dwfbench in {root}; "
            "uninstall the other one, or use an environment without it."
        )


def broken(role: str, point: EntryPoint, cause: str) -> str:
    return f"The {role} {point.name!r} of {origin(point)} cannot be used: {cause}."


def describe(role: str, built_in: Mapping[str, Any]) -> list[dict[str, str]]:
    """`name`, `summary` and `source` of the models or data sets known by name, those ``built_in`` first; what of
    packages cannot be used is told and left out.

    There the summary is the first line of the callable's docstring; a line that begins with "Source: " gives the
    source, which else is the package.
    """
    rows = [{"name": name, "summary": entry.summary, "source": entry.source} for name, entry in built_in.items()]
    usable, refused = find(role, built_in)
    for sentence in refused.values():
        tell(sentence)
    for name, point in usable.items():
        try:
            target = load(role, point)
            with foreign.contained():
                lines = [line.strip() for line in (target.__doc__ or "").strip().splitlines()]
        except UsageError as error:
            tell(str(error))
            continue
        except Exception as error:
            tell(broken(role, point, foreign.told(error)))
            continue
        sources = [line.removeprefix("Source: ") for line in lines if line.startswith("Source: ")]
        summary = lines[0] if lines else "without a docstring"
        rows.append({"name": name, "summary": summary, "source": sources[0] if sources else origin(point)})
    return rows


def versions(names: Mapping[str, str]) -> dict[str, str]:
    """Versions of the packages, other than dwfbench, that ``names`` (role: name) come from, by package."""
    packages = {}
    for role, name in names.items():
        for point in _installed(GROUPS[role], tuple(sys.path)).select(name=name):
            if point.dist is not None and not _is_ours(point.dist):
                packages[point.dist.name] = point.dist.version
    return packages


# ---------------------------------------------------------------- single files


class File(NamedTuple):
    """The content of a file in which ``attribute`` is defined; ``role`` is "method" or "model".

    Or "weights", of a network: bytes of that name, which are never run. ``neighbours`` are the modules beside it that
    it imports.
    """

    role: str
    path: str
    attribute: str
    content: bytes
    neighbours: tuple[Neighbour, ...] = ()

    @property
    def digest(self) -> str:
        digest = hashlib.sha256(self.content)
        for neighbour in self.neighbours:
            digest.update(b"\0" + neighbour.name.encode() + b"\0" + neighbour.code)
        return digest.hexdigest()[:12]

    @property
    def identity(self) -> str:
        """What runs call it: ``NAME@<12 hex digits>``."""
        return f"{self.attribute}@{self.digest}"


_taken: dict[tuple[str, str], tuple[File, Any]] = {}


def names_file(word: str) -> bool:
    """Whether a word has the form ``path/to/file.py:NAME``."""
    path, _, attribute = word.rpartition(":")
    return path.endswith(".py") and attribute.isidentifier()


def refuse_bare(role: str, word: str) -> None:
    """UsageError for ``path/to/file.py`` alone, with the names in it that could be meant; the file is not run."""
    if not word.endswith(".py"):
        return
    definitions, noun = (
        ((ast.ClassDef,), "Class") if role == "method" else ((ast.ClassDef, ast.FunctionDef), "callable")
    )
    try:
        body = ast.parse(content(Path(word).expanduser(), MOST_CODE)).body
    except OSError as error:
        raise UsageError(f"The {role} {word!r} cannot be read ({error.strerror or error}).") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"The file {word} cannot be loaded ({reason(error)}).") from None
    names = [item.name for item in body if isinstance(item, definitions) and not item.name.startswith("_")]
    hint = f"here {' or '.join(f'{word}:{name}' for name in names)}" if names else "but this file defines none"
    raise UsageError(f"A {role} of a file is given as path/to/file.py:{noun}, {hint}.")


def names_code(word: str) -> bool:
    """Whether a word is of the form that runs code which is not installed: ``file.py:NAME`` or ``module:NAME``."""
    return ":" in word


def read(role: str, word: str) -> File:
    """The file of a word ``path/to/file.py:NAME``, which is not run. UsageError when it cannot be read."""
    path, _, attribute = word.rpartition(":")
    try:
        file = Path(path).expanduser()
        code = content(file, MOST_CODE)
        return File(role, path, attribute, code, neighbours.of(file, code))
    except OSError as error:
        raise UsageError(f"The {role} {word!r} cannot be read ({error.strerror or error}).") from None


def take(file: File) -> Any:
    """What a file defines under its name; the file is run once a process.

    A method is a class and bears the file's identity as its name. Raises UsageError where the file fails or does not
    define it.
    """
    key = (file.role, file.identity)
    if file.role == "weights":
        _taken[key] = (file, file.content)
    if key not in _taken:
        module, word = _run(file), f"{file.path}:{file.attribute}"
        target = vars(module).get(file.attribute)
        if target is None:
            raise UsageError(f"The file {file.path} defines no {file.attribute}.")
        if file.role == "method":
            # One that is imported would not be covered by the checksum.
            if not isinstance(target, type) or target.__module__ != module.__name__:
                raise UsageError(f"The method {word!r} must be a class that the file itself defines.")
            method: Any = target
            method.name = file.identity
        _taken[key] = (file, target)
    return _taken[key][1]


def taken(role: str, identity: str) -> Any | None:
    """What was taken from a file in this process under this identity, if anything."""
    return _taken[role, identity][1] if (role, identity) in _taken else None


def files() -> list[File]:
    """All files taken in this process, for worker processes to take too."""
    return [file for file, _ in _taken.values()]


def refuse_forgotten(role: str, name: str) -> None:
    """UsageError for ``NAME@<checksum>``, of a file that this process was not given."""
    if "@" in name:
        raise UsageError(
            f"The {role} {name!r} came from a file, which runs do not keep; give the file as path/to/file.py:"
            f"{name.partition('@')[0]}."
        )


# ---------------------------------------------------------------- either


def of_others(role: str, name: str, built_in: Collection[str] = ()) -> Callable[[], Any] | None:
    """What loads that which others call so: of a package, of a file, or of one that was taken in this process.

    None where there is none; why a package's was refused is told. Raises UsageError for a file that cannot be read.
    """
    if names_file(name):
        return partial(take, read(role, name))
    if (target := taken(role, name)) is not None:
        return lambda: target
    points, refused = find(role, built_in)
    if name in refused:
        tell(refused[name])
    return partial(load, role, points[name]) if name in points else None


def unusable(role: str, name: str, cause: str) -> str:
    """The sentence about that of others which is called so and cannot be used."""
    point = find(role)[0].get(name)
    return f"The {role} {name} cannot be used: {cause}." if point is None else broken(role, point, cause)


def _run(file: File) -> ModuleType:
    """The module that a file makes, from the very bytes that its checksum is of (no cache of compiled code)."""
    name = f"dwfbench_file_{file.digest}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = file.path
    sys.modules[name] = module  # dataclasses and pickle look a class's module up
    foreign.owned(name)
    try:
        with foreign.contained():
            neighbours.offer(file.neighbours)
            exec(compile(file.content, file.path, "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"The file {file.path} cannot be loaded ({foreign.told(error)}).") from error
    return module
