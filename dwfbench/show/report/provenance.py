"""What runs were made with, and by which commands."""

import shlex
from collections import Counter
from collections.abc import Iterable

from dwfbench.runs.record import Origin, Provenance, Record


def provenance(records: list[Record]) -> list[tuple[str, list[str]]]:
    """What the runs were made with: (name, values), each value with its number of runs if there are several."""
    origins = [record.provenance for record in records]
    packages = dict.fromkeys(name for origin in origins for name in origin.versions)
    rows: dict[str, list] = {f"{name} version": [origin.versions.get(name) for origin in origins] for name in packages}
    rows["git commit"] = [_commit(origin) for origin in origins]
    rows["device"] = [_joined(origin.device, origin.device_name) for origin in origins]
    names = {"threads": "threads", "lanes": "lanes", "compiled": "compiled step", "precision": "precision"}
    rows |= {title: [getattr(origin, name) for origin in origins] for name, title in names.items()}
    for name in sorted({record.spec.dataset for record in records}):
        of_name = [record.provenance for record in records if record.spec.dataset == name]
        rows[f"checksum of {name}"] = [origin.data_checksum for origin in of_name]
    counted = [(title, _counted(values)) for title, values in rows.items()]
    starts = [origin.started for origin in origins if origin.started]
    ends = [origin.ended for origin in origins if origin.ended]
    times = [("first run started", starts and [min(starts)]), ("last run ended", ends and [max(ends)])]
    return [(title, values or ["not recorded"]) for title, values in [*counted, *times]]


def days(records: list[Record]) -> str:
    """The first and the last day on which the runs were trained; nothing where no record says it."""
    origins = [record.provenance for record in records]
    times = [time for origin in origins for time in (origin.started, origin.ended) if time]
    ends = dict.fromkeys((min(times)[:10], max(times)[:10])) if times else {}
    return " to ".join(ends)


def _commit(provenance: Provenance) -> str | None:
    commit = provenance.git_commit
    return f"{commit} (with uncommitted changes)" if commit and provenance.git_dirty else commit


def _joined(*parts: object) -> str | None:
    return ", ".join(str(part) for part in parts if part) or None


def _counted(values: Iterable[object]) -> list[str]:
    """The different values, the most frequent first, with their numbers of runs if there are several."""
    words = {True: "yes", False: "no"}
    counts = Counter(words[value] if isinstance(value, bool) else str(value) for value in values if value is not None)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) == 1:
        return [ordered[0][0]]
    return [f"{value} ({count} {'run' if count == 1 else 'runs'})" for value, count in ordered]


def commands(origins: Iterable[tuple[Origin, str]]) -> list[str]:
    """The different commands that made runs or studies, each given with its time, quoted for a shell, the earliest
    first.
    """
    first: dict[str, str] = {}
    for origin, start in origins:
        if origin.argv:
            command = shlex.join(origin.argv)
            first[command] = min(first.get(command, start), start)
    return sorted(first, key=lambda command: (first[command], command))
