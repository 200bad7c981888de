"""Files below a folder or inside an archive behind one face. Nothing of an archive is ever extracted to disk."""

import hashlib
import os
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar, cast

from dwfbench.base import files
from dwfbench.base.errors import first_line
from dwfbench.data.readers.base import DataError

# torchvision's ImageFolder takes the same, but for .jfif
SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
UNREAD = (".gif", ".heic", ".heif", ".avif", ".svg", ".jp2", ".tga", ".psd", ".exr", ".jxl")
"""Pictures of other formats."""
SIDE = {
    *("__macosx", "__pycache__", "lost+found", "$recycle.bin", "system volume information"),
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini"),
}
"""What systems and network storage leave in folders, beside names that begin with a dot: in small letters."""
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}
"""What people call the parts of a data set, in small letters."""
MAX_ENTRY_BYTES = 1 << 26  # of one file, unpacked; far above any image of a data set
READ_BYTES = 1 << 16
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

Entry = TypeVar("Entry")


class Tree(ABC):
    """Names are relative, with slashes, and those of folders end in one. A context manager."""

    path: Path
    name: str  # without the ending of an archive

    def __enter__(self) -> "Tree":
        return self

    def __exit__(self, *exception) -> None:
        return None

    @abstractmethod
    def names(self, top: str) -> Iterable[str]:
        """All files and folders below the folder `top`; nothing if there is no such folder."""

    @abstractmethod
    def tops(self) -> list[str]:
        """The folders that are not below another one, in the order of their names."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A file's content. DataError naming it if it cannot be read."""

    def reading_order(self, names: list[str]) -> list[int]:
        """The places in `names` in the order in which their files are read fastest."""
        return list(range(len(names)))

    @abstractmethod
    def where(self, name: str) -> str:
        """How to call a file or folder in a message."""

    def digest(self, names: Iterable[str]) -> str:
        """SHA-256 of the names and content of these files, in hex, whatever they are kept in."""
        listed = list(names)
        sums = [b""] * len(listed)
        for place in self.reading_order(listed):
            sums[place] = hashlib.sha256(self.read(listed[place])).digest()
        digest = hashlib.sha256()
        for name, checksum in zip(listed, sums, strict=True):
            digest.update(os.fsencode(name) + b"\0" + checksum)
        return digest.hexdigest()

    def part(self, name: str) -> str | None:
        """The folder of a part, "train", "test" or "val", by whichever of its names; None where there is none.

        Raises DataError where there are two.
        """
        folders = [top for top in self.tops() if PARTS.get(top.lower()) == name]
        if len(folders) > 1:
            raise DataError(f"{self.path} has both {' and '.join(folders)}; rename or remove one")
        return folders[0] if folders else None

    def images(self, top: str) -> list[str]:
        """The images below `top`, in torchvision's order: by class, folder and name."""
        names = [name for name in self.names(top) if name.lower().endswith(SUFFIXES)]
        return sorted(names, key=lambda name: (name.split("/")[1], *name.rpartition("/")[::2]))


class Folder(Tree):
    """A folder on disk; links are followed, but not back into a folder that they are in."""

    def __init__(self, path: Path):
        self.path, self.name = path, path.name
        tops = self.tops()
        if not any(map(is_train, tops)):
            self.path = path / (_around(f"{top}/{inner}" for top in tops for inner in _folders(path / top)) or "")

    def tops(self) -> list[str]:
        return _folders(self.path)

    def names(self, top: str) -> Iterable[str]:
        entered = {str(self.path / top): {files.place(self.path / top)}}  # each folder with those it lies in
        for folder, inner, file_names in os.walk(self.path / top, followlinks=True):
            above = entered.pop(folder)
            places = {name: files.place(os.path.join(folder, name)) for name in inner}
            inner[:] = [name for name in inner if places[name] not in above and not is_side(name)]
            entered |= {os.path.join(folder, name): above | {places[name]} for name in inner}
            base = Path(folder).relative_to(self.path).as_posix()
            yield from (f"{base}/{name}/" for name in inner)
            yield from (f"{base}/{name}" for name in file_names if not is_side(name))

    def read(self, name: str) -> bytes:
        try:
            return files.content(self.path / name, MAX_ENTRY_BYTES)
        except OSError as error:
            raise DataError(f"{self.where(name)} cannot be read ({error.strerror}); repair or remove it") from error

    def where(self, name: str) -> str:
        return str(self.path / name)


def is_side(name: str) -> bool:
    """Whether a file or folder of this name is none of the data's."""
    return name.startswith(".") or name.lower() in SIDE


def is_train(name: str = "") -> bool:
    """Whether a folder of this name is the training part."""
    return PARTS.get(name.lower()) == "train"


def _folders(path: Path) -> list[str]:
    """The names of the folders in one, none where it cannot be looked into."""
    try:
        return sorted(name for name in os.listdir(path) if not is_side(name) and (path / name).is_dir())
    except OSError:
        return []


def _around(names: Iterable[str]) -> str | None:
    """The one folder in which the parts of a data set lie, by names in it; None where they lie at the top."""
    paths = [name.split("/") for name in names]
    tops = {path[0] for path in paths if is_train(*path[1:2])}
    return tops.pop() if len(tops) == 1 and not any(is_train(path[0]) for path in paths) else None


class Archive(Tree, Generic[Entry]):
    """An archive, whose files may all lie in one folder at its top. DataError if it is damaged.

    What packers and systems add (see `is_side`) is left out, and of two files of one name the last.
    """

    ending: str

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        try:
            self.file = files.opened(path)
            self.entries = _tidy(self._entries())
        except Exception as error:  # BadZipFile, OSError, NotImplementedError, ValueError, struct.error...
            raise DataError(
                f"{path} is not an intact {self.ending} archive ({first_line(error)}); copy or pack it again"
            ) from error

    @abstractmethod
    def _entries(self) -> Iterable[tuple[str, Entry]]:
        """All files with their names, from the opened `file`. Whatever it raises says in half a sentence why."""

    @abstractmethod
    def _content(self, entry: Entry) -> bytes:
        """A file's content, or more than MAX_ENTRY_BYTES of it. Whatever it raises says in half a sentence why."""

    def __exit__(self, *exception) -> None:
        self.file.close()

    def names(self, top: str) -> Iterable[str]:
        # Folders need no entries of their own in an archive, but those that are there may be empty classes.
        return [name for name in self.entries if name.startswith(f"{top}/")]

    def tops(self) -> list[str]:
        return sorted({name.split("/")[0] for name in self.entries if "/" in name})

    def read(self, name: str) -> bytes:
        if name not in self.entries:
            raise DataError(f"{self.where(name)} is missing; pack the archive again")
        try:
            content = self._content(self.entries[name])
        except Exception as error:  # BadZipFile, zlib.error, RuntimeError for a password, OSError...
            raise DataError(f"{self.where(name)} cannot be unpacked ({error}); repair or remove it") from error
        if len(content) > MAX_ENTRY_BYTES:
            raise DataError(f"{self.where(name)} unpacks to more than {MAX_ENTRY_BYTES:,} bytes; remove it")
        return content

    def where(self, name: str) -> str:
        return f"{name} in {self.path}"


def _tidy(entries: Iterable[tuple[str, Entry]]) -> dict[str, Entry]:
    """Without what packers and systems add, without `.` in a path, and without one folder around all.

    Where all paths are written with backslashes, as some packers of Windows do, these are slashes.
    """
    listed = list(entries)
    windows = not any("/" in name.removeprefix("./") for name, _ in listed)
    tidy = {}
    for name, entry in listed:
        path = (name.replace("\\", "/") if windows else name).split("/")
        folder = "/" if path[-1] in ("", ".") else ""
        inside = [part for part in path if part not in ("", ".")]
        if inside and path[0] and not any(map(is_side, inside)):
            tidy["/".join(inside) + folder] = entry
    if around := _around(tidy):
        top = f"{around}/"
        tidy = {name.removeprefix(top): entry for name, entry in tidy.items() if name.startswith(top) and name != top}
    return tidy


class Zip(Archive[zipfile.ZipInfo]):
    ending = ".zip"

    def _entries(self) -> Iterable[tuple[str, zipfile.ZipInfo]]:
        self.archive = zipfile.ZipFile(self.file)
        return [(info.filename, info) for info in self.archive.infolist()]

    def __exit__(self, *exception) -> None:
        self.archive.close()
        super().__exit__()

    def _content(self, entry: zipfile.ZipInfo) -> bytes:
        # Python unpacks the rarer methods in blocks of any size, which would defeat the bound below.
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile("it is neither stored nor deflated")
        if entry.compress_size > os.fstat(self.file.fileno()).st_size:  # room would be made for so many
            raise zipfile.BadZipFile("its size is a lie")
        with self.archive.open(entry) as file:
            return file.read(MAX_ENTRY_BYTES + 1)


PACKINGS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "lzma"}
"""Modules, without some of which a Python may be built, by what a file begins with that they unpack."""


class _Bounded:
    """A stream of which no more is read at once than an entry may have: what a header says of sizes is not believed."""

    def __init__(self, stream: BinaryIO):
        self.stream, self.seek, self.tell = stream, stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if size > max(MAX_ENTRY_BYTES, READ_BYTES) + tarfile.BLOCKSIZE:
            raise ValueError(f"a header gives a size of {size:,} bytes")
        return self.stream.read(size)


class Tar(Archive[tarfile.TarInfo]):
    ending = ".tar"

    def _entries(self) -> Iterator[tuple[str, tarfile.TarInfo]]:
        module = next((name for magic, name in PACKINGS.items() if self.file.peek(6).startswith(magic)), None)
        self.stream = _Bounded(import_module(module).open(self.file) if module else self.file)
        archive = tarfile.TarFile(fileobj=cast(Any, self.stream), encoding="utf-8")
        for member in archive:
            if member.size < 0 or archive.offset <= member.offset:  # older Pythons would read it again for ever
                raise ValueError("a header gives a size below 0")
            yield f"{member.name.rstrip('/')}/" if member.isdir() else member.name, member
        # tarfile takes a damaged header, and a file that was cut off between two entries, for the end of the archive:
        # the rest of a data set would be missing without a word.
        self.stream.seek(archive.offset)
        if self.stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError("a header is damaged, or it ends too early")
        while self.stream.read(READ_BYTES):  # a checksum comes at the end
            pass

    def _content(self, entry: tarfile.TarInfo) -> bytes:
        if not entry.isreg() or entry.issparse():
            advice = "pack it with --dereference and --hard-dereference, and without --sparse"
            raise ValueError(f"it is a link, a device or a sparse file: {advice}")
        self.stream.seek(entry.offset_data)
        return self.stream.read(min(entry.size, MAX_ENTRY_BYTES + 1))

    def reading_order(self, names: list[str]) -> list[int]:
        """That of the archive: a compressed one can only be unpacked from its start."""
        return sorted(range(len(names)), key=lambda place: self.entries[names[place]].offset_data)


def open_tree(path: Path) -> Tree:
    """The folder, the .tar in one of its forms, or else the .zip, at `path`. DataError for a file that is not intact.

    The name becomes part of records and tables, so it must be one that can be shown and written as UTF-8.
    """
    if not path.name.isprintable():
        raise DataError(f"the name of {path} cannot be shown in a table; rename it")
    if path.is_dir():
        return Folder(path)
    ending = next((ending for ending in TAR_ENDINGS if path.name.lower().endswith(ending)), None)
    return Tar(path, path.name[: -len(ending)]) if ending else Zip(path, path.stem)
