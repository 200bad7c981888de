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


def test_a_library_that_finds_no_memory_is_said(tmp_path):
    before = ("bash", "-c", 'ulimit -v 60000; exec "$@"', "bash")
    done = dwfbench("compare", "--results", tmp_path, before=before)
    assert done.code == 1
    assert "Error: " in done.stderr
