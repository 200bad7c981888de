"""Runs that fail among runs that do not: out of memory, NaN, hanging; their neighbours never notice."""

import re
import signal
import time

import pytest

from dwfbench.runs.store import Store
from tests.conftest import wait_for
from tests.execution.breaking import method
from tests.faults.commands import SMALL, begin, dwfbench, ended, results, stored

METHOD = '''
"""An L1 penalty that breaks where the environment says so; what breaks is not part of the run's identity."""

import os
import time
from dataclasses import dataclass
from typing import ClassVar

import torch

from dwfbench.method import Method


def told(name):
    """A number that the environment has, now: commands in one process can have different ones."""
    return float(os.environ.get(name, "inf"))


@dataclass(frozen=True)
class Fragile(Method):
    name: ClassVar[str] = "fragile"
    knob: ClassVar[str] = "strength"
    summary: ClassVar[str] = "breaks where it is told to"
    source: ClassVar[str] = "a test"
    decays: ClassVar[bool] = False

    def decay(self, strength):
        batched = torch._C._functorch.is_batchedtensor(strength)
        lanes = torch._C._functorch.get_unwrapped(strength) if batched else strength[None]
        if len(lanes) > told("LANES") or lanes.max() > told("ALONE"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        while (lanes == told("HANG")).any():
            time.sleep(0.1)
        return torch.where(strength > told("NAN"), torch.nan, 0.0)

    def penalty(self, trainable):
        return sum(weight.abs().sum() for weight in trainable.values())

    def sparsify(self, weights, compression):
        return {name: torch.where(weight.abs() < 1e-2, 0, weight) for name, weight in weights.items()}
'''
STRENGTHS = "0.0001,0.0002,0.0003,0.0004,0.0005,0.0006,0.0007,0.0008"
EIGHT = ("--strength", STRENGTHS, "--epochs", "3", *SMALL)


@pytest.fixture(scope="module")
def fragile(tmp_path_factory):
    """``dwfbench run`` of eight strengths with the method above, into a folder, with what shall break."""
    file = tmp_path_factory.mktemp("method") / "fragile.py"
    file.write_text(METHOD)

    def words(folder, *more):
        return ("run", "--method", f"{file}:Fragile", *EIGHT, "--results", folder, *more)

    return words


def by_strength(folder):
    return {result["spec"]["strength"]: result for result in results(folder).values()}


def failures(folder):
    return {record.spec.strength: record for record in Store(folder).load() if record.status != "ok"}


# ---------------------------------------------------------------- memory


@pytest.mark.faults
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_group_that_needs_too_much_memory_is_trained_in_smaller_groups(tmp_path, fragile, jobs):
    more = ("--lanes", "8", "--threads", jobs, "--jobs", jobs)
    done = dwfbench(*fragile(tmp_path / "split", *more), env={"LANES": "2"})
    assert done.code == 0, done.stderr
    for lanes in (4, 2):
        assert re.search(rf"allocate 20.00 GiB. \(line \d+ of fragile.py\)\); trying {lanes} at once", done.stderr)
    assert len(results(tmp_path / "split")) == 8
    assert dwfbench(*fragile(tmp_path / "pairs", "--lanes", "2")).code == 0
    assert results(tmp_path / "split") == results(tmp_path / "pairs")


@pytest.mark.faults
def test_runs_that_need_too_much_memory_alone_are_failures_and_tried_again(tmp_path, fragile):
    folder = tmp_path / "results"
    done = dwfbench(*fragile(folder, "--lanes", "2"), env={"ALONE": "0.00055"})
    assert done.code == 1
    assert "3 of 8 runs did not end well" in done.stderr
    failed = failures(folder)
    assert sorted(failed) == [0.0006, 0.0007, 0.0008]
    (error,) = {record.error for record in failed.values()}
    assert error.startswith("OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.")
    shown = dwfbench("compare", "--results", folder)
    assert shown.code == 0
    assert "Runs left out: 3 failed." in shown.stderr
    again = dwfbench(*fragile(folder, "--lanes", "1"))
    assert again.code == 0
    assert "5 of 8 runs are stored already" in again.stderr
    assert not failures(folder)
    assert len(results(folder)) == 8


# ---------------------------------------------------------------- NaN


@pytest.mark.parametrize("lanes", [8, pytest.param(1, marks=pytest.mark.faults)])
def test_a_lane_of_nan_leaves_every_digit_of_its_neighbours(tmp_path, fragile, call, monkeypatch, lanes):
    folder = tmp_path / "results"
    monkeypatch.setenv("NAN", "0.00065")
    assert call(*fragile(folder, "--lanes", lanes)).exit_code == 1
    monkeypatch.delenv("NAN")
    assert call(*fragile(tmp_path / "whole", "--lanes", lanes)).exit_code == 0
    diverged, whole = failures(folder), by_strength(tmp_path / "whole")
    assert sorted(diverged) == [0.0007, 0.0008]
    assert all(re.search("became infinite or NaN in epoch 1", record.error) for record in diverged.values())
    kept = {strength: result for strength, result in by_strength(folder).items() if strength not in diverged}
    assert kept == {strength: result for strength, result in whole.items() if strength not in diverged}
    assert call(*fragile(folder, "--lanes", "1")).exit_code == 0
    assert sorted(by_strength(folder)) == sorted(whole)
    assert not failures(folder)


MODELS = '''
import torch
from torch import nn


class Broken(nn.Module):
    """Gives NaN for some images, always or when it is not trained."""

    def __init__(self, shape, classes, always):
        super().__init__()
        self.layer, self.always = nn.Linear(shape[0] * shape[1] * shape[2], classes), always

    def forward(self, x):
        found = self.layer(x.flatten(1))
        wrong = torch.nan if self.always or not self.training else 0.0
        return found + torch.where(x.sum((1, 2, 3)) > 0, wrong, 0.0)[:, None]


def always(input_shape, classes):
    return Broken(input_shape, classes, True)


def later(input_shape, classes):
    return Broken(input_shape, classes, False)
'''


@pytest.mark.faults
@pytest.mark.parametrize("name", ["always", "later"])
def test_a_network_that_gives_nan_is_diverged_and_never_a_result(tmp_path, name):
    (tmp_path / "models.py").write_text(MODELS)
    words = ("--model", f"{tmp_path / 'models.py'}:{name}", "--method", "dense", "--epochs", "2", *SMALL)
    done = dwfbench("run", *words, "--results", tmp_path / "results")
    assert done.code == 1, done.stdout
    (record,) = Store(tmp_path / "results").load()
    assert record.status == "diverged"
    assert "NaN" in record.error
    assert dwfbench("compare", "--results", tmp_path / "results").code == 3


READER = """
import numpy as np
from dwfbench.data import Source


def read(places):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (400, 2, 8, 8), dtype=np.uint8)
    images[:, 1] = 7  # a constant channel
    labels = (images[:, 0].mean((1, 2)) > 127).astype(np.int64)
    {fault}
    return Source(images[:300], labels[:300], images[300:], labels[300:], 2)
"""
FAULTS = {
    "a pixel that is NaN": (
        "images = images.astype(np.float32); images[7, 0, 3, 3] = np.nan",
        "its train images are float32 (300, 2, 8, 8), not uint8 (N, C, H, W)",
    ),
    "a label that is NaN": ("labels = labels * np.nan", "its train labels are float64 and not integers"),
    "a label out of range": ("labels[299] = 2", "its train labels go from 0 to 2, not from 0 to 1"),
    "a negative label": ("labels[300] = -1", "its test labels go from -1 to 1, not from 0 to 1"),
}


@pytest.fixture
def package(tmp_path):
    """The environment in which a package's data set ``faulty`` has a fault."""

    def install(fault):
        site = tmp_path / "site"
        facts = site / "faulty-1.dist-info"
        facts.mkdir(parents=True)
        (site / "faulty.py").write_text(READER.format(fault=fault))
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n")
        (facts / "entry_points.txt").write_text("[dwfbench.datasets]\nfaulty = faulty:read\n")
        return {"PYTHONPATH": str(site)}

    return install


DATA = ("run", "--dataset", "faulty", "--method", "dense", "--epochs", "2", *SMALL, "--batch-size", "32")


@pytest.mark.faults
@pytest.mark.parametrize("fault", FAULTS)
def test_nan_and_wrong_labels_in_the_data_are_refused_before_training(tmp_path, package, fault):
    code, why = FAULTS[fault]
    done = dwfbench(*DATA, "--results", tmp_path / "results", env=package(code))
    assert done.code == 2
    assert "The data set 'faulty' of faulty 1 (faulty:read) cannot be used" in done.stderr
    assert why in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.faults
def test_a_constant_channel_gives_no_nan(tmp_path, package):
    done = dwfbench(*DATA, "--results", tmp_path / "results", env=package("pass"))
    assert done.code == 0, done.stderr
    (record,) = Store(tmp_path / "results").load()
    assert record.test_loss < 100


# ---------------------------------------------------------------- hanging


@pytest.mark.faults
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_hangs_ends_after_its_time_and_the_others_are_trained(tmp_path, fragile, jobs):
    folder = tmp_path / "results"
    more = ("--lanes", "1", "--threads", jobs, "--jobs", jobs)
    done = dwfbench(*fragile(folder, *more, "--timeout-minutes", "0.2"), env={"HANG": "0.0003"}, timeout=400)
    assert done.code == 1, done.stderr
    (failed,) = failures(folder).values()
    assert failed.spec.strength == pytest.approx(0.0003)
    assert failed.status == "failed"
    assert "timed out" in failed.error
    assert "0.2 minutes" in failed.error
    again = dwfbench(*fragile(folder, *more))
    assert again.code == 0
    assert "7 of 8 runs are stored already" in again.stderr
    assert dwfbench(*fragile(tmp_path / "whole", "--lanes", "1")).code == 0
    assert results(folder) == results(tmp_path / "whole")


@pytest.mark.faults
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_command_that_hangs_ends_at_the_second_interrupt_and_keeps_what_it_has(tmp_path, fragile, jobs):
    folder = tmp_path / "results"
    words = fragile(folder, "--lanes", "1", "--threads", jobs, "--jobs", jobs)
    process = begin(*words, env={"HANG": "0.0008"})
    assert wait_for(lambda: len(list(folder.glob("runs/[0-9a-f]*/run.json"))) == 7, process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None  # it waits for the end of a step
    process.send_signal(signal.SIGINT)
    done = ended(process, 30)
    assert done.code == 130
    assert len(results(folder)) == 7
    assert dwfbench(*words).code == 0
    assert len(results(folder)) == 8


@pytest.mark.faults
def test_a_stopped_command_keeps_every_run_that_its_workers_finished(tmp_path):
    """Two processes have a seed of three runs each, and wait in the third."""
    name, switch = method(tmp_path, "wait")
    words = ("run", "--method", name, "--compression", "2,4,8", "--seeds", "2", "--epochs", "3", *SMALL, "--lanes", "1")
    folder, more = tmp_path / "results", ("--threads", "2", "--jobs", "2")
    process = begin(*words, *more, "--results", folder)
    assert wait_for(lambda: len(list(folder.glob("runs/[!.]*/run.json"))) == 4, process)
    process.send_signal(signal.SIGTERM)
    assert ended(process).code == 130
    assert {run["spec"]["compression"] for run in results(folder).values()} == {2, 4}
    assert len(list(folder.glob("checkpoints/*.safetensors"))) >= 2  # of what was under way
    before = stored(folder)
    switch.unlink()
    done = dwfbench(*words, *more, "--results", folder)
    assert done.code == 0, done.stderr
    assert "4 of 6 runs are stored already" in done.stderr
    assert before.items() <= stored(folder).items()
    assert dwfbench(*words, "--results", tmp_path / "whole").code == 0
    assert results(folder) == results(tmp_path / "whole")
    assert not (folder / "checkpoints").exists()
