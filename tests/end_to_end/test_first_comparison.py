"""A newcomer's path, from a fresh clone to a figure: what the README says is typed, at a tiny budget."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SCRIPT = "examples/first-comparison.sh"
QUICK = "--epochs 20 --lr 0.3 --max-runs 3 --compile off --threads 1 --device cpu"
BORROWED = next(path for path in sys.path if path.endswith("site-packages"))
NO_DOWNLOAD = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # pip means "off" by that 0


def test_the_script_has_the_commands_of_the_readme():
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Compare")[1]
    typed = re.findall(r"^ {4}(dwfbench .*?)(?:  +#.*)?$", section.split("\n\n")[2], re.MULTILINE)
    script = (ROOT / SCRIPT).read_text(encoding="utf-8")
    assert [line.split()[1] for line in typed] == ["run", "compare", "plot"]
    assert all(f"\n{line}" in script for line in typed)


@pytest.mark.long
def test_from_a_fresh_clone_to_a_figure(tmp_path):
    """In an environment of its own, as a newcomer's, that borrows the packages of this one: nothing is downloaded."""
    clone = tmp_path / "dwfbench"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", clone], check=True)
    environment = {**os.environ, **NO_DOWNLOAD, "PYTHON": sys.executable, "PYTHONPATH": BORROWED, "QUICK": QUICK}
    done = subprocess.run(["sh", SCRIPT], cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    installed = list((clone / "first" / "env").glob("lib/python*/site-packages/dwfbench/__init__.py"))
    assert len(installed) == 1, "the clone is installed, not this tree"
    compared = done.stdout.split("\nDataset ")[1]
    for label in ("dense", "dwf D=3", "magnitude"):
        assert f" {label} " in compared
    results = clone / "first" / "results"
    with Image.open(results / "accuracy.png") as figure:
        assert min(figure.size) > 300
        assert len(figure.convert("RGB").getcolors(1 << 24)) > 10, "curves, not a blank page"
    assert "Verdicts" in (results / "report.html").read_text(encoding="utf-8")
