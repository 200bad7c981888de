"""The one exception that means "the user can fix this": the command line prints it and exits with 2."""


class UsageError(ValueError):
    """Bad input: one sentence saying what is wrong and what to do about it."""
