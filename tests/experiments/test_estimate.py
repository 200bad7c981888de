"""How long a command is said to take: the arithmetic by hand, and what is measured for it, without any data."""

import pytest
import torch

from dwfbench.data import dataset as data
from dwfbench.execution.worker import Engine
from dwfbench.experiments import estimate, run
from dwfbench.experiments.estimate import Costs
from dwfbench.experiments.plan import plan

CPU = Engine(device=torch.device("cpu"), threads=1, lanes=1, compile=False)


def parts(dataset, engine=CPU, **flags):
    curves = plan([], {"batch_size": 128, **flags}, dataset)
    runs = [list(curve.specs) for curve in curves]
    divided = [run.divide(curve, specs, dataset, engine) for curve, specs in zip(curves, runs, strict=True)]
    return [estimate.Part(*part) for part in zip(curves, runs, divided, strict=True)]


def test_the_time_is_that_of_steps_rows_and_tests(digits):
    made = parts(digits, methods=["dwf"], epochs=3, strength=[1e-4, 1e-3], seed=[0, 1])
    steps = len(digits.train) // 128
    assert estimate.seconds(made, [Costs(10, 0.5, 0.25, 2)], digits, CPU) == 10 + 4 * (3 * (steps * 0.5 + 0.25) + 2)


def test_epochs_that_runs_share_count_once_and_processes_divide_the_work_but_not_the_compiling(digits):
    engine = Engine(device=torch.device("cpu"), threads=2, lanes=1, compile=False, jobs=2)
    made = parts(
        digits, engine, methods=["magnitude"], epochs=10, compression=[2, 4, 8], finetune_epochs=4, seed=[0, 1]
    )
    steps = len(digits.train) // 128
    cost = Costs(10, 1, 0, 0)
    assert estimate.seconds(made, [cost], digits, engine) == 10 + steps * (2 * 6 + 6 * 4) / 2
    assert estimate.seconds([*made, *made], [cost, cost], digits, engine) == 10 + 2 * steps * (2 * 6 + 6 * 4) / 2


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


def test_scores_play_no_part_in_a_measurement(digits, monkeypatch):
    (part,) = parts(digits, methods=["synflow"], compression=2, epochs=2)
    monkeypatch.setattr(type(part.curve.method), "masks", lambda *_: pytest.fail("scored"))
    assert estimate.measure(part.curve, part.tasks[0], digits).step > 0


def test_curves_with_the_same_step_are_measured_once(digits, monkeypatch):
    measured = []
    monkeypatch.setattr(estimate, "measure", lambda curve, *_: measured.append(curve.method.name) or Costs(0, 1, 1, 1))
    made = parts(digits, methods=["dwf", "dense", "snip", "synflow"], epochs=2)
    assert len(estimate.all_costs(made, digits)) == 4
    assert measured == ["dwf", "dense"]


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
    assert "2 runs to train, about 1 seconds on this device as busy as it is now (100 ms a step" in said


def test_a_dry_run_with_nothing_left_says_so_and_measures_nothing(run, trained, monkeypatch):
    monkeypatch.setattr(estimate, "measure", lambda *_: pytest.fail("measured"))
    shown = run(trained[0], "--method", "dense", "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines()[-1] == "Nothing is left to train."
