"""The one command for a GPU: limits that end cleanly, what is stored and gone on from, the pack, and a rehearsal."""

import gzip
import io
import json
import random
import struct
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.cuda import Case
from benchmarks.gpu import checks, curves, limits, pack, rehearsal, speed
from benchmarks.timing import Measured, Row
from dwfbench.base.errors import UsageError
from dwfbench.runs.spec import read_toml

# ---------------------------------------------------------------- limits

WAITS = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, {handler})
print("stored", flush=True)
pathlib.Path(sys.argv[1]).touch()
while True:
    time.sleep(0.05)
"""


def test_a_command_has_its_exit_code_and_its_output_is_kept(tmp_path, capsys):
    code = limits.run([sys.executable, "-c", "print('words'); raise SystemExit(3)"], 60, tmp_path / "log")
    assert (code, (tmp_path / "log").read_text(), capsys.readouterr().out) == (3, "words\n", "words\n")


@pytest.mark.parametrize("handler", ["lambda *_: sys.exit(0)", "signal.SIG_IGN"], ids=["obeys", "does not listen"])
def test_a_command_is_stopped_at_its_limit_and_what_it_said_stays(tmp_path, handler):
    words = [sys.executable, "-c", WAITS.format(handler=handler), tmp_path / "there"]
    assert limits.run(words, 3, tmp_path / "log", grace=0.5) is None
    assert (tmp_path / "log").read_text() == "stored\n"


def test_something_is_done_meanwhile(tmp_path):
    words = [
        sys.executable,
        "-c",
        f"import os, time\nwhile not os.path.exists({str(tmp_path / 'done')!r}): time.sleep(0.01)",
    ]
    assert limits.run(words, 60, tmp_path / "log", (tmp_path / "done").touch, every=0.1) == 0


def test_a_stage_without_time_is_over_at_once(tmp_path):
    words = [sys.executable, "-c", WAITS.format(handler="signal.SIG_IGN"), tmp_path / "started"]
    assert limits.run(words, 0, tmp_path / "log", grace=0) is None
    assert limits.Clock(0).seconds_left == 0


# ---------------------------------------------------------------- rows


class Options:
    """As much of `timing.Options` as storing rows needs."""

    def __init__(self, **machine):
        self.of = machine

    def machine(self):
        return self.of


def case(name, *values):
    """A case whose measurements give these values in turn; an exception is raised."""
    left = list(values)

    def measure(options):
        value = left.pop(0)
        if isinstance(value, Exception):
            raise value
        return [Measured(value, value, value)]

    return Case(((name, "x", ">= 2"),), measure)


def stored(path):
    return {row["name"]: (row["value"], row["note"]) for row in json.loads(path.read_text())["rows"]}


def test_rows_are_stored_as_they_come_and_not_measured_again(tmp_path):
    path, here = tmp_path / "speed.json", Options(device="H1")
    cases = [case("a", 1.0), case("b", KeyError("first"), 3.0)]
    speed.measure(cases, here, path)
    assert stored(path) == {"a": (1.0, ""), "b": (None, "not measured: KeyError: 'first'")}
    speed.measure(cases, here, path)  # a second measurement of a would find nothing left
    assert stored(path) == {"a": (1.0, ""), "b": (3.0, "")}
    text = path.with_suffix(".txt").read_text()
    assert text.startswith("device H1\n")
    assert "MISSED" in text


def test_what_stops_in_the_middle_has_stored_the_rows_before(tmp_path):
    path = tmp_path / "speed.json"
    with pytest.raises(KeyboardInterrupt):
        speed.measure([case("a", 1.0), Case((("b", "x", None),), interrupt)], Options(device="H1"), path)
    assert stored(path) == {"a": (1.0, "")}


def interrupt(options):
    raise KeyboardInterrupt


def test_rows_of_another_machine_are_measured_again(tmp_path):
    path = tmp_path / "speed.json"
    speed.measure([case("a", 1.0)], Options(device="H1"), path)
    speed.measure([case("a", 2.0)], Options(device="H2"), path)
    assert stored(path) == {"a": (2.0, "")}


def test_a_row_is_read_as_it_was_written():
    for row in (Row("a", 1.5, (1.0, 2.0), "s", "< 2", "n"), Row.missing("b"), Row("c", 2.0)):
        assert Row.from_data(json.loads(json.dumps(row.data()))) == row


# ---------------------------------------------------------------- tests


@pytest.mark.parametrize(
    ("attributes", "says", "passed"),
    [
        ('tests="5" failures="0" errors="0" skipped="0"', "5 passed", True),
        ('tests="5" failures="1" errors="1" skipped="0"', "3 passed, 1 failed, 1 with an error", False),
        ('tests="5" failures="0" errors="0" skipped="5"', "0 passed, 5 skipped", False),
        ('tests="0"', "0 passed", False),
        (None, "did not end", False),
    ],
)
def test_what_the_tests_found_is_read_from_their_report(tmp_path, attributes, says, passed):
    report = tmp_path / "checks.xml"
    if attributes is not None:
        report.write_text(f"<testsuites><testsuite {attributes}/></testsuites>")
    assert (checks.summary(report), checks.passed(report)) == (says, passed)


# ---------------------------------------------------------------- curves


def test_what_a_stopped_command_has_stored_is_in_the_archive(tmp_path, run, monkeypatch, call):
    """The command is a script that copies a results folder to where it is told, and waits."""
    assert run(tmp_path / "made", "--method", "dense", "--seeds", "2").exit_code == 0
    script = "import shutil, sys, time; shutil.copytree(*sys.argv[1:3]); time.sleep(1000)"
    words = [sys.executable, "-c", script, tmp_path / "made", tmp_path / "results"]
    monkeypatch.setattr(curves, "NETWORKS", [curves.Network(tmp_path / "set.toml", 1)])
    monkeypatch.setattr(curves, "command", lambda network, place: words)
    place = curves.Place("cpu", 1, tmp_path, tmp_path / "results", tmp_path / "results.zip", tmp_path / "log")
    curves.train(place, limits.Clock(5 / 60), reserve=0)
    there = json.loads(call("list", "runs", "--results", tmp_path / "results.zip", "--format", "json").stdout or "[]")
    assert len(there) == 2


@pytest.mark.parametrize("network", curves.NETWORKS, ids=lambda network: network.config.stem)
def test_the_configurations_have_every_method_that_they_should(network):
    config = read_toml(network.config)
    wanted = {"dense", "dwf", "magnitude", "synflow"}
    more = {"lenet-5": {"spred"}, "lenet-300-100": {"powerprop", "gmp", "rigl", "imp"}}
    if network.config.stem in more:
        wanted |= {"l1", "random", "snip", "grasp"} | more[network.config.stem]
        assert config.get("seeds") == 5 or network.flags.get("seeds") == "5"
    assert set(config["methods"]) == wanted
    assert sorted(config["method"]["dwf"]["depth"]) == [2, 3, 4]


def test_the_archive_beside_a_configuration_is_gone_on_from(tmp_path, run, monkeypatch, call):
    assert run(tmp_path / "made", "--method", "dense", "--seeds", "2").exit_code == 0
    assert call("pack", tmp_path / "made", "-o", tmp_path / "set.zip").exit_code == 0
    monkeypatch.setattr(curves, "NETWORKS", [curves.Network(tmp_path / "set.toml", 1)])
    monkeypatch.setattr(curves, "command", lambda network, place: [sys.executable, "-c", "pass"])
    place = curves.Place("cpu", 1, tmp_path, tmp_path / "results", tmp_path / "results.zip", tmp_path / "log")
    curves.train(place, limits.Clock(1), reserve=0)
    assert len(list((tmp_path / "results" / "runs").iterdir())) == 2


# ---------------------------------------------------------------- the pack and its rehearsal


def write_idx(path, array_of, shape):
    content = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + array_of
    path.write_bytes(gzip.compress(content))


@pytest.fixture
def data(tmp_path):
    """Random images where Fashion-MNIST is looked for, and an archive of random photographs."""
    random.seed(0)
    fashion = tmp_path / "data" / "fashion-mnist"
    fashion.mkdir(parents=True)
    for part, count in (("train", 80), ("t10k", 30)):
        write_idx(fashion / f"{part}-images-idx3-ubyte.gz", random.randbytes(count * 784), (count, 28, 28))
        write_idx(fashion / f"{part}-labels-idx1-ubyte.gz", bytes(i % 10 for i in range(count)), (count,))
    photographs = tmp_path / "photographs.tar.xz"
    with tarfile.open(photographs, "w:xz") as archive:
        for name in (f"{part}/{digit}/{i}.jpg" for part in ("train", "test") for digit in range(10) for i in range(3)):
            picture = io.BytesIO()
            Image.frombytes("RGB", (32, 32), random.randbytes(3072)).save(picture, "JPEG")
            member = tarfile.TarInfo(name)
            member.size = len(picture.getvalue())
            archive.addfile(member, io.BytesIO(picture.getvalue()))
    return tmp_path / "data", photographs


@pytest.mark.long
def test_a_rehearsal_of_the_whole_command_from_a_pack(data, tmp_path, monkeypatch):
    """In this environment, whose other packages refuse to be imported; `make gpu-rehearsal` makes a bare one.

    `rehearse` raises unless every stage of the first call left what it should and the second trained nothing again.
    """
    folder, photographs = data
    monkeypatch.setenv("DWFBENCH_DATA", str(folder))
    parts = pack.put_together(tmp_path / "pack", photographs, "{}.{}".format(*sys.version_info))
    assert parts["all"] == sum(value for name, value in parts.items() if name != "all")
    rehearsal.rehearse(tmp_path / "pack", sys.executable, minutes=30)


def test_a_pack_that_is_too_large_or_lacks_something_is_refused(data, tmp_path, monkeypatch):
    folder, photographs = data
    monkeypatch.setenv("DWFBENCH_DATA", str(folder))
    monkeypatch.setattr(pack, "tree", lambda folder: (folder / "file").write_bytes(b"x" * 100))
    monkeypatch.setattr(pack, "wheels", lambda folder, version: None)
    with pytest.raises(UsageError, match=r"There is no .*nowhere; say where"):
        pack.put_together(tmp_path / "a", tmp_path / "nowhere")
    monkeypatch.setattr(pack, "MOST", 100)
    with pytest.raises(UsageError, match=r"too large to travel: tracked files 0\.0 MiB"):
        pack.put_together(tmp_path / "a", photographs)
    with pytest.raises(UsageError, match="is not empty"):
        pack.put_together(tmp_path / "a", photographs)


def test_packages_to_carry_are_those_that_say_so():
    assert pack.lacking("# a comment # carried\nnumpy==2.0\nmsgspec==0.20.0  # carried\nrich\n") == ["msgspec==0.20.0"]


def test_a_bare_machine_s_packages_are_within_the_ranges_of_the_project():
    import tomllib

    from packaging.requirements import Requirement

    root = Path(__file__).parents[1]
    needed = {
        need.name: need.specifier
        for need in map(Requirement, tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"])
    }
    lines = (root / pack.PACKAGES).read_text().splitlines()
    pinned = [line.partition("#")[0].strip().split("==") for line in lines if "==" in line]
    assert dict(pinned)["torch"] == "2.11.0"
    assert all(needed[name].contains(version) for name, version in pinned if name in needed)
