"""The frame of all benchmarks: variants measured in turn, rows with their spread and target, one table and its JSON.

A machine's clock drifts while it measures, so nothing is compared across runs: variants are measured A B A B ... and
the ratio is taken within each round. Medians throughout, because a shared machine only ever adds time.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import Any

from dwfbench.base.errors import UsageError
from dwfbench.base.machine import cores

NO_CUDA = "no CUDA device"
HEAD = ("measured", "median", "quartiles", "target", "", "note")


# ---------------------------------------------------------------- measuring


def interleaved(
    variants: dict[str, Callable[[], Any]],
    rounds: int,
    *,
    least: float = 0.1,
    warm_up: int = 2,
    synchronize: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per call of every variant, one number a round; the variants take turns within a round.

    Each is called ``warm_up`` times first (compilation, caches, the allocator). A measurement makes as many calls as
    last ``least`` seconds, or one. ``synchronize`` (see ``Options``) waits for the device before the clock is read.
    """
    wait = synchronize or (lambda: None)

    def seconds(call: Callable[[], Any], calls: int) -> float:
        wait()
        start = clock()
        for _ in range(calls):
            call()
        wait()
        return (clock() - start) / calls

    counts = {}
    for name, call in variants.items():
        for _ in range(warm_up):
            call()
        counts[name] = 1 if least <= 0 else _calls(partial(seconds, call), least)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, call in variants.items():
            times[name].append(seconds(call, counts[name]))
    return times


def _calls(seconds: Callable[[int], float], least: float) -> int:
    """How many calls last ``least`` seconds. Doubled until they do: a single short call is timed too coarsely."""
    calls = 1
    while calls < 2**20 and seconds(calls) * calls < least:
        calls *= 2
    return calls


@dataclass(frozen=True)
class Measured:
    """A median with the quartiles of the rounds around it."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Measured":
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Ratio(Measured):
    """The median over rounds of a / b, and the median milliseconds of each."""

    a_ms: float = float("nan")
    b_ms: float = float("nan")

    @classmethod
    def between(cls, a: Sequence[float], b: Sequence[float]) -> "Ratio":
        """From the seconds of two variants of ``interleaved``; the ratio is taken within each round."""
        ratio = Measured.of([numerator / denominator for numerator, denominator in zip(a, b, strict=True)])
        return cls(**asdict(ratio), a_ms=1000 * statistics.median(a), b_ms=1000 * statistics.median(b))

    @property
    def milliseconds(self) -> str:
        """Both medians in words, for a row's note."""
        return f"{_short(self.a_ms)} / {_short(self.b_ms)} ms"


# ---------------------------------------------------------------- rows


@dataclass(frozen=True)
class Row:
    """One line of a table. ``target`` is a bound on the value: "<= 1.3", "< 3" or ">= 12".

    A row without a value was not measured, and its note says why.
    """

    name: str
    value: float | None
    spread: tuple[float, float] | None = None
    unit: str = "x"
    target: str | None = None
    note: str = ""

    @classmethod
    def of(cls, name: str, result: Measured, unit: str = "x", target: str | None = None, note: str = "") -> "Row":
        """The row of a measurement; a ratio's note begins with the milliseconds of both sides."""
        parts = [result.milliseconds if isinstance(result, Ratio) else "", note]
        return cls(name, result.value, (result.low, result.high), unit, target, ", ".join(filter(None, parts)))

    @classmethod
    def missing(cls, name: str, why: str = NO_CUDA, unit: str = "x", target: str | None = None) -> "Row":
        return cls(name, None, None, unit, target, f"not measured: {why}")

    @property
    def measured(self) -> bool:
        return self.value is not None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target or a value."""
        if self.target is None or self.value is None:
            return None
        sign, bound = self.target.split()
        holds = {"<": self.value < float(bound), "<=": self.value <= float(bound), ">=": self.value >= float(bound)}
        return holds[sign]

    def data(self) -> dict[str, Any]:
        return {**asdict(self), "measured": self.measured, "met": self.met}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Row":
        """The row whose ``data()`` this is."""
        values = {item.name: data[item.name] for item in fields(cls)}
        return cls(**values | {"spread": tuple(values["spread"]) if values["spread"] else None})

    def cells(self) -> list[str]:
        value = "-" if self.value is None else f"{_short(self.value)} {self.unit}"
        spread = f"{_short(self.spread[0])} .. {_short(self.spread[1])}" if self.spread else ""
        met = {None: "", True: "met", False: "MISSED"}[self.met]
        return [self.name, value, spread, self.target or "", met, self.note]


def _short(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


# ---------------------------------------------------------------- the command line


@dataclass(frozen=True)
class Options:
    """What every benchmark module is told. ``quick`` is for tests: the numbers then mean nothing."""

    rounds: int = 7
    threads: int | None = None
    device: str = "auto"
    quick: bool = False

    @cached_property
    def place(self):
        """The torch device, with threads and number formats set as ``dwfbench run`` sets them."""
        from dwfbench.cli.options import hardware

        return hardware(self.device, self.threads, jobs=1)[0]

    def synchronize(self) -> None:
        """Waits for the device; what ``interleaved`` takes."""
        if self.place.type == "cuda":
            import torch

            torch.cuda.synchronize(self.place)

    def machine(self) -> dict[str, Any]:
        """Processor, cores, threads, versions and device: what a number means without its machine is nothing."""
        import torch

        from dwfbench.training.assess import processor

        cuda = self.place.type == "cuda"
        return {
            "processor": processor(),
            "cores": cores(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(self.place) if cuda else "cpu",
            "torch": torch.__version__,
            "python": platform.python_version(),
            "dwfbench": metadata.version("dwfbench"),
        }


def parse(description: str, argv: Sequence[str] | None = None) -> tuple[Options, Path | None]:
    """The options of a command line, and the file that ``--json`` names."""
    parser = argparse.ArgumentParser(description=description.strip(), formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, help="measurements of each variant [default: 7]")
    parser.add_argument("--threads", type=int, help="CPU threads [default: all cores]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--quick", action="store_true", help="one round of something smaller, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table as JSON")
    arguments = parser.parse_args(argv)
    rounds = arguments.rounds if arguments.rounds is not None else 1 if arguments.quick else Options.rounds
    if rounds < 1:
        parser.error("--rounds must be at least 1")
    return Options(rounds, arguments.threads, arguments.device, arguments.quick), arguments.json


def main(rows: Callable[[Options], Iterable[Row]], description: str, argv: Sequence[str] | None = None) -> None:
    """What ``python -m benchmarks.NAME`` does: parse, measure, print the table and, if asked, write it as JSON."""
    options, path = parse(description, argv)
    try:
        report(options.machine(), list(rows(options)), path)
    except UsageError as error:  # a device or a number of threads that this machine does not have
        sys.exit(f"Error: {error}")


def report(machine: dict[str, Any], rows: list[Row], path: Path | None = None) -> None:
    """Prints the table and writes it to ``path`` as ``{"machine": {...}, "rows": [{...}, ...]}``."""
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(table([row.cells() for row in rows]))
    if path is not None:
        content = {"machine": machine, "rows": [row.data() for row in rows]}
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned under their heads; those without content are left out, the last one is not padded."""
    columns = [column for column in zip(HEAD, *rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
