"""Makes an environment look like a smaller one: Python imports this at its start, where its folder is on the path.

Every process of a rehearsal refuses the modules that DWFBENCH_REFUSED names, separated by commas.
"""

import os
import sys


class Refused:
    """A finder before all others."""

    names = frozenset(filter(None, os.environ.get("DWFBENCH_REFUSED", "").split(",")))

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r} on a bare machine", name=name)


sys.meta_path.insert(0, Refused())
