"""A clock that jumps back in the middle of training (libfaketime; skipped where it is not installed)."""

from pathlib import Path

import pytest

from dwfbench.runs.store import Store
from tests.conftest import wait_for
from tests.faults.commands import SMALL, begin, dwfbench, ended, results

LIBRARIES = [
    path
    for place in ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")
    for path in Path("/").glob(f"{place[1:]}/libfaketimeMT.so.1")
]
WORDS = (
    "run",
    "--method",
    "dwf",
    "--depth",
    "2",
    "--strength",
    "0.001,0.002",
    "--epochs",
    "60",
    "--lanes",
    "1",
    *SMALL,
)


@pytest.mark.faults
@pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_clock_that_jumps_back_two_days_changes_nothing_but_dates(tmp_path, jobs):
    clock, folder = tmp_path / "clock", tmp_path / "results"
    clock.write_text("+0d\n")
    fake = {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        # A step of the system's clock never moves the monotonic one.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    more = ("--threads", jobs, "--jobs", jobs, "--checkpoint-minutes", "0.005")
    process = begin(*WORDS, *more, "--results", folder, env=fake)

    def checkpoints():
        found = set()
        for path in folder.glob("checkpoints/*.safetensors"):
            found.add(path.stat().st_ino)
        return found

    assert wait_for(checkpoints, process)
    before = checkpoints()
    clock.write_text("-2d\n")
    assert wait_for(lambda: checkpoints() - before, process)  # they go on being written
    done = ended(process)
    assert done.code == 0, done.stderr
    records = Store(folder).load(history=True)
    assert any(record.provenance.ended < record.provenance.started for record in records)
    for record in records:
        assert 0 < record.seconds < 300
        assert all(0 < row.seconds < 300 for row in record.history)
    assert not (folder / "checkpoints").exists()
    assert dwfbench(*WORDS, "--results", tmp_path / "whole").code == 0
    assert results(folder) == results(tmp_path / "whole")
    assert dwfbench("report", "--results", folder).code == 0
