"""The one exception that means "the user can fix this": the command line prints it and exits with 2; errors as text."""

import contextlib
from collections.abc import Iterator


class UsageError(ValueError):
    """Bad input: one sentence saying what is wrong and what to do about it."""

    def __str__(self) -> str:
        return one_line(super().__str__())


@contextlib.contextmanager
def refused(sentence: str) -> Iterator[None]:
    """Every exception from within but UsageError becomes one: the sentence, with the reason in brackets.

    For whatever a network's code does, in float32 and with other modules in it. A decorator too.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{sentence} ({reason(error)}).") from error


def reason(error: BaseException) -> str:
    """The kind of an error and what it says, on one line."""
    line = first_line(error)
    return line if line == type(error).__name__ else f"{type(error).__name__}: {line}"


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # of code of others, which may fail here, too
        lines = []
    return one_line((lines or [type(error).__name__])[0][:LONGEST])


LONGEST = 2000
"""Letters of a message: a value in it may be a whole file."""


def one_line(text: str) -> str:
    """Text of any origin, such as the names in an archive, as one line that only shows: nothing steers a terminal.

    Of what is too long, the middle is left out: a message begins with where the fault is and ends with what to do.
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 4 :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))
