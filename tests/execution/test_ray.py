"""Groups of runs on a real Ray cluster of two nodes, which here share one machine."""

import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from dwfbench.base.errors import UsageError
from dwfbench.execution.worker import Cluster, Engine
from tests.conftest import wait_for_checkpoint
from tests.execution.breaking import Hurried, method

pytest.importorskip("ray", reason="Ray is an extra")
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # else whatever runs beside the tests would starve the workers
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

SHORT = ("--epochs", "4", "--batch-size", "128", "--compile", "off", "--lanes", "1", "--seed", "0")
CURVES = ("--method", "snip,magnitude,l1", "--compression", "2,4", "--finetune-epochs", "2", "--strength", "1e-4,1e-2")
# Two of the runs train for seconds after their first checkpoint: on a busy machine, too, they are found in training.
LONG = ("--method", "l1[epochs=16,strength=1e-4],l1[epochs=48,strength=1e-3,1e-2]", "--batch-size", "32",
        "--lanes", "1", "--compile", "off", "--checkpoint-minutes", "0.002", "--eval-every", "4")  # fmt: skip
NOT_COMPARED = ("seconds", "overhead_seconds", "peak_memory_bytes", "provenance")

OWN = """
import time
from dwfbench.method import Method

class Hangs(Method):
    knob = "strength"

    def decay(self, strength):
        while float(strength) == 2:
            time.sleep(1)
        return 1e-5 * strength
"""


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each; the first is the driver's."""
    import ray
    from ray.cluster_utils import Cluster

    try:
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        made.add_node(num_cpus=1)
    except Exception as error:  # too little shared memory, no ports: Ray's own business
        pytest.skip(f"no Ray cluster can be started here: {error}")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def joined(cluster):
    """The cluster's address. This process is a driver of it, and stays one: Ray's workers are those of a driver."""
    from dwfbench.execution.nodes import join

    join(cluster.address)
    return cluster.address


@pytest.fixture
def apart():
    """This process is a driver of no cluster."""
    import ray

    ray.shutdown()


def content(folder):
    """What training determines of every run in a results folder, by run id."""
    found = {}
    for path in Path(folder).glob("*/*/run.json"):
        record = json.loads(path.read_text())
        rows = (line.rsplit(",", 1)[0] for line in (path.parent / "history.csv").read_text().splitlines())
        found[record["id"]] = {k: v for k, v in record.items() if k not in NOT_COMPARED}, list(rows)
    return found


@pytest.fixture(scope="module")
def uninterrupted(call, tmp_path_factory):
    """The records of LONG without a cluster."""
    folder = tmp_path_factory.mktemp("local")
    assert call("run", *LONG, "--threads", "1", "--results", folder).exit_code == 0
    return content(folder)


def test_a_cluster_gives_the_records_of_one_process(joined, call, tmp_path):
    assert call("run", *SHORT, *CURVES, "--threads", "1", "--results", tmp_path / "here").exit_code == 0
    done = call("run", *SHORT, *CURVES, "--ray", joined, "--results", tmp_path / "there")
    assert done.exit_code == 0, done.stderr
    there = content(tmp_path / "there")
    assert len(there) == 6
    assert there == content(tmp_path / "here")
    assert "snip, compression 2" in done.stderr  # told as the runs come


def test_a_group_that_hangs_is_ended_and_its_neighbours_are_not(joined, call, tmp_path, monkeypatch):
    from dwfbench.execution import ray

    (tmp_path / "own.py").write_text(OWN)
    folder = tmp_path / "results"
    monkeypatch.setattr(ray, "time", Hurried(lambda: len(list(folder.glob("runs/[0-9a-f]*/run.json"))) == 2))
    words = ("--method", f"{tmp_path}/own.py:Hangs", "--strength", "1,2,3", "--timeout-minutes", "15")
    done = call("run", *SHORT, *words, "--ray", joined, "--results", folder)
    assert done.exit_code == 1, done.stderr
    records = [record for record, _ in content(folder).values()]
    assert sorted((record["spec"]["strength"], record["status"]) for record in records) == [
        (1, "ok"), (2, "failed"), (3, "ok"),
    ]  # fmt: skip
    assert next(record["error"] for record in records if record["status"] == "failed").startswith("timed out")


def test_what_a_group_finished_is_stored_though_its_worker_dies(joined, call, tmp_path, monkeypatch):
    from dwfbench.execution import ray

    monkeypatch.setattr(ray, "RETRIES", 1)
    name, _ = method(tmp_path, "die")
    words = ("--method", name, "--compression", "2,4,8", "--finetune-epochs", "1", "--ray", joined)
    done = call("run", *SHORT, *words, "--results", tmp_path / "results")
    assert done.exit_code == 1, done.stderr
    records = [record for record, _ in content(tmp_path / "results").values()]
    assert sorted((record["spec"]["compression"], record["status"]) for record in records) == [
        (2, "ok"), (4, "ok"), (8, "failed"),
    ]  # fmt: skip
    assert "died 2 times" in next(record["error"] for record in records if record["status"] == "failed")


@pytest.mark.long
def test_a_node_that_is_lost_costs_no_run(cluster, joined, call, uninterrupted, tmp_path):
    from ray.util import placement_group, remove_placement_group

    taken = placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD")  # both nodes
    assert taken.wait(60)
    lost = cluster.add_node(num_cpus=1)

    def lose():
        """The node on which training is, as there is room nowhere else."""
        deadline = time.monotonic() + 200
        while not list(tmp_path.glob("checkpoints/*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.01)
        remove_placement_group(taken)
        cluster.remove_node(lost, allow_graceful=False)
        return list(tmp_path.glob("runs/[0-9a-f]*/run.json"))

    with ThreadPoolExecutor(1) as beside:
        stored = beside.submit(lose)
        done = call("run", *LONG, "--ray", joined, "--results", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert len(stored.result()) < 3  # there was something to lose
    assert content(tmp_path) == uninterrupted
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.long
def test_an_interrupt_keeps_checkpoints_and_a_second_start_goes_on(joined, start, call, uninterrupted, tmp_path):
    process = start("run", *LONG, "--ray", joined, "--results", tmp_path)
    wait_for_checkpoint(process, tmp_path, 200)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.glob("checkpoints/*.safetensors"))
    done = call("run", *LONG, "--ray", joined, "--results", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert content(tmp_path) == uninterrupted


def test_the_checksum_covers_the_methods_that_dwfbench_finds_by_entry_points():
    from dwfbench.execution.nodes import source_folders

    assert [folder.name for folder in source_folders()] == ["baselines", "dwfbench"]
    assert all((folder / "__init__.py").is_file() for folder in source_folders())


def test_another_version_of_the_sources_is_refused(joined, call, tmp_path, monkeypatch):
    from dwfbench.execution import nodes

    for folder in nodes.source_folders():
        shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / "dwfbench" / "methods" / "dwf.py", "a") as file:
        file.write("# changed\n")
    monkeypatch.setattr(nodes, "source_folders", lambda: [tmp_path / "baselines", tmp_path / "dwfbench"])
    nodes.versions.cache_clear()
    try:
        done = call("run", *SHORT, "--ray", joined, "--results", tmp_path / "results")
    finally:
        nodes.versions.cache_clear()
    assert done.exit_code == 2
    assert "install the same version" in done.stderr
    assert not (tmp_path / "results").exists()


def test_groups_that_fit_nowhere_are_refused(joined):
    from dwfbench.execution.nodes import connect

    for cpus, gpus, device, sentence in [
        (9, None, "auto", "No node of the Ray cluster has the 9 CPUs"),
        (None, 2, "auto", "a group trains on one GPU"),
        (None, 1, "auto", "No node of the Ray cluster has the 1 CPUs and 1 GPUs"),
        (None, None, "cuda", "do not fit together"),
    ]:
        with pytest.raises(UsageError, match=sentence):
            connect(joined, cpus, gpus, device)
    assert connect(joined, None, None, "auto") == Cluster(joined, 1, 0.0)


def test_nodes_tell_what_they_have_and_run(joined):
    from dwfbench.execution.nodes import nodes, versions

    assert [(node.cpus, node.gpus, node.versions) for node in nodes()] == [(1, 0, versions())] * 2


def test_threads_of_workers_wait_as_those_of_the_command(joined, monkeypatch):
    import ray

    from dwfbench.execution.nodes import on_workers

    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("KMP_BLOCKTIME", "7")
    waiting = on_workers(lambda: [os.environ.get(name) for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")])
    assert ray.get(waiting.remote()) == ["PASSIVE", "7"]


def test_doctor_looks_at_the_nodes(joined):
    from dwfbench.cli import doctor

    found = [finding for finding in doctor.ray(joined) if finding.subject.startswith("ray node")]
    assert [(one.state, one.found[:15]) for one in found] == [("ok", "1 CPUs, 0 GPUs,")] * 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--ray", "127.0.0.1:1"), "No Ray cluster answers at '127.0.0.1:1'"),
        (("--ray", "here"), "it is not host:port"),
        (("--ray", "ray://127.0.0.1:10001"), "submit the command as a Ray job"),
        (("--ray", "auto", "--jobs", "2"), "leave out --jobs"),
        (("--ray", "auto", "--device", "cuda:1"), "the cluster chooses which"),
        (("--gpus-per-group", "0.5"), "--gpus-per-group is for --ray"),
        (("--timeout-minutes", "0"), "must be above 0"),
    ],
)
def test_flags_that_cannot_be_are_refused(apart, call, tmp_path, words, sentence):
    done = call("run", "--results", tmp_path / "results", *words)
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_doctor_says_that_no_cluster_answers(apart, tmp_path):
    from dwfbench.cli import doctor

    findings = doctor.examine(tmp_path, address="127.0.0.1:1")
    (found,) = [finding for finding in findings if finding.subject == "ray cluster"]
    assert found.state == "problem"
    assert "No Ray cluster answers" in found.found


def test_data_that_were_damaged_on_the_way_are_noticed(digits):
    from dwfbench.execution.ray import Kit

    kit = Kit.of(digits, Engine(torch.device("cpu"), threads=1, cluster=Cluster("auto", 1, 0)))
    same = kit.dataset()
    assert torch.equal(same.train.images, digits.train.images)
    assert torch.equal(same.test.labels, digits.test.labels)
    assert (same.checksum, same.classes, same.input_shape) == (digits.checksum, digits.classes, digits.input_shape)
    kit.arrays["test.labels"] = kit.arrays["test.labels"].copy()
    kit.arrays["test.labels"][3] += 1
    with pytest.raises(OSError, match="damaged"):
        kit.dataset()
