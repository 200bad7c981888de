"""How long a command is said to take: the arithmetic by hand, and what is measured for it, without any data."""

import re

import pytest
import torch

from dwfbench.data import dataset as data
from dwfbench.execution.worker import Engine
from dwfbench.experiments import estimate, run
from dwfbench.experiments.estimate import Costs
from dwfbench.experiments.plan import curve, requests

CPU = Engine(device=torch.device("cpu"), threads=1, lanes=1, compile=False)


def parts(dataset, engine=CPU, **flags):
    curves = [curve(request, dataset) for request in requests([], {"batch_size": 128, **flags})]
    runs = [list(curve.specs) for curve in curves]
    divided = [run.divide(curve, specs, dataset, engine) for curve, specs in zip(curves, runs, strict=True)]
    return [estimate.Part(*part) for part in zip(curves, runs, divided, strict=True)]


def test_the_time_is_that_of_steps_rows_and_tests(digits):
    made = parts(digits, methods=["dwf"], epochs=3, strength=[1e-4, 1e-3], seed=[0, 1])
    steps = len(digits.train) // 128
    spent = estimate.seconds(made, [Costs(10, 0.5, 0.25, 2)], 0, 0, digits, CPU)
    assert spent == 10 + 4 * (3 * (steps * 0.5 + 0.25) + 2)


def test_processes_begin_together_and_each_compiles_what_it_trains(digits):
    """Two seeds of six epochs with three runs of four more each: a process for each seed."""
    engine = Engine(device=torch.device("cpu"), threads=2, lanes=1, compile=True, jobs=2)
    made = parts(
        digits, engine, methods=["magnitude"], epochs=10, compression=[2, 4, 8], finetune_epochs=4, seed=[0, 1]
    )
    steps = len(digits.train) // 128
    once = 3 + 1 + 2 * 10  # the second process, its compiler, the steps with and without masks
    spent = estimate.seconds(made, [Costs(10, 1, 0, 0)], 3, 1, digits, engine)
    assert spent == 3 + once + steps * (6 + 3 * 4)
    twice = estimate.seconds([*made, *made], [Costs(10, 1, 0, 0)] * 2, 3, 1, digits, engine)
    assert twice == 3 + once + 2 * steps * (6 + 3 * 4), "of the same curve, whose steps it knows"


def test_passes_for_scores_count_as_steps(digits):
    made = parts(digits, methods=["synflow"], compression=[2, 4, 8], epochs=1)
    steps = len(digits.train) // 128
    assert estimate.seconds(made, [Costs(0, 0.5, 0, 0)], 0, 0, digits, CPU) == 3 * (steps + 100) * 0.5


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "1 seconds"),
        (59, "59 seconds"),
        (61, "1 minutes"),
        (754, "13 minutes"),
        (3700, "1 hours"),
        (4e5, "110 hours"),
    ],
)
def test_times_have_two_digits(seconds, said):
    assert estimate.duration(seconds) == f"about {said}"


@pytest.mark.parametrize("flags", [{}, {"lr": 1e6}, {"epochs": 1}, {"batch_size": 1200}, {"methods": ["l1"]}])
def test_a_measurement_bears_rates_that_diverge_and_single_epochs_and_steps(digits, flags):
    (part,) = parts(digits, **{"methods": ["dwf"], "strength": [0.001, 0.01], "epochs": 2, **flags})
    costs = estimate.measure(part.curve, part.tasks[0], digits)
    assert costs.compiling == 0
    assert min(costs.step, costs.row, costs.end) > 0


def test_curves_with_the_same_step_are_measured_once(digits, monkeypatch):
    measured = []
    monkeypatch.setattr(estimate, "measure", lambda curve, *_: measured.append(curve.method.name) or Costs(0, 1, 1, 1))
    made = parts(digits, methods=["dwf", "dense", "snip", "synflow"], epochs=2)
    assert len(estimate.all_costs(made, digits)) == 4
    assert measured == ["dwf", "dense"]


def test_the_steps_are_told_from_the_fastest_to_the_slowest_whatever_compiles_first(digits, monkeypatch):
    curves = [part.curve for part in parts(digits, methods=["dense", "l1", "dwf"], epochs=1)]
    costs = [Costs(3, 0.004, 0, 0), Costs(1, 0.002, 0, 0), Costs(2, 0.001, 0, 0)]
    monkeypatch.setattr(estimate, "all_costs", lambda *_: costs)
    said = estimate.sentence(curves, [list(curve.specs) for curve in curves], digits, CPU, 0)
    assert "(1 to 4 ms a step and run, measured)" in said


def test_a_stand_in_has_the_form_of_the_data_and_no_checksum():
    for name, classes, shape, train in (("mnist", 10, (1, 28, 28), 54_000), ("cifar100", 100, (3, 32, 32), 45_000)):
        stand_in = data.stand_in(name)
        assert (stand_in.classes, stand_in.input_shape, len(stand_in.train)) == (classes, shape, train)
        assert set(stand_in.test.labels.tolist()) == set(range(classes))
        assert stand_in.checksum == ""
    assert data.stand_in("tiny-imagenet", image_size=8, val_fraction=0).input_shape == (3, 8, 8)
    assert data.stand_in("digits") is None


def test_a_dry_run_needs_no_data_and_shows_the_plan_first(call, monkeypatch, tmp_path):
    def load(*_, **__):
        raise AssertionError("data were read")

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(estimate, "measure", lambda *_: Costs(0, 0.1, 0, 0))
    words = "run --dataset kmnist --method dwf --epochs 1 --batch-size 54000 --lr 0.1 --strength 1e-3,2e-3 --dry-run"
    shown = call(*words.split(), "--results", tmp_path / "none", "--threads", "1")
    assert (shown.exit_code, list(tmp_path.iterdir())) == (0, [])
    plan_, _, said = shown.stdout.partition("2 runs. Decay budget")
    assert "0.002" in plan_
    assert re.search(r"2 runs to train, about [\d.]+ seconds on this device as busy as it is now \(100 ms a step", said)


def test_a_dry_run_with_nothing_left_says_so_and_measures_nothing(run, trained, monkeypatch):
    monkeypatch.setattr(estimate, "measure", lambda *_: pytest.fail("measured"))
    shown = run(trained[0], "--method", "dense", "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines()[-1] == "Nothing is left to train."
