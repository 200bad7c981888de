"""Files of a network: what is in them, what the manifest says, and runs exported by the command line."""

import copy
import hashlib
import json
import re
import shlex
import zlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

import dwfbench
from dwfbench.base import files
from dwfbench.base.errors import UsageError
from dwfbench.deploy import export
from dwfbench.deploy.measure import measure
from dwfbench.deploy.sparsefile import load_sparse
from dwfbench.experiments import estimate
from dwfbench.experiments import stored as restore
from dwfbench.runs.store import Store
from tests.records import changed

LENET = ("--model", "lenet-300-100", "--dataset", "digits")


def small_net():
    """4 pixels, 3 hidden units of which one is not read, 2 outputs; 12 + 6 weights, 5 biases."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    network[3].weight.data[:, 1] = 0
    return network


@pytest.fixture(scope="module")
def samples():
    return torch.randn(40, 1, 2, 2, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def exported(tmp_path_factory, samples):
    """The small network in all forms: its folder and the manifest that was returned."""
    folder = tmp_path_factory.mktemp("export") / "new" / "net"
    labels = torch.arange(40) % 2
    return folder, export.export(small_net(), samples, folder, labels=labels, facts={"run": "x"})


@pytest.mark.slow
def test_the_files_hold_the_network(exported, samples):
    folder, _ = exported
    network = small_net()
    expected = network(samples).detach().numpy()
    for state in (load_file(folder / "model.safetensors"), load_sparse(folder / "model.sparse.safetensors")):
        assert state.keys() == network.state_dict().keys()
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())
    for name in ("model.onnx", "compact.onnx"):
        session = onnxruntime.InferenceSession(folder / name)
        for count in (1, 3, 40):
            (outputs,) = session.run(None, {"images": samples[:count].numpy()})
            assert np.allclose(outputs, expected[:count], atol=1e-5)
    program = torch.export.load(folder / "compact.pt2").module()
    assert np.allclose(program(samples).detach().numpy(), expected, atol=1e-5)
    assert load_file(folder / "compact.safetensors")["1.weight"].shape == (2, 4)
    assert load_file(folder / "compact.safetensors")["3.weight"].shape == (2, 2)


def test_the_manifest_is_true(exported, samples):
    folder, manifest = exported
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert manifest["run"] == "x"
    assert manifest["macs"] == {"dense": 18, "sparse": 16, "compact": 12}
    assert manifest["parameters"] == {"dense": 23, "nonzero": 21, "compact": 16}
    assert manifest["layers"] == [
        {"name": "1.weight", "shape": [3, 4], "compact_shape": [2, 4]},
        {"name": "3.weight", "shape": [2, 3], "compact_shape": [2, 2]},
    ]
    correct = (small_net()(samples).argmax(1) == torch.arange(40) % 2).sum().item()
    assert manifest["test_accuracy"] == correct / 40
    assert {check["test_accuracy"] for check in manifest["checks"]} == {correct / 40}
    assert all(check["max_abs_difference"] <= check["tolerance"] < 1e-3 for check in manifest["checks"])
    files = {file["name"]: file for file in manifest["files"]}
    assert {path.name for path in folder.iterdir()} == {*files, "manifest.json", "load.py", "README.md"}
    for name, file in files.items():
        content = (folder / name).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert file["bytes_zlib"] == len(zlib.compress(content, 6))
    assert [path.name for path in folder.parent.iterdir()] == ["net"]


def test_multiplications_are_those_of_the_report_where_a_layer_is_frozen(tmp_path, samples):
    network = small_net()
    network[1].requires_grad_(False)
    report = dwfbench.sparsity_report(network, (1, 2, 2))
    manifest = export.export(network, samples, tmp_path / "net", ["dense", "compact"])
    counted = {"dense": report["macs_dense"], "sparse": report["macs_sparse"]}
    assert manifest["macs"] == counted | {"compact": 4} == {"dense": 6, "sparse": 4, "compact": 4}
    forms = measure(network, samples, batches=(1,), rounds=1)["forms"]
    assert {form: values["macs"] for form, values in forms.items()} == manifest["macs"]


def test_no_sample_gets_into_a_file(tmp_path):
    inputs = torch.randn(5000, 1, 2, 2)
    manifest = export.export(small_net(), inputs, tmp_path / "net", ["compact"])
    assert manifest["test_accuracy"] is None
    assert all(file["bytes"] < inputs.nbytes / 2 for file in manifest["files"])


def test_only_the_forms_that_are_asked_for(tmp_path, samples):
    manifest = export.export(small_net(), samples, tmp_path / "net", ["sparse", "dense"])
    assert [file["name"] for file in manifest["files"]] == ["model.safetensors", "model.sparse.safetensors"]
    assert "compact" not in manifest["macs"]
    assert "onnx" not in manifest["versions"]


def test_what_an_export_that_was_killed_left_is_removed(tmp_path, samples):
    left = tmp_path / f".net.{files.HOST}-{2**22 + 1}.tmp"  # no process has that number
    left.mkdir()
    (left / "model.safetensors").write_bytes(bytes(10))
    export.export(small_net(), samples, tmp_path / "net", ["dense"])
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_a_factorized_network_is_collapsed_in_the_files(tmp_path, samples):
    network = dwfbench.factorize(small_net(), 2, keep_weights=True)
    export.export(network, samples, tmp_path / "net", ["dense", "sparse"])
    for state in (
        load_file(tmp_path / "net/model.safetensors"),
        load_sparse(tmp_path / "net/model.sparse.safetensors"),
    ):
        assert state.keys() == small_net().state_dict().keys()
        assert all(torch.allclose(value, small_net().state_dict()[name]) for name, value in state.items())


def test_wrong_requests(tmp_path, samples):
    with pytest.raises(UsageError, match="no form 'dens'"):
        export.export(small_net(), samples, tmp_path / "net", ["dens"])
    with pytest.raises(UsageError, match="no sample"):
        export.export(small_net(), samples[:0], tmp_path / "net")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis").touch()
    for taken in (tmp_path / "full", tmp_path / "full" / "thesis"):
        with pytest.raises(UsageError, match="exists already"):
            export.export(small_net(), samples, taken, ["dense"])
    assert (tmp_path / "full" / "thesis").exists()


class CountsItsSamples(nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.zeros(len(x), 1)


def test_code_that_fixes_the_number_of_samples_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"makes a constant of the number, as len\(x\)"):
        export.export(CountsItsSamples(4, 3), torch.randn(5, 4), tmp_path / "out", ["compact"])
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(tmp_path, samples, monkeypatch):
    monkeypatch.setattr(export, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(UsageError, match=r"package no_such_package: pip install 'dwfbench\[export\]'"):
        export.export(small_net(), samples, tmp_path / "net")
    assert not list(tmp_path.iterdir())
    export.export(small_net(), samples, tmp_path / "net", ["dense", "compact"])


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [1e-3, float("nan")])
def test_a_form_with_other_outputs_is_not_written(tmp_path, samples, monkeypatch, wrong):
    def spoilt(network, input_shape):
        smaller = copy.deepcopy(network)
        smaller[3].bias[0] += wrong
        return smaller

    monkeypatch.setattr(export, "compact", spoilt)
    with pytest.raises(UsageError, match=r"compact.pt2 differ"):
        export.export(small_net(), samples, tmp_path / "net", ["dense", "compact"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__.startswith("2.7."), reason="torch 2.7 cannot export torchvision's ViT to ONNX")
def test_a_factorized_network_of_torchvision(tmp_path, digits):
    """A stock vision transformer, factorized, trained on real images, collapsed, and run by another library."""
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    shape = {"image_size": 16, "patch_size": 4, "num_layers": 1, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    network = VisionTransformer(**shape, num_classes=10)
    nn.init.xavier_uniform_(network.heads.head.weight)  # torchvision's is zero, which has no deviation to match
    dwfbench.factorize(network, 2, keep_weights=True)
    images = interpolate(digits.normalize(digits.train.images), 16).repeat(1, 3, 1, 1)
    optimizer = torch.optim.Adam(dwfbench.param_groups(network, 1e-3), lr=3e-3)
    losses = []
    for step in range(100):
        batch = torch.arange(40 * step, 40 * step + 40) % len(images)
        loss = cross_entropy(network(images[batch]), digits.train.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    dwfbench.collapse(network, 0.05)
    manifest = export.export(network, images[:100], tmp_path / "vit", ["onnx", "compact"])
    assert manifest["parameters"]["nonzero"] < manifest["parameters"]["dense"]
    with torch.no_grad():
        expected = network.eval()(images[:7]).numpy()
    assert np.ptp(expected) > 0.1
    for name in ("model.onnx", "compact.onnx"):
        (outputs,) = onnxruntime.InferenceSession(tmp_path / "vit" / name).run(None, {"images": images[:7].numpy()})
        assert np.allclose(outputs, expected, atol=1e-4 * abs(expected).max())


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def kept(run, tmp_path_factory):
    """A results folder with two runs that kept their weights and one that did not."""
    folder = tmp_path_factory.mktemp("kept") / "results"
    assert run(folder, *LENET, "--method", "magnitude", "--compression", "4,8", "--save-model").exit_code == 0
    assert run(folder, *LENET, "--method", "dwf", "--strength", "1e-3").exit_code == 0
    return folder


def of(folder, method):
    return [record for record in Store(folder).load() if record.spec.method == method]


@pytest.mark.slow
def test_a_run_is_exported(kept, call, tmp_path, snapshot):
    record = of(kept, "magnitude")[0]
    before = snapshot(kept)
    to = tmp_path / "net"
    words = ("--to", to, "--results", kept, "--forms", "dense,sparse,compact", "--threads", "1")
    found = call("export", record.id[:11], *words)
    assert found.exit_code == 0, found.stderr
    assert "compact.pt2" in found.stdout
    manifest = json.loads((to / "manifest.json").read_text())
    assert manifest["run"] == record.id
    assert manifest["test_accuracy"] == record.test_accuracy
    assert (manifest["macs"]["dense"], manifest["macs"]["sparse"]) == (record.macs_dense, record.macs_sparse)
    assert manifest["samples"] == 360
    assert len(manifest["normalization"]["mean"]) == 1
    assert snapshot(kept) == before


def test_a_run_is_found_by_its_folder_too(kept):
    record = of(kept, "magnitude")[1]
    by_folder = restore.find(Path("elsewhere"), str(kept / "runs" / record.id))
    assert by_folder.id == restore.find(kept, record.id).id == record.id


def test_without_weights_the_command_says_how_to_get_them(kept, call, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "sentence", lambda *_: "")  # of the time, for which it would train some steps
    record = of(kept, "dwf")[0]
    found = call("export", record.id, "--to", tmp_path / "net", "--results", kept)
    assert found.exit_code == 2
    words = shlex.split(re.search(r"dwfbench (run .*)", found.stderr)[1])
    assert words[-2:] == ["--force", "--save-model"]
    plan = call(*words, "--dry-run")  # the command trains this very run
    assert plan.stdout.count("ok, again") == 1
    assert record.id in plan.stdout


def test_runs_that_are_not_there(kept, call, tmp_path):
    def said(run, results=kept):
        found = call("export", run, "--to", tmp_path / "net", "--results", results)
        assert found.exit_code == 2
        return found.stderr

    assert "no finished run 'zz'" in said("zz")
    assert "'' begins the ids of" in said("")
    assert "no finished run" in said("abc", tmp_path / "nowhere")
    ids = [record.id for record in of(kept, "magnitude") + of(kept, "dwf")]
    shared = {one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1}
    for first in shared:
        assert "give more of it" in said(first)


def test_other_weights_and_other_data_are_refused(kept, tmp_path, digits):
    stored = restore.find(kept, of(kept, "magnitude")[0].id)
    moved = restore.Stored(
        tmp_path, changed(stored.record, provenance={"weights_checksum": None})
    )  # an earlier version
    state = load_file(stored.folder / "model.safetensors")
    from safetensors.torch import save_file

    for content, said in (
        ({**state, "fc1.weight": torch.ones(2, 2)}, "size mismatch"),
        ({name: value for name, value in state.items() if name != "fc2.bias"}, "fc2.bias"),
        ({**state, "fc4.bias": torch.ones(1)}, "fc4.bias"),
    ):
        save_file(content, tmp_path / "model.safetensors")
        with pytest.raises(UsageError, match=said):
            restore.network_of(moved, digits)
    save_file({**state, "fc1.bias": state["fc1.bias"] + 1e-3}, tmp_path / "model.safetensors")
    restore.network_of(moved, digits)
    with pytest.raises(UsageError, match=r"not those that the record is of .* --force --save-model"):
        restore.network_of(restore.Stored(tmp_path, stored.record), digits)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UsageError, match="cannot be loaded"):
        restore.network_of(moved, digits)
    other = changed(stored.record, provenance={"data_checksum": "0" * 16})
    with pytest.raises(UsageError, match="checksums differ"):
        restore.dataset_of(restore.Stored(tmp_path, other), None, None)


OWN = """
from torch import nn

def net(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, classes))
"""


def test_a_network_from_a_file(run, call, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "other.py").write_text(OWN.replace("6", "7").replace("74", "64"))
    results, word = tmp_path / "results", f"{tmp_path}/mine.py:net"
    assert run(results, "--model", word, "--method", "dense", "--save-model").exit_code == 0
    record = of(results, "dense")[0]
    words = ("export", record.id, "--results", results, "--forms", "dense", "--to")
    monkeypatch.setattr(dwfbench.base.plugins, "_taken", {})  # as in a new process
    assert "give the file" in call(*words, tmp_path / "a").stderr
    assert "not of net@" in call(*words, tmp_path / "a", "--model", f"{tmp_path}/other.py:net").stderr
    assert call(*words, tmp_path / "a", "--model", word).exit_code == 0
    assert restore.command(record, results).count("--model path/to/file.py:net") == 1
