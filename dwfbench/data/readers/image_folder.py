"""Own images: `train/<class>/*` and `test/<class>/*` (or `val`) in a folder or in an archive of one."""

from dwfbench.data.readers.base import DataError
from dwfbench.data.readers.listing import Listing
from dwfbench.data.readers.tree import Tree


def listing(files: Tree) -> Listing:
    """Images and labels as torchvision's ImageFolder lists them, for both parts.

    Classes are the folders' names, sorted; images in folders below a class are the class's. Raises DataError if
    the files are not laid out so, a class is empty, or the parts do not have the same classes.
    """
    train, classes = _part(files, "train")
    test_part = "test" if files.has("test") else "val"
    test, test_classes = _part(files, test_part)
    if classes != test_classes:
        names = ", ".join(sorted(set(classes) ^ set(test_classes)))
        raise DataError(f"train and {test_part} of {files.path} must have the same classes but only one has: {names}")
    return Listing(files, len(classes), train, test)


def _part(files: Tree, part: str) -> tuple[list[tuple[str, int]], list[str]]:
    # Names of folders end in a slash, so that "train/cat/" makes a class and "train/cat.jpg" does not.
    classes = sorted({name.split("/")[1] for name in files.names(part) if name.count("/") > 1})
    if not classes:
        raise DataError(
            f"{files.where(part)} holds no class folders; an image folder has the images in train/<class>/ and in "
            "test/<class>/ or val/<class>/"
        )
    label = {name: number for number, name in enumerate(classes)}
    samples = [(name, label[name.split("/")[1]]) for name in files.images(part) if name.count("/") > 1]
    if empty := set(classes) - {name.split("/")[1] for name, _ in samples}:
        raise DataError(
            f"{files.where(f'{part}/{min(empty)}')} holds no images; add some or remove the class everywhere"
        )
    return samples, classes
