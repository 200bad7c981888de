"""The networks and data of docs/your-network.md, at tiny budgets; its sequences are in data/test_tensors.py."""

import runpy
from pathlib import Path

import pytest
import torch

from dwfbench.models.lenet import LeNet300100
from dwfbench.runs.store import Store

FOLDER = Path(__file__).parents[1] / "examples/your-network"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    make = runpy.run_path(str(FOLDER / "make_images.py"))
    make["main"](folder, 10)
    return folder


def test_the_images_are_folders_of_classes(images):
    assert len(list(images.glob("train/*/*.png"))) == 80
    assert len(list(images.glob("test/*/*.png"))) == 20


def few(folder, *words):
    return ("--results", folder, "--epochs", "1", "--batch-size", "16", "--threads", "1", "--compile", "off", *words)


def test_the_mixer_is_trained_by_adam(images, call, tmp_path):
    words = ("--model", FOLDER / "mixer.py:Mixer", "--dataset", images, "--optimizer", "adam", "--lr", "0.003")
    result = call("run", *words, "--method", "dwf,dense", "--strength", "1e-4", *few(tmp_path))
    assert sorted(record.status for record in Store(tmp_path).load()) == ["ok", "ok"], result.stderr


@pytest.mark.slow
def test_the_resnet_is_trained_and_made_sparse_from_its_weights(images, call, tmp_path):
    network = FOLDER / "resnet.py:Narrow"
    call("run", "--model", network, "--dataset", images, "--method", "dense", "--save-model", *few(tmp_path))
    (weights,) = tmp_path.glob("runs/*/model.safetensors")
    words = ("sparsify", network, "--weights", weights, "--dataset", images, "--to", tmp_path / "small")
    result = call(*words, "--compression", "1.0001", "--rates", "0.2", "--budget", "2", *few(tmp_path))
    assert result.exit_code in (0, 1), result.stderr  # one step makes few networks sparse
    assert len(Store(tmp_path / "sparsify").load()) >= 1


def test_dropout_acts_on_hidden_units_in_training_alone():
    module = runpy.run_path(str(FOLDER / "dropout.py"))
    plain = LeNet300100((1, 28, 28), 10)
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    certain = module["Dropout300100"]((1, 28, 28), 10, p=1.0)
    certain.load_state_dict(plain.state_dict())
    torch.testing.assert_close(certain.eval()(images), plain(images))
    torch.testing.assert_close(certain.train()(images), plain.fc3.bias.expand(5, 10))
    assert [module[f"lenet_dropout_{percent}"]((1, 28, 28), 10).dropout.p for percent in (10, 20)] == [0.1, 0.2]
