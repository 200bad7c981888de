"""The command that trains a run again, from its record alone and whatever recipes say by then."""

import shlex
from typing import Any

from dwfbench.base.errors import UsageError
from dwfbench.runs.record import SETTINGS, Record

OWN = {"method": "path/to/file.py:", "model": "path/to/file.py:", "dataset": "path/to/", "init": "path/to/"}
"""Settings that may be called ``NAME@<checksum>``, and what stands before NAME in a command."""


def command(record: Record, *words_after: str) -> str:
    """The command, quoted for a shell, with ``words_after`` at its end.

    What came from a file or folder of one's own has ``path/to/`` before its name, for the record does not know it.
    Raises UsageError as ``refuse_unknown``.
    """
    refuse_unknown(record)
    words = ["dwfbench", "run", "--method", own_path("method", record.spec.method)]
    for name, value in record.spec.options.items():
        words += flag(name, value)
    words += flag(record.knob, record.knob_value) if record.knob else []
    for name in SETTINGS:
        if name not in ("method", "options", "strength", "compression"):
            words += flag(name, own_path(name, getattr(record.spec, name)))
    return shlex.join([*words, *words_after])


def refuse_unknown(record: Record) -> None:
    """UsageError for a record with settings that this version does not know, which cannot be trained again."""
    if unknown := sorted(record.spec.others):
        raise UsageError(f"The run {record.id} has settings that this version does not know: {', '.join(unknown)}.")


def lines(text: str, columns: int | None) -> str:
    """A command in lines that a shell takes as one, broken before flags; as it is without a number of columns."""
    if columns is None:
        return text
    parts, *flags = text.split(" --")
    broken = [parts]
    for part in flags:
        if len(broken[-1]) + len(part) + 5 > columns:
            broken.append("   ")
        broken[-1] += f" --{part}"
    return " \\\n".join(broken)


def flag(name: str, value: Any) -> list[str]:
    """A setting as words of a command line."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", "none" if value is None else str(value)]


def own_path(setting: str, value: Any) -> Any:
    """``NAME@<checksum>`` as a path that has this name, if it is one; else the value."""
    is_own = setting in OWN and isinstance(value, str) and "@" in value
    return OWN[setting] + value.partition("@")[0] if is_own else value
