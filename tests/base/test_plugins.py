"""What others add: packages found by their entry points, single files, and the page that shows how."""

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import grad

from dwfbench import models
from dwfbench.base import plugins
from dwfbench.base.errors import UsageError
from dwfbench.base.machine import cores
from dwfbench.cli import options, train
from dwfbench.data import dataset, readers
from dwfbench.data.readers import Source, foreign
from dwfbench.methods import registry
from dwfbench.methods.contract import Method
from dwfbench.runs.store import Store
from tests.conftest import SMALL

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "dwfbench-hoyer"
PAGE = (ROOT / "docs" / "adding-a-method.md").read_text(encoding="utf-8")
ONE_THREAD = ("--compile", "off", "--threads", "1", "--device", "cpu")

CUT = """
from dataclasses import dataclass
from typing import ClassVar
from dwfbench.method import Method, option

@dataclass(frozen=True)
class Cut(Method):
    name: ClassVar[str] = "cut"
    knob: ClassVar[str] = "compression"
    summary: ClassVar[str] = "keeps the weights of largest index"
    source: ClassVar[str] = "nobody 2020"
    odd: bool = option(False, "another set of weights")

    def scores(self, moment):
        return {name: weight.detach().flatten().argsort().view_as(weight) / weight.numel()
                for name, weight in moment.weights.items()}
"""

NET = """
import torch
from torch import nn

def net(input_shape, classes):
    '''One linear layer.

    Source: somebody 2021.
    '''
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(input_shape).numel(), classes))
"""

SET = """
import numpy as np
import torch
from dwfbench.data import Source

def read(places):
    '''Stripes, 1x4x4, 2 classes.'''
    labels = torch.arange(400) % 2
    images = (labels.view(-1, 1, 1, 1) * 200).expand(400, 1, 4, 4).to(torch.uint8)
    return Source(images[:300], labels[:300], images[300:], labels[300:].to(torch.int32), classes=2)
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """Nothing told or taken yet, and the current directory an empty one."""
    monkeypatch.setattr(plugins, "_told", set())
    monkeypatch.setattr(plugins, "_taken", {})
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith(("dwfbench_file_", "foreign_"))]:
        del sys.modules[name]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package: ``install("foreign-x", code, methods={"name": "Object"})``; its module is foreign_x."""

    def install(package, code, version="0.1", **groups):
        module = package.replace("-", "_")
        folder = tmp_path / "site" / package
        facts = folder / f"{module}-{version}.dist-info"
        facts.mkdir(parents=True)
        (folder / f"{module}.py").write_text(code)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        lines = []
        for group, points in groups.items():
            lines += [f"[dwfbench.{group}]", *(f"{name} = {module}:{target}" for name, target in points.items())]
        (facts / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(folder)

    return install


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """The folder into which pip has installed the example, without a network."""
    target = tmp_path_factory.mktemp("example")
    words = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    source = shutil.copytree(EXAMPLE, target / "source")  # so that no build leaves anything in the repository
    command = [sys.executable, "-m", "pip", "install", *words, "--target", target / "site", source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target / "site"


def names_of(result):
    assert result.exit_code == 0, result.stderr
    return {row["name"]: row for row in json.loads(result.stdout)}


# ---------------------------------------------------------------- the page and the example


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_the_files_of_the_example():
    assert blocks("python")[0] == (EXAMPLE / "dwfbench_hoyer.py").read_text(encoding="utf-8")
    assert blocks("toml")[0] == (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")
    assert len(blocks("python")[0].splitlines()) < 50


def test_the_page_describes_every_hook_with_its_arguments():
    told = dict(re.findall(r"^\| `(\w+)\(([\w, ]*)\)`", PAGE, re.MULTILINE))
    own = {"label", "changed"}  # not asked of a new method
    hooks = {name: item for name, item in vars(Method).items() if inspect.isfunction(item) and name[0] != "_"}
    arguments_of = {name: ", ".join(list(inspect.signature(item).parameters)[1:]) for name, item in hooks.items()}
    assert told == {name: words for name, words in arguments_of.items() if name not in own}


@pytest.mark.slow
def test_every_command_of_the_page_works_and_the_example_is_a_method_like_ours(call, example, monkeypatch, tmp_path):
    (tmp_path / "dwfbench_hoyer.py").write_text(blocks("python")[0])
    monkeypatch.setenv("EPOCHS", "2")
    done = []
    for line in "".join(blocks("sh")).splitlines():
        program, *words = shlex.split(os.path.expandvars(line))
        if program == "pip":
            assert words == ["install", "./dwfbench-hoyer"]
            monkeypatch.syspath_prepend(example)
            continue
        few = (*ONE_THREAD, "--max-runs", "2", "--batch-size", "256") if words[0] in ("run", "tune") else ()
        result = call(*words, *few)
        # So few epochs and runs leave DWF no accuracy, and no target is reached.
        assert result.exit_code in ((0, 1) if words[0] in ("run", "tune") else (0,)), (line, result.stderr)
        assert "unexpected failure" not in result.stderr
        done.append((words, result))
    expected = "run compare plot, list run compare plot, tune run plot".replace(",", "").split()
    assert [words[0] for words, _ in done] == expected
    assert {"quick.png", "hoyer.png", "tuned.png"} <= {path.name for path in tmp_path.iterdir()}
    quick, by_name = done[1][1].stdout, done[5][1].stdout
    assert "Hoyer " in quick
    assert re.search(r"^digits +lenet-300-100 +hoyer +2 ", by_name, re.MULTILINE)
    assert "Hoyer" not in by_name
    assert "hoyer" in done[3][1].stdout
    assert "--threshold: final threshold on |w|" in done[3][1].stdout

    # A file and a package of one content differ in name only: same numbers, for it draws nothing at random.
    found = {"Hoyer": [], "hoyer": []}
    for record in Store("results").load():
        if record.label.lower() == "hoyer":
            found[record.label].append((record.spec.strength, record.compression, record.test_accuracy))
            installed = record.provenance.versions.get("dwfbench-hoyer")
            assert installed == ("0.1" if record.label == "hoyer" else None)
    assert len(found["hoyer"]) == 2
    assert sorted(found["Hoyer"]) == sorted(found["hoyer"])


def test_the_network_and_the_data_of_the_page_work(install, call):
    code = blocks("python")[1]
    install("foreign-page", code, models={"my-net": "my_net"}, datasets={"my-data": "my_data"})
    result = call("run", *SMALL, "--method", "dense", "--model", "my-net", "--dataset", "my-data")
    assert result.exit_code == 1
    assert "no better than chance" in result.stderr, "its labels are drawn at random"
    assert "where the network comes from" in call("list", "models").stdout


def test_hoyer_by_hand(example, monkeypatch):
    monkeypatch.syspath_prepend(example)
    hoyer = registry.create("hoyer", {})
    weights = {"a": torch.tensor([[3.0, -4.0]], dtype=torch.float64)}
    assert hoyer.norm(weights) == pytest.approx(49 / 25)
    assert hoyer.norm({"one": torch.tensor([0.0, 7.0])}) == 1  # a single weight: as sparse as can be
    # s = 7 / 25; 2 s (sign(w) - s w): 14/25 (1 - 21/25) and 14/25 (-1 + 28/25)
    hand = torch.tensor([[14 / 25 * 4 / 25, 14 / 25 * 3 / 25]], dtype=torch.float64)
    torch.testing.assert_close(grad(hoyer.penalty)(weights)["a"], hand)
    assert torch.equal(grad(hoyer.penalty)({"w": torch.zeros(4)})["w"], torch.zeros(4))  # a tensor that vanished


# ---------------------------------------------------------------- installed packages


@pytest.mark.slow
def test_a_package_adds_a_method_a_network_and_data(install, call, tmp_path):
    code = CUT + NET + SET
    install("foreign-all", code, "1.2", methods={"cut": "Cut"}, models={"net": "net"}, datasets={"stripes": "read"})
    cut = names_of(call("list", "methods", "--format", "json"))["cut"]
    assert (cut["summary"], cut["options"][0]["flag"]) == ("keeps the weights of largest index", "--odd")
    net = names_of(call("list", "models", "--format", "json"))["net"]
    assert net == {"name": "net", "summary": "One linear layer.", "source": "somebody 2021."}
    stripes = names_of(call("list", "datasets", "--format", "json"))["stripes"]
    assert stripes["summary"] == "Stripes, 1x4x4, 2 classes."
    assert stripes["source"] == "foreign-all 1.2 (foreign_all:read)"

    words = ("--method", "cut", "--odd", "false,true", "--compression", "2,4", "--model", "net", "--dataset", "stripes")
    result = call("run", *SMALL, "--results", "r", *words)
    assert result.exit_code == 0, result.stderr
    records = Store("r").load()
    assert len(records) == 4
    for record in records:
        assert (record.spec.method, record.spec.model, record.spec.dataset) == (
            "cut",
            "net",
            "stripes",
        )
        assert record.provenance.versions["foreign-all"] == "1.2"
        assert record.numel == 32
        assert record.compression == record.spec.compression
    shown = call("compare", "--results", "r", "--dataset", "stripes", "--method", "cut")
    assert "cut (odd)" in shown.stdout
    assert call("plot", "--results", "r", "--model", "net", "--method", "cut").exit_code == 0
    assert names_of(call("list", "methods", "--format", "json"))["l1"]


def test_the_names_of_packages_are_suggested(install):
    install(
        "foreign-all", CUT + NET + SET, methods={"cut": "Cut"}, models={"my-net": "net"}, datasets={"stripes": "read"}
    )
    with pytest.raises(UsageError, match="did you mean cut"):
        registry.load("cutt")
    with pytest.raises(UsageError, match=r"did you mean my-net.*resnet-20, my-net, or"):
        models.check("my-nett")
    with pytest.raises(UsageError, match="did you mean stripes"):
        dataset.load("stripe")
    assert dataset.identity("stripes") == "stripes"


@pytest.mark.parametrize(
    ("role", "group", "name", "target"),
    [
        ("method", "methods", "l1", "Cut"),
        ("model", "models", "lenet-5", "net"),
        ("data set", "datasets", "digits", "read"),
    ],
)
def test_a_name_of_ours_is_not_replaced_but_the_attempt_is_named(install, call, capsys, role, group, name, target):
    ours = {"method": lambda: registry.load("l1").__module__, "model": lambda: models.build("lenet-5", (1, 8, 8), 3, 0)}
    install("foreign-thief", CUT + NET + SET, **{group: {name: target}})
    sentence = f"The {role} '{name}' of foreign-thief 0.1 (foreign_thief:{target}) is left out: dwfbench has a {role}"
    assert call("list", group).stderr.startswith(sentence)
    plugins._told.clear()
    if role == "method":
        assert ours[role]() == "baselines.l1"
    elif role == "model":
        models.check(name)
        assert type(ours[role]()).__name__ == "LeNet5"
    else:
        assert dataset.load("digits").classes == 10
    assert sentence in capsys.readouterr().err
    assert "foreign_thief" not in sys.modules


def test_two_packages_with_one_name_are_both_left_out(install, call):
    install("foreign-a", CUT, methods={"cut": "Cut"})
    install("foreign-b", CUT, methods={"cut": "Cut"})
    result = call("list", "methods")
    assert result.exit_code == 0
    assert (
        "'cut' is left out: foreign-a 0.1 (foreign_a:Cut) and foreign-b 0.1 (foreign_b:Cut) both have one"
        in result.stderr
    )
    assert "cut" not in registry.installed()
    with pytest.raises(UsageError, match="no method 'cut'"):
        registry.load("cut")


def test_a_name_that_no_flag_could_give_is_left_out(install):
    install("foreign-odd", CUT, methods={"a,b": "Cut", "a@b": "Cut", "fine.name-1": "Cut"})
    usable, refused = plugins.find("method")
    assert {"a,b", "a@b"} == set(refused)
    assert "fine.name-1" in usable


CLASS = """
from dataclasses import dataclass, field
from typing import ClassVar
from dwfbench.method import Method, option
"""
OPTION = "@dataclass(frozen=True)\nclass Bad(Method):\n  name: ClassVar = 'bad'\n  "
FAULTS = {
    "import a_package_that_nobody_has": "ModuleNotFoundError: No module named 'a_package_that_nobody_has'",
    "raise SystemExit('gone')": "SystemExit: gone",
    "1 +": "SyntaxError",
    "": "AttributeError: module 'foreign_bad' has no attribute 'Bad'",
    "Bad = 3": "it must be callable, and not int",
    "class Bad: pass": "it is not a subclass of dwfbench.method.Method",
    "def Bad(): pass": "it is not a subclass of dwfbench.method.Method",
    "class Bad(Method): pass": "its class has the name '' and not 'bad'",
    "class Bad(Method):\n  name = 'l1'": "its class has the name 'l1' and not 'bad'",
    "class Bad(Method):\n  name, knob = 'bad', 'lambda'": "its knob must be 'strength', 'compression' or None",
    "class Bad(Method):\n  name, source = 'bad', None": "its summary and source must be texts",
    "class Bad(Method):\n  name = 'bad'\n  k: int = option(1, '')": "not decorated with @dataclass",
    OPTION + "k: int = 1": "'k' is not made with",
    OPTION + "lr: float = option(1.0, '')": "'lr' has the",
    OPTION + "k: 'int' = option(1, '')": "be annotated",
    OPTION + "k: int = option('x', '')": "with its defaults",
}


@pytest.mark.slow
@pytest.mark.parametrize(("code", "why"), FAULTS.items(), ids=map(str, range(len(FAULTS))))
def test_a_broken_package_is_named_with_the_reason_and_harms_nothing_else(install, call, code, why):
    install("foreign-bad", CLASS + code, methods={"bad": "Bad"})
    install("foreign-good", CUT, methods={"cut": "Cut"})
    result = call("list", "methods", "--format", "json")
    assert {"cut", "dwf", "l1"} <= set(names_of(result))
    assert "bad" not in names_of(result)
    assert result.stderr.startswith("The method 'bad' of foreign-bad 0.1 (foreign_bad:Bad) cannot be used: ")
    assert why in result.stderr
    assert result.stderr.count("\n") == 1
    assert registry.load("cut").name == "cut"
    with pytest.raises(UsageError, match="cannot be used"):
        registry.load("bad")


def test_a_broken_package_is_not_even_imported_by_runs_of_other_methods(install, call):
    install("foreign-bad", "raise RuntimeError", methods={"bad": "Bad"}, models={"bad": "b"}, datasets={"bad": "b"})
    result = call("run", *SMALL, "--method", "dense", "--results", "r")
    assert result.exit_code == 0
    assert "bad" not in result.stderr
    assert call("run", *SMALL, "--method", "bad", "--results", "r").exit_code == 2
    for kind in ("models", "datasets"):
        shown = call("list", kind)
        assert shown.exit_code == 0
        assert "cannot be used: RuntimeError" in shown.stderr
        assert call("list", kind, "--format", "json").stdout.startswith("[")
    with pytest.raises(UsageError, match="RuntimeError"):
        models.build("bad", (1, 4, 4), 2, 0)
    with pytest.raises(UsageError, match="RuntimeError"):
        dataset.load("bad")


def test_a_network_of_a_package_is_checked_like_a_module(install):
    wrong = NET + "\ndef wide(input_shape, classes):\n    return net(input_shape, classes + 1)\n"
    install("foreign-net", wrong, models={"wide": "wide"})
    with pytest.raises(UsageError, match=r"shape \(4, 3\) in eval mode, not \(4, 4\)"):
        models.build("wide", (1, 4, 4), 3, 0)


def test_options_cannot_have_the_names_of_flags():
    flags = set(options.flags()) | {"help"}
    for command in (train.run, train.tune):
        flags |= {name for name in inspect.signature(command).parameters if name != "context"}
    assert set(registry.RESERVED) >= flags


# ---------------------------------------------------------------- data of packages


def images(count, dtype=np.uint8, side=4):
    return np.zeros((count, 1, side, side), dtype)


def labels(*values):
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (None, "it returned NoneType"),
        (Source(images(2), labels(0, 1), images(1), labels(0), classes=1), "at least 2 classes, not 1"),
        (Source(images(2), labels(0, 1), images(1), labels(0), classes="2"), "at least 2 classes, not '2'"),
        (Source(images(2, np.float32), labels(0, 1), images(1), labels(0), 2), "train images are float32"),
        (
            Source(images(2)[:, 0], labels(0, 1), images(1), labels(0), 2),
            r"uint8 \(2, 4, 4\), not uint8 \(N, C, H, W\)",
        ),
        (Source(images(2), labels(0, 1), images(0), labels(), 2), r"test images are uint8 \(0, 1, 4, 4\)"),
        (
            Source(images(2), labels(0, 1, 1), images(1), labels(0), 2),
            r"2 train images have labels of the shape \(3,\)",
        ),
        (Source(images(2), labels(0, 1) / 1, images(1), labels(0), 2), "train labels are float64 and not integers"),
        (Source(images(2), labels(0, 1), images(1), labels(2), 2), "test labels go from 2 to 2, not from 0 to 1"),
        (Source(images(2), labels(-1, 1), images(1), labels(0), 2), "train labels go from -1 to 1"),
        (Source(images(2), labels(0, 1), images(1, side=5), labels(0), 2), "for training but"),
    ],
)
def test_what_can_be_wrong_with_data(source, why):
    assert re.search(why, foreign.fault(source))


def test_data_of_a_package_become_tensors_and_a_failing_reader_is_named(install):
    failing = "\ndef fail(places):\n    raise OSError('no disk')\n\ndef none(places):\n    pass\n"
    install("foreign-data", SET + failing, datasets={"stripes": "read", "fail": "fail", "none": "none"})
    stripes = dataset.load("stripes", val_fraction=0)
    assert stripes.train.images.shape == (300, 1, 4, 4)
    assert stripes.test.labels.dtype == torch.int64
    assert torch.equal(stripes.train.images[:, 0, 0, 0], stripes.train.labels * 200)
    assert dataset.load("stripes", image_size=8).input_shape == (1, 8, 8)
    with pytest.raises(readers.DataError, match="cannot be used: OSError: no disk"):
        dataset.load("fail")
    with pytest.raises(readers.DataError, match="it returned NoneType"):
        dataset.load("none")


# ---------------------------------------------------------------- single files


@pytest.mark.slow
def test_a_method_from_a_file_is_named_after_its_content(call, tmp_path, snapshot):
    file = tmp_path / "mine.py"
    file.write_text(CUT)
    words = ("run", *SMALL, "--results", "r", "--compression", "2,4", "--method", f"{file}:Cut,dense")
    assert call(*words).exit_code == 0
    first = {record.spec.method for record in Store("r").load()}
    assert first == {f"Cut@{plugins.read('method', f'{file}:Cut').digest}", "dense"}

    moved = tmp_path / "elsewhere.py"
    shutil.copy(file, moved)  # the same code: the same runs, which are stored
    before = snapshot("r")
    assert call(*words[:-1], "elsewhere.py:Cut").exit_code == 0
    assert snapshot("r") == before

    file.write_text(CUT + "\n# changed")
    assert call(*words).exit_code == 0
    labels = {record.label for record in Store("r").load()}
    assert labels == {"Cut", "dense"}
    second = {record.spec.method for record in Store("r").load()} - first
    assert len(second) == 1
    shown = call("compare", "--results", "r", "--method", "Cut", "--at", "2")
    for name in (first - {"dense"}) | second:
        assert f"Cut (method={name})" in shown.stdout


@pytest.mark.slow
def test_reading_commands_never_run_the_file(call, tmp_path):
    marker = tmp_path / "was-run"
    file = tmp_path / "mine.py"
    file.write_text(CUT + f"\nopen({str(marker)!r}, 'a').write('x')")
    for words in (
        ("--compression", "2,4,8", "--method", "mine.py:Cut"),
        ("--method", "dense,snip", "--compression", "2"),
    ):
        assert call("run", *SMALL, "--results", "r", *words).exit_code == 0
    assert marker.read_text() == "x"  # once a process
    sys.modules.pop(next(name for name in sys.modules if name.startswith("dwfbench_file_")))
    plugins._taken.clear()
    for words in (("compare", "--method", "Cut"), ("plot", "--method", "Cut"), ("report", "--method", "Cut")):
        assert call(*words, "--results", "r").exit_code == 0
    for words in (("plot", "layers", "--method", "Cut"), ("compare", "--versus", "Cut")):
        assert call(*words, "--results", "r").exit_code == 0
    assert call("list", "methods").exit_code == 0
    name = next(name for name in (one.spec.method for one in Store("r").load()) if "@" in name)
    refused = call("run", *SMALL, "--results", "r", "--method", name)
    assert refused.exit_code == 2
    assert "give the file as path/to/file.py:Cut" in refused.stderr
    assert (
        "runs of methods that are not installed are left out" in call("verify", "--results", "r", "--runs", "9").stderr
    )
    assert marker.read_text() == "x"


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="two jobs need two cores")
def test_worker_processes_know_methods_and_networks_from_files(call, tmp_path, forked_workers):
    (tmp_path / "mine.py").write_text(CUT)
    (tmp_path / "net.py").write_text(NET)
    words = ("--method", "mine.py:Cut", "--model", "net.py:net", "--compression", "2,4", "--lanes", "1")
    result = call("run", "--epochs", "1", "--compile", "off", "--threads", "2", "--jobs", "2", "--results", "r", *words)
    assert result.exit_code == 0, result.stderr
    assert "died" not in result.stderr
    found = Store("r").load()
    assert [record.status for record in found] == ["ok", "ok"]
    assert {record.label for record in found} == {"Cut"}
    assert {record.spec.model.partition("@")[0] for record in found} == {"net"}


def test_options_and_tables_of_config_files_reach_a_method_from_a_file(call, tmp_path):
    (tmp_path / "mine.py").write_text(CUT)
    (tmp_path / "c.toml").write_text(
        'methods = ["mine.py:Cut"]\n["method"."mine.py:Cut"]\nodd = [false, true]\nlr = 0.07\ncompression = [3]\n'
    )
    result = call("run", *SMALL, "--results", "r", "--config", "c.toml", "--allow-code")
    assert result.exit_code == 0, result.stderr
    found = {record.label: record.spec for record in Store("r").load()}
    assert set(found) == {"Cut", "Cut (odd)"}
    assert {(one.lr, one.compression) for one in found.values()} == {(0.07, 3.0)}


@pytest.mark.parametrize(
    ("config", "flag"),
    [
        ('methods = ["dense", "evil.py:Cut"]', "--method evil.py:Cut"),
        ('methods = "evil.py:Cut"', "--method evil.py:Cut"),
        ("[method.'evil.py:Cut']\nlr = 0.1", "--method evil.py:Cut"),
        ("method = {'./evil.py:Cut' = {lr = 0.1}}", "--method ./evil.py:Cut"),
        ('model = "evil.py:net"', "--model evil.py:net"),
        ('model = "evil:net"', "--model evil:net"),
        ('model = "evil.net:net"', "--model evil.net:net"),
    ],
)
@pytest.mark.parametrize("command", ["run", "tune"])
def test_a_config_alone_runs_no_code(call, tmp_path, config, flag, command):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'a')\n{CUT}\n{NET}")
    (tmp_path / "c.toml").write_text(config)
    others = ("--method", "dense") if "--method" not in flag else ("--model", "lenet-5")
    for words in ((), others, ("--method", "other.py:Cut", "--model", "other.py:net")):
        refused = call(command, *SMALL, "--results", "r", "--config", "c.toml", *words)
        assert refused.exit_code == 2
        assert refused.stderr.count("\n") == 1
        assert f"then add {flag} or --allow-code." in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"evil.py", "c.toml"}


@pytest.mark.parametrize("words", [("--allow-code",), ("--method", "mine.py:Cut", "--model", "mine.py:net")])
def test_a_config_runs_the_code_that_the_command_line_names_too(call, tmp_path, words):
    (tmp_path / "mine.py").write_text(f"{CUT}\n{NET}")
    (tmp_path / "c.toml").write_text(
        'model = "mine.py:net"\nmethods = ["mine.py:Cut"]\n[method."mine.py:Cut"]\nlr = 0.07'
    )
    result = call("run", *SMALL, "--results", "r", "--config", "c.toml", "--dry-run", "--compression", "2", *words)
    assert result.exit_code == 0, result.stderr
    assert "Cut" in result.stdout


@pytest.mark.parametrize(
    ("code", "word", "why"),
    [
        (CUT, "absent.py:Cut", "'absent.py:Cut' cannot be read .No such file"),
        (CUT, "mine.py:Other", "mine.py defines no Other"),
        ("1 +", "mine.py:Cut", r"mine.py cannot be loaded \(SyntaxError"),
        ("raise KeyError('x')", "mine.py:Cut", "cannot be loaded .KeyError: 'x'"),
        ("import sys; sys.exit()", "mine.py:Cut", "cannot be loaded .SystemExit"),
        ("from baselines.l1 import L1", "mine.py:L1", "must be a class that the file itself defines"),
        ("Cut = 3", "mine.py:Cut", "must be a class that the file itself defines"),
        ("class Cut: pass", "mine.py:Cut", "cannot be used: it is not a subclass"),
        (CUT.replace("class Cut", "class snip"), "mine.py:snip", "There is a method 'snip' already"),
        (CUT.replace('"compression"', '"force"'), "mine.py:Cut", "its knob must be"),
    ],
)
def test_what_can_be_wrong_with_a_file(tmp_path, code, word, why):
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(UsageError, match=why) as caught:
        registry.load(word)
    assert "\n" not in str(caught.value)
    assert registry.load("l1").name == "l1"


def test_a_network_from_a_file(tmp_path):
    (tmp_path / "net.py").write_text(NET + "\nnumber = 3\n")
    models.check("net.py:net")
    assert not [name for name in sys.modules if name.startswith("dwfbench_file_")]  # a check runs nothing
    name = models.identity("net.py:net")
    assert re.fullmatch("net@[0-9a-f]{12}", name)
    first, same = (models.build(one, (1, 4, 4), 3, seed=0) for one in ("net.py:net", name))
    assert torch.equal(first[1].weight, same[1].weight)
    (tmp_path / "net.py").write_text(NET + "\n")
    assert models.identity("net.py:net") != name
    assert models.identity("lenet-5") == "lenet-5"
    for word, why in (
        ("net.py:absent", "defines no absent"),
        ("none.py:net", "cannot be read"),
        ("x@0", "from a file"),
    ):
        with pytest.raises(UsageError, match=why):
            models.build(word, (1, 4, 4), 3, seed=0)
    (tmp_path / "net.py").write_text(NET + "\nnumber = 3\n")
    with pytest.raises(UsageError, match="no callable named number"):
        models.identity("net.py:number")


def test_help_says_that_files_can_be_given(call):
    shown = re.sub(r"\s+", "", call("run", "--help").stdout)
    assert "path/to/file.py:Class" in shown
    assert "file.py:callable" in shown


@pytest.mark.slow
def test_another_package_called_baselines_is_refused_in_a_sentence(tmp_path):
    """OpenAI's has this name; whichever comes first on the path would be imported."""
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "__init__.py").write_text("raise SystemExit('never imported')")
    words = ["-m", "dwfbench", "run", "--method", "snip", "--epochs", "1", "--results", str(tmp_path / "r")]
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *words], env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert str(tmp_path / "baselines") in done.stderr
    assert done.stderr.count("\n") == 1
