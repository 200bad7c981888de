"""Data sets as tensors: read once into uint8, kept on the training device, normalised there in batches.

Known by name: `digits` (built into scikit-learn), `mnist`, `fashion-mnist` and `kmnist` (IDX files, found on
disk or downloaded). Anything else is the path of an image folder, `PATH/train/<class>/*` and
`PATH/test/<class>/*`.
"""

import difflib
import gzip
import hashlib
import math
import os
import socket
import sys
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dwfbench.errors import UsageError

ENV_DATA = "DWFBENCH_DATA"
SYSTEM_ROOT = Path("/usr/share/datasets")  # where Debian's dataset-* packages put their files
CLASSES = 10  # of every set known by name
MAX_IDX_BYTES = 1 << 26  # the largest file of any set here has 47 MB: nothing bigger is ever unpacked
DOWNLOAD_TIMEOUT = 20  # seconds without an answer; urllib would wait for minutes behind a silent firewall

# name -> what it is, where it comes from
ABOUT = {
    "digits": ("1,797 handwritten digits, 1x8x8, 10 classes; offline", "scikit-learn load_digits; UCI 1998"),
    "mnist": ("70,000 handwritten digits, 1x28x28, 10 classes", "LeCun, Bottou, Bengio and Haffner 1998"),
    "fashion-mnist": ("70,000 articles of clothing, 1x28x28, 10 classes", "Xiao, Rasul and Vollgraf 2017"),
    "kmnist": ("70,000 cursive Japanese characters, 1x28x28, 10 classes", "Clanuwat et al. 2018"),
}
# name -> torchvision's class, which is also the folder that torchvision keeps the files in
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}


class DataError(UsageError):
    """Data that is absent, damaged or inconsistent: one sentence naming the file and the remedy."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: `images` uint8 (N, C, H, W) and `labels` int64 (N,), both on one device."""

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
    where a channel is constant. `checksum` is 16 hex digits of the SHA-256 of all pixels and labels before
    the cut.
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
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return tuple(self.train.images.shape[1:])

    def to(self, device) -> "Dataset":
        """The same data set with every tensor on `device`."""
        moved = {field: getattr(self, field).to(device) for field in ("train", "val", "test", "mean", "std")}
        return replace(self, **moved)

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 images (..., C, H, W) -> float32, same shape, with mean 0 and deviation 1 over `train`."""
        return (images.float() / 255 - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def balanced_batch(self, per_class: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`per_class` random training samples of every class, ordered by class.

        Returns normalised inputs, float32 (classes * per_class, C, H, W), and int64 targets. `generator` is a
        CPU generator and the choice does not depend on the device. Raises UsageError if a class has too few
        samples.
        """
        labels = self.train.labels.cpu()
        order = torch.randperm(len(labels), generator=generator)
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


def describe() -> list[dict[str, str]]:
    """The data sets known by name, as dicts of `name`, `summary` and `source`."""
    return [{"name": name, "summary": summary, "source": source} for name, (summary, source) in ABOUT.items()]


def identity(name: str) -> str:
    """What a run's spec calls the data set: a known name as it is, a folder `<foldername>@<12 hex digits>`.

    The digits are a checksum of the folder's images and their paths in it. Cheap for a known name; reads
    every file of a folder, so that two folders of one name never share an identity. Raises UsageError for an
    unknown name and DataError for a folder that is not laid out as an image folder.
    """
    root = _folder_path(name)
    if root is None:
        return name
    digest = hashlib.sha256()
    for folder in _list_folder(root):
        for path, _ in folder.samples:
            digest.update(os.fsencode(Path(path).relative_to(root).as_posix()) + b"\0")
            try:
                digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error.strerror}); repair or remove it") from error
    return f"{root.name}@{digest.hexdigest()[:12]}"


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    image_size: int | None = None,
    download: bool = True,
) -> Dataset:
    """Read a data set, by name or from an image folder, onto the CPU; same arguments, same tensors.

    `data_dir` is searched before $DWFBENCH_DATA, /usr/share/datasets and the cache (~/.cache/dwfbench); a set
    that is in none of them is downloaded into the first of data_dir, $DWFBENCH_DATA and the cache, unless
    `download` is false. `val_fraction`, in [0, 0.5], of the training part becomes `val`, chosen by
    `split_seed`; the test part never depends on either. `image_size` resizes all images to squares of that
    side (bilinear, antialiased). Raises DataError for data that is absent or damaged and UsageError for a bad
    argument.
    """
    if not 0 <= val_fraction <= 0.5:
        raise UsageError(f"the validation fraction must be between 0 and 0.5, not {val_fraction}")
    if image_size is not None and image_size < 1:
        raise UsageError(f"the image size must be at least 1, not {image_size}")

    root = _folder_path(name)
    if root is not None:
        train, test, classes = _read_folder(root, image_size)
    else:
        train, test = _read_digits() if name == "digits" else _read_idx_set(name, data_dir, download)
        classes = CLASSES
        if image_size is not None:
            train, test = _resized(train, image_size), _resized(test, image_size)

    # Sorting keeps the source's order, so without a validation part the seed changes nothing at all.
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(split_seed))
    held_out = round(val_fraction * len(train))
    val_index, train_index = order[:held_out].sort().values, order[held_out:].sort().values
    kept = Split(train.images[train_index], train.labels[train_index])
    mean, std = _moments(kept.images)
    return Dataset(
        name=identity(name),
        train=kept,
        val=Split(train.images[val_index], train.labels[val_index]),
        test=test,
        mean=mean,
        std=std,
        classes=classes,
        checksum=_checksum(train, test),
    )


def read_idx(path: str | Path, ndim: int) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped, as a uint8 array with `ndim` axes, none of them empty.

    The format: two zero bytes, the type (8: unsigned byte), the number of axes, one big-endian uint32 for
    each axis, then the values (LeCun's MNIST page). At most MAX_IDX_BYTES are read whatever the header
    claims. Raises DataError, and nothing else, for anything but such a file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with (gzip.open if zipped else open)(path, "rb") as file:
            content = file.read(MAX_IDX_BYTES + 1)
    except EOFError as error:
        raise DataError(f"{path} is truncated") from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error})") from error

    magic, start = bytes([0, 0, 8, ndim]), 4 + 4 * ndim
    if len(content) > MAX_IDX_BYTES:
        raise DataError(f"{path} holds more than {MAX_IDX_BYTES:,} bytes, which no data set known here has")
    if content[:4] != magic:
        raise DataError(f"{path} starts with '{content[:4].hex()}' and not with the magic number '{magic.hex()}'")
    if len(content) < start:
        raise DataError(f"{path} is truncated: it ends within its header")
    shape = [int(size) for size in np.frombuffer(content, ">u4", count=ndim, offset=4)]
    if math.prod(shape) != len(content) - start or 0 in shape:
        raise DataError(
            f"{path} is truncated or damaged: its header claims {' x '.join(map(str, shape))} values "
            f"but {len(content) - start:,} follow"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _folder_path(name: str) -> Path | None:
    """None for a data set known by name, otherwise the absolute path of the folder that `name` must be."""
    if name in ABOUT:
        return None
    # abspath and not resolve: a symbolic link keeps the name that the user gave it.
    path = Path(os.path.abspath(os.path.expanduser(name)))
    if path.is_dir():
        return path
    close = difflib.get_close_matches(name.lower(), ABOUT, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(
        f"'{name}' is neither a data set nor an image folder{hint}; choose one of {', '.join(ABOUT)} "
        "or give the path of a folder that holds train/<class>/ and test/<class>/"
    )


def _read_digits() -> tuple[Split, Split]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    images = torch.from_numpy(source.images * 15).to(torch.uint8).unsqueeze(1)  # 0..16 -> 0..240
    labels = torch.from_numpy(source.target).long()
    parts = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=source.target, random_state=0)
    train, test = (Split(images[part], labels[part]) for part in parts)
    return train, test


def _read_idx_set(name: str, data_dir: str | Path | None, download: bool) -> tuple[Split, Split]:
    remedy = "point --data-dir or $DWFBENCH_DATA to a folder with intact files"
    if name == "fashion-mnist":
        remedy += " or install the Debian package dataset-fashion-mnist"
    try:
        files = _find_idx(name, data_dir) or _download_idx(name, data_dir, download)
        train, test = _read_pair(*files[:2]), _read_pair(*files[2:])
        if train.images.shape[1:] != test.images.shape[1:]:
            raise DataError(f"{files[0]} and {files[2]} hold images of different sizes")
    except DataError as error:
        raise DataError(f"{error}; {remedy}") from error
    return train, test


def _download_roots(data_dir: str | Path | None) -> list[Path]:
    """Where files may be downloaded to, the preferred place first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dwfbench"
    return [Path(root).expanduser().absolute() for root in (data_dir, os.environ.get(ENV_DATA), cache) if root]


def _find_idx(name: str, data_dir: str | Path | None) -> list[Path] | None:
    """Train images, train labels, test images, test labels of the first place that has them all, or None."""
    *given, cache = _download_roots(data_dir)
    for root in (*given, SYSTEM_ROOT, cache):
        itself = [root] if root.name == name else []
        for folder in (root / TORCHVISION[name] / "raw", root / name, *itself):
            files = [
                next((path for path in (folder / stem, folder / f"{stem}.gz") if os.path.isfile(path)), None)
                for part in ("train", "t10k")
                for stem in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
            ]
            if all(files):
                return files
    return None


def _download_idx(name: str, data_dir: str | Path | None, download: bool) -> list[Path]:
    import torchvision

    *given, cache = _download_roots(data_dir)
    if not download:
        searched = ", ".join(map(str, (*given, SYSTEM_ROOT, cache)))
        raise DataError(f"the files of {name} are not in any of {searched}")
    target = (*given, cache)[0]
    print(f"downloading {name} into {target}", file=sys.stderr)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        getattr(torchvision.datasets, TORCHVISION[name])(target, download=True)
    except Exception as error:  # URLError, RuntimeError, HTTPException, EOFError...: all mean "no files"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name} is not on this machine and its download into {target} failed ({reason})") from error
    finally:
        socket.setdefaulttimeout(timeout)
    files = _find_idx(name, target)
    if files is None:
        raise DataError(f"the download of {name} left no complete set of files in {target}")
    return files


def _read_pair(image_file: Path, label_file: Path) -> Split:
    images, labels = torch.from_numpy(read_idx(image_file, 3)), torch.from_numpy(read_idx(label_file, 1))
    if len(images) != len(labels):
        raise DataError(f"{image_file} holds {len(images)} images but {label_file} holds {len(labels)} labels")
    if labels.max() >= CLASSES:
        raise DataError(f"{label_file} holds the label {labels.max()}, outside 0 to {CLASSES - 1}")
    return Split(images.unsqueeze(1), labels.long())


def _list_folder(root: Path):
    """torchvision's listings (`classes`, `samples`) of the training and the test part, classes equal."""
    from torchvision.datasets import ImageFolder

    test_part = "test" if (root / "test").is_dir() else "val"
    listings = []
    for part in ("train", test_part):
        try:
            listing = ImageFolder(root / part, allow_empty=True)
        except OSError as error:
            raise DataError(
                f"{root / part} holds no class folders; an image folder has the images in train/<class>/ and "
                "in test/<class>/ or val/<class>/"
            ) from error
        filled = {label for _, label in listing.samples}
        for label, name in enumerate(listing.classes):
            if label not in filled:
                raise DataError(f"{root / part / name} holds no images; add some or remove the class everywhere")
        listings.append(listing)
    train, test = listings
    if train.classes != test.classes:
        names = ", ".join(sorted(set(train.classes) ^ set(test.classes)))
        raise DataError(f"train and {test_part} of {root} must have the same classes but only one has: {names}")
    return train, test


def _read_folder(root: Path, image_size: int | None) -> tuple[Split, Split, int]:
    listings = _list_folder(root)
    # Headers first: the colour mode and the size are properties of all images together.
    modes, sizes = set(), {}
    for listing in listings:
        for path, _ in listing.samples:
            with _opened(path) as image:
                modes.add(image.mode)
                sizes.setdefault(image.size, path)
    if image_size is not None:
        size = (image_size, image_size)
    elif len(sizes) == 1:
        (size,) = sizes
    else:
        examples = " but ".join(f"{path} is {w}x{h}" for (w, h), path in list(sizes.items())[:2])
        raise DataError(f"the images of a folder must have one size and {examples}; give --image-size")
    mode = "L" if modes == {"L"} else "RGB"
    train, test = (_decoded(listing.samples, mode, size) for listing in listings)
    return train, test, len(listings[0].classes)


def _decoded(samples: list[tuple[str, int]], mode: str, size: tuple[int, int]) -> Split:
    from PIL.Image import Resampling

    width, height = size
    images = torch.empty(len(samples), len(mode), height, width, dtype=torch.uint8)
    for row, (path, _) in enumerate(samples):
        with _opened(path) as image:
            if image.mode[0] in "IF":  # Pillow would clip these at 255 without a word
                raise DataError(f"{path} has more than 8 bits a channel; convert it to 8 bits")
            image = image.convert(mode)
            if image.size != size:
                image = image.resize(size, Resampling.BILINEAR)
            pixels = np.array(image).reshape(height, width, len(mode))
        images[row] = torch.from_numpy(pixels).permute(2, 0, 1)
    return Split(images, torch.tensor([label for _, label in samples]))


@contextmanager
def _opened(path: str):
    """The Pillow image at `path`; whatever goes wrong while it is open becomes a DataError that names it."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # each of Pillow's decoders has its own exceptions for a corrupt file
        raise DataError(f"{path} is not a readable image ({error}); replace or remove it") from error


def _resized(split: Split, side: int) -> Split:
    images = F.interpolate(split.images, (side, side), mode="bilinear", antialias=True)
    return Split(images, split.labels)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of pixel/255, from histograms: exact, without a float copy."""
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([images[:, c].flatten().bincount(minlength=256) for c in range(images.shape[1])])
    weights = counts / counts.sum(1, keepdim=True, dtype=torch.float64)
    mean = weights @ values
    std = (weights * (values - mean[:, None]) ** 2).sum(1).sqrt()
    return mean.float(), std.where(std > 0, 1).float()


def _checksum(*splits: Split) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update(str(tuple(split.images.shape)).encode())
        digest.update(split.images.contiguous().numpy())
        digest.update(split.labels.numpy())
    return digest.hexdigest()[:16]
