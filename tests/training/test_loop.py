"""The shared trainer against plain SGD loops, lanes against single runs, and what happens when a lane breaks."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.data.dataset import Dataset, Split
from dwfbench.methods import registry
from dwfbench.methods.registry import create
from dwfbench.runs.spec import RunSpec
from dwfbench.training import evaluate, loop
from dwfbench.training.assess import assess
from dwfbench.training.lanes import generator, shuffled

SHAPE = (1, 4, 4)


def tiny_data(samples=60, val=10, test=23, shape=SHAPE, device="cpu"):
    """Random images with three learnable classes."""
    random = torch.Generator().manual_seed(0)

    def part(count):
        labels = torch.randint(0, 3, (count,), generator=random)
        images = torch.randint(0, 200, (count, *shape), generator=random)
        images[torch.arange(count), 0, 0, labels] += 55
        return Split(images.to(torch.uint8), labels)

    data = Dataset("tiny", part(samples), part(val), part(test), torch.tensor([0.4]), torch.tensor([0.2]), 3, "0" * 16)
    return data.to(device)


class Net(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(math.prod(shape), 8), nn.ReLU(), nn.Linear(8, classes))


class NormNet(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Conv2d(shape[0], 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, classes))


class NormNet8(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Conv2d(shape[0], 4, 5, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, classes))


class DropNet(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(math.prod(shape), 8), nn.Dropout(0.5), nn.Linear(8, classes))


class ScaledNet(Net):
    """With a parameter that is a number."""

    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, images):
        return self.scale * super().forward(images)


TINY, NORM, NORM8, SCALED = (f"{__name__}:{name}" for name in ("Net", "NormNet", "NormNet8", "ScaledNet"))


def spec(method="dense", **changes):
    return RunSpec(**{"method": method, "model": TINY, "epochs": 3, "batch_size": 8, "lr": 0.1} | changes)


def run(*specs, data=None, lanes=None, on_epoch=lambda lanes, epochs: None, **options):
    first = specs[0]
    trainer = loop.Trainer(first, create(first.method, dict(first.options)), data or tiny_data(), **options)
    return list(trainer.train(list(specs), lanes, on_epoch))


def check_compiled(specs):
    """The compiled step trains these runs to the networks of the eager one."""
    eager = run(*specs)
    try:
        compiled = run(*specs, compile=True)
    except Exception as error:
        if "compiler" not in str(error).lower():
            raise
        pytest.skip("no compiler on this machine")
    for mine, other in zip(compiled, eager, strict=True):
        for name in other.state:
            torch.testing.assert_close(mine.state[name], other.state[name], rtol=1e-3, atol=1e-5)


def decayed(network, decay):
    """Groups for an optimiser: decay on the weights, none on biases and normalisation."""
    weights = [p for p in network.parameters() if p.dim() > 1]
    rest = [p for p in network.parameters() if p.dim() <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def plain_loop(one, data):
    """An ordinary PyTorch loop over the trainer's batches, with torch.optim.SGD and its cosine annealing."""
    network = models.build(one.model, data.input_shape, data.classes, one.seed)
    groups = decayed(network, one.weight_decay)
    return trained(network, torch.optim.SGD(groups, lr=one.lr, momentum=one.momentum, nesterov=one.nesterov), one, data)


def trained(network, optimizer, one, data):
    """The network after an ordinary PyTorch loop over the trainer's batches with any optimiser."""
    steps = len(data.train.labels) // one.batch_size
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, one.epochs * steps)
    order = generator(one.seed, "batches")
    network.train()
    for _ in range(one.epochs):
        index = torch.randperm(len(data.train.labels), generator=order)
        for batch in index[: steps * one.batch_size].split(one.batch_size):
            optimizer.zero_grad()
            logits = network(data.normalize(data.train.images[batch]))
            cross_entropy(logits, data.train.labels[batch]).backward()
            if one.clip_norm:
                nn.utils.clip_grad_norm_(network.parameters(), one.clip_norm)
            optimizer.step()
            annealing.step()
    return network


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        *({}, {"nesterov": True}, {"clip_norm": 0.1}, {"model": NORM}, {"weight_decay": 0.1, "momentum": 0.0}),
        *({"model": SCALED}, {"model": SCALED, "clip_norm": 0.1}),
    ],
    ids=["momentum", "nesterov", "clipped", "batch norm", "decay", "a number", "a number, clipped"],
)
def test_dense_training_is_torch_sgd_with_cosine_annealing(changes):
    one, data = spec(**changes), tiny_data()
    (lane,) = run(one, data=data)
    expected = plain_loop(one, data).state_dict()
    assert lane.state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(lane.state[name], value, rtol=1e-4, atol=1e-6)


def test_a_gradient_is_clipped_by_the_norm_of_what_is_trained():
    """As with PyTorch's pruning, where a pruned weight has no gradient."""
    one, data = spec("random", clip_norm=0.05, compression=8.0, weight_decay=0.0), tiny_data()
    (lane,) = run(one, data=data)
    network = models.build(one.model, data.input_shape, data.classes, one.seed)
    for name in ("1", "3"):
        prune.custom_from_mask(network.get_submodule(name), "weight", (lane.state[f"{name}.weight"] != 0).float())
    trained(network, torch.optim.SGD(network.parameters(), lr=one.lr, momentum=one.momentum), one, data)
    for name in ("1", "3"):
        layer = network.get_submodule(name)
        torch.testing.assert_close(lane.state[f"{name}.weight"], (layer.weight_orig * layer.weight_mask).detach())


@pytest.mark.slow
@pytest.mark.parametrize("model", [TINY, NORM])
@pytest.mark.parametrize(
    ("method", "knobs", "options"),
    [
        ("dwf", {"strength": [1e-3, 1e-2, 3e-2]}, {"depth": 3}),
        ("l1", {"strength": [1e-3, 1e-2, 3e-2]}, {"proximal": True}),
        ("snip", {"compression": [2.0, 4.0, 8.0]}, {}),
        ("magnitude", {"compression": [2.0, 4.0, 8.0]}, {}),
    ],
)
def test_a_lane_in_a_group_gives_the_run_alone(model, method, knobs, options):
    ((knob, values),) = knobs.items()
    specs = [
        spec(method, model=model, options=options, seed=i % 2, lr=0.05 * (i + 1), **{knob: value})
        for i, value in enumerate(values)
    ]
    together = run(*specs)
    for one, lane in zip(specs, together, strict=True):
        (alone,) = run(one)
        for name, value in alone.state.items():
            torch.testing.assert_close(lane.state[name], value, rtol=1e-3, atol=1e-5)
        for mine, other in zip(lane.history, alone.history, strict=True):
            assert mine["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
            assert mine["lr"] == pytest.approx(other["lr"])
            assert mine["val_accuracy"] == other["val_accuracy"]


def test_what_is_left_of_a_group_is_rounded_as_in_the_group():
    specs = [spec("l1", model="lenet-300-100", strength=strength) for strength in (1e-4, 1e-3)]
    magnitude = [spec("magnitude", model="lenet-300-100", compression=10.0, epochs=4, seed=seed) for seed in (0, 1)]
    for runs in (specs, magnitude):
        _, whole = run(*runs, lanes=2)
        (rest,) = run(runs[1], lanes=2)
        assert all(torch.equal(rest.state[name], value) for name, value in whole.state.items())


def test_batch_norm_statistics_belong_to_the_lane():
    first, second = run(spec(model=NORM, lr=0.01), spec(model=NORM, lr=0.3))
    assert not torch.allclose(first.state["1.running_mean"], second.state["1.running_mean"])
    assert int(first.state["1.num_batches_tracked"]) == 3 * (60 // 8)


def test_a_diverging_neighbour_changes_nothing():
    good = spec("dwf", strength=1e-3)
    bad = dataclasses.replace(good, lr=1e4)
    alone, (mine, neighbour) = run(good, dataclasses.replace(good, strength=1e-2))[0], run(good, bad)
    assert neighbour.status == "diverged"
    assert "loss became infinite or NaN" in neighbour.error
    assert neighbour.state == {}
    assert mine.status == "ok"
    assert [row["train_loss"] for row in mine.history] == [row["train_loss"] for row in alone.history]
    for name, value in alone.state.items():
        assert torch.equal(mine.state[name], value)


def test_a_lane_that_ended_does_not_keep_magnitude_from_pruning_its_neighbour():
    good = spec("magnitude", compression=4.0, epochs=6)
    (alone,), (mine, neighbour) = run(good), run(good, dataclasses.replace(good, lr=1e30))
    assert (mine.status, neighbour.status) == ("ok", "diverged")
    for name, value in alone.sparse.items():
        torch.testing.assert_close(mine.sparse[name], value, rtol=1e-3, atol=1e-5)


def test_weights_that_overflow_in_the_last_step_are_a_divergence():
    (lane,) = run(spec(lr=1e10, weight_decay=1e35, epochs=1, batch_size=60))
    assert lane.status == "diverged"
    assert "a weight became infinite or NaN" in lane.error


def test_a_network_whose_logits_overflow_is_no_result():
    one, data = spec(lr=1e38, epochs=1, batch_size=60), tiny_data()
    (lane,) = run(one, data=data)
    record, state = assess(lane, create("dense", {}), data)
    assert (record["status"], state) == ("diverged", None)


@pytest.mark.slow
def test_more_variants_of_the_step_than_the_compiler_keeps(monkeypatch):
    """One process trains many curves; dynamo gives up on a function after some variants unless it is reset."""
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, **options: compile(step, backend="eager", **options))
    with torch._dynamo.config.patch(recompile_limit=2):  # else eight
        for size in range(1, 5):
            lanes = run(*[spec(lr=0.01 * (1 + i), epochs=1) for i in range(size)], compile=True)
            assert [lane.status for lane in lanes] == ["ok"] * size


def test_scores_are_computed_once_a_seed(monkeypatch):
    snip = create("snip", {})
    asked, real = [], type(snip).scores
    monkeypatch.setattr(type(snip), "scores", lambda self, start: asked.append(start) or real(self, start))
    specs = [spec("snip", compression=float(c), seed=seed, epochs=1) for seed in (0, 1) for c in (2, 4, 8)]
    together = run(*specs)
    assert len(asked) == 2
    for one, lane in zip(specs, together, strict=True):
        (alone,) = run(one)
        assert all(torch.equal(lane.sparse[name] == 0, alone.sparse[name] == 0) for name in alone.sparse)
        assert lane.overhead_seconds > 0


@pytest.mark.slow
def test_runs_that_share_epochs_branch_into_groups_of_any_size():
    specs = [spec("magnitude", compression=float(c), seed=seed, epochs=6) for seed in (0, 1) for c in (2, 4, 8)]
    alone = {one.id: run(one)[0] for one in specs}
    for lanes in (1, 2, None):
        for lane in run(*specs, lanes=lanes):
            other = alone[lane.spec.id]
            for name, value in other.sparse.items():
                torch.testing.assert_close(lane.sparse[name], value, rtol=1e-3, atol=1e-5)
            assert [row["epoch"] for row in lane.history] == [1, 2, 3, 4, 5, 6]
            assert lane.seconds >= sum(row["seconds"] for row in lane.history) > 0  # the shared epochs count in full


def test_a_shared_network_that_diverged_is_no_run_s_result():
    lanes = run(*[spec("magnitude", compression=float(c), lr=1e30, epochs=6) for c in (2, 4)])
    assert [lane.status for lane in lanes] == ["diverged"] * 2
    assert [lane.spec.compression for lane in lanes] == [2.0, 4.0]


def test_history_every_few_epochs_and_at_the_end():
    told = []
    (often,) = run(spec("dwf", strength=1e-2, epochs=7))
    (rarely,) = run(
        spec("dwf", strength=1e-2, epochs=7), eval_every=3, on_epoch=lambda lanes, epochs: told.append(epochs)
    )
    assert [row["epoch"] for row in rarely.history] == [3, 6, 7]
    assert told == [3, 3, 1]
    assert all(torch.equal(rarely.state[name], often.state[name]) for name in often.state)
    losses = [row["train_loss"] for row in often.history]
    assert rarely.history[1]["train_loss"] == pytest.approx(sum(losses[3:6]) / 3)  # of all steps since the last row


def test_a_diverged_lane_has_no_later_history_and_a_group_of_them_ends():
    bad = spec("dwf", strength=1e-3, lr=1e4, epochs=50)
    calls = []
    (lane,) = run(bad, on_epoch=lambda lanes, epochs: calls.append(epochs))
    assert lane.status == "diverged"
    assert len(lane.history) == len(calls) < 50


def test_a_network_whose_weights_all_vanish_is_dead():
    (lane,) = run(spec("dwf", strength=3.0, epochs=20, momentum=0.0))
    assert lane.status == "diverged"
    assert "network is dead" in lane.error
    assert lane.history[-1]["compression"] is None


def test_same_command_gives_the_same_numbers_and_another_seed_others():
    first, again, other = (run(spec("dwf", strength=1e-2, seed=seed))[0] for seed in (0, 0, 1))
    assert all(torch.equal(first.state[name], again.state[name]) for name in first.state)
    assert any(not torch.equal(first.state[name], other.state[name]) for name in first.state)


def test_dropout_is_repeatable():
    class_path = f"{__name__}:DropNet"
    first, again = (run(spec(model=class_path))[0] for _ in "ab")
    assert all(torch.equal(first.state[name], again.state[name]) for name in first.state)


def test_runs_of_one_seed_share_initial_weights_and_batches_across_methods():
    """A step of size zero leaves the initial weights, masked; all methods that use them have the same ones."""
    data = tiny_data()
    initial = models.build(TINY, SHAPE, 3, seed=5).state_dict()
    for method, knob in (("dense", {}), ("snip", {"compression": 4.0}), ("random", {"compression": 4.0})):
        (lane,) = run(spec(method, seed=5, lr=1e-30, epochs=1, weight_decay=0.0, **knob), data=data)
        for name, value in initial.items():
            kept = lane.state[name] != 0
            assert torch.equal(lane.state[name][kept], value[kept])
    orders = [shuffled(60, 8, 7, [spec(seed=3)], {3: generator(3, "batches")}, "cpu") for _ in "ab"]
    assert torch.equal(*orders)


def test_lanes_of_different_seeds_see_their_own_batches():
    specs = [spec(seed=0), spec(seed=1), spec(seed=0, lr=0.2)]
    index = shuffled(60, 8, 7, specs, {s: generator(s, "batches") for s in (0, 1)}, "cpu")
    assert index.shape == (7, 3, 8)
    assert torch.equal(index[:, 0], index[:, 2])
    assert not torch.equal(index[:, 0], index[:, 1])
    assert len(index[:, 0].flatten().unique()) == 56  # every sample at most once an epoch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("snip", {}),
        ("grasp", {}),
        ("synflow", {}),
        ("random", {"distribution": "erk"}),
        ("magnitude", {"at": "init"}),
        ("magnitude", {}),
        ("magnitude", {"finetune_epochs": 0}),
    ],
)
def test_pruned_weights_are_exactly_zero_under_momentum_and_decay(method, options):
    one = spec(method, options=options, compression=5.0, momentum=0.9, weight_decay=0.01, epochs=6)
    (lane,) = run(one)
    numel = sum(value.numel() for value in lane.sparse.values())
    nnz = sum(int(value.count_nonzero()) for value in lane.sparse.values())
    assert nnz == math.floor(numel / 5 + 0.5)
    if options != {"finetune_epochs": 0}:  # one-shot prunes after the last step: until then it is dense
        assert lane.history[-1]["compression"] == pytest.approx(numel / nnz)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (lambda weight: torch.full_like(weight, 0.5), r"masks 1.weight by torch.float32; a mask is of torch.bool"),
        (lambda weight: torch.ones(3, dtype=torch.bool), "no weight of that name and shape"),
    ],
)
def test_what_is_no_mask_is_refused(monkeypatch, mask, said):
    """As a number, 0.5 halved the weights at every step: they were gone at the end, at another compression ratio."""
    masks = lambda self, moment, scores: {name: mask(weight) for name, weight in moment.weights.items()}  # noqa: E731
    monkeypatch.setattr(registry.load("random"), "masks", masks)
    with pytest.raises(UsageError, match=said):
        run(spec("random", compression=5.0))


@pytest.mark.parametrize(
    "change", [{"1.weight": None}, {"more": torch.ones(3)}, {"1.weight": torch.ones(8, 16).double()}]
)
def test_sparse_weights_that_are_not_those_of_the_network_are_refused(monkeypatch, change):
    def sparsify(self, weights, compression):
        return {name: weight for name, weight in {**weights, **change}.items() if weight is not None}

    monkeypatch.setattr(registry.load("dense"), "sparsify", sparsify)
    with pytest.raises(UsageError, match="other names, shapes or types"):
        run(spec())


def test_magnitude_prunes_at_the_end_of_its_first_phase():
    (lane,) = run(spec("magnitude", compression=5.0, epochs=6))
    assert [row["compression"] > 4 for row in lane.history] == [False] * 4 + [True] * 2
    assert lane.history[4]["lr"] == pytest.approx(0.1)  # fine-tuning's own cosine starts at its peak


def test_one_shot_magnitude_is_dense_training_pruned():
    (dense,) = run(spec())
    (pruned,) = run(spec("magnitude", options={"finetune_epochs": 0}, compression=3.0))
    values = torch.cat([dense.state[name].abs().flatten() for name in pruned.sparse])
    threshold = values.sort(descending=True).values[sum(int(v.count_nonzero()) for v in pruned.sparse.values()) - 1]
    for name, value in pruned.sparse.items():
        assert torch.equal(value, torch.where(dense.state[name].abs() >= threshold, dense.state[name], 0))


def test_dwf_keeps_biases_out_of_decay():
    """Under an overwhelming strength all weights vanish, and the biases still learn the class frequencies."""
    one = spec("dwf", strength=0.3, epochs=10)
    (lane,) = run(one)
    assert lane.status == "diverged" or max(v.abs().max() for v in lane.sparse.values()) < 1e-3
    short = spec("dwf", strength=0.3, epochs=1)
    (lane,) = run(short)
    assert lane.state["3.bias"].abs().max() > 1e-3


def test_history_has_what_the_figures_need():
    (lane,) = run(spec("dwf", strength=1e-2))
    assert [row["epoch"] for row in lane.history] == [1, 2, 3]
    assert all(row["misalignment"] > 0 and row["compression"] >= 1 for row in lane.history)
    assert [row["misalignment"] for row in run(spec())[0].history] == [None] * 3


@pytest.mark.parametrize(
    ("method", "power", "options"), [("dwf", 2 / 3, {}), ("dwf", 0.5, {"depth": 4}), ("spred", 1, {}), ("l1", 1, {})]
)
def test_the_history_has_the_norm_that_is_penalised(method, power, options):
    for lane in run(*[spec(method, strength=value, options=options, epochs=2) for value in (1e-3, 1e-2)]):
        weights = torch.cat([lane.state[name].flatten() for name in lane.sparse]).double()
        assert lane.history[-1]["norm"] == pytest.approx(float(weights.abs().pow(power).sum()), rel=1e-4)
    assert [row["norm"] for row in run(spec())[0].history] == [None] * 3


def test_the_history_has_the_sizes_of_the_weights():
    for lane in run(*[spec("dwf", strength=value) for value in (1e-3, 3e-2)]):
        sizes = lane.history[-1]["sizes"]
        numel = sum(weight.numel() for weight in lane.sparse.values())
        assert sum(sizes.values()) == numel
        assert numel / (numel - sizes["zero"]) == pytest.approx(lane.history[-1]["compression"])


def test_misalignment_shrinks_under_decay():
    """The imbalance w_i^2 - w_j^2 falls by exp(-4 strength t / D): t is about 45 here, so to 0.3 of the start."""
    (lane,) = run(spec("dwf", strength=0.02, epochs=30, batch_size=20))
    assert lane.history[-1]["misalignment"] < lane.history[0]["misalignment"] / 2


def test_accuracy_counts_every_sample_of_a_short_last_chunk(monkeypatch):
    data = tiny_data(test=23)
    network = models.build(TINY, SHAPE, 3, seed=0)
    with torch.no_grad():
        logits = network(data.normalize(data.test.images))
    expected = (logits.argmax(1) == data.test.labels).float().mean().item()
    state = {name: torch.stack([value, value * 0]) for name, value in network.state_dict().items()}
    monkeypatch.setattr(evaluate, "EVALUATION_SAMPLES", 10)  # chunks of 5, 5, 5, 5, 3
    accuracy, loss, top5 = evaluate.evaluate(network, state, data.test, data)
    assert accuracy[0] == pytest.approx(expected)
    assert accuracy[1] == pytest.approx((data.test.labels == 0).float().mean().item())
    assert loss[0] == pytest.approx(cross_entropy(logits, data.test.labels).item(), rel=1e-5)
    assert loss[1] == pytest.approx(math.log(3))
    assert top5 == [None, None]


def test_top_5_accuracy_of_many_classes():
    data = dataclasses.replace(tiny_data(test=23), classes=12)
    network = models.build(TINY, SHAPE, 12, seed=0)
    state = {name: torch.stack([value, value]) for name, value in network.state_dict().items()}
    with torch.no_grad():
        ranks = network(data.normalize(data.test.images)).argsort(1, descending=True)
    expected = sum(int(label) in row[:5].tolist() for label, row in zip(data.test.labels, ranks, strict=True)) / 23
    found = evaluate.evaluate(network, state, data.test, data)
    assert found.top5 == pytest.approx([expected] * 2)
    assert found.accuracy[0] == pytest.approx((ranks[:, 0] == data.test.labels).float().mean().item())
    assert 0 < found.accuracy[0] < found.top5[0] < 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["standard", "paper"])
def test_augmented_lanes_are_the_runs_alone(kind):
    shape = (1, 8, 8)
    data = tiny_data(shape=shape)
    specs = [spec(model=NORM8, augment=kind, seed=seed, lr=lr) for seed, lr in ((0, 0.1), (1, 0.1), (0, 0.2))]
    plain = run(dataclasses.replace(specs[0], augment="none"), data=data)[0]
    for one, lane in zip(specs, run(*specs, data=data), strict=True):
        (alone,) = run(one, data=data)
        for name, value in alone.state.items():
            torch.testing.assert_close(lane.state[name], value, rtol=1e-3, atol=1e-5)
        assert lane.history[-1]["train_loss"] != plain.history[-1]["train_loss"]


def test_evaluation_leaves_batch_norm_alone():
    data = tiny_data()
    network = models.build(NORM, SHAPE, 3, seed=0)
    state = {name: value[None].clone() for name, value in network.state_dict().items()}
    before = {name: value.clone() for name, value in state.items()}
    evaluate.evaluate(network, state, data.val, data)
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_without_validation_part_the_accuracy_is_unknown():
    (lane,) = run(spec(), data=tiny_data(val=0))
    assert [row["val_accuracy"] for row in lane.history] == [None] * 3


def test_a_batch_larger_than_the_training_part_is_refused():
    with pytest.raises(UsageError, match=r"batch_size is 64.*60 samples"):
        run(spec(batch_size=64))


def test_warm_up_ends_at_the_peak():
    (lane,) = run(spec(warmup_epochs=1.0, epochs=4))
    assert lane.history[0]["lr"] < lane.history[1]["lr"] == pytest.approx(0.1)


def test_bfloat16_trains_close_to_float32_and_keeps_float32_tensors():
    (full,) = run(spec("dwf", strength=1e-3))
    (mixed,) = run(spec("dwf", strength=1e-3, precision="bfloat16"))
    assert all(value.dtype == torch.float32 for value in mixed.state.values())
    assert mixed.history[-1]["train_loss"] == pytest.approx(full.history[-1]["train_loss"], rel=0.05)
    assert mixed.history[-1]["train_loss"] != full.history[-1]["train_loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "specs",
    [[spec("dwf", strength=strength) for strength in (1e-3, 1e-2)], [spec(model=NORM)]],
    ids=["lanes of factors", "plain weights alone"],
)
def test_compiled_and_eager_agree(specs):
    check_compiled(specs)
