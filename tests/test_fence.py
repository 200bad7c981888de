"""The fence of the rooms: import-linter keeps it, as in ``make test``, and sees an import that is planted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter")  # `make test-oldest` does without it
ROOT = Path(__file__).parent.parent
FLOORS = "a room imports only from the rooms below it"


def linted(folder):
    """What import-linter says of the packages in a folder."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    command = [sys.executable, "-c", code, "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the packages and their contracts."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("dwfbench", "baselines"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_rooms_keep_their_floors(tree):
    done = linted(tree)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout


@pytest.mark.parametrize(
    ("file", "planted", "contract"),
    [
        ("base/text.py", "from dwfbench.runs import spec", FLOORS),
        ("training/loop.py", "def later():\n    from dwfbench.cli import app", FLOORS),
        ("sparsity/count.py", "import dwfbench.show.tables", FLOORS),  # beside it, and not below
        ("methods/contract.py", "import dwfbench.export", FLOORS),  # by the door of another room
        ("room.py", "", FLOORS),  # which is in no room
        ("show/tables.py", "def later():\n    import torch", "results are read without torch"),
        ("execution/worker.py", "import baselines.l1", "the other methods are found, never imported"),
        ("runs/spec.py", "from dwfbench.runs import store", "no circles"),
    ],
)
def test_an_import_that_is_planted_is_seen(tree, file, planted, contract):
    path = tree / "dwfbench" / file
    before = path.read_bytes() if path.exists() else None
    try:
        with open(path, "a", encoding="utf-8") as target:
            target.write(f"\n{planted}\n")
        done = linted(tree)
    finally:
        path.unlink() if before is None else path.write_bytes(before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout
