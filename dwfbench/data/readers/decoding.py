"""Image files to one uint8 array, on all cores.

Processes and not threads: with images as small as these, Pillow spends most of its time holding Python's lock, and
two threads were slower than one (decoding alone of 20,000 CIFAR-10 JPEG files, on two idle cores: 1.1 s by one thread,
1.3 s by two, 0.65 s by two processes).
"""

import contextlib
import io
import itertools
import math
import multiprocessing
import signal
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import numpy as np

from dwfbench.base import memory
from dwfbench.base.machine import cores, deaf_to_interrupts, follow_parent
from dwfbench.data.readers.base import DataError, counted
from dwfbench.data.readers.tree import Tree

CHUNK = 64  # images a task
ALONE_SECONDS = 1.0  # what is done by then needs no processes, whose start takes about as long
MAX_PIXELS = 1 << 22  # of an image that is not resized: a chunk of 2048 x 2048 takes 0.8 GB, twice while it is joined

# Those of tree.SUFFIXES, and GIF under a wrong name. Pillow's others are never tried: EPS runs a program.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")

Chunk = list[tuple[str, bytes]]


def decode(files: Tree, names: list[str], side: int | None) -> np.ndarray:
    """The images `names`, uint8 (N, C, H, W): one channel if all are gray, else RGB.

    With a `side` they are resized to squares (bilinear, antialiased), else they must have one size. Raises
    DataError naming the image that is damaged, too deep or of another size.
    """
    order = files.reading_order(names)
    groups = [order[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    firsts = [files.where(names[group[0]]) for group in groups]
    work = partial(decode_chunk, side=side)

    def chunks() -> Iterator[Chunk]:
        return ([(files.where(names[row]), files.read(names[row])) for row in group] for group in groups)

    try:
        return _joined(_in_parallel(work, chunks()), groups, firsts, len(names))
    except BrokenProcessPool:
        # A script that loads data outside `if __name__ == "__main__"` cannot have processes, nor can some sandboxes.
        return _joined(map(work, chunks()), groups, firsts, len(names))


def decode_chunk(chunk: Chunk, side: int | None) -> np.ndarray:
    """One task: (path, content) of some images -> uint8 (n, C, H, W). Raises DataError."""
    from PIL.Image import DecompressionBombWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what Pillow thinks of a camera's notes
        warnings.simplefilter("error", DecompressionBombWarning)  # a header that claims a huge image is a lie
        images: list = []
        for path, content in chunk:
            like = (chunk[0][0], images[0].size) if images and side is None else None
            images.append(_decoded(path, content, side, like))
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    pixels = np.stack([np.asarray(image.convert(mode)) for image in images])
    return pixels[:, None] if mode == "L" else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _decoded(path: str, content: bytes, side: int | None, like: tuple[str, tuple[int, int]] | None):
    """A Pillow image in mode L or RGB, as its camera was held, resized to a `side` or as large as `like` (path, size).

    Pixels are decoded after the header has told that they are not too many.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            image: Image.Image = opened
            if image.mode[0] in "IF":  # Pillow would clip these at 255 without a word
                raise DataError(f"{path} has more than 8 bits a channel; convert it to 8 bits")
            if side is None and image.width * image.height > MAX_PIXELS:
                size = f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}"
                raise DataError(f"{path} has {size}; give --image-size")
            image.load()
            with contextlib.suppress(Exception):  # damaged notes of a camera are no reason to refuse its picture
                ImageOps.exif_transpose(image, in_place=True)
            if like is not None:
                _same_size(*like, path, image.size)
            image = _opaque(path, image)
        if side is not None and image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.BILINEAR)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not a readable image (no known format); repair or remove it") from error
    except Exception as error:  # each of Pillow's decoders has its own exceptions for a corrupt file
        raise DataError(f"{path} is not a readable image ({error}); repair or remove it") from error
    return image


GREY = ("1", "L", "LA")


def _opaque(path: str, image):
    """The image in mode L or RGB, without an alpha channel that says nothing.

    One that says more is refused: what is to be seen behind it, nobody knows, and without it a drawing may be black.
    """
    mode = "L" if image.mode in GREY else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            raise DataError(f"{path} has transparent pixels; put it on a background, without an alpha channel")
    return image.convert(mode)


def _same_size(first_path: str, first_size: tuple[int, int], path: str, size: tuple[int, int]) -> None:
    if first_size != size:
        sizes = " but ".join(f"{image} is {w}x{h}" for image, (w, h) in ((first_path, first_size), (path, size)))
        raise DataError(f"all images must have one size and {sizes}; give --image-size")


def _joined(arrays: Iterable[np.ndarray], groups: list[list[int]], firsts: list[str], count: int) -> np.ndarray:
    """The chunks' arrays, which may differ in channels, as one, whose rows `groups` gives for every chunk.

    `firsts` names the first image of every chunk.
    """
    images: np.ndarray | None = None
    for rows, path, array in zip(groups, firsts, counted(arrays, "decoding images", count), strict=True):
        if images is None:
            enough_memory(count, array.shape[1:])
            images = np.empty((count, *array.shape[1:]), dtype=np.uint8)
        _same_size(firsts[0], images.shape[:1:-1], path, array.shape[:1:-1])
        if array.shape[1] > images.shape[1]:
            enough_memory(count, array.shape[1:])
            images = images.repeat(array.shape[1], axis=1)
        images[rows] = array  # gray chunks fill three channels by broadcasting
    assert images is not None  # there is a chunk
    return images


COPIES = 2
"""Of all images, while they are divided into what is trained on and what is kept for validation."""


def enough_memory(count: int, shape: Sequence[int]) -> None:
    """DataError where so many images of this shape are more than there is memory for."""
    if why := memory.lacking(COPIES * count * math.prod(shape)):
        size = "x".join(map(str, shape))
        raise DataError(f"{count:,} images of {size} need {why}; give a smaller --image-size")


def _in_parallel(work, chunks: Iterator[Chunk]) -> Iterator[np.ndarray]:
    """`map(work, chunks)`: here as long as that is quick, then by a process for each core at hand."""
    processes = _processes()
    stop = time.monotonic() + ALONE_SECONDS
    for chunk in chunks:
        if processes > 1 and time.monotonic() > stop:
            break
        yield work(chunk)
    else:
        return
    # Processes are spawned: forking is not safe beside torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin) as pool:
        waiting: deque[Future[np.ndarray]] = deque()
        for task in itertools.chain([chunk], chunks):
            with deaf_to_interrupts():  # processes are started here
                waiting.append(pool.submit(work, task))
            if len(waiting) > 2 * processes:  # the files of these are in memory, no more
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _begin() -> None:
    """A process that decodes lets its parent decide what an interrupt means, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_parent()


def _processes() -> int:
    if multiprocessing.current_process().daemon:  # such a process may not have children
        return 1
    return cores()
