"""The processors of a process whose affinity and control group are faked, and how its threads wait."""

import builtins
import os
import subprocess
import sys

import pytest

from dwfbench.base import machine as machines
from dwfbench.base.machine import cores
from dwfbench.data.readers import decoding

GROUPS = "/sys/fs/cgroup/"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 64 processors: ``machine(affinity, files)`` says which a process may use and its group's files."""
    real_open, real_exists = builtins.open, os.path.exists

    def moved(path):
        return tmp_path / path.removeprefix(GROUPS) if isinstance(path, str) and path.startswith(GROUPS) else path

    def fake(affinity, files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
        monkeypatch.setattr(builtins, "open", lambda path, *more, **named: real_open(moved(path), *more, **named))
        monkeypatch.setattr(os.path, "exists", lambda path: real_exists(moved(path)))

    return fake


def version_1(quota):
    return {"cpu/cpu.cfs_quota_us": f"{quota}\n", "cpu/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("affinity", "files", "usable"),
    [
        (64, {}, 64),
        (3, {}, 3),
        (64, {"cpu.max": "max 100000\n"}, 64),
        (64, {"cpu.max": "400000 100000\n"}, 4),
        (64, {"cpu.max": "150000 100000\n"}, 2),
        (64, {"cpu.max": "20000 100000\n"}, 1),
        (3, {"cpu.max": "400000 100000\n"}, 3),
        (64, version_1(-1), 64),
        (64, version_1(400000), 4),
    ],
)
def test_the_processors_are_those_of_the_affinity_and_the_quota(machine, affinity, files, usable):
    machine(affinity, files)
    assert cores() == usable
    assert decoding._processes() == usable


def test_threads_and_jobs_are_shared_out_of_the_quota(machine, call, tmp_path):
    machine(64, {"cpu.max": "200000 100000\n"})
    words = ("run", "--data-dir", tmp_path, "--results", tmp_path / "results")
    done = call(*words, "--threads", "3")
    assert done.exit_code == 2
    assert "--threads must be between 1 and the 2 cores this process may use, not 3." in done.stderr
    done = call(*words, "--jobs", "3")
    assert done.exit_code == 2
    assert "--jobs must be between 1 and the 2 threads that they share, not 3." in done.stderr


def test_asking_for_the_processors_imports_no_torch_and_importing_the_module_no_joblib():
    code = (
        "import sys; from dwfbench.base.machine import cores; assert not {'joblib', 'numpy'} & set(sys.modules); "
        "assert cores() >= 1; assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- threads that wait


def spins(code, **own):
    """How often a waiting thread of the OpenMP in torch looks again before it sleeps, in a process of ``code``."""
    names = {*machines.SLEEPING, "GOMP_SPINCOUNT"}
    environment = {name: value for name, value in os.environ.items() if name not in names} | own
    environment["OMP_DISPLAY_ENV"] = "verbose"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    (line,) = (line for line in said.splitlines() if "GOMP_SPINCOUNT" in line)
    return int(line.split("'")[1])


COMMAND = "from dwfbench.cli import app; app.app = lambda: __import__('torch'); app.main()"
gnu = pytest.mark.skipif(sys.platform != "linux", reason="torch comes with GNU's OpenMP on Linux")


@pytest.mark.slow
@gnu
def test_threads_of_a_command_sleep_while_they_wait_unless_the_user_has_said_how():
    assert spins(COMMAND) == 0
    assert spins(COMMAND, OMP_WAIT_POLICY="ACTIVE") > 0
    assert spins(COMMAND, KMP_BLOCKTIME="200") > 0


@pytest.mark.slow
def test_the_library_leaves_the_environment_as_it_is():
    environment = {name: value for name, value in os.environ.items() if name not in machines.SLEEPING}
    unset = f"assert not {set(machines.SLEEPING)} & set(os.environ)"
    code = f"import os, dwfbench, dwfbench.cli.app; {unset}; dwfbench.factorize; {unset}"
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
