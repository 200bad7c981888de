"""The methods of a command line: names separated by commas, each with what its brackets bind to it.

``dwf[depth=2,3],l1[proximal=true,lr=0.2]`` is DWF at two depths and the lasso with a learning rate of its own. In the
brackets stand options of the method and what a table ``[method.NAME]`` of a config file may say.
"""

from typing import Any

from dwfbench.cli.values import numbers
from dwfbench.runs import brackets, spec


def methods(text: str | None) -> list[tuple[str, dict[str, Any]]] | None:
    """(name, settings of its brackets) of every entry, in order; options of methods stay lists of texts.

    UsageError for brackets that cannot be read; whether a method has such an option is checked later.
    """
    if text is None:
        return None
    return [entry(part) for part in brackets.split(text)]


def entry(text: str) -> tuple[str, dict[str, Any]]:
    """``name`` or ``name[key=value,value,key=value]``."""
    name, values = brackets.parse(text)
    return name, {key: converted(name, key, listed) for key, listed in values.items()}


def converted(name: str, key: str, values: list[str]) -> Any:
    """The values of a key, as its flag would give them."""
    if key in spec.settings():
        return spec.stated(spec.settings()[key], ",".join(values))
    if key in spec.CURVE_KEYS:
        parsed = numbers(",".join(values), f"method {name}[{key}=...]")
        return parsed[0] if len(parsed) == 1 else parsed
    return values
