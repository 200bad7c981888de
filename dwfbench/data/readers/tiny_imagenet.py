"""Tiny ImageNet (Le and Yang 2015): 200 classes of ImageNet at 64x64, read from its official archive or folder.

The official test part was published without labels, so the official validation part is the test part here, as it is
in the literature, and validation samples are cut from the training part as for every other set.
"""

import os
from pathlib import Path

from dwfbench.data.readers import tree
from dwfbench.data.readers.base import DataError, Form, Known, Places, Source, fetch, locate, remedy
from dwfbench.data.readers.listing import Listing

FOLDER = "tiny-imagenet-200"
ARCHIVE = f"{FOLDER}.zip"
URL = f"http://cs231n.stanford.edu/{ARCHIVE}"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
LABELS = "val/val_annotations.txt"


def read(places: Places) -> Source:
    """The set from the extracted folder or, as it lies, from the .zip. Raises DataError."""
    with remedy():
        path = locate("tiny-imagenet", places, find, lambda target: fetch(URL, target / ARCHIVE, MD5))
    with tree.open_tree(path) as files:
        return listing(files).read(places.cache, None)


def listing(files: tree.Tree) -> Listing:
    """Images and labels: `train/<wnid>/images/*`, `val/images/*` with `val/val_annotations.txt`.

    Classes are numbered in the order of the sorted wnids, which is what most public readers do; the official
    wnids.txt has another order.
    """
    train = [name for name in files.images("train") if name.count("/") == 3 and name.split("/")[2] == "images"]
    wnids = {wnid: label for label, wnid in enumerate(sorted({name.split("/")[1] for name in train}))}
    if not wnids:
        raise DataError(f"{files.where('train')} holds no <wnid>/images/ with images; extract {ARCHIVE} again")
    rows = _annotations(files)
    present = {name for name in files.images("val") if name.startswith("val/images/")}
    if unequal := present ^ {name for name, _ in rows}:
        raise DataError(f"{files.where(min(unequal))} is not both an image and in {LABELS}; extract {ARCHIVE} again")
    for name, wnid in rows:
        if wnid not in wnids:
            raise DataError(f"{files.where(LABELS)} gives {name} the class {wnid}, which train does not have")
    return Listing(
        files,
        len(wnids),
        [(name, wnids[name.split("/")[1]]) for name in train],
        [(name, wnids[wnid]) for name, wnid in rows],
        label_files=(LABELS,),
    )


def _annotations(files: tree.Tree) -> list[tuple[str, str]]:
    """(image, wnid) in the order of the file, whose lines are `name, wnid, x0, y0, x1, y1` between tabs."""
    lines = files.read(LABELS).decode("utf-8", "replace").splitlines()
    rows = [line.split("\t") for line in lines if line.strip()]
    if not rows or any(len(row) < 2 for row in rows):
        raise DataError(f"{files.where(LABELS)} does not hold lines of 'image, tab, wnid'; extract {ARCHIVE} again")
    return [(f"val/images/{row[0]}", row[1]) for row in rows]


def find(place: Path) -> Path | None:
    """The extracted folder or the archive, whichever `place` has."""
    named_folder = [place] if place.name == FOLDER else []
    for folder in (place / FOLDER, place / "tiny-imagenet" / FOLDER, *named_folder):
        if os.path.isdir(folder / "train") and os.path.isfile(folder / LABELS):
            return folder
    archives = (place / ARCHIVE, place / "tiny-imagenet" / ARCHIVE)
    return next((path for path in archives if os.path.isfile(path)), None)


SETS = {
    "tiny-imagenet": Known(
        "110,000 photographs, 3x64x64, 200 classes; its validation part is the test part here",
        "Le and Yang 2015, from ImageNet",
        read,
        find,
        Form(100_000, 10_000, (3, 64, 64), 200),
    )
}
