"""Runs that start from trained weights: every method has them before its first step, and its id tells them."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.dwf.parametrization import parts_by_weight
from dwfbench.methods.registry import create
from dwfbench.models import weights
from dwfbench.runs.spec import RunSpec
from dwfbench.runs.store import Store
from dwfbench.training.networks import Networks, effective
from tests.training.test_loop import NORM, SHAPE, spec, tiny_data
from tests.training.test_loop import run as train


@pytest.fixture
def trained(tmp_path):
    """The identity of trained weights, and their state dict."""
    network = models.build(NORM, SHAPE, 3, seed=99)
    with torch.no_grad():
        network[1].running_mean.fill_(0.5)
        network[0].weight[0, 0, 0] = 0
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    return weights.identity(str(tmp_path / "w.safetensors")), network.state_dict()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        *(("dense", {}), ("dwf", {}), ("dwf", {"depth": 4}), ("dwf", {"group": "channel"}), ("spred", {}), ("l1", {})),
        *(("powerprop", {}), ("str", {})),
    ],
)
def test_a_step_of_no_size_leaves_the_trained_weights(trained, method, options):
    known, state = trained
    knob = create(method, options).knob
    one = spec(
        method,
        model=NORM,
        options=options,
        init=known,
        lr=1e-30,
        epochs=1,
        **({knob: 1.0 if knob == "compression" else 1e-9} if knob else {}),
    )
    (lane,) = train(one)
    for name in ("0.weight", "0.bias", "4.weight", "4.bias", "1.weight"):
        torch.testing.assert_close(lane.state[name], state[name], rtol=1e-4, atol=1e-6)


def test_factors_are_balanced(trained):
    (lane,) = train(spec("dwf", model=NORM, init=trained[0], lr=1e-30, epochs=1, strength=1e-9))
    (drawn,) = train(spec("dwf", model=NORM, lr=1e-30, epochs=1, strength=1e-9))
    assert lane.history[0]["misalignment"] < 1e-5 < 1e-2 < drawn.history[0]["misalignment"]


@pytest.mark.parametrize("method", ["dwf", "spred", "powerprop", "str"])
def test_a_zero_classifier_that_the_file_lacks_is_drawn_as_without_a_file(method, tmp_path):
    """It would never move from zero, nor balanced factors change their signs."""

    def built(init=None):
        one = spec(method, model="tests.zoo.networks:zero_classifier", init=init)
        made = create(method, {})
        space = made.stages(1)[0].parametrization
        networks = Networks(one, made, tiny_data())
        return networks.build(0), networks.initial([0], space).weights, space

    network, drawn, space = built()
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("head")}
    assert not network.head.weight.any()
    save_file(state, tmp_path / "backbone.safetensors")
    _, begun, _ = built(weights.identity(str(tmp_path / "backbone.safetensors")))
    assert list(begun) == list(drawn)
    for name, value in effective(space, begun).items():
        assert any(part.any() for part in parts_by_weight(space, begun)[name] if part.shape == value.shape)
        if name in state:
            torch.testing.assert_close(value[0], state[name])
    misaligned = {name: space.misalignment(parts) for name, parts in parts_by_weight(space, begun).items()}
    if method == "dwf":
        assert misaligned.pop("head.weight") > 1e-2
        assert max(misaligned.values()) < 1e-5


def test_running_statistics_come_along(trained):
    networks = Networks(spec(model=NORM, init=trained[0]), create("dense", {}), tiny_data())
    assert torch.equal(networks.build(0).state_dict()["1.running_mean"], torch.full((4,), 0.5))


def test_all_seeds_start_from_them_and_a_stage_that_draws_anew_does_not(trained):
    known, state = trained
    one = spec("dwf", model=NORM, init=known, strength=1e-3)
    networks = Networks(one, create("dwf", {}), tiny_data())
    plain = create("dense", {}).stages(1)[0].parametrization
    kept = networks.initial([0, 1], plain).weights["4.weight"]
    assert torch.equal(kept, state["4.weight"].expand(2, -1, -1))
    anew = networks.initial([0, 1], plain, anew=True).weights["4.weight"]
    assert not any(torch.equal(lane, state["4.weight"]) for lane in anew)


def test_lanes_give_the_runs_alone(trained):
    specs = [spec("dwf", model=NORM, init=trained[0], strength=1e-2, seed=seed) for seed in (0, 1)]
    for one, lane in zip(specs, train(*specs), strict=True):
        (alone,) = train(one)
        for name, value in alone.state.items():
            torch.testing.assert_close(lane.state[name], value, rtol=1e-3, atol=1e-5)


def test_the_id_depends_on_them(trained):
    assert RunSpec(init=None).id == RunSpec().id != RunSpec(init=trained[0]).id


def test_a_command_trains_on_from_a_stored_network(run, tmp_path):
    made = run(tmp_path / "dense", "--method", "dense", "--save-model")
    assert made.exit_code == 0, made.stderr
    (network,) = (tmp_path / "dense").glob("runs/*/model.safetensors")
    words = ("--init", network, "--method", "dwf,dense", "--strength", "1e-6", "--lr", "0.001")
    result = run(tmp_path / "on", *words)
    assert result.exit_code == 0, result.stderr
    records = Store(tmp_path / "on").load()
    assert [record.spec.init for record in records] == [weights.identity(str(network))] * 2
    assert min(record.test_accuracy for record in records) > 0.9
    refused = run(tmp_path / "on", "--init", network, "--model", "lenet-5")
    assert refused.exit_code == 2
    assert "which the network does not" in refused.stderr


class Tokens(nn.Module):
    """Which of two tokens a pixel is; the first is padding."""

    def __init__(self, shape, classes):
        super().__init__()
        self.table, self.layer = nn.Embedding(2, 5, padding_idx=0), nn.Linear(5, classes)

    def forward(self, images):
        return self.layer(self.table((images > 0).long().flatten(1)).sum(1))


class Shared(Tokens):
    """Here the padding's row is trained, by the layer that shares it."""

    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.back = nn.Linear(5, 2, bias=False)
        self.back.weight = self.table.weight

    def forward(self, images):
        return super().forward(images) + self.back.weight.sum()


class TiedAfter(Tokens):
    """A layer before the embedding that shares its weight, of which the embedding's rows are other groups."""

    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.back, table = nn.Linear(5, 2, bias=False), self.table
        del self.table
        self.table = table
        self.table.weight = self.back.weight


@pytest.mark.parametrize("group", ["channel", "row"])
def test_a_tied_weight_whose_groups_are_two_things_is_refused_wherever_the_embedding_is(group):
    one = spec("dwf", model=f"{__name__}:TiedAfter", options={"group": group})
    with pytest.raises(UsageError, match="is an embedding"):
        create("dwf", one.options).check(one, tiny_data())


def drawn(model, method, options):
    """The first table of a network in whose place a method draws what it trains, and the table of an ordinary one."""
    one, chosen = spec(method, model=f"{__name__}:{model}", prune_embeddings=True), create(method, options)
    networks, space = Networks(one, chosen, tiny_data()), chosen.stages(3)[0].parametrization
    weights = effective(space, networks.initial([0], space).weights)
    return weights["table.weight"][0], networks.build(0).table.weight


@pytest.mark.parametrize(
    ("method", "options"),
    [("dwf", {}), ("dwf", {"depth": 2}), ("dwf", {"group": "row"}), ("spred", {}), ("powerprop", {})],
)
def test_the_row_of_padding_which_no_loss_trains_is_not_drawn(method, options):
    weight, ordinary = drawn("Tokens", method, options)
    assert weight[0].tolist() == [0.0] * 5 == ordinary[0].tolist()
    assert (weight[1] != 0).all()


def test_a_row_of_padding_that_another_layer_trains_is_drawn():
    weight, _ = drawn("Shared", "dwf", {})
    assert (weight != 0).all()
