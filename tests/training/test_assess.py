"""What a record says of a trained network: below which size weights count as zero, and the further cuts."""

import pytest
import torch

from dwfbench import models
from dwfbench.methods.registry import create
from dwfbench.sparsity.count import cut
from dwfbench.training.assess import assess
from dwfbench.training.group import Trained
from tests.training.test_loop import spec, tiny_data

SIZES = torch.tensor([1e-9, 1e-8, 5e-7, 5e-6, 5e-5, 5e-4, 5e-3, 0.5])
"""Of weights: two are below float32's epsilon, and one lies between each of the further cuts and the next."""

LEFT = [96, 80, 64, 48, 32, 16]
"""How many of 16 weights of each size are left by each of the cuts."""


def assessed(name, compression=None, strength=None, **options):
    """The record of a network whose first layer has weights of all sizes, 16 of each; its second one is zero."""
    method, data = create(name, options), tiny_data()
    one = spec(name, compression=compression, strength=strength, options=options)
    state = dict(models.build(one.model, data.input_shape, data.classes, 0).state_dict())
    weights = {"1.weight": SIZES.repeat(16).view(8, 16), "3.weight": torch.zeros(3, 8)}
    sparse = cut(method.sparsify(weights, compression), method.final_threshold())
    return assess(Trained(one, state={**state, **weights}, sparse=sparse), method, data)


@pytest.mark.parametrize("name", ["dense", "snip", "magnitude", "lamp", "powerprop", "gmp", "random"])
def test_what_float32_takes_for_zero_is_zero_whatever_the_method(name):
    """Weights that decay has brought below 1.19e-7 are not "left", although a mask keeps them."""
    record, state = assessed(name, compression=None if name == "dense" else 152 / 128)
    assert record["nnz"] == 6 * 16
    assert record["compression"] == pytest.approx(152 / 96)
    assert [cut.nnz for cut in record["thresholds"]] == LEFT
    assert int(state["1.weight"].count_nonzero()) == 96


@pytest.mark.parametrize("proximal", [False, True])
def test_a_method_with_a_threshold_of_its_own_is_counted_at_smaller_ones_as_it_would_be_there(proximal):
    record, _ = assessed("l1", strength=1e-3, proximal=proximal)
    assert record["nnz"] == 2 * 16
    assert [cut.nnz for cut in record["thresholds"]] == LEFT
