"""Histories as loggers get them: while they come, from lanes and worker processes, and whatever a logger does."""

import csv
import importlib.util
import os
import sys

import pytest

from dwfbench.base.errors import UsageError
from dwfbench.experiments import loggers
from dwfbench.experiments.loggers.csv import Csv
from dwfbench.runs.store import Store


def needs(package):
    """Skips a test where a package is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"no package {package}")


def histories(folder):
    """(epoch, training loss) of every row of the stored histories, by run."""
    records = Store(folder).load(history=True)
    return {record.id: [(row.epoch, row.train_loss) for row in record.history] for record in records}


def logged(folder):
    """The same of the logger csv."""
    found = {}
    with open(folder / "logs" / "csv" / "history.csv", newline="") as file:
        for row in csv.DictReader(file):
            loss = pytest.approx(float(row["train_loss"]), rel=1e-8)
            found.setdefault(row["run"], []).append((int(row["epoch"]), loss))
    return found


@pytest.mark.parametrize(
    "words",
    [
        ("--method", "l1", "--strength", "1e-4,1e-3", "--lanes", "2"),
        ("--method", "magnitude", "--compression", "2,4", "--epochs", "4", "--finetune-epochs", "2"),  # shared epochs
        pytest.param(("--method", "dense", "--seeds", "2", "--jobs", "2", "--threads", "2"), marks=pytest.mark.slow),
    ],
)
def test_every_row_of_every_run_is_logged_once(run, tmp_path, words):
    shown = run(tmp_path, *words, "--log-to", "csv")
    assert shown.exit_code == 0, shown.stderr
    assert logged(tmp_path) == histories(tmp_path)


def test_rows_come_before_a_run_is_stored(run, tmp_path, monkeypatch):
    seen = []
    row = Csv.row

    def watched(self, run_id, values):
        seen.append((values["epoch"], Store(tmp_path).read(run_id)))
        row(self, run_id, values)

    monkeypatch.setattr(Csv, "row", watched)
    run(tmp_path, "--method", "dense", "--log-to", "csv")
    assert seen == [(1, None), (2, None)]


@pytest.mark.parametrize("told", ["begin", "row", "end", "close"])
@pytest.mark.parametrize("error", [RuntimeError("no quota"), SystemExit(1)])
def test_a_logger_that_fails_is_left_out_and_no_run_is_lost(run, tmp_path, monkeypatch, told, error):
    def failing(*_):
        raise error

    monkeypatch.setattr(Csv, told, failing)
    shown = run(tmp_path, "--method", "snip", "--compression", "2,4", "--log-to", "csv")
    assert shown.exit_code == 0, shown.stderr
    assert len(Store(tmp_path).load()) == 2
    assert shown.stderr.count("The logger csv failed (") == 1


def test_an_unknown_logger_and_one_without_its_package_are_refused_before_training(run, tmp_path, monkeypatch):
    shown = run(tmp_path, "--log-to", "tensorbord")
    assert (shown.exit_code, len(Store(tmp_path).load())) == (2, 0)
    assert "There is no logger 'tensorbord'; did you mean tensorboard?" in shown.stderr
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match="--log-to wandb needs a package: pip install wandb"):
        loggers.loggers(["wandb"], tmp_path)
    (tmp_path / "wandb.py").write_text("from math import of_another_version")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb")
    with pytest.raises(UsageError, match=r"wandb cannot be imported \(cannot import name 'of_another_version'"):
        loggers.loggers(["wandb"], tmp_path)


@needs("tensorboard")
def test_tensorboard_reads_what_was_logged(run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, "--method", "l1", "--strength", "1e-4,1e-3", "--log-to", "tensorboard")
    folders = list((tmp_path / "logs" / "tensorboard").iterdir())
    records = {record.id: record for record in Store(tmp_path).load(history=True)}
    assert {folder.name[-12:] for folder in folders} == records.keys()
    for folder in folders:
        record, events = records[folder.name[-12:]], EventAccumulator(str(folder))
        events.Reload()
        losses = [(event.step, event.value) for event in events.Scalars("train_loss")]
        assert losses == [(row.epoch, pytest.approx(row.train_loss)) for row in record.history]
        (accuracy,) = events.Scalars("result/test_accuracy")
        assert accuracy.value == pytest.approx(record.test_accuracy)


@needs("trackio")
def test_trackio_has_what_was_logged(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    shown = run(tmp_path, "--method", "l1", "--strength", "1e-4,1e-3", "--log-to", "trackio")
    assert "failed" not in shown.stderr
    assert any((tmp_path / "trackio").iterdir())


@needs("wandb")
def test_wandb_writes_offline_what_can_be_synchronised_later(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    shown = run(tmp_path, "--method", "l1", "--strength", "1e-4,1e-3", "--log-to", "wandb")
    assert "failed" not in shown.stderr
    folders = [name for name in os.listdir(tmp_path / "logs" / "wandb" / "wandb") if name.startswith("offline-run-")]
    assert {name[-12:] for name in folders} == {record.id for record in Store(tmp_path).load()}
