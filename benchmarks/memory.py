"""What a run needs at its peak, in copies of the network's weights, at every depth.

    python -m benchmarks.memory

The network is wide enough that its weights outweigh all else. Each measurement is a process of its own: its peak
during training less its size before there were any weights (the device's allocator on CUDA). A run keeps D factors;
momentum adds one velocity a factor.
"""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from benchmarks.timing import Options, Row, main

if TYPE_CHECKING:
    from torch import nn

WIDTH = 3072
MIB = 2**20


def rows(options: Options) -> list[Row]:
    rows = []
    for momentum in (0.0, 0.9):
        peaks = {depth: peak(options, depth, momentum) for depth in ((1,) if options.quick else (1, 2, 3, 4))}
        for depth, (copies, mib) in peaks.items():
            method = "dense" if depth == 1 else f"dwf D={depth}"
            title = f"{method}, momentum {momentum:g}: peak memory of a lane"
            rows.append(Row(title, copies, None, "copies", None, f"{mib:.0f} MiB"))
        if not options.quick:
            title = f"momentum {momentum:g}: copies that each further factor adds"
            slope = (peaks[4][0] - peaks[2][0]) / 2
            rows.append(Row(title, slope, None, "copies", None if momentum else "<= 1.1"))
    return rows


def peak(options: Options, depth: int, momentum: float) -> tuple[float, float]:
    """Peak of a training of a few steps, in copies of the weights and in MiB. Depth 1 is dense training."""
    case = json.dumps([str(options.place), depth, momentum])
    command = [sys.executable, "-m", "benchmarks.memory", case]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    used, weights = json.loads(done.stdout.splitlines()[-1])
    return used / weights, used / MIB


def build(input_shape: Sequence[int], classes: int) -> "nn.Module":
    """Two hidden layers of WIDTH units."""
    from torch import nn

    widths = (math.prod(input_shape), WIDTH, WIDTH)
    layers = [(nn.Linear(ins, outs), nn.ReLU()) for ins, outs in pairwise(widths)]
    return nn.Sequential(nn.Flatten(), *(part for layer in layers for part in layer), nn.Linear(WIDTH, classes))


def measure(device: str, depth: int, momentum: float) -> tuple[int, int]:
    """Bytes used at the peak of training in this process, and bytes of the network's weights."""
    import torch

    from benchmarks.workload import random_images
    from dwfbench.methods import registry
    from dwfbench.runs.spec import RunSpec
    from dwfbench.training import assess, loop
    from dwfbench.training import compile as compiler

    place = torch.device(device)
    torch.set_num_threads(1)
    chosen = registry.create("dwf", {"depth": depth}) if depth > 1 else registry.create("dense", {})
    shared: dict[str, Any] = {"method": chosen.name, "options": chosen.changed(), "dataset": "random", "batch_size": 64}
    shared |= {"epochs": 1, "lr": 1e-3, "momentum": momentum} | ({"strength": 1e-4} if depth > 1 else {})
    data = random_images((1, 4, 4), 512).to(place)

    def train(model: str) -> None:
        spec = RunSpec(model=model, **shared)
        trainer = loop.Trainer(spec, chosen, data, compile=compiler.available(place))
        trainer.advance(trainer.start([spec], "benchmark"), 1, lambda lanes, epochs: None)

    train("lenet-300-100")  # what the libraries and the compiler themselves take
    peak_before = assess.peak_memory(place)
    train("benchmarks.memory:build")
    return assess.peak_memory(place) - peak_before, 4 * (16 * WIDTH + WIDTH * WIDTH + 10 * WIDTH)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("["):
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    else:
        main(rows, __doc__)
