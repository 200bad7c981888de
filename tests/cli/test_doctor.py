"""``dwfbench doctor``: every finding, those of broken environments too, and that nothing is changed by looking."""

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import pytest

from dwfbench.cli import doctor
from dwfbench.cli.doctor import Finding


@pytest.fixture
def quiet(monkeypatch):
    """A machine on which nothing else runs."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(os, "getpriority", lambda which, who: 0)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)


def only(findings, subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


# ---------------------------------------------------------------- the command


def test_this_environment_has_no_problem(call, tmp_path, quiet):
    result = call("doctor", "--results", tmp_path, "--format", "json")
    findings = json.loads(result.stdout)
    assert [finding for finding in findings if finding["state"] == "problem"] == []
    assert result.exit_code == 0
    subjects = [finding["subject"] for finding in findings]
    for subject in ("packages", "device", "threads", "compiler", "plug-ins", "data set digits", "results", "records"):
        assert subject in subjects
    assert all(finding["remedy"] for finding in findings if finding["state"] != "ok")


def test_the_table_has_a_line_a_finding(call, tmp_path):
    lines = call("doctor", "--results", tmp_path).stdout.splitlines()
    assert lines[0].split() == ["subject", "state", "found", "remedy"]
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

    monkeypatch.setattr(doctor, "threads", broken)
    findings = doctor.examine(tmp_path)
    assert only(findings, "threads").found == "cannot be examined (RuntimeError: no such thing)"
    assert only(findings, "results").state == "ok"  # the others go on


def test_looking_changes_nothing(run, snapshot, tmp_path, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("results")
    run(folder, "--method", "dense")
    before = snapshot(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    doctor.examine(folder)
    doctor.examine(tmp_path / "not" / "there")
    assert snapshot(folder) == before
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the installation


def test_the_versions_are_one_line_and_what_is_missing_is_named(monkeypatch):
    asked = ["torch<3,>=2.6", "nowhere>=1", 'nobody>=2; extra == "export"', 'ruff>=1; extra == "test"']
    monkeypatch.setattr(metadata, "requires", lambda name: asked)
    missing, versions = doctor.packages()
    assert missing == Finding("nowhere", "problem", "not installed", "pip install nowhere")
    named = dict(text.split() for text in versions.found.split(", "))
    assert named == {name: metadata.version(name) for name in ("dwfbench", "torch")} | {
        "python": platform.python_version()
    }


def test_a_torch_that_cannot_be_imported_is_named_once(monkeypatch, tmp_path):
    def failing(*_):
        raise OSError("libtorch.so: cannot open shared object file")

    for examination in ("import_module", "compiler", "data_sets"):
        monkeypatch.setattr(doctor, examination, failing)
    problems = [finding for finding in doctor.examine(tmp_path) if finding.state == "problem"]
    (found,) = problems
    assert found.found == "cannot be examined (OSError: libtorch.so: cannot open shared object file)"
    assert "pytorch.org" in found.remedy


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
    assert only(findings, "plug-ins").state == "ok"


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
    monkeypatch.setattr(doctor, "import_module", lambda name: Torch(cuda, built_with))
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi" if driver else None)
    (found,) = doctor.device()
    return found


def test_a_cuda_device_shows_its_memory(monkeypatch):
    found = device_with(monkeypatch, Cuda(40 << 30))
    assert (found.subject, found.state, found.found) == ("cuda:0", "ok", "H1, 40.0 of 80.0 GiB free")


def test_a_full_device_is_a_warning(monkeypatch):
    assert device_with(monkeypatch, Cuda(1 << 30)).state == "warning"


def test_a_device_that_fails_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(
        doctor, "import_module", lambda name: Torch(Cuda(40 << 30, "no kernel image is available"), "13.0")
    )
    found = only(doctor.examine(tmp_path), "device")
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
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    (found,) = doctor.threads()
    assert (found.state, found.remedy) == ("warning", "unset OMP_NUM_THREADS=64, or set it to 2")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    (found,) = doctor.threads()
    assert found.state == "ok"


def test_a_busy_machine_is_a_warning_with_the_share_that_is_left(monkeypatch, quiet):
    monkeypatch.setattr(doctor, "cores", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (6.0, 0.0, 0.0))
    (found,) = doctor.threads()
    assert found.state == "warning"
    assert "6.0 processes" in found.found
    assert "about 4.0 times as long as alone" in found.remedy


@pytest.mark.parametrize(
    ("name", "value", "waits"),
    [("OMP_WAIT_POLICY", "active", True), ("OMP_WAIT_POLICY", "passive", False), ("OMP_WAIT_POLICY", None, True),
     ("GOMP_SPINCOUNT", "1000", True), ("KMP_BLOCKTIME", "200", True), ("KMP_BLOCKTIME", "0", False)],
)  # fmt: skip
def test_threads_that_spin_are_a_warning(monkeypatch, quiet, name, value, waits):
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    (found,) = doctor.threads()
    assert (found.state == "warning") == waits
    assert (f"OMP_WAIT_POLICY=PASSIVE ({name}" in found.remedy) == waits


def test_a_lowered_priority_is_a_warning(monkeypatch, quiet):
    monkeypatch.setattr(os, "getpriority", lambda which, who: 10)
    (found,) = doctor.threads()
    assert found.remedy == "what has no lowered priority goes first (nice 10 here)"


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
    assert "Python.h" in found.remedy


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
    found = only(doctor.data_sets(tmp_path), "cache")
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
