"""JSON becomes the types of what is stored: files of any age are read, and what is wrong is said."""

import json

import pytest

from dwfbench.runs import decode
from dwfbench.runs.decode import Fault, OtherSchema, measurement_of, record_from, record_of, study_of
from dwfbench.runs.record import content_of
from tests.fuzz import seeds
from tests.fuzz.seeds import ID
from tests.fuzz.strategies import REMOVED, put


def test_old_records_have_the_defaults_they_were_run_with():
    content = seeds.run_record()
    for place in (("spec", "lr_drop_factor"), ("spec", "augment"), ("spec", "options", "group"), ("extra_passes",)):
        content = put(content, place, REMOVED)
    read = record_of(content, ID)
    assert (read.spec.lr_drop_factor, read.spec.augment, read.spec.options["group"]) == (10.0, "none", "none")
    assert (read.spec.options["product_decay"], read.extra_passes) == (0.0, None)
    assert read.settings() == record_of(seeds.run_record(), ID).settings()


def test_settings_that_are_not_known_are_kept_apart_and_tell_runs_apart():
    content = seeds.run_record()
    content["spec"]["new_one"] = 7
    read = record_of(content, ID)
    assert read.spec.others == {"new_one": 7}
    assert read.settings()["new_one"] == 7
    assert content_of(read)["spec"]["new_one"] == 7


FAULTS = [
    ((), [], "it is no table"),
    (("id",), "x", "its id is not the name of its folder"),
    (("status",), "good", "its status is none of ok, diverged, failed"),
    (("label",), REMOVED, "it has no label"),
    (("label",), "a\nb", "its label is damaged"),
    (("seconds",), -1, "its seconds is damaged"),
    (("compression",), None, "its compression is damaged"),
    (("compression",), REMOVED, "it has no compression"),
    (("compression",), 0.5, "its compression is damaged"),
    (("test_accuracy",), 1.5, "its test_accuracy is damaged"),
    (("test_loss",), float("nan"), "its test_loss is damaged"),
    (("numel",), True, "its numel is damaged"),
    (("layers", 0, "nnz"), "many", "its layers is damaged"),
    (("thresholds", 0, "compression"), REMOVED, "its thresholds is damaged"),
    (("provenance", "data_checksum"), REMOVED, "its provenance is damaged"),
    (("spec",), 3, "its spec is damaged"),
    (("spec", "seed"), REMOVED, "in its spec, it has no seed"),
    (("spec", "lr"), "fast", "in its spec, its lr is damaged"),
    (("spec", "method"), "evil.py:Evil", "in its spec, its method is damaged"),
    (("spec", "model"), "evil.py:Evil", "in its spec, its model is damaged"),
    (("spec", "method"), "dwf\n", "in its spec, its method is damaged"),
    (("spec",), seeds.run_record()["spec"] | {"unknown": [1]}, "its spec is damaged"),
    (("spec", "strength"), None, "its spec has no strength"),
    (("knob",), "depth", "its knob is damaged"),
]


@pytest.mark.parametrize(("place", "value", "said"), FAULTS, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_said_in_half_a_sentence(place, value, said):
    content = json.dumps(put(seeds.run_record(), place, value)).encode()
    with pytest.raises(Fault) as fault:
        record_from(content, ID)
    assert str(fault.value) == said


def test_a_command_line_whose_bytes_are_no_text_is_kept_in_its_record():
    content = put(seeds.run_record(), ("provenance", "argv"), ["dwfbench", "run", "--dataset", "\udcff.zip"])
    assert record_from(json.dumps(content).encode(), ID).provenance.argv[-1] == "\udcff.zip"


def test_of_any_id_or_of_the_one_asked_for():
    content = json.dumps(seeds.run_record()).encode()
    assert record_from(content).id == ID
    with pytest.raises(Fault, match="its id is not the name of its folder"):
        record_from(content, "0" * 12)


@pytest.mark.parametrize("name", ["history", "weights", "measurement", "set"])
def test_what_lies_beside_a_record_is_not_read_from_it(name):
    content = seeds.run_record() | {name: [] if name != "set" else "mine"}
    assert getattr(record_from(json.dumps(content).encode()), name) is None


NO_JSON = {"nothing": b"", "a part": b"{", "no text": b'{"label": "\xff"}', "nested": b"[" * 100_000}


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_is_no_fault_of_a_record(content):
    with pytest.raises(ValueError, match=r".") as error:
        record_from(content, ID)
    assert not isinstance(error.value, Fault)
    assert decode.id_in(content) is None


def test_the_id_that_a_record_of_another_schema_says():
    content = json.dumps(seeds.run_record(schema=2)).encode()
    with pytest.raises(OtherSchema, match="a record of schema 2"):
        record_from(content)
    assert decode.id_in(content) == ID
    assert decode.id_in(b'{"id": "../x"}') is None


def test_studies_and_measurements_that_contradict_themselves_are_none():
    assert study_of(seeds.study()).winner.values == {"lr": 0.3}
    with pytest.raises(Fault, match="its best trial is none of its trials"):
        study_of(seeds.study(best=2))
    with pytest.raises(Fault, match="it is of another schema"):
        measurement_of(seeds.measurement(schema=2))
    twice = seeds.measurement()["latency"][:1] * 2
    with pytest.raises(Fault, match="its latency is damaged"):
        measurement_of(seeds.measurement(latency=twice))
