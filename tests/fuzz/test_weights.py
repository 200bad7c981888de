"""Weights in any condition: sparse files, a run's network, checkpoints."""

import json
import struct
import tracemalloc

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load, save

from dwfbench.deploy.sparsefile import sparse_bytes
from tests.fuzz import properties, seeds
from tests.fuzz.strategies import edited, examples, mutated


def tensors(header, data: bytes = bytes(64)) -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def parts(content: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


SPARSE, SPARSE_DATA = parts(seeds.weights()[0])
HUGE = {"dtype": "F32", "shape": [2**31, 2**31], "data_offsets": [0, 64]}


@examples(80)
@given(st.one_of(st.binary(max_size=40), mutated(seeds.weights())))
def test_any_bytes_as_a_sparse_file(content):
    properties.sparse_file(content)


@examples(60)
@given(edited(SPARSE))
@example({"a": HUGE})
@example({"a": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}})
def test_safetensors_headers_that_lie(header):
    properties.sparse_file(tensors(header, SPARSE_DATA))


numbers = st.one_of(st.integers(-3, 10), st.sampled_from([300, 2**31 - 1, 2**62, -(2**63)]))
types = st.sampled_from([torch.int32, torch.int64, torch.uint8, torch.bool, torch.float32, torch.bfloat16])


@examples(120)
@given(
    st.sampled_from(["a.values", "a.indices", "a.indptr", "a.shape"]),
    st.one_of(st.lists(numbers, max_size=6), st.lists(st.lists(numbers, min_size=1, max_size=1), max_size=3), numbers),
    types,
)
def test_parts_of_a_matrix_that_lie(name, values, dtype):
    stored = load(seeds.weights()[0])
    properties.sparse_file(save({**stored, name: torch.tensor(values, dtype=torch.int64).to(dtype)}))


def test_headers_that_claim_terabytes_take_no_memory():
    tracemalloc.start()
    try:
        for length in (2**63, 2**40, 10**8):
            assert not properties.sparse_file(struct.pack("<Q", length) + bytes(64))
        assert not properties.sparse_file(tensors({"a": HUGE}))
        shape = torch.tensor([2**31 - 1, 2**31 - 1])
        assert not properties.sparse_file(save({**load(seeds.weights()[0]), "a.shape": shape}))
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


NETWORK = save({"fc1.weight": torch.zeros(2, 2)}, metadata={"a": "b"})


@examples(15)
@given(st.one_of(mutated([NETWORK]), edited(parts(NETWORK)[0]).map(lambda header: tensors(header, bytes(16)))))
def test_any_bytes_as_the_network_of_a_run(content):
    assert not properties.network_file(content)


@examples(60)
@given(
    st.one_of(
        st.binary(max_size=40),
        mutated(seeds.checkpoint()),
        edited(seeds.CHECKPOINT).map(seeds.signed),
        edited(parts(seeds.checkpoint()[0])[0]).map(lambda header: tensors(header, bytes(8))),
    )
)
def test_any_bytes_as_a_checkpoint(content):
    properties.checkpoint(content)


@pytest.mark.parametrize("name", ["a.indptr", "", "..", "\n"])
def test_tensors_with_odd_names_come_back_or_are_refused(name):
    assert properties.refusable()(lambda: properties.sparse_file(sparse_bytes({name: torch.ones(3)})))() in (
        True,
        False,
    )
