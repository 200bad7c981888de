"""The command that repeats a run means that run: every curve of the committed results, parsed back to its ids."""

import functools
import shlex
from pathlib import Path

import pytest

from dwfbench.base.errors import UsageError
from dwfbench.runs import repeat, resultsets
from dwfbench.runs.curve import curve_key
from tests.records import changed, typed

RESULTS = Path(__file__).parents[2] / "results"
ARCHIVES = sorted(str(path.relative_to(RESULTS)) for path in RESULTS.rglob("*.zip"))


def one_a_curve(archive):
    """A record of every curve, and one of each status."""
    records, _ = resultsets.load(resultsets.sources([RESULTS / archive]))
    return list({(curve_key(record), record.status): record for record in records}.values())


@functools.cache
def data(name):
    from dwfbench.data import dataset

    return dataset.stand_in(name) or dataset.load(name)  # digits come with scikit-learn


def ids(command):
    """The ids of the runs that a command line means."""
    from dwfbench.cli import options
    from dwfbench.experiments import plan
    from dwfbench.runs import spec
    from tests.cli.test_help import command as parser

    program, name, *words = shlex.split(command)
    assert (program, name) == ("dwfbench", "run")
    context = parser("run").make_context("run", words)
    said = options.spoken(context.params, context.args)
    recipe = spec.base_recipe(None, said["model"], said["dataset"])
    curves = [plan.curve(request, data(said["dataset"])) for request in plan.requests([recipe], said)]
    return [one.id for curve in curves for one in curve.specs]


@pytest.mark.parametrize("archive", ARCHIVES)
def test_the_command_of_a_stored_run_means_that_run_whatever_the_recipe_says(archive):
    for record in one_a_curve(archive):
        if not {"@", ":"} & set(f"{record.spec.method}{record.spec.model}{record.spec.dataset}"):
            assert ids(repeat.command(record)) == [record.id], record.label


def test_a_command_in_lines_is_the_same_for_a_shell():
    command = repeat.command(typed({"spec": {"lr": 0.25, "augment": "a b"}}))
    for columns in (40, 80, 200):
        lines = repeat.lines(command, columns)
        assert shlex.split(lines.replace("\\\n", "")) == shlex.split(command)
        assert max(map(len, lines.splitlines())) <= columns
    assert repeat.lines(command, None) == command


def test_own_files_have_a_path_to_be_filled_in_and_unknown_settings_are_refused():
    own = {"method": "Hoyer@0123456789ab", "model": "net@0123456789ab", "dataset": "pictures@0123456789ab"}
    command = repeat.command(typed({"spec": own}))
    assert "--method path/to/file.py:Hoyer --seed" not in command
    for words in ("--method path/to/file.py:Hoyer ", "--model path/to/file.py:net ", "--dataset path/to/pictures "):
        assert words in command
    record = typed({"spec": {}})
    with pytest.raises(UsageError, match="settings that this version does not know: sparkle"):
        repeat.command(changed(record, spec={"sparkle": 1}))
