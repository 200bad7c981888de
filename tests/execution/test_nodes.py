"""Two machines of a Ray cluster, each started by ``ray start`` as the page says, with a token; here on one machine."""

import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import wait_for, wait_for_checkpoint
from tests.faults.commands import begin, dwfbench, ended, results

pytest.importorskip("ray", reason="Ray is an extra")
LONG = (
    *("run", "--method", "l1", "--strength", "1e-4,1e-3,1e-2,2e-2", "--epochs", "40", "--batch-size", "32"),
    *("--compile", "off", "--lanes", "1", "--checkpoint-minutes", "0.002", "--eval-every", "10"),
)
SHARED = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_AUTH_MODE": "token"}
RAW = re.compile(r"raylet|core_worker|gcs_|\[20\d\d-\d\d-\d\d |\(pid=", re.IGNORECASE)
"""What messages of Ray's own processes contain."""


@contextmanager
def node(*words, env):
    """A machine; at the end its processes are killed."""
    script = (
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--num-cpus",
        "1",
        "--disable-usage-stats",
        "--block",
    )
    process = begin(*words, script=script, env=env)
    try:
        yield process
    finally:
        kill(process)


def kill(process):
    """All of a node at once, as when its machine loses power."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and session_of(entry) == process.pid:
            with suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
    process.communicate()


def session_of(entry):
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return None


@pytest.fixture
def address():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture
def place():
    """Where Ray keeps its sockets, whose paths must be short."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def answers(address, process):
    """Wait until a node listens."""

    def listens():
        with socket.socket() as asked:
            return asked.connect_ex((address.split(":")[0], int(address.split(":")[1]))) == 0

    assert wait_for(listens, process), process.communicate()


@pytest.mark.faults
def test_two_machines_that_share_a_token_train_and_one_of_them_may_die(tmp_path, address, place):
    env = {**SHARED, "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    port = address.split(":")[1]
    head = (
        "--head",
        "--port",
        port,
        "--node-ip-address",
        "127.0.0.1",
        "--include-dashboard",
        "false",
        "--temp-dir",
        place,
    )
    with node(*head, env=env) as first:
        answers(address, first)
        with node("--address", address, "--node-ip-address", "127.0.0.1", env=env) as second:
            for wrong in ({**env, "RAY_AUTH_TOKEN": secrets.token_hex(16)}, {**env, "RAY_AUTH_MODE": "disabled"}):
                refused = dwfbench(*LONG, "--ray", address, "--results", tmp_path / "refused", env=wrong)
                assert refused.code == 2, refused.stderr
                assert "oken" in refused.stderr
                assert not RAW.search(refused.stderr), refused.stderr
                assert not (tmp_path / "refused").exists()
            process = begin(*LONG, "--ray", address, "--results", tmp_path / "results", env=env)
            wait_for_checkpoint(process, tmp_path / "results", 200)
            kill(second)
            done = ended(process, 400)
    assert done.code == 0, done.stderr
    assert not RAW.search(done.stdout + done.stderr), done.stderr
    assert dwfbench(*LONG, "--threads", "1", "--results", tmp_path / "here").code == 0
    assert results(tmp_path / "results") == results(tmp_path / "here")
