"""What memory there is to take, on a machine and in control groups that are faked."""

import math
import resource

import pytest

from dwfbench.base import memory


@pytest.fixture
def group(monkeypatch, tmp_path):
    """Control groups: ``group(line, files)`` says in which this process is, and what their files hold."""

    def fake(line, files):
        for name, text in {"self/cgroup": f"{line}\n", **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{text}\n")
        monkeypatch.setattr(memory, "GROUPS", tmp_path)
        monkeypatch.setattr(memory, "SELF", tmp_path / "self")
        monkeypatch.setattr(memory, "_machine", lambda: 1000)
        monkeypatch.setattr(memory, "address_space", lambda: math.inf)

    return fake


OLD = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def test_a_group_of_either_version_and_those_around_it_bound_what_is_available(group):
    group("0::/", {})
    assert memory.available() == 1000
    group("0::/a/b", {"a/b/memory.max": "max", "a/b/memory.current": "70"})
    assert memory.available() == 1000
    group("0::/a/b", {"a/memory.max": "500", "a/memory.current": "100"})
    assert memory.available() == 400
    group("0::/a/b", {"a/memory.stat": "anon 7\ninactive_file 60"})
    assert memory.available() == 460
    group("4:memory:/c", {f"memory/c/{OLD[0]}": "300", f"memory/c/{OLD[1]}": "100"})
    assert memory.available() == 200
    group("4:memory:/c", {f"memory/{OLD[0]}": "90", f"memory/{OLD[1]}": "100"})
    assert memory.available() == 0
    group("4:cpu:/c", {})
    assert memory.available() == 1000


def test_a_limit_of_the_process_counts(monkeypatch):
    there = memory.address_space()
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 45, 1 << 45))
    assert 0 < memory.address_space() < 1 << 45
    assert memory.address_space() < there


def test_what_is_lacking_is_said_with_both_numbers(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 3 * memory.GIB)
    assert memory.lacking(3 * memory.GIB) is None
    assert memory.lacking(4500 * memory.GIB) == "4,500.0 GiB of memory, and 3.0 GiB are available"
