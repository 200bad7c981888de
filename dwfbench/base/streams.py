"""stdout: what a command was asked for, and nothing else, whoever prints. stderr: what is told beside it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import TextIO

from dwfbench.base import screen
from dwfbench.base.errors import UsageError

_stdout: TextIO | None = None


@contextmanager
def own_stdout() -> Iterator[bool]:
    """Within, ``answer`` alone writes to stdout: what code of others prints, also in C or in processes, is on stderr.

    File descriptor 1 stays stderr's until the process ends, at which others may print, too. A command that is called by
    another one writes to that one's stdout; what is yielded is whether this one was called by none.
    """
    global _stdout
    if _stdout is not None:
        yield False
        return
    before = sys.stdout
    _stdout = _taken(before)
    sys.stdout = sys.stderr
    try:
        yield True
    finally:
        sys.stdout, stream, _stdout = before, _stdout, None
        if stream is not before and stream is not None:
            stream.close()


def _taken(stream: TextIO) -> TextIO:
    """A stream to where stdout leads, whose place is then stderr's; stdout itself where it is no file, or closed."""
    try:
        if stream.fileno() != 1:
            return stream
        stream.flush()
        descriptor = os.dup(1)
    except (AttributeError, OSError, ValueError):
        return stream
    try:
        os.dup2(2, 1)
    except OSError:  # stderr is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    # What the terminal's alphabet lacks is shown by its number, as JSON writes it, too.
    return open(descriptor, "w", encoding=stream.encoding, errors="backslashreplace")


@contextmanager
def kept_stderr() -> Iterator[Callable[[], str]]:
    """Within, what libraries write to stderr is not shown; what they wrote so far is what the yielded call gives."""
    with TemporaryFile() as file:
        try:
            before = os.dup(2)
        except OSError:  # it is closed
            yield lambda: ""
            return
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: os.pread(file.fileno(), 1 << 20, 0).decode(errors="replace")
        finally:
            os.dup2(before, 2)
            os.close(before)


def answer(text: str) -> None:
    """A text and the end of its line, on stdout. Raises BrokenPipeError, and UsageError where it cannot be written."""
    stream = _stdout or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what it still holds has to go somewhere
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"stdout cannot be written ({error.strerror or error}).") from None


def width() -> int | None:
    """The columns of the terminal that stdout goes to; None for a file or a pipe."""
    return screen.width(_stdout or sys.stdout)


def on_terminal() -> bool:
    """Whether a person sees both what is answered and what is told beside it."""
    return all(stream is not None and stream.isatty() for stream in (_stdout or sys.stdout, sys.stderr))


def say(text: str) -> None:
    """Sentences on stdout, broken at words on a terminal. Raises as ``answer``."""
    answer(screen.wrapped(text, width()))


def message(sentence: str) -> None:
    """A sentence for the user, on stderr; where that is full or closed, nobody reads it, which ends no training."""
    with suppress(OSError):
        print(screen.wrapped(sentence, screen.width(sys.stderr)), file=sys.stderr, flush=True)


def beside(format: str, text: str) -> None:
    """A text that belongs to a table but is none of it: on stdout below one for people, else on stderr."""
    (say if format == "table" else message)(text)
