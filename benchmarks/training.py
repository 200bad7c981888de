"""What a training step costs, against its own matrix products, other depths, other numbers of lanes and a plain loop.

    python -m benchmarks.training

1. step / its matrix products alone: the same products, of the same shapes, and nothing else. Two references: the
   products as the step computes them, and as torch.mm does (on some processors another, slower library).
2. an epoch of an ordinary loop (torchvision data set, DataLoader, torch.optim.SGD) / our epoch, on MNIST-size data.
3. DWF's step at D = 2, 3, 4 / the dense step.
4. L runs one after the other / L lanes, and what else only a GPU shows (`benchmarks.cuda`).
"""

import importlib
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import cuda
from benchmarks.timing import Options, Ratio, Row, main
from benchmarks.workload import DENSE, DWF3, SHAPES, Workload, label, measured, random_images
from dwfbench import models
from dwfbench.training import compile as compiler

MNIST_SAMPLES = 60_000


def rows(options: Options) -> list[Row]:
    on_gpu = options.place.type == "cuda"
    rows = [*against_products(options), *against_loader(options), *against_dense(options)]
    rows += [] if on_gpu else lanes(options)
    return [*rows, *(row for case in cuda.CASES for row in (case.run(options) if on_gpu else case.missing()))]


# ---------------------------------------------------------------- what a step is held against


def products(model: str, options: Options, *, lanes: int, batch: int, dtype: torch.dtype, mm: Callable) -> Callable:
    """The matrix products and convolutions of a step: forward, weights' gradients, inputs' gradients.

    ``mm`` multiplies two matrices. Convolutions are called as PyTorch's own operators are.
    """
    place = options.place
    network = models.build(model, SHAPES[model], 10, 0).to(place)
    calls: list[tuple[nn.Linear | nn.Conv2d, Tensor, Tensor]] = []
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

    work: list[tuple[Callable, tuple]] = []
    for number, (layer, inputs, output) in enumerate(calls):
        x, w, g = several(inputs), several(layer.weight.detach()), several(torch.randn_like(output))
        if isinstance(layer, nn.Linear):
            work += [(mm, (x, w.mT)), (mm, (g.mT, x)), *([(mm, (g, w))] if number else [])]
        else:
            geometry = (list(layer.stride), list(layer.padding), list(layer.dilation))
            for i in range(lanes):
                xi, wi, gi = (x[i], w[i], g[i]) if lanes > 1 else (x, w, g)
                trailing = (*geometry, False, [0, 0], 1)
                work.append((torch.ops.aten.convolution, (xi, wi, None, *trailing)))
                gradients_wanted = [number > 0, True, False]
                work.append((torch.ops.aten.convolution_backward, (gi, xi, wi, None, *trailing, gradients_wanted)))

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


def against_products(options: Options) -> list[Row]:
    rows = []
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
    with_onednn = compiler.onednn_is_faster() and options.place.type == "cpu"
    for model, chosen, count, precision, target in cases[:1] if options.quick else cases:
        dtype = torch.float32 if precision == "float32" else torch.bfloat16
        shape: dict[str, Any] = {"lanes": count, "batch": 128, "dtype": dtype}
        load = Workload(options, chosen, model, lanes=count, precision=precision)
        variants = {
            "step": load.step,
            "torch.mm": products(model, options, **shape, mm=torch.matmul),
        }
        if with_onednn and precision == "float32" and count == 1:
            importlib.import_module("dwfbench.training.onednn")  # makes the operator known
            variants["oneDNN"] = products(model, options, **shape, mm=torch.ops.dwfbench.product)
        if precision == "bfloat16" and (model, label(chosen), count) in full:
            variants["float32"] = full[model, label(chosen), count].step
        if precision == "float32":
            full[model, label(chosen), count] = load
        times = measured(options, variants)
        case = f"{model}, {label(chosen)}, {precision}, {count} lane{'s' * (count > 1)}"
        rows.append(Row.of(f"{case}: step / torch.mm", Ratio.between(times["step"], times["torch.mm"]), target=target))
        if "oneDNN" in times:
            rows.append(Row.of(f"{case}: step / oneDNN's products", Ratio.between(times["step"], times["oneDNN"])))
        if "float32" in times:
            faster = Ratio.between(times["float32"], times["step"])
            bound = ">= 1.4" if model == "lenet-300-100" else None
            rows.append(Row.of(f"{case}: float32 step / this step", faster, target=bound))
    return rows


def against_loader(options: Options) -> list[Row]:
    samples = 2_000 if options.quick else MNIST_SAMPLES
    with tempfile.TemporaryDirectory() as name:
        write_mnist(Path(name), samples)
        our_epoch = Workload(options, DENSE, samples=samples).epoch
        plain = {f"{n} workers": plain_epoch(Path(name), n) for n in ((0,) if options.quick else (0, 2))}
        fewer = Options(min(3, options.rounds), options.threads, options.device, options.quick)
        times = measured(fewer, {"ours": our_epoch, **plain}, warm_up=1, least=0.0)
    best = min(plain, key=lambda variant: sum(times[variant]))
    title = "lenet-300-100, MNIST-size: epoch of a DataLoader loop / our epoch"
    return [Row.of(title, Ratio.between(times[best], times["ours"]), target=">= 12", note=f"DataLoader with {best}")]


def against_dense(options: Options) -> list[Row]:
    rows = []
    for model, batch in (("lenet-300-100", 128), ("lenet-300-100", 256), ("lenet-5", 128)):
        loads = {"dense": Workload(options, DENSE, model, batch=batch)}
        depths = (3,) if options.quick else (2, 3, 4)
        loads |= {f"D={depth}": Workload(options, ("dwf", {"depth": depth}), model, batch=batch) for depth in depths}
        times = measured(options, {name: load.step for name, load in loads.items()})
        rows += [
            Row.of(
                f"{model}, batch {batch}: step of dwf D={depth} / dense",
                Ratio.between(times[f"D={depth}"], times["dense"]),
                target="<= 1.15" if depth == 4 else None,
            )
            for depth in depths
        ]
        if options.quick:
            break
    return rows


def lanes(options: Options) -> list[Row]:
    """What lanes bring on a CPU; on CUDA, see `benchmarks.cuda`."""
    rows = []
    for compile in (True,) if options.quick else (True, False):
        single = Workload(options, DWF3, compile=compile)
        grouped = Workload(options, DWF3, lanes=8, compile=compile)
        times = measured(options, {"one": single.step, "many": grouped.step})
        ratio = Ratio.between([8 * seconds for seconds in times["one"]], times["many"])
        title = "8 lanes of lenet-300-100: single runs / lanes"
        rows.append(Row.of(title, ratio, note="compiled" if compile else "eager"))
    return rows


if __name__ == "__main__":
    main(rows, __doc__)
