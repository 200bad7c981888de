"""From trained weights to a sparse network: what is trained, what is chosen, what it cost."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dwfbench.base.errors import UsageError
from dwfbench.experiments import plan, sparsify
from dwfbench.experiments.sparsify import Budget
from dwfbench.runs.store import Store
from tests.words import once


def request(**settings):
    (one,) = plan.requests([], {"methods": ["dwf"], "lr": 0.1, **settings})
    return one


def test_the_budget_is_shared_by_the_rates(digits):
    """Of 1,293 images: 10 steps an epoch at a batch of 128, 40 at 32."""
    assert Budget.of(request(), digits, None, None, [0.1, 0.2]) == Budget(200, 2400, (0.1, 0.2))
    assert Budget.of(request(batch_size=32), digits, None, None, [0.1]).epochs == 50
    assert Budget.of(request(), digits, 30, 200, [0.1, 0.2]).runs == 3
    with pytest.raises(UsageError, match=r"--budget 100 has no two runs of 30 epochs"):
        sparsify.curves(request(), 10.0, Budget.of(request(), digits, 30, 100, [0.1, 0.2]), digits)


def test_every_rate_has_a_curve_that_is_searched(digits):
    curves = sparsify.curves(request(seeds=3), 20.0, Budget(10, 80, (0.05, 0.5)), digits)
    assert [(one.targets, one.seeds, one.max_runs, one.rule.gap) for one in curves] == [((20.0,), (0,), 4, 1.25)] * 2
    assert [(curve.specs[0].lr, curve.specs[0].epochs) for curve in curves] == [(0.05, 10), (0.5, 10)]


def record(compression, accuracy, connected=True):
    return SimpleNamespace(compression=compression, val_accuracy=accuracy, connected=connected)


def test_the_best_on_validation_is_taken_of_those_at_the_compression_and_else_of_the_sparser():
    runs = [record(9.9, 0.99), record(10.0, 0.95), record(12.0, 0.97), record(12.5, 0.97), record(30.0, 0.98)]
    assert sparsify.best(runs, 10.0) is runs[3]
    assert sparsify.best(runs[:2], 10.0) is runs[1]
    assert sparsify.best(runs, 13.0) is runs[4]
    assert sparsify.best(runs[:1], 10.0) is None
    assert sparsify.best([record(40.0, 0.1, connected=False)], 10.0) is None


def test_what_was_reached_says_which_networks_have_no_path():
    runs = [record(4564.0, 0.1, connected=False), record(1.008, 0.9), record(3.0, 0.9), record(2.0, 0.9)]
    assert sparsify.sparsest(runs) == "2, 3, 4564 without a path from input to output"
    assert sparsify.sparsest([]) == ""


def test_a_sparser_run_that_is_as_good_is_named():
    runs = [record(10.0, 0.95), record(30.0, 0.95), record(50.0, 0.96), record(90.0, 0.9)]
    assert sparsify.sparser(runs, runs[0]) is runs[2]
    assert sparsify.sparser(runs, runs[2]) is None


def test_a_network_is_judged_by_its_tensors_whatever_else_its_state_holds(digits):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"version": 1}

    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), Extra(64, 10)).eval()
    found = sparsify.judged(network, digits)
    guessed = network(digits.normalize(digits.test.images)).argmax(1)
    assert found.test == pytest.approx(float((guessed == digits.test.labels).float().mean()))


@pytest.mark.slow
def test_the_command_exports_what_it_says(run, call, tmp_path):
    made = run(tmp_path, "--method", "dense", "--save-model", "--lr", "0.2", "--batch-size", "32")
    assert made.exit_code == 0, made.stderr
    (weights,) = tmp_path.glob("runs/*/model.safetensors")
    words = ("sparsify", "lenet-300-100", "--weights", weights, "--results", tmp_path, "--to", tmp_path / "small")
    few = ("--epochs", "8", "--batch-size", "32", "--rates", "0.3", "--budget", "40", "--compile", "off")
    result = call(*words, *few, "--threads", "1", "--compression", "3", "--finetune-epochs", "2")
    assert result.exit_code == 0, result.stderr
    manifest = json.loads((tmp_path / "small/manifest.json").read_text())
    (dense,) = Store(tmp_path).load()
    assert f"given weights:   accuracy {100 * dense.test_accuracy:.2f} %" in result.stdout
    assert f"sparse network:  accuracy {100 * manifest['test_accuracy']:.2f} %" in result.stdout
    chosen = Store(tmp_path / "sparsify").read(manifest["run"])
    assert chosen.test_accuracy is None  # no decision looked at the test set
    assert chosen.compression >= 3
    state = load_file(tmp_path / "small/model.safetensors")
    matrices = [value for value in state.values() if value.dim() == 2]
    left = sum(int(torch.count_nonzero(value)) for value in matrices)
    assert sum(value.numel() for value in matrices) / left == pytest.approx(chosen.compression)
    assert call(*words, *few).exit_code == 2  # the folder exists


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rates", "0.1,-1"), "--rates takes positive learning rates"),
        (("--depth", "2,3"), "sparsify makes one network"),
        (("--val-fraction", "0"), "validation part, which is empty"),
        (("--weights", "nowhere.pt"), "nowhere.pt cannot be read"),
        (("--compression", "2", "--forms", "dense,spares"), "There is no form 'spares'"),
    ],
)
def test_what_makes_no_sense_is_refused(call, tmp_path, words, said):
    from dwfbench import models

    torch.save(models.build("lenet-300-100", (1, 8, 8), 10, 0).state_dict(), tmp_path / "w.pt")
    given = ("sparsify", "lenet-300-100", "--weights", tmp_path / "w.pt", "--results", tmp_path, "--threads", "1")
    result = call(*once(*given, "--to", tmp_path / "small", *words))
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "small").exists()
    assert not (tmp_path / "sparsify").exists(), "nothing was trained"


def test_the_help_says_the_epochs_of_its_own_runs(call):
    shown = " ".join(call("sparsify", "-h").stdout.split())
    assert "epochs of a run, fine-tuning included [default: 20, or as many as make 2,000 steps]" in shown
