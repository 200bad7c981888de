"""The networks known by name, those of installed packages, and anybody's own.

A package announces a network by an entry point of the group ``dwfbench.models``, a callable
``(input_shape, classes) -> torch.nn.Module``; its docstring's first line is the summary, a line "Source: ..." names the
source. For a quick try, `package.module:callable` and `path/to/file.py:callable` do without a package.
"""

import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from dwfbench.base import memory, plugins
from dwfbench.base.errors import UsageError
from dwfbench.base.foreign import contained, owned, told
from dwfbench.base.text import nearest
from dwfbench.models import own
from dwfbench.models.lenet import LeNet5, LeNet5Of1998, LeNet300100
from dwfbench.models.prunable import choose_embeddings
from dwfbench.models.resnet import resnet18, resnet20
from dwfbench.models.vgg import vgg


class Entry(NamedTuple):
    """A known network: `make(input_shape, classes)` builds it with freshly drawn weights."""

    make: Callable[..., nn.Module]
    summary: str
    source: str


MODELS = {
    "lenet-300-100": Entry(
        LeNet300100,
        "fully connected, 300 and 100 hidden units; 266,200 weights at 1x28x28",
        "LeCun, Bottou, Bengio and Haffner 1998",
    ),
    "lenet-5": Entry(
        LeNet5,
        "two convolutions and one hidden layer, Caffe's variant; 430,500 weights at 1x28x28",
        "Jia et al. 2014 (Caffe); Han, Pool, Tran and Dally 2015",
    ),
    "lenet-5-1998": Entry(
        LeNet5Of1998,
        "two convolutions and two hidden layers; 61,470 weights at 1x28x28",
        "LeCun, Bottou, Bengio and Haffner 1998",
    ),
    "vgg-16": Entry(
        partial(vgg, depth=16),
        "13 convolutions with batch norm and one linear layer; 14,715,584 weights at 3x32x32",
        "Simonyan and Zisserman 2015 (D); OpenLTH's form for CIFAR",
    ),
    "vgg-16-quarter": Entry(
        partial(vgg, depth=16, narrower=4),
        "vgg-16 a quarter as wide, which a CPU can train; 921,008 weights at 3x32x32",
        "Simonyan and Zisserman 2015 (D); the width is dwfbench's own choice",
    ),
    "vgg-16-512": Entry(
        partial(vgg, depth=16, hidden=512),
        "vgg-16 with a hidden layer of 512 units; 14,977,728 weights at 3x32x32",
        "Zagoruyko 2015; Li, Kadav, Durdanovic, Samet and Graf 2017",
    ),
    "vgg-19": Entry(
        partial(vgg, depth=19),
        "16 convolutions with batch norm and one linear layer; 20,024,000 weights at 3x32x32",
        "Simonyan and Zisserman 2015 (E); OpenLTH's form for CIFAR",
    ),
    "vgg-19-512": Entry(
        partial(vgg, depth=19, hidden=512),
        "vgg-19 with a hidden layer of 512 units; 20,286,144 weights at 3x32x32",
        "Zagoruyko 2015; Li, Kadav, Durdanovic, Samet and Graf 2017",
    ),
    "resnet-18": Entry(
        resnet18,
        "8 basic blocks, 64 to 512 wide, 3x3 stem, projection shortcuts; 11,164,352 weights at 3x32x32",
        "He, Zhang, Ren and Sun 2016; stem as in SynFlow's repository",
    ),
    "resnet-20": Entry(
        resnet20,
        "9 basic blocks, 16 to 64 wide, shortcuts without weights; 268,336 weights at 3x32x32",
        "He, Zhang, Ren and Sun 2016, section 4.2, option A",
    ),
}


def describe() -> list[dict[str, str]]:
    """The networks known by name, as dicts of `name`, `summary` and `source`; ours first.

    Those of packages that cannot be used are named on stderr and left out.
    """
    return plugins.describe("model", MODELS)


def check(name: str) -> None:
    """Raise UsageError unless `name` is a known network, a readable file's or `module:callable`; imports nothing."""
    module, colon, attribute = name.partition(":")
    if plugins.of_others("model", name, MODELS) is not None or name in MODELS:
        return
    if colon and all(part.isidentifier() for part in (*module.split("."), attribute)):
        return
    plugins.refuse_forgotten("model", name)
    plugins.refuse_bare("model", name)
    names = [*MODELS, *plugins.find("model", MODELS)[0]]
    raise UsageError(
        f"There is no model {name!r}{nearest(name, names)} Choose one of {', '.join(names)}, or give your own as "
        "package.module:callable or path/to/file.py:callable."
    )


def identity(name: str) -> str:
    """What a run's spec calls the network: `callable@<12 hex digits>` for one from a file, which is run; else `name`.

    The digits are a checksum of the file. UsageError where the file fails or has no such callable.
    """
    if not plugins.names_file(name):
        return name
    file = plugins.read("model", name)
    if not callable(plugins.take(file)):
        raise UsageError(f"model '{name}': the file has no callable named {file.attribute}")
    return file.identity


def check_named(recorded: str, named: str | None) -> None:
    """Whether the network that a record names may be built: code of others runs only when a person names it, too.

    ``named`` is what the command line says. Raises UsageError for another network, and for one of somebody's own that
    is not named.
    """
    if named is not None and (chosen := identity(named)) != recorded:
        raise UsageError(f"the record is of the network {recorded}, not of {chosen}")
    if named is None and ":" in recorded:
        raise UsageError(
            f"the record is of the network {recorded}, which is code that is run only when you name it: "
            f"add --model {recorded}"
        )


def build(name: str, input_shape: tuple[int, ...], classes: int, seed: int, embeddings: bool = False) -> nn.Module:
    """A network for images of `input_shape` (C, H, W), or other inputs, with `classes` outputs, on the CPU.

    The weights depend on `seed` alone; the caller's random state is left as it was. With `embeddings` those of
    Embedding layers are prunable, too. Raises UsageError for an unknown name, an input that the network cannot
    take, and somebody's own network that cannot be imported or trained (see ``own``).
    """
    if name not in MODELS:
        check(name)
        name = identity(name)
    # Drawn on the CPU: a seed means the same weights on every device, and no other generator is touched.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        if name in MODELS:
            if len(input_shape) != 3:
                raise UsageError(f"{name} takes images, not inputs of shape {input_shape}; give a --model of your own.")
            _refuse_too_large(name, input_shape, classes)
        torch.default_generator.manual_seed(seed)
        if name in MODELS:
            network = MODELS[name].make(input_shape, classes)
        else:
            network = own.build(name, _builder_of(name), input_shape, classes)
    if embeddings:
        choose_embeddings(network)
    return network


class Inputs(Protocol):
    """What a network has to know of a data set."""

    @property
    def input_shape(self) -> tuple[int, ...]: ...
    @property
    def classes(self) -> int: ...


def build_for(spec: Any, data: Inputs, seed: int | None = None) -> nn.Module:
    """The initial network of a run, by its RunSpec, on its data, as ``build`` makes it; of another seed, if given."""
    seed = spec.seed if seed is None else seed
    return build(spec.model, data.input_shape, data.classes, seed, spec.prune_embeddings)


def _refuse_too_large(name: str, input_shape: tuple[int, ...], classes: int) -> None:
    """UsageError for a known network that the machine has no memory for; on this device tensors take none."""
    with torch.device("meta"):
        network = MODELS[name].make(input_shape, classes)
    if why := memory.lacking(sum(value.numel() * value.element_size() for value in network.parameters())):
        size = "x".join(map(str, input_shape))
        raise UsageError(f"{name} for images of {size} needs {why}; give a smaller --image-size or another --model")


def _builder_of(name: str) -> Callable[[tuple[int, ...], int], nn.Module]:
    """The callable of a network that is not ours: from a file, a package's entry point, or a module."""
    if (load := plugins.of_others("model", name, MODELS)) is not None:
        return load()
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # console scripts, unlike `python -m`, leave the current directory out
        sys.path.insert(0, os.getcwd())
    owned(module_name)
    try:
        with contained():
            module = importlib.import_module(module_name)
    except Exception as error:  # somebody's module can fail in any way while it is imported
        raise UsageError(f"the module of model '{name}' cannot be imported ({told(error)})") from error
    make = getattr(module, attribute, None)
    if not callable(make):
        raise UsageError(f"model '{name}': module {module_name} has no callable named {attribute}")
    return make
