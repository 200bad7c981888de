"""Steps over random images, as the benchmarks time them: the time of a step does not depend on what is in them."""

import gc
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.timing import Options, interleaved
from dwfbench.data import augment as augmentation
from dwfbench.data.dataset import Dataset, Split
from dwfbench.methods import registry
from dwfbench.runs.spec import RunSpec
from dwfbench.training import compile as compiler
from dwfbench.training import loop

SHAPES = {
    "lenet-300-100": (1, 28, 28),
    "lenet-5": (1, 28, 28),
    "resnet-18": (3, 32, 32),
    "resnet-20": (3, 32, 32),
    "vgg-16": (3, 32, 32),
}
Chosen = tuple[str, dict[str, Any]]
"""A method's name and options."""
DENSE: Chosen = ("dense", {})
DWF3: Chosen = ("dwf", {"depth": 3})
DWF4: Chosen = ("dwf", {"depth": 4})


class Workload:
    """Steps of a group of lanes over random images."""

    def __init__(
        self,
        options: Options,
        chosen: Chosen,
        model: str = "lenet-300-100",
        *,
        lanes: int = 1,
        batch: int = 128,
        precision: str = "float32",
        samples: int = 10_000,
        augment: str = "none",
        compile: bool = True,
    ):
        name, values = chosen
        method = registry.create(name, values)
        knob: dict[str, Any] = {method.knob: 1e-4} if method.knob else {}
        shared: dict[str, Any] = {"model": model, "dataset": "random", "batch_size": batch}
        shared |= {"precision": precision, "augment": augment}
        specs = [RunSpec(method=name, options=values, epochs=1, lr=0.01, **shared, **knob) for _ in range(lanes)]
        self.data = random_images(SHAPES[model], samples).to(options.place)
        self.trainer = loop.Trainer(specs[0], method, self.data, compile=compile and compiler.available(options.place))
        self.specs, self.group = specs, self.trainer.start(specs, "benchmark")
        self.advance = self.trainer.step_of(self.group)
        self.batches = torch.randint(0, samples, (50, batch), device=options.place)
        self.rate = torch.full((lanes,), 0.01, device=options.place)
        self.view = augmentation.draw(augment, batch, torch.Generator().manual_seed(0)).to(options.place)
        self.position = 0
        self.trainer.network.train()

    def step(self) -> None:
        self.position = (self.position + 1) % len(self.batches)
        index = self.batches[self.position]
        self.advance(self.group.state, self.data.train.images, self.data.train.labels, index, self.view, self.rate)

    def epoch(self) -> None:
        """One run of one epoch, as the runner would have it trained, its evaluation included."""
        list(self.trainer.train(self.specs))


def random_images(shape: tuple[int, ...], samples: int) -> Dataset:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (samples, *shape), dtype=torch.uint8, generator=random)
    labels = torch.randint(0, 10, (samples,), generator=random)
    part, none = Split(images, labels), Split(images[:0], labels[:0])
    channels = torch.full((shape[0],), 0.5)
    return Dataset("random", part, none, none, channels, channels / 2, 10, "0" * 16)


def measured(options: Options, variants: dict[str, Callable], **timing_options) -> dict[str, list[float]]:
    gc.collect()
    defaults = {"least": 0.0, "warm_up": 1} if options.quick else {"warm_up": 10}
    return interleaved(variants, options.rounds, synchronize=options.synchronize, **{**defaults, **timing_options})


def label(chosen: Chosen) -> str:
    return registry.create(*chosen).label()
