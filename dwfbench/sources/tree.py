"""Files below a folder or inside a .zip behind one face. Nothing of a .zip is ever extracted to disk."""

import hashlib
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from dwfbench import files
from dwfbench.sources.base import DataError

# torchvision's ImageFolder takes the same
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
MAX_ENTRY_BYTES = 1 << 26  # of one file, unpacked; far above any image of a data set


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


class Zip(Tree):
    """A .zip archive, whose files may all lie in one folder at its top. DataError if it is damaged.

    What packers add (`__MACOSX`, `.DS_Store` and everything else whose name starts with a dot) is left out.
    """

    def __init__(self, path: Path):
        self.path, self.name = path, path.stem
        try:
            self.file = files.opened(path)
            self.archive = zipfile.ZipFile(self.file)
        except Exception as error:  # BadZipFile, OSError, NotImplementedError, ValueError, struct.error...
            raise DataError(f"{path} is not an intact .zip archive ({error}); copy or pack it again") from error
        self.entries = {
            info.filename: info
            for info in self.archive.infolist()
            if not any(part.startswith(".") or part == "__MACOSX" for part in info.filename.split("/"))
        }
        tops = {name.split("/")[0] for name in self.entries if name.split("/")[1:2] == ["train"]}
        if "train" not in {name.split("/")[0] for name in self.entries} and len(tops) == 1:
            top = f"{tops.pop()}/"
            self.entries = {name.removeprefix(top): info for name, info in self.entries.items() if name.startswith(top)}

    def __exit__(self, *exception) -> None:
        self.archive.close()
        self.file.close()

    def names(self, top: str) -> Iterable[str]:
        # Folders need no entries of their own in a .zip, but those that are there may be empty classes.
        return [name for name in self.entries if name.startswith(f"{top}/")]

    def has(self, top: str) -> bool:
        return any(name.startswith(f"{top}/") for name in self.entries)

    def read(self, name: str) -> bytes:
        try:
            info = self.entries[name]
            # Python unpacks the rarer methods in blocks of any size, which would defeat the bound below.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile("it is neither stored nor deflated")
            if info.compress_size > os.fstat(self.file.fileno()).st_size:  # room would be made for so many
                raise zipfile.BadZipFile("its size is a lie")
            with self.archive.open(info) as file:
                content = file.read(MAX_ENTRY_BYTES + 1)
        except KeyError:
            raise DataError(f"{self.where(name)} is missing; pack the archive again") from None
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


def open_tree(path: Path) -> Tree:
    """The folder, or else the .zip, at `path`. Raises DataError for a file that is no intact .zip.

    The name becomes part of records and tables, so it must be one that can be shown and written as UTF-8.
    """
    if not path.name.isprintable():
        raise DataError(f"the name of {path} cannot be shown in a table; rename it")
    return Folder(path) if path.is_dir() else Zip(path)
