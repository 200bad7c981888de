"""docs/measuring.md: its commands and its Python print what stands there."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "measuring.md"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_its_python_prints_what_stands_there():
    failed, tried = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert (failed, tried) == (0, 20)


def test_its_command_prints_what_stands_there(call):
    page = PAGE.read_text(encoding="utf-8")
    [(command, shown)] = re.findall(r"^ {4}\$ dwfbench (.*)\n((?: {4}.*\n)+)", page, re.MULTILINE)
    done = call(*shlex.split(command))
    assert done.exit_code == 0
    assert done.stdout == re.sub("^ {4}", "", shown, flags=re.MULTILINE)
    assert "no run of dwf D=2 between CR about 52 and 110 (seeds 0, 1, 2)." in done.stderr
