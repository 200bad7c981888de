"""The command line: its commands, each loaded from its family's file when it is asked for; errors and exit codes.

So that ``dwfbench --help`` starts at once, this file knows of a command its name, family and summary only. Torch and
pandas are imported by the commands that need them, when they run.
"""

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer

from dwfbench.base import foreign, memory
from dwfbench.base.errors import UsageError, reason
from dwfbench.base.machine import let_threads_sleep
from dwfbench.base.streams import answer, message, own_stdout
from dwfbench.cli import following
from dwfbench.cli.help import Group, examples

SETTINGS: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}
"""What all of typer's applications here have in common."""

COMMANDS = {
    "Train": {
        "run": ("train", "train the runs of one or more curves"),
        "tune": ("train", "choose the learning rate with equal budgets"),
        "sparsify": ("own", "make a trained network sparse, the short way"),
        "suggest": ("own", "strengths, steps and rates for DWF, by arithmetic"),
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
        "show": ("show", "a run: outcome, settings, layers, how to repeat it"),
        "doctor": ("info", "examine this machine, installation and results"),
    },
}
"""The commands by panel: the file of each, and what ``dwfbench --help`` says of it."""

STORING = ("run", "tune", "sparsify", "reproduce")
"""Those that store what they train, run by run."""

OK, SOME_FAILED, USAGE, NOTHING, INTERRUPTED = 0, 1, 2, 3, 130


class LazyGroup(Group):
    """A group that loads a command's file when that command is called."""

    def resolve_command(self, ctx, args):
        name, stub, remaining = super().resolve_command(ctx, args)
        return name, stub and loaded(stub), remaining


def loaded(stub):
    """The command that a stub stands for, made by the file of its family."""
    family = import_module(f"dwfbench.cli.{COMMANDS[stub.rich_help_panel][stub.name][0]}").app
    single = typer.Typer(add_completion=False, **SETTINGS)
    single.registered_commands = [command for command in family.registered_commands if command.name == stub.name]
    return typer.main.get_command(single)


app = typer.Typer(
    cls=LazyGroup,
    name="dwfbench",
    help="Deep Weight Factorization and pruning baselines, compared at equal budgets.",
    epilog=examples(
        "dwfbench run --method dwf,magnitude,dense --compression 5,30,100",
        "dwfbench compare --at 5,30,100",
        "dwfbench plot",
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    **SETTINGS,
)


def guarded(command: Callable) -> Callable:
    """Errors as one sentence on stderr and an exit code; the traceback only with --debug."""

    @functools.wraps(command)
    def wrapper(*args, **kwargs):
        with own_stdout() as outermost, interruptible():
            try:
                memory.require_addresses()
                with foreign.contained():
                    code = command(*args, **kwargs)
            except KeyboardInterrupt as error:
                line = foreign.whose(error)
                origin = f" in code of others, {line}" if line else ""
                kept = "; finished runs are kept, and the same command goes on from there"
                message(f"Interrupted{origin}{kept if command.__name__ in STORING else ''}.")
                code = INTERRUPTED
            except BrokenPipeError:  # e.g. `dwfbench compare | head`
                code = OK
            except UsageError as error:
                show_traceback(kwargs)
                message(f"Error: {error}")
                code = USAGE
            except BaseException as error:
                show_traceback(kwargs)
                message(f"Error: {foreign.told(error)}: {unexpected(error)}; --debug shows where.")
                code = SOME_FAILED
            else:  # runs that missed their targets can be read, too
                if outermost and (not code or command.__name__ == "run"):
                    following.tell(command.__name__, kwargs)
        raise typer.Exit(code or OK)

    return wrapper


def unexpected(error: BaseException) -> str:
    """What sort of failure it is that no sentence was made for."""
    if memory.is_lack(error):
        free = memory.available() / memory.GIB
        return f"there is too little memory for this command, of which {free:.1f} GiB are available"
    return "a failure of code of others" if foreign.whose(error) else "an unexpected failure"


def show_traceback(parameters: Mapping[str, Any]) -> None:
    """With --debug."""
    if parameters.get("debug"):
        traceback.print_exc()


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, an interrupt is raised by a function of ours, so that none that code of others raises is taken for it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # a shell's background job
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def version(value: bool) -> None:
    if value:
        from dwfbench import __version__

        answer(f"dwfbench {__version__}")
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
    try:
        app()
    except (OSError, UsageError) as error:  # of help and version, which no command guards
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        message(f"Error: {error if isinstance(error, UsageError) else reason(error)}")
        sys.exit(USAGE)
