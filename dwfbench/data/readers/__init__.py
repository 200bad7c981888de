"""Where data sets come from: one short reader for each kind, and the registry of the sets known by name.

A reader returns a `Source`, plain numpy arrays; `dwfbench.data` makes tensors of them. Nothing here imports torch
before a set is read, so that the processes that decode images start quickly.

A package adds a data set by an entry point of the group ``dwfbench.datasets``, a reader like ours:
``read(places: Places) -> Source``. Its docstring's first line is the summary, a line "Source: ..." names the source.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dwfbench.base import plugins
from dwfbench.data.readers import cifar, digits, foreign, idx, tiny_imagenet
from dwfbench.data.readers.base import DataError, Places, Source

__all__ = ["KNOWN", "DataError", "Known", "Places", "Source", "describe", "names", "reader"]


@dataclass(frozen=True)
class Known:
    """A data set known by name: what it is, where it comes from, how it is read, and what of it a folder has."""

    summary: str
    source: str
    read: Callable[[Places], Source]
    find: Callable[[Path], object]


KNOWN = {
    "digits": Known(
        "1,797 handwritten digits, 1x8x8, 10 classes; offline",
        "scikit-learn load_digits; UCI 1998",
        digits.read,
        digits.find,
    ),
    "mnist": Known(
        "70,000 handwritten digits, 1x28x28, 10 classes",
        "LeCun, Bottou, Bengio and Haffner 1998",
        partial(idx.read, "mnist"),
        partial(idx.find, "mnist"),
    ),
    "fashion-mnist": Known(
        "70,000 articles of clothing, 1x28x28, 10 classes",
        "Xiao, Rasul and Vollgraf 2017",
        partial(idx.read, "fashion-mnist"),
        partial(idx.find, "fashion-mnist"),
    ),
    "kmnist": Known(
        "70,000 cursive Japanese characters, 1x28x28, 10 classes",
        "Clanuwat et al. 2018",
        partial(idx.read, "kmnist"),
        partial(idx.find, "kmnist"),
    ),
    "cifar10": Known(
        "60,000 photographs, 3x32x32, 10 classes",
        "Krizhevsky 2009",
        partial(cifar.read, "cifar10"),
        partial(cifar.find, "cifar10"),
    ),
    "cifar100": Known(
        "60,000 photographs, 3x32x32, 100 classes",
        "Krizhevsky 2009",
        partial(cifar.read, "cifar100"),
        partial(cifar.find, "cifar100"),
    ),
    "tiny-imagenet": Known(
        "110,000 photographs, 3x64x64, 200 classes; its validation part is the test part here",
        "Le and Yang 2015, from ImageNet",
        tiny_imagenet.read,
        tiny_imagenet.find,
    ),
}


def names() -> list[str]:
    """The names of all data sets, ours first."""
    return [*KNOWN, *plugins.find("data set", KNOWN)[0]]


def reader(name: str) -> Callable[[Places], Source] | None:
    """What reads the data set of a name; None where there is none of this name, which then may be a path."""
    points, refused = plugins.find("data set", KNOWN)
    if name in refused:
        plugins.tell(refused[name])
    if name in KNOWN:
        return KNOWN[name].read
    return partial(foreign.read, points[name]) if name in points else None


def describe() -> list[dict[str, str]]:
    """The data sets known by name, as dicts of `name`, `summary` and `source`; ours first.

    Those of packages that cannot be used are named on stderr and left out.
    """
    rows = [{"name": name, "summary": known.summary, "source": known.source} for name, known in KNOWN.items()]
    return rows + plugins.describe("data set", KNOWN)
