"""Every benchmark after the other, as one table: ``python -m benchmarks``."""

from importlib import import_module, util

from benchmarks.timing import Options, Row, main

MODULES = ("training", "memory", "startup", "scoring", "waiting", "cluster")


def rows(options: Options) -> list[Row]:
    """The rows of all modules; each is imported when its turn comes."""
    names = [name for name in (f"benchmarks.{module}" for module in MODULES) if util.find_spec(name)]
    return [row for name in names for row in import_module(name).rows(options)]


if __name__ == "__main__":
    main(rows, __doc__)
