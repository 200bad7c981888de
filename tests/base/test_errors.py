"""Messages: one line, whatever is in it."""

from dwfbench.base.errors import LONGEST, UsageError, first_line


def test_of_a_message_that_holds_a_whole_file_both_ends_are_shown():
    said = str(UsageError(f"lr must be a number, not {'9' * 30_000_000!r}; give another one."))
    assert said.startswith("lr must be a number, not '999")
    assert said.endswith("999'; give another one.")
    assert " [...] " in said
    assert len(said) < LONGEST
    assert len(first_line(ValueError("9" * 30_000_000))) == LONGEST


def test_a_message_that_is_not_too_long_is_as_it_is():
    assert str(UsageError("a" * LONGEST)) == "a" * LONGEST
    assert str(UsageError("a\nb\x1b")) == "a b\\x1b"
