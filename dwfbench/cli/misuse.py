"""What click refuses on a command line, in sentences like the others: what is wrong, and what was probably meant."""

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from dwfbench.base.text import nearest

Refused: Any = typer.BadParameter.__base__  # click's usage error, whichever click this typer has
Shown: Any = Refused.__base__

MEANT = {"--seeds": "the number of seeds, counted from 0 (--seed names them)"}
"""What a flag takes, where something else is often given."""


class Misused(Shown):
    """One sentence in place of click's three lines."""

    exit_code = 2


@contextmanager
def explained(command: Any, words: Sequence[str]) -> Iterator[None]:
    """Around the parsing of a command's words: what click refuses there is said in one sentence."""
    flags = [flag for param in command.params for flag in (*param.opts, *param.secondary_opts)]
    dashed = (word for word in words if word.startswith("-"))
    if double := next((word for word in dashed if f"-{word}" in flags), None):  # click takes it for several letters
        raise Misused(f"{double} is written with two dashes: -{double}.")
    try:
        yield
    except Refused as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        raise Misused(sentence(error, command.name, flags, words)) from None


def require_once(order: Sequence[Any]) -> None:
    """Raises Misused for a flag that is among the parsed parameters twice, since click would forget its first value."""
    for index, param in enumerate(order):
        if param in order[:index] and param.param_type_name == "option" and not (param.multiple or param.count):
            hint = "" if param.is_flag else "; where a flag takes several values, commas separate them"
            raise Misused(f"{param.opts[0]} is given twice{hint}.")


def sentence(error: Any, name: str, flags: Sequence[str], words: Sequence[str]) -> str:
    """What is wrong with the words of the command ``name``, which has these flags."""
    shows = f"`dwfbench {name} -h`" if name != "dwfbench" else "`dwfbench -h`"
    param: Any = getattr(error, "param", None)
    if unknown_flag := getattr(error, "option_name", None) if "No such option" in str(error.message) else None:
        return f"There is no flag {unknown_flag} here{nearest(unknown_flag, flags)} {shows} lists the flags."
    if type(error).__name__ == "MissingParameter":
        argument = param.metavar if param.param_type_name == "argument" and param.metavar else param.opts[0].upper()
        return f"`dwfbench {name}` needs {argument}: {param.help}; {shows} has examples."
    if param is None or (value := value_of(words, param.opts)) is None:
        return f"{str(error.message).rstrip('.')}; {shows} lists the flags."
    expected = "a whole number" if "integer" in error.message else "a number"
    least = re.search(r"(?:>=|equal to) ?([\d.]+)", error.message)  # click's words, or pydantic's
    expected = next((MEANT[flag] for flag in param.opts if flag in MEANT), expected)
    return f"{param.opts[0]} takes {expected}{f' of at least {least[1]}' if least else ''}, not {value!r}."


def value_of(words: Sequence[str], flags: Sequence[str]) -> str | None:
    """The value that follows one of the flags."""
    for word, following in itertools.pairwise([*words, ""]):
        flag, equals, value = word.partition("=")
        if flag in flags:
            return value if equals else following
    return None
