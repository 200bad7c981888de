"""The command line as a user meets it: output, exit codes, errors."""

import csv
import html
import json
import re
import shutil
import signal

import pytest
import torch
import typer
from PIL import Image
from torch import nn

from dwfbench.cli import app, info
from dwfbench.methods import registry
from dwfbench.runs import spec
from dwfbench.runs.store import Store
from tests.conftest import EVERYTHING
from tests.records import plain

RESULT_FIELDS = {
    *("id", "status", "spec", "test_accuracy", "test_loss", "dense_equivalent_accuracy", "val_accuracy"),
    *("compression", "compression_all", "nnz", "numel", "layers", "connected", "effective_compression"),
    *("macs_dense", "macs_sparse", "thresholds", "seconds", "overhead_seconds", "peak_memory_bytes", "provenance"),
    "extra_passes",
}
PROVENANCE_FIELDS = {
    *("versions", "git_commit", "git_dirty", "device", "device_name", "threads", "lanes", "precision", "argv"),
    *("data_checksum", "started", "ended", "compiled", "tuned", "tags", "note"),
}
METHODS = {"dwf", "spred", "l1", "magnitude", "random", "snip", "grasp", "synflow", "dense"}
MORE_METHODS = {"gmp", "imp", "lamp", "powerprop", "ratios", "rigl", "set", "str"}
ID = re.compile(r"\b[0-9a-f]{12}\b")


def records(folder):
    return [plain(record) for record in Store(folder).load(history=True)]


def numbers(folder):
    """What must be the same when the same runs are trained twice."""
    found = {}
    for record in records(folder):
        for row in record["history"]:
            del row["seconds"]
        for key in ("seconds", "overhead_seconds", "peak_memory_bytes", "provenance"):
            del record[key]
        found[record["id"]] = record
    return found


# ---------------------------------------------------------------- run


def test_run_trains_every_method_and_ends_with_a_table(trained):
    folder, code, stdout, stderr = trained
    found = records(folder)
    assert code == 1, "two epochs at CR 300 leave some networks without a path"
    assert "of 21 runs ended well and are no results: no path from input to output." in stderr
    assert "of 21 runs ended well and are no results: never left CR 1." in stderr
    assert len(re.findall(r"^[0-9a-f]{12} .* no path from input to output$", stdout, re.M)) >= 1
    assert {record["spec"]["method"] for record in found} == METHODS
    labels = {record["label"] for record in found}
    expected = {"dwf D=2", "dwf D=3", "random (uniform)", "random (erk)", "l1 (proximal)", "magnitude (one-shot)"}
    assert expected <= labels
    assert len(found) == 21
    assert set(ID.findall(stdout)) == {record["id"] for record in found}
    assert all(label in stderr for label in labels)
    (planned,) = (line for line in stderr.splitlines() if line.startswith("Plan: "))
    assert planned.startswith("Plan: 21 runs of 2 epochs, lenet-300-100 on digits: dwf D=2 (2), dwf D=3 (2), ")
    assert "dense (1)" in planned
    assert "search" not in planned


def test_tables_go_to_stdout_messages_to_stderr_and_neither_has_colour(trained):
    _, _, stdout, stderr = trained
    assert stdout.startswith("id ")
    assert "\x1b" not in stdout + stderr
    assert len(stderr.splitlines()) >= 21
    assert not set(stderr.splitlines()) & set(stdout.splitlines())


def test_a_record_has_every_documented_field(trained):
    found = records(trained[0])
    for record in found:
        assert record.keys() >= RESULT_FIELDS
        assert record["provenance"].keys() >= PROVENANCE_FIELDS
        assert record["provenance"]["argv"][:2] == ["dwfbench", "run"]
        assert record["provenance"]["data_checksum"]
        assert [row["epoch"] for row in record["history"]] == [1, 2]
        assert record["layers"][0].keys() == {"name", "shape", "numel", "nnz"}
        assert sum(layer["nnz"] for layer in record["layers"]) == record["nnz"]
        assert record["compression"] == pytest.approx(record["numel"] / record["nnz"])
        assert record["thresholds"][0].keys() >= {"threshold", "compression", "test_accuracy"}


def test_the_spec_in_a_record_names_all_fields_and_gives_the_id_again(trained):
    for record in records(trained[0]):
        settings = record["spec"]
        assert settings.keys() == spec.RunSpec().to_dict().keys()
        kind = registry.create(settings["method"], settings["options"])  # refuses what is no option
        assert settings["options"].keys() == vars(kind).keys()
        assert spec.RunSpec(**settings | {"options": kind.changed()}).id == record["id"]


@pytest.mark.slow
def test_a_dry_run_shows_the_ids_of_the_records_and_writes_nothing(trained, run, tmp_path, snapshot):
    folder = trained[0]
    before = snapshot(folder)
    stored = run(folder, *EVERYTHING, "--dry-run")
    assert stored.exit_code == 0
    assert set(ID.findall(stored.stdout)) == {record["id"] for record in records(folder)}
    assert len(re.findall(r" ok$", stored.stdout, re.M)) == 21
    assert "decay budget" in stored.stdout
    assert snapshot(folder) == before
    fresh = run(tmp_path / "none", *EVERYTHING, "--dry-run")
    assert len(re.findall(r" no$", fresh.stdout, re.M)) == 21
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_brackets_bind_options_to_a_method_and_mean_the_runs_of_free_flags(run, tmp_path):
    words = ("--strength", "1e-4,1e-3", "--dry-run")
    bound = run(tmp_path, "--method", "dwf[depth=2,3],l1[proximal=true]", *words)
    free = run(tmp_path, "--method", "dwf,l1", "--depth", "2,3", "--proximal", *words)
    assert (bound.exit_code, len(ID.findall(bound.stdout))) == (0, 6)
    assert bound.stdout.splitlines()[:7] == free.stdout.splitlines()[:7]


def test_stored_runs_are_not_trained_again(trained, run, snapshot):
    before = snapshot(trained[0])
    again = run(trained[0], *EVERYTHING)
    assert again.exit_code == 1, "networks without a path are no results when they are stored, either"
    assert "dwf D=2: 2 of 2 runs are stored already." in again.stderr
    assert " % at CR" not in again.stderr
    assert again.stdout == trained[2]
    assert snapshot(trained[0]) == before
    assert "--force" not in again.stderr
    tagged = run(trained[0], "--method", "dense", "--tag", "draft")
    assert "1 of the runs were stored already: --save-model, --tag and --note change them with" in tagged.stderr
    assert snapshot(trained[0]) == before


@pytest.mark.slow
def test_the_same_command_gives_the_same_numbers_and_so_does_force(run, tmp_path):
    words = ("--method", "dwf,random,dense", "--points", "2", "--seeds", "2", "--strength-range", "1e-4,1e-3")
    run(tmp_path / "first", *words)
    run(tmp_path / "second", *words)
    first = numbers(tmp_path / "first")
    assert len(first) == 10
    assert numbers(tmp_path / "second") == first
    forced = run(tmp_path / "second", *words, "--force")
    assert forced.stderr.count(" % at CR") == 10
    assert numbers(tmp_path / "second") == first


def test_magnitude_at_init_is_labelled_so_and_a_switch_can_be_spelt_false(run, tmp_path):
    words = ("--method", "magnitude,l1", "--compression-range", "2,8", "--points", "1", "--at", "init")
    words += ("--proximal", "False", "--save-model")
    assert run(tmp_path, *words).exit_code == 0
    assert {record["label"] for record in records(tmp_path)} == {"magnitude (at init)", "l1"}
    assert len(list(tmp_path.glob("runs/*/model.safetensors"))) == 2


def test_a_diverged_run_is_recorded_the_others_are_saved_and_it_is_tried_again(run, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("methods = ['l1', 'dense']\nstrength = [1e-4]\n[method.l1]\nlr = 1e6\n")
    for _ in range(2):
        result = run(tmp_path / "results", "--config", config)
        assert result.exit_code == 1
        assert "l1, strength 0.0001, seed 0: diverged" in result.stderr
        assert {r["label"]: r["status"] for r in records(tmp_path / "results")} == {"dense": "ok", "l1": "diverged"}
    assert "dense: 1 of 1 runs are stored already." in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("content", ["{", "[]", b"\xff\xfe"])
def test_a_damaged_record_is_named_skipped_by_compare_and_trained_again(run, call, tmp_path, content):
    words = ("--method", "snip", "--compression", "2,5")
    run(tmp_path, *words)
    path = sorted(tmp_path.glob("runs/*/run.json"))[0]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    compared = call("compare", "--results", tmp_path)
    assert compared.exit_code == 0
    assert str(path) in compared.stderr
    again = run(tmp_path, *words)
    assert again.exit_code == 0
    said, _, after = again.stderr.partition(" % at CR")
    assert (said.count(str(path)), after.count(str(path)), after.count(" % at CR")) == (1, 0, 0)
    assert len(records(tmp_path)) == 2


@pytest.mark.slow
def test_flags_win_over_the_config_file_and_it_over_the_recipe(run, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("lr = 0.2\nepochs = 9\n[method.dwf]\nlr = 0.3\n[[method.dwf.when]]\ndepth = 4\nlr = 0.4\n")
    words = ("--dry-run", "--points", "1", "--config", config, "--strength-range", "1e-4,1e-3")
    shown = run(tmp_path / "results", *words, "--method", "dwf,dense", "--depth", "3,4").stdout.splitlines()[1:4]
    assert [line.split()[-4:-2] for line in shown] == [["2", "0.3"], ["2", "0.4"], ["2", "0.2"]]
    flagged = run(tmp_path / "results", *words, "--lr", "0.05").stdout.splitlines()[1]
    assert flagged.split()[-3] == "0.05"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--method", "random", "--compression", "7000"), 1, "no path from input to output"),
        (("--method", "random", "--compression", "20"), 1, "no better than chance"),
        (("--method", "dwf", "--strength", "1e-9"), 0, "never left CR 1"),  # a strength by itself asks for nothing
        (
            ("--method", "dwf", "--compression", "5", "--max-runs", "2", "--strength-range", "1e-9,1e-8"),
            1,
            "never left CR 1",
        ),
        (
            (
                "--method",
                "dense",
            ),
            0,
            None,
        ),
    ],
)
def test_runs_that_end_well_and_are_no_results_are_told(run, tmp_path, words, code, said):
    done = run(tmp_path, *words)
    assert done.exit_code == code
    assert ("are no results" in done.stderr) == (said is not None)
    if said:
        assert f"ended well and are no results: {said}." in done.stderr
        assert re.search(f"^[0-9a-f]{{12}} .*  {said}$", done.stdout, re.M)
    assert all(record["status"] == "ok" for record in records(tmp_path))


# ---------------------------------------------------------------- compare, plot, list


@pytest.mark.parametrize("format", ["table", "markdown", "latex", "csv", "json"])
def test_compare_prints_every_curve_in_every_format(trained, call, format):
    result = call("compare", "--results", trained[0], "--format", format, "--reading", "relative", "--area", "2,4")
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("D=2", "D=3", "snip", "erk", "dense"))
    assert "\x1b" not in result.stdout
    if format == "json":
        assert len(json.loads(result.stdout)) == 11


def test_compare_shows_only_what_is_asked_for(trained, call):
    result = call("compare", "--results", trained[0], "--method", "snip", "--dataset", "digits")
    assert "snip" in result.stdout
    assert "grasp" not in result.stdout


def test_a_curve_is_chosen_by_its_settings_as_run_has_them(trained, call, tmp_path):
    def labels(*words):
        rows = json.loads(call("compare", "--results", trained[0], "--format", "json", *words).stdout)
        return sorted(row["Method"] for row in rows)

    assert labels("--method", "dwf[depth=3],dense") == ["dense", "dwf D=3"]
    assert labels("--method", "dwf[depth=3]", "--versus", "dwf D=2") == ["dwf D=3"]
    words = ("--results", trained[0], "--method", "dwf[depth=3,2],dense")
    assert call("plot", *words, "-o", tmp_path / "a.png").exit_code == 0
    assert call("report", *words, "-o", tmp_path / "r.html").exit_code == 0
    assert "--method 'dwf[depth=3,2],dense'" in html.unescape((tmp_path / "r.html").read_text())


def test_compare_and_plot_count_at_a_recorded_threshold(trained, call, tmp_path):
    def first_cr(*words):
        rows = json.loads(call("compare", "--results", trained[0], "--format", "json", "--at", "1.1", *words).stdout)
        return {row["Method"]: (row["CR 1.1"], row["Dense"]) for row in rows}

    plain, cut = first_cr(), first_cr("--threshold", "0.01")
    assert any(plain[label][0] != cut[label][0] for label in plain)
    assert {dense for _, dense in plain.values()} == {dense for _, dense in cut.values()}  # the reference stays whole
    path = tmp_path / "cut.png"
    assert call("plot", "--results", trained[0], "--output", path, "--threshold", "0.01").exit_code == 0
    for words in [("compare", "--threshold", "0.5"), ("plot", "layers", "--threshold", "0.01")]:
        result = call(*words, "--results", trained[0])
        assert result.exit_code == 2
        assert "threshold" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ending", "magic"),
    [
        ("accuracy", "png", b"\x89PNG"),
        ("layers", "svg", b"<?xml"),
        ("dynamics", "pdf", b"%PDF"),
        ("weights", "png", b"\x89PNG"),
    ],
)
def test_plot_draws_every_kind(trained, call, tmp_path, kind, ending, magic):
    path = tmp_path / f"figure.{ending}"
    result = call("plot", kind, "--results", trained[0], "--output", path)
    paths = [path, path.with_suffix(".csv")] if kind == "dynamics" else [path]
    assert (result.exit_code, result.stdout) == (0, "".join(f"{one}\n" for one in paths))
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert path.read_bytes().startswith(magic)


def test_plot_dynamics_writes_the_phases_of_what_it_draws(trained, call, tmp_path):
    assert call("plot", "dynamics", "--results", trained[0], "-o", tmp_path / "a.png", "--method", "l1").exit_code == 0
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["l1 (proximal)"] * 2
    assert all(row["aligned"] == "" and float(row["norm_end"]) > 0 for row in rows)


@pytest.mark.slow
def test_plot_weights_chooses_runs_by_compression(trained, call, tmp_path):
    for ratio in ("1", "1e6"):
        words = ("--output", tmp_path / f"{ratio}.svg", "--compression", ratio, "--method", "l1")
        assert call("plot", "weights", "--results", trained[0], *words).exit_code == 0
    assert (tmp_path / "1.svg").read_bytes() != (tmp_path / "1e6.svg").read_bytes()
    for words in [("dynamics", "--compression", "10"), ("weights", "--compression", "0.5")]:
        result = call("plot", *words, "--results", trained[0])
        assert result.exit_code == 2
        assert "compression" in result.stderr


@pytest.mark.slow
def test_plot_weights_of_records_without_them_is_exit_code_3(trained, call, tmp_path):
    shutil.copytree(trained[0], tmp_path / "old", ignore=shutil.ignore_patterns("weights.csv"))
    result = call("plot", "weights", "--results", tmp_path / "old")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "weights.csv" in result.stderr
    assert call("plot", "dynamics", "--results", tmp_path / "old", "--output", tmp_path / "old.svg").exit_code == 0


@pytest.mark.parametrize(
    "words", [("compare",), ("plot",), ("plot", "layers"), ("plot", "dynamics"), ("plot", "weights")]
)
def test_nothing_to_show_is_exit_code_3(trained, call, tmp_path, words):
    for more in [("--results", tmp_path), ("--results", trained[0], "--dataset", "mnist")]:
        result = call(*words, *more)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "No finished run in " in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("methods", METHODS | MORE_METHODS),
        ("models", {"lenet-300-100", "lenet-5"}),
        ("datasets", {"digits", "mnist", "fashion-mnist", "kmnist"}),
        ("recipes", set(spec.recipes())),
    ],
)
def test_list_describes_what_there_is(call, kind, expected):
    rows = json.loads(call("list", kind, "--format", "json").stdout)
    assert {row["name"] for row in rows} >= expected
    assert all(row["summary"] and row["source"] for row in rows)
    text = call("list", kind)
    assert text.exit_code == 0
    assert all(f"{name} " in text.stdout for name in expected)


def test_list_methods_shows_knobs_and_options(call):
    rows = {row["name"]: row for row in json.loads(call("list", "methods", "--format", "json").stdout)}
    assert (rows["dwf"]["knob"], rows["snip"]["knob"], rows["dense"]["knob"]) == ("strength", "compression", "none")
    depth = rows["dwf"]["options"][0]
    assert (depth["flag"], depth["default"], depth["help"]) == ("--depth", 3, "number of factors D")


def test_json_may_still_be_asked_for_as_before(call):
    assert call("list", "recipes", "--json").stdout == call("list", "recipes", "--format", "json").stdout


def test_help_and_version_answer_without_torch(call):
    assert re.fullmatch(r"dwfbench \d+\.\d+\.\d+\S*\n", call("--version").stdout)
    for words in [(), ("run",), ("compare",), ("plot",), ("list",)]:
        result = call(*words, "--help")
        assert result.exit_code == 0
        assert "--help" in result.stdout
    flags = call("run", "--help").stdout
    assert all(f"--{name.replace('_', '-')}" in flags for name in spec.settings())


# ---------------------------------------------------------------- errors

REFUSED = {
    "--epoch 3": "did you mean --epochs?",
    "--frobnicate": "--frobnicate is neither",
    "--method dwff": "did you mean dwf?",
    "--method ,": "empty list",
    "--model lenet300": "did you mean lenet-300-100?",
    "--dataset mnits": "did you mean mnist?",
    "--recipe lenet-5-mnits": "did you mean lenet-5-mnist?",
    "--method dwf[depht=2]": "did you mean depth?",
    "--method dwf[depth=2": "not closed",
    "--tuned --method dwf[lr=0.1]": "either --lr or --tuned",
    "--depth 1": "depth must be at least 2",
    "--depth x": "depth must be a whole number",
    "--seeds 0": "seeds must be",
    "--seed x": "--seed takes numbers",
    "--seeds 2 --seed 1": "not both",
    "--method snip --strength 1": "--strength is not the knob of snip",
    "--method snip --compression 0.5": "compression must be at least 1",
    "--batch-size 100000": "only 1293 samples",
    "--method magnitude --finetune-epochs 2": "leaves nothing of the 2 epochs",
    "--method l1 --proximal maybe": "proximal must be true or false",
    "--method random --distribution erc": "distribution must be one of",
    "--device nonsense": "There is no device 'nonsense'. Choose one of auto, cpu, cuda",
    "--device meta": "'meta' cannot be used",
    "--device privateuseone": "'privateuseone' cannot be used",
    "--threads 99999": "--threads must be between 1 and",
    "--lanes 0": "--lanes must be auto or",
    "--compile maybe": "--compile must be auto, on or off",
    "--lr nan": "lr must be above 0",
    "--strength-max -1": "strength_max must be a positive number",
    "--strength-range 3,1": "strength_range must be two positive numbers",
    "--precision float16": "precision must be one of",
    "--config nowhere.toml": "nowhere.toml",
    "stray": "Unexpected argument 'stray'",
}


def assert_refused(result, said):
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert said in line
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize("words", REFUSED)
def test_nonsense_is_refused_in_one_sentence_and_nothing_is_written(run, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert_refused(run("results", *words.split()), REFUSED[words])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a = [", "not valid TOML"),
        ("epoch = 3", "did you mean epochs?"),
        ("model = 3", "model must be a text"),
        ("methods = ['dwf[depth=2]']", "in a table, [method.dwf]"),
        ("[method.dwf]\ndepht = 2", "did you mean depth?"),
        ("[method.dwf]\nval-fraction = 0.2", "the same for all methods"),
    ],
)
def test_a_config_file_that_makes_no_sense_is_refused(run, tmp_path, content, said):
    (tmp_path / "config.toml").write_text(content)
    assert_refused(run(tmp_path / "results", "--config", tmp_path / "config.toml"), said)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compare", "--format", "tabel"), "--format must be one of"),
        (("compare", "--at", "x"), "--at takes numbers"),
        (("compare", "--tolerance", "200"), "--tolerance takes values"),
        (("compare", "--area", "3,2"), "--area takes two"),
        (("compare", "--results", "nowhere"), "no results folder or archive nowhere"),
        (("plot", "acuracy"), "did you mean accuracy?"),
        (("list", "method"), "did you mean methods?"),
        (("list", "methods", "--format", "csv"), "--format must be one of table, json"),
    ],
)
def test_nonsense_is_refused_by_the_reading_commands(call, words, said):
    assert_refused(call(*words), said)


def test_a_figure_of_an_unknown_kind_is_refused(trained, call, tmp_path):
    assert_refused(call("plot", "--results", trained[0], "-o", tmp_path / "figure.xyz"), ".png, .svg, .pdf or .pgf")


def test_a_results_folder_that_is_a_file_is_refused_before_training(run, tmp_path):
    (tmp_path / "results").write_text("mine")
    assert_refused(run(tmp_path / "results", "--method", "dense"), "training writes into a folder")
    assert (tmp_path / "results").read_text() == "mine"


def test_an_unexpected_failure_is_one_sentence_and_a_traceback_with_debug(call, monkeypatch):
    def fail():
        raise RuntimeError("broken")

    monkeypatch.setattr(info, "list_recipes", fail)
    result = call("list", "recipes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: RuntimeError: broken")
    debugged = call("list", "recipes", "--debug")
    assert debugged.exit_code == 1
    assert "Traceback" in debugged.stderr


# ---------------------------------------------------------------- the user's own data and network


class OwnNet(nn.Sequential):
    """A network of the user's, with convolution and batch norm."""

    def __init__(self, input_shape, classes):
        super().__init__(
            nn.Conv2d(input_shape[0], 4, 3, stride=2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(classes),
        )
        self(torch.zeros(2, *input_shape))


@pytest.fixture
def pictures(tmp_path):
    """An image folder with two classes of 8x8 pictures: dark and bright."""
    folder = tmp_path / "my pictures"
    for part, count in (("train", 20), ("val", 5)):
        for shade, name in ((40, "dark"), (200, "bright")):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (8, 8), shade + number).save(folder / part / name / f"{number}.png")
    return folder


@pytest.mark.slow
def test_own_images_and_own_network_go_through_every_command(call, run, pictures, tmp_path):
    results = tmp_path / "results"
    words = ("--dataset", pictures, "--model", f"{__name__}:OwnNet", "--batch-size", "8", "--epochs", "4")
    done = run(
        results, *words, "--method", "dwf,snip,dense", "--strength", "1e-3", "--compression", "2", "--save-model"
    )
    assert done.exit_code == 0, done.stderr
    assert len(list(results.glob("runs/*/model.safetensors"))) == 3
    table = call("compare", "--results", results, "--dataset", "my pictures", "--format", "json")
    assert {row["Method"] for row in json.loads(table.stdout)} == {"dwf D=3", "snip", "dense"}
    assert call("plot", "--results", results).exit_code == 0
    (pictures / "train" / "dark" / "0.png").write_bytes(b"no picture")
    broken = run(results, *words, "--method", "dense")
    assert broken.exit_code == 2
    assert "0.png" in broken.stderr
    assert broken.stderr.count("\n") == 1


def test_layers_of_dense_runs_alone_are_nothing_to_plot(run, call, tmp_path):
    assert run(tmp_path, "--method", "dense").exit_code == 0
    assert call("plot", "layers", "--results", tmp_path).exit_code == 3


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("tune", "Interrupted; finished runs are kept, and the same command goes on from there.\n"),
        ("verify", "Interrupted.\n"),
    ],
)
def test_what_an_interrupt_leaves_is_said_where_something_is_kept(command, said, capsys, monkeypatch):
    def interrupted():
        signal.raise_signal(signal.SIGINT)

    interrupted.__name__ = command
    monkeypatch.setattr(app.foreign, "whose", lambda error: None)  # another test may have had a method of this module
    with pytest.raises(typer.Exit) as exited:
        app.guarded(interrupted)()
    assert (exited.value.exit_code, capsys.readouterr().err) == (130, said)
