"""Files below a folder or inside an archive behind one face. Nothing of an archive is ever extracted to disk."""

import hashlib
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

from dwfbench.base import files
from dwfbench.data.readers import tar
from dwfbench.data.readers.base import DataError

# torchvision's ImageFolder takes the same
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
MAX_ENTRY_BYTES = 1 << 26  # of one file, unpacked; far above any image of a data set
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
    def has(self, top: str) -> bool:
        """Whether there is a folder `top`."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A file's content. DataError naming it if it cannot be read."""

    def reading_order(self, names: list[str]) -> list[int]:
        """The places in `names` in the order in which their files are read fastest."""
        return list(range(len(names)))

    @abstractmethod
    def where(self, name: str) -> str:
        """How to call a file or folder in a message."""

    @abstractmethod
    def digest(self, names: Iterable[str]) -> str:
        """SHA-256 of the content of these files, in hex."""

    def images(self, top: str) -> list[str]:
        """The images below `top`, in torchvision's order: by class, folder and name."""
        found = [name for name in self.names(top) if name.lower().endswith(SUFFIXES)]
        return sorted(found, key=lambda name: (name.split("/")[1], *name.rpartition("/")[::2]))


class Folder(Tree):
    """A folder on disk; links are followed, but not back into a folder that they are in."""

    def __init__(self, path: Path):
        self.path, self.name = path, path.name

    def names(self, top: str) -> Iterable[str]:
        entered = {str(self.path / top): {_place(self.path / top)}}  # each folder with those it lies in
        for folder, inner, found in os.walk(self.path / top, followlinks=True):
            above = entered.pop(folder)
            places = {name: _place(os.path.join(folder, name)) for name in inner}
            inner[:] = [name for name in inner if places[name] not in above]
            entered |= {os.path.join(folder, name): above | {places[name]} for name in inner}
            base = Path(folder).relative_to(self.path).as_posix()
            yield from (f"{base}/{name}/" for name in inner)
            yield from (f"{base}/{name}" for name in found)

    def has(self, top: str) -> bool:
        return (self.path / top).is_dir()

    def read(self, name: str) -> bytes:
        try:
            return files.content(self.path / name, MAX_ENTRY_BYTES)
        except OSError as error:
            raise DataError(f"{self.where(name)} cannot be read ({error.strerror}); repair or remove it") from error

    def where(self, name: str) -> str:
        return str(self.path / name)

    def digest(self, names: Iterable[str]) -> str:
        digest = hashlib.sha256()
        for name in names:
            digest.update(os.fsencode(name) + b"\0")
            digest.update(hashlib.sha256(self.read(name)).digest())
        return digest.hexdigest()


def _place(path: Path | str) -> tuple[int, int] | None:
    """What a folder is called on its disk, whichever links lead to it."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Archive(Tree, Generic[Entry]):
    """An archive, whose files may all lie in one folder at its top. DataError if it is damaged.

    What packers add (`__MACOSX`, `.DS_Store` and everything else whose name starts with a dot) is left out, and of
    two files of one name the last.
    """

    ending: str

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        try:
            self.file = files.opened(path)
            self.entries = _own(self._entries())
        except Exception as error:  # BadZipFile, OSError, NotImplementedError, ValueError, struct.error...
            raise DataError(
                f"{path} is not an intact {self.ending} archive ({error}); copy or pack it again"
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

    def has(self, top: str) -> bool:
        return any(name.startswith(f"{top}/") for name in self.entries)

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

    def digest(self, names: Iterable[str]) -> str:
        """SHA-256 of the whole archive, whichever of its files are named: one pass and no unpacking."""
        try:
            with files.opened(self.path) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{self.path} cannot be read ({error.strerror})") from error


def _own(entries: Iterable[tuple[str, Entry]]) -> dict[str, Entry]:
    """Without what packers add, without `./` before the names, and without one folder around all."""
    own = {}
    for name, entry in entries:
        while name.startswith("./"):
            name = name[2:]
        if name and not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):
            own[name] = entry
    tops = {name.split("/")[0] for name in own if name.split("/")[1:2] == ["train"]}
    if "train" not in {name.split("/")[0] for name in own} and len(tops) == 1:
        top = f"{tops.pop()}/"
        own = {name.removeprefix(top): entry for name, entry in own.items() if name.startswith(top)}
    return own


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


class Tar(Archive[tar.Entry]):
    ending = ".tar"

    def _entries(self) -> Iterable[tuple[str, tar.Entry]]:
        self.stream = tar.Stream(self.file)
        return tar.entries(self.stream)

    def _content(self, entry: tar.Entry) -> bytes:
        if entry.fault:
            raise ValueError(entry.fault)
        return self.stream.read(entry.offset, min(entry.size, MAX_ENTRY_BYTES + 1))

    def reading_order(self, names: list[str]) -> list[int]:
        """That of the archive: a compressed one can only be unpacked from its start."""
        return sorted(range(len(names)), key=lambda place: self.entries[names[place]].offset)


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
