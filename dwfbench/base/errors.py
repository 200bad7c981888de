"""The one exception that means "the user can fix this": the command line prints it and exits with 2."""


class UsageError(ValueError):
    """Bad input: one sentence saying what is wrong and what to do about it."""

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """Text of any origin, such as the names in an archive, as one line that only shows: nothing steers a terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))
