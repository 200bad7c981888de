"""The methods of a command line: names separated by commas, each with what its brackets bind to it.

``dwf[depth=2,3],l1[proximal=true,lr=0.2]`` is DWF at two depths and the lasso with a learning rate of its own. In the
brackets stand options of the method and what a table ``[method.NAME]`` of a config file may say.
"""

import re
from typing import Any

from dwfbench.base.errors import UsageError
from dwfbench.cli.values import names, numbers
from dwfbench.runs import spec

OUTSIDE_BRACKETS = re.compile(r",(?![^\[\]]*\])")
"""A comma that separates methods."""


def methods(text: str | None) -> list[tuple[str, dict[str, Any]]] | None:
    """(name, settings of its brackets) of every entry, in order; options of methods stay lists of texts.

    UsageError for brackets that cannot be read; whether a method has such an option is checked later.
    """
    if text is None:
        return None
    if text.count("[") != text.count("]"):
        raise UsageError(f"--method has a bracket that is not closed, or not opened, in {text!r}.")
    entries = [part.strip() for part in OUTSIDE_BRACKETS.split(text) if part.strip()]
    return [entry(part) for part in entries] or [(name, {}) for name in names(text)]


def entry(text: str) -> tuple[str, dict[str, Any]]:
    """``name`` or ``name[key=value,value,key=value]``."""
    if not text.endswith("]"):
        return text, {}
    name, _, inside = text[:-1].rpartition("[")
    values: dict[str, list[str]] = {}
    for part in filter(None, map(str.strip, inside.split(","))):
        key, equals, value = (side.strip() for side in part.partition("="))
        key = key.replace("-", "_")
        if equals and key in values:
            raise UsageError(f"--method {name}[...] gives {key} twice; separate several values by commas.")
        if equals:
            values[key] = [value]
        elif values:
            values[next(reversed(values))].append(part)
        else:
            raise UsageError(f"--method {name}[...] takes name=value in its brackets, not {part!r}.")
    return name.strip(), {key: converted(name, key, listed) for key, listed in values.items()}


def converted(name: str, key: str, values: list[str]) -> Any:
    """The values of a key, as its flag would give them."""
    if key in spec.settings():
        return spec.coerce(spec.settings()[key], ",".join(values))
    if key in spec.CURVE_KEYS:
        parsed = numbers(",".join(values), f"method {name}[{key}=...]")
        return parsed[0] if len(parsed) == 1 else parsed
    return values
