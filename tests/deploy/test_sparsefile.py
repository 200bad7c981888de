"""Sparse files: the layouts by hand, what comes back, and files that lie."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dwfbench.base.errors import UsageError
from dwfbench.deploy.sparsefile import FORMAT, load_sparse, packed, save_sparse, sparse_bytes, unpacked


def single(shape, places):
    """Zeros of a shape, but for 1, 2, 3, ... at the flat places."""
    tensor = torch.zeros(shape)
    tensor.view(-1)[places] = torch.arange(1.0, len(places) + 1)
    return tensor


def index_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[FORMAT])


def test_bits_by_hand():
    bits = torch.tensor([1, 0, 1, 0, 0, 0, 0, 0, 0, 1]).bool()
    assert packed(bits).tolist() == [5, 2]
    assert unpacked(packed(bits), 10).equal(bits)


def test_layouts_by_hand(tmp_path):
    path = tmp_path / "sparse.safetensors"
    state = {
        "few": single((3, 400), [1, 2, 801]),  # bitmask 150 + 12 bytes, csr 16 + 6 + 12
        "some": single((2, 2, 2), [0, 3]),  # bitmask 1 + 8 bytes, csr 12 + 4 + 8
        "full": torch.ones(2, 3),
        "bias": torch.zeros(7),
        "count": torch.tensor(3),
    }
    save_sparse(state, path)
    layouts = {name: entry["layout"] for name, entry in index_of(path).items()}
    assert layouts == {"few": "csr", "some": "bitmask", "full": "dense", "bias": "dense", "count": "dense"}
    stored = load_file(path)
    assert stored["few#rows"].tolist() == [0, 2, 2, 3]
    assert stored["few#columns"].tolist() == [1, 2, 1]
    assert stored["few#columns"].dtype == torch.int16
    assert stored["few#values"].tolist() == [1, 2, 3]
    assert stored["some#mask"].tolist() == [0b1001]
    assert stored["some#values"].tolist() == [1, 2]
    again = load_sparse(path)
    assert list(again) == list(state)
    assert all(again[name].equal(value) and again[name].dtype == value.dtype for name, value in state.items())


def test_wide_matrices_have_wider_indices(tmp_path):
    state = {"wide": single((2, 40_000), [39_999, 40_001])}
    save_sparse(state, tmp_path / "x")
    assert load_file(tmp_path / "x")["wide#columns"].dtype == torch.int32
    assert load_sparse(tmp_path / "x")["wide"].equal(state["wide"])


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(0, 40), min_size=0, max_size=3),
    density=st.sampled_from([0, 0.01, 0.2, 1]),
    kind=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    seed=st.integers(0, 99),
)
def test_what_is_saved_comes_back(tmp_path_factory, shape, density, kind, seed):
    random = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, generator=random) * (torch.rand(shape, generator=random) < density)
    path = tmp_path_factory.getbasetemp() / "sparse.safetensors"
    save_sparse({"x": tensor.to(kind)}, path)
    again = load_sparse(path)["x"]
    assert again.dtype == kind
    assert again.equal(tensor.to(kind))


def test_bytes_do_not_change_and_values_of_all_kinds_survive(tmp_path):
    state = {"x": torch.tensor([[-0.0, float("inf"), 0.0, 0.0]] * 8), "y": torch.zeros(3, 3).t()}
    assert sparse_bytes(state) == sparse_bytes(state)
    save_sparse(state, tmp_path / "x")
    assert load_sparse(tmp_path / "x")["x"].equal(state["x"])


def lying(entry=None, **tensors):
    """Metadata and tensors of a file with one csr tensor (2, 400), changed."""
    given = {
        "rows": torch.tensor([0, 1, 2], dtype=torch.int32),
        "columns": torch.tensor([5, 3], dtype=torch.int16),
        "values": torch.ones(2),
    }
    stored = {f"w#{name}": value for name, value in {**given, **tensors}.items() if value is not None}
    return {FORMAT: json.dumps({"w": {"layout": "csr", "shape": [2, 400], **(entry or {})}})}, stored


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


LIES = {
    "no format": ({"format": "pt"}, {"w": torch.ones(1)}, "no entry"),
    "index is no JSON": ({FORMAT: "{"}, {"w": torch.ones(1)}, "cannot be read"),
    "index is deep": ({FORMAT: "[" * 100_000}, {"w": torch.ones(1)}, "cannot be read"),
    "index is a list": ({FORMAT: "[1]"}, {"w": torch.ones(1)}, "no table"),
    "huge": (*lying({"shape": [2, 2**31 - 1]}), "more than"),
    "beyond any tensor": (*lying({"shape": [2, 2**63]}), "shape"),
    "negative": (*lying({"shape": [-2, -400]}), "shape"),
    "true is no size": (*lying({"shape": [True, 400]}), "shape"),
    "no shape": (*lying({"shape": None}), "shape"),
    "unknown layout": (*lying({"layout": "coo"}), "layout"),
    "unhashable layout": (*lying({"layout": []}), "layout"),
    "a vector as csr": (*lying({"shape": [800]}), "layout"),
    "more rows": (*lying({"shape": [3, 400]}), "rows"),
    "columns beyond": (*lying({"shape": [2, 4]}), "columns"),
    "columns below": (*lying(columns=ints(-1, 3)), "columns"),
    "columns missing": (*lying(columns=None), "missing"),
    "columns too few": (*lying(columns=ints(1)), "columns"),
    "columns twice": (*lying(rows=ints(0, 2, 2), columns=ints(3, 3)), "rise"),
    "rows fall": (*lying(rows=ints(0, 3, 2)), "rows"),
    "rows start late": (*lying(rows=ints(1, 1, 2)), "rows"),
    "rows end late": (*lying(rows=ints(0, 1, 3)), "rows"),
    "rows are no integers": (*lying(rows=torch.tensor([0.0, 1.0, 2.0])), "rows"),
    "mask too short": (*lying({"layout": "bitmask"}, mask=torch.zeros(99, dtype=torch.uint8)), "mask"),
    "mask of other count": (*lying({"layout": "bitmask"}, mask=torch.zeros(100, dtype=torch.uint8)), "mask"),
    "dense of another shape": (
        {FORMAT: json.dumps({"w": {"layout": "dense", "shape": [2]}})},
        {"w": torch.ones(3)},
        "shape",
    ),
}


def test_the_lies_below_start_from_a_truth(tmp_path):
    metadata, stored = lying()
    save_file(stored, tmp_path / "x", metadata)
    assert load_sparse(tmp_path / "x")["w"].nonzero().tolist() == [[0, 5], [1, 3]]


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_files_that_lie_are_refused(tmp_path, lie):
    metadata, stored, said = lie
    save_file(stored, tmp_path / "x", metadata)
    with pytest.raises(UsageError, match=said):
        load_sparse(tmp_path / "x")


def test_the_limit_is_the_callers(tmp_path):
    save_sparse({"x": torch.zeros(100, 100)}, tmp_path / "x")
    assert load_sparse(tmp_path / "x", 40_000)["x"].shape == (100, 100)
    with pytest.raises(UsageError, match=r"40,000 bytes, more than the 39,999"):
        load_sparse(tmp_path / "x", 39_999)


def test_other_files_are_refused(tmp_path):
    torch.save({"x": torch.ones(2)}, tmp_path / "pickle")
    for name, said in (("pickle", "not a readable safetensors"), ("absent", "cannot be read")):
        with pytest.raises(UsageError, match=said):
            load_sparse(tmp_path / name)
    with pytest.raises(UsageError, match="#"):
        sparse_bytes({"a#b": torch.ones(2)})
    with pytest.raises(UsageError, match="cannot be written"):
        save_sparse({}, tmp_path / "no" / "folder")
