"""What methods write: a score alone, a penalty alone, stages that change weights, parametrization and start."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from baselines.magnitude import Magnitude
from dwfbench import models
from dwfbench.dwf.parametrization import Product, part_names
from dwfbench.methods.contract import Method, Pruner
from dwfbench.methods.dwf import Dwf
from dwfbench.methods.stage import Stage, shared_epochs
from dwfbench.sparsity.masks import kept, layer_counts
from dwfbench.training.lanes import seed_for
from dwfbench.training.loop import Trainer
from tests.training.test_loop import SHAPE, TINY, plain_loop, run, spec, tiny_data

SIZES = {"1.weight": (8, 16), "3.weight": (3, 8)}
NUMEL = 8 * 16 + 3 * 8


def train(method, *specs, data=None, watch=None):
    trainer = Trainer(specs[0], method, data or tiny_data())
    if watch is not None:
        turn = trainer.turn

        def watched(group, number, *rest):
            turn(group, number, *rest)
            watch(group, number)

        trainer.turn = watched
    return list(trainer.train(list(specs)))


def nonzero(sparse):
    return {name: int((weight != 0).sum()) for name, weight in sparse.items()}


@dataclass(frozen=True)
class Empty(Method):
    name: ClassVar[str] = "empty"


@dataclass(frozen=True)
class Largest(Pruner):
    """A pruner that writes its score alone."""

    name: ClassVar[str] = "largest"

    def scores(self, moment):
        return {name: weight.abs() for name, weight in moment.weights.items()}


@dataclass(frozen=True)
class Squares(Method):
    """A penalty that writes its penalty alone."""

    name: ClassVar[str] = "squares"
    knob: ClassVar[str] = "strength"
    decays: ClassVar[bool] = False

    def penalty(self, trainable):
        return sum(weight.square().sum() for weight in trainable.values())


def test_an_empty_subclass_is_dense_training():
    (mine,), (dense,) = train(Empty(), spec("empty")), run(spec())
    assert all(torch.equal(mine.state[name], dense.state[name]) for name in dense.state)


@dataclass(frozen=True)
class Shrunk(Empty):
    """Dense training with decay in the objective in place of the optimiser's."""

    decays: ClassVar[bool] = False

    def shrinkage(self):
        return 0.1


def test_shrinkage_of_plain_weights_is_weight_decay():
    (mine,), (dense,) = train(Shrunk(), spec("empty")), run(spec(weight_decay=0.1))
    assert mine.history[0]["train_loss"] == pytest.approx(dense.history[0]["train_loss"])  # the loss alone is told
    for name, value in dense.state.items():
        torch.testing.assert_close(mine.state[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("depth", [2, 3])
def test_product_decay_is_the_chain_rule_through_the_factors(depth):
    """With c / 2 w^2 on the products a factor's gradient grows by c w times the product of the others."""
    method, c = Dwf(depth=depth, product_decay=0.7), 0.7
    moved = []
    for chosen in (method, Dwf(depth=depth)):
        trainer = Trainer(spec("dwf", strength=0.0, momentum=0.0, options=chosen.changed()), chosen, tiny_data())
        group = trainer.start([trainer.spec], "a test")
        before = {name: value.clone() for name, value in group.state.weights.items()}
        images, labels = tiny_data().train.images, tiny_data().train.labels
        step = trainer.step_of(group)
        index, view = torch.arange(8), torch.zeros(8, 0)
        step(group.state, images, labels, index, view, torch.tensor([0.5]))
        moved.append({name: before[name] - value for name, value in group.state.weights.items()})
        factors = before
    for name in SIZES:
        parts = [factors[part].squeeze(0) for part in part_names(Product(depth), name)]
        weight = torch.stack(parts).prod(0)
        for part, factor in zip(part_names(Product(depth), name), parts, strict=True):
            more = (moved[0][part] - moved[1][part]).squeeze(0)
            torch.testing.assert_close(more, 0.5 * c * weight * weight / factor, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("distribution", ["global", "uniform", "erk"])
def test_a_score_alone_makes_a_pruner_with_every_distribution(distribution):
    (lane,) = train(Largest(distribution=distribution), spec("largest", compression=5.0))
    counts = nonzero(lane.sparse)
    assert sum(counts.values()) == kept(NUMEL, 5.0)
    if distribution != "global":
        assert counts == layer_counts(SIZES, 5.0, distribution)


@dataclass(frozen=True)
class Sparing(Largest):
    """A pruner that chooses no masks where nothing is to be pruned."""

    def masks(self, moment, scores):
        return None if moment.compression == 1 else super().masks(moment, scores)


def test_a_lane_without_masks_leaves_those_of_its_neighbours():
    dense, sparse = (spec("sparing", compression=compression) for compression in (1.0, 4.0))
    counts = [sum(nonzero(lane.sparse).values()) for lane in train(Sparing(), dense, sparse)]
    assert counts == [NUMEL, kept(NUMEL, 4.0)]


def test_a_method_that_is_no_pruner_prunes_by_its_scores_too():
    @dataclass(frozen=True)
    class Plain(Method):
        name: ClassVar[str] = "plain"
        knob: ClassVar[str] = "compression"
        scores = Largest.scores

    (lane,) = train(Plain(), spec("plain", compression=5.0))
    assert sum(nonzero(lane.sparse).values()) == kept(NUMEL, 5.0)


def test_a_penalty_alone_is_its_gradient():
    """strength * sum w^2 is weight decay of 2 strength, in every lane."""
    specs = [spec("squares", strength=strength, weight_decay=0.0) for strength in (0.0, 0.05)]
    for one, lane in zip(specs, train(Squares(), *specs), strict=True):
        expected = plain_loop(replace(one, weight_decay=2 * one.strength), tiny_data()).state_dict()
        for name, value in expected.items():
            torch.testing.assert_close(lane.state[name], value, rtol=1e-4, atol=1e-6)
        norm = sum(float(lane.state[name].square().sum()) for name in lane.sparse)
        assert lane.history[-1]["norm"] == pytest.approx(norm, rel=1e-5)


@dataclass(frozen=True)
class Redrawn(Magnitude):
    """The control of pruning: the mask of a trained network on weights that are drawn anew."""

    name: ClassVar[str] = "redrawn"

    def stages(self, epochs):
        first, second = super().stages(epochs)
        return first, replace(second, start="anew")


def test_a_method_may_draw_weights_anew_after_pruning():
    one = spec("redrawn", compression=4.0, epochs=6, weight_decay=0.0)
    states = {}

    def watch(group, number):
        states[number] = (dict(group.state.masks), {name: w.clone() for name, w in group.state.weights.items()})

    (lane,) = train(Redrawn(), one, watch=watch)
    (tuned,) = run(replace(one, method="magnitude"))
    fresh = models.build(TINY, SHAPE, 3, seed_for(0, "stage 1")).state_dict()
    masks, weights = states[4 * 7]
    for name, mask in masks.items():
        assert torch.equal(mask[0] > 0, tuned.sparse[name] != 0), "the mask is that of the trained weights"
        assert torch.equal(weights[name][0], fresh[name] * mask[0])
        assert torch.equal(lane.sparse[name] != 0, mask[0] > 0)
    assert lane.history[4]["train_loss"] > tuned.history[4]["train_loss"]


@dataclass(frozen=True)
class Both(Largest):
    """Masks on a product of factors."""

    name: ClassVar[str] = "both"

    def stages(self, epochs):
        return (Stage(epochs, parametrization=Product(3)),)


def test_masks_act_on_a_product_of_factors_too():
    (lane,) = train(Both(), spec("both", compression=4.0, weight_decay=0.0))
    assert sum(nonzero(lane.sparse).values()) == kept(NUMEL, 4.0)


def test_fine_tuning_of_dwf_trains_plain_weights_under_the_zeros_of_the_product():
    one = spec("dwf", strength=0.1, epochs=30, batch_size=10)
    method = Dwf(finetune_epochs=6, finetune_lr=0.5)
    before = {}

    def watch(group, number):
        if number:
            before.update({name: weight[0].clone() for name, weight in group.state.weights.items()})

    (lane,) = train(method, one, watch=watch)
    assert set(before) == set(SIZES), "plain weights"
    assert 1.2 < lane.history[-1]["compression"] == pytest.approx(NUMEL / sum(nonzero(lane.sparse).values()))
    for name, weight in lane.sparse.items():
        assert torch.equal(weight == 0, before[name] == 0)
        assert not torch.equal(weight, before[name])
    assert [row["misalignment"] is None for row in lane.history] == [False] * 24 + [True] * 6


@dataclass(frozen=True)
class BackToPlain(Method):
    """Goes back from factors to the network of an epoch, and on with plain weights."""

    name: ClassVar[str] = "back"

    def stages(self, epochs):
        return Stage(epochs - 2, parametrization=Product(2)), Stage(2, start=1)


def test_a_stage_may_go_back_to_factors_as_plain_weights():
    seen = {}

    def watch(group, number):
        if number:
            seen.update({name: weight[0].clone() for name, weight in group.state.weights.items()})

    one = spec("back", epochs=5, weight_decay=0.0)
    train(BackToPlain(), one, watch=watch)
    trainer = Trainer(one, BackToPlain(), tiny_data())
    group = trainer.start([one], "x")
    trainer.advance(group, 1, lambda *_: None)
    for name, weight in trainer.weights(group).items():
        torch.testing.assert_close(seen[name], weight[0])


def test_only_the_first_stages_are_shared():
    assert shared_epochs((Stage(3, knob_free=True), Stage(2), Stage(4, knob_free=True))) == 3
    assert shared_epochs((Stage(3),)) == 0
