"""A step of training of the networks with the methods, by the real trainer."""

import pytest
import torch

from dwfbench import models
from dwfbench.data.dataset import Dataset, Split
from dwfbench.methods import registry
from dwfbench.runs.spec import RunSpec
from dwfbench.sparsity.count import count
from dwfbench.sparsity.masks import kept
from dwfbench.training import loop

LARGE = [name for name in models.MODELS if name.startswith("vgg") or name == "resnet-18"]
OPTIONS = {"synflow": {"rounds": 1}, "magnitude": {"finetune_epochs": 0}, "snip": {"samples_per_class": 1}}
OPTIONS |= {"grasp": {"samples_per_class": 1}, "l1": {"proximal": True}, "imp": {"rounds": 1}}
EPOCHS = {"imp": 2}  # a step each; 1 where not named


@pytest.fixture(scope="module")
def photographs():
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=random)
    part, none = Split(images, torch.tensor([0, 1, 0, 1])), Split(images[:0], torch.zeros(0, dtype=torch.int64))
    half = torch.full((3,), 0.5)
    return Dataset("photographs", part, none, none, half, half, 2, "0" * 16)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        *((model, name) for model in models.MODELS if model not in LARGE for name in registry.installed()),
        *(("resnet-18", name) for name in ("dwf", "snip")),
        *(("vgg-16", "dwf"), ("vgg-16-512", "snip"), ("vgg-19", "snip"), ("vgg-19-512", "dwf")),
    ],
)
def test_a_step_moves_every_layer_and_keeps_pruned_weights_zero(photographs, model, name):
    chosen = registry.create(name, OPTIONS.get(name, {}))
    knob = {None: {}, "strength": {"strength": 1e-4}, "compression": {"compression": 4.0}}[chosen.knob]
    one = RunSpec(
        method=name,
        options=chosen.changed(),
        model=model,
        epochs=EPOCHS.get(name, 1),
        batch_size=4,
        lr=1e-3,
        augment="standard",
        **knob,
    )
    trainer = loop.Trainer(one, chosen, photographs)
    before = trainer.weights(trainer.start([one], "before"))
    (lane,) = trainer.train([one])
    assert lane.status == "ok", lane.error
    assert lane.history[0]["train_loss"] > 0
    after = {own: lane.state[own] for own in lane.sparse}
    assert all(not torch.equal(after[own], value[0]) for own, value in before.items())
    if chosen.knob == "compression":
        layers = count(lane.sparse)
        nnz, numel = (sum(layer[what] for layer in layers) for what in ("nnz", "numel"))
        assert (1 - 1e-5) * numel / 4 - 1 < nnz <= kept(numel, 4)  # a few draws are below float32's epsilon
