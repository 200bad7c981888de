"""The types of what is stored: they read files of any age, say what is wrong, and are what docs/ publishes."""

import json
import zipfile
from dataclasses import MISSING, fields
from pathlib import Path

import msgspec
import pytest

from dwfbench.runs import record
from dwfbench.runs.record import Fault, content_of, measurement_of, record_of, study_of
from dwfbench.runs.spec import RunSpec
from tests.fuzz import seeds
from tests.fuzz.seeds import ID
from tests.fuzz.strategies import REMOVED, put

ROOT = Path(__file__).parents[2]
ARCHIVES = sorted((ROOT / "results").rglob("*.zip"))


def test_settings_are_those_of_a_run_with_the_same_defaults():
    assert list(record.SETTINGS) == [item.name for item in fields(RunSpec)]
    defaults = {item.name: item.default for item in fields(RunSpec) if item.default is not MISSING}
    found = {item.name: item.default for item in msgspec.structs.fields(record.Settings)}
    later = defaults.keys() - {"method", "model", "dataset", "seed"}  # these four have been there from the beginning
    assert {name: found[name] for name in later} == {name: defaults[name] for name in later}


def in_order(schema):
    """A schema whose alternatives have one order, which changes between versions of msgspec."""
    if isinstance(schema, dict):
        return {name: in_order(part) for name, part in schema.items()}
    return sorted(map(in_order, schema), key=json.dumps) if isinstance(schema, list) else schema


def test_the_published_schema_is_that_of_the_types():
    """``make schema`` writes it."""
    published = json.loads((ROOT / "docs" / "record.schema.json").read_text(encoding="utf-8"))
    assert in_order(published) == in_order(json.loads(record.schema_text()))


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: path.stem)
def test_committed_records_of_any_age_are_read(path):
    """And those of this version's form would be written again byte for byte."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            for line in archive.open(name) if name.endswith(".jsonl") else ():
                content = json.loads(line)
                if name.endswith("records.jsonl"):
                    written = content_of(record_of(content, content["id"]))
                    written["spec"]["options"] = content["spec"]["options"]  # which may lack later ones
                    if all(written[part].keys() == content[part].keys() for part in ("spec", "provenance")):
                        assert written.keys() >= content.keys()
                        kept = {name: value for name, value in written.items() if name in content}
                        assert json.dumps(kept) == json.dumps(content)
                else:
                    (study_of if name.endswith("studies.jsonl") else measurement_of)(content)


def test_old_records_have_the_defaults_they_were_run_with():
    content = seeds.run_record()
    for place in (("spec", "lr_drop_factor"), ("spec", "augment"), ("spec", "options", "group"), ("extra_passes",)):
        content = put(content, place, REMOVED)
    read = record_of(content, ID)
    assert (read.spec.lr_drop_factor, read.spec.augment, read.spec.options["group"]) == (10.0, "none", "none")
    assert read.extra_passes is None
    assert read.settings() == record_of(seeds.run_record(), ID).settings()


def test_settings_that_are_not_known_are_kept_apart_and_tell_runs_apart():
    content = seeds.run_record()
    content["spec"]["new_one"] = 7
    read = record_of(content, ID)
    assert read.spec.others == {"new_one": 7}
    assert read.settings()["new_one"] == 7
    assert content_of(read)["spec"]["new_one"] == 7


def test_runs_for_which_a_study_chose_different_settings_are_of_one_curve():
    def settings(rate, **tuned):
        content = seeds.run_record()
        content["spec"]["lr"] = rate
        content["provenance"]["tuned"] = {"study": ID, "trials": 6, "objective": 0.9, "values": {"lr": rate}} | tuned
        return record_of(content, ID).settings()

    assert settings(0.1, targets=[5]) == settings(0.3, targets=[40, 300])
    assert settings(0.1, targets=[5])["study"] == ID
    assert settings(0.1, targets=[5]) != settings(0.1, targets=[5], study="b" * 12)
    assert settings(0.1) != settings(0.3), "studies of earlier versions chose the same for all"
    assert settings(0.1)["lr"] == 0.1


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
    with pytest.raises(Fault) as fault:
        record_of(put(seeds.run_record(), place, value), ID)
    assert str(fault.value) == said


def test_studies_and_measurements_that_contradict_themselves_are_none():
    assert study_of(seeds.study()).winner.values == {"lr": 0.3}
    with pytest.raises(Fault, match="its best trial is none of its trials"):
        study_of(seeds.study(best=2))
    with pytest.raises(Fault, match="it is of another schema"):
        measurement_of(seeds.measurement(schema=2))
    twice = seeds.measurement()["latency"][:1] * 2
    with pytest.raises(Fault, match="its latency is damaged"):
        measurement_of(seeds.measurement(latency=twice))
