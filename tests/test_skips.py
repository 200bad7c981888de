"""Continuous integration fails when a test is skipped for a reason that nobody listed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import KNOWN_SKIPS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("reason", "code"), [(KNOWN_SKIPS[0], 0), ("no such program", 1)])
def test_an_unknown_reason_to_skip_is_a_failure(tmp_path, reason, code):
    tests = f"import pytest\n\n@pytest.mark.skip(reason={reason!r})\ndef test_a(): pass\n\ndef test_b(): pass\n"
    (tmp_path / "test_some.py").write_text(tests)
    words = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "--known-skips", f"--rootdir={tmp_path}", tmp_path]
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, "1 passed, 1 skipped" in done.stdout) == (code, True), done.stdout
    assert (reason in done.stdout) == (code == 1)
