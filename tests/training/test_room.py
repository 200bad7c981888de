"""Groups that are larger than the memory of the machine, which here is small."""

import pytest
from torch import nn

from dwfbench import models
from dwfbench.base import memory
from dwfbench.base.errors import UsageError
from dwfbench.data.dataset import Dataset
from dwfbench.dwf.parametrization import PLAIN, Product
from dwfbench.experiments import run as runner
from dwfbench.experiments import stored
from dwfbench.methods.stage import Stage
from dwfbench.runs.store import Store
from dwfbench.training.room import needed
from tests.experiments.test_run import CPU, Listener, plan


def test_a_group_by_hand():
    network = nn.Sequential(nn.Linear(10, 5), nn.Linear(5, 2, bias=False))  # 60 weights, 5 biases, 4 bytes each
    assert needed(network, [Stage(1, parametrization=PLAIN)], 0, 1) == 4 * 65 * 2
    factored = [Stage(1, parametrization=Product(3)), Stage(1)]
    assert needed(network, factored, 1, 4) == 4 * 4 * (3 * 60 + 5) * 3


@pytest.fixture
def small(monkeypatch):
    """A machine of so many bytes."""
    return lambda size: monkeypatch.setattr(memory, "available", lambda: size)


def test_fewer_runs_are_trained_at_once_where_more_have_no_room(digits, tmp_path, small):
    (curve,) = plan(digits, methods="dwf", depth=2, strength=[1e-4, 2e-4, 3e-4, 4e-4], epochs=1)
    network = models.build(curve.specs[0].model, digits.input_shape, digits.classes, 0)
    small(2.5 * needed(network, curve.method.stages(1), 1, 1))
    listener, store = Listener(), Store(tmp_path)
    outcome = runner.execute([curve], digits, store, CPU, listener)
    assert list(outcome.values()) == ["ok"] * 4
    assert [
        note for note in listener.notes if "4 runs at once need 0.0 GiB of memory, and 0.0 GiB are available" in note
    ]
    assert [record.provenance.lanes for record in store.load()] == [2] * 4


def test_a_run_that_has_no_room_alone_failed_and_says_why(digits, tmp_path, small):
    (curve,) = plan(digits, methods="dwf", depth=4, strength=[1e-4], epochs=1)
    network = models.build(curve.specs[0].model, digits.input_shape, digits.classes, 0)
    small(0.5 * needed(network, curve.method.stages(1), 1, 1))
    store = Store(tmp_path)
    assert list(runner.execute([curve], digits, store, CPU, Listener()).values()) == ["failed"]
    (record,) = store.load()
    assert record.error.startswith("MemoryError: 1 run at once needs 0.0 GiB of memory, and 0.0 GiB are")


def test_a_network_that_has_no_room_is_not_built(small):
    small(4 * 50_000_000)
    with pytest.raises(UsageError, match=r"vgg-16 for images of 3x2048x2048 needs .* of memory, and 0\.2 GiB are"):
        models.build("vgg-16", (3, 2048, 2048), 1_000_000, 0)
    with pytest.raises(UsageError, match=r"lenet-300-100 for images of 3x2048x2048 needs 14\.1 GiB of memory"):
        models.build("lenet-300-100", (3, 2048, 2048), 10, 0)


def test_the_check_draws_no_random_numbers(small):
    before = models.build("lenet-5", (1, 28, 28), 10, 3)
    small(float("inf"))
    after = models.build("lenet-5", (1, 28, 28), 10, 3)
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        assert one.equal(other)


def test_test_images_that_have_no_room_are_not_normalised(digits: Dataset, small):
    small(1000)
    with pytest.raises(UsageError, match=r"360 test images of digits need 0\.0 GiB of memory, and 0\.0 GiB are"):
        stored.inputs_of(digits)
