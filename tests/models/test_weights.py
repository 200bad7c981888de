"""Trained weights out of files: what is read, what they are called, and what is refused in a sentence."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError
from dwfbench.models import weights
from dwfbench.models.lenet import LeNet300100


def network(hidden=4):
    return nn.Sequential(nn.Linear(6, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 3))


@pytest.fixture(autouse=True)
def nothing_taken(monkeypatch):
    monkeypatch.setattr(plugins, "_taken", {})
    weights.tensors.cache_clear()


@pytest.fixture
def path(tmp_path):
    def written(content, name="w.pt"):
        if name.endswith(".safetensors"):
            save_file(content, tmp_path / name)
        else:
            torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return written


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_both_kinds_of_files_give_the_tensors(path, name):
    torch.manual_seed(0)
    trained, fresh = network(), network()
    known = weights.identity(path(trained.state_dict(), name))
    assert weights.put_into(fresh, known) == []
    for key, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value)


def test_the_name_follows_the_content(path, tmp_path):
    first = weights.identity(path({"0.weight": torch.zeros(4, 6)}))
    assert first == weights.identity(path({"0.weight": torch.zeros(4, 6)}))
    assert first != weights.identity(path({"0.weight": torch.ones(4, 6)}))
    stem, _, digits = first.partition("@")
    assert (stem, len(digits)) == ("w", 12)


@pytest.mark.parametrize("wrapper", weights.WRAPPERS)
def test_names_of_wrapped_networks_are_unwrapped(path, wrapper):
    state = {wrapper + key: value for key, value in network().state_dict().items()}
    assert weights.put_into(network(), weights.identity(path(state))) == []


def test_what_a_module_keeps_beside_its_tensors_is_left_alone(path):
    """``get_extra_state`` may return anything."""

    class Extra(nn.Linear):
        version = 1

        def get_extra_state(self):
            return {"version": self.version}

        def set_extra_state(self, state):
            self.version = state["version"]

    trained, fresh = (nn.Sequential(Extra(6, 4), nn.Linear(4, 3)) for _ in range(2))
    trained[0].version = 2
    assert weights.put_into(fresh, weights.identity(path(trained.state_dict()))) == []
    assert torch.equal(fresh[0].weight, trained[0].weight)
    assert fresh[0].version == 1


def test_what_a_file_lacks_stays_and_is_named(path):
    state = {key: value for key, value in network().state_dict().items() if not key.startswith("2.")}
    fresh = network()
    before = fresh[2].weight.clone()
    assert weights.put_into(fresh, weights.identity(path(state))) == ["2.weight", "2.bias"]
    assert torch.equal(fresh[2].weight, before)


def tied():
    layers = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    layers[2].weight = layers[0].weight
    return layers


def test_any_name_of_a_tied_parameter_gives_it(path):
    """``safetensors.torch.save_model`` writes one of its names, not always the first."""
    state = tied().state_dict()
    value = state.pop("0.weight")
    network = tied()
    assert weights.put_into(network, weights.identity(path(state))) == []
    assert torch.equal(network[0].weight, value)
    state["0.weight"] = value + 1
    with pytest.raises(UsageError, match=r"two values of what is one parameter, 0\.weight and 2\.weight"):
        weights.put_into(network, weights.identity(path(state)))
    assert torch.equal(network[0].weight, value)


def test_another_process_has_the_content(path, monkeypatch):
    known = weights.identity(path(network().state_dict()))
    (file,) = plugins.files()
    monkeypatch.setattr(plugins, "_taken", {})
    weights.tensors.cache_clear()
    with pytest.raises(UsageError, match=r"came from a file.*--init"):
        weights.tensors(known)
    plugins.take(file)
    assert weights.identity(known) == known
    assert set(weights.tensors(known)) == set(network().state_dict())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (network(), "save a plain state dict"),
        ({"state_dict": network().state_dict()}, "no plain state dict.*but has state_dict"),
        ({}, "no plain state dict"),
        ([torch.ones(2)], "no plain state dict"),
    ],
)
def test_what_is_no_state_dict_is_refused(path, content, said):
    with pytest.raises(UsageError, match=said):
        weights.identity(path(content))


def test_damaged_and_absent_files_are_refused(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"PK\x03\x04 and nothing else")
    (tmp_path / "w.safetensors").write_bytes(b"\x10" + bytes(7) + b"{ no header    ")
    for name, said in (("w.pt", "cannot be read"), ("w.safetensors", "cannot be read"), ("v.pt", "No such file")):
        with pytest.raises(UsageError, match=said):
            weights.identity(str(tmp_path / name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"extra.weight": torch.ones(2, 2)}, r"have extra\.weight, which the network does not"),
        ({"0.weight": torch.ones(5, 6)}, r"0\.weight of shape \(5, 6\), but the network's is \(4, 6\)"),
        ({"0.weight": torch.full((4, 6), float("nan"))}, r"infinite or NaN in 0\.weight"),
        ({"1.bias": torch.full((4,), float("inf"))}, r"infinite or NaN in 1\.bias"),
        ({"1.running_var": torch.full((4,), float("nan"))}, r"infinite or NaN in 1\.running_var"),
    ],
)
def test_names_shapes_and_numbers_that_do_not_fit_are_refused(path, change, said):
    known = weights.identity(path(network().state_dict() | change))
    with pytest.raises(UsageError, match=said):
        weights.put_into(network(), known)


def test_a_buffer_may_be_infinite(path):
    def masked():
        net = network()
        net.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(4))
        return net

    assert weights.put_into(masked(), weights.identity(path(masked().state_dict()))) == []


def test_a_file_of_biases_is_no_start(path):
    known = weights.identity(path({"0.bias": torch.ones(4)}))
    with pytest.raises(UsageError, match="nothing to prune"):
        weights.put_into(network(), known)


def test_a_sparse_network_is_a_start_for_methods_with_a_strength_and_for_suggest(path, call, tmp_path):
    torch.manual_seed(0)
    network = LeNet300100((1, 8, 8), 10)
    for layer in (network.fc1, network.fc2, network.fc3):
        layer.weight.data *= torch.rand(layer.weight.shape) < 0.05
    file = path(network.state_dict())
    few = ("--epochs", "1", "--threads", "1", "--compile", "off", "--results", tmp_path / "results")
    for knob in (("--strength", "1e-3"), ("--points", "2")):
        result = call("run", "--init", file, "--method", "dwf,spred,str", *knob, "--dry-run", *few)
        assert result.exit_code == 0, result.stderr
    result = call("suggest", "--init", file, "--lr", "0.1", "--epochs", "2")
    assert result.exit_code == 0, result.stderr
    assert "the decay budget is below 6" in result.stdout  # that of a weight of ordinary size
