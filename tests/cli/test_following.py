"""The line that says what usually follows a command."""

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dwfbench.base import streams
from dwfbench.cli import following, options
from tests.cli.test_help import COMMANDS, SCRIPT, command

THERE = {"dry_run": False, "results": Path("results")}
READ = {"results": ["results"], "dataset": None, "model": None, "method": None, "tag": None}
SAID = [
    ("run", THERE, "dwfbench compare"),
    ("run", {**THERE, "results": Path("my r"), "method": "dwf[depth=2]"}, "dwfbench compare --results 'my r'"),
    ("run", {**THERE, "dry_run": True}, None),
    ("compare", READ, "dwfbench plot"),
    ("compare", {**READ, "results": ["r", "b=x.zip"]}, "dwfbench plot --results r --results b=x.zip"),
    ("plot", {**READ, "method": "dwf,l1", "tag": "a"}, "dwfbench report --method dwf,l1 --tag a"),
    ("report", READ, "dwfbench pack results -o results.zip"),
    ("report", {**READ, "results": ["ours=r", "x.zip"]}, "dwfbench pack ours=r x.zip -o all.zip"),
    ("report", {**READ, "results": ["ours=x.zip"]}, None),
    ("pack", {"output": Path("r.zip")}, "dwfbench compare --results r.zip"),
    ("export", {"to": Path("net")}, "python net/load.py"),
    ("sparsify", {"to": Path("net")}, "python net/load.py"),
]


@pytest.fixture
def screen(monkeypatch):
    """As where both streams go to a terminal."""
    monkeypatch.setattr(following, "on_terminal", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.parametrize(("name", "given", "line"), SAID)
def test_what_follows_is_a_line_that_reads_the_same_runs(screen, capsys, name, given, line):
    following.tell(name, given)
    assert capsys.readouterr().err == (f"\x1b[2mNext: {line}\x1b[0m\n" if line else "")
    if line and line.startswith("dwfbench"):
        _, called, *words = shlex.split(line)
        assert not command(called).make_context(called, words).args


def test_what_follows_tuning_repeats_its_settings_without_what_is_of_the_trials(monkeypatch):
    words = "--method dwf --lr-range 0.1,1 --widen 0 --depth 2 --trials=3 --seeds 2 --points 8 --force --results r"
    monkeypatch.setattr(sys, "argv", ["dwfbench", "tune", *words.split()])
    expected = "dwfbench run --tuned --method dwf --depth 2 --results r"
    assert shlex.join(following.after_tune({})) == expected
    context = command("run").make_context("run", expected.split()[2:])
    assert options.leftover(context.args) == {"depth": ["2"]}


def test_what_follows_is_known_of_commands_that_there_are():
    assert following.FOLLOWING.keys() < COMMANDS.keys()


def test_nothing_follows_on_no_terminal_nor_after_an_error(call, trained, tmp_path, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "Next" not in call("pack", trained[0], "-o", tmp_path / "piped.zip").stderr
    monkeypatch.setattr(following, "on_terminal", lambda: True)
    assert (
        f"Next: dwfbench compare --results {tmp_path / 'r.zip'}"
        in call("pack", trained[0], "-o", tmp_path / "r.zip").stderr
    )
    assert "Next" not in call("pack", tmp_path / "none", "-o", tmp_path / "no.zip").stderr


def test_a_command_that_another_one_calls_is_followed_by_nothing(call, trained, tmp_path, screen):
    with streams.own_stdout() as outermost:
        assert outermost
        assert "Next" not in call("pack", trained[0], "-o", tmp_path / "r.zip").stderr


def test_a_terminal_shows_it_and_a_pipe_on_either_side_does_not(trained, tmp_path):
    words = [sys.executable, "-c", SCRIPT, "pack", str(trained[0]), "-o"]
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    ours, theirs = pty.openpty()
    for number, piped in enumerate(({}, {"stdout": subprocess.DEVNULL})):
        subprocess.run(
            [*words, str(tmp_path / f"{number}.zip")],
            env=environment,
            check=True,
            **{"stdout": theirs, "stderr": theirs, **piped},
        )
        os.write(theirs, b"END")
        shown = b""
        while b"END" not in shown:
            shown += os.read(ours, 4096)
        assert (b"\x1b[2mNext: dwfbench compare --results " in shown) == (not piped)
    os.close(ours)
    os.close(theirs)
