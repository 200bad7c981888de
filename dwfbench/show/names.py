"""Names that a user wants to read in figures and tables instead of those of records."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dwfbench.base import files, toml
from dwfbench.base.errors import UsageError

MOST = 1 << 20
"""Bytes of a file of names."""


def read_names(file: Mapping[str, str] | Path | str | None) -> dict[str, str]:
    """The names of a TOML file: "as it is" = "as it is to be shown". UsageError where it holds anything else.

    Those of a mapping are its own, and None is none.
    """
    if file is None or isinstance(file, Mapping):
        return dict(file or {})
    try:
        content: Any = toml.parsed(files.text(file, MOST))
    except (OSError, ValueError) as error:
        raise UsageError(f"The names in {file} cannot be read ({error}).") from None
    if wrong := [key for key, value in content.items() if not isinstance(value, str) or not key]:
        raise UsageError(f'{file}: the name of {wrong[0]!r} must be a text: "{wrong[0]}" = "...".')
    return content


class Names:
    """Names to show for others: of a whole text, else of the words in it, so that "dwf D=3" also names "dwf D=3
    (epochs=60)". Longer ones come first.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)
        longest = sorted(map(re.escape, names), key=len, reverse=True)
        self.pattern = re.compile(rf"(?<![\w-])({'|'.join(longest)})(?![\w-])") if names else None

    def of(self, text: str, escape: Callable[[str], str]) -> str:
        """The text with its names, and everything else escaped."""
        if text in self.names:
            return self.names[text]
        parts = self.pattern.split(text) if self.pattern else [text]
        return "".join(self.names[part] if index % 2 else escape(part) for index, part in enumerate(parts))
