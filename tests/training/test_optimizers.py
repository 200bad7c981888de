"""Adam and AdamW in the shared trainer against torch.optim, with factors, lanes, masks, checkpoints, compiler."""

import dataclasses
import math

import pytest
import torch
from torch import nn

import dwfbench
from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.experiments import advise, plan
from dwfbench.runs.spec import RunSpec
from dwfbench.training.checkpoint import Checkpoints, Folder, stop
from dwfbench.training.lanes import generator
from tests.training.test_loop import SCALED, TINY, check_compiled, decayed, run, spec, tiny_data, trained


class NormNet(nn.Sequential):
    """Without biases before BatchNorm: their gradient is rounding alone, which Adam would blow up to whole steps."""

    def __init__(self, shape, classes):
        layers = (nn.Conv2d(shape[0], 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        super().__init__(*layers, nn.Linear(16, classes))


NORM = f"{__name__}:NormNet"

RULES = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def adaptive(method="dense", **changes):
    return spec(method, **{"optimizer": "adam", "lr": 0.01} | changes)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "changes", [{}, {"momentum": 0.0}, {"model": NORM}, {"model": SCALED, "clip_norm": 0.1}], ids=str
)
def test_dense_training_is_that_of_torch_optim(name, changes):
    one, data = adaptive(optimizer=name, weight_decay=0.1, **changes), tiny_data()
    (lane,) = run(one, data=data)
    network = models.build(one.model, data.input_shape, data.classes, one.seed)
    rule = RULES[name](decayed(network, one.weight_decay), lr=one.lr, betas=(one.momentum, 0.999))
    for key, value in trained(network, rule, one, data).state_dict().items():
        torch.testing.assert_close(lane.state[key], value, rtol=1e-3, atol=1e-5)


def test_the_two_decays_differ():
    coupled, decoupled = (run(adaptive(optimizer=name, weight_decay=0.1))[0].state for name in RULES)
    assert not torch.allclose(coupled["1.weight"], decoupled["1.weight"], rtol=1e-2)


def test_factors_under_adam_are_those_of_the_library():
    one, data = adaptive("dwf", strength=1e-2, epochs=6), tiny_data()
    (lane,) = run(one, data=data)
    network = models.build(TINY, data.input_shape, data.classes, one.seed)
    dwfbench.factorize(network, 3, generator=generator(one.seed, "method:dwf"))
    rule = torch.optim.Adam(dwfbench.param_groups(network, one.strength), lr=one.lr)
    expected = dwfbench.collapse(trained(network, rule, one, data)).state_dict()
    for name, value in lane.sparse.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


def test_coupled_decay_of_factors_makes_zeros():
    lanes = run(*[adaptive("dwf", strength=value, epochs=40, lr=0.02) for value in (1e-4, 1e-3, 1e-2)])
    left = [sum(int(weight.count_nonzero()) for weight in lane.sparse.values()) for lane in lanes]
    assert left[0] > left[1] > 3 * left[2] > 0


def test_a_lane_in_a_group_gives_the_run_alone():
    specs = [adaptive("dwf", strength=1e-2, seed=seed, lr=0.01 * (1 + seed), model=NORM) for seed in (0, 1, 2)]
    for one, lane in zip(specs, run(*specs), strict=True):
        (alone,) = run(one)
        for name, value in alone.state.items():
            torch.testing.assert_close(lane.state[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["snip", "magnitude", "rigl", "gmp"])
def test_a_masked_weight_is_exactly_zero(method):
    (lane,) = run(adaptive(method, optimizer="adamw", compression=4.0, epochs=6))
    numel = sum(weight.numel() for weight in lane.state.values() if weight.dim() > 1)
    nnz = sum(int(weight.count_nonzero()) for weight in lane.sparse.values())
    assert nnz == math.floor(numel / 4 + 0.5)
    assert all(torch.equal(lane.state[name], weight) for name, weight in lane.sparse.items())


def test_a_stage_begins_with_moments_at_zero():
    """Then the first step of fine-tuning moves every weight that is left by the rate, whatever its gradient."""
    options = {"finetune_epochs": 1, "finetune_lr": 1.0}
    one = adaptive("magnitude", compression=2.0, epochs=2, batch_size=60, options=options, weight_decay=0.0)
    still = dataclasses.replace(one, options={**options, "finetune_lr": 1e-9})
    (moved,), (there,) = run(one), run(still)
    for name, weight in there.sparse.items():
        distance = (moved.sparse[name] - weight)[weight != 0].abs()
        torch.testing.assert_close(distance, torch.full_like(distance, one.lr), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["dwf", "magnitude"])
def test_training_goes_on_from_a_checkpoint_to_the_last_bit(tmp_path, monkeypatch, method):
    knob = {"strength": 1e-2} if method == "dwf" else {"compression": 2.0}
    one = adaptive(method, epochs=4, **knob)
    (whole,) = run(one)
    steps = iter(range(100))
    checkpoints = Checkpoints(Folder(tmp_path), 10.0, pytest.fail)
    monkeypatch.setattr(checkpoints, "due", lambda: next(steps) == 24)
    monkeypatch.setattr(stop, "asked", True)
    with pytest.raises(KeyboardInterrupt):
        run(one, checkpoints=checkpoints)
    monkeypatch.setattr(stop, "asked", False)
    (resumed,) = run(one, checkpoints=Checkpoints(Folder(tmp_path), 10.0, pytest.fail))
    assert len(resumed.history) == 4
    assert next(steps) == 25
    for name, value in whole.state.items():
        assert torch.equal(resumed.state[name], value)


@pytest.mark.slow
def test_compiled_and_eager_agree():
    check_compiled([adaptive("dwf", strength=strength) for strength in (1e-2, 2e-2)])


# ---------------------------------------------------------------- what is refused, what is said


@pytest.mark.parametrize("method", ["dwf", "spred"])
def test_decoupled_decay_of_factors_is_refused(method, digits):
    (request,) = plan.requests([], {"methods": [method], "strength": [1e-3], "optimizer": "adamw"})
    with pytest.raises(UsageError, match=r"inverts the effect of depth.*optimizer=adam"):
        plan.curve(request, digits)


def test_nesterov_is_sgd_s():
    with pytest.raises(UsageError, match="nesterov is a form of SGD's momentum"):
        RunSpec(optimizer="adam", nesterov=True)


def test_the_default_keeps_the_ids_and_others_have_their_own():
    assert RunSpec(optimizer="sgd").id == RunSpec().id
    assert len({RunSpec(optimizer=name).id for name in ("sgd", "adam", "adamw")}) == 3


def test_under_adam_no_decay_budget_is_claimed_and_a_rate_of_sgd_is_told(digits):
    (request,) = plan.requests([], {"methods": ["dwf"], "optimizer": "adam", "lr": 0.1, "points": 2})
    curve = plan.curve(request, digits)
    assert curve.needed is None
    assert "a learning rate of 0.1 is SGD's" in advise.budget_note(curve)
    (request,) = plan.requests([], {"methods": ["dwf"], "optimizer": "adam", "lr": 0.01, "points": 2})
    assert advise.budget_note(plan.curve(request, digits)) is None
