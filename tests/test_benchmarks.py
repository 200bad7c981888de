"""The benchmarks' frame with a clock of our own, and that the modules run. No wall-clock time is asserted."""

import json
import random

import pytest
import torch

from benchmarks import __main__ as everything
from benchmarks import cuda, scoring, startup, timing
from benchmarks.timing import Measured, Options, Ratio, Row, interleaved
from benchmarks.workload import DWF3, Workload
from dwfbench.analysis.resultset import ResultSet
from dwfbench.runs.store import Store
from tests.records import plain

MACHINE = {"processor": "P", "cores": 2}


class Clock:
    """A clock that moves only when something is called; keeps the order of the calls."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def variant(self, name, *seconds):
        """A call that takes these seconds in turn, the last one from then on."""
        left = list(seconds)

        def call():
            self.order.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def process_settings():
    """The modules set denormals for their process, which here is that of all tests."""
    yield
    torch.set_flush_denormal(False)


def test_every_way_of_calling_a_step_trains_the_same(monkeypatch, process_settings):
    """What only a device shows aside; the compiler's place is taken by what it was given."""
    monkeypatch.setattr(torch, "compile", lambda step, **options: step)
    options = Options(rounds=1, device="cpu", quick=True)
    trained = []
    for way in cuda.STEPS:
        load = Workload(options, DWF3, lanes=2, samples=200, compile=False)
        cuda.stepper(load, way, options)()
        trained.append(load.group.state.weights)
    for weights in trained[1:]:
        torch.testing.assert_close(weights, trained[0], rtol=0, atol=0)


# ---------------------------------------------------------------- measuring


def test_variants_take_turns_after_the_warm_up(clock):
    variants = {name: clock.variant(name, 1.0) for name in "ab"}
    found = interleaved(variants, 3, least=0, warm_up=2, clock=clock)
    assert "".join(clock.order) == "aabb" + "ababab"
    assert found == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_the_warm_up_is_not_measured(clock):
    found = interleaved({"a": clock.variant("a", 60.0, 1.0, 2.0)}, 2, least=0, warm_up=1, clock=clock)
    assert found == {"a": [1.0, 2.0]}


def test_short_calls_are_repeated_until_a_measurement_is_long_enough(clock):
    variants = {"short": clock.variant("s", 0.25), "long": clock.variant("l", 4.0)}
    found = interleaved(variants, 2, least=1.0, warm_up=0, clock=clock)
    assert found == {"short": [0.25] * 2, "long": [4.0] * 2}
    assert "".join(clock.order[-10:]) == "ssssl" * 2


def test_the_device_is_waited_for_before_either_reading(clock):
    device = Clock()
    device.variant("work", 0.0)
    pending = []

    def synchronize():
        clock.now += sum(pending)
        pending.clear()

    found = interleaved({"a": lambda: pending.append(3.0)}, 2, least=0, warm_up=1, synchronize=synchronize, clock=clock)
    assert found == {"a": [3.0, 3.0]}


def test_the_ratio_is_taken_within_each_round():
    # The machine became ten times slower in the third round: the ratio of the medians would be 0.75.
    ratio = Ratio.between([0.002, 0.003, 0.040], [0.001, 0.004, 0.010])
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((1.375, 2.0, 3.0))
    assert (ratio.a_ms, ratio.b_ms) == pytest.approx((3, 4))


def test_quartiles_of_a_few_rounds():
    assert Measured.of([5.0, 1.0, 4.0, 2.0, 3.0]) == Measured(3.0, 2.0, 4.0)
    assert Measured.of([7.0]) == Measured(7.0, 7.0, 7.0)


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [
        (1.3, "<= 1.3", True),
        (1.31, "<= 1.3", False),
        (3.0, "< 3", False),
        (12.0, ">= 12", True),
        (11.9, ">= 12", False),
        (1.0, None, None),
        (None, "< 3", None),
    ],
)
def test_a_target_is_a_bound(value, target, met):
    assert Row("a", value, target=target).met is met


def test_a_row_without_the_device_says_so():
    row = Row.missing("48 lanes", target=">= 20")
    assert not row.measured
    assert row.met is None
    assert row.note == "not measured: no CUDA device"
    assert row.cells() == ["48 lanes", "-", "", ">= 20", "", "not measured: no CUDA device"]


def test_the_table_is_plain_aligned_text(capsys):
    ratio = Ratio.between([0.5, 0.5], [0.25, 0.25])
    rows = [
        Row.of("step / limit", ratio, target="<= 1.3", note="8 lanes"),
        Row.of("compare", Measured(2.5, 2.25, 2.75), "s", "< 3"),
        Row.missing("48 lanes"),
    ]
    timing.report(MACHINE, rows)
    assert capsys.readouterr().out.splitlines() == [
        "processor P, cores 2",
        "measured      median  quartiles     target          note",
        "step / limit  2 x     2 .. 2        <= 1.3  MISSED  500 / 250 ms, 8 lanes",
        "compare       2.5 s   2.25 .. 2.75  < 3     met",
        "48 lanes      -                                     not measured: no CUDA device",
    ]


def test_the_json_holds_what_the_table_shows(tmp_path):
    rows = [Row.of("a", Ratio.between([2.0, 4.0], [1.0, 1.0]), target=">= 3", note="n"), Row.missing("b")]
    timing.report(MACHINE, rows, tmp_path / "rows.json")
    content = json.loads((tmp_path / "rows.json").read_text())
    assert content["machine"] == MACHINE
    first, second = content["rows"]
    assert first == {
        "name": "a",
        "value": 3.0,
        "spread": [2.5, 3.5],
        "unit": "x",
        "target": ">= 3",
        "note": "3000 / 1000 ms, n",
        "measured": True,
        "met": True,
    }
    assert second["value"] is None
    assert second["measured"] is False


# ---------------------------------------------------------------- the command line


def test_options_of_the_command_line(tmp_path):
    options, path = timing.parse("", [])
    assert options == Options()
    assert path is None
    options, path = timing.parse("", ["--quick", "--threads", "1", "--device", "cpu", "--json", str(tmp_path / "f")])
    assert options == Options(rounds=1, threads=1, device="cpu", quick=True)
    assert path == tmp_path / "f"
    assert timing.parse("", ["--quick", "--rounds", "3"])[0].rounds == 3
    with pytest.raises(SystemExit):
        timing.parse("", ["--rounds", "0"])


def test_a_device_that_is_not_there_is_one_sentence(process_settings):
    with pytest.raises(SystemExit, match=r"^Error: .*nonsense"):
        timing.main(lambda options: [], "", ["--device", "nonsense"])


@pytest.mark.parametrize("module", [startup, scoring])
def test_a_module_measures_and_writes(module, tmp_path, capsys, process_settings):
    timing.main(module.rows, module.__doc__, ["--quick", "--threads", "1", "--json", str(tmp_path / "rows.json")])
    content = json.loads((tmp_path / "rows.json").read_text())
    assert content["machine"]["threads"] == 1
    assert content["rows"]
    shown = capsys.readouterr().out
    for row in content["rows"]:
        assert row["measured"]
        assert row["value"] > 0
        assert row["name"] in shown


def test_all_modules_make_one_table(monkeypatch):
    monkeypatch.setattr(everything, "MODULES", ("startup", "no_such_module", "scoring"))
    monkeypatch.setattr(startup, "rows", lambda options: [Row("a", 1.0)])
    monkeypatch.setattr(scoring, "rows", lambda options: [Row("b", 2.0), Row("c", 3.0)])
    assert [row.name for row in everything.rows(Options())] == ["a", "b", "c"]


# ---------------------------------------------------------------- synthetic records


def test_synthetic_records_are_those_of_a_results_folder(tmp_path):
    startup.store(tmp_path, 60)
    store = Store(tmp_path)
    records = store.load(history=True)
    assert not store.damaged
    assert len(records) == len({record.id for record in records}) == 60
    frame = ResultSet(records).runs
    assert len(frame) == 60
    assert set(frame["method"]) == {"dense", "dwf"}
    assert len(ResultSet(records).layers) == 60 * startup.MODELS["lenet-300-100"]
    assert len(ResultSet(records).history) == 60 * startup.EPOCHS


def test_synthetic_records_fill_the_number_that_is_measured():
    assert sum(1 for _ in startup.records(random.Random(0))) >= startup.RECORDS


def test_synthetic_records_have_the_fields_of_real_ones(run, tmp_path):
    assert run(tmp_path / "real", "--method", "snip", "--compression", "10").exit_code == 0
    startup.store(tmp_path / "synthetic", 1)
    (real,), (synthetic,) = (map(plain, Store(tmp_path / name).load(history=True)) for name in ("real", "synthetic"))
    assert synthetic.keys() == real.keys()
    assert synthetic["spec"].keys() == real["spec"].keys()
    assert synthetic["history"][0].keys() == real["history"][0].keys()
    assert synthetic["layers"][0].keys() == real["layers"][0].keys()


def test_the_workload_and_the_products_of_training_run():
    import torch

    from benchmarks import training, workload

    options = Options(rounds=1, quick=True, device="cpu", threads=1)
    for model, lanes in (("lenet-300-100", 2), ("lenet-5", 1)):
        load = workload.Workload(options, workload.DWF3, model, lanes=lanes, batch=4, samples=16, compile=False)
        before = [value.clone() for value in load.group.state.weights.values()]
        load.step()
        assert all(not torch.equal(a, b) for a, b in zip(before, load.group.state.weights.values(), strict=True))
        training.products(model, options, lanes=lanes, batch=4, dtype=torch.float32, mm=torch.matmul)()
