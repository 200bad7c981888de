"""What scoring before training costs, in training steps of the same network: SNIP, GraSP and SynFlow.

    python -m benchmarks.scoring

SNIP and GraSP score one batch of 10 samples a class; SynFlow scores and selects in rounds that all cost the same,
100 by default. One training step is forward, backward and SGD with momentum, batch 128. The step and the scores are
measured in turn.
"""

from functools import partial

import torch
import torch.nn.functional as F

from baselines import grasp, snip, synflow
from benchmarks.timing import Options, Ratio, Row, interleaved, main
from dwfbench import models

NETWORKS = {"lenet-5": (1, 28, 28), "resnet-18": (3, 32, 32)}
CLASSES, PER_CLASS, BATCH = 10, 10, 128
COMPRESSION = 10.0
SYNFLOW_ROUNDS = {"lenet-5": 100, "resnet-18": 20}  # all 100 would take ResNet-18 half a minute a measurement
SLOW = ("resnet-18",)  # three measurements of a single call are enough where a call takes seconds


def rows(options: Options) -> list[Row]:
    networks = ["lenet-5"] if options.quick else list(NETWORKS)
    return [row for name in networks for row in network_rows(name, options)]


def network_rows(name: str, options: Options) -> list[Row]:
    """A row for each method, on one network."""
    shape, place = NETWORKS[name], options.place
    network = models.build(name, shape, CLASSES, 0).to(place)
    inputs = torch.randn(CLASSES * PER_CLASS, *shape, device=place)
    targets = torch.arange(CLASSES, device=place).repeat(PER_CLASS)
    masks = partial(synflow.masks, network, shape, COMPRESSION)
    count = 2 if options.quick else SYNFLOW_ROUNDS[name]
    calls = {
        "step": training_step(name, options),
        "SNIP": partial(snip.scores, network, inputs, targets),
        "GraSP": partial(grasp.scores, network, inputs, targets),
        f"SynFlow ({count} of 100 rounds)": partial(masks, rounds=count),
    }
    for warm_up in (calls["step"], calls["SNIP"], calls["GraSP"], partial(masks, rounds=1)):
        warm_up()
    slow = name in SLOW
    rounds = min(options.rounds, 3) if slow else options.rounds
    times = interleaved(calls, rounds, warm_up=0, least=0 if slow else 0.1, synchronize=options.synchronize)
    return [
        Row.of(f"{method}, {name}", Ratio.between(times[method], times["step"]), "training steps", note="score / step")
        for method in list(calls)[1:]
    ]


def training_step(name: str, options: Options):
    """One ordinary step on a network of its own: scoring must meet fresh weights, whatever was trained before."""
    shape, place = NETWORKS[name], options.place
    network = models.build(name, shape, CLASSES, 0).to(place).train()
    inputs = torch.randn(BATCH, *shape, device=place)
    targets = torch.arange(BATCH, device=place) % CLASSES
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(network(inputs), targets).backward()
        optimiser.step()

    return step


if __name__ == "__main__":
    main(rows, __doc__)
