"""Planning curves from layers of settings, and training them in groups of lanes."""

import math
import multiprocessing
import os
import re
import signal
import time
from dataclasses import replace

import msgspec
import pytest
import torch
from torch import nn

from dwfbench.base.errors import UsageError
from dwfbench.execution import local, worker
from dwfbench.experiments import advise
from dwfbench.experiments import plan as planning
from dwfbench.experiments import run as runner
from dwfbench.methods import registry
from dwfbench.methods.stage import Stage
from dwfbench.runs import spec
from dwfbench.runs.record import Tuned
from dwfbench.runs.store import Store
from dwfbench.training import compile as compiler
from dwfbench.training import loop
from dwfbench.training.checkpoint import stop
from tests.execution.breaking import Hurried
from tests.records import plain

CPU = worker.Engine(torch.device("cpu"), threads=1, compile=False)
SHORT = {"epochs": 2, "batch_size": 128}


def plan(dataset, *layers, **flags):
    return [planning.curve(request, dataset) for request in planning.requests(list(layers), flags)]


def knobs(curve):
    return [one.knob for one in curve.specs]


class Listener:
    """Keeps what the runner tells."""

    def __init__(self):
        self.records, self.notes, self.pending = [], [], []

    def curve(self, label, runs, pending, epochs):
        self.pending.append(pending)

    def epoch(self, label, lanes, row, epochs, rows):
        pass

    def compiling(self, label):
        pass

    def run(self, record, history):
        self.records.append(record)

    def note(self, text):
        self.notes.append(text)


# ---------------------------------------------------------------- knob values


def test_a_grid_is_even_in_the_logarithm_with_the_ends_of_its_range(digits):
    (curve,) = plan(digits, methods="snip", compression_range=[2, 200], points=3)
    assert knobs(curve) == [2, 20, 200]


def test_values_of_a_grid_have_three_digits_so_that_they_are_the_same_everywhere(digits):
    (curve,) = plan(digits, methods="l1", strength_range=[1e-5, 1e-3], points=7)
    assert knobs(curve) == [float(f"{value:.3g}") for value in knobs(curve)]
    steps = [math.log(b / a) for a, b in zip(knobs(curve), knobs(curve)[1:], strict=False)]
    assert steps == pytest.approx([math.log(100) / 6] * 6, abs=0.01)


def test_one_point_is_the_middle_of_the_range(digits):
    (curve,) = plan(digits, methods="snip", compression_range=[1, 100], points=1)
    assert knobs(curve) == [10]


@pytest.mark.parametrize("flags", [{"methods": "dwf", "depth": depth} for depth in (2, 3, 4)] + [{"methods": "spred"}])
def test_the_lowest_default_strength_has_the_budget_that_zeroes_half_of_the_weights(digits, flags):
    (curve,) = plan(digits, **flags)
    assert curve.budget(curve.specs[0]) == pytest.approx(curve.needed, rel=0.006)
    assert knobs(curve)[-1] == pytest.approx(4 * knobs(curve)[0], rel=0.01)
    assert advise.budget_note(curve) is None


def test_a_budget_too_small_for_exact_zeros_is_said(digits):
    (curve,) = plan(digits, strength=[1e-9, 1])
    assert "1 of 2 runs" in advise.budget_note(curve)


def test_processors_that_one_process_leaves_idle_are_said(digits):
    curves = plan(digits, strength=[1e-4, 1e-3, 1e-2])
    idle = replace(CPU, threads=8)
    assert "8 threads, from which small networks gain little; --jobs 3 " in advise.jobs_note(curves, idle, 8)
    assert "one of 8 processors, as more do not make so small a network faster; --jobs 3 " in advise.jobs_note(
        curves, CPU, 8
    )
    assert "--jobs 2 " in advise.jobs_note(curves, CPU, 2)
    busy = [(CPU, 1), (replace(idle, jobs=8), 8), (replace(idle, device=torch.device("cuda")), 8)]
    assert [advise.jobs_note(curves, *engine) for engine in busy] == [None] * 3
    assert advise.jobs_note(plan(digits, strength=1e-3), idle, 8) is None


@pytest.mark.parametrize(
    ("model", "batch_sizes", "jobs", "threads"),
    [
        ("lenet-300-100", [128], 1, 1),  # 128 x (64 x 300 + 300 x 100 + 100 x 10) = 6.4e6 of at most 5e7
        ("lenet-300-100", [128], 4, 4),  # one a process
        ("lenet-300-100", [128, 1024], 1, 8),  # 1024 x 50,200 = 5.1e7: the process of both has all threads
        ("lenet-300-100", [996], 1, 1),  # 996 x 50,200 = 49,999,200
        ("lenet-300-100", [997], 1, 8),  # 997 x 50,200 = 50,049,400
        ("lenet-5", [8], 1, 8),  # has convolutions
    ],
)
def test_a_small_network_has_one_thread_a_process(digits, model, batch_sizes, jobs, threads):
    requests = [
        planning.Request(registry.create("dense", {}), {"model": model, "batch_size": size}) for size in batch_sizes
    ]
    engine = replace(CPU, threads=8, jobs=jobs)
    assert runner.choose_threads(requests, digits, engine) == threads
    assert runner.choose_threads(requests, digits, replace(engine, device=torch.device("cuda"))) == 8


def test_the_decay_budget_is_strength_times_the_sum_of_rates_over_one_minus_momentum(digits):
    (curve,) = plan(digits, strength=0.5, lr=0.2, momentum=0.9, **SHORT)
    steps = 2 * (len(digits.train.labels) // 128)
    rates = [0.2 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    assert curve.budget(curve.specs[0]) == pytest.approx(0.5 * sum(rates) / 0.1)


def test_methods_without_decay_have_no_budget(digits):
    curves = plan(digits, methods=["l1", "snip", "dense"], points=1)
    assert [curve.budget(curve.specs[0]) for curve in curves] == [None, None, None]


def test_dense_is_one_run_a_seed(digits):
    (curve,) = plan(digits, methods="dense", seeds=2)
    assert [(one.seed, one.knob) for one in curve.specs] == [(0, None), (1, None)]


def test_a_value_or_a_seed_given_twice_is_one_run(digits):
    (curve,) = plan(digits, methods="snip", compression=[10, 10.0], seed=[1, 1])
    assert len(curve.specs) == 1


# ---------------------------------------------------------------- layers


def test_later_layers_win_and_within_one_the_method_table_and_its_when_tables(digits):
    recipe = {"lr": 0.1, "momentum": 0.5, "epochs": 7, "clip_norm": 1.0}
    config = {
        "lr": 0.2,
        "momentum": 0.6,
        "methods": ["dwf", "dense"],
        "method": {"dwf": {"depth": [2, 3], "momentum": 0.7, "when": [{"depth": 2, "lr": 0.3}]}},
    }
    curves = plan(digits, recipe, config, epochs=2, points=1)
    settled = {c.method.label(): (c.specs[0].lr, c.specs[0].momentum, c.specs[0].epochs) for c in curves}
    assert settled == {"dwf D=2": (0.3, 0.7, 2), "dwf D=3": (0.2, 0.7, 2), "dense": (0.2, 0.6, 2)}
    assert {curve.specs[0].clip_norm for curve in curves} == {1.0}


def test_a_flag_wins_over_the_table_of_a_method(digits):
    config = {"method": {"dwf": {"lr": 0.3, "depth": 2, "when": [{"depth": 4, "lr": 0.4}]}}}
    (curve,) = plan(digits, config, lr=0.5, depth="4", points=1)
    assert (curve.method.depth, curve.specs[0].lr) == (4, 0.5)


@pytest.mark.parametrize(
    ("config", "flags", "expected"),
    [
        ({"seed": [7]}, {"seeds": 2}, [(0, 1e-3), (1, 1e-3)]),
        ({"seeds": 2}, {"seed": [7]}, [(7, 1e-3)]),
        ({"strength": [0.5]}, {"strength_range": [1, 100], "points": 2}, [(0, 1), (0, 100)]),
        ({"strength_range": [1e-6, 1e-5]}, {"strength_max": 4e-3, "points": 2}, [(0, 1e-5), (0, 4e-3)]),
        ({"strength": [0.5]}, {"points": 1, "strength_range": [1e-2, 1]}, [(0, 0.1)]),
        ({"points": 9}, {"strength": [0.5]}, [(0, 0.5)]),
    ],
)
def test_a_flag_displaces_another_way_of_saying_the_same_in_a_config_file(digits, config, flags, expected):
    base = {"methods": "l1", "strength": [1e-3]}
    (curve,) = plan(digits, base, config, **flags)
    assert [(one.seed, one.strength) for one in curve.specs] == expected


@pytest.mark.parametrize("name", ["dwf", "l1", "spred"])
def test_weight_decay_is_zero_where_the_penalty_takes_its_place(digits, name):
    (curve,) = plan(digits, methods=name, strength=1e-4, weight_decay=0.3)
    assert curve.specs[0].weight_decay == 0


def test_options_at_their_defaults_do_not_split_a_curve(digits):
    (plain,), (spelt,) = plan(digits, strength=1e-3), plan(digits, strength=1e-3, depth="3", min_abs="3e-3")
    assert plain.specs[0].id == spelt.specs[0].id


def test_an_option_of_one_method_leaves_the_other_alone(digits):
    dwf, dense = plan(digits, methods=["dwf", "dense"], depth="4", points=1)
    assert (dwf.specs[0].options, dense.specs[0].options) == ({"depth": 4}, {})


@pytest.mark.parametrize(
    ("layer", "flags", "said"),
    [
        ({}, {"dept": 3}, "did you mean --depth?"),
        ({}, {"methods": ["dwff"]}, "did you mean dwf?"),
        ({}, {"methods": ["l1"], "strength": 1, "points": 3}, "--strength lists the runs, which --points would choose"),
        ({"seed": [3], "seeds": 2}, {}, "Give either seed (which ones) or seeds (how many)"),
        ({"method": {"dwf": {"seed": [3], "seeds": 2}}}, {}, "Give either seed (which ones) or seeds (how many)"),
        ({}, {"methods": ["snip"], "strength": 1}, "--strength is not the knob of snip, turned by --compression;"),
        ({}, {"methods": ["snip"], "strength_range": [1, 2]}, "--strength-range is for --strength, which is not"),
        ({}, {"methods": ["snip"], "strength_max": 2}, "--strength-max is for --strength, which is not the knob"),
        ({}, {"strength_max": -1.0}, "strength_max must be a positive number"),
        ({"strength_max": "x"}, {}, "strength_max must be a positive number"),
        ({}, {"seeds": 2000, "points": 7}, "2000 seeds and 7 knob values has more than 10,000 runs"),
        ({}, {"seeds": 2000, "compression": [5]}, "2000 seeds and 16 knob values has more than 10,000 runs"),
        ({"points": 2.5}, {}, "points must be a whole number"),
        ({"seeds": True}, {}, "seeds must be a whole number"),
        ({"seed": []}, {}, "A list of values is empty"),
        ({"seed": [[]]}, {}, "seed must be a whole number, not []"),
        ({"seed": {"a": 1}}, {}, "seed must be a whole number, not {'a': 1}"),
        ({"methods": []}, {}, "A list of values is empty"),
        ({"strength_range": [2, 1]}, {}, "strength_range must be two positive numbers"),
        ({"strength_range": ["a", 1]}, {}, "strength_range must be two positive numbers"),
        ({"method": {"dwf": {"depht": 2}}}, {}, "did you mean depth?"),
        ({"method": {"dwf": {"when": [{"depht": 2}]}}}, {}, "did you mean depth?"),
        ({"method": {"dwff": {}}}, {}, "did you mean dwf?"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_their_reason(digits, layer, flags, said):
    with pytest.raises(UsageError) as error:
        plan(digits, layer, **flags)
    assert said in str(error.value)


@pytest.mark.parametrize("name", sorted(registry.installed()))
def test_the_phases_of_every_method_add_up_to_its_epochs(name):
    kind = registry.load(name)
    several = [kind()] + ([kind(finetune_epochs=0), kind(at="init")] if name == "magnitude" else [])
    for one in several:
        assert [sum(stage.epochs for stage in one.stages(epochs)) for epochs in range(1, 8)] == list(range(1, 8))


def test_stages_that_do_not_add_up_are_refused(digits, monkeypatch):
    monkeypatch.setattr(registry.load("dense"), "stages", lambda self, epochs: (Stage(epochs + 1),))
    with pytest.raises(UsageError, match="do not add up"):
        plan(digits, methods="dense")


# ---------------------------------------------------------------- lanes and failures


def with_dropout(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(math.prod(input_shape), classes))


@pytest.mark.parametrize(("model", "lanes"), [("lenet-300-100", 5), ("lenet-5", 1), (f"{__name__}:with_dropout", 1)])
def test_networks_with_convolutions_or_dropout_train_alone_on_a_cpu(digits, model, lanes):
    (curve,) = plan(digits, methods="dense", model=model, seeds=5)
    assert runner.choose_lanes(curve, digits, CPU, compile=False) == lanes
    assert runner.choose_lanes(curve, digits, CPU, compile=True) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without the GPUs of its cluster")
def test_what_failed_on_the_gpus_of_a_cluster_is_recorded_on_a_machine_without_any(digits):
    (curve,) = plan(digits, methods="snip", compression=[2, 4], **SHORT)
    engine = replace(CPU, device=torch.device("cuda"), cluster=worker.Cluster("auto", 1, 1.0))
    task = worker.Task(curve.method, curve.specs, lanes=1, compile=False)
    records = [one.record for one in worker.failures(task, digits, engine, "died")]
    assert [(one.status, one.error) for one in records] == [("failed", "died")] * 2


def failing_at(monkeypatch, compression):
    """Groups with a run of this compression fail when they start."""
    real = loop.Trainer.start

    def start(self, specs, name):
        if any(one.compression == compression for one in specs):
            raise RuntimeError("out of memory\nand a long story")
        return real(self, specs, name)

    monkeypatch.setattr(loop.Trainer, "start", start)


def test_a_failing_lane_alone_is_recorded_as_failed(digits, tmp_path, monkeypatch):
    curves = plan(digits, methods="snip", compression=[2, 3, 4, 5], **SHORT)
    failing_at(monkeypatch, 3)
    store, listener = Store(tmp_path), Listener()
    outcome = runner.execute(curves, digits, store, CPU, listener)
    by_knob = {record.spec.compression: record for record in store.load()}
    assert {knob: record.status for knob, record in by_knob.items()} == {2: "ok", 3: "failed", 4: "ok", 5: "ok"}
    assert re.fullmatch(r"RuntimeError: out of memory \(line \d+ of test_run\.py\)", by_knob[3].error)
    assert {record.provenance.lanes for record in by_knob.values()} == {1}
    assert sorted(outcome.values()) == ["failed", "ok", "ok", "ok"]
    assert len(listener.notes) == 2  # four at once, then two

    monkeypatch.undo()
    again = Listener()
    assert list(runner.execute(curves, digits, store, CPU, again).values()) == ["ok"]
    assert again.pending == [1]
    assert {record.status for record in store.load()} == {"ok"}


def test_what_was_trained_before_a_failure_is_not_trained_again(digits, tmp_path, monkeypatch):
    curves = plan(digits, methods="snip", compression=[2, 3, 4], **SHORT)
    failing_at(monkeypatch, 3)
    started = []
    real = loop.Trainer.start
    monkeypatch.setattr(
        loop.Trainer,
        "start",
        lambda self, specs, name: started.append(specs[0].compression) or real(self, specs, name),
    )
    runner.execute(curves, digits, Store(tmp_path), replace(CPU, lanes=1), Listener())
    assert started == [2, 3, 4]


@pytest.mark.parametrize("name", ["snip", "grasp"])
def test_a_class_too_small_for_scoring_is_refused_before_anything_is_trained(digits, name):
    with pytest.raises(UsageError, match="samples per class"):
        plan(digits, methods=["dense", name], compression=2, samples_per_class=100_000, **SHORT)


def test_a_usage_error_within_training_ends_the_command(digits, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise UsageError("no")

    monkeypatch.setattr(loop.Trainer, "train", refuse)
    with pytest.raises(UsageError, match="no"):
        runner.execute(plan(digits, methods="dense", **SHORT), digits, Store(tmp_path), CPU, Listener())


def test_a_compiler_that_fails_is_done_without_unless_it_was_asked_for(digits, tmp_path, monkeypatch):
    def broken(step, device):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(compiler, "compiled", broken)
    monkeypatch.setattr(runner, "worth_compiling", lambda *_: True)
    curves, listener = plan(digits, methods="dense", **SHORT), Listener()
    auto, asked = replace(CPU, compile=None), replace(CPU, compile=True)
    assert list(runner.execute(curves, digits, Store(tmp_path / "auto"), auto, listener).values()) == ["ok"]
    assert Store(tmp_path / "auto").load()[0].provenance.compiled is False
    assert list(runner.execute(curves, digits, Store(tmp_path / "on"), asked, listener).values()) == ["failed"]


def test_runs_of_other_data_under_the_same_name_are_not_taken_for_these(digits, tmp_path):
    curves = plan(digits, methods="dense", **SHORT)
    runner.execute(curves, digits, Store(tmp_path), CPU, Listener())
    other = replace(digits, checksum="another")
    with pytest.raises(UsageError, match="other data named digits"):
        runner.execute(curves, other, Store(tmp_path), CPU, Listener())
    before = plan(digits, methods="random", compression=2, **SHORT)
    with pytest.raises(UsageError, match="other data named digits"):
        runner.execute([*before, *curves], other, Store(tmp_path), CPU, Listener())
    assert [record.spec.method for record in Store(tmp_path).load()] == ["dense"]  # refused before training


def test_a_damaged_record_is_told_once_before_its_run_is_trained_again(digits, tmp_path):
    (curve,), store, listener = plan(digits, methods="dense", **SHORT), Store(tmp_path), Listener()
    path = tmp_path / "runs" / curve.specs[0].id / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text("[]")
    runner.execute([curve], digits, store, CPU, listener)
    runner.execute([curve], digits, store, CPU, listener)
    assert listener.notes == [f"{path} is not a record of this run (it is no table); `dwfbench run` trains it again."]
    assert store.damaged == listener.notes


@pytest.mark.parametrize("status", ["ok", "failed", "diverged"])
def test_what_another_command_made_of_a_run_is_the_outcome_of_one_that_waited(digits, tmp_path, monkeypatch, status):
    curves, store, listener = plan(digits, methods="dense", **SHORT), Store(tmp_path / "both"), Listener()
    runner.execute(curves, digits, other := Store(tmp_path / "other"), CPU, listener)
    (record,) = other.load()

    class Others(runner.Claims):
        """Another command has the run, and ends with it while this one waits."""

        def take(self, run_ids):
            if not listener.notes:
                return set()
            store.write(msgspec.structs.replace(record, status=status, error=None), [])
            return set(run_ids)

    monkeypatch.setattr(runner, "Claims", Others)
    assert runner.execute(curves, digits, store, CPU, listener) == {record.id: status}
    assert len(listener.records) == 1  # by the first


class Stops(Listener):
    """Asks to stop after an epoch; keeps which epochs it saw."""

    def __init__(self, after=None):
        super().__init__()
        self.after, self.seen = after, []

    def epoch(self, label, lanes, row, epochs, rows):
        self.seen.append(row["epoch"])
        stop.asked = row["epoch"] == self.after


@pytest.mark.parametrize(("force", "epochs"), [(False, [3]), (True, [1, 2, 3])])
def test_force_goes_on_from_no_checkpoint(digits, tmp_path, force, epochs):
    curves = plan(digits, methods="dense", epochs=3, batch_size=128)
    store, engine = Store(tmp_path), replace(CPU, checkpoints=tmp_path / "checkpoints")
    with pytest.raises(KeyboardInterrupt):
        runner.execute(curves, digits, store, engine, Stops(after=2))
    stop.asked = False
    assert list(engine.checkpoints.iterdir())
    again = Stops()
    runner.execute(curves, digits, store, engine, again, force=force)
    assert again.seen == epochs


def test_a_value_listed_twice_is_one_curve(digits):
    assert len(plan(digits, methods="dwf", depth=["3", "3", "2"], strength=1e-3, **SHORT)) == 2


def test_a_budget_too_small_for_the_highest_strength_is_refused_with_both_numbers(digits):
    with pytest.raises(UsageError, match=r"up to 0\.01 .* only from 0\.\d+ on"):
        plan(digits, methods="dwf", strength_max=0.01, **SHORT)


def test_a_diverging_lane_leaves_its_neighbours_as_they_are_alone(digits, tmp_path):
    (curve,) = plan(digits, methods="l1", strength=[1e-4, 1e6], **SHORT)
    both = runner.execute([curve], digits, Store(tmp_path / "both"), CPU, Listener())
    assert list(both.values()) == ["ok", "diverged"]
    (alone,) = plan(digits, methods="l1", strength=1e-4, **SHORT)
    runner.execute([alone], digits, Store(tmp_path / "alone"), CPU, Listener())
    (one,), (other, _) = Store(tmp_path / "alone").load(), Store(tmp_path / "both").load()
    assert one.compression == pytest.approx(other.compression, rel=1e-3)
    assert one.test_accuracy == pytest.approx(other.test_accuracy, abs=0.01)


def test_settings_of_a_recipe_are_read_as_it_says_them(digits):
    layer = spec.read_toml(spec.recipe_path("lenet-300-100-digits"))
    curves = plan(digits, layer, depth=["2", "3", "4"])
    assert [knobs(curve)[-1] for curve in curves] == [0.005, 0.004, 0.0035]


# ---------------------------------------------------------------- shared work, worker processes


METHODS = {
    "methods": ["dense", "dwf", "magnitude", "snip"],
    "strength": [1e-3, 1e-2],
    "compression": [2, 8],
    "seeds": 2,
    **SHORT,
}


def content(store):
    """What records say of results, without times and provenance."""
    timing = ("seconds", "overhead_seconds", "peak_memory_bytes", "provenance")
    return {record.id: {k: v for k, v in plain(record).items() if k not in timing} for record in store.load()}


@pytest.mark.slow
def test_worker_processes_give_the_records_of_one_process(digits, tmp_path, forked_workers):
    curves = plan(digits, **METHODS)
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    runner.execute(curves, digits, here, CPU, Listener())
    listener = Listener()
    outcome = runner.execute(curves, digits, there, replace(CPU, threads=2, jobs=2), listener)
    assert set(outcome.values()) == {"ok"}
    assert len(listener.records) == 2 + 3 * 4
    assert content(here) == content(there)
    assert {record.provenance.threads for record in there.load()} == {1}


def test_runs_of_a_seed_share_what_the_compression_does_not_touch(digits, tmp_path):
    """Magnitude's dense epochs are trained once, and the numbers are those of each run alone."""
    (curve,) = plan(digits, methods="magnitude", compression=[2, 8], finetune_epochs=1, epochs=3, batch_size=128)
    together, alone = Store(tmp_path / "together"), Store(tmp_path / "alone")
    runner.execute([curve], digits, together, replace(CPU, lanes=1), Listener())
    for one in curve.specs:
        runner.execute([replace(curve, specs=(one,))], digits, alone, replace(CPU, lanes=1), Listener())
    assert content(together) == content(alone)
    assert len(content(alone)) == 2


def test_curves_that_differ_in_their_rate_alone_share_a_group_and_keep_how_each_was_chosen(digits, tmp_path):
    methods = [("dwf", {"lr": 0.2}), ("dwf", {"lr": 0.1}), ("dwf", {"depth": 2})]
    fast, slow, other = plan(digits, methods=methods, strength=[1e-3, 1e-2], **SHORT)
    fast, slow = (replace(curve, tuned=Tuned(study=name)) for curve, name in ((fast, "f" * 12), (slow, "5" * 12)))
    everything = [one.id for curve in (fast, slow, other) for one in curve.specs]
    grouped = runner.tasks([fast, slow, other], everything, digits, replace(CPU, lanes=4))
    assert [[one.lr for one in task.specs] for task in grouped] == [[0.2, 0.2, 0.1, 0.1], [other.specs[0].lr] * 2]
    assert [{tuned.study for tuned in task.tuned.values()} for task in grouped] == [{"f" * 12, "5" * 12}, set()]
    together, alone = Store(tmp_path / "together"), Store(tmp_path / "alone")
    runner.execute([fast, slow], digits, together, replace(CPU, lanes=4), Listener())
    for curve in (fast, slow):
        runner.execute([curve], digits, alone, replace(CPU, lanes=2), Listener())
    for one in (*fast.specs, *slow.specs):
        mine, expected = together.read(one.id), alone.read(one.id)
        assert mine.provenance.tuned == expected.provenance.tuned == (fast if one in fast.specs else slow).tuned
        assert (mine.test_accuracy, mine.nnz) == (expected.test_accuracy, expected.nnz)


class Killer(nn.Flatten):
    """Ends the process that trains it."""

    def forward(self, x):
        if multiprocessing.parent_process() is not None and self.training and torch.is_grad_enabled():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def killer(input_shape, classes):
    return nn.Sequential(Killer(), nn.Linear(math.prod(input_shape), classes))


@pytest.mark.slow
def test_a_worker_that_dies_takes_no_other_run_with_it(digits, tmp_path, forked_workers):
    good = plan(digits, methods="snip", compression=[2, 3, 4], **SHORT)
    bad = plan(digits, methods="dense", model=f"{__name__}:killer", **SHORT)
    store, listener = Store(tmp_path), Listener()
    outcome = runner.execute([*bad, *good], digits, store, replace(CPU, threads=2, jobs=2, lanes=1), listener)
    assert sorted(outcome.values()) == ["failed", "ok", "ok", "ok"]
    (failed,) = [record for record in store.load() if record.status == "failed"]
    assert "process died" in failed.error
    assert any("tried again" in note for note in listener.notes)


class Hanger(nn.Flatten):
    """Stays for ever in its first step, in a process of its own."""

    def forward(self, x):
        while multiprocessing.parent_process() is not None and self.training and torch.is_grad_enabled():
            time.sleep(1)
        return super().forward(x)


def hanger(input_shape, classes):
    return nn.Sequential(Hanger(), nn.Linear(math.prod(input_shape), classes))


@pytest.mark.slow
def test_a_group_that_takes_too_long_is_ended_alone(digits, tmp_path, monkeypatch, forked_workers):
    good = plan(digits, methods="snip", compression=[2, 3], **SHORT)
    bad = plan(digits, methods="dense", model=f"{__name__}:hanger", **SHORT)
    engine = replace(CPU, threads=2, jobs=2, lanes=1, timeout_minutes=7)
    listener = Listener()
    monkeypatch.setattr(local, "time", Hurried(lambda: len(listener.records) == 2))
    outcome = runner.execute([*bad, *good], digits, store := Store(tmp_path), engine, listener)
    assert sorted(outcome.values()) == ["failed", "ok", "ok"]
    (failed,) = [record for record in store.load() if record.status == "failed"]
    assert failed.error == "timed out: the group trained for more than the 7 minutes of --timeout-minutes"
