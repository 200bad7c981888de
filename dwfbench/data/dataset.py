"""Data sets as tensors: read once into uint8, kept on the training device, normalised there in batches.

`digits` is built into scikit-learn; `mnist`, `fashion-mnist`, `kmnist`, `cifar10`, `cifar100` and `tiny-imagenet` are
found on disk or downloaded (`readers` has one for each kind); packages may add others. Anything else is
the path of an image folder, `PATH/train/<class>/*` and `PATH/test/<class>/*`, or of an archive of one (.zip, .tar,
.tar.gz, .tar.bz2, .tar.xz), which is read as it lies.

What is not of images (`readers.Tensors`) is kept as float32 and taken as it is; its inputs go by the name of images,
its targets by that of labels.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError
from dwfbench.base.text import nearest
from dwfbench.data import readers
from dwfbench.data.readers import DataError, Places, Source, Tensors, describe
from dwfbench.data.readers.decoding import enough_memory
from dwfbench.data.readers.image_folder import listing
from dwfbench.data.readers.tree import open_tree
from dwfbench.data.task import Task, task_of

__all__ = ["DataError", "Dataset", "Split", "describe", "identity", "load", "stand_in"]

ENV_DATA = "DWFBENCH_DATA"
SYSTEM_ROOT = Path("/usr/share/datasets")  # where Debian's dataset-* packages put their files


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: `images` uint8 (N, C, H, W) and `labels` int64 (N,), both on one device.

    Or inputs float32 (N, ...) and targets (N, ...).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in three parts. `train` and `val` are disjoint cuts of the source's training part.

    `mean` and `std` are float32 (C,) in units of pixel/255, over the pixels of `train` alone; `std` is 1
    where a channel is constant. `classes` is the number of outputs, `checksum` 16 hex digits of the SHA-256 of all
    pixels and labels before the cut.
    """

    name: str
    train: Split
    val: Split
    test: Split
    mean: Tensor
    std: Tensor
    classes: int
    checksum: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image, or the shape of one input."""
        return tuple(self.train.images.shape[1:])

    @property
    def of_images(self) -> bool:
        """Whether inputs are images, which can be augmented and resized."""
        return self.train.images.dtype == torch.uint8

    @property
    def task(self) -> Task:
        """What a network learns from it."""
        return task_of(self.name)

    def to(self, device) -> "Dataset":
        """The same data set with every tensor on `device`."""
        moved = {field: getattr(self, field).to(device) for field in ("train", "val", "test", "mean", "std")}
        return replace(self, **moved)

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 images (..., C, H, W) -> float32, same shape, with mean 0 and deviation 1 over `train`.

        Other inputs are left as they are.
        """
        if images.dtype != torch.uint8:
            return images
        return (images.float() / 255 - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def balanced_batch(self, per_class: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`per_class` random training samples of every class, ordered by class.

        Returns normalised inputs, float32 (classes * per_class, C, H, W), and int64 targets. `generator` is a
        CPU generator and the choice does not depend on the device. Raises UsageError if a class has too few
        samples. With a loss of one's own there are no classes, and ten times `per_class` random samples, or all.
        """
        labels = self.train.labels.cpu()
        order = torch.randperm(len(labels), generator=generator)
        if self.task.score is not None:
            index = order[: 10 * per_class].to(self.train.labels.device)
            return self.normalize(self.train.images[index]), self.train.labels[index]
        chosen = []
        for label in range(self.classes):
            members = order[labels[order] == label]
            if len(members) < per_class:
                raise UsageError(
                    f"class {label} of {self.name} has {len(members)} training samples but {per_class} "
                    "are asked for; ask for fewer samples per class or lower the validation fraction"
                )
            chosen.append(members[:per_class])
        index = torch.cat(chosen).to(self.train.labels.device)
        return self.normalize(self.train.images[index]), self.train.labels[index]


def identity(name: str) -> str:
    """What a run's spec calls the data set: a known name as it is, own images or a file's `<name>@<12 hex digits>`.

    The digits are a checksum of the images and their paths, the same for a folder and an archive of it. Cheap for a
    known name; reads every file of own images, so that two folders of one name never share an identity. Raises
    UsageError for an unknown name and DataError for files that are not laid out as an image folder.
    """
    if (known_name := readers.identity(name)) is not None:
        return known_name
    with open_tree(_path(name)) as files:
        return listing(files).identity


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    image_size: int | None = None,
    download: bool = True,
) -> Dataset:
    """Read a data set, by name or from own images, onto the CPU; same arguments, same tensors.

    `data_dir` is searched before $DWFBENCH_DATA, /usr/share/datasets and the cache (~/.cache/dwfbench); a set
    that is in none of them is downloaded into the first of data_dir, $DWFBENCH_DATA and the cache, unless
    `download` is false. Sets of image files are decoded once; the pixels are kept in the cache. `val_fraction`, in
    [0, 0.5], of the training part becomes `val`, chosen by `split_seed`; the test part never depends on either.
    `image_size` resizes all images to squares of that side (bilinear, antialiased). Raises DataError for data that is
    absent or damaged and UsageError for a bad argument.
    """
    if not 0 <= val_fraction <= 0.5:
        raise UsageError(f"the validation fraction must be between 0 and 0.5, not {val_fraction}")
    if image_size is not None and image_size < 1:
        raise UsageError(f"the image size must be at least 1, not {image_size}")

    places = searched(data_dir, download)
    if (reader := readers.reader(name)) is not None:
        title, source = readers.identity(name) or name, reader(places)
        if image_size is not None:
            source = _resized(title, source, image_size)
    else:
        with open_tree(_path(name)) as files:
            images = listing(files)
            title, source = images.identity, images.read(places.cache, image_size)
        _tell_shared(title, source)
    training, test = (Split(*map(torch.from_numpy, part)) for part in source.parts)
    train, val = _cut(training, val_fraction, split_seed)
    if isinstance(source, Source):
        _tell_lost_class(title, training.labels, train.labels)
    outputs = source.outputs if isinstance(source, Tensors) else source.classes
    return Dataset(title, train, val, test, *_moments(train.images), outputs, source.checksum)


def _tell_shared(title: str, source: Source) -> None:
    """Say how many of the test images are among those to train on, pixel for pixel."""
    trained = {hash(image.tobytes()) for image in source.train_images}
    count = sum(hash(image.tobytes()) in trained for image in source.test_images)
    if count:
        plugins.tell(
            f"{count:,} of the {len(source.test_images):,} test images of {title} are training images, too: what is "
            "measured on them says nothing of others."
        )


def _tell_lost_class(title: str, labels: Tensor, left: Tensor) -> None:
    """Say where the cut leaves nothing of a class to train on."""
    for lost in sorted(set(labels.unique().tolist()) - set(left.unique().tolist())):
        count = int((labels == lost).sum())
        images = "its only training image is" if count == 1 else f"all of its {count} training images are"
        plugins.tell(
            f"Nothing of class {lost} of {title} is trained on, as {images} kept for validation; lower --val-fraction "
            "or give another --split-seed."
        )


def _cut(training: Split, val_fraction: float, split_seed: int) -> tuple[Split, Split]:
    """What is trained on and what is kept for validation."""
    # Sorting keeps the source's order, so without a validation part the seed changes nothing at all.
    order = torch.randperm(len(training), generator=torch.Generator().manual_seed(split_seed))
    held_out = round(val_fraction * len(training))
    val, train = (part.sort().values for part in (order[:held_out], order[held_out:]))
    return Split(training.images[train], training.labels[train]), Split(training.images[val], training.labels[val])


def stand_in(name: str, *, val_fraction: float = 0.1, image_size: int | None = None) -> Dataset | None:
    """A data set of the form of a known one, for what needs no pixels: they are noise, and its checksum is empty.

    None where the form is known only once the set is read, which then needs no network.
    """
    form = readers.KNOWN[name].form if name in readers.KNOWN else None
    if form is None:
        return None
    channels, *sides = form.shape
    height, width = (image_size, image_size) if image_size else sides
    random = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        # One image for all where they would take up a gigabyte.
        different = count if count * channels * height * width < 1 << 28 else 1
        images = torch.randint(256, (different, channels, height, width), generator=random, dtype=torch.uint8)
        return Split(images.expand(count, -1, -1, -1), torch.arange(count) % form.classes)

    held_out = round(val_fraction * form.train)
    train, val, test = (split(count) for count in (form.train - held_out, held_out, form.test))
    grey = torch.full((channels,), 0.5)
    return Dataset(name, train, val, test, grey, grey, form.classes, checksum="")


def _path(name: str) -> Path:
    """The absolute path of the folder or file that `name`, which is no known name, must be."""
    # abspath and not resolve: a symbolic link keeps the name that the user gave it.
    path = Path(os.path.abspath(os.path.expanduser(name)))
    if os.path.exists(path):
        return path
    names = readers.names()
    raise UsageError(
        f"{name!r} is neither a data set nor an image folder{nearest(name, names)} Choose one of {', '.join(names)}, "
        "or give the path of a folder, or of a .zip or .tar, that holds train/<class>/ and test/<class>/."
    )


def searched(data_dir: str | Path | None = None, download: bool = True) -> Places:
    """Where data sets are looked for: `data_dir`, the folder that DWFBENCH_DATA names, the system's, the cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dwfbench"
    *folders, cache = [Path(p).expanduser().absolute() for p in (data_dir, os.environ.get(ENV_DATA), cache) if p]
    return Places(tuple(folders), SYSTEM_ROOT, cache, download)


def _resized(name: str, source: Source | Tensors, side: int) -> Source:
    """UsageError for what is not of images, and for more than there is memory for."""
    if isinstance(source, Tensors):
        raise UsageError(f"{name} is not of images, so there is nothing to resize; leave --image-size out.")
    count = len(source.train_labels) + len(source.test_labels)
    enough_memory(count, (source.train_images.shape[1], side, side))

    def resized(images):
        return F.interpolate(torch.from_numpy(images), (side, side), mode="bilinear", antialias=True).numpy()

    return replace(source, train_images=resized(source.train_images), test_images=resized(source.test_images))


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of pixel/255, from histograms: exact, without a float copy.

    0 and 1 of inputs that are no images.
    """
    if images.dtype != torch.uint8:
        return torch.zeros(1), torch.ones(1)
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([images[:, c].flatten().bincount(minlength=256) for c in range(images.shape[1])])
    weights = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = weights @ values
    std = (weights * (values - mean[:, None]) ** 2).sum(1).sqrt()
    return mean.float(), std.where(std > 0, 1).float()
