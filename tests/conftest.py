"""What the tests of the command line share: calls in this process, and one small results folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from typer.testing import CliRunner

from dwfbench.base.machine import let_threads_sleep
from tests.words import once

# Tests run side by side, on all processors: a thread each, and none that spins. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
let_threads_sleep()

os.environ.pop("COLUMNS", None)  # tables are shown whole to tests, whatever terminal starts them

# Properties are tried on the same inputs in every run of the tests; `make properties` draws others each time.
settings.register_profile("drawn-anew", deadline=None)
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")

SMALL = ("--epochs", "2", "--batch-size", "128", "--compile", "off", "--threads", "1", "--device", "cpu")
EVERYTHING = (
    *("--method", "dwf,spred,l1,magnitude,random[distribution=uniform,erk],snip,grasp,synflow,dense"),
    *("--depth", "2,3", "--proximal", "--finetune-epochs", "0"),
    *("--points", "2", "--strength-range", "1e-5,1e-3"),
)


def wait_for(condition, process: subprocess.Popen, timeout: float = 120) -> bool:
    """Until a condition holds; False when the process ended before."""
    deadline = time.monotonic() + timeout
    while not (met := condition()) and process.poll() is None:
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.002)
    return bool(met)


def wait_for_checkpoint(process, folder, timeout=120):
    """Until a command that was started has a checkpoint in its results folder."""
    assert wait_for(lambda: any(folder.glob("checkpoints/*.safetensors")), process, timeout), process.communicate()


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the tests of ten seconds and more, too")
    parser.addoption("--faults", action="store_true", help="all fault tests: some of them take many minutes")
    parser.addoption("--cuda-on", metavar="DEVICE", default="cuda", help="run the tests marked cuda on this device")
    parser.addoption(
        "--known-skips", action="store_true", help="fail if a test is skipped for a reason that is not listed"
    )


SLOW = (
    *("faults", "fuzz", "end_to_end", "execution", "zoo"),
    # The project as a whole.
    *("test_additions.py", "test_benchmarks.py", "test_documents.py", "test_fence.py", "test_gpu_script.py"),
    *("test_notebook.py", "test_outside.py", "test_packaging.py", "test_recipes.py", "test_repeat.py", "test_skips.py"),
    # What compiles, and what draws.
    *("test_compact.py", "test_compile.py", "test_figures.py", "test_layout.py", "test_report.py"),
    *("test_report_browser.py",),
)
"""Folders and files of tests that `make test-fast` leaves out, beside the tests that are marked slow."""

LONGEST = ("test_gpu_script.py", "test_ray.py", "test_zoo.py", "test_devices.py", "test_first_comparison.py")
"""Files that take longest. They begin first: side by side with others they would end last."""

KNOWN_SKIPS = (
    *("takes minutes; --faults runs it", "no CUDA device", "the superuser may write everywhere"),
    *("no package trackio", "no package wandb"),  # with what they need, hundreds of megabytes
)
"""Why tests may be skipped by continuous integration, which installs whatever else they need."""


def pytest_ignore_collect(collection_path, config):
    """Files that are left out wholly are not even imported."""
    left_out = not {*collection_path.parts}.isdisjoint(SLOW)
    return True if left_out and config.option.markexpr == "not slow" else None


def pytest_configure(config):
    # A shell that starts the tests in the background has them ignore interrupts, which tests send and raise.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("--known-skips"):
        return
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped")}
    if unknown := sorted(reasons - set(KNOWN_SKIPS)):
        terminalreporter.section("tests were skipped for reasons that are not listed in tests/conftest.py")
        terminalreporter.write_line("\n".join(unknown))
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    if any(item.get_closest_marker("cuda") for item in items) and config.getoption("--cuda-on") == "cuda":
        import torch

        if not torch.cuda.is_available():
            skip(items, "cuda", "no CUDA device")
    for item in items:
        if not {*item.path.relative_to(config.rootpath).parts}.isdisjoint(SLOW):
            item.add_marker(pytest.mark.slow)
    if not config.getoption("--faults"):
        skip(items, "faults", "takes minutes; --faults runs it")
    if not (config.getoption("--long") or config.getoption("--faults")):
        skip(items, "long", "takes ten seconds or more; --long runs it, as continuous integration does")


def skip(items, mark, reason):
    for item in items:
        if item.get_closest_marker(mark):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def call():
    """``dwfbench WORDS`` in this process; the result has exit_code, stdout and stderr."""
    from dwfbench.cli.app import app

    def call(*words):
        texts = [str(word) for word in words]
        try:
            with mock.patch.object(sys, "argv", ["dwfbench", *texts]):
                return CliRunner().invoke(app, texts)
        finally:
            if torch := sys.modules.get("torch"):
                torch.set_flush_denormal(False)  # `run` sets it for its process, which here is that of all tests

    return call


@pytest.fixture(scope="session")
def run(call):
    """``dwfbench run --results FOLDER WORDS`` at two epochs, if the words do not say otherwise."""
    return lambda folder, *words: call("run", *once(*SMALL, "--results", folder, *words))


@pytest.fixture(scope="session")
def start():
    """Start ``dwfbench WORDS`` by its console script, in a process of its own."""

    def start(*words):
        script = Path(sys.executable).with_name("dwfbench")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [script, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            # Shells start background jobs with SIGINT ignored, and children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return start


@pytest.fixture(autouse=True)
def thread_of_its_own():
    """A test has one thread, whatever a command in this process has set before: sums of two may differ from those of a
    worker process, which has one."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


@pytest.fixture
def forked_workers(monkeypatch):
    """Worker processes of commands in this process have nothing to import; those of others have, as users' do."""
    import torch.multiprocessing

    from tests.forked import CONTEXT

    monkeypatch.setattr(torch.multiprocessing, "get_context", lambda method: CONTEXT)


@pytest.fixture(scope="session")
def trained(run, tmp_path_factory):
    """A results folder with a curve of every method, and what the command that made it said."""
    folder = tmp_path_factory.mktemp("trained") / "results"
    result = run(folder, *EVERYTHING)
    return folder, result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="session")
def digits():
    from dwfbench.data import dataset

    return dataset.load("digits")


@pytest.fixture
def snapshot():
    """The content of every file below a folder, by path."""
    return lambda folder: {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
