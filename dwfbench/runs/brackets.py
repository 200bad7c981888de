"""Methods as texts name them: ``dwf[depth=2,3]`` is a name with settings in brackets, each of one value or more."""

import re

from dwfbench.base.errors import UsageError

OUTSIDE = re.compile(r",(?![^\[\]]*\])")
"""A comma that separates methods."""


def split(text: str) -> list[str]:
    """The methods of a list in one text. Raises UsageError for a bracket without its other, and where there is none."""
    if text.count("[") != text.count("]"):
        raise UsageError(f"--method has a bracket that is not closed, or not opened, in {text!r}.")
    if not (parts := [part.strip() for part in OUTSIDE.split(text) if part.strip()]):
        raise UsageError("An empty list of names was given.")
    return parts


def parse(text: str) -> tuple[str, dict[str, list[str]]]:
    """The name of a method and the values by key of its brackets. Raises UsageError if they cannot be read."""
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
    return name.strip(), values
