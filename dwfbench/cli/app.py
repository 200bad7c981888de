"""The command line: its commands, each loaded from its family's file when it is asked for; errors and exit codes.

So that ``dwfbench --help`` starts at once, this file knows of a command its name, family and summary only. Torch and
pandas are imported by the commands that need them, when they run.
"""

import functools
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer

from dwfbench.base.errors import UsageError
from dwfbench.base.machine import let_threads_sleep
from dwfbench.base.text import message
from dwfbench.cli.help import Group, examples

SETTINGS: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}
"""What all of typer's applications here have in common."""

COMMANDS = {
    "Train": {
        "run": ("train", "train the runs of one or more curves"),
        "tune": ("train", "choose the learning rate with equal budgets"),
        "verify": ("train", "train stored runs again and compare"),
        "reproduce": ("reproduce", "train, compare and draw a figure of a paper"),
    },
    "Read results": {
        "compare": ("read", "tables: accuracy at matched compression, and more"),
        "claims": ("read", "verdicts on claims, each by one paired test"),
        "plot": ("plot", "figures: accuracy against compression, and more"),
        "report": ("read", "everything about stored runs as one HTML file"),
    },
    "Make files": {
        "pack": ("files", "make one archive of results folders and archives"),
        "unpack": ("files", "make a results folder of an archive"),
        "export": ("files", "write the sparse network of a run as files"),
        "measure": ("files", "sizes, accuracy and speed of runs on this device"),
    },
    "See what there is": {
        "list": ("info", "methods, models, data sets, recipes or stored runs"),
        "doctor": ("info", "examine this machine, installation and results"),
    },
}
"""The commands by panel: the file of each, and what ``dwfbench --help`` says of it."""

OK, SOME_FAILED, USAGE, NOTHING, INTERRUPTED = 0, 1, 2, 3, 130


class LazyGroup(Group):
    """A group that loads a command's file when that command is called."""

    def resolve_command(self, ctx, args):
        name, stub, rest = super().resolve_command(ctx, args)
        return name, stub and loaded(stub), rest


def loaded(stub):
    """The command that a stub stands for, made by the file of its family."""
    family = import_module(f"dwfbench.cli.{COMMANDS[stub.rich_help_panel][stub.name][0]}").app
    alone = typer.Typer(add_completion=False, **SETTINGS)
    alone.registered_commands = [command for command in family.registered_commands if command.name == stub.name]
    return typer.main.get_command(alone)


app = typer.Typer(
    cls=LazyGroup,
    name="dwfbench",
    help="Deep Weight Factorization and pruning baselines, compared at equal budgets.",
    epilog=examples(
        "dwfbench run --method dwf --depth 3    # train a curve",
        "dwfbench compare                       # tables",
        "dwfbench plot                          # figures",
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    **SETTINGS,
)


def guarded(command: Callable) -> Callable:
    """Errors as one sentence on stderr and an exit code; the traceback only with --debug."""

    @functools.wraps(command)
    def wrapper(*args, **kwargs):
        try:
            code = command(*args, **kwargs)
        except KeyboardInterrupt:
            message("Interrupted; finished runs are kept, and the same command goes on from there.")
            code = INTERRUPTED
        except BrokenPipeError:  # e.g. `dwfbench compare | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = OK
        except UsageError as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            message(f"Error: {error}")
            code = USAGE
        except Exception as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            message(f"Error: {type(error).__name__}: {error} (an unexpected failure; --debug shows where).")
            code = SOME_FAILED
        raise typer.Exit(code or OK)

    return wrapper


def version(value: bool) -> None:
    if value:
        from dwfbench import __version__

        typer.echo(f"dwfbench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    show: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="show the version")] = False,
) -> None:
    pass


for panel, commands in COMMANDS.items():
    for command_name, (_, summary) in commands.items():
        app.command(command_name, help=summary, rich_help_panel=panel)(lambda: None)


def main() -> None:
    """The console script ``dwfbench``."""
    let_threads_sleep()
    os.environ.pop("MPLBACKEND", None)  # a notebook's, which may not be installed here; no command opens a window
    app()
