"""Pruners that change their masks during training, and their relatives: schedules and masks by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baselines import gmp, lamp, powerprop, ratios
from baselines import imp as imp_file
from baselines import set as set_file
from baselines import str as str_file
from baselines.rigl import RigL
from dwfbench.base.errors import UsageError
from dwfbench.data import dataset
from dwfbench.methods.contract import Moment
from dwfbench.methods.registry import create
from dwfbench.methods.stage import Stage, rate_multiples
from dwfbench.models.prunable import prunable
from dwfbench.sparsity.masks import kept
from dwfbench.training import loop
from tests.training.test_loop import run, spec, tiny_data

MASKING = ("gmp", "set", "rigl")


def moment(weights, masks, step=0, steps=100, compression=2.0, gradients=None, seed=0):
    """One in the middle of a stage."""
    random = torch.Generator().manual_seed(seed)
    return Moment(weights, masks, compression, step, steps, 0, False, random, gradients=lambda: gradients)


def masked(method, at):
    return method.masks(at, method.scores(at))


def left(sparse):
    return sum(int((weight != 0).sum()) for weight in sparse.values())


# ---------------------------------------------------------------- gradual magnitude pruning


def test_the_cubic_schedule():
    # From 0 to 90 % sparsity between steps 100 and 300: half way, 0.9 (1 - 1/8).
    sparsity = [1 - gmp.density(step, 100, 300, 0.1) for step in (0, 100, 200, 250, 300, 999)]
    assert sparsity == pytest.approx([0, 0, 0.9 * 7 / 8, 0.9 * (1 - 1 / 64), 0.9, 0.9])


def test_gmp_prunes_at_its_steps_and_at_the_end_of_its_window():
    one = create("gmp", {"begin": 0.25, "end": 0.5, "every": 10})
    assert sorted(one.mask_steps(100)) == [25, 35, 45, 50]
    assert sorted(create("gmp", {"end": 1.0, "every": 40}).mask_steps(100)) == [0, 40, 80, 99]  # the last step trains
    with pytest.raises(UsageError, match="before it ends"):
        create("gmp", {"begin": 0.5, "end": 0.5}).check(None, None)


@pytest.mark.parametrize(("distribution", "expected"), [("uniform", [2, 1]), ("global", [3, 0])])
def test_gmp_keeps_the_largest_and_what_is_pruned_stays_pruned(distribution, expected):
    weights = {"a": torch.tensor([4.0, -3.0, 2.0, 9.0]), "b": torch.tensor([0.5, 0.1])}
    masks = {"a": torch.tensor([True, True, True, False]), "b": torch.tensor([True, True])}  # the 9 is gone
    one = create("gmp", {"distribution": distribution, "every": 1})
    found = masked(one, moment(weights, masks, step=75, compression=2.0))
    assert [int(mask.sum()) for mask in found.values()] == expected
    assert not found["a"][3]
    assert found["a"][:2].all()


@pytest.mark.parametrize(("name", "options"), [("gmp", {"distribution": "uniform"}), ("imp", {"distribution": "erk"})])
def test_rounding_gives_no_layer_back_what_was_pruned(name, options):
    shapes = {"a": (6, 1, 5, 5), "b": (16, 6, 5, 5), "c": (120, 400), "d": (84, 120), "e": (10, 84)}
    random = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
    method = create(name, options)
    total = sum(weight.numel() for weight in weights.values())
    for ratio in torch.linspace(50, 1000, 400).tolist():
        at = Moment(weights, masks, ratio, 90, 100, method.rounds if name == "imp" else 0, True, random)
        chosen = masked(method, at)
        assert sum(int(mask.sum()) for mask in chosen.values()) == kept(total, ratio)
        assert not any((mask & ~masks[name]).any() for name, mask in chosen.items())
        masks = chosen
        weights = {name: weight * masks[name] for name, weight in weights.items()}


# ---------------------------------------------------------------- SET and RigL


def test_the_cosine_of_the_drop_fraction():
    one = create("set", {"fraction": 0.4, "end": 0.5})
    assert [one.moved(step, 200) for step in (0, 50, 100)] == pytest.approx([0.4, 0.2, 0.0])
    assert list(create("rigl", {"every": 30, "end": 0.5}).mask_steps(200)) == [30, 60, 90]


def test_rewiring_drops_the_smallest_and_grows_the_largest_scores():
    weight = torch.tensor([[3.0, -1.0, 0.0], [2.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])  # the third weight is 0, but there
    growth = torch.tensor([[9.0, 9.0, 9.0], [9.0, 1.0, 2.0]])
    found = set_file.rewired(weight, mask, growth, 0.25, regrows=False)
    assert found.tolist() == [[True, True, False], [True, False, True]]
    both = set_file.rewired(weight, mask, growth, 0.5, regrows=False)
    assert both.tolist() == [[True, False, False], [True, True, True]]


def test_rigl_keeps_a_small_weight_whose_gradient_is_larger_than_those_of_weights_that_are_not_there():
    weights = {"a": torch.tensor([0.01, 0.5, 0.6, 0.7, 0.0, 0.0, 0.0, 0.0])}
    masks = {"a": torch.tensor([True] * 4 + [False] * 4)}
    gradients = {"a": torch.tensor([9.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4])}
    at = moment(weights, masks, gradients=gradients)
    assert masked(RigL(fraction=0.25), at)["a"].tolist() == masks["a"].tolist()
    gradients["a"][0] = 0.35
    assert masked(RigL(fraction=0.25), at)["a"].nonzero().flatten().tolist() == [1, 2, 3, 7]


def test_no_more_is_grown_than_there_is_room():
    full = torch.ones(4, dtype=torch.bool)
    for regrows in (False, True):
        assert set_file.rewired(torch.ones(4), full, torch.ones(4), 0.5, regrows).all()


@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0, 1), st.floats(0.05, 1))
def test_rewiring_keeps_the_number_of_weights(seed, size, share, density):
    random = torch.Generator().manual_seed(seed)
    weight, growth = torch.randn(size, generator=random), torch.randn(size, generator=random)
    mask = torch.rand(size, generator=random) < density
    found = set_file.rewired(weight * mask, mask, growth, share, regrows=False)
    assert found.sum() == mask.sum() == set_file.rewired(weight * mask, mask, growth, share, regrows=True).sum()
    moved = int(min(int(share * int(mask.sum())), size - int(mask.sum())))
    assert (found & ~mask).sum() == moved, "what is dropped now is not grown"


def test_rigl_grows_where_the_gradient_is_large_and_set_anywhere():
    weights = {"a": torch.tensor([1.0, 0.1, 0.0, 0.0, 0.0, 0.0])}
    masks = {"a": torch.tensor([True, True, False, False, False, False])}
    gradients = {"a": torch.tensor([0.0, 0.0, 0.1, -5.0, 1.0, 0.0])}
    grown = {int(masked(RigL(fraction=0.5), moment(weights, masks, 0, 100, 3, gradients))["a"][2:].int().argmax())}
    assert grown == {1}
    places = {
        int(masked(create("set", {"fraction": 0.5}), moment(weights, masks, seed=seed))["a"][2:].int().argmax())
        for seed in range(40)
    }
    assert places == {0, 1, 2, 3}


def test_rigl_sees_the_dense_gradient_of_the_batch():
    one = spec("rigl", compression=4.0, options={"every": 5}, epochs=2)
    trainer = loop.Trainer(one, create("rigl", {"every": 5}), tiny_data())
    seen = []
    inner = trainer.gradients

    def gradients(*words):
        seen.append(inner(*words))
        return seen[-1]

    trainer.gradients = gradients
    (lane,) = trainer.train([one])
    steps = 2 * (len(tiny_data().train) // 8)
    assert len(seen) == len(RigL(every=5).mask_steps(steps)) == RigL(every=5).extra_passes(steps) > 0
    pruned = {name: lane.sparse[name] == 0 for name in lane.sparse}
    assert all((seen[-1][name][pruned[name]] != 0).any() for name in pruned)


# ---------------------------------------------------------------- in the trainer


@pytest.mark.parametrize("method", MASKING)
@pytest.mark.parametrize("compression", [2.0, 7.0])
def test_the_network_ends_with_exactly_the_weights_asked_for(method, compression):
    (lane,) = run(spec(method, compression=compression, options={"every": 3}, epochs=4))
    numel = sum(weight.numel() for weight in lane.sparse.values())
    assert left(lane.sparse) == kept(numel, compression)


@pytest.mark.parametrize(("method", "options"), [("gmp", {}), ("gmp", {"distribution": "global"}), ("rigl", {})])
def test_a_lane_that_turns_into_nan_between_two_updates_ends_alone(method, options):
    specs = [spec(method, compression=4.0, options={"every": 2, **options}, lr=rate) for rate in (0.1, 1e20)]
    good, bad = run(*specs)
    assert (good.status, bad.status) == ("ok", "diverged")
    (alone,) = run(specs[0])
    for name, weight in good.sparse.items():
        torch.testing.assert_close(weight, alone.sparse[name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", MASKING)
def test_lanes_change_their_masks_as_they_would_alone(method):
    specs = [spec(method, compression=c, seed=s, options={"every": 3}) for c in (2.0, 6.0) for s in (0, 1)]
    for one, lane in zip(specs, run(*specs), strict=True):
        (alone,) = run(one)
        for name, weight in lane.sparse.items():
            torch.testing.assert_close(weight, alone.sparse[name], rtol=1e-4, atol=1e-6)


def test_a_grown_weight_starts_at_nothing():
    """The first step after an update moves a grown weight by rate x gradient, without any momentum."""
    one = spec("set", compression=3.0, options={"every": 4, "fraction": 0.9}, epochs=1, weight_decay=0.0)
    trainer = loop.Trainer(one, create("set", dict(one.options)), tiny_data())
    turn = trainer.turn

    def watched(group, number, begins, index, view):
        state = group.state
        masks = {name: mask > 0 for name, mask in state.masks.items()}
        turn(group, number, begins, index, view)
        if begins:
            return
        grown = {name: (mask > 0) & ~masks[name] for name, mask in state.masks.items()}
        assert sum(int(mask.sum()) for mask in grown.values()) > 0
        assert all((state.weights[name][mask] == 0).all() for name, mask in grown.items())
        gradients = trainer.gradients(group, 0, index, view)
        rate = torch.tensor([0.1])
        trainer.step_of(group)(state, trainer.data.train.images, trainer.data.train.labels, index, view, rate)
        for name, mask in grown.items():
            torch.testing.assert_close(state.weights[name][mask], -rate * gradients[name][mask[0]])
        raise KeyboardInterrupt

    trainer.turn = watched
    with pytest.raises(KeyboardInterrupt):
        list(trainer.train([one]))


# ---------------------------------------------------------------- iterative magnitude pruning


def test_the_budget_of_iterative_pruning_is_that_of_all_rounds():
    def epochs(rounds, rewind_to, total):
        stages = create("imp", {"rounds": rounds, "rewind_to": rewind_to}).stages(total)
        return [(stage.epochs, stage.skipped) for stage in stages]

    assert epochs(2, 0, 30) == [(10, 0), (10, 0), (10, 0)]
    assert epochs(2, 0, 32) == [(12, 0), (10, 0), (10, 0)]
    assert epochs(2, 3, 30) == [(12, 0), (9, 3), (9, 3)]  # 12 + 2 x (12 - 3)
    for total in range(3, 40):
        assert sum(count for count, _ in epochs(2, 0, total)) == total
    with pytest.raises(UsageError, match="too few"):
        create("imp", {"rounds": 4, "rewind_to": 2}).check(spec(epochs=6), None)


def test_a_skipped_part_of_a_schedule_is_left_out():
    whole, rest = rate_multiples((Stage(4), Stage(3, skipped=1)), 5, 0)
    assert rest == whole[5:]


@pytest.mark.parametrize("rewind_to", [0, 2, 3])
def test_every_round_repeats_the_schedule_of_the_first_with_its_warm_up(rewind_to):
    stages = create("imp", {"rounds": 2, "rewind_to": rewind_to}).stages(12 + 2 * (12 - rewind_to))
    first, *later = rate_multiples(stages, 4, 2)
    assert first[7] < first[8] == 1.0
    for rates in later:
        assert rates == pytest.approx(first[4 * rewind_to :])


@pytest.mark.parametrize("rewind_to", [0, 1])
def test_weights_go_back_to_where_they_were(rewind_to):
    one = spec("imp", compression=9.0, options={"rounds": 2, "rewind_to": rewind_to}, epochs=8)
    trainer = loop.Trainer(one, create("imp", dict(one.options)), tiny_data())
    starts, turn = [], trainer.turn

    def watched(group, number, *rest):
        turn(group, number, *rest)
        if number:
            starts.append({name: value.clone() for name, value in group.state.weights.items()})

    trainer.turn = watched
    (lane,) = trainer.train([one])
    if rewind_to == 0:
        origin = {name: weight.detach() for name, weight in prunable(trainer.networks.build(0)).items()}
    else:
        plain = spec("dense", epochs=trainer.stages[0].epochs)
        stopped = loop.Trainer(plain, create("dense", {}), tiny_data())
        group = stopped.start([plain], "x")
        stopped.advance(group, rewind_to, lambda *_: None)
        origin = {name: value[0] for name, value in group.state.weights.items()}
    numel = sum(weight.numel() for weight in origin.values())
    assert len(starts) == 2
    for start, ratio in zip(starts, (3.0, 9.0), strict=True):
        assert left(start) == kept(numel, ratio)
        for name, value in start.items():
            there = value[0] != 0
            torch.testing.assert_close(value[0][there], origin[name][there])
    assert left(lane.sparse) == kept(numel, 9.0)


def test_rewinding_the_learning_rate_keeps_the_weights():
    one = spec("imp", compression=4.0, options={"rounds": 1, "rewind": "lr"}, epochs=4)
    (lane,) = run(one)
    (back,) = run(spec("imp", compression=4.0, options={"rounds": 1}, epochs=4))
    assert [row["lr"] for row in lane.history] == [row["lr"] for row in back.history]
    assert lane.history[2]["train_loss"] < back.history[2]["train_loss"]
    assert [stage.start for stage in imp_file.Imp(rewind="lr", rounds=1).stages(4)] == ["on", "on"]


# ---------------------------------------------------------------- LAMP, powerpropagation, ratios, STR


def test_lamp_scores_by_hand():
    # Squares 1, 4, 9: 1 / 14, 4 / 13, 9 / 9.
    assert lamp.scores(torch.tensor([[-2.0, 1.0], [3.0, 0.0]])).flatten().tolist() == pytest.approx(
        [4 / 13, 1 / 14, 1.0, 0.0]
    )
    equal = lamp.scores(torch.full((4,), 0.5)).tolist()
    assert equal == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1.0])


def test_lamp_prunes_by_its_scores_and_empties_no_layer():
    one = create("lamp", {"finetune_epochs": 0})
    weights = {"large": torch.tensor([10.0, 20.0, 30.0, 40.0]), "small": torch.tensor([0.1, 0.2])}
    sparse = one.sparsify(weights, 3.0)
    # The largest of each layer score 1; of the others 0.01 / 0.05 and 900 / 2500 and less.
    assert [int((weight != 0).sum()) for weight in sparse.values()] == [1, 1]
    magnitude = create("magnitude", {"finetune_epochs": 0}).sparsify(weights, 3.0)
    assert [int((weight != 0).sum()) for weight in magnitude.values()] == [2, 0]
    assert one.label() == "lamp (one-shot)"


@pytest.mark.parametrize("alpha", [1.0, 1.25, 2.0, 4.0])
def test_powerpropagation_starts_at_the_ordinary_weights(alpha):
    power = powerprop.Powerprop(alpha=alpha).stages(3)[-1].parametrization
    weight = torch.tensor([0.04, -0.5, 0.0])
    (theta,) = power.draw("w", weight, None)
    torch.testing.assert_close(power.weight(theta), weight)
    leaf = theta[:2].clone().requires_grad_()
    power.weight(leaf).sum().backward()
    torch.testing.assert_close(leaf.grad, alpha * weight[:2].abs() ** ((alpha - 1) / alpha))  # dw/dtheta
    pruned = torch.zeros(1, requires_grad=True)
    power.weight(pruned).sum().backward()
    assert pruned.grad.item() == (alpha == 1)


@pytest.mark.slow
def test_ratios_keep_what_the_other_method_keeps_of_each_layer():
    (mine,) = run(spec("ratios", compression=5.0, options={"of": "snip"}), data=dataset.load("digits"))
    (theirs,) = run(spec("snip", compression=5.0), data=dataset.load("digits"))
    counts = [[int((w != 0).sum()) for w in lane.sparse.values()] for lane in (mine, theirs)]
    assert counts[0] == counts[1]
    assert any(((mine.sparse[n] != 0) != (theirs.sparse[n] != 0)).any() for n in mine.sparse)
    assert ratios.Ratios().extra_passes(1000) == 100


def test_str_is_a_soft_threshold_of_its_sigmoid():
    space = str_file.Str(start=-3.0).stages(1)[0].parametrization
    parts = space.keep(torch.tensor([0.5, -0.04, -0.2]))
    cut = 1 / (1 + math.exp(3))
    torch.testing.assert_close(space.weight(*parts), torch.tensor([0.5 - cut, 0.0, -0.2 + cut]))
    assert [part.dim() for part in parts] == [1, 0]


def test_str_without_gradient_follows_its_decay_budget():
    """The threshold's s decays like a weight: a budget of ``needed_budget`` takes it to the median's logit."""
    one = str_file.Str()
    weights = {"w": torch.linspace(-0.1, 0.1, 201)}
    s = one.start * math.exp(-one.needed_budget(weights))
    assert 1 / (1 + math.exp(-s)) == pytest.approx(0.05, rel=1e-4)


def test_str_has_no_budget_for_weights_that_no_threshold_below_one_half_reaches():
    for size in (0.5, 0.7, 3.0):
        assert str_file.Str().needed_budget({"w": torch.full((5,), size)}) is None


def test_str_trains_its_thresholds():
    few, many = run(*[spec("str", strength=value, options={"start": -5.0}, epochs=6) for value in (1e-4, 0.05)])
    assert left(many.sparse) < left(few.sparse)


@pytest.mark.parametrize("method", ["gmp", "set", "rigl", "imp", "lamp", "powerprop", "ratios", "str"])
def test_every_new_method_says_where_it_comes_from(method):
    one = create(method, {})
    assert "arXiv" in one.source or "20" in one.source
    assert "trap" in __import__(f"baselines.{method}", fromlist=["x"]).__doc__
