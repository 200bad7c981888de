"""Own images: `train/<class>/*` and `test/<class>/*` (or `val`) in a folder or in an archive of one."""

from dwfbench.base import plugins
from dwfbench.data.readers.base import DataError
from dwfbench.data.readers.listing import Listing
from dwfbench.data.readers.tree import SUFFIXES, UNREAD, Tree

LAYOUT = "an image folder has the images in train/<class>/ and in test/<class>/ or val/<class>/"


def listing(files: Tree) -> Listing:
    """Images and labels as torchvision's ImageFolder lists them, for both parts.

    Classes are the folders' names, sorted; images in folders below a class are the class's. Parts are found by the
    names that people give them (see `tree.PARTS`). Beside `test`, `val` is not read, which a sentence says. Raises
    DataError if the files are not laid out so, a class is empty or alone, or the parts do not have the same classes.
    """
    train_part, test_part, val_part = (files.part(name) for name in ("train", "test", "val"))
    train, classes = _part(files, "train", train_part)
    test, test_classes = _part(files, "test", test_part or val_part)
    if classes != test_classes:
        names = ", ".join(sorted(set(classes) ^ set(test_classes)))
        parts = f"{train_part} and {test_part or val_part} of {files.path}"
        raise DataError(f"{parts} must have the same classes but only one has: {names}")
    if test_part and val_part:
        plugins.tell(
            f"{files.where(val_part)} is not read: what is kept for validation is part of {train_part} "
            f"(--val-fraction), and the test is on {test_part}."
        )
    return Listing(files, len(classes), train, test)


def _part(files: Tree, name: str, part: str | None) -> tuple[list[tuple[str, int]], list[str]]:
    # Names of folders end in a slash, so that "train/cat/" makes a class and "train/cat.jpg" does not.
    paths = [path for path in files.names(part) if path.count("/") > 1] if part else []
    classes = sorted({path.split("/")[1] for path in paths})
    if part is None or not classes:
        folders = ", ".join(files.tops()[:5]) or "no folders"
        raise DataError(f"{files.where(part or name)} holds no class folders (there is {folders}); {LAYOUT}")
    label = {name: number for number, name in enumerate(classes)}
    samples = [(name, label[name.split("/")[1]]) for name in files.images(part) if name.count("/") > 1]
    if empty := set(classes) - {name.split("/")[1] for name, _ in samples}:
        raise DataError(
            f"{files.where(f'{part}/{min(empty)}')} holds no images; add some or remove the class everywhere"
        )
    if unread := [path for path in paths if path.lower().endswith(UNREAD)]:
        plugins.tell(
            f"{len(unread):,} pictures are not read, the first of them {files.where(min(unread))}: "
            f"convert them to one of {', '.join(SUFFIXES)}, or they are missing."
        )
    return samples, classes
