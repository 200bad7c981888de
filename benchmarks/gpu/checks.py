"""The tests marked `cuda`, as a command with a limit; what they found is a JUnit file."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from benchmarks.gpu.limits import run

REHEARSED = "not compiled and not every_method or synflow"
"""The tests that a rehearsal runs: on a CPU they can only show that they run."""


def check(seconds: float, report: Path, log: Path, rehearse: bool = False) -> str:
    """Run the tests and say in a sentence what came of them."""
    words = [sys.executable, "-m", "pytest", "tests/end_to_end/test_cuda.py", "-q", "-p", "no:cacheprovider", "-rfE"]
    words += ["--durations", "5", f"--junitxml={report}"]
    words += ["--cuda-on", "cpu", "-k", REHEARSED] if rehearse else []
    report.unlink(missing_ok=True)
    run(words, seconds, log, grace=5)
    return summary(report)


def summary(report: Path) -> str:
    """What a JUnit file says, such as "34 passed, 1 failed"; without one, that the tests did not end."""
    if (counts := numbers(report)) is None:
        return "did not end"
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    other_counts = [f"{counts[name]} {word}" for name, word in WORDS.items() if counts[name]]
    return ", ".join([f"{passed} passed", *other_counts])


def passed(report: Path) -> bool:
    """Whether all of them ran, and passed."""
    counts = numbers(report)
    return counts is not None and counts["tests"] > 0 and not any(counts[name] for name in WORDS)


WORDS = {"failures": "failed", "errors": "with an error", "skipped": "skipped"}


def numbers(report: Path) -> dict[str, int] | None:
    """Tests, failures, errors and skips of a JUnit file; None where there is no whole one."""
    try:
        (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    except (OSError, ElementTree.ParseError, ValueError):
        return None
    return {name: int(suite.get(name, 0)) for name in ("tests", *WORDS)}
