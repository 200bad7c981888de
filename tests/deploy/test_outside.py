"""What an export says and does where there is no dwfbench: load.py with PyTorch alone, and the Hub's card."""

import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from dwfbench.deploy import export
from dwfbench.deploy.sparsefile import load_sparse

BLOCKED = "import sys; sys.modules.update(dict.fromkeys(('dwfbench', 'baselines', 'safetensors')))\n"
FACTS = {
    "run": "0123456789ab",
    "dataset": 'pictures: "odd" #1@0123456789ab',
    "model": "net",
    "method": "dwf",
    "label": "dwf D=3 (lr=0.1)",
    "compression": 4.0,
    "normalization": {"mean": [0.5], "std": [0.25]},
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network of which half is zero, with its folder, its uint8 images and their labels."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        network[1].weight[:6] = 0
    images = torch.randint(256, (20, 1, 4, 4), dtype=torch.uint8)
    inputs = (images.float() / 255 - 0.5) / 0.25
    folder = tmp_path_factory.mktemp("outside") / "net"
    labels = torch.zeros(20, dtype=torch.int64)
    export.export(network, inputs, folder, ["dense", "sparse", "compact"], labels, FACTS)
    torch.save({"images": images, "logits": network(inputs).detach()}, folder.parent / "expected.pt")
    return folder


def alone(folder, script):
    """A script in a process that has no dwfbench."""
    words = [sys.executable, "-c", BLOCKED + script]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_load_py_checks_the_files_and_runs_the_network_without_dwfbench(exported):
    said = alone(exported, "import runpy; runpy.run_path('load.py', run_name='__main__')")
    assert "network: images (2, 1, 4, 4) -> logits (2, 3)" in said
    assert "compact.pt2: " in said
    with pytest.raises(AssertionError, match="import of dwfbench halted"):
        alone(exported, "import dwfbench")


def test_its_network_and_weights_are_those_that_were_exported(exported):
    script = (
        "import torch; from load import logits, weights\n"
        "known = torch.load('../expected.pt')\n"
        "torch.testing.assert_close(logits(known['images']), known['logits'])\n"
        "torch.save([weights('model.safetensors'), weights('model.sparse.safetensors')], '../read.pt')\n"
    )
    alone(exported, script)
    for read, expected in zip(
        torch.load(exported.parent / "read.pt"),
        (load_file(exported / "model.safetensors"), load_sparse(exported / "model.sparse.safetensors")),
        strict=True,
    ):
        assert read.keys() == expected.keys()
        assert all(torch.equal(read[name], expected[name]) for name in expected)


def test_a_file_that_was_changed_is_refused(exported):
    path = exported / "compact.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(AssertionError, match=r"compact\.safetensors is not the file that was exported"):
            alone(exported, "import runpy; runpy.run_path('load.py', run_name='__main__')")
    finally:
        path.write_bytes(content)


def test_the_card_has_the_results_where_the_hub_reads_them(exported):
    text = (exported / "README.md").read_text()
    start, front, body = text.split("---\n", 2)
    head = yaml.safe_load(front)
    assert start == ""
    assert head["pipeline_tag"] == "image-classification"
    assert "dwf" in head["tags"]
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert result["task"]["type"] == "image-classification"
    assert (result["dataset"]["type"], result["dataset"]["split"]) == (FACTS["dataset"], "test")
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    correct = (torch.load(exported.parent / "expected.pt")["logits"].argmax(1) == 0).float().mean().item()
    assert values == {"accuracy": pytest.approx(correct), "compression_ratio": 4.0}
    assert "python load.py" in body
    assert all(name in body for name in ("model.safetensors", "compact.pt2", "0123456789ab"))


def test_without_labels_and_facts_the_card_claims_no_result(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    export.export(network, torch.zeros(3, 1, 2, 2), tmp_path / "net", ["dense"])
    text = (tmp_path / "net" / "README.md").read_text()
    assert "model-index" not in yaml.safe_load(text.split("---\n", 2)[1])
    assert "classified correctly" not in text
