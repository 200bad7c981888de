"""Code of others while it runs: what it does, be it to raise anything or to end the process, is told as its failure.

Which modules are code of others, ``plugins`` and ``models`` say when they load them.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

from dwfbench.base.errors import reason

_owners: dict[str, str] = {}
"""Modules of others, each with what it is called beside the name of its file: "foreign-net 1.2", or nothing more."""


class Ended(Exception):
    """Code of others raised what is no Exception, or wanted to end the process."""


def owned(module: str, package: str = "") -> None:
    """From now on, a module and those within are code of others."""
    _owners[module] = package


@contextmanager
def contained() -> Iterator[None]:
    """Within, code of others runs: what it raises that is no Exception is raised as ``Ended``, and so is os._exit.

    An interrupt passes, and so does GeneratorExit.
    """
    real, process = os._exit, os.getpid()

    def refused(status: int) -> None:
        if os.getpid() != process or threading.current_thread() is not threading.main_thread():
            real(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = refused  # type: ignore[assignment]  # it would end the process without a word
    try:
        yield
    except (Exception, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and is_ours(error):
            raise
        raise Ended(reason(error)) from error
    finally:
        os._exit = real


def is_ours(error: KeyboardInterrupt) -> bool:
    """Whether an interrupt is a signal's, and not raised by code of others.

    Handlers of dwfbench raise it in Python; of those of Python itself nothing is known, so it is believed.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return True
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1].startswith("dwfbench.")


def told(error: BaseException) -> str:
    """The kind of an error, what it says and, if code of others raised it, where: all on one line."""
    text = str(error) if isinstance(error, Ended) else reason(error)
    origin = whose(error)
    return f"{text} ({origin})" if origin else text


def whose(error: BaseException | None) -> str | None:
    """The line in code of others at which an error, or its cause, was raised: "line 12 of own.py"; None without one."""
    while error is not None:
        for frame, line in reversed(list(walk_tb(error.__traceback__))):
            module = frame.f_globals.get("__name__", "")
            parts = module.split(".")
            for length in range(len(parts), 0, -1):
                package = _owners.get(".".join(parts[:length]))
                if package is not None:
                    name = Path(frame.f_code.co_filename).name
                    return f"line {line} of {name}" + (f", {package}" if package else "")
        error = error.__cause__ or error.__context__
    return None
