"""Data that are not images: read from a file, trained with their own loss, judged by their own score."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError
from dwfbench.data import dataset, readers
from dwfbench.data.readers import DataError
from dwfbench.data.task import CLASSIFICATION, task_of
from dwfbench.methods.registry import create
from dwfbench.runs.spec import RunSpec
from dwfbench.runs.store import Store
from dwfbench.training import evaluate, loop

EXAMPLE = Path(__file__).parents[2] / "examples/your-network/sines.py"

LINES = """
import numpy as np
from torch import nn
from dwfbench.data import Tensors

def part(count, seed):
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((count, 5))
    return inputs, inputs @ [1.0, -2.0, 0.0, 0.0, 3.0]

def lines(places):
    return Tensors(*part(80, 0), *part(40, 1), outputs=1)

def loss(outputs, targets):
    return (outputs[:, 0] - targets).square().mean()

def r2(outputs, targets):
    return 1 - loss(outputs, targets) / targets.var(correction=0)

lines.loss, lines.score = loss, r2

def signs(places):
    (a, b), (c, d) = part(80, 0), part(40, 1)
    return Tensors(a, (b > 0).astype(int), c, (d > 0).astype(int), outputs=2)

def net(input_shape, outputs):
    return nn.Linear(*input_shape, outputs)
"""


@pytest.fixture(autouse=True)
def nothing_taken(monkeypatch):
    monkeypatch.setattr(plugins, "_taken", {})
    task_of.cache_clear()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "lines.py"
    path.write_text(LINES)
    return path


def train(data, file, method="dense", **changes):
    from dwfbench import models

    settings = {"epochs": 30, "batch_size": 8, "lr": 0.1, "weight_decay": 0.0} | changes
    one = RunSpec(method=method, model=models.identity(f"{file}:net"), dataset=data.name, **settings)
    return one, loop.Trainer(one, create(method, {}), data).train([one])


def test_a_regression_is_trained_by_its_loss_to_the_least_squares_solution(file):
    data = dataset.load(f"{file}:lines")
    assert (data.input_shape, data.classes, data.of_images) == ((5,), 1, False)
    _, (lane,) = train(data, file)
    expected = torch.tensor([[1.0, -2.0, 0.0, 0.0, 3.0]])
    torch.testing.assert_close(lane.state["weight"], expected, rtol=1e-3, atol=1e-3)
    assert lane.history[-1]["val_accuracy"] == pytest.approx(1, abs=1e-4)
    assert lane.history[-1]["train_loss"] < 1e-4


def test_dwf_finds_the_weights_that_are_zero(file):
    data = dataset.load(f"{file}:lines")
    _, (lane,) = train(data, file, "dwf", strength=0.15, lr=0.02, epochs=60)
    assert (lane.sparse["weight"] != 0).tolist() == [[True, True, False, False, True]]


def test_the_score_is_of_all_samples_and_below_zero_counts_as_zero(file, monkeypatch):
    monkeypatch.setattr(evaluate, "EVALUATION_SAMPLES", 14)  # chunks of 7 for two lanes
    data = dataset.load(f"{file}:lines")
    weights = torch.tensor([[[1.0, -2.0, 0.0, 0.0, 2.0]], [[9.0, 9.0, 9.0, 9.0, 9.0]]])
    state = {"weight": weights, "bias": torch.zeros(2, 1)}
    found = evaluate.evaluate(nn.Linear(5, 1), state, data.test, data)
    outputs = data.test.images @ weights[0, 0]
    error = (outputs - data.test.labels).square().mean()
    assert found.loss[0] == pytest.approx(float(error), rel=1e-5)
    assert found.accuracy == [pytest.approx(1 - float(error / data.test.labels.var(correction=0)), rel=1e-5), 0.0]
    assert found.top5 == [None, None]


def test_guessing_is_worth_the_largest_class_and_no_score(file):
    assert dataset.load(f"{file}:lines").task.guess(torch.zeros(3)) == 0
    assert CLASSIFICATION.guess(torch.tensor([0, 2, 2, 1])) == 0.5
    assert CLASSIFICATION.guess(torch.zeros(0, dtype=torch.int64)) is None


def test_a_score_without_a_name_is_called_score(file):
    file.write_text(
        LINES.replace("lines.loss, lines.score = loss, r2", "lines.loss, lines.score = loss, lambda o, t: r2(o, t)")
    )
    assert dataset.load(f"{file}:lines").task.name == "score"


def test_classes_need_no_loss(file):
    data = dataset.load(f"{file}:signs")
    assert data.task == CLASSIFICATION
    assert data.train.labels.dtype == torch.int64
    _, (lane,) = train(data, file)
    assert lane.history[-1]["val_accuracy"] > 0.8


@pytest.mark.parametrize("method", ["snip", "grasp", "synflow"])
def test_pruners_score_by_that_loss(file, method):
    data = dataset.load(f"{file}:lines")
    _, (lane,) = train(data, file, method, compression=2.5, epochs=2)
    assert int(lane.sparse["weight"].count_nonzero()) == 2
    if method == "snip":
        assert set(lane.sparse["weight"].nonzero()[:, 1].tolist()) <= {0, 1, 4}


def test_lanes_of_several_seeds_with_targets_of_two_axes(tmp_path):
    path = tmp_path / "wide.py"
    path.write_text(LINES.replace("inputs @ [1.0, -2.0, 0.0, 0.0, 3.0]", "inputs[:, :2]").replace("[:, 0] - ", " - ")
                    .replace("outputs=1", "outputs=2"))  # fmt: skip
    data = dataset.load(f"{path}:lines")
    one, _ = train(data, path, epochs=2)
    specs = [one, RunSpec(**{**one.to_dict(), "seed": 1})]
    trainer = loop.Trainer(one, create("dense", {}), data)
    for spec, lane in zip(specs, list(trainer.train(specs)), strict=True):
        (alone,) = loop.Trainer(spec, create("dense", {}), data).train([spec])
        torch.testing.assert_close(lane.state["weight"], alone.state["weight"], rtol=1e-4, atol=1e-5)


def test_data_go_to_other_processes_without_their_functions(file, monkeypatch):
    data = dataset.load(f"{file}:lines")
    sent, files = pickle.dumps(data), plugins.files()
    monkeypatch.setattr(plugins, "_taken", {})
    task_of.cache_clear()
    there = pickle.loads(sent)
    for one in files:
        plugins.take(one)
    assert there.task.name == "r2"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lines.loss, lines.score = loss, r2", "", "its targets are not all classes from 0 to 0"),
        ("lines.loss, lines.score = loss, r2", "lines.loss = loss", "it has a loss but no score"),
        ("outputs=1", "outputs=0", "at least 1 output"),
        ("(count, 5))", "(count, 5)) / 0", "not finite numbers"),
        ("[1.0, -2.0", "[np.nan, -2.0", "train targets are not all finite"),
        (
            ".square().mean()",
            ".square()",
            r"loss must return a tensor that is one number.*not a tensor of shape \(64,\)",
        ),
        (".square().mean()", ".square().mean().item()", "loss must return .*not float"),
        ("(outputs[:, 0] - targets)", "(outputs[:, 1] - targets)", "IndexError"),
        ("return 1 - loss(", "raise ValueError('boo') if len(targets) == 40 else loss(", "boo"),
        ("targets.var(correction=0)", "(targets - targets[0])", "score must return one number, not Tensor"),
        ("part(40, 1), outputs=1", "part(40, 1)[::-1], outputs=1", "test inputs are"),
        ("return Tensors(*part(80, 0), *part(40, 1), outputs=1)", "return 3", "returned int"),
    ],
)
def test_a_reader_that_breaks_the_contract_is_named(file, old, new, said):
    assert old in LINES
    file.write_text(LINES.replace(old, new, 1))
    with np.errstate(all="ignore"), pytest.raises(DataError, match=said):
        dataset.load(f"{file}:lines")


def test_a_score_above_one_is_refused(file):
    file.write_text(LINES.replace("return 1 - ", "return 3 - "))
    data = dataset.load(f"{file}:lines")
    with pytest.raises(UsageError, match=r"r2 is .*; a score must be at most 1"):
        list(train(data, file)[1])


def test_what_is_for_images_is_refused(file, call):
    with pytest.raises(UsageError, match="not of images"):
        dataset.load(f"{file}:lines", image_size=8)
    words = ("run", "--method", "dense", "--dataset", f"{file}:lines", "--dry-run", "--batch-size", "8")
    for more, said in ((("--model", f"{file}:net", "--augment", "standard"), "not of images"), ((), "takes images")):
        result = call(*words, *more)
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_a_config_runs_such_a_file_only_if_the_command_line_names_it(file, tmp_path, call):
    config = tmp_path / "config.toml"
    config.write_text(f'dataset = "{file}:lines"\nmodel = "{file}:net"\n')
    words = ("run", "--method", "dense", "--dry-run", "--batch-size", "8", "--config", config)
    refused = call(*words, "--model", f"{file}:net")
    assert (refused.exit_code, "--dataset" in refused.stderr) == (2, True)
    assert call(*words, "--model", f"{file}:net", "--dataset", f"{file}:lines").exit_code == 0


@pytest.mark.slow
def test_the_example_learns_and_its_record_names_the_score(run, call, tmp_path):
    words = ("--dataset", f"{EXAMPLE}:sines", "--model", f"{EXAMPLE}:Convolutions", "--method", "dense", "--save-model")
    result = run(tmp_path, *words, "--batch-size", "32", "--optimizer", "adam", "--lr", "0.003")
    assert result.exit_code == 0, result.stderr
    assert "test r2 %" in result.stdout
    (record,) = Store(tmp_path).load()
    assert record.score == "r2"
    assert record.test_accuracy > 0.5
    assert record.chance == 0
    assert f"test r2 {100 * record.test_accuracy:.2f} %" in result.stderr
    shown = call("show", record.id, "--results", tmp_path)
    assert f"{100 * record.test_accuracy:.2f} %" in shown.stdout
    assert "test r2" in shown.stdout
    compared = call("compare", "--results", tmp_path)
    assert compared.exit_code == 0, compared.stderr
    assert "R2 in percent" in compared.stdout
    assert "accuracy" not in shown.stdout + compared.stdout
    files, folder = ("--dataset", f"{EXAMPLE}:sines", "--model", f"{EXAMPLE}:Convolutions"), tmp_path / "files"
    exported = call("export", record.id, "--results", tmp_path, "--to", folder, "--forms", "dense,compact", *files)
    assert exported.exit_code == 0, exported.stderr
    assert f"r2 {100 * record.test_accuracy:.2f} %" in exported.stdout
    manifest, card = json.loads((folder / "manifest.json").read_text()), (folder / "README.md").read_text()
    assert manifest["test_accuracy"] == pytest.approx(record.test_accuracy, abs=1e-4)
    assert [layer["name"] for layer in manifest["layers"]] == [layer.name for layer in record.layers]
    assert f"Its r2 on 1,000 test samples is {manifest['test_accuracy']:.4f}." in card
    assert "image" not in card.replace("input `images`", "")
    loaded = subprocess.run([sys.executable, "load.py"], cwd=folder, capture_output=True, text=True)
    assert "network: inputs (2, 1, 64) -> logits (2, 1)" in loaded.stdout, loaded.stderr
    measured = call("measure", record.id, "--results", tmp_path, "--batch", "1", "--rounds", "2", *files)
    assert measured.exit_code == 0, measured.stderr
    assert "test %: r2 on the test set" in measured.stdout


def test_known_sets_keep_their_task():
    assert all(task_of(name) == CLASSIFICATION for name in readers.KNOWN)
