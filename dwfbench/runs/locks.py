"""Which command trains which run, where several work in one results folder.

A claim is a lock on one byte of the file ``.claims``: the byte whose number is the run's id. The system frees the
locks of a process that ends, however it ends, so a claim is never left behind. On a file system without locks, and
where Python has none, every claim is granted: two commands may then train the same run, and the later record stays.
"""

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dwfbench.base import files
from dwfbench.base.errors import UsageError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = ".claims"


class Claims:
    """The claims of this process in a results folder. A context manager, which gives them all back at its end.

    The locks belong to the process and are lost when it closes the file anywhere: one object a folder and process.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> "Claims":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = files.lockable(self.folder / NAME)
        except OSError as error:
            raise UsageError(
                f"The results folder {self.folder} cannot be written ({error.strerror or error})."
            ) from None
        return self

    def __exit__(self, *exception) -> None:
        self.file.close()

    def take(self, run_ids: Iterable[str]) -> set[str]:
        """Those of the runs that are now this process's to train; the others are being trained elsewhere."""
        return {run_id for run_id in run_ids if self._lock(run_id)}

    def give_back(self, run_id: str) -> None:
        if fcntl is not None:
            fcntl.lockf(self.file, fcntl.LOCK_UN, 1, int(run_id, 16))

    def _lock(self, run_id: str) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(run_id, 16))
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EAGAIN)  # any other: no locks here
        return True
