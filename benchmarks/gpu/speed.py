"""The rows of `benchmarks.cuda`, each stored as soon as it is measured; stored ones are not measured again.

python -m benchmarks.gpu.speed --json speed.json [--device cuda] [--rehearse]
"""

import argparse
import gc
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch

from benchmarks import cuda
from benchmarks.timing import Options, Row, table

REHEARSED = (
    cuda.lanes("lenet-300-100", "graphs", night=True),
    cuda.lanes("lenet-300-100", "captured"),
    cuda.epoch("resnet-20"),
    cuda.against_loader("resnet-20"),
    cuda.channels_last("resnet-20"),
)
"""What a rehearsal runs: nearly every way of measuring, on networks that a CPU is soon through with."""


def measure(cases: Iterable[cuda.Case], options: Options, path: Path) -> None:
    """Measure the rows that ``path`` does not have yet, of this machine, and put each there.

    A case that fails is a row too, which says why and is measured again the next time.
    """
    machine = options.machine()
    rows = [row for row in read(path, machine) if row.measured]
    for case in cases:
        names = {name for name, _, _ in case.rows}
        if names <= {row.name for row in rows}:
            continue
        try:
            new = case.run(options)
        except Exception as error:
            new = case.missing(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        gc.collect()
        torch.cuda.empty_cache()
        rows = [*(row for row in rows if row.name not in names), *new]
        write(path, machine, rows)
        print(table([row.cells() for row in new]).split("\n", 1)[1], flush=True)


def read(path: Path, machine: dict) -> list[Row]:
    """The stored rows, if they are of this machine: a ratio of another one says nothing about this."""
    if not path.exists():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    return [Row.from_data(row) for row in content["rows"]] if content["machine"] == machine else []


def write(path: Path, machine: dict, rows: list[Row]) -> None:
    """The rows as JSON, and beside it the same as a table in text."""
    content = {"machine": machine, "rows": [row.data() for row in rows]}
    head = ", ".join(f"{name} {value}" for name, value in machine.items())
    put(path, json.dumps(content, indent=1, ensure_ascii=False))
    put(path.with_suffix(".txt"), f"{head}\n\n{table([row.cells() for row in rows])}")


def put(path: Path, text: str) -> None:
    """Write a file that is there wholly or not at all: this process is stopped at any moment."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(f"{text}\n", encoding="utf-8")
    os.replace(temporary, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="file of the rows; a table in text is put beside it")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rehearse", action="store_true", help="each kind of row once, tiny")
    flags = parser.parse_args()
    options = Options(rounds=1 if flags.rehearse else 5, device=flags.device, quick=flags.rehearse)
    with suppress(KeyboardInterrupt):  # the limit; what is measured is stored
        measure(REHEARSED if flags.rehearse else cuda.CASES, options, flags.json)


if __name__ == "__main__":
    main()
