"""Every network of the zoo, through the library and through every method: trained right, or refused before training."""

import json
import math
import subprocess
import sys
from collections import Counter

import pytest
import torch

import dwfbench
from dwfbench import models
from dwfbench.base.errors import UsageError
from dwfbench.deploy.export import export
from dwfbench.deploy.measure import measure
from dwfbench.dwf.plain import duplicate
from dwfbench.execution.worker import Engine, Task, Worker
from dwfbench.experiments import plan
from dwfbench.methods.registry import create
from dwfbench.models.own import unwrapped
from dwfbench.models.prunable import prunable
from dwfbench.runs.spec import RunSpec
from dwfbench.sparsity.masks import kept
from dwfbench.training.loop import Trainer
from tests.silent import Silent
from tests.training.test_loop import SHAPE, tiny_data, trained
from tests.zoo.networks import RANDOM, REFUSED, TRAINED

METHODS = (
    *("dense", "dwf", "spred", "l1", "str", "magnitude", "lamp", "powerprop", "gmp", "random", "snip", "grasp"),
    *(("synflow", {"rounds": 3}), ("ratios", {"of": "snip"}), ("imp", {"rounds": 1}), "rigl", "set"),
    *(("magnitude", {"at": "init"}), ("dwf", {"group": "channel"}), ("l1", {"proximal": True})),
)
SHARE = 7
"""One of so many methods trains a network where not all do."""

CLASSES = 3
CHANCE = Counter(tiny_data().test.labels.tolist()).most_common(1)[0][1] / 23
"""The share of the largest class of the test set, whatever layer of a network comes last."""


def named(network):
    return f"tests.zoo.networks:{network}"


@pytest.fixture(scope="module")
def data():
    return tiny_data()


# ---------------------------------------------------------------- refused


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", REFUSED)
def test_a_network_that_cannot_be_trained_right_is_refused_when_a_command_is_planned(network, data):
    flags = {"methods": ["dwf", "snip"], "model": named(network), "epochs": 2, "batch_size": 16, "compression": [2.0]}
    with pytest.raises(UsageError, match=REFUSED[network][1]) as caught:
        [plan.curve(request, data) for request in plan.requests([], flags)]
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_a_refusal_is_a_sentence_and_exit_code_2(call, tmp_path):
    result = call("run", "--model", named("dict_outputs"), "--method", "snip", "--results", tmp_path / "results")
    assert result.exit_code == 2
    assert "returns a dict in eval mode" in result.stderr
    assert not (tmp_path / "results").exists()


# ---------------------------------------------------------------- trained


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", sorted(set(TRAINED) - RANDOM))
def test_dense_training_is_that_of_an_ordinary_loop(network, data):
    idle = ("unused_layer", "several_heads", "backbone_without_gradients")  # torch decays no weight without gradient
    decay = 0.0 if network in idle else 0.01
    one = RunSpec(method="dense", model=named(network), epochs=2, batch_size=16, lr=0.05, weight_decay=decay)
    (lane,) = Trainer(one, create("dense", {}), data).train([one])
    plain = models.build(one.model, SHAPE, CLASSES, one.seed)
    weights = prunable(plain)
    rest = [value for name, value in plain.named_parameters() if value.requires_grad and name not in weights]
    groups = [{"params": list(weights.values()), "weight_decay": one.weight_decay}, {"params": rest}]
    trained(plain, torch.optim.SGD(groups, lr=one.lr, momentum=one.momentum), one, data)
    tensors = {**dict(plain.named_parameters()), **dict(plain.named_buffers())}
    assert set(lane.state) == set(tensors)
    for name, value in tensors.items():
        torch.testing.assert_close(lane.state[name], value.detach(), rtol=1e-4, atol=1e-5)


def results(methods, network, data, lanes=1, **flags):
    """The records of all methods and of what became of them."""
    settings = {"model": named(network), "epochs": 4, "batch_size": 16, "lr": 0.05, "strength": [1e-3], **flags}
    entries = [(entry, {}) if isinstance(entry, str) else entry for entry in methods]
    bound = [(name, {**own, **({} if knob(name) == "strength" else {"compression": [2.0]})}) for name, own in entries]
    if not any(create(name, {}).knob == "strength" for name, _ in bound):
        settings["strength"] = None
    worker = Worker(data, Engine(torch.device("cpu"), 1, save_model=True))
    for request in plan.requests([], {**settings, "methods": bound}):
        curve = plan.curve(request, data)
        yield from worker.train(Task(curve.method, curve.specs, lanes, False), Silent())


def knob(name):
    return {"dense": "strength"}.get(name, create(name, {}).knob)


def check_result(result, network, data):
    """A run of the network that ended well: counted right, and frozen what is frozen."""
    record = result.record
    assert record.status == "ok", (record.label, record.error)
    initial = models.build(named(network), SHAPE, CLASSES, 0, record.spec.prune_embeddings)
    weights = prunable(initial)
    assert [layer.name for layer in record.layers] == list(weights)
    assert record.numel == sum(weight.numel() for weight in weights.values())
    assert record.nnz == sum(int(result.state[name].count_nonzero()) for name in weights)
    assert record.test_accuracy is not None
    assert record.chance == CHANCE
    if record.knob == "compression":
        assert record.nnz <= kept(record.numel, 2.0)
    for name, value in initial.named_parameters():
        if not value.requires_grad:
            assert torch.equal(result.state[name], value), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", TRAINED)
def test_every_method_trains_it(network, data, pytestconfig):
    """Each network by a few of the methods, other ones than its neighbours in the list; with --faults by all."""
    grouped = network in ("transposed_convolution", "grouped_and_depthwise")
    methods = [entry for entry in METHODS if not (grouped and entry == ("dwf", {"group": "channel"}))]
    if not pytestconfig.getoption("--faults"):
        methods = methods[list(TRAINED).index(network) % SHARE :: SHARE]
    found = list(results(methods, network, data))
    assert len(found) == len(methods)
    for result in found:
        check_result(result, network, data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", TRAINED)
def test_several_at_once_or_one_by_one(network, data):
    found = list(results(["dwf"], network, data, lanes=3, strength=[1e-4, 1e-3, 1e-2]))
    assert len(found) == 3
    for result in found:
        check_result(result, network, data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", ["embedded_positions", "embedded_pixels", "bag_of_pixels", "tied_embedding"])
def test_embeddings_are_pruned_where_they_are_chosen(network, data):
    refusing = [("dwf", {"group": "channel"})]
    if network == "bag_of_pixels":
        refusing.append("grasp")  # EmbeddingBag has no second derivative
    methods = [entry for entry in METHODS if entry not in refusing]
    for result in results(methods, network, data, prune_embeddings=True):
        check_result(result, network, data)
        assert {"table.weight", "a.weight"} & {layer.name for layer in result.record.layers}


# ---------------------------------------------------------------- the library


def refusal(action, *args):
    """What a call says that refuses; nothing where it does not."""
    try:
        action(*args)
    except UsageError as error:
        return str(error)
    return ""


def made(network):
    torch.manual_seed(0)
    return unwrapped((TRAINED.get(network) or REFUSED[network][0])(SHAPE, CLASSES))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", TRAINED)
def test_the_library_factorizes_trains_collapses_counts_and_exports_it(network, tmp_path):
    model = made(network)
    inputs = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    model.eval()(inputs.clone())  # lazy layers get their shapes
    numel = sum(weight.numel() for weight in prunable(model).values())
    expected = model(inputs.clone())
    dwfbench.factorize(model, 3, keep_weights=True)
    torch.testing.assert_close(model(inputs.clone()), expected, rtol=1e-4, atol=1e-5)
    optimizer = torch.optim.SGD(dwfbench.param_groups(model.train(), 1e-3), lr=0.01)
    model(inputs.clone()).square().sum().backward()
    optimizer.step()
    if network != "holds_a_lock":
        duplicate(model)
    assert dwfbench.misalignment(model) >= 0
    dwfbench.collapse(model.eval())
    report = dwfbench.sparsity_report(model, SHAPE)
    assert report["numel"] == numel
    assert report["connected"] in (True, None) or network == "zero_classifier"  # whose factors stay zero if kept
    assert (report["connected"] is None) == any(note.startswith("paths unknown") for note in report["notes"])
    assert report["effective_compression"] is None or report["effective_compression"] >= 1
    said = refusal(export, model, inputs, tmp_path / "out", ("dense", "sparse"))
    reasons = dict.fromkeys(("double", "double_outputs", "frozen_half"), "same dtype")  # files are in float32
    reasons["holds_a_lock"] = "cannot be copied"
    assert reasons.get(network, "") in said
    assert bool(said) == (network in reasons), said
    if not said:
        manifest = json.loads((tmp_path / "out/manifest.json").read_text())
        assert [layer["name"] for layer in manifest["layers"]] == [layer["name"] for layer in report["layers"]]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", TRAINED)
def test_there_is_advice_on_it(network):
    model = made(network)
    model.eval()(torch.randn(5, *SHAPE))
    before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    for keep in (False, True):
        advice = dwfbench.suggest(model, 1000, 0.1, keep_weights=keep)
        assert 0 < advice.strengths[0] < advice.strengths[1] < math.inf
        assert all(math.isfinite(speed) for speed in advice.speed.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if name in before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", TRAINED)
def test_its_forms_are_measured_or_it_is_refused(network):
    model, inputs = made(network), torch.randn(5, *SHAPE)
    model.eval()(inputs.clone())
    assert "\n" not in refusal(measure, model, inputs, None, [1], 1)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("network", ["attention", "fused_attention", "lstm"])
def test_a_command_shows_no_warning_of_torch(network, tmp_path):
    words = ("run", "--model", named(network), "--method", "dwf", "--strength", "1e-4,1e-3", "--lanes", "2")
    few = ("--epochs", "1", "--threads", "1", "--compile", "off", "--results", tmp_path)
    done = subprocess.run([sys.executable, "-m", "dwfbench", *words, *few], capture_output=True, text=True)
    assert "2 runs" in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", sorted(set(REFUSED) - {"no_module", "raises"}))
def test_the_library_takes_what_commands_refuse_or_says_why_not(network, tmp_path):

    def called(model):
        if network not in ("for_one_batch_size", "inference_inside"):  # which fail whatever is done to them
            model(torch.randn(2, *SHAPE))

    calls = {
        "report": lambda model: dwfbench.sparsity_report(model, SHAPE),
        "factorize": lambda model: called(dwfbench.factorize(model, 2)),
        "export": lambda model: export(model, torch.randn(4, *SHAPE), tmp_path / "out", ("dense", "sparse")),
    }
    for name, action in calls.items():
        model = made(network)
        if network == "fails_while_training":
            model.eval()
        assert "\n" not in refusal(action, model), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", sorted(set(TRAINED) - {"holds_a_lock"}))
def test_the_compact_form_is_the_network_or_refused(network, tmp_path):
    model = made(network)
    inputs = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    model.eval()(inputs.clone())
    with torch.no_grad():
        for weight in prunable(model).values():
            weight[: math.ceil(len(weight) / 3)] = 0
    assert "\n" not in refusal(export, model, inputs, tmp_path / "out", ("compact",))


def test_the_zoo_is_large():
    assert len(TRAINED) >= 60
    assert len(REFUSED) >= 30
