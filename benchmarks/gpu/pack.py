"""Put everything together that travels to a machine without a network, and say how large it is.

    python -m benchmarks.gpu.pack FOLDER --photographs cifar10-jpeg.tar.xz

FOLDER gets the files that git tracks, and in FOLDER/carried what git does not: Fashion-MNIST, the photographs, and
wheels, that of dwfbench among them.
"""

import argparse
import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path

from dwfbench.base.errors import UsageError
from dwfbench.data import dataset
from dwfbench.data.readers import idx

ROOT = Path(__file__).parents[2]
PACKAGES = Path("constraints", "bare-gpu.txt")
CARRIED, PHOTOGRAPHS, FASHION = "carried", "cifar10-jpeg.tar.xz", "fashion-mnist"
MOST = 64 * 2**20
"""Bytes that may travel."""

MIB = 2**20
BARE_PYTHON = "3.12"


def put_together(folder: Path, photographs: Path, version: str = BARE_PYTHON) -> dict[str, int]:
    """Fill an empty folder, for a machine with this version of Python; bytes of each part.

    Raises UsageError for what is not there, and for more than ``MOST`` bytes.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; remove it, or name another folder.")
    if not photographs.is_file():
        raise UsageError(f"There is no {photographs}; say where CIFAR-10's photographs are (make: PHOTOGRAPHS=...).")
    carried = folder / CARRIED
    (carried / "wheels").mkdir(parents=True)
    tree(folder)
    fashion(carried / FASHION)
    shutil.copyfile(photographs, carried / PHOTOGRAPHS)
    wheels(carried / "wheels", version)
    total = size(folder)
    parts = {name: size(carried / name) for name in (FASHION, PHOTOGRAPHS, "wheels")}
    parts = {"tracked files": total - sum(parts.values()), **parts, "all": total}
    if total > MOST:
        raise UsageError(f"{folder} is too large to travel: {listed(parts)}, of at most {MOST / MIB:.0f} MiB.")
    return parts


def tree(folder: Path) -> None:
    """The tracked files as they are in the working tree."""
    names = git("ls-files", "-z").split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():  # one that was deleted and not committed is tracked, too
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise UsageError(f"git {words[0]} failed ({done.stderr.strip()}); a pack is made in a checkout.")
    return done.stdout


def fashion(folder: Path) -> None:
    """Fashion-MNIST from wherever dwfbench finds it, gzipped."""
    folder.mkdir()
    for path in idx.files_of("fashion-mnist", dataset.searched()):
        if path.suffix == ".gz":
            shutil.copyfile(path, folder / path.name)
        else:
            (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def wheels(folder: Path, version: str) -> None:
    """Of dwfbench, for the names of its methods, and of the packages that the machine lacks and training needs."""
    python(["-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT])
    if missing := lacking((ROOT / PACKAGES).read_text(encoding="utf-8")):
        platforms = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]
        words = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--implementation", "cp"]
        words += ["--python-version", version, *(word for name in platforms for word in ("--platform", name))]
        python([*words, "--dest", folder, *missing])


def lacking(text: str) -> list[str]:
    """The requirements in a list of packages that are to be carried."""
    return [match[1] for line in text.splitlines() if (match := re.fullmatch(r"(\S+==\S+)\s+# carried", line))]


def python(words: list) -> None:
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        message = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise UsageError(f"`python {' '.join(map(str, words[:3]))}` failed: {message}")


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def listed(parts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count / MIB:.1f} MiB" for name, count in parts.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="an empty folder, or a new one")
    parser.add_argument("--photographs", type=Path, required=True, help="CIFAR-10 as an image folder in a .tar.xz")
    options = parser.parse_args()
    try:
        print(f"{options.folder}: {listed(put_together(options.folder, options.photographs))}.")
    except UsageError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
