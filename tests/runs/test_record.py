"""The types of what is stored: they hold files of any age, and are what docs/ publishes."""

import json
import zipfile
from dataclasses import MISSING, fields
from pathlib import Path

import msgspec
import pytest

from dwfbench.runs import record
from dwfbench.runs.decode import measurement_of, record_of, study_of
from dwfbench.runs.record import content_of
from dwfbench.runs.schema import schema_text
from dwfbench.runs.spec import RunSpec

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
    assert in_order(published) == in_order(json.loads(schema_text()))


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
