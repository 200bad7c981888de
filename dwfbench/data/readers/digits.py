"""`digits`: the 8x8 handwritten digits that come with scikit-learn. No files, no network."""

from pathlib import Path

import numpy as np

from dwfbench.data.readers.base import Known, Places, Source


def find(place: Path) -> bool:
    """They are there wherever one looks."""
    return True


def read(places: Places) -> Source:
    """All 1,797 images; a fixed fifth of them, stratified, is the test part."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    images = (source.images * 15).astype(np.uint8)[:, None]  # 0..16 -> 0..240
    labels = source.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=source.target, random_state=0)
    return Source(images[train], labels[train], images[test], labels[test], classes=10)


SETS = {
    "digits": Known(
        "1,797 handwritten digits, 1x8x8, 10 classes; offline", "scikit-learn load_digits; UCI 1998", read, find
    )
}
