"""Results folders in any condition: records, histories, studies, measurements, other schemas, odd names."""

import csv
import io
import json
import os
import pickle
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from dwfbench.base import escape, files
from dwfbench.base.errors import UsageError
from dwfbench.runs import decode, history, record
from dwfbench.runs.store import Store
from dwfbench.show import tables
from tests.fuzz import properties, seeds
from tests.fuzz.properties import ID, results, sentence
from tests.fuzz.strategies import REMOVED, edited, examples, mutated, odd_json, places, put


def dumped(content) -> bytes:
    return json.dumps(content).encode()


def record_of(content) -> record.Record | None:
    """JSON as the record of ID; None where it is none."""
    try:
        return decode.record_of(content, ID)
    except decode.Fault:
        return None


@examples(60)
@given(st.one_of(st.binary(max_size=40), odd_json.map(dumped), mutated(seeds.record())))
def test_any_bytes_as_a_record(content):
    properties.record(content)


@examples(30)
@given(edited(seeds.run_record()).map(dumped))
def test_any_field_of_a_record_replaced_by_anything(content):
    properties.record(content)


@examples(40)
@given(st.one_of(edited(seeds.study()), edited(seeds.measurement())).map(dumped))
def test_any_field_of_a_study_or_a_measurement_replaced_by_anything(content):
    properties.record(content)


VALUES = [
    REMOVED,
    None,
    True,
    -1,
    0,
    0.5,
    1e300,
    10**400,
    float("nan"),
    "",
    "a",
    "a\nb",
    "\ud800",
    [],
    [1],
    {},
    {"a": 1},
]


def test_every_field_replaced_by_every_kind_of_value_is_damage_or_one_of_those_that_may_be():
    """All single replacements; those that are still records, the last of each field, are read together."""
    valid = seeds.run_record()
    accepted = {}
    for place in places(valid)[1:]:
        for value in VALUES:
            changed = put(valid, place, value)
            if place[0] != "schema" and (read := record_of(changed)) is not None:
                accepted[place] = read
    assert len(accepted) > 50
    assert ("id",) not in accepted
    properties.read_records([replace(one, id=f"{number:012x}") for number, one in enumerate(accepted.values())])


CELLS = ["epoch", "zero", "-7", "0", "lr", "compression", "1", "2", "nan", "inf", "-1", "1e400", "", '"', "9" * 5000]
csv_text = st.one_of(
    st.text(max_size=60),
    st.lists(st.lists(st.sampled_from(CELLS), max_size=5).map(",".join), max_size=5).map("\n".join),
    mutated([seeds.HISTORY.encode(), seeds.SIZES.encode()]).map(lambda content: content.decode("utf-8", "replace")),
)


@examples(40)
@given(csv_text, csv_text)
def test_any_text_as_the_histories_of_a_run(history, sizes):
    with properties.folder() as place:
        store = Store(results(place, dumped(seeds.run_record()), history, sizes))
        records = store.load(history=True, weights=True)
    assert {one.id for one in records} > {ID}
    for said in store.damaged:
        sentence(said)
        assert f"{ID}/history.csv" in said or f"{ID}/weights.csv" in said
    properties.read_histories(records)


@pytest.mark.parametrize("column", ["val_accuracy", "compression", "misalignment", "lr", "seconds", "epoch"])
def test_a_history_with_a_negative_number_is_named_and_left_out(tmp_path, call, column):
    head, first, *others = seeds.HISTORY.splitlines()
    cells = ["-3" if name == column else cell for name, cell in zip(head.split(","), first.split(","), strict=True)]
    place = results(tmp_path / "r", dumped(seeds.run_record()), "\n".join([head, ",".join(cells), *others]))
    found = call("plot", "dynamics", "--results", place, "-o", tmp_path / "a.svg")
    assert found.exit_code == 0, found.stderr
    named = f"{place}/runs/{ID}/history.csv is not a readable table; the run counts without it.\n"
    assert found.stderr == named
    packed = call("pack", place, "-o", tmp_path / "packed.zip")
    assert packed.exit_code == 0, packed.stderr
    again = call("plot", "dynamics", "--results", tmp_path / "packed.zip", "-o", tmp_path / "b.svg")
    assert (again.exit_code, again.stderr.count("not a readable table")) == (0, 1)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_table_of_more_cells_than_a_run_can_have_is_not_taken_apart(tmp_path):
    with mock.patch.object(history, "MOST_CELLS", 10):
        store = Store(results(tmp_path, dumped(seeds.run_record())))
        found = {one.id: one for one in store.load(history=True)}
    assert found[ID].history == []
    assert len(store.damaged) == len(found) == 4


def test_a_history_of_more_bytes_than_a_run_can_have_is_not_read(tmp_path):
    history = seeds.HISTORY + "2,0.4,0.9,14,0.001,10,0.05,2\n" * (files.MOST_TABLE // 28)
    store = Store(results(tmp_path, dumped(seeds.run_record()), history))
    found = {one.id: one for one in store.load(history=True)}
    assert found[ID].history == []
    assert store.damaged == [
        f"{tmp_path}/runs/{ID}/history.csv is not a readable table (it holds more than 33,554,432 bytes); "
        "the run counts without it."
    ]


def test_a_record_whose_names_would_fill_a_screen_is_named_and_left_out():
    assert not properties.record(dumped(seeds.run_record(label="a" * 100_000)))


@pytest.mark.parametrize("value", [2**63 - 1, 2**63, 10**30, 2**53 + 1, -1])
def test_a_seed_that_no_table_can_hold_is_named_and_the_others_are_compared(tmp_path, call, value):
    one = seeds.run_record()
    one["spec"]["seed"] = value
    place = results(tmp_path / "r", dumped(one))
    for words in (["compare"], ["compare", "--format", "csv"], ["report"], ["plot", "-o", tmp_path / "a.png"]):
        found = call(*words, "--results", place)
        assert found.exit_code == 0, found.stderr
        assert f"{ID}/run.json is not a record of this run (in its spec, its seed is damaged)" in found.stderr


# ---------------------------------------------------------------- schemas


@pytest.mark.parametrize(
    ("schema", "said"),
    [(0, "a record of schema 0"), (2, "a record of schema 2"), (None, "a record without a schema"), ("1", "without")],
)
@pytest.mark.parametrize("place", ["runs", "failed"])
def test_a_record_of_another_schema_is_named_and_never_replaced(tmp_path, place, schema, said):
    status = {"status": "ok"} if place == "runs" else {"status": "failed", "error": "out of memory"}
    one = seeds.run_record(**status, schema=schema)
    path = tmp_path / place / ID / "run.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(dumped(one if schema is not None else put(one, ("schema",), REMOVED)))
    store = Store(tmp_path)
    assert store.load() == []
    (named,) = store.damaged
    assert named.startswith(f"{path} is ")
    assert said in named
    assert "this version of dwfbench reads schema 1" in named
    for ask in (store.read, store.status):  # which `run` does before it trains and writes
        with pytest.raises(UsageError) as error:
            ask(ID)
        assert str(error.value) == named


def test_run_refuses_to_train_over_a_record_of_another_schema(tmp_path, run, snapshot):
    words = ("--method", "magnitude", "--compression", "2", "--epochs", "1")
    assert run(tmp_path, *words).exit_code == 0
    (path,) = tmp_path.glob("runs/*/run.json")
    path.write_bytes(dumped({**json.loads(path.read_text()), "schema": 2}))
    before = snapshot(tmp_path)
    for more in ((), ("--force",), ("--dry-run",)):
        found = run(tmp_path, *words, *more)
        assert (found.exit_code, found.stdout) == (2, "")
        assert f"Error: {path} is a record of schema 2, and this version of dwfbench reads schema 1" in found.stderr
        assert snapshot(tmp_path) == before


# ---------------------------------------------------------------- files that are none, code that must not run


@pytest.mark.parametrize("name", ["run.json", "history.csv", "weights.csv", "measure.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "loop"])
def test_what_is_no_file_is_not_waited_for(tmp_path, name, kind):
    path = results(tmp_path, dumped(seeds.run_record())) / "runs" / ID / name
    path.unlink(missing_ok=True)
    make = {
        "pipe": os.mkfifo,
        "folder": os.mkdir,
        "endless": lambda path: path.symlink_to("/dev/zero"),
        "loop": lambda path: path.symlink_to(path),
    }
    make[kind](path)
    store = Store(tmp_path)
    records = store.load(history=True, weights=True, measurement=True)
    assert (ID in {one.id for one in records}) == (name != "run.json")
    assert len(store.damaged) == 1
    assert name in store.damaged[0]
    for said in store.damaged:
        sentence(said)


@pytest.mark.parametrize("field", ["method", "model"])
@pytest.mark.parametrize("value", ["{}/evil.py:Evil", "evil.py:Evil", "../evil.py:Evil"])
def test_a_record_cannot_name_a_file_to_run(tmp_path, monkeypatch, field, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('executed', 'w')\nclass Evil: pass\n")
    one = seeds.run_record()
    one["spec"][field] = value.format(tmp_path)
    assert not properties.record(dumped(one))
    assert not (tmp_path / "executed").exists()


class Trap:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_no_pickle_is_read_whatever_its_name(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    place = results(tmp_path / "results", dumped(seeds.run_record()))
    for name in ("run.json", "history.csv", "weights.csv", "measure.json", "model.safetensors", "model.pt"):
        (place / "runs" / ID / name).write_bytes(pickle.dumps(Trap()))
    (place / "tuning" / "studies").mkdir(parents=True)
    (place / "tuning" / "studies" / f"{ID}.json").write_bytes(pickle.dumps(Trap()))
    for words in (["compare"], ["plot", "latency"], ["report"], ["measure", ID], ["export", ID, "--to", "out"]):
        found = call(*words, "--results", place)
        assert found.exit_code in (0, 2, 3)
        assert "not a readable record" in found.stderr
    assert not (tmp_path / "executed").exists()


# ---------------------------------------------------------------- whole commands


NAMES = [r"\input{/etc/passwd} a\|b<img src=x>", "=cmd|' /C calc'!A0", "-1+1", r"$\frac{1}{0$", "_hidden"]


def test_names_that_other_formats_would_take_for_theirs(tmp_path, call):
    place = results(tmp_path / "r", dumped(seeds.run_record()))
    for number, name in enumerate(NAMES):
        one = seeds.run_record(f"{number:x}" * 11 + "a", label=name)
        one["spec"]["dataset"] = name
        folder = place / "runs" / one["id"]
        folder.mkdir()
        (folder / "run.json").write_bytes(dumped(one))
        (folder / "history.csv").write_text(seeds.HISTORY)
        (folder / "weights.csv").write_text(seeds.SIZES)
    found = {kind: call("compare", "--results", place, "--format", kind).stdout for kind in tables.FORMATS}
    cells = {f"'{name}" if name[0] in "=-@" else name for name in NAMES}
    rows = list(csv.DictReader(io.StringIO(found["csv"])))
    assert {row["Dataset"] for row in rows} & {row["Method"] for row in rows} == cells
    assert call("pack", place, "-o", tmp_path / "a.zip").exit_code == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert {row["dataset"] for row in rows} & {row["label"] for row in rows} == cells
    for name in NAMES:
        assert f"| {escape.markdown(name)} " in found["markdown"]
        assert f"{escape.latex(name)} & " in found["latex"]
    drawn = call("plot", "--results", place)
    assert drawn.exit_code == 0
    assert "legend" not in drawn.stderr
    assert call("report", "--results", place, "-o", tmp_path / "a.html").exit_code == 0
    assert "<img" not in (tmp_path / "a.html").read_text().partition("<script")[0]


ODD = {
    "an old record": lambda one: put(put(one, ("extra_passes",), REMOVED), ("test_top5_accuracy",), REMOVED),
    "a trial of tuning": lambda one: one | {"test_accuracy": None, "test_loss": None, "thresholds": []},
    "another package's depth": lambda one: put(one, ("spec", "options", "depth"), "deep"),
    "extreme numbers": lambda one: one | {"compression": 1e300, "test_accuracy": 0, "seconds": 1e300, "macs_dense": 0},
    "no layers": lambda one: one | {"layers": []},
    "a label that is markup": lambda one: one | {"label": "</script><b>&\\$_{"},
    "a failure": lambda one: (
        {key: one[key] for key in ("schema", "id", "label", "knob", "spec")}
        | {"status": "failed", "error": "a\n\x1b\ud800", "seconds": 0}
    ),
}
COMMANDS = [
    ["compare"],
    ["compare", "--versus", "dwf", "--format", "latex"],
    ["compare", "--threshold", "1e-3"],
    ["report"],
    *(["plot", kind] for kind in ("accuracy", "layers", "dynamics", "weights", "latency")),
    ["measure", ID],
    ["export", ID, "--to", "out"],
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A results folder with all of these, beside good ones."""
    place = results(tmp_path_factory.mktemp("odd") / "results", dumped(seeds.run_record()))
    for number, change in enumerate(ODD.values()):
        run_id = f"{number:x}" + "f" * 11
        path = place / "runs" / run_id / "run.json"
        path.parent.mkdir()
        path.write_bytes(dumped(change(seeds.run_record(run_id))))
        assert Store(place).read(run_id) is not None
    return place


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_records_that_are_odd_but_records_are_shown_by_every_command(odd, monkeypatch, call, words):
    monkeypatch.chdir(odd.parent)
    found = call(*words, "--results", odd)
    assert found.exit_code in (0, 2, 3), found.stderr
    assert "unexpected" not in found.stderr
    assert {path.name for path in odd.parent.iterdir()} == {"results"}


@pytest.mark.parametrize("name", ["..", "../..", "/", ".", "", "a/b", "\0", "x" * 5000, "../runs/" + ID, "*", "[", "~"])
@pytest.mark.parametrize("command", [["measure"], ["export", "--to", "out"]])
def test_ids_that_lead_elsewhere_are_refused(tmp_path, monkeypatch, call, snapshot, command, name):
    monkeypatch.chdir(tmp_path)
    results(tmp_path / "results", dumped(seeds.run_record()))
    results(tmp_path, dumped(seeds.run_record()))
    before = snapshot(tmp_path)
    found = call(*command, "--results", "results", "--", name)
    assert found.exit_code == 2
    assert found.stderr.count("\n") == 1
    assert found.stderr.startswith("Error: ")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["..", "../outside", "/outside", "a" * 11, "A" * 12, ID + "\n"])
def test_a_store_reads_nothing_by_a_name_that_is_no_id(tmp_path, name):
    place = results(tmp_path / "results", dumped(seeds.run_record()))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "run.json").write_bytes(dumped(seeds.run_record("outside")))
    assert Store(place).read(name) is None
    assert Store(place).status(name) is None


@example(seeds.run_record(id="../../outside"))
@example(seeds.run_record(id="..") | {"label": "\x1b[2J"})
@examples(20)
@given(edited(seeds.run_record()))
def test_the_id_in_a_record_is_the_name_of_its_folder_or_it_is_damaged(content):
    assert record_of(content) is None or content["id"] == ID
