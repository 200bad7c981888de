"""How many files it takes to add something: one. Each addition is planted in a copy of the packages, and used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SCORE = """
from dataclasses import dataclass
from typing import ClassVar

from dwfbench.method import Pruner


@dataclass(frozen=True)
class Small(Pruner):
    name: ClassVar[str] = "small"
    summary: ClassVar[str] = "keeps the smallest weights"
    source: ClassVar[str] = "-"

    def scores(self, moment):
        return {name: -weight.abs() for name, weight in moment.weights.items()}
"""
PENALTY = """
from dataclasses import dataclass
from typing import ClassVar

from dwfbench.method import Method


@dataclass(frozen=True)
class Quartic(Method):
    name: ClassVar[str] = "quartic"
    knob: ClassVar[str] = "strength"
    summary: ClassVar[str] = "the sum of w^4"
    source: ClassVar[str] = "-"

    def penalty(self, trainable):
        return sum(weight.pow(4).sum() for weight in trainable.values())
"""
FIGURE = '''
from dataclasses import dataclass
from typing import ClassVar

from dwfbench.show.figures import Figure


@dataclass(frozen=True)
class Zeros(Figure):
    """Zeros against accuracy."""

    name: ClassVar[str] = "zeros"
    summary: ClassVar[str] = "Zeros"

    def frame(self, results):
        return results.runs
'''
DATA = """
import numpy as np

from dwfbench.data.readers.base import Known, Source


def read(places):
    images = np.random.default_rng(0).integers(0, 256, (400, 1, 4, 4), dtype=np.uint8)
    labels = np.arange(400) % 2
    return Source(images[:300], labels[:300], images[300:], labels[300:], classes=2)


SETS = {"noise": Known("noise, 1x4x4", "-", read, lambda place: True)}
"""
ADDITIONS = {
    "small.py": SCORE,
    "quartic.py": PENALTY,
    "dwfbench/show/figures/zeros.py": FIGURE,
    "dwfbench/data/readers/noise.py": DATA,
}
TRAIN = (
    *("run", "--epochs", "1", "--batch-size", "50", "--compile", "off", "--threads", "1", "--results", "r"),
    *("--method", "small.py:Small,quartic.py:Quartic", "--compression", "4", "--strength", "0.1", "--dataset", "noise"),
)


@pytest.mark.parametrize(
    ("words", "shown"), [(TRAIN, ("Small", "Quartic")), (("plot", "--help"), ("zeros",))], ids=["used", "listed"]
)
def test_an_addition_is_one_file(words, shown, tmp_path):
    """A pruner by its score, a penalty by itself, a figure, a data set."""
    for package in ("dwfbench", "baselines"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path, content in ADDITIONS.items():
        assert not (tmp_path / path).exists(), "nothing is edited"
        (tmp_path / path).write_text(content)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    command = [sys.executable, "-m", "dwfbench", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "ended well" in done.stderr, done.stderr  # and may be no better than chance
    assert all(word in done.stdout for word in shown), done.stdout
