"""What a GPU is for: many runs in lanes, CUDA graphs, convolutions in bfloat16. Part of `benchmarks.training`.

A machine without a GPU says of all rows that they were not measured. With ``Options.quick`` the cases run on a CPU too,
much smaller, to see that they work.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.timing import NO_CUDA, Measured, Options, Ratio, Row
from benchmarks.workload import DENSE, DWF3, DWF4, SHAPES, Chosen, Workload, measured
from dwfbench import models
from dwfbench.data.dataset import Dataset
from dwfbench.training import compile as compiler
from dwfbench.training.lanes import tensors_of

LANES, BATCH, SAMPLES = 48, 128, 50_000
LOADER_WORKERS = 8
STEPS = {
    "eager": "eager",
    "compiled": "compiled, without CUDA graphs",
    "graphs": "compiled, in CUDA graphs",
    "captured": "the eager step in a CUDA graph",
}
"""How a step is called, and how a row's note says it."""


@dataclass(frozen=True)
class Case:
    """A measurement: its rows as (name, unit, target), and what measures their values, in that order."""

    rows: tuple[tuple[str, str, str | None], ...]
    measure: Callable[[Options], list[Measured]]
    note: str = ""

    def missing(self, why: str = NO_CUDA) -> list[Row]:
        """The rows, with the reason why they were not measured."""
        return [Row.missing(name, why, unit, target) for name, unit, target in self.rows]

    def run(self, options: Options) -> list[Row]:
        values = self.measure(options)
        return [
            Row.of(name, value, unit, target, self.note)
            for (name, unit, target), value in zip(self.rows, values, strict=True)
        ]


# ---------------------------------------------------------------- steps


def stepper(load: Workload, way: str, options: Options) -> Callable[[], None]:
    """The step of a workload that is not compiled, to be called in one of the ways of ``STEPS``.

    A compiled step is compiled by its first call, and forgotten when another is made ready before that.
    """
    if way == "captured" and options.place.type == "cuda":
        return captured(load)
    if way in ("compiled", "graphs") and compiler.available(options.place):
        load.advance = compiler.compiled(load.advance, options.place, graphs=way == "graphs")
        compiler.stay([*tensors_of(load.group.state), load.data.train.images, load.data.train.labels])
    return load.step


def captured(load: Workload) -> Callable[[], None]:
    """The step in a CUDA graph: it always reads its batch from the same memory, where each is copied before."""
    index, number = load.batches[0].clone(), 0

    def step() -> None:
        images, labels = load.data.train.images, load.data.train.labels
        load.advance(load.group.state, images, labels, index, load.view, load.rate)

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what libraries allocate at a first call must not be part of the graph
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay() -> None:
        nonlocal number
        number = (number + 1) % len(load.batches)
        index.copy_(load.batches[number])
        graph.replay()

    return replay


# ---------------------------------------------------------------- many runs at once


def lanes(model: str, way: str, target: str | None = None, night: bool = False) -> Case:
    """``LANES`` runs one after the other / in lanes; with ``night``, also the seconds of 100 epochs of all of them."""

    def measure(options: Options) -> list[Measured]:
        count = 2 if options.quick else LANES
        loads = {"one": Workload(options, DWF3, model, compile=False)}
        loads["many"] = Workload(options, DWF3, model, lanes=count, compile=False)
        times = measured(options, {name: stepper(load, way, options) for name, load in loads.items()})
        measurements: list[Measured] = [Ratio.between([count * seconds for seconds in times["one"]], times["many"])]
        if night:
            measurements.append(Measured.of([100 * (54_000 // BATCH) * seconds for seconds in times["many"]]))
        return measurements

    rows: list[tuple[str, str, str | None]] = [
        (f"{LANES} lanes of {model}, {STEPS[way]}: single runs / lanes", "x", target)
    ]
    if night:
        rows.append((f"{LANES} runs of {model} on 54,000 images for 100 epochs, steps alone", "s", "< 60"))
    return Case(tuple(rows), measure)


# ---------------------------------------------------------------- photographs of 32 x 32 in bfloat16


def photographs(options: Options, chosen: Chosen, model: str, augment: str = "none") -> Workload:
    """Steps of one run, not compiled."""
    batch, samples = (4, 4) if options.quick else (BATCH, SAMPLES)
    shared: dict[str, Any] = {"batch": batch, "samples": samples, "precision": "bfloat16", "augment": augment}
    return Workload(options, chosen, model, compile=False, **shared)


def title(model: str, comparison: str) -> str:
    return f"{model}, bfloat16, CUDA: {comparison}"


def epoch(model: str, target: str | None = None, share: str | None = None) -> Case:
    """The seconds of an epoch's steps, and the part of them that the GPU is busy."""

    def measure(options: Options) -> list[Measured]:
        step = stepper(photographs(options, DENSE, model), "graphs", options)
        times = measured(options, {"step": step})["step"]
        working = busy(step, options)
        return [
            Measured.of([SAMPLES // BATCH * seconds for seconds in times]),
            Measured.of([working / seconds for seconds in times]),
        ]

    seconds = (title(model, "seconds an epoch of 50,000 images"), "s", target)
    part = (title(model, "part of the loop that the GPU is busy"), "", share)
    return Case((seconds, part), measure, f"dense, {STEPS['graphs']}")


def busy(step: Callable[[], None], options: Options) -> float:
    """Seconds of a step that the device spends in kernels."""
    activity, steps = torch.profiler.ProfilerActivity, 2 if options.quick else 50
    on_gpu = options.place.type == "cuda"
    with torch.profiler.profile(activities=[activity.CUDA if on_gpu else activity.CPU]) as profile:
        for _ in range(steps):
            step()
        options.synchronize()
    events = profile.key_averages()
    total = sum(event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events)
    return total / 1e6 / steps


def depth(model: str, target: str | None = None) -> Case:
    """DWF's step at D = 4 / the dense step."""

    def measure(options: Options) -> list[Measured]:
        loads = {"dense": photographs(options, DENSE, model), "dwf": photographs(options, DWF4, model)}
        times = measured(options, {name: stepper(load, "graphs", options) for name, load in loads.items()})
        return [Ratio.between(times["dwf"], times["dense"])]

    return Case(((title(model, "dwf D=4 / dense"), "x", target),), measure, STEPS["graphs"])


def channels_last(model: str) -> Case:
    """The eager step with weights as they are / with those of convolutions in the order that tensor cores prefer."""

    def measure(options: Options) -> list[Measured]:
        loads = {"plain": photographs(options, DENSE, model), "last": photographs(options, DENSE, model)}
        state = loads["last"].group.state
        for tensors in (state.weights, state.velocity):
            for name, value in tensors.items():
                if value.dim() == 5:  # of one lane: (1, out, in, height, width)
                    tensors[name] = value[0].contiguous(memory_format=torch.channels_last)[None]
        times = measured(options, {name: stepper(load, "eager", options) for name, load in loads.items()})
        return [Ratio.between(times["plain"], times["last"])]

    return Case(((title(model, "step / step in channels_last"), "x", None),), measure, "dense, eager")


def against_loader(model: str) -> Case:
    """An epoch of an ordinary loop / one of ours, evaluation included, both eager, with crops and flips."""

    def measure(options: Options) -> list[Measured]:
        load = photographs(options, DENSE, model, augment="standard")
        plain = loader_epoch(model, load.data, load.batches.shape[1], options)
        fewer = replace(options, rounds=min(3, options.rounds))
        times = measured(fewer, {"plain": plain, "ours": load.epoch}, warm_up=1, least=0.0)
        return [Ratio.between(times["plain"], times["ours"])]

    row_title = title(model, "epoch of a DataLoader loop / our epoch")
    return Case(((row_title, "x", None),), measure, f"dense, eager, DataLoader with {LOADER_WORKERS} workers")


class Photographs(torch.utils.data.Dataset):
    """Images in the processor's memory, through torchvision's transforms one at a time, as its CIFAR10 gives them."""

    def __init__(self, data: Dataset):
        from torchvision import transforms

        self.images: np.ndarray = data.train.images.permute(0, 2, 3, 1).cpu().numpy()
        self.labels = data.train.labels.tolist()
        moved = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        normal = [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.25,) * 3)]
        self.transform = transforms.Compose([transforms.ToPILImage(), *moved, *normal])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def loader_epoch(model: str, data: Dataset, batch: int, options: Options) -> Callable[[], None]:
    """An epoch as an ordinary script trains it on a GPU: a DataLoader, channels_last, autocast, torch's SGD."""
    place, workers = options.place, 0 if options.quick else LOADER_WORKERS
    loader_options = {"pin_memory": place.type == "cuda", "persistent_workers": workers > 0}
    loader = torch.utils.data.DataLoader(
        Photographs(data), batch_size=batch, shuffle=True, drop_last=True, num_workers=workers, **loader_options
    )
    network = models.build(model, SHAPES[model], 10, 0).to(place).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def epoch() -> None:
        for images, labels in loader:
            images = images.to(place, non_blocking=True, memory_format=torch.channels_last)
            optimizer.zero_grad()
            with torch.autocast(place.type, torch.bfloat16):
                logits = network(images)
            nn.functional.cross_entropy(logits.float(), labels.to(place, non_blocking=True)).backward()
            optimizer.step()

    return epoch


CASES = (
    lanes("lenet-300-100", "graphs", ">= 20", night=True),
    lanes("lenet-300-100", "eager"),
    lanes("lenet-300-100", "captured"),
    epoch("resnet-18", "< 1.5", ">= 0.9"),
    depth("resnet-18", "<= 1.10"),
    against_loader("resnet-18"),
    epoch("vgg-16"),
    depth("vgg-16"),
    lanes("lenet-5", "graphs", ">= 10"),
    lanes("lenet-5", "eager"),
    lanes("lenet-300-100", "compiled"),
    channels_last("resnet-18"),
    channels_last("vgg-16"),
    against_loader("vgg-16"),
)
"""In the order of what they are worth."""
