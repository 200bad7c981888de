"""Curves, one `dwfbench run` a network, packed while they train: what is stored is sent back, whenever it ends."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gpu.limits import Clock, run

HERE = Path(__file__).parent
TUNED = HERE.parents[1] / "results" / "tuned"
MOST = 12_000_000
"""Bytes of the archive."""

PACK_SECONDS = 60

Flags = Mapping[str, str | Path]
"""The values of flags by their names, "" for one without a value."""

TINY: Flags = {"epochs": "1", "warmup-epochs": "0", "batch-size": "10", "strength": "1e-4"}
"""What a rehearsal changes, and what more by network: the first one has all methods, and two epochs for IMP's two
trainings, the others few. In the place of VGG-16 a quarter as wide one is trained."""
ALL: Flags = {"seeds": "2", "compression": "10", "epochs": "2", "rounds": "1", "samples-per-class": "1"}
FEW: Flags = {"seeds": "1", "method": "dwf", "depth": "3", "jobs": "1"}


@dataclass(frozen=True)
class Network:
    """A network's curves: its config file, epochs between two rows of a history, and flags of its command.

    Beside the config file may lie an archive of the same name, whose runs and tuning are gone on from.
    """

    config: Path
    every: int
    flags: Flags = field(default_factory=dict)
    rehearsed: Flags = field(default_factory=lambda: FEW)


NETWORKS = (
    Network(TUNED / "lenet-300-100.toml", 10, {"tuned": "", "seeds": "5", "lanes": "80"}, ALL),
    Network(HERE / "lenet-5.toml", 5),
    # cuDNN's grouped convolutions, which lanes become, are slow
    Network(HERE / "vgg-16.toml", 5, {"lanes": "1"}, {**FEW, "model": "vgg-16-quarter"}),
)
"""In the order of what they are worth."""


@dataclass(frozen=True)
class Place:
    """Where curves are trained and where from: ``results`` is the folder of records, ``archive`` what comes of it."""

    device: str
    jobs: int
    carried: Path
    results: Path
    archive: Path
    log: Path
    rehearse: bool = False

    @property
    def photographs(self) -> Path:
        return self.carried / "cifar10-jpeg.tar.xz"


def dwfbench(*words: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "dwfbench", *words]


def train(place: Place, clock: Clock, reserve: float) -> None:
    """All networks' curves, as far as the clock allows; ``reserve`` seconds are left for the last packing."""
    for network in NETWORKS:
        if (seconds := clock.seconds_left - reserve) <= 0:
            break
        if network.config.stem == "vgg-16" and not place.photographs.exists():
            print(f"There is no {place.photographs}; {network.config.stem} is left out.", flush=True)
            continue
        if not place.rehearse:
            unpack(place, network.config.with_suffix(".zip"))
        code = run(command(network, place), seconds, place.log, meanwhile=lambda: pack(place))
        pack(place)
        if code not in (0, 1, None):  # 1: some runs diverged or failed, which is stored
            print(f"{network.config.stem} ended with exit code {code}.", flush=True)


def command(network: Network, place: Place) -> list[str | Path]:
    """The command that trains what is missing of a network's curves."""
    flags: dict[str, str | Path] = {
        **{"config": network.config, "results": place.results, "device": place.device, "jobs": str(place.jobs)},
        **{"data-dir": place.carried, "eval-every": str(network.every)},
        **network.flags,
    }
    if network.config.stem == "vgg-16":
        flags["dataset"] = place.photographs
    if place.rehearse:
        flags |= {**TINY, **network.rehearsed}
    return dwfbench("run", *(word for name, value in flags.items() for word in (f"--{name}", value) if word != ""))


def pack(place: Place) -> None:
    """The records so far as an archive and a table beside it; those before stay until they are whole."""
    if not (place.results / "runs").exists():
        return
    new = place.results / "packed" / place.archive.name
    shutil.rmtree(new.parent, ignore_errors=True)
    new.parent.mkdir()
    if (code := run(dwfbench("pack", place.results, "-o", new), PACK_SECONDS, place.log)) != 0:
        print(f"The records could not be packed (exit code {code}); they are in {place.results}.", flush=True)
        return
    for file in new.parent.iterdir():
        os.replace(file, place.archive.with_suffix(file.suffix))
    if (size := place.archive.stat().st_size) > MOST:
        print(f"{place.archive} has {size:,} bytes, more than the {MOST:,} that it should have.", flush=True)


def unpack(place: Place, archive: Path) -> None:
    """The records of an earlier call, or of a set that is gone on from, so that their runs are not trained again.

    Nothing where there is no such archive.
    """
    if not archive.exists():
        return
    code = run(dwfbench("unpack", archive, "--to", place.results), PACK_SECONDS, place.log)
    if code != 0:
        raise SystemExit(f"Error: {archive} could not be unpacked (exit code {code}).")
