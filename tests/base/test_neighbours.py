"""A file that imports the modules beside it."""

import subprocess
import sys

import pytest

from dwfbench.base import plugins
from dwfbench.base.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    """nets/own.py imports a module, which imports another, and a package; all say what they are."""
    place = tmp_path / "nets"
    (place / "blocks").mkdir(parents=True)
    (place / "own.py").write_text(
        "import math\nimport json\nfrom near_layers import WIDTH\nimport blocks.inner\n"
        "def make():\n    import near_later\n    return WIDTH, blocks.inner.DEPTH, near_later.LATER, json.dumps(1)\n"
    )
    (place / "near_layers.py").write_text("import near_sizes\nWIDTH = near_sizes.WIDTH\n")
    (place / "near_sizes.py").write_text("import near_layers\nWIDTH = 7\n")  # a circle
    (place / "near_later.py").write_text("LATER = 'later'\n")
    (place / "blocks" / "__init__.py").write_text("from .other import DEPTH\n")
    (place / "blocks" / "inner.py").write_text("from blocks import DEPTH\n")
    (place / "blocks" / "other.py").write_text("DEPTH = 3\n")
    (place / "json.py").write_text("raise RuntimeError('Python has a json of its own')\n")
    (place / "alone.py").write_text("def make():\n    return 1\n")
    return place


def word(place, name="own.py"):
    return f"{place / name}:make"


def test_a_file_finds_its_neighbours_and_their_neighbours(folder):
    file = plugins.read("model", word(folder))
    names = ["blocks", "blocks.inner", "blocks.other", "near_later", "near_layers", "near_sizes"]
    assert [neighbour.name for neighbour in file.neighbours] == names
    assert plugins.take(file)() == (7, 3, "later", "1")


def test_the_checksum_covers_them(folder):
    before, alone = (plugins.read("model", word(folder, name)).digest for name in ("own.py", "alone.py"))
    (folder / "near_sizes.py").write_text("WIDTH = 8\n")
    changed = plugins.read("model", word(folder))
    assert changed.digest != before
    assert plugins.take(changed)()[0] == 8
    assert plugins.read("model", word(folder, "alone.py")).digest == alone


def test_two_files_may_have_neighbours_of_one_name(folder, tmp_path):
    other = tmp_path / "others"
    other.mkdir()
    (other / "own.py").write_text("import near_layers\ndef make():\n    return near_layers.WIDTH\n")
    (other / "near_layers.py").write_text("WIDTH = 9\n")
    first, second = (plugins.take(plugins.read("model", word(place))) for place in (folder, other))
    assert (first()[0], second()) == (7, 9)


def test_a_process_that_lacks_the_folder_runs_them_all_the_same(folder):
    """As a worker process gets the file."""
    import pickle

    content = pickle.dumps(plugins.read("model", word(folder)))
    for path in sorted(folder.rglob("*.py")):
        path.unlink()
    code = (
        "import pickle, sys; from dwfbench.base import plugins; "
        "print(plugins.take(pickle.loads(sys.stdin.buffer.read()))())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=False)
    assert done.stdout.decode().strip() == "(7, 3, 'later', '1')", done.stderr


def test_a_neighbour_that_fails_is_named(folder):
    (folder / "near_sizes.py").write_text("WIDTH = 1 / 0\n")
    with pytest.raises(UsageError, match=r"ZeroDivisionError.*near_sizes\.py") as caught:
        plugins.take(plugins.read("model", word(folder)))
    assert "\n" not in str(caught.value)
