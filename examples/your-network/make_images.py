"""Write scikit-learn's digits as image folders, FOLDER/train/<class>/*.png and FOLDER/test/<class>/*.png.

python make_images.py FOLDER [SAMPLES OF A CLASS]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def main(folder: Path, most: int = 1000) -> None:
    """Every fifth image of a class is for the test; sides of 16 pixels."""
    digits = load_digits()
    for label in range(10):
        for number, image in enumerate(digits.images[digits.target == label][:most]):
            part = folder / ("test" if number % 5 == 0 else "train") / str(label)
            part.mkdir(parents=True, exist_ok=True)
            pixels = Image.fromarray((image * 15).astype(np.uint8)).resize((16, 16), Image.Resampling.BILINEAR)
            pixels.save(part / f"{number:03}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
