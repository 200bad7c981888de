"""``dwfbench doctor``: every finding, those of broken environments too, and that nothing is changed by looking."""

import importlib
import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from dwfbench.cli import doctor
from dwfbench.cli.doctor import Finding


@pytest.fixture
def quiet(monkeypatch):
    """A machine on which nothing else runs."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


def only(findings, subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


def blocked(monkeypatch, *names: str) -> None:
    """Make the import of modules fail, as a broken installation does."""
    original = importlib.import_module

    def failing(name, package=None):
        if name in names:
            raise OSError(f"lib{name}.so: cannot open shared object file")
        return original(name, package)

    monkeypatch.setattr(importlib, "import_module", failing)


def with_requirements(monkeypatch, *texts: str) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: list(texts))


# ---------------------------------------------------------------- the command


def test_this_environment_has_no_problem(call, tmp_path, quiet):
    result = call("doctor", "--results", tmp_path, "--format", "json")
    findings = json.loads(result.stdout)
    assert [finding for finding in findings if finding["state"] == "problem"] == []
    assert result.exit_code == 0
    subjects = [finding["subject"] for finding in findings]
    for subject in ("python", "torch", "ray", "threads", "compiler", "data set digits", "results", "plug-ins"):
        assert subject in subjects
    assert all(finding["remedy"] for finding in findings if finding["state"] != "ok")


def test_the_table_has_a_line_a_finding(call, tmp_path):
    lines = call("doctor", "--results", tmp_path).stdout.splitlines()
    assert lines[0].split() == ["finding", "state", "found", "remedy"]
    assert len({line.index(line.split()[1]) for line in lines[:3]}) == 1  # the states stand below each other


def test_a_problem_is_exit_code_1(call, tmp_path):
    (tmp_path / "file").write_text("")
    result = call("doctor", "--results", tmp_path / "file")
    assert result.exit_code == 1
    assert "is no archive of results, or is damaged" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


def test_another_format_is_a_usage_error(call):
    result = call("doctor", "--format", "latex")
    assert result.exit_code == 2
    assert "--format must be one of table, json" in result.stderr


def test_an_examination_that_fails_is_a_finding(monkeypatch, tmp_path):
    def broken():
        raise RuntimeError("no such thing\nat all")

    monkeypatch.setattr(doctor, "python", broken)
    findings = doctor.examine(tmp_path)
    assert only(findings, "python").found == "cannot be examined (RuntimeError: no such thing at all)"
    assert only(findings, "results").state == "ok"  # the others go on


def test_looking_changes_nothing(trained, snapshot, tmp_path, monkeypatch):
    folder = trained[0]
    before = snapshot(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    doctor.examine(folder)
    doctor.examine(tmp_path / "not" / "there")
    assert snapshot(folder) == before
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the installation


def test_an_old_python_is_a_problem(monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.10.13")
    (found,) = doctor.python()
    assert (found.state, found.found) == ("problem", "3.10.13, needed >=3.11")
    assert "3.11 or 3.12 or 3.13" in found.remedy


def test_a_new_python_is_a_warning(monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    (found,) = doctor.python()
    assert (found.state, found.found) == ("warning", "3.99.0, not tested")


def test_packages_outside_their_range_and_absent_ones_are_named(monkeypatch):
    with_requirements(
        monkeypatch,
        *("torch<3,>=2.6", "numpy>=99", "nowhere>=1", 'nobody>=2; extra == "export"', 'ruff>=1; extra == "test"'),
    )
    findings = list(doctor.packages())
    assert only(findings, "torch").state == "ok"
    assert only(findings, "numpy").state == "warning"
    assert only(findings, "numpy").remedy == "pip install 'numpy>=99'"
    assert (only(findings, "nowhere").state, only(findings, "nowhere").found) == ("problem", "not installed")
    assert (only(findings, "nobody").state, only(findings, "nobody").found) == ("ok", "not installed")
    assert "dwfbench[export]" in only(findings, "nobody").remedy
    assert "ruff" not in [finding.subject for finding in findings]


def test_ray_may_be_absent_and_may_be_too_old(monkeypatch):
    installed = {"ray": "2.1.0"}

    def version(name):
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    (found,) = doctor.ray()
    assert (found.state, found.found.partition(",")[0]) == ("warning", "2.1.0")
    installed.clear()
    (found,) = doctor.ray()
    assert (found.state, found.found) == ("ok", "not installed")
    assert "dwfbench[ray]" in found.remedy


def test_a_torch_that_cannot_be_imported_is_named_once(monkeypatch, tmp_path):
    blocked(monkeypatch, "torch")
    findings = doctor.examine(tmp_path)
    found = only(findings, "import torch")
    assert found.state == "problem"
    assert "libtorch.so" in found.found
    assert only(findings, "device").found == "unknown without torch"
    assert "commands" not in [finding.subject for finding in findings]


def test_a_torchvision_of_another_torch_is_named(monkeypatch):
    blocked(monkeypatch, "torchvision")
    (found,) = doctor.commands()
    assert (found.subject, found.state) == ("import torchvision", "problem")
    assert "pip install --upgrade torch torchvision" in found.remedy


def plugin(tmp_path, monkeypatch, group: str, name: str, code: str) -> None:
    """An installed package with one entry point."""
    site = tmp_path / "site"
    info = site / "strange-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = strange_module:Thing\n")
    (site / "strange_module.py").write_text(code)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "strange_module", raising=False)


def test_a_plug_in_that_fails_is_a_warning(monkeypatch, tmp_path):
    plugin(tmp_path, monkeypatch, "dwfbench.methods", "strange", "raise ValueError('not today')")
    findings = list(doctor.plug_ins())
    found = only(findings, "method strange")
    assert found.state == "warning"
    assert "ValueError: not today" in found.found
    assert only(findings, "plug-ins").found == "1 of other packages"


def test_a_plug_in_of_our_name_is_a_warning(monkeypatch, tmp_path):
    plugin(tmp_path, monkeypatch, "dwfbench.methods", "dwf", "Thing = dict")
    found = only(doctor.plug_ins(), "method dwf")
    assert found.state == "warning"
    assert "left out" in found.found


# ---------------------------------------------------------------- the machine


class Cuda:
    """torch.cuda of a machine with one device, or with none."""

    def __init__(self, free: int | None, error: str = ""):
        self.free, self.error = free, error

    def is_available(self):
        return self.free is not None

    def device_count(self):
        return 1

    def get_device_name(self, index):
        return "H1"

    def mem_get_info(self, index):
        if self.error:
            raise RuntimeError(self.error)
        return self.free, 80 << 30

    def init(self):
        raise RuntimeError("The NVIDIA driver on your system is too old")


class Torch:
    """As much of torch as the examination of the device needs."""

    __version__ = "2.9.0"

    def __init__(self, cuda: Cuda, built_with: str | None):
        self.cuda = cuda
        self.version = type("version", (), {"cuda": built_with})

    def ones(self, *_, device):
        import torch

        return torch.ones(1)


def device_with(monkeypatch, cuda: Cuda, built_with: str | None = "13.0", driver: bool = True) -> Finding:
    monkeypatch.setattr(doctor, "torch_or_none", lambda: Torch(cuda, built_with))
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi" if driver else None)
    (found,) = doctor.device()
    return found


def test_a_cuda_device_shows_its_memory(monkeypatch):
    found = device_with(monkeypatch, Cuda(40 << 30))
    assert (found.subject, found.state, found.found) == ("cuda:0", "ok", "H1, 40.0 of 80.0 GiB free")


def test_a_full_device_is_a_warning(monkeypatch):
    assert device_with(monkeypatch, Cuda(1 << 30)).state == "warning"


def test_a_device_that_fails_is_a_problem(monkeypatch):
    found = device_with(monkeypatch, Cuda(40 << 30, "no kernel image is available"))
    assert found.state == "problem"
    assert "no kernel image" in found.found


def test_a_driver_with_a_cpu_build_is_a_warning(monkeypatch):
    found = device_with(monkeypatch, Cuda(None), built_with=None)
    assert found.state == "warning"
    assert "built without CUDA" in found.found


def test_a_driver_that_is_too_old_is_a_warning(monkeypatch):
    found = device_with(monkeypatch, Cuda(None))
    assert found.state == "warning"
    assert "too old" in found.found


def test_threads_beyond_the_cores_are_a_warning(monkeypatch, quiet):
    monkeypatch.setattr(doctor, "cores", lambda: 2)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    (found,) = doctor.threads()
    assert (found.state, found.remedy) == ("warning", "unset OMP_NUM_THREADS, or set it to 2")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    (found,) = doctor.threads()
    assert found.state == "ok"


def test_a_busy_machine_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "cores", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 0.0, 0.0))
    (found,) = doctor.threads()
    assert "1.5 processes" in found.found


def test_no_compiler_is_a_warning(monkeypatch):
    monkeypatch.setattr("dwfbench.training.compile.available", lambda place: False)
    (found,) = doctor.compiler()
    assert found.state == "warning"
    assert "not compiled" in found.remedy


def test_missing_headers_of_python_are_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr("dwfbench.training.compile.available", lambda place: True)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    (found,) = doctor.compiler()
    assert found.state == "warning"
    assert "Python.h is missing" in found.found


# ---------------------------------------------------------------- folders


def test_a_data_set_is_found_where_it_lies(tmp_path):
    folder = tmp_path / "kmnist"
    folder.mkdir()
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte").write_bytes(b"")
    findings = list(doctor.data_sets(tmp_path))
    assert only(findings, "data set kmnist") == Finding("data set kmnist", "ok", f"in {tmp_path}")
    assert only(findings, "data set tiny-imagenet").found == f"absent; would be downloaded into {tmp_path}"
    assert only(findings, "data set digits").found == "in scikit-learn"


def test_a_data_set_that_could_not_be_stored_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    found = only(doctor.data_sets(tmp_path / "file"), "data set tiny-imagenet")
    assert found.state == "warning"
    assert "cannot be written" in found.found


def test_a_cache_that_cannot_be_written_is_a_warning(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (found,) = doctor.cache()
    assert found.state == "warning"
    assert "XDG_CACHE_HOME" in found.remedy


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder_is_a_problem(tmp_path):
    tmp_path.chmod(0o500)
    (found,) = doctor.results_folder(tmp_path / "results")
    tmp_path.chmod(0o700)
    assert found.state == "problem"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody can write")
def test_a_folder_in_which_nobody_can_write_is_a_problem():
    (found,) = doctor.results_folder(Path("/proc/results"))
    assert found.state == "problem"
    assert found.found.startswith("/proc/results cannot be written (")


def test_a_full_disk_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 1 << 20}))
    (found,) = doctor.results_folder(tmp_path)
    assert (found.state, found.found) == ("warning", f"{tmp_path}, 0.0 GiB free")


def test_damaged_records_are_named(tmp_path):
    folder = tmp_path / "runs" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{")
    findings = list(doctor.records(tmp_path))
    assert only(findings, "record").state == "warning"
    assert "0123456789ab" in only(findings, "record").found
    assert only(findings, "records").found.startswith("0 in")


def test_stale_checkpoints_are_named(trained, tmp_path):
    import shutil

    done = sorted((trained[0] / "runs").iterdir())[0]
    shutil.copytree(done, tmp_path / "runs" / done.name)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in (done.name, "old", "fresh"):
        (folder / f"{name}.safetensors").write_bytes(b"0")
    long_ago = time.time() - 30 * 86400
    os.utime(folder / "old.safetensors", (long_ago, long_ago))
    *stale, total = doctor.checkpoints(tmp_path)
    assert [Path(finding.found.split()[0]).stem for finding in stale] == [done.name, "old"]
    assert {finding.state for finding in stale} == {"warning"}
    assert total.found.startswith("1 to go on from")
