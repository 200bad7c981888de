"""Reading files that anybody may have written: regular ones only, and no more of them than makes sense.

A pipe among the files of a results folder would be waited for without end, a device could be read without end.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MOST_JSON = 1 << 25  # bytes of a record, study, measurement or recipe; of 1,000 layers a record has 0.1 MB
MOST_TABLE = 1 << 28  # bytes of a history: some 100,000 epochs with the sizes of weights in each
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def opened(path: Path | str) -> BufferedReader:
    """A regular file, opened for reading bytes. Raises OSError, also for whatever else is there."""
    try:
        descriptor = os.open(path, FLAGS)
    except ValueError:
        raise OSError(errno.EINVAL, "a name cannot hold a null character") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def content(path: Path | str, most: int) -> bytes:
    """The bytes of a regular file that has at most so many. Raises OSError."""
    with opened(path) as file:
        found = beginning(file, most)
    if len(found) > most:
        raise OSError(errno.EFBIG, f"it holds more than {most:,} bytes")
    return found


def beginning(file: BufferedReader, most: int) -> bytes:
    """The first bytes of an opened file, one more than ``most`` where it has them; no room is made for others."""
    return file.read(min(most, os.fstat(file.fileno()).st_size) + 1)


def text(path: Path | str, most: int) -> str:
    """The same as UTF-8 text. Raises OSError, and UnicodeDecodeError for other bytes."""
    return content(path, most).decode()
