"""The functions that docs/library.md names are there. (The README's training loop runs in test_module.py.)"""

import re
from pathlib import Path

import baselines
import dwfbench

PAGE = (Path(__file__).parents[1] / "docs" / "library.md").read_text(encoding="utf-8")


def test_the_functions_it_names_are_there():
    named = re.findall(r"`(baselines\.\w+\.\w+|dwfbench\.sparsity\.\w+)\(", PAGE)
    assert len(named) == 6
    for name in named:
        package, module, function = name.split(".")
        assert callable(getattr(getattr({"baselines": baselines, "dwfbench": dwfbench}[package], module), function))
