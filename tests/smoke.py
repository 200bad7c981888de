"""What an installed dwfbench must do, without the source tree: ``VENV/bin/python tests/smoke.py``.

Run by the interpreter whose installation is tried (``make package``); it needs nothing else, and no network. Prints
each command, and ends with exit code 1 at the first one that fails.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TINY = ("--dataset", "digits", "--epochs", "2", "--threads", "1", "--device", "cpu")
COMMANDS = (
    ("--help",),
    ("--version",),
    ("list", "methods"),
    ("list", "recipes"),
    ("run", "--method", "dense", *TINY),
    ("run", "--method", "dwf", "--depth", "3", "--strength", "1e-4", "--save-model", *TINY),
    ("compare", "--at", "1.01"),
    ("claims",),
    ("plot",),
    ("report",),
    ("doctor",),
)


def main() -> int:
    source = Path(__file__).resolve().parent.parent
    script = Path(sys.executable).with_name("dwfbench")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        where = [sys.executable, "-c", "import baselines, dwfbench; print(baselines.__file__, dwfbench.__file__)"]
        files = subprocess.run(where, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
        if any(source / "dwfbench" in Path(file).parents for file in files.split()):
            print(f"This is the source tree and no installation: {files}", file=sys.stderr)
            return 1
        for words in COMMANDS:
            print("dwfbench", *words, flush=True)
            if code := subprocess.run([script, *words], cwd=folder, env=environment, check=False).returncode:
                print(f"dwfbench {' '.join(words)} ended with exit code {code}.", file=sys.stderr)
                return 1
        expected = ("results/report.html", "results/runs")
        if missing := [name for name in expected if not (Path(folder) / name).exists()]:
            print(f"The commands left no {' and no '.join(missing)}.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
