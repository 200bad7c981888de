"""Bytes and entries of a .tar, plain or compressed with gzip, bzip2 or xz: one pass over its headers, and no file made.

Not by Python's tarfile: it takes a damaged header, and the end of a file that was cut off between two entries, for
the end of the archive, and the rest of a data set would be missing without a word; it also makes room for headers of
any size. The format is that of POSIX pax (2001) with the long names of GNU tar.
"""

import os
from collections.abc import Iterator
from io import BufferedReader
from typing import NamedTuple

from dwfbench.data.readers.xz import Xz

BLOCK = 512
MAX_HEADER_BYTES = 1 << 20  # of the names and attributes of one entry
MAX_RATIO = 1000  # of unpacked to packed bytes; CIFAR-10's JPEG files, which are mostly headers, take 5 with xz
FREE_BYTES = 1 << 28  # may be unpacked from the smallest archive
READ_BYTES = 1 << 16

# Kinds of entries, each a letter
PAX, LONG_NAME = b"xX", b"L"  # headers of the next entry
PASSED = b"gK"  # headers of all entries, and a link's target
FOLDER, SPARSE = b"5", b"S"
NO_CONTENT = b"123456"  # the size that these give, if any, means nothing
PAX_SPARSE = (b"GNU.sparse.major", b"GNU.sparse.size")  # one of them is there in each version of these
PAX_KEYS = (b"path", b"size", *PAX_SPARSE)
FAULTS = {
    b"1": "it is a link, which is never followed: pack it with --hard-dereference",
    b"2": "it is a link, which is never followed: pack it with --dereference",
    **dict.fromkeys((b"3", b"4", b"6"), "it is a device or a pipe"),
    **dict.fromkeys((b"0", b"\0", b"7"), ""),
}


class Entry(NamedTuple):
    """Where the content lies in the unpacked archive, in bytes, and why it is none that can be read, or nothing."""

    offset: int
    size: int
    fault: str


class Stream:
    """The unpacked bytes of an opened archive. To go back in a compressed one is to unpack it from its start."""

    def __init__(self, file: BufferedReader):
        size = os.fstat(file.fileno()).st_size
        opened = _unpacked(file)
        self.file = opened or file
        self.packed = opened is not None
        self.limit = max(FREE_BYTES, MAX_RATIO * size) if self.packed else size

    def read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes. Raises ValueError or whatever unpacking raises, with half a sentence."""
        self._allow(offset + size)
        self.file.seek(offset)
        content = self.file.read(size)
        if len(content) < size:
            raise ValueError("it ends too early")
        return content

    def check_rest(self) -> None:
        """Unpack what is left, because a checksum comes at the end. Raises as `read` does."""
        while self.packed and self.file.read(READ_BYTES):
            self._allow(self.file.tell())

    def _allow(self, end: int) -> None:
        if end > self.limit:
            raise ValueError(
                f"it would unpack to more than {self.limit:,} bytes" if self.packed else "it ends too early"
            )


def entries(stream: Stream) -> Iterator[tuple[str, Entry]]:
    """All entries with their names, those of folders ending in a slash. Raises ValueError and others as `read` does."""
    position = 0
    overrides: dict[bytes, bytes] = {}  # of the next entry, by headers before it
    while (header := stream.read(position, BLOCK)) != bytes(BLOCK):
        entry_type, size = _checked(header, position)
        position += BLOCK
        if entry_type in PAX or entry_type == LONG_NAME:
            if size > MAX_HEADER_BYTES:
                raise ValueError(f"the header at byte {position - BLOCK:,} has more than {MAX_HEADER_BYTES:,} bytes")
            content = stream.read(position, size)
            records = [(b"path", content.split(b"\0")[0])] if entry_type == LONG_NAME else _records(content)
            overrides |= {key: value for key, value in records if key in PAX_KEYS}
        elif entry_type not in PASSED:
            name = overrides.get(b"path", _name(header)).decode("utf-8", "surrogateescape")
            name = f"{name.rstrip('/')}/" if entry_type == FOLDER else name
            if entry_type == SPARSE or any(key in overrides for key in PAX_SPARSE):
                raise ValueError(f"{name} is stored as a sparse file: pack it without --sparse")
            size = 0 if entry_type in NO_CONTENT else _size(overrides[b"size"], 10) if b"size" in overrides else size
            yield name, Entry(position, size, FAULTS.get(entry_type, "it is no file"))
            overrides = {}
        position += -(-size // BLOCK) * BLOCK
    stream.check_rest()


def _checked(header: bytes, position: int) -> tuple[bytes, int]:
    """The kind and the size of an entry from its header, whose checksum is one over itself with blanks in its place."""
    try:
        if _size(header[148:156], 8) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
            raise ValueError
        return header[156:157], _size(header[124:136], 8)
    except ValueError:
        raise ValueError(f"the header at byte {position:,} is damaged") from None


def _size(field: bytes, base: int) -> int:
    """A number in digits, or in binary behind a first byte of 128, as GNU tar writes what has no room in digits."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit():  # int() would take a sign
        raise ValueError(f"{digits[:20]!r} is no size")
    return int(digits, base)


def _name(header: bytes) -> bytes:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    return b"/".join((prefix, name)) if prefix and header[257:263] == b"ustar\0" else name


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a pax header, whose records are `length key=value` with a line feed, of `length` bytes."""
    start = 0
    while start < len(content):
        digits, blank, _ = content[start : start + 20].partition(b" ")
        end = start + (int(digits) if digits.isdigit() else 0)
        key, equal, value = content[start + len(digits) + 1 : end].partition(b"=")
        if not blank or not equal or value[-1:] != b"\n" or end > len(content):
            raise ValueError("a header of pax is damaged")
        yield key, value[:-1]
        start = end


def _unpacked(file: BufferedReader):
    """What unpacks a compressed file, whatever its name ends in; None for any other."""
    magic = file.peek(6)[:6]
    # Some Pythons are built without one or the other.
    if magic.startswith(b"\x1f\x8b"):
        import gzip

        return gzip.GzipFile(fileobj=file)
    if magic.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(file)
    return BufferedReader(Xz(file), READ_BYTES) if magic == b"\xfd7zXZ\0" else None
