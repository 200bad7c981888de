"""Tests, speed and curves on a GPU within a number of minutes; what each stage finds is stored as it comes.

    python -m benchmarks.gpu --minutes 9 --out FOLDER

FOLDER gets checks.xml (the tests marked `cuda`), speed.json and speed.txt (the rows), results.zip (the records of all
runs) and log.txt. A second call with the same FOLDER, or one with --resume, goes on where the first stopped.
"""

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks.gpu import checks, curves
from benchmarks.gpu.limits import Clock, run
from dwfbench.base.machine import cores

CHECKS_SHARE, SPEED_SHARE = 1 / 6, 0.35
"""Of the time that is left when a stage begins; curves get the rest, and what the stages before them do not need."""

RESERVE_SECONDS = 30
"""Kept for the end: a command asked to stop, and the last packing."""

KEPT = ("checks.xml", "speed.json", "speed.txt", "results.zip")


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    clock = Clock(options.minutes)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    if options.resume:
        take(options.resume, out)
    log, device = out / "log.txt", "cpu" if options.rehearse else "cuda"
    jobs = min(3, cores())  # one compiles while another trains
    place = curves.Place(device, jobs, options.carried, options.work, out / "results.zip", log, options.rehearse)
    curves.unpack(place, place.archive)

    if checks.passed(out / "checks.xml"):
        print("The tests have passed before.", flush=True)
    else:
        seconds = CHECKS_SHARE * clock.seconds_left
        print(f"Tests: {checks.check(seconds, out / 'checks.xml', log, options.rehearse)}.", flush=True)

    words: list[str | Path] = [sys.executable, "-m", "benchmarks.gpu.speed", "--device", device]
    words += ["--json", out / "speed.json"]
    seconds = SPEED_SHARE * max(0, clock.seconds_left - RESERVE_SECONDS)
    code = run([*words, *(["--rehearse"] if options.rehearse else [])], seconds, log, grace=5)
    print("Speed: stopped at its limit." if code is None else f"Speed: exit code {code}.", flush=True)

    curves.train(place, clock, RESERVE_SECONDS)
    print(f"{options.minutes:g} minutes, of which {clock.seconds_left:.0f} s are left.", flush=True)
    return 0


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="when everything has ended [default: 9]")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is found")
    parser.add_argument(
        "--work", type=Path, default=Path("results/gpu"), help="folder of records [default: results/gpu]"
    )
    parser.add_argument(
        "--carried",
        type=Path,
        default=Path("carried"),
        help="fashion-mnist/ and cifar10-jpeg.tar.xz [default: carried]",
    )
    parser.add_argument("--resume", type=Path, help="the folder that an earlier call wrote, or its results.zip")
    parser.add_argument("--rehearse", action="store_true", help="everything once, tiny, on the CPU")
    options = parser.parse_args(argv)
    if not options.minutes > 0:
        parser.error("--minutes must be above 0")
    if options.resume and not options.resume.exists():
        parser.error(f"there is no {options.resume} to go on from")
    return options


def take(earlier: Path, out: Path) -> None:
    """Copy what an earlier call wrote to where this one writes."""
    if earlier.is_file():
        shutil.copyfile(earlier, out / "results.zip")
    elif earlier.resolve() != out.resolve():
        for name in KEPT:
            if (earlier / name).exists():
                shutil.copyfile(earlier / name, out / name)


if __name__ == "__main__":
    sys.exit(main())
