"""The networks known by name, and anybody's own as `package.module:callable`."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from dwfbench.errors import UsageError
from dwfbench.models.lenet import LeNet5, LeNet300100
from dwfbench.models.resnet import resnet18, resnet20
from dwfbench.models.vgg import vgg


class Entry(NamedTuple):
    """A known network: `make(input_shape, classes)` builds it with freshly drawn weights."""

    make: Callable[[tuple[int, int, int], int], nn.Module]
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
    "vgg-16": Entry(
        partial(vgg, depth=16),
        "13 convolutions with batch norm and one linear layer; 14,715,584 weights at 3x32x32",
        "Simonyan and Zisserman 2015 (D); OpenLTH's form for CIFAR",
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
    """The networks known by name, as dicts of `name`, `summary` and `source`."""
    return [{"name": name, "summary": entry.summary, "source": entry.source} for name, entry in MODELS.items()]


def check(name: str) -> None:
    """Raise UsageError unless `name` is a known network or of the form `module:callable`; imports nothing."""
    module, colon, attribute = name.partition(":")
    if name in MODELS or (colon and all(part.isidentifier() for part in (*module.split("."), attribute))):
        return
    close = difflib.get_close_matches(name.lower(), MODELS, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(
        f"unknown model '{name}'{hint}; choose one of {', '.join(MODELS)} or give your own as package.module:callable"
    )


def build(name: str, input_shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
    """A network for images of `input_shape` (C, H, W) with `classes` outputs, on the CPU.

    The weights depend on `seed` alone; the caller's random state is left as it was. Raises UsageError for an
    unknown name, an input that the network cannot take, or a `module:callable` that cannot be imported, fails
    or makes something else than a network from images (N, C, H, W) to logits (N, classes).
    """
    check(name)
    # Drawn on the CPU: a seed means the same weights on every device, and no other generator is touched.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        if name in MODELS:
            return MODELS[name].make(input_shape, classes)
        return _build_own(name, input_shape, classes)


def _build_own(name: str, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # console scripts, unlike `python -m`, leave the current directory out
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # somebody's module can fail in any way while it is imported
        raise UsageError(f"the module of model '{name}' cannot be imported ({_reason(error)})") from error
    make = getattr(module, attribute, None)
    if not callable(make):
        raise UsageError(f"model '{name}': module {module_name} has no callable named {attribute}")
    try:
        model = make(input_shape, classes)
    except Exception as error:
        raise UsageError(f"model '{name}' failed for {input_shape=}, {classes=} ({_reason(error)})") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"model '{name}' must return a torch.nn.Module, not {type(model).__name__}")
    _probe(name, model, input_shape, classes)
    return model


def _probe(name: str, model: nn.Module, input_shape: tuple[int, int, int], classes: int) -> None:
    """One forward pass, in eval mode so that no statistics move, finds a wrong shape before any training."""
    was_training = model.training
    try:
        with torch.no_grad():
            shape = tuple(model.eval()(torch.zeros(2, *input_shape)).shape)
    except Exception as error:
        raise UsageError(f"model '{name}' fails on images of shape {input_shape} ({_reason(error)})") from error
    model.train(was_training)
    if shape != (2, classes):
        raise UsageError(f"model '{name}' must map 2 images to logits of shape (2, {classes}), not {shape}")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
