"""Help, examples and completion, and what of the program they load."""

import shlex
import subprocess
import sys

import pytest

from dwfbench.cli import app, help, options
from dwfbench.cli.methods import methods

COMMANDS = {name: panel for panel, commands in app.COMMANDS.items() for name in commands}
FAMILIES = {"train", "reproduce", "read", "plot", "files", "info", "show"}
HEAVY = {"torch", "torchvision", "pandas", "numpy", "scipy", "matplotlib", "ray"}
SCRIPT = "import sys; from dwfbench.cli.app import main; sys.argv[0] = 'dwfbench'; main()"


def command(name):
    """The command as its family's file makes it."""
    (stub,) = [stub for stub in app.typer.main.get_group(app.app).commands.values() if stub.name == name]
    return app.loaded(stub)


def headings(text):
    return [line.removesuffix(":") for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]


def examples_of(text):
    return [line.strip() for line in text.splitlines() if line.startswith("    dwfbench ")]


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)])
def test_help_is_plain_text_of_eighty_columns_with_examples(call, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    shown = call(*words, "-h")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout == call(*words, "--help").stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "\x1b" not in shown.stdout
    assert examples_of(shown.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_is_a_line_that_its_command_understands(call, name):
    for line in examples_of(call(name, "-h").stdout):
        program, called, *words = shlex.split(line)
        assert (program, called) == ("dwfbench", name)
        context = command(name).make_context(name, words)
        methods(context.params.get("method"))
        options.leftover(context.args)  # what is left are options of methods, or an error


def test_flags_stand_under_headings_in_one_order(call):
    panels = headings(call("run", "-h").stdout)
    assert panels == ["What to train", "Knob", "Optimisation", "Data", "Engine", "Output", "Options"]
    assert headings(call("verify", "-h").stdout) == ["Which runs", "Data", "Engine", "Options"]
    under = {param.name: help.panel_of(param) for param in command("run").params}
    assert {name for name, panel in under.items() if panel == "Options"} == {"debug"}
    assert (under["strength"], under["lr"]) == ("Knob", "Optimisation")
    assert (under["jobs"], under["val_fraction"], under["results"]) == ("Engine", "Data", "Output")


def test_the_commands_stand_under_headings(call):
    assert headings(call("-h").stdout) == [*app.COMMANDS, "Options"]


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["compare", "--help"], ["plot", "-h"], ["--version"]])
def test_help_loads_the_file_of_its_own_family_and_nothing_heavy(words):
    code = f"import sys; from dwfbench.cli.app import app; app({words}, standalone_mode=False); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = set(shown.splitlines()[-1].split())
    own = {"run": {"train"}, "compare": {"read"}, "plot": {"plot"}}.get(words[0], set())
    assert {family for family in FAMILIES if f"dwfbench.cli.{family}" in modules} == own
    assert not modules & HEAVY


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("dwfbench ver", ["verify"]),
        ("dwfbench run --strength-", ["--strength-range", "--strength-max"]),
        ("dwfbench list --f", ["--format"]),
    ],
)
def test_the_shell_completes_commands_and_flags_and_nothing_is_written(tmp_path, monkeypatch, typed, offered):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("_DWFBENCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.stdout.split() == offered
    assert not list(tmp_path.iterdir())


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "dwfbench", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("dwfbench ")
    assert done.returncode == 0
