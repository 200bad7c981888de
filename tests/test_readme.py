"""What the README says of the library is run."""

import re
from pathlib import Path

from torch import nn

import baselines
import dwfbench

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_library_example_runs():
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {"MyNet": lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))}
    exec(block, names)
    assert isinstance(names["model"], nn.Sequential)
    assert not list(names["model"][0].named_buffers())


def test_the_functions_it_names_are_there():
    named = re.findall(r"`(baselines\.\w+\.\w+|dwfbench\.sparsity\.\w+)\(", README)
    assert len(named) == 6
    for name in named:
        package, module, function = name.split(".")
        assert callable(getattr(getattr({"baselines": baselines, "dwfbench": dwfbench}[package], module), function))
