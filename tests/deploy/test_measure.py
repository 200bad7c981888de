"""Sizes and speeds: the sums by hand, fair turns, the sparse layers, and the command with its figure."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dwfbench.analysis import latency
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base import machine
from dwfbench.base.errors import UsageError
from dwfbench.deploy import export, measure
from dwfbench.models.prunable import choose_embeddings, prunable
from dwfbench.runs.decode import measurement_of
from dwfbench.runs.store import Store
from dwfbench.show import speed, tables
from dwfbench.show.drawing import Line, Points
from dwfbench.show.figures.latency import Latency
from tests.records import changed, typed

LENET = ("--model", "lenet-300-100", "--dataset", "digits")


def small_net():
    """16 pixels; 3 filters 3x3, of which one is neither read nor made; 2 outputs. No zeros elsewhere."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    network[0].weight.data[1] = 0
    network[3].weight.data[:, 4:8] = 0
    return network


def test_medians_ranges_and_speedups_by_hand():
    dense, compact = [1.0, 2.0, 3.0, 4.0, 5.0, 20.0], [0.5, 0.5, 2.0, 1.0, 1.0, 2.5]
    found = measure.summary(32, {"dense": dense, "compact": compact})
    # Dense over compact, round by round: 2, 4, 1.5, 4, 5, 8; of six, the ends are the interval: 1 - 2 / 2^6 = 97 %.
    assert found == [
        {"batch": 32, "form": "dense", "median": 3.5, "iqr": 2.5, "outliers": 1, "speedup": 1.0, "low": 1, "high": 1},
        {"batch": 32, "form": "compact", "median": 1.0, "iqr": 1.125, "outliers": 0, "speedup": 4.0}
        | {"low": 1.5, "high": 8.0},
    ]
    (single,) = measure.summary(1, {"dense": [6.0]})
    assert single == {"batch": 1, "form": "dense", "median": 6.0, "iqr": 0.0, "outliers": 0, "speedup": 1.0} | {
        "low": None,
        "high": None,
    }


@pytest.mark.parametrize(("rounds", "cut"), [(5, None), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (30, 9)])
def test_the_interval_of_a_median_by_its_order_statistics(rounds, cut):
    """Of 9 values, say, the second and the eighth: 2 (1 + 9) / 2^9 = 3.9 % is left out, with the third 18 %."""
    values = [float(value) for value in range(rounds)]
    shuffled = values[1::2] + values[::2]
    assert measure.interval(shuffled) == ((None, None) if cut is None else (values[cut], values[-1 - cut]))


def test_outliers_lie_beyond_tukeys_fences():
    """The quartiles of 1, ..., 5 and another are 2.25 and 4.75; the fences are -1.5 and 8.5."""
    assert measure.outliers([1, 2, 3, 4, 5, 8.5]) == 0
    assert measure.outliers([1, 2, 3, 4, 5, 8.6]) == 1
    assert measure.outliers([-1.6, 1, 2, 3, 4, 5, 6, 7, 20]) == 1
    assert measure.outliers([2.0]) == 0


def test_forms_take_turns(monkeypatch):
    asked = []

    def timed(forward, samples, calls):
        asked.append((forward, calls))
        return {"slow": 1e-2, "fast": 1e-4}[forward] * (1 + len(asked))

    monkeypatch.setattr(measure, "timed", timed)
    found = measure.seconds({"a": "slow", "b": "fast"}, torch.zeros(1), 3)
    warm, rounds = asked[:4], asked[4:]
    assert warm == [("slow", 1), ("slow", 2), ("fast", 1), ("fast", 2)]
    # 2 ms at least: once 30 ms, four times 0.5 ms. Who begins changes.
    assert rounds == [*[("slow", 1), ("fast", 4)], *[("fast", 4), ("slow", 1)], *[("slow", 1), ("fast", 4)]]
    assert found["a"] == pytest.approx([0.06, 0.09, 0.10])
    assert found["b"] == pytest.approx([0.0007, 0.0008, 0.0011])


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_sparse_layers_compute_the_same(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(6, 4, bias).requires_grad_(False)
    layer.weight[torch.rand(4, 6) < 0.7] = 0
    features = torch.randn(shape)
    assert torch.allclose(measure.SparseLinear(layer)(features), layer(features), atol=1e-6)
    assert torch.allclose(measure.with_sparse_layers(layer)(features), layer(features), atol=1e-6)


def test_a_sparse_layer_has_all_names_of_its_layer_and_leaves_what_others_read():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    network.add_module("again", network[0])
    changed = measure.with_sparse_layers(network)
    assert type(changed[0]) is measure.SparseLinear
    assert changed[0] is changed.again
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    inputs = torch.randn(2, 3, 8)
    with torch.no_grad():
        assert torch.allclose(measure.with_sparse_layers(encoder)(inputs), encoder(inputs), atol=1e-6)


def test_a_measurement():
    network, inputs = small_net(), torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(6, dtype=torch.long)
    found = measure.measure(network, inputs, labels, (8, 2, 8), 3)
    # Convolution 4 positions x 9 weights x 3 filters, then 12 x 2; without the zeros of the last, or the filter.
    macs = {form: one["macs"] for form, one in found["forms"].items()}
    assert macs == {"dense": 108 + 24, "sparse": 108 + 16, "compact": 72 + 16}
    accuracy = (network(inputs).argmax(1) == 0).sum().item() / 6
    assert {one["test_accuracy"] for one in found["forms"].values()} == {accuracy}
    assert found["forms"]["compact"]["bytes"] < found["forms"]["dense"]["bytes"]
    assert [(one["batch"], one["form"]) for one in found["latency"]] == [
        (batch, form) for batch in (2, 8) for form in ("dense", "sparse", "compact")
    ]
    assert all(one["median"] > 0 and one["iqr"] >= 0 for one in found["latency"])
    assert {one["low"] for one in found["latency"]} == {None}  # of three rounds
    assert network.training


class Language(nn.Module):
    """A transformer over two tokens whose classifier has the weights of its embedding."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.encoder = nn.TransformerEncoderLayer(4, 1, 6, batch_first=True)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.table.weight
        choose_embeddings(self)

    def forward(self, x):
        return self.head(self.encoder(x.view(-1, 2, 4)).mean(1))


def test_the_multiplications_of_the_sparse_form_are_those_of_the_layers_that_are_sparse():
    network = Language()
    with torch.no_grad():
        for weight in prunable(network).values():
            weight[0] = 0
    found = measure.measure(network, torch.randn(2, 8), batches=(1,), rounds=1)
    attention, feedforward, head = 2 * 4 * 4 * 4, 2 * 2 * 4 * 6, 4 * 5
    macs = {form: found["forms"][form]["macs"] for form in ("dense", "sparse")}
    assert macs == {"dense": attention + feedforward + head, "sparse": attention + feedforward + head - 4}


@pytest.mark.parametrize(("batches", "rounds"), [((0,), 3), ((), 3), ((1,), 0)])
def test_wrong_sizes_are_refused(batches, rounds):
    with pytest.raises(UsageError, match="at least 1"):
        measure.measure(small_net(), torch.zeros(1, 1, 4, 4), batches=batches, rounds=rounds)


def record(run_id, cr, method="dwf"):
    spec = {"method": method, "dataset": "digits", "model": "lenet", "seed": 0, "epochs": 2, "options": {}}
    content = {
        **{"id": run_id, "status": "ok", "label": method, "knob": "strength", "spec": {**spec, "strength": cr}},
        **{"test_accuracy": 0.9, "compression": cr},
    }
    return typed(content)


def measurement(speeds, threads=1, **more):
    """A measurement in which a dense pass of one sample takes 6 ms, as an earlier version wrote it but for ``more``."""
    forms = {
        form: {"test_accuracy": 0.875, "macs": 1000 * size, "bytes": 4000 * size, "bytes_zlib": 100 * size}
        for form, size in (("dense", 9), ("sparse", 1), ("compact", 3))
    }
    times = [
        {"batch": batch, "form": form, "median": 0.006 / speedup, "iqr": 0.0005, "speedup": speedup, **more}
        for batch in (1, 32)
        for form, speedup in zip(forms, (1.0, *speeds), strict=True)
    ]
    return {"schema": 1, "forms": forms, "latency": times, "device_name": "ABC", "threads": threads}


def with_measurements(records, measurements):
    return [changed(run, measurement=measurements.get(run.id)) for run in records]


def stored(run_id):
    results = {"compression": 1.0, "layers": [], "thresholds": [], "provenance": {"data_checksum": "0" * 16}}
    return changed(record(run_id, 9.0), **results)


def test_the_table_by_hand():
    records = [record("b" * 12, 30.0), record("a" * 12, 9.5)]
    frame = ResultSet(with_measurements(records, {"a" * 12: measurement((0.5, 2.0))})).latency
    lines = tables.render(speed.table(frame), "table", speed.cells).splitlines()
    assert [line.split() for line in lines[1:]] == [
        [*["digits", "lenet", "dwf"], "a" * 12, "9.5", form, "87.50", macs, size, zlib] + 2 * [ms, "[0.5]", speedup]
        for form, macs, size, zlib, ms, speedup in (
            ("dense", "9,000", "36,000", "900", "6", "1"),
            ("sparse", "1,000", "4,000", "100", "12", "0.5"),
            ("compact", "3,000", "12,000", "300", "3", "2"),
        )
    ]
    rows = json.loads(tables.render(speed.table(frame), "json", speed.cells))
    assert rows[2]["ms at 32"] == pytest.approx(3)
    assert rows[2]["ms at 32 iqr"] == pytest.approx(0.5)
    assert (rows[2]["x at 32"], rows[2]["Bytes"], rows[2]["CR"]) == (2, 12000, 9.5)


def test_the_table_has_intervals_and_outliers():
    found = {"a" * 12: measurement((1.9, 2.0), low=1.75, high=2.25, outliers=3)}
    table = speed.table(ResultSet(with_measurements([record("a" * 12, 9.5)], found)).latency)
    header, *_, compact = speed.cells(table)
    assert dict(zip(header, compact, strict=True))["ms at 32"] == "3 [0.5] *3"
    assert dict(zip(header, compact, strict=True))["x at 32"] == "2 [1.75-2.25]"
    rows = json.loads(tables.render(table, "json", speed.cells))
    beside = ("x at 32 low", "x at 32 high", "ms at 32 outliers")
    assert [rows[2][name] for name in beside] == [1.75, 2.25, 3]


def test_files_of_earlier_versions_have_no_intervals():
    old = measurement_of(measurement((0.5, 2.0)))
    assert old.load is None
    assert {(row.low, row.high, row.outliers) for row in old.latency} == {(None, None, 0)}
    frame = ResultSet(with_measurements([record("a" * 12, 9.5)], {"a" * 12: measurement((0.5, 2.0))})).latency
    assert not latency.undecided(frame).any()


def test_places_are_named_once():
    records = [record(name * 12, 9.0) for name in "abc"]
    found = {name * 12: measurement((1, 2), threads) for name, threads in zip("abc", (1, 4, 1), strict=True)}
    assert latency.places(ResultSet(with_measurements(records, found)).latency) == ["ABC, 1 thread", "ABC, 4 threads"]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        json.dumps({**measurement((1, 2)), "schema": 2}),
        json.dumps(measurement((1, 2))).replace("0.006", "-1"),
    ],
    ids=["no JSON", "a list", "nothing in it", "another schema", "a negative time"],
)
def test_damaged_measurements_are_named(tmp_path, content):
    good, bad = tmp_path / "runs" / ("a" * 12), tmp_path / "runs" / ("b" * 12)
    for name in "abc":
        Store(tmp_path).write(stored(name * 12), [])
    latency.write(good, measurement((1, 2)))
    (bad / "measure.json").write_text(content)
    store = Store(tmp_path)
    measured = {run.id[0]: run.measurement for run in store.load(measurement=True)}
    assert measured == {"a": measurement_of(measurement((1, 2))), "b": None, "c": None}
    (sentence,) = store.damaged
    assert "b" * 12 in sentence


def measured_runs():
    """Two sparse runs and a dense one, with their measurements."""
    records = [record("a" * 12, 9.0), record("b" * 12, 30.0), record("c" * 12, 1.0, "dense")]
    speeds = {"a": (0.5, 2.0), "b": (0.7, 4.0), "c": (0.4, 1.0)}
    return with_measurements(records, {name * 12: measurement(pair) for name, pair in speeds.items()})


def test_the_figure_draws_both_forms_as_they_were_measured():
    figure = Latency(max_gap=4)  # of the CRs 9 and 30
    (group,) = figure.draw(figure.frame(ResultSet(measured_runs()))).groups
    _, at_one, _ = group.panels  # beside the CR, at batches of 1 and 32
    (line,) = [mark for mark in at_one.marks if type(mark) is Line and mark.name == "dwf"]
    compact, sparse = [mark for mark in at_one.marks if type(mark) is Points and mark.name == "dwf"]
    assert list(line.x) == list(compact.x) == [2.0, 4.0]  # by CR
    assert (sparse.ink.marker, list(sparse.x), list(sparse.y)) == ("x", [0.5, 0.7], [87.5, 87.5])
    assert figure.frame(ResultSet(measured_runs()[2:]))["form"].tolist() == ["sparse", "compact"] * 2


def test_the_figure_leaves_out_what_may_be_no_speed_up():
    intervals = {"a": {"low": 0.9, "high": 2.5}, "b": {"low": 1.1, "high": 4.5}, "c": {"low": 1.0, "high": 1.0}}
    records = [record(name * 12, cr) for name, cr in zip("abc", (9.0, 12.0, 15.0), strict=True)]
    found = {name * 12: measurement((0.5, 2.0), **interval) for name, interval in intervals.items()}
    drawing = Latency().draw(Latency().frame(ResultSet(with_measurements(records, found))))
    (group,) = drawing.groups
    by_cr, *by_speed = [[mark for mark in panel.marks if type(mark) is Points] for panel in group.panels]
    assert [list(mark.x) for mark in by_cr] == [[9.0, 12.0, 15.0]]
    assert [[list(mark.x) for mark in marks] for marks in by_speed] == [[[2.0], [0.5]]] * 2  # of run b, both forms
    assert drawing.notes[1:] == ["Left out: 8 of 12 speed-ups, whose 95 % interval spans 1."]
    old = Latency().draw(Latency().frame(ResultSet(measured_runs())))
    assert old.notes[1:] == ["No interval is known of 12 of 12 speed-ups."]


# ---------------------------------------------------------------- the command


@pytest.mark.slow
def test_runs_are_measured_and_drawn(run, call, tmp_path, snapshot, monkeypatch):
    results = tmp_path / "results"
    assert run(results, *LENET, "--method", "magnitude", "--compression", "4,8", "--save-model").exit_code == 0
    assert run(results, *LENET, "--method", "dense").exit_code == 0
    records = {one.spec.method: one for one in Store(results).load()}
    ids = [one.id for one in Store(results).load() if one.spec.method == "magnitude"]
    nothing = call("plot", "latency", "--results", results)
    assert nothing.exit_code == 3
    assert "dwfbench measure RUN" in nothing.stderr

    before = snapshot(results)
    monkeypatch.setattr(machine, "load", lambda: 1.5)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    words = ("--results", results, "--batch", "1,4", "--rounds", "2", "--threads", "1", "--device", "cpu")
    found = call("measure", *ids, ids[0], *words, "--format", "json")
    assert found.exit_code == 0, found.stderr
    rows = json.loads(found.stdout)
    assert [row["Form"] for row in rows] == 2 * ["dense", "sparse", "compact"]
    accuracies = {one.id: 100 * one.test_accuracy for one in Store(results).load()}
    assert all(row["test %"] == pytest.approx(accuracies[row["Run"]]) for row in rows)
    assert "1 thread" in found.stderr
    assert "(load 1.5, usable processors 2)" in found.stderr
    after = snapshot(results)
    new = {path.relative_to(results).as_posix() for path in after.keys() - before.keys()}
    assert new == {f"runs/{one}/measure.json" for one in ids}
    assert all(after[path] == content for path, content in before.items())
    stored = json.loads((results / "runs" / ids[0] / "measure.json").read_text())
    assert stored["id"] == ids[0]
    assert stored["threads"] == 1
    assert stored["load"] == 1.5
    assert "torch" in stored["versions"]

    monkeypatch.setattr(machine, "load", lambda: 0.9)
    again = call("measure", ids[0], *words[:2], "--batch", "1", "--rounds", "1", "--threads", "1", "--device", "cpu")
    assert "usable processors" not in again.stderr
    assert f"The measurement of before is replaced: {stored['device_name']}, batch sizes 1, 4." in again.stderr
    drawn = call("plot", "latency", "--results", results, "-o", tmp_path / "x.svg")
    assert drawn.exit_code == 0, drawn.stderr
    assert call("plot", "latency", "--results", results, "--method", "dense").exit_code == 3
    assert "kept no weights" in call("measure", ids[0], records["dense"].id, *words).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--batch", "0"), "--batch"), (("--batch", "1.5"), "--batch"), (("--format", "xml"), "--format")],
)
def test_wrong_flags(call, tmp_path, words, said):
    found = call("measure", "abc", "--results", tmp_path, *words)
    assert found.exit_code == 2
    assert said in found.stderr


class Both(nn.Module):
    """Both ways, which torch-pruning cannot trace."""

    def __init__(self):
        super().__init__()
        self.unit, self.last = nn.LSTM(5, 7, batch_first=True, bidirectional=True), nn.Linear(14, 3)

    def forward(self, inputs):
        return self.last(self.unit(inputs)[0][:, -1])


class Reading(nn.Module):
    """Reads the weight of its layer itself."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, inputs):
        return nn.functional.linear(inputs, self.layer.weight, self.layer.bias)


def test_a_network_that_reads_weights_itself_is_measured():
    """PyTorch's inference mode refuses views of sparse matrices."""
    assert "sparse" in measure.measure(Reading(), torch.randn(4, 5), None, (2,), 2)["forms"]


def test_a_network_that_cannot_be_compact_is_measured_without_that_form():
    found = measure.measure(Both(), torch.randn(4, 3, 5), None, (2,), 2)
    assert set(found["forms"]) == {"dense", "sparse"} == {timed["form"] for timed in found["latency"]}
    assert found["left_out"].startswith("The dead channels of this network cannot be traced (")
    with pytest.raises(UsageError, match=r"cannot be traced .* The other forms are --forms dense,sparse,onnx\.$"):
        export.write_forms(Both().eval(), torch.randn(1, 3, 5), Path("absent"), ["compact"])
