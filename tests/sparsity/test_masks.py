"""Masks from scores: exactly as many as asked for, ties by index."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dwfbench.base.errors import UsageError
from dwfbench.sparsity.masks import kept, layer_counts, top_k_masks


@given(
    data=st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=12), min_size=1, max_size=4),
    compression=st.floats(1, 60),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=150)
def test_top_k_keeps_exactly_k_and_prefers_earlier_ties(data, compression, dtype):
    scores = {str(i): torch.tensor(values, dtype=dtype) for i, values in enumerate(data)}
    flat = [v for values in data for v in values]
    k = max(1, math.floor(len(flat) / compression + 0.5))
    best = sorted(range(len(flat)), key=lambda i: (-flat[i], i))[:k]
    masks = top_k_masks(scores, compression)
    assert list(masks) == list(scores)
    assert torch.cat(list(masks.values())).nonzero().flatten().tolist() == sorted(best)


@pytest.mark.parametrize(("compression", "k"), [(1, 6), (2, 3), (4, 2), (2.4, 3), (6, 1), (1e9, 1)])
def test_top_k_of_all_zero_scores_takes_the_first(compression, k):
    masks = top_k_masks({"a": torch.zeros(2, 2), "b": torch.zeros(2)}, compression)
    assert (masks["a"].shape, masks["a"].dtype) == ((2, 2), torch.bool)
    assert [*masks["a"].flatten().tolist(), *masks["b"].tolist()] == [True] * k + [False] * (6 - k)


def test_top_k_takes_infinite_scores_and_tells_close_float64_apart():
    masks = top_k_masks({"a": torch.tensor([1.0, 1.0 + 1e-12, math.inf, -math.inf], dtype=torch.float64)}, 2)
    assert masks["a"].tolist() == [False, True, True, False]


@pytest.mark.parametrize("compression", [0.99, 0, -1, math.inf, math.nan])
def test_bad_compression_is_a_usage_error(compression):
    with pytest.raises(UsageError, match="compression"):
        top_k_masks({"a": torch.ones(3)}, compression)


def test_nan_scores_and_empty_networks_are_usage_errors():
    with pytest.raises(UsageError, match="NaN"):
        top_k_masks({"a": torch.tensor([1.0, math.nan])}, 2)
    with pytest.raises(UsageError, match="no prunable"):
        top_k_masks({}, 2)
    assert kept(5, 2) == 3  # halves are rounded up, not to even


@pytest.mark.parametrize("distribution", ["uniform", "erk"])
def test_layers_keep_their_largest_as_the_distribution_shares_them(distribution):
    scores = {"a": torch.arange(100.0).view(10, 10), "b": torch.arange(40.0, 0, -1).view(2, 20)}
    masks = top_k_masks(scores, 7.0, distribution)
    counts = layer_counts({name: score.shape for name, score in scores.items()}, 7.0, distribution)
    assert sum(counts.values()) == kept(140, 7.0) == 20
    assert masks["a"].flatten().nonzero().flatten().tolist() == list(range(100 - counts["a"], 100))
    assert masks["b"].flatten().nonzero().flatten().tolist() == list(range(counts["b"]))
    with pytest.raises(UsageError, match="no layer counts"):
        top_k_masks(scores, 7.0, "even")


@pytest.mark.parametrize("distribution", ["uniform", "erk"])
def test_a_layer_keeps_no_more_than_it_has_while_others_have_more(distribution):
    shapes = {"a": (10, 10), "b": (2, 20), "c": (5, 5)}
    free = layer_counts(shapes, 4.0, distribution)
    bound = layer_counts(shapes, 4.0, distribution, {"a": 100, "b": 2, "c": 25})
    assert bound["b"] == 2 < free["b"]
    assert sum(bound.values()) == sum(free.values()) == kept(165, 4.0)
    assert all(free[name] <= bound[name] <= math.prod(shape) for name, shape in shapes.items() if name != "b")
    assert layer_counts(shapes, 4.0, distribution, dict.fromkeys(shapes, 1)) == free  # too few in all
