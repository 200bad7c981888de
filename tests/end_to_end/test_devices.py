"""What trains, scores, counts and stores runs on a CUDA device that is only pretended (``pretended.py``).

A tensor on the wrong device raises there as it would on a GPU. Its kernels are the CPU's, so the numbers are, too, to
the last digit. What a GPU alone can show: kernels that CUDA lacks, rounding, autocast, compiled steps, sparse tensors.
"""

import contextlib
import copy
import itertools
import pickle
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

import dwfbench
from dwfbench import models
from dwfbench.data.dataset import Dataset, Split
from dwfbench.deploy import measure
from dwfbench.dwf.factors import total
from dwfbench.dwf.parametrization import Parametrization
from dwfbench.execution import worker
from dwfbench.methods import registry
from dwfbench.methods.contract import Method
from dwfbench.methods.stage import Stage
from dwfbench.models.prunable import prunable
from dwfbench.runs.spec import RunSpec
from dwfbench.training.loop import Trainer
from tests.end_to_end.pretended import pretended
from tests.records import plain
from tests.silent import Silent

CLASSES = 11  # more than ten: top-5 accuracy, too
SMALL = {
    **{name: {"samples_per_class": 1} for name in ("snip", "grasp")},
    **{name: {"every": 2} for name in ("gmp", "rigl", "set")},
    "imp": {"rounds": 1, "rewind_to": 1},
    "ratios": {"of": "snip"},
    "synflow": {"rounds": 2},
}
VARIANTS = [
    *(("dwf", options) for options in ({"depth": 2}, {"depth": 4}, {"rescale_init": True})),
    *(("dwf", {"depth": depth, "group": group}) for depth, group in ((2, "channel"), (3, "row"))),
    ("l1", {"proximal": True}),
    *(("random", {"distribution": name}) for name in ("uniform", "erk")),
    *(("magnitude", options) for options in ({"at": "init"}, {"finetune_epochs": 0})),
    *((name, {"bn_training": True}) for name in ("snip", "grasp")),
    ("gmp", {"distribution": "global"}),
    ("imp", {"rewind": "lr"}),
    ("ratios", {"of": "grasp"}),
]
METHODS = [*((name, {}) for name in registry.installed()), *VARIANTS]


def photographs(per_class=1):
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (per_class * CLASSES, 3, 16, 16), dtype=torch.uint8, generator=random)
    part = Split(images, torch.arange(len(images)) % CLASSES)
    few = Split(images[:CLASSES], part.labels[:CLASSES])
    half = torch.full((3,), 0.5)
    return Dataset("photographs", part, few, few, half, half, CLASSES, "0" * 16)


def network(input_shape=(3, 16, 16), classes=CLASSES):
    return nn.Sequential(
        *(nn.Conv2d(input_shape[0], 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, classes)),
    )


class Tokens(nn.Module):
    """A transformer of one layer, from numbers of tokens (N, T)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(256, 8, padding_idx=0)
        self.encode = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.classify = nn.Linear(8, CLASSES)

    def forward(self, tokens):
        return self.classify(self.encode(self.embed(tokens)).mean(1))


class Forgotten(nn.Module):
    """A network with a tensor that does not move with it, as it is no buffer."""

    def __init__(self, input_shape, classes):
        super().__init__()
        self.layers, self.scale = network(input_shape, classes), torch.ones(classes)

    def forward(self, images):
        return self.layers(images) * self.scale


@pytest.fixture(autouse=True)
def own_networks(monkeypatch):
    for name, make in {"small": network, "forgotten": Forgotten}.items():
        monkeypatch.setitem(models.MODELS, name, models.Entry(make, "", ""))


@pytest.fixture(autouse=True)
def answers(monkeypatch):
    """What ``torch.cuda`` says of the device."""
    state = torch.zeros(16, dtype=torch.uint8)
    known = {
        "get_rng_state": lambda device: state,
        "set_rng_state": lambda given, device: torch.testing.assert_close(given, state),
        "get_device_name": lambda device: "Pretended",
        "max_memory_allocated": lambda device: 1,
        "mem_get_info": lambda device: (2**33, 2**34),
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device: None,
        "synchronize": lambda device: None,
    }
    for name, answer in known.items():
        monkeypatch.setattr(torch.cuda, name, answer)


class Memory:
    """Checkpoints kept here; writing the ``last`` of them interrupts the training."""

    def __init__(self, last):
        self.content, self.writes, self.last = {}, 0, last

    def read(self, key):
        return self.content.get(key)

    def identities(self):
        return {}

    def write(self, key, content):
        self.content[key] = content
        self.writes += 1
        if self.writes == self.last:
            raise KeyboardInterrupt


def spec(chosen: Method, model="small", factor=1.0, **settings):
    """A run of a method, at ``factor`` times a usual value of its knob."""
    knob = {None: {}, "strength": {"strength": 1e-4}, "compression": {"compression": 2.0}}[chosen.knob]
    knob = {name: factor * value for name, value in knob.items()}
    base = {"epochs": 1, "batch_size": CLASSES, "lr": 0.01}
    return RunSpec(method=chosen.name, options=chosen.changed(), model=model, **(base | knob | settings))


def trained(device, chosen, specs, place=None, per_class=1):
    """The results of runs, two at once, all of which end well, as a process sends them to another."""
    listener, work = Silent(), worker.Task(chosen, tuple(specs), 2, False)
    with pretended() if device == "cuda" else contextlib.nullcontext():
        engine = worker.Engine(torch.device(device), 1, checkpoint_minutes=0.0, save_model=True)
        results = list(worker.Worker(photographs(per_class).to(device), engine, place).train(work, listener))
        sent = pickle.dumps(results)
    assert all(result.record.status == "ok" for result in results), [result.record.error for result in results]
    assert not listener.notes
    return pickle.loads(sent)


def numbers(result):
    """What of a result does not depend on the device."""
    timing = ("seconds", "overhead_seconds", "peak_memory_bytes", "provenance")
    record = {key: value for key, value in plain(result.record).items() if key not in timing}
    return record, [{key: value for key, value in row.items() if key != "seconds"} for row in result.history]


@pytest.mark.parametrize(("name", "options"), METHODS, ids=str)
def test_a_curve_resumed_on_the_device_is_that_of_the_cpu(name, options):
    chosen = registry.create(name, {**SMALL.get(name, {}), **options})
    settings = {"augment": "paper", "nesterov": True, "clip_norm": 1.0, "epochs": 3, "batch_size": 5 * CLASSES}
    specs = [spec(chosen, seed=0, **settings), spec(chosen, seed=1, **settings)]
    if chosen.knob and not options:  # one that goes on alone from what it shares with the first
        specs.append(spec(chosen, seed=0, factor=1.5, **settings))
    place = Memory(last=5)  # in the middle of an epoch
    with pytest.raises(KeyboardInterrupt):
        trained("cuda", chosen, specs, place, per_class=10)
    results = trained("cuda", chosen, specs, place, per_class=10)
    expected = trained("cpu", chosen, specs, per_class=10)
    assert [numbers(result) for result in results] == [numbers(result) for result in expected]
    for result, other in zip(results, expected, strict=True):
        torch.testing.assert_close(result.state, other.state, rtol=0, atol=0)
        assert result.record.provenance.device == "cuda"


@pytest.mark.parametrize("name", ["dwf", "grasp", "synflow"])
@pytest.mark.parametrize("model", ["lenet-300-100", "lenet-5", "resnet-20"])
def test_a_named_network_is_pruned_trained_and_assessed_on_the_device(model, name):
    chosen = registry.create(name, SMALL.get(name, {}))
    trained("cuda", chosen, [spec(chosen, model)])


@pytest.mark.parametrize("model", models.MODELS)
def test_every_named_network_trains_and_is_counted_on_the_device(model):
    chosen = registry.create("dense", {})
    with pretended() as device:
        data = photographs().to(device)
        trainer = Trainer(spec(chosen, model), chosen, data)
        (lane,) = trainer.train([trainer.spec])
        assert lane.status == "ok"
        assert {value.device for value in lane.state.values()} == {device}
        assert dwfbench.sparsity_report(trainer.network, data.input_shape)["connected"]


# ---------------------------------------------------------------- the library and the measurements


@pytest.mark.parametrize("model", [network, Tokens])
@pytest.mark.parametrize(
    "options", [{}, {"keep_weights": True}, {"group": "channel"}, {"group": "row", "keep_weights": True}], ids=str
)
def test_the_library_factorizes_trains_and_collapses_on_the_device(model, options):
    depth = {"embed" if model is Tokens else "0": 2, "*": 3}
    with pretended() as device:
        data = photographs().to(device)
        images = data.train.images
        inputs = images[:, 0, 0].long() if model is Tokens else data.normalize(images)
        factorized = dwfbench.factorize(model().to(device), depth, **options)
        optimizer = torch.optim.SGD(dwfbench.param_groups(factorized, 1e-4), lr=0.01, momentum=0.9)
        nn.functional.cross_entropy(factorized(inputs), data.train.labels).backward()
        optimizer.step()
        assert dwfbench.misalignment(factorized) >= 0
        assert {row["depth"] for row in dwfbench.init_statistics(factorized)} == {2, 3}
        report = dwfbench.sparsity_report(copy.deepcopy(factorized))
        plain = dwfbench.collapse(factorized)
        assert report == dwfbench.sparsity_report(plain)
        assert {weight.device for weight in prunable(plain).values()} == {device}
        assert plain.eval()(inputs).device == device


def test_forms_of_a_network_are_measured_on_the_device(monkeypatch):
    monkeypatch.setattr(measure, "with_sparse_layers", copy.deepcopy)  # sparse tensors cannot be pretended
    with pretended() as device:
        data = photographs().to(device)
        inputs = data.normalize(data.test.images)
        measured = measure.measure(network().eval(), inputs, data.test.labels, batches=[2], rounds=2)
    assert {row["form"] for row in measured["latency"]} == {"dense", "sparse", "compact"}


def test_the_command_line_trains_on_the_device(call, tmp_path):
    words = ("--method", "l1,magnitude", "--strength", "1e-5,1e-3", "--compression", "2,4", "--dataset", "digits")
    budget = ("--epochs", 3, "--batch-size", 512, "--compile", "off", "--threads", 1)
    with pretended():
        result = call("run", *words, *budget, "--device", "cuda", "--save-model", "--results", tmp_path)
    assert result.exit_code in (0, 1), result.stderr  # three epochs may be no better than chance
    assert len(list(tmp_path.glob("runs/*/model.safetensors"))) == 4


# ---------------------------------------------------------------- what is planted is found


def mixed(weights):
    return {name: weight * torch.ones(weight.shape) for name, weight in weights.items()}


class Drawn(Parametrization):
    """Drawn on another device than the generator's."""

    def draw(self, name, weight, generator):
        return (torch.randn(weight.shape, generator=generator, device=weight.device),)


class Mixed(Parametrization):
    def weight(self, *parts):
        return parts[0] * torch.ones(parts[0].shape)


WRONG = {
    "scores": lambda self, moment: mixed(prunable(moment.network())),
    "masks": lambda self, moment, scores: {name: w > torch.zeros(w.shape) for name, w in moment.weights.items()},
    "stages": lambda self, epochs: (Stage(epochs, parametrization=Drawn()),),
    "decay": lambda self, strength: strength + torch.zeros(1),
    "penalty": lambda self, trainable: total(weight.sum() for weight in mixed(trainable).values()),
    "weight": Mixed,
    "project": lambda self, tensor, strength, rate: torch.maximum(tensor, torch.zeros(tensor.shape)),
    "norm": lambda self, weights: total(weight.sum() for weight in mixed(weights).values()),
    "sparsify": lambda self, weights, compression: mixed(weights),
}


def run_alone(chosen, data, **settings):
    one = spec(chosen, **settings)
    return list(Trainer(one, chosen, data).train([one]))


@pytest.mark.parametrize("hook", WRONG)
def test_a_wrong_device_in_a_method_is_found(hook):
    own = {"name": "planted", "knob": "compression", hook: WRONG[hook]}
    if hook == "weight":
        own["stages"] = lambda self, epochs: (Stage(epochs, parametrization=Mixed()),)
    planted = dataclass(frozen=True)(type("Planted", (Method,), own))()
    run_alone(planted, photographs())  # on a CPU there is nothing wrong with it
    with pretended() as device, pytest.raises(RuntimeError, match="CPU"):
        run_alone(planted, photographs().to(device))


def test_a_tensor_that_does_not_move_with_its_network_is_found():
    chosen = registry.create("dense", {})
    run_alone(chosen, photographs(), model="forgotten")
    with pretended() as device, pytest.raises(RuntimeError, match="CPU"):
        run_alone(chosen, photographs().to(device), model="forgotten")


MIXES = {
    "sum": lambda there, here: there + here,
    "comparison": lambda there, here: here < there,
    "product": lambda there, here: there @ here,
    "layer": lambda there, here: nn.functional.linear(there, there, here[0]),
    "stack": lambda there, here: torch.stack([there, here]),
    "concatenation": lambda there, here: torch.cat([here, there]),
    "choice": lambda there, here: torch.where(here > 0, there, 0.0),
    "gathering": lambda there, here: there.gather(0, here.long()),
    "in place": lambda there, here: there.add_(here),
    "in place on the CPU": lambda there, here: here.mul_(there),
    "array": lambda there, here: there.numpy(),
}
MISSED = {  # by FakeTensorMode at times, but not by CUDA
    "index on the device": lambda there, here: here[there[0].long()],
    "generator of the CPU": lambda there, here: torch.rand(3, generator=torch.Generator(), device=there.device),
}
FINE = {
    "copy there": lambda there, here: there.copy_(here) + here.to(there.device),
    "copy here": lambda there, here: here.copy_(there) + there.cpu(),
    "number": lambda there, here: 2 * there + here.sum(),
    "number chosen": lambda there, here: torch.where(there > 0, there, 1.0),
    "index on the CPU": lambda there, here: there[torch.tensor([0, 2])],
    "written by an index on the CPU": lambda there, here: there.index_put_((torch.tensor([0, 2]),), there[:2].clone()),
}


@pytest.mark.parametrize(
    ("mode", "name"),
    [*itertools.product([pretended, FakeTensorMode], [*MIXES, *FINE]), *((pretended, name) for name in MISSED)],
)
def test_what_mixes_devices_is_what_pytorch_says(mode, name):
    device = "cuda" if mode is pretended else "lazy"  # some PyTorchs fake no CUDA without its driver
    with mode(), contextlib.nullcontext() if name in FINE else pytest.raises(RuntimeError):
        there, here = torch.ones(3, 3, device=device), torch.zeros(3, 3)
        (MIXES | MISSED | FINE)[name](there, here)
