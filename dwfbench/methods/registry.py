"""How methods are found and made: by entry points of the group ``dwfbench.methods``, ours and third parties' alike, or
in a single file (see ``dwfbench.base.plugins``).
"""

from contextlib import suppress
from dataclasses import Field, fields
from importlib.metadata import EntryPoint
from typing import Any

from dwfbench.base import foreign, plugins
from dwfbench.base.errors import UsageError
from dwfbench.base.text import nearest
from dwfbench.methods.contract import Method
from dwfbench.runs.spec import CURVE_KEYS, OWN, settings


def installed() -> dict[str, EntryPoint]:
    """Entry points of all installed methods, by name; without those that ``plugins.find`` refuses."""
    return plugins.find("method")[0]


def load(name: str) -> type[Method]:
    """The class of a method: an installed one by its name, or ``path/to/file.py:Class``.

    A class from a file is named ``Class@<checksum>``, and is found under that name too in this process. UsageError
    for an unknown name (with the nearest one), and for a class that fails or breaks the contract.
    """
    in_file = plugins.names_file(name)
    path, _, attribute = name.rpartition(":")
    if in_file and attribute in installed():
        raise UsageError(f"There is a method {attribute!r} already; give the class in {path} another name.")
    load_class = plugins.of_others("method", name)
    if load_class is None:
        plugins.refuse_forgotten("method", name)
        plugins.refuse_bare("method", name)
        raise UsageError(f"There is no method {name!r}{nearest(name, installed())} `dwfbench list methods` shows them.")
    method = load_class()
    if why := fault(method, method.name if in_file else name):
        raise UsageError(plugins.unusable("method", name, why))
    return method


RESERVED = (
    *(*settings(), *OWN, *CURVE_KEYS, "methods", "title", "when"),
    *("recipe", "config", "allow_code", "data_dir", "results", "device", "threads", "lanes", "jobs", "compile"),
    *("eval_every", "checkpoint_minutes", "timeout_minutes", "ray", "cpus_per_group", "gpus_per_group"),
    *("tuned", "save_model", "dry_run", "force", "debug", "tag", "note", "log_to", "help"),
    *("trials", "lr_range", "widen"),
)
"""What an option of a method cannot be called: flags of commands, and keys of recipes."""

OPTION_TYPES = (bool, int, float, str, int | None, float | None, str | None)
"""What an option of a method can be."""


def fault(method: Any, name: str) -> str | None:
    """What in a class breaks the contract of a method called ``name``, as half a sentence; None where all is well."""
    if not (isinstance(method, type) and issubclass(method, Method)):
        return "it is not a subclass of dwfbench.method.Method"
    if method.name != name:
        return f"its class has the name {method.name!r} and not {name!r}"
    if method.knob not in (None, "strength", "compression"):
        return f"its knob must be 'strength', 'compression' or None, not {method.knob!r}"
    if not all(isinstance(text, str) for text in (method.summary, method.source)):
        return "its summary and source must be texts"
    if any(isinstance(value, Field) for value in vars(method).values()):
        return "its class has options but is not decorated with @dataclass(frozen=True)"
    for item in fields(method):
        if "help" not in item.metadata:
            return f"its option {item.name!r} is not made with dwfbench.method.option"
        if item.name in RESERVED:
            return f"its option {item.name!r} has the name of a flag or key that all methods share"
        if item.type not in OPTION_TYPES:
            allowed = (
                "bool, int, float or str (or None), and not a text, which `from __future__ import annotations` makes"
            )
            return f"its option {item.name!r} must be annotated with {allowed}"
    try:
        with foreign.contained():
            label = method().label()
    except Exception as error:
        return f"it cannot be made with its defaults ({foreign.told(error)})"
    return None if isinstance(label, str) else f"its label must be a text, not {type(label).__name__}"


def having(option: str) -> list[str]:
    """The installed methods that have such an option; those that cannot be loaded have none."""
    owners = []
    for name in installed():
        with suppress(UsageError):
            owners += [name for item in fields(load(name)) if item.name == option]
    return owners


def create(name: str, options: dict[str, Any]) -> Method:
    """A method with its options; UsageError for an unknown option, naming the nearest."""
    method = load(name)
    names = [item.name for item in fields(method)]
    for key in options:
        if key not in names:
            raise UsageError(f"The method {name} has no option {key!r}{nearest(key, names)}")
    return method(**options)
