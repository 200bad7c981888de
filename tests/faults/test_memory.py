"""Commands that have little memory: one sentence, no crash of a library."""

import pytest

from tests.faults.commands import dwfbench


@pytest.mark.parametrize("gigabytes", [2, 20])
def test_a_report_without_room_for_addresses_is_refused_and_other_commands_work(trained, tmp_path, gigabytes):
    before = ("bash", "-c", f'ulimit -v {int(gigabytes * 1e6)}; exec "$@"', "bash")
    done = dwfbench("report", "--results", trained[0], "-o", tmp_path / "report.html", before=before)
    assert (done.code, done.stdout) == (2, "")
    assert "A report needs more addresses than the" in done.stderr
    assert done.stderr.count("Error") == 1
    assert not list(tmp_path.iterdir())
    assert dwfbench("compare", "--results", trained[0], before=before).code == 0


@pytest.mark.parametrize("kilobytes", [60_000, 200_000, 400_000])
def test_addresses_in_which_no_library_can_be_loaded_are_refused(trained, kilobytes):
    before = ("bash", "-c", f'ulimit -v {kilobytes}; exec "$@"', "bash")
    done = dwfbench("compare", "--results", trained[0], before=before)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "needs 0.5 GiB of addresses at least, and `ulimit -v` leaves 0." in done.stderr


def test_a_library_that_finds_no_memory_is_said(tmp_path):
    before = ("bash", "-c", 'ulimit -v 700000; exec "$@"', "bash")
    done = dwfbench("run", "--method", "dense", "--results", tmp_path, before=before)
    assert done.code in (1, 2)
    assert "Error: " in done.stderr
    assert "too little memory" in done.stderr
