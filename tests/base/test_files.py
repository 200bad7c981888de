"""Files by name: only regular ones are read, no more than makes sense, and what is written goes nowhere else."""

import os
import socket

import pytest

from dwfbench.base import files, memory
from dwfbench.base.errors import UsageError
from dwfbench.base.plugins import read
from dwfbench.data import dataset
from dwfbench.runs.locks import Claims
from dwfbench.runs.store import Store, put


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


OTHERS = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
    "socket": a_socket,
}
"""What can have the name of a file and is none."""


@pytest.fixture(params=OTHERS)
def other(request, tmp_path):
    path = tmp_path / "own.py"
    OTHERS[request.param](path)
    return path


def test_what_is_no_file_is_not_read(other):
    for reading in (files.opened, lambda path: files.content(path, 10), files.lockable):
        with pytest.raises(OSError, match=r"."):
            reading(other)
    with pytest.raises(UsageError, match="cannot be read"):
        read("method", f"{other}:Own")


def test_what_is_no_data_set_is_refused(other):
    with pytest.raises(UsageError):
        dataset.load(str(other))


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    for name in ("pipe", "null", "stdout"):
        with pytest.raises(OSError, match="something else than a regular file"):
            files.replace(tmp_path / name, b"content")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["null", "pipe", "stdout"]
    assert not (tmp_path / "null").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("words", [("plot", "-o", "pipe.png"), ("report", "-o", "pipe.html")])
def test_a_figure_takes_the_place_of_no_pipe(trained, call, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(words[-1])
    done = call(*words, "--results", trained[0])
    assert done.exit_code == 2
    assert "something else than a regular file" in done.stderr
    assert [path.is_fifo() for path in tmp_path.iterdir()] == [True]


def test_links_under_our_names_lead_nothing_outside(tmp_path, snapshot):
    outside, folder = tmp_path / "outside", tmp_path / "results"
    outside.mkdir()
    folder.mkdir()
    (outside / "kept").write_text("theirs")
    (outside / "run.json").write_text("theirs")
    before = snapshot(outside)
    for path in (folder / "runs" / "0123456789ab", folder / "probe", folder / "file"):
        path.parent.mkdir(exist_ok=True)
        files.temporary(path).symlink_to(outside if path.name[0] == "0" else outside / "kept")
    (folder / "runs" / "old").symlink_to(outside)
    Store(folder).prepare()
    assert not list((folder / "runs").glob(".*"))
    assert not (folder / "runs" / "0123456789ab").exists()
    files.replace(folder / "file", b"ours")
    put(folder / "runs" / "old", {"run.json": b"ours"})
    assert not (folder / "runs" / "old").is_symlink()
    assert snapshot(outside) == before
    assert not list(folder.rglob("*.tmp"))


def test_a_claim_is_not_made_in_a_file_elsewhere(tmp_path):
    (tmp_path / ".claims").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="cannot be written"), Claims(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_is_larger_than_the_memory_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(files.SPARING + 1)
    assert len(files.content(path, 1 << 40)) == files.SPARING + 1
    monkeypatch.setattr(memory, "available", lambda: files.SPARING)
    with pytest.raises(OSError, match=r"0\.1 GiB of memory, and 0\.1 GiB are available"):
        files.content(path, 1 << 40)


def test_a_list_of_a_zip_that_claims_gigabytes_is_not_read(tmp_path):
    """Its end says that the list of files is as long as all before it, which here is a hole."""
    path, length = tmp_path / "set.zip", files.MOST_AT_ONCE + 1
    with open(path, "wb") as file:
        file.seek(length)
        file.write(b"PK\5\6" + bytes(4) + b"\1\0\1\0" + length.to_bytes(4, "little") + bytes(6))
    with pytest.raises(UsageError, match="would be read at once"):
        dataset.load(str(path))


def test_a_table_replaces_a_table_of_its_kind_alone(tmp_path):
    table = tmp_path / "runs.csv"
    files.refuse_other(table, "part,id,label\n1,2,3\n")
    table.write_text("part,id,of an earlier version\n")
    files.refuse_other(table, "part,id,label\n1,2,3\n")
    for other in ("Dataset,Method\n", "", "part;id\n"):
        table.write_text(other)
        with pytest.raises(UsageError, match=r"runs\.csv.*is another file"):
            files.refuse_other(table, "part,id,label\n1,2,3\n")
    with pytest.raises(UsageError, match="cannot be written"):
        files.refuse_other(tmp_path, "part,id\n")
