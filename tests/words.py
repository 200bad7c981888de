"""Command lines of tests."""

from collections.abc import Iterator


def once(*words: object) -> list[str]:
    """The words of a command, every flag once, with its last value: a test's own follow those that it shares."""
    flags: dict[str, list[str]] = {}
    plain = []
    for word, *value in _flags(list(map(str, words))):
        if word.startswith("--"):
            flags[word] = [word, *value]
        else:
            plain.append(word)
    return [*plain, *(word for flag in flags.values() for word in flag)]


def _flags(words: list[str]) -> Iterator[list[str]]:
    """Each flag with its value, if it has one; other words alone."""
    while words:
        word = words.pop(0)
        takes = word.startswith("--") and "=" not in word and words and not words[0].startswith("--")
        yield [word, words.pop(0)] if takes else [word]
