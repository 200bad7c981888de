"""Sparse files: their parts by hand and by scipy, what comes back, and files that lie."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array

from dwfbench.base.errors import UsageError
from dwfbench.deploy.sparsefile import load_sparse, sparse_bytes

TYPES = ("float32", "bfloat16", "float16", "float64", "float8_e4m3fn", "int8", "int32", "complex64")


def single(shape, places):
    """Zeros of a shape, but for 1, 2, 3, ... at the flat places."""
    tensor = torch.zeros(shape)
    tensor.view(-1)[places] = torch.arange(1.0, len(places) + 1)
    return tensor


def written(path, state):
    path.write_bytes(sparse_bytes(state))
    return path


def test_parts_by_hand(tmp_path):
    state = {
        "few": single((3, 4, 100), [1, 2, 801]),  # 12 + 12 + 16 + 24 bytes
        "half": torch.eye(2).repeat(1, 2),  # 32 bytes, fewer than 16 + 16 + 12 + 16
        "bias": torch.zeros(7),
        "count": torch.tensor(3),
    }
    stored = load_file(written(tmp_path / "x", state))
    assert stored.keys() == {"few.values", "few.indices", "few.indptr", "few.shape", "half", "bias", "count"}
    assert stored["few.values"].tolist() == [1, 2, 3]
    assert stored["few.indices"].tolist() == [1, 2, 1]
    assert stored["few.indptr"].tolist() == [0, 2, 2, 3]
    assert stored["few.shape"].tolist() == [3, 4, 100]
    again = load_sparse(tmp_path / "x")
    assert again.keys() == state.keys()
    assert all(again[name].equal(value) and again[name].dtype == value.dtype for name, value in state.items())


def test_scipy_makes_the_matrix_of_the_parts(tmp_path):
    matrix = single((5, 300), [0, 7, 299, 650, 1499])
    stored = load_file(written(tmp_path / "x", {"w": matrix}))
    values, indices, indptr, shape = (stored[f"w.{part}"].numpy() for part in ("values", "indices", "indptr", "shape"))
    scipys = csr_array((values, indices, indptr), shape)
    scipys.check_format(full_check=True)
    assert (scipys.toarray() == matrix.numpy()).all()


@settings(max_examples=40)
@given(
    shape=st.lists(st.integers(0, 40), min_size=0, max_size=3),
    density=st.sampled_from([0, 0.01, 0.2, 1]),
    dtype=st.sampled_from([getattr(torch, name) for name in TYPES]),
    seed=st.integers(0, 99),
)
def test_what_is_saved_comes_back(tmp_path_factory, shape, density, dtype, seed):
    random = torch.Generator().manual_seed(seed)
    tensor = (torch.randn(shape, generator=random) * (torch.rand(shape, generator=random) < density)).to(dtype)
    again = load_sparse(written(tmp_path_factory.getbasetemp() / "sparse", {"x": tensor}))["x"]
    assert again.dtype == dtype
    assert again.equal(tensor)


def test_bytes_do_not_change_and_values_of_all_kinds_survive(tmp_path):
    state = {"x": torch.tensor([[-0.0, float("inf"), 0.0, 0.0] * 9] * 8), "y": torch.zeros(3, 3).t()}
    assert sparse_bytes(state) == sparse_bytes(state)
    assert load_sparse(written(tmp_path / "x", state))["x"].equal(state["x"])


def test_names_that_are_those_of_parts_stay_what_they_are_or_are_refused(tmp_path):
    state = {"indices": torch.ones(2), "a.values": torch.ones(3), "a.shape": torch.ones(1)}
    assert load_sparse(written(tmp_path / "x", state)).keys() == state.keys()
    for name in ("w.values", "w.indptr"):
        with pytest.raises(UsageError, match="look like parts of others"):
            sparse_bytes({"w": torch.zeros(9, 99), name: torch.ones(2)})
    parts = load_file(written(tmp_path / "x", {"w": torch.zeros(9, 99)}))
    with pytest.raises(UsageError, match="look like parts of others"):
        sparse_bytes(parts)


def ints(*values):
    return torch.tensor(values, dtype=torch.int32)


def lying(**tensors):
    """The tensors of a file with one matrix (2, 400), changed."""
    truth = {"values": torch.ones(2), "indices": ints(5, 3), "indptr": ints(0, 1, 2), "shape": torch.tensor([2, 400])}
    return {f"w.{name}": value for name, value in {**truth, **tensors}.items()}


LIES = {
    "huge": (lying(shape=torch.tensor([2, 2**31 - 1])), "more than"),
    "beyond any tensor": (lying(shape=torch.tensor([2, 2**40])), "shape"),
    "negative": (lying(shape=torch.tensor([-2, -400])), "shape"),
    "a vector": (lying(shape=torch.tensor([800])), "shape"),
    "a number": (lying(shape=torch.tensor(800)), "shape"),
    "too many axes": (lying(shape=torch.tensor([2, 400] + [1] * 70)), "shape"),
    "sizes are no integers": (lying(shape=torch.tensor([2.0, 400.0])), "shape"),
    "values are no numbers": (lying(values=torch.ones(2).bool()), "floating-point"),
    "values in a table": (lying(values=torch.ones(2, 1)), "one int32 for each"),
    "more rows": (lying(shape=torch.tensor([3, 400])), r"of w make no .*crow_indices"),
    "rows fall": (lying(indptr=ints(0, 3, 2)), r"of w make no .*crow_indices"),
    "rows start late": (lying(indptr=ints(1, 1, 2)), r"of w make no .*crow_indices"),
    "rows end late": (lying(indptr=ints(0, 1, 3)), r"of w make no .*crow_indices"),
    "rows are no integers": (lying(indptr=torch.tensor([0.0, 1.0, 2.0])), "int32"),
    "no rows": (lying(indptr=ints()), r"of w make no .*crow_indices"),
    "columns beyond": (lying(shape=torch.tensor([2, 4])), r"of w make no .*col_indices"),
    "columns below": (lying(indices=ints(-1, 3)), r"of w make no .*col_indices"),
    "columns too few": (lying(indices=ints(1)), "one int32 for each"),
    "columns twice": (lying(indptr=ints(0, 2, 2), indices=ints(3, 3)), r"of w make no .*col_indices"),
    "columns fall": (lying(indptr=ints(0, 2, 2), indices=ints(3, 2)), r"of w make no .*col_indices"),
}


def test_the_lies_above_start_from_a_truth(tmp_path):
    save_file(lying(), tmp_path / "x")
    assert load_sparse(tmp_path / "x")["w"].nonzero().tolist() == [[0, 5], [1, 3]]


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_files_that_lie_are_refused(tmp_path, lie):
    stored, said = lie
    save_file(stored, tmp_path / "x")
    with pytest.raises(UsageError, match=said):
        load_sparse(tmp_path / "x")


def test_the_limit_is_the_callers(tmp_path):
    written(tmp_path / "x", {"x": torch.zeros(100, 100), "y": torch.ones(10)})
    assert load_sparse(tmp_path / "x", 40_040)["x"].shape == (100, 100)
    with pytest.raises(UsageError, match=r"40,040 bytes, more than the 40,039"):
        load_sparse(tmp_path / "x", 40_039)


def test_other_files_are_refused(tmp_path):
    torch.save({"x": torch.ones(2)}, tmp_path / "pickle")
    for name, said in (("pickle", "not a readable safetensors"), ("absent", "cannot be read")):
        with pytest.raises(UsageError, match=said):
            load_sparse(tmp_path / name)
