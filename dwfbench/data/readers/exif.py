"""How a picture is to be turned before it is looked at: a camera keeps it as its sensor lay, and says how that was."""

import io
import re
import warnings

ORIENTATION = 0x0112  # of Exif; 1 is upright
HINT = re.compile(rb"exif|orientation", re.IGNORECASE)
"""What is in the bytes of a picture that says it: the headers of most need not be taken apart."""


def orientation(image) -> int:
    """1 to 8 as Exif counts them, by a Pillow image whose pixels were not yet decoded; 1 where nothing readable says.

    TIFF is turned by Pillow itself, and counts as upright.
    """
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):  # Pillow would look for it
        return 1
    try:
        orientation_tag = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged notes of a camera are no reason to refuse its picture
        return 1
    return orientation_tag if orientation_tag in range(1, 9) else 1


def turned(content: bytes, formats: tuple[str, ...]) -> bool:
    """Whether these bytes are a picture that is turned when it is read."""
    if not HINT.search(content):
        return False
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=formats) as image:
                return orientation(image) != 1
    except Exception:  # what cannot be opened is told when it is decoded
        return False


def upright(image, orientation_tag: int):
    """The image as it is meant to be seen."""
    from PIL.Image import Transpose

    turns = {
        **{2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM},
        **{5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90},
    }
    return image.transpose(turns[orientation_tag]) if orientation_tag in turns else image
