"""Help in panels: flags and commands under headings, examples at the end, as plain text of the terminal's width.

A panel is what typer calls ``rich_help_panel``. Its own renderer draws boxes by rich, whose import takes longer than
all else that ``dwfbench --help`` does, so the headings here are those of click's formatter.
"""

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

from dwfbench.base.text import nearest
from dwfbench.cli.misuse import Misused, explained, require_once

ARGUMENTS, STORED, TUNING, WHAT, KNOB = "Arguments", "Which runs", "Tuning", "What to train", "Knob"
OPTIMISATION, DATA, ENGINE, OUTPUT, OPTIONS = "Optimisation", "Data", "Engine", "Output", "Options"
LAYOUT, TEXT = "Layout, of every figure", "The table as text"
PANELS = (ARGUMENTS, STORED, TUNING, WHAT, KNOB, OPTIMISATION, DATA, ENGINE, OUTPUT, OPTIONS, LAYOUT, TEXT)
"""The order of a command's panels; what is in none is among its options."""


def examples(*lines: str, note: str = "") -> str:
    """The end of a command's help: command lines that can be copied, and what else is to be said."""
    text = "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
    return f"{text}\n\n{note}" if note else text


def write_panels(formatter, rows: Iterable[tuple[str, tuple[str, str]]]) -> None:
    """Writes (panel, (term, description)) rows, a heading a panel."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for panel, row in rows:
        panels.setdefault(panel, []).append(row)
    for panel, listed in panels.items():
        with formatter.section(panel):
            formatter.write_dl(listed)


def flag_rows(command, ctx) -> list[tuple[str, tuple[str, str]]]:
    """The flags and arguments of a command by panel."""
    described = [(panel_of(param), param.get_help_record(ctx)) for param in command.get_params(ctx)]
    return sorted((row for row in described if row[1] is not None), key=lambda row: PANELS.index(row[0]))


def panel_of(param: Any) -> str:
    usual = ARGUMENTS if param.param_type_name == "argument" else OPTIONS
    return getattr(param, "rich_help_panel", None) or usual


class Command(TyperCommand):
    """A command whose help has panels, and which says in a sentence what it does not understand."""

    def parse_args(self, ctx, args):
        with explained(self, list(args)):
            require_once(self.make_parser(ctx).parse_args(list(args))[2])
            return super().parse_args(ctx, args)

    def format_options(self, ctx, formatter):
        write_panels(formatter, flag_rows(self, ctx))


class Group(TyperGroup):
    """The same for a group: its commands are the first panels."""

    def parse_args(self, ctx, args):
        with explained(self, list(args)):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx, args):
        if args and args[0] not in self.commands:
            hint = nearest(args[0], self.commands)
            raise Misused(f"There is no command {args[0]!r}{hint} `dwfbench -h` lists the commands.")
        return super().resolve_command(ctx, args)

    def format_options(self, ctx, formatter):
        commands = [self.commands[name] for name in self.list_commands(ctx)]
        write_panels(
            formatter,
            [
                (getattr(command, "rich_help_panel", None) or "Commands", (command.name or "", command.help or ""))
                for command in commands
            ]
            + flag_rows(self, ctx),
        )
