"""Files: reading what anybody may have written, regular ones only and no more than makes sense, and writing ours.

A pipe among the files of a results folder would be waited for without end, a device could be read without end. What is
written is either wholly there or not.
"""

import errno
import json
import math
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from dwfbench.base import memory
from dwfbench.base.errors import UsageError

MOST_JSON = 1 << 25  # bytes of a record, study, measurement or recipe; of 1,000 layers a record has 0.1 MB
MOST_TABLE = 1 << 25  # bytes of a history: 100,000 epochs with the sizes of weights in each have about 25 MB
HOST = re.sub(r"\W", "_", platform.node())
MOST_AT_ONCE = 1 << 28  # bytes: the list of a .zip, say, which may claim any length, has 100 a file
SPARING = 1 << 26  # bytes: what is larger is read only where there is memory for it
FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
OURS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)


class Opened(BufferedReader):
    """A file of which no more than MOST_AT_ONCE is read at once. Raises ValueError, as for other damage."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > MOST_AT_ONCE:
            raise ValueError(f"more than {MOST_AT_ONCE:,} bytes of it would be read at once")
        return super().read(size)


def opened(path: Path | str) -> Opened:
    """A regular file, opened for reading bytes. Raises OSError, also for whatever else is there."""
    return Opened(unbuffered(path))


def place(path: Path | str) -> tuple[int, int] | None:
    """What a file or folder is called on its disk, whichever links lead to it; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def lockable(path: Path) -> FileIO:
    """A file of ours, which is made if there is none, to hold locks. Raises OSError, for a link, too."""
    return unbuffered(path, OURS)


def unbuffered(path: Path | str, flags: int = os.O_RDONLY) -> FileIO:
    """A regular file that is read at once."""
    try:
        descriptor = os.open(path, flags | FLAGS)
    except ValueError:
        raise OSError(errno.EINVAL, "a name cannot hold a null character") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return FileIO(descriptor, "rb" if flags == os.O_RDONLY else "rb+")
    except BaseException:
        os.close(descriptor)
        raise


def content(path: Path | str, most: int) -> bytes:
    """The bytes of a regular file that has at most so many. Raises OSError."""
    with unbuffered(path) as file:
        size = min(most, os.fstat(file.fileno()).st_size)
        if size > SPARING and (lack := memory.lacking(size)):
            raise OSError(errno.ENOMEM, f"it needs {lack}")
        data = beginning(file, most)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it holds more than {most:,} bytes")
    return data


def beginning(file: BufferedReader | FileIO, most: int) -> bytes:
    """The first bytes of an opened file, one more than ``most`` where it has them; no room is made for others."""
    return file.read(min(most, os.fstat(file.fileno()).st_size) + 1)


def text(path: Path | str, most: int) -> str:
    """The same as UTF-8 text. Raises OSError, and UnicodeDecodeError for other bytes."""
    return content(path, most).decode()


def replace(path: Path, content: bytes) -> None:
    """Write a file so that it is either wholly there or not: temporary name, fsync, rename. Of a link, the link goes.

    Raises OSError, also for what is no file: as superuser one can replace /dev/null, and its machine is no more.
    """
    if (path.exists() and not path.is_file()) or (path.is_symlink() and os.readlink(path).startswith("/proc/")):
        raise OSError(errno.EINVAL, "there is something else than a regular file")
    beside = temporary(path)
    try:
        flushed(beside, content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def flushed(path: Path, content: bytes) -> None:
    """Write a new file, and wait until the disk has it; what else has this name, which is one of ours, is removed."""
    remove(path)
    with open(path, "xb") as file:  # which follows no link
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing is no fault. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def temporary(path: Path) -> Path:
    """A name beside a path, with the host and the process that write there."""
    return path.with_name(f".{path.name}.{HOST}-{os.getpid()}.tmp")


def stale(folder: Path) -> list[Path]:
    """Temporary names in a folder that processes of this machine left, or this one, which writes nothing just now."""
    paths = []
    for path in folder.glob(f".*.{HOST}-*.tmp"):
        number = path.name.removesuffix(".tmp").rpartition("-")[2]
        if number.isdecimal() and (int(number) == os.getpid() or not alive(int(number))):
            paths.append(path)
    return paths


def sweep(folder: Path) -> None:
    """Remove what is stale in a folder, as far as one may."""
    for path in stale(folder):
        with suppress(OSError):
            remove(path)


def alive(process: int) -> bool:
    """Whether a process of this machine runs, as far as this one can tell; a zombie does not."""
    if os.path.isdir("/proc/self"):
        try:
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
        except (OSError, UnicodeDecodeError):
            return os.path.isdir(f"/proc/{process}")
    if os.name != "posix":  # there, the signal 0 ends it
        return True
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def write(path: Path, content: bytes) -> None:
    """The same, parent folders included. UsageError when the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, content)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error}).") from None


def write_json(path: Path, value: Any) -> None:
    """The same with JSON."""
    write(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """JSON as files have it: indented, infinity and NaN as null."""
    return (json.dumps(finite(value), indent=1, allow_nan=False) + "\n").encode()


def finite(value: Any) -> Any:
    """JSON has no infinity or NaN: they become null."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def refuse_other(path: Path, table: str) -> None:
    """UsageError if a CSV table would replace a file that is no such table: one whose first two columns are others."""
    try:
        with path.open("rb") as file:
            there = file.readline(1000)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from None
    if there.split(b",")[:2] != table.encode().split(b",", 2)[:2]:
        raise UsageError(f"{path}, where a table would be written, is another file; choose another name.")


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def unwritable(folder: Path) -> str | None:
    """That and why no file can be written into a folder, or where it would be made; None where one can."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(b"\0")
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror or error})"
    return None
