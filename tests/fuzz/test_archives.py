"""Archives of records as anybody may have made them: read, or refused in a sentence."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import properties, seeds
from tests.fuzz.strategies import edited, examples, mutated

MEMBERS = seeds.archive_members()
CONTENTS = {"records": seeds.run_record(), "measurements": seeds.measurement(), "studies": seeds.study()}


@examples(25)
@given(mutated(seeds.archive()))
def test_any_bytes(content):
    properties.archive(content)


@examples(25)
@given(st.sampled_from(list(CONTENTS)).flatmap(lambda name: st.tuples(st.just(name), edited(CONTENTS[name]))))
def test_lines_that_lie_behind_checksums_that_fit(changed):
    name, content = changed
    line = json.dumps(content).encode() + b"\n"
    properties.archive(seeds.archived(MEMBERS | {f"{name}.jsonl": line + MEMBERS[f"{name}.jsonl"]}))


@examples(25)
@given(st.sampled_from(sorted(MEMBERS)).flatmap(lambda name: st.tuples(st.just(name), mutated([MEMBERS[name]]))))
def test_members_of_any_bytes_behind_checksums_that_fit(changed):
    name, content = changed
    properties.archive(seeds.archived(MEMBERS | {name: content}))


NAMES = [
    *MEMBERS,
    *("sets/x/records.jsonl", "sets/../records.jsonl", "sets/../../y/records.jsonl", "sets/a b/records.jsonl"),
    *("../records.jsonl", "/etc/records.jsonl"),
]


@examples(25)
@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(MEMBERS.values()))))
def test_members_of_any_name(members):
    properties.archive(seeds.archived(members))
