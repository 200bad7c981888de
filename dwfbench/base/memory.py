"""How much memory there is to take, asked before much is taken: Linux promises any amount, and kills who uses it."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from dwfbench.base.errors import UsageError

GIB = 1 << 30
GROUPS = Path("/sys/fs/cgroup")
SELF = Path("/proc/self")
FILES = {"": ("memory.max", "memory.current"), "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
"""Where a control group says its limit and its use: of version 2, which names no controllers, and of version 1."""

LEAST_ADDRESSES = GIB // 2
"""With less some library or other ends the process, or, as OpenBLAS does, tries again for ever."""

WANT = ("failed to map segment", "annot allocate memory", "can't allocate memory")
"""What the system's loader says, the system itself, and torch."""


def available() -> float:
    """Bytes that this process may still take: of the machine's, its control groups' and its own limit the least.

    Infinity where nothing says.
    """
    return max(0, min([_machine(), *_groups(), address_space()]))


def lacking(needed: float) -> str | None:
    """Half a sentence that says what is needed and what is available, where that is less; else None."""
    free = available()
    if needed <= free:
        return None
    return f"{needed / GIB:,.1f} GiB of memory, and {free / GIB:,.1f} GiB are available"


def require_addresses() -> None:
    """Refuses a limit of addresses (`ulimit -v`) within which no command's libraries can be loaded.

    Raises
    ------
    UsageError
        With less than `LEAST_ADDRESSES` left.
    """
    if (free := address_space()) < LEAST_ADDRESSES:
        raise UsageError(
            f"A command needs {LEAST_ADDRESSES / GIB:.1f} GiB of addresses at least, and `ulimit -v` leaves "
            f"{free / GIB:.1f} GiB; raise it."
        )


def is_lack(error: BaseException) -> bool:
    """Whether an error says that there is no memory: libraries have various ways."""
    text = str(error)
    return isinstance(error, MemoryError) or any(words in text for words in WANT)


def _machine() -> float:
    for line in _text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return math.inf


def _groups() -> Iterator[float]:
    """What each control group of this process, of either version, leaves; what it caches of files can be had, too."""
    lines = [line.split(":", 2) for line in _text(SELF / "cgroup").splitlines()]
    for _, controllers, path in (line for line in lines if len(line) == 3 and line[1] in FILES):
        root = GROUPS / controllers
        limit, usage = FILES[controllers]
        own_group = root / path.lstrip("/")
        for folder in {root, own_group, *(above for above in own_group.parents if above.is_relative_to(root))}:
            allowed, used = _text(folder / limit).strip(), _text(folder / usage).strip()
            if allowed.isdecimal() and used.isdecimal():
                yield int(allowed) - int(used) + _reclaimable(folder)


def _reclaimable(folder: Path) -> int:
    rows = [line.split() for line in _text(folder / "memory.stat").splitlines()]
    counts = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}
    return counts.get("total_inactive_file", counts.get("inactive_file", 0))


def address_space() -> float:
    """Bytes that `ulimit -v` leaves, be they used or only reserved; infinity without a limit."""
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most == resource.RLIM_INFINITY:
            return math.inf
        return most - int(_text(SELF / "statm").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError, IndexError):  # other systems
        return math.inf


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
