"""What is misspelt or given in another form than a flag takes: one sentence that says what was probably meant."""

import shutil

import pytest

from tests.cli.test_help import COMMANDS

WRONG = {
    "compare --resutls x": "There is no flag --resutls here; did you mean --results? `dwfbench compare -h` lists",
    "comapre": "There is no command 'comapre'; did you mean compare? `dwfbench -h` lists the commands.",
    "--verison": "There is no flag --verison here; did you mean --version? `dwfbench -h` lists the flags.",
    "run --resutls x": "--resutls is neither a flag here nor an option of dwf; did you mean --results?",
    "run --detph 3": "--detph is neither a flag here nor an option of dwf; did you mean --depth?",
    "run --methods dwf,l1": "There is no flag --methods here; did you mean --method?",
    "suggest --strength 0.1": "There is no flag --strength here.",
    "sparsify lenet-5 --weights w.pt --lr 0.1": "There is no flag --lr here.",
    "compare --methods dwf": "There is no flag --methods here; did you mean --method? `dwfbench compare -h` lists",
    "run --method l1 --depth 3": "--depth is neither a flag here nor an option of l1; it is an option of dwf.",
    "tune --dry-run": "--dry-run is neither a flag here nor an option of dwf.",
    "run --trials 3": "--trials is neither a flag here nor an option of dwf.",
    "run -method dwf": "-method is written with two dashes: --method.",
    "run --seeds 0,1,2": "--seeds takes the number of seeds, counted from 0 (--seed names them), not '0,1,2'.",
    "run --seeds=0,1": "--seeds takes the number of seeds, counted from 0 (--seed names them), not '0,1'.",
    "run --seed 0-4": "--seed takes numbers separated by commas, not '0-4' (--seeds 5 counts five from 0).",
    "run --points two": "--points takes a whole number, not 'two'.",
    "run --lr 0.1,0.2": "give each method its own: --method 'dwf[lr=0.1],dwf[lr=0.2]'.",
    "compare --max-gap wide": "--max-gap takes a number, not 'wide'.",
    "verify --runs 0": "--runs takes a number of at least 1, not '0'.",
    "run --method dwf --method l1": "--method is given twice; where a flag takes several values, commas separate them.",
    "run --depth 2 --depth 3": "--depth is given twice; separate several values by commas.",
    "plot accuracy -o a.png --output b.png": "--output is given twice; where",
    "tune --proximal --no-proximal": "is given twice",
    "compare --debug --debug": "Error: --debug is given twice.",
    "run --lr": "requires an argument",
    "export": "`dwfbench export` needs RUN: a run trained with --save-model",
    "measure": "`dwfbench measure` needs RUN...: runs trained with --save-model",
    "run --device gpu": "There is no device 'gpu'; did you mean cuda? Choose one of auto, cpu, cuda, mps, or cuda:1",
    "run --method DWF": "There is no method 'DWF'; did you mean dwf?",
    "run --recipe lenet-300-100": "There is no recipe 'lenet-300-100'; did you mean lenet-300-100-mnist?",
    "run --model lenet": "There is no model 'lenet'; did you mean lenet-5?",
    "run --dataset fashion_mnist": "an image folder; did you mean fashion-mnist?",
    "run --method own.py": "A method of a file is given as path/to/file.py:Class, here own.py:Hoyer or own.py:Other.",
    "run --model own.py": "path/to/file.py:callable, here own.py:Hoyer or own.py:Other or own.py:network.",
    "run --method none.py": "The method 'none.py' cannot be read (No such file or directory).",
    "run --method empty.py": "given as path/to/file.py:Class, but this file defines none.",
    "run --method damaged.py": "The file damaged.py cannot be loaded (SyntaxError",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_command_line_that_is_nearly_right_is_corrected_in_a_sentence(call, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("class Hoyer: ...\nclass _Base: ...\nclass Other: ...\ndef network(): ...\n")
    (tmp_path / "empty.py").write_text("raise SystemExit('a file is not run to look for names')\n")
    (tmp_path / "damaged.py").write_text("class\n")
    result = call(*words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert WRONG[words] in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_name_that_no_run_has_is_told_with_the_nearest(trained, call):
    folder = trained[0]
    for command in ("compare", "plot", "report"):
        shown = call(command, "--results", folder, "--method", "dfw")
        assert (shown.exit_code, shown.stdout) == (3, "")
        assert f"No run in {folder} is of the method 'dfw'; did you mean dwf? It has dense, dwf," in shown.stderr
    shown = call("compare", "--results", folder, "--method", "dwf,smip", "--dataset", "digits")
    assert shown.exit_code == 0
    assert "is of the method 'smip'; did you mean snip?" in shown.stderr
    assert "digits'" not in shown.stderr
    shown = call("compare", "--results", folder, "--method", "dwf[depth=9],dense")
    assert (shown.exit_code, "of the method 'dwf[depth=9]'. It has dense," in shown.stderr) == (0, True)
    shown = call("plot", "--results", folder, "--method", "dwf[depth=3")
    assert (shown.exit_code, "bracket that is not closed" in shown.stderr) == (2, True)


def test_a_strength_of_zero_is_called_a_control(run, tmp_path):
    shown = run(tmp_path / "results", "--strength", "0,1e-3", "--dry-run")
    assert shown.exit_code == 0
    assert "a strength of 0 penalises nothing, so that no weight becomes zero: such a run is a control" in shown.stderr


OPEN = ("run", "tune", "suggest", "sparsify", "reproduce")
"""Commands whose other flags may be options of a method."""


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in OPEN])
def test_every_command_refuses_an_unknown_flag_in_its_own_sentence(call, name):
    shown = call(name, "--qqqqqq")
    assert shown.exit_code == 2
    assert shown.stderr == f"Error: There is no flag --qqqqqq here. `dwfbench {name} -h` lists the flags.\n"


@pytest.mark.parametrize("flag", ["--tag", "--note"])
@pytest.mark.parametrize("text", ["a\tb", "two\nlines", "n" * 20_000, "half a letter \udce9"])
def test_a_note_that_no_record_can_hold_is_refused_before_anything_is_trained(call, tmp_path, flag, text):
    result = call("run", "--method", "dense", "--epochs", "1", flag, text, "--results", tmp_path / "results")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Error: {flag} takes one short line of ordinary characters" in result.stderr
    assert not (tmp_path / "results").exists()


def test_a_name_is_not_taken_for_a_flag_with_one_dash(trained, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained[0], "o")
    assert call("pack", "o", "-o", "o.zip").exit_code == 0
    assert call("report", "--results", "o").exit_code == 0


@pytest.mark.parametrize("name", ["report", "report.zip", "o/runs/run.json"])
def test_a_report_is_written_over_no_other_file(trained, call, tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    result = call("report", "--results", trained[0], "-o", path)
    assert (result.exit_code, result.stderr) == (2, f"Error: A report is an HTML file: {path} must end in .html.\n")
    assert path.read_text() == "mine"


def test_figures_of_an_archive_without_an_ending_lie_beside_it(trained, call, tmp_path):
    assert call("pack", trained[0], "-o", tmp_path / "set.zip").exit_code == 0
    (tmp_path / "set.zip").rename(tmp_path / "set")
    result = call("plot", "--results", tmp_path / "set")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'set-figures' / 'accuracy.png'}\n")


def test_sparsify_refuses_a_place_that_it_cannot_write_before_it_trains(call, tmp_path):
    (tmp_path / "file").write_text("")
    words = ("sparsify", "lenet-300-100", "--weights", tmp_path / "w.safetensors", "--results", tmp_path / "results")
    result = call(*words, "--to", tmp_path / "file" / "x")
    assert (result.exit_code, "cannot be written" in result.stderr) == (2, True)
    result = call(*words, "--epochs", "1e1", "--to", tmp_path / "new")
    assert (result.exit_code, "w.safetensors" in result.stderr) == (2, True), "10 epochs are as good as another number"
