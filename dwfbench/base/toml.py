"""TOML that anybody may have written, in bounded time."""

import re
import tomllib
from typing import Any

DEEPEST = 32
"""Parts of a dotted key: what tomllib takes for one grows with their square."""
PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
DOTTED = re.compile(rf"(?<![\w-]){PART}(?:[ \t]*+\.[ \t]*+{PART}){{{DEEPEST},}}")


def parsed(text: str) -> dict[str, Any]:
    """The content of a file. Raises ValueError where it is no TOML, or nested more deeply than any that makes sense."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")  # as editors of Windows write it
    if DOTTED.search(text):
        raise ValueError(f"a key has more than {DEEPEST} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
