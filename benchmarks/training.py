"""What a training step costs, against its own matrix products, other depths, other numbers of lanes and a plain loop.

    python -m benchmarks.training

1. step / its matrix products alone: the same products, of the same shapes, and nothing else. Two references: the
   products as the step computes them, and as torch.mm does (on some processors another, slower library).
2. an epoch of an ordinary loop (torchvision data set, DataLoader, torch.optim.SGD) / our epoch, on MNIST-size data.
3. DWF's step at D = 2, 3, 4 / the dense step.
4. L runs one after the other / L lanes.

Images are random bytes: the time of a step does not depend on what is in them.
"""

import gc
import importlib
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.timing import Measured, Options, Ratio, Row, interleaved, main
from dwfbench import compiler, method, models, training
from dwfbench.data import Dataset, Split
from dwfbench.spec import RunSpec

SHAPES = {"lenet-300-100": (1, 28, 28), "lenet-5": (1, 28, 28), "resnet-18": (3, 32, 32)}
MNIST_SAMPLES = 60_000
DENSE, DWF3, DWF4 = ("dense", {}), ("dwf", {"depth": 3}), ("dwf", {"depth": 4})


def rows(options: Options) -> list[Row]:
    place = options.place
    found = [*against_products(options), *against_loader(options), *against_dense(options), *lanes(options)]
    if place.type != "cuda":
        missing = (
            ("48 lanes of lenet-300-100: single runs / lanes", "x", ">= 20"),
            ("48 lanes of lenet-5: single runs / lanes", "x", ">= 10"),
            ("48 runs of lenet-300-100 on 54,000 images for 100 epochs, steps alone", "s", "< 60"),
            ("resnet-18, bfloat16, CUDA: seconds an epoch of 50,000 images", "s", "< 1.5"),
            ("resnet-18, bfloat16, CUDA: dwf D=4 / dense", "x", "<= 1.10"),
            ("resnet-18, bfloat16, CUDA: part of the loop that the GPU is busy", "", ">= 0.9"),
        )
        return [*found, *(Row.missing(name, unit=unit, target=target) for name, unit, target in missing)]
    return [*found, *on_cuda(options)]


# ---------------------------------------------------------------- what is measured


class Workload:
    """Steps of a group of lanes over random images."""

    def __init__(
        self,
        options: Options,
        chosen: tuple[str, dict],
        model: str = "lenet-300-100",
        *,
        lanes: int = 1,
        batch: int = 128,
        precision: str = "float32",
        samples: int = 10_000,
        compile: bool = True,
    ):
        name, own = chosen
        kind = method.create(name, own)
        knob = {kind.knob: 1e-4} if kind.knob else {}
        shared = {"model": model, "dataset": "random", "batch_size": batch, "precision": precision}
        specs = [RunSpec(method=name, options=own, epochs=1, lr=0.01, **shared, **knob) for _ in range(lanes)]
        self.data = random_images(SHAPES[model], samples).to(options.place)
        self.trainer = training.Trainer(
            specs[0], kind, self.data, compile=compile and compiler.available(options.place)
        )
        self.specs, self.group = specs, self.trainer.start(specs, "benchmark")
        self.batches = torch.randint(0, samples, (50, batch), device=options.place)
        self.rate = torch.full((lanes,), 0.01, device=options.place)
        self.view = torch.empty(batch, 0, device=options.place)  # no augmentation
        self.position = 0
        self.trainer.network.train()

    def step(self) -> None:
        self.position = (self.position + 1) % len(self.batches)
        index = self.batches[self.position]
        self.trainer.step(self.group.state, self.data.train.images, self.data.train.labels, index, self.view, self.rate)

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


def products(model: str, options: Options, *, lanes: int, batch: int, dtype: torch.dtype, mm: Callable) -> Callable:
    """The matrix products and convolutions of a step: forward, weights' gradients, inputs' gradients.

    ``mm`` multiplies two matrices. Convolutions are called as PyTorch's own operators are.
    """
    place = options.place
    network = models.build(model, SHAPES[model], 10, 0).to(place)
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: calls.append((layer, inputs[0], output)))
        for layer in network.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        network(torch.randn(batch, *SHAPES[model], device=place))
    for hook in hooks:
        hook.remove()

    def several(tensor: Tensor) -> Tensor:
        return torch.stack([tensor] * lanes).to(dtype) if lanes > 1 else tensor.to(dtype)

    work = []
    for number, (layer, inputs, output) in enumerate(calls):
        x, w, g = several(inputs), several(layer.weight.detach()), several(torch.randn_like(output))
        if isinstance(layer, nn.Linear):
            work += [(mm, (x, w.mT)), (mm, (g.mT, x)), *([(mm, (g, w))] if number else [])]
        else:
            geometry = (list(layer.stride), list(layer.padding), list(layer.dilation))
            for i in range(lanes):
                xi, wi, gi = (x[i], w[i], g[i]) if lanes > 1 else (x, w, g)
                rest = (*geometry, False, [0, 0], 1)
                work.append((torch.ops.aten.convolution, (xi, wi, None, *rest)))
                wanted = [number > 0, True, False]
                work.append((torch.ops.aten.convolution_backward, (gi, xi, wi, None, *rest, wanted)))

    def run() -> None:
        for call, arguments in work:
            call(*arguments)

    return run


def plain_epoch(folder: Path, workers: int) -> Callable:
    """An epoch as an ordinary script trains it: torchvision's data set and transforms, a DataLoader, torch's SGD."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    as_usual = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    images = datasets.MNIST(str(folder), train=True, transform=as_usual)
    loader = DataLoader(images, batch_size=128, shuffle=True, drop_last=True, num_workers=workers)
    network = models.build("lenet-300-100", SHAPES["lenet-300-100"], 10, 0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def epoch() -> None:
        for inputs, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs), labels).backward()
            optimizer.step()

    return epoch


def write_mnist(folder: Path, samples: int) -> None:
    """Random images in MNIST's format, where torchvision looks for them."""
    data = random_images((1, 28, 28), samples).train
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = struct.pack(">IIII", 0x803, samples, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + data.images.numpy().tobytes())
        header = struct.pack(">II", 0x801, samples)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + data.labels.byte().numpy().tobytes())


# ---------------------------------------------------------------- the rows


def measured(options: Options, variants: dict[str, Callable], **how) -> dict[str, list[float]]:
    gc.collect()
    least = {"least": 0.0, "warm_up": 1} if options.quick else {"warm_up": 10}
    return interleaved(variants, options.rounds, synchronize=options.synchronize, **{**least, **how})


def against_products(options: Options) -> list[Row]:
    found = []
    cases = [
        ("lenet-300-100", DENSE, 1, "float32", "<= 1.3"),
        ("lenet-300-100", DWF3, 1, "float32", "<= 1.3"),
        ("lenet-300-100", DWF3, 8, "float32", "<= 1.3"),
        ("lenet-300-100", DENSE, 1, "bfloat16", None),
        ("lenet-300-100", DWF3, 1, "bfloat16", None),
        ("lenet-300-100", DWF3, 8, "bfloat16", None),
        ("lenet-5", DENSE, 1, "float32", "<= 3"),
        ("lenet-5", DWF3, 1, "float32", "<= 3"),
        ("lenet-5", DWF3, 1, "bfloat16", None),
    ]
    full: dict[tuple, Workload] = {}
    own = compiler.onednn_is_faster() and options.place.type == "cpu"
    for model, chosen, count, precision, target in cases[:1] if options.quick else cases:
        dtype = torch.float32 if precision == "float32" else torch.bfloat16
        shape = {"lanes": count, "batch": 128, "dtype": dtype}
        load = Workload(options, chosen, model, lanes=count, precision=precision)
        variants = {
            "step": load.step,
            "torch.mm": products(model, options, **shape, mm=torch.matmul),
        }
        if own and precision == "float32" and count == 1:
            importlib.import_module("dwfbench.onednn")  # makes the operator known
            variants["oneDNN"] = products(model, options, **shape, mm=torch.ops.dwfbench.product)
        if precision == "bfloat16" and (model, label(chosen), count) in full:
            variants["float32"] = full[model, label(chosen), count].step
        if precision == "float32":
            full[model, label(chosen), count] = load
        times = measured(options, variants)
        what = f"{model}, {label(chosen)}, {precision}, {count} lane{'s' * (count > 1)}"
        found.append(Row.of(f"{what}: step / torch.mm", Ratio.of(times["step"], times["torch.mm"]), target=target))
        if "oneDNN" in times:
            found.append(Row.of(f"{what}: step / oneDNN's products", Ratio.of(times["step"], times["oneDNN"])))
        if "float32" in times:
            faster = Ratio.of(times["float32"], times["step"])
            bound = ">= 1.4" if model == "lenet-300-100" else None
            found.append(Row.of(f"{what}: float32 step / this step", faster, target=bound))
    return found


def against_loader(options: Options) -> list[Row]:
    samples = 2_000 if options.quick else MNIST_SAMPLES
    with tempfile.TemporaryDirectory() as name:
        write_mnist(Path(name), samples)
        ours = Workload(options, DENSE, samples=samples).epoch
        plain = {f"{n} workers": plain_epoch(Path(name), n) for n in ((0,) if options.quick else (0, 2))}
        fewer = Options(min(3, options.rounds), options.threads, options.device, options.quick)
        times = measured(fewer, {"ours": ours, **plain}, warm_up=1, least=0.0)
    best = min(plain, key=lambda variant: sum(times[variant]))
    title = "lenet-300-100, MNIST-size: epoch of a DataLoader loop / our epoch"
    return [Row.of(title, Ratio.of(times[best], times["ours"]), target=">= 12", note=f"DataLoader with {best}")]


def against_dense(options: Options) -> list[Row]:
    found = []
    for model, batch in (("lenet-300-100", 128), ("lenet-300-100", 256), ("lenet-5", 128)):
        loads = {"dense": Workload(options, DENSE, model, batch=batch)}
        for depth in (3,) if options.quick else (2, 3, 4):
            loads[depth] = Workload(options, ("dwf", {"depth": depth}), model, batch=batch)
        times = measured(options, {name: load.step for name, load in loads.items()})
        found += [
            Row.of(
                f"{model}, batch {batch}: step of dwf D={depth} / dense",
                Ratio.of(times[depth], times["dense"]),
                target="<= 1.15" if depth == 4 else None,
            )
            for depth in loads
            if depth != "dense"
        ]
        if options.quick:
            break
    return found


def lanes(options: Options) -> list[Row]:
    found = []
    cuda = options.place.type == "cuda"
    cases = [("lenet-300-100", 48, True, ">= 20"), ("lenet-5", 48, True, ">= 10")] if cuda else []
    cases += [] if cuda else [("lenet-300-100", 8, True, None), ("lenet-300-100", 8, False, None)]
    for model, count, compile, target in cases[:1] if options.quick else cases:
        one = Workload(options, DWF3, model, compile=compile)
        many = Workload(options, DWF3, model, lanes=count, compile=compile)
        times = measured(options, {"one": one.step, "many": many.step})
        singles = [count * seconds for seconds in times["one"]]
        how = "compiled" if compile else "eager"
        title = f"{count} lanes of {model}: single runs / lanes"
        found.append(Row.of(title, Ratio.of(singles, times["many"]), target=target, note=how))
        if cuda and model == "lenet-300-100":
            title = "48 runs of lenet-300-100 on 54,000 images for 100 epochs, steps alone"
            night = [100 * (54_000 // 128) * seconds for seconds in times["many"]]
            found.append(Row.of(title, Measured.of(night), unit="s", target="< 60"))
    return found


def on_cuda(options: Options) -> list[Row]:
    """ResNet-18 at CIFAR's size in bfloat16: an epoch, what the factors add, and how busy the GPU is."""
    dense, dwf = (Workload(options, chosen, "resnet-18", precision="bfloat16") for chosen in (DENSE, DWF4))
    times = measured(options, {"dense": dense.step, "dwf": dwf.step})
    steps = 50_000 // 128
    title = "resnet-18, bfloat16, CUDA:"
    epochs = Measured.of([steps * seconds for seconds in times["dense"]])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(50):
            dwf.step()
        options.synchronize()
    busy = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 / 50
    part = busy / Measured.of(times["dwf"]).value
    return [
        Row.of(f"{title} seconds an epoch of 50,000 images", epochs, unit="s", target="< 1.5"),
        Row.of(f"{title} dwf D=4 / dense", Ratio.of(times["dwf"], times["dense"]), target="<= 1.10"),
        Row(f"{title} part of the loop that the GPU is busy", part, None, "", ">= 0.9"),
    ]


def label(chosen: tuple[str, dict]) -> str:
    return method.create(*chosen).label()


if __name__ == "__main__":
    main(rows, __doc__)
