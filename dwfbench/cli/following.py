"""What usually follows a command, said in one dim line when it ends; on a terminal only."""

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dwfbench.base.streams import on_terminal

CHOICES = ("results", "dataset", "model", "method", "threshold", "tag")
"""Flags that say which runs are read, which the next command is to read, too."""

OF_TUNING = ("trials", "lr-range", "widen", "seed", "seeds", "points")
SWITCHES_OF_TUNING = ("force", "debug")
"""Flags of `tune` that `run --tuned` has none of, or that mean something else there."""


def tell(command: str, parameters: Mapping[str, Any]) -> None:
    """After a command with its parameters, the one that usually follows, not wrapped, for copying."""
    if command in FOLLOWING and on_terminal() and (words := FOLLOWING[command](parameters)):
        line = f"Next: {shlex.join(words)}"
        with suppress(OSError):
            print(line if os.environ.get("NO_COLOR") else f"\x1b[2m{line}\x1b[0m", file=sys.stderr, flush=True)


def reading(command: str, parameters: Mapping[str, Any], names: Sequence[str] = CHOICES) -> list[str]:
    """A command that reads the same runs; the folder that is read anyway is not named."""
    words = ["dwfbench", command]
    for name in names:
        values = parameters.get(name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and (name, str(value)) != ("results", "results"):
                words += [f"--{name}", str(value)]
    return words


def after_run(parameters: Mapping[str, Any]) -> list[str] | None:
    return None if parameters["dry_run"] else reading("compare", parameters, ["results"])


def after_tune(parameters: Mapping[str, Any]) -> list[str]:
    """The winners are of its settings, all of which are to be repeated."""
    words, command = iter(sys.argv[2:]), ["dwfbench", "run", "--tuned"]
    for word in words:
        flag, equals, _ = word.removeprefix("--").partition("=")
        if flag in OF_TUNING and not equals:
            next(words, None)
        elif flag not in (*OF_TUNING, *SWITCHES_OF_TUNING):
            command.append(word)
    return command


def after_report(parameters: Mapping[str, Any]) -> list[str] | None:
    """Nothing where all that was read is one archive already."""
    sources = parameters["results"]
    paths = [Path(source.rpartition("=")[2]) for source in sources]
    if len(paths) == 1 and paths[0].suffix == ".zip":
        return None
    return ["dwfbench", "pack", *sources, "-o", f"{paths[0].resolve().name}.zip" if len(paths) == 1 else "all.zip"]


def after_files(parameters: Mapping[str, Any]) -> list[str]:
    """The program that lies among the files: it checks them and says how to go on."""
    return ["python", str(parameters["to"] / "load.py")]


FOLLOWING: dict[str, Callable[[Mapping[str, Any]], list[str] | None]] = {
    "run": after_run,
    "tune": after_tune,
    "compare": lambda parameters: reading("plot", parameters),
    "plot": lambda parameters: reading("report", parameters),
    "report": after_report,
    "pack": lambda parameters: ["dwfbench", "compare", "--results", str(parameters["output"])],
    "sparsify": after_files,
    "export": after_files,
}
"""The words of the command that follows each, from its parameters; none where nothing does."""
