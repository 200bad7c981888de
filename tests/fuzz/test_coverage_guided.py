"""The harness for atheris without it, and the properties that it shares with these tests on its seeds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import properties, seeds

HARNESS = Path(__file__).with_name("coverage_guided.py")


def test_without_atheris_it_says_so_in_one_sentence():
    hide = f"import runpy, sys; sys.modules['atheris'] = None; runpy.run_path({str(HARNESS)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("This needs atheris, and Python 3.")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("read", "contents", "good"),
    [
        (properties.idx_file, seeds.idx(), 2),
        (properties.image_zip, seeds.zip(), 2),
        (properties.image_tar, seeds.tar(), 3),
        (properties.record, seeds.record(), 2),
        (properties.history, seeds.history(), 1),
        (properties.archive, seeds.archive(), 2),
        (properties.claims_toml, seeds.claims(), 2),
        (properties.recipe, seeds.recipe(), 3),
        (properties.sparse_file, seeds.weights(), 1),
        (properties.checkpoint, seeds.checkpoint(), 1),
    ],
    ids=["idx", "zip", "tar", "record", "history", "archive", "claims", "recipe", "weights", "checkpoint"],
)
def test_the_first_seeds_are_good_files_and_the_others_are_not(read, contents, good):
    """Without good ones among them, mutation would not get past a header."""
    assert [read(content) for content in contents] == [place < good for place in range(len(contents))]
