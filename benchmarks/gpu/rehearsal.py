"""`make gpu`, tiny and on the CPU, as a bare machine would run it: from a pack in an empty folder, without a network.

    python -m benchmarks.gpu.rehearsal PACK [--python PYTHON]

PYTHON, the interpreter of the machine that is played, may have more packages than constraints/bare-gpu.txt lists: those
refuse to be imported. The data of the pack is cut to a few images first. The command is called twice, the second time
in a folder that has only what the first one sent back, which must then train nothing.
"""

import argparse
import gzip
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.gpu.pack import CARRIED, FASHION, PACKAGES, PHOTOGRAPHS

IMAGES = {"train": 60, "t10k": 20}
"""Of Fashion-MNIST; of the photographs two of a class in either part."""

BLOCKER = Path("benchmarks", "gpu", "bare")

FOREIGN = """
import json, re, sys
from importlib import metadata
from packaging.requirements import Requirement
name = lambda text: re.sub("[-_.]+", "-", text).lower()
there, new = set(), set(map(name, json.loads(sys.argv[1])))
while new:
    there |= new
    needs = []
    for one in new:
        try:
            needs += map(Requirement, metadata.requires(one) or [])
        except metadata.PackageNotFoundError:
            pass
    new = {name(need.name) for need in needs if not need.marker or need.marker.evaluate({"extra": ""})} - there
modules = metadata.packages_distributions()
print(json.dumps(sorted(m for m, owners in modules.items() if not there & set(map(name, owners)))))
"""
"""What an interpreter is asked: its modules of packages that are not in a list, nor needed by one that is."""


def rehearse(pack: Path, python: str, minutes: float, environment: dict[str, str] | None = None) -> list[str]:
    """What both calls said. RuntimeError with the end of it if one fails or finds less than it should."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "machine")
        shutil.copytree(pack, folder)
        cut(folder / CARRIED)
        refused = ",".join(foreign(python, folder / PACKAGES))
        env = {"DWFBENCH_REFUSED": refused, "PYTHONPATH": str(folder / BLOCKER), "HOME": name, **(environment or {})}
        env["CXX"] = "none"  # what a C++ compiler makes for a CPU says nothing about a GPU, and takes long
        env |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PATH": os.environ["PATH"]}
        env["HYPOTHESIS_NO_PLUGINS"] = "1"  # those of refused packages
        words = ["make", "gpu", f"PYTHON={python}", f"MINUTES={minutes}", "OUT=out"]
        first_output = output([*offline(), *words, "GPU=--rehearse"], folder, env)
        runs = records(folder / "out")
        complete(folder / "out", runs)
        second_output = output([*offline(), *words, "GPU=--rehearse --work elsewhere"], folder, env)
        if records(folder / "out") != runs or "The tests have passed before." not in second_output:
            raise RuntimeError(f"The second call did not go on where the first stopped:\n{second_output[-4000:]}")
        return [first_output, second_output]


def output(words: list[str], folder: Path, environment: dict[str, str]) -> str:
    """The output of a command, shown as it comes."""
    lines = []
    with subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode != 0:
        raise RuntimeError(f"`{' '.join(words)}` ended with {process.returncode}:\n{''.join(lines)[-4000:]}")
    return "".join(lines)


def records(out: Path) -> dict[str, str]:
    """The status of every run by what it is, from the archive that was sent back."""
    import zipfile

    with zipfile.ZipFile(out / "results.zip") as archive:
        stored = [json.loads(line) for line in archive.read("records.jsonl").splitlines()]
    return {
        f"{record['spec']['model']} {record['label']} {record['id']} {record['provenance']['ended']}": record["status"]
        for record in stored
    }


def complete(out: Path, runs: dict[str, str]) -> None:
    """RuntimeError unless every stage left what it should."""
    rows = json.loads((out / "speed.json").read_text(encoding="utf-8"))["rows"]
    unmeasured = [f"{row['name']} ({row['note']})" for row in rows if not row["measured"]]
    models = Counter(run.split()[0] for run in runs)
    if unmeasured or len(rows) < 6:
        raise RuntimeError(f"Rows that were not measured: {'; '.join(unmeasured) or 'some'}")
    if len(models) < 3 or set(runs.values()) - {"ok", "diverged"}:
        raise RuntimeError(f"Runs that are missing or failed: {dict(models)}, {Counter(runs.values())}")


def foreign(python: str, packages: Path) -> list[str]:
    """The modules of an interpreter that the bare machine does not have."""
    lines = [line.partition("#")[0].strip() for line in packages.read_text(encoding="utf-8").splitlines()]
    names = [re.split("[=<>]", line)[0] for line in lines if line]
    done = subprocess.run([python, "-c", FOREIGN, json.dumps(names)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def offline() -> list[str]:
    """Words before a command that take its network away, where this user may do that."""
    words = ["unshare", "--net", "--map-root-user"]
    able = shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if able else []


def cut(carried: Path) -> None:
    """Leave a few images of each data set."""
    for path in (carried / FASHION).iterdir():
        count = IMAGES[path.name.split("-")[0]]
        content = gzip.decompress(path.read_bytes())
        axes = content[3]
        shape = struct.unpack_from(f">{axes}I", content, 4)
        start = 4 + 4 * axes
        images = content[start : start + count * math.prod(shape[1:])]
        path.write_bytes(gzip.compress(content[:4] + struct.pack(f">{axes}I", count, *shape[1:]) + images, 1))
    photographs, small = carried / PHOTOGRAPHS, carried / "small.tar.xz"
    images_of: Counter[str] = Counter()
    with tarfile.open(photographs) as source, tarfile.open(small, "w:xz", preset=0) as target:
        for member in source:
            folder = os.path.dirname(member.name)
            images_of[folder] += member.isfile()
            if member.isfile() and images_of[folder] <= 2:
                target.addfile(member, source.extractfile(member))
    small.replace(photographs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pack", type=Path, help="a folder that `make gpu-pack` filled")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the machine [default: this one]")
    parser.add_argument("--minutes", type=float, default=5.0, help="limit of either call [default: 5]")
    options = parser.parse_args()
    start = time.monotonic()
    try:
        rehearse(options.pack, options.python, options.minutes)
    except RuntimeError as error:
        sys.exit(f"Error: {error}")
    print(f"Rehearsed in {time.monotonic() - start:.0f} s, {'offline' if offline() else 'with the network as it is'}.")


if __name__ == "__main__":
    main()
