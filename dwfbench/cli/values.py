"""The values of flags that are lists in a text: names and numbers separated by commas."""

import math
from collections.abc import Iterable

from dwfbench.base.errors import UsageError


def names(text: str) -> list[str]:
    """A comma list of names."""
    listed = [part.strip() for part in text.split(",") if part.strip()]
    if not listed:
        raise UsageError("An empty list of names was given.")
    return listed


def numbers(text: str, flag: str) -> list[float]:
    """A comma list of numbers; whole ones are ints."""
    try:
        values = [float(part) for part in text.split(",")]
        if not all(map(math.isfinite, values)):
            raise ValueError
    except ValueError:
        hint = " (--seeds 5 counts five from 0)" if flag == "seed" else ""
        raise UsageError(f"--{flag} takes numbers separated by commas, not {text!r}{hint}.") from None
    return [int(value) if value.is_integer() and abs(value) < 1e15 else value for value in values]


def one_of(text: str, flag: str, choices: Iterable[str]) -> str:
    """The text, which must be among the choices."""
    if text not in (allowed := list(choices)):
        raise UsageError(f"--{flag} must be one of {', '.join(allowed)}, not {text!r}.")
    return text


def pair(text: str, flag: str) -> tuple[float, float]:
    """Two numbers, the ends of a range."""
    values = numbers(text, flag)
    if len(values) != 2:
        raise UsageError(f"--{flag} takes two numbers separated by a comma, not {text!r}.")
    return values[0], values[1]
