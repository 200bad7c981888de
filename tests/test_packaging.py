"""The distribution: what is in wheel and sdist, what they depend on, and that a wheel works without the source tree."""

import ast
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("dwfbench", "baselines")


def sources() -> set[str]:
    """Every file of the packages, by its path in the tree."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


def built(*words) -> None:
    """``python -m build`` without a network: with the packages that are installed."""
    command = [sys.executable, "-m", "build", "--no-isolation", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The wheel and the sdist of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    built("--wheel", "--sdist", "--outdir", folder, ROOT)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def content(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel, without the list of their checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith(".dist-info/RECORD")}


def test_the_wheel_holds_the_packages_and_nothing_else(distributions):
    wheel, _ = distributions
    names = {name for name in content(wheel) if ".dist-info/" not in name}
    assert names == sources()
    assert {"dwfbench/py.typed", "baselines/py.typed"} <= names
    assert any(name.endswith(".toml") for name in names)
    assert any(name.startswith("dwfbench/show/report/templates/") for name in names)


def test_the_sdist_makes_the_same_wheel(distributions, tmp_path):
    wheel, sdist = distributions
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    assert (tree / "tests" / "test_packaging.py").is_file()
    assert (tree / "constraints" / "oldest.txt").is_file()
    built("--wheel", "--outdir", tmp_path, tree)
    assert content(next(tmp_path.glob("*.whl"))) == content(wheel)


def test_a_wheel_works_without_the_source_tree(distributions, tmp_path):
    """The console script's own function, from an installation that comes before all others, in another folder."""
    wheel, _ = distributions
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")

    def said(code: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    file = said("import baselines, dwfbench; print(baselines.__file__, dwfbench.__file__)")
    assert all(Path(one).is_relative_to(tmp_path / "site") for one in file.split())
    methods = said(
        "import sys; from dwfbench.cli import app; "
        "sys.argv = ['dwfbench', 'list', 'methods', '--format', 'json']; app.main()"
    )
    names = {row["name"] for row in json.loads(methods)}
    assert names == set(PROJECT["entry-points"]["dwfbench.methods"])


# ---------------------------------------------------------------- what it depends on


def requirements() -> list[Requirement]:
    """Of the package and its extras, without those that name the package itself."""
    extras = PROJECT["optional-dependencies"].values()
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]
    return [one for one in map(Requirement, texts) if one.name != PROJECT["name"]]


TOOLS = {Requirement(text).name for text in PROJECT["optional-dependencies"]["check"]}
"""They look at the code only, in their newest versions."""


def lowest(one: Requirement) -> str:
    """The version from which on a requirement is met."""
    return next(bound.version for bound in one.specifier if bound.operator == ">=")


@pytest.mark.parametrize("one", requirements(), ids=lambda one: one.name)
def test_every_requirement_is_bounded_and_installed_within(one):
    assert sorted(bound.operator for bound in one.specifier) == ["<", ">="]
    if one.name not in TOOLS or list(metadata.distributions(name=one.name)):  # `make test-oldest` does without these
        assert one.specifier.contains(metadata.version(one.name))


def test_the_oldest_versions_are_those_that_the_ranges_begin_with():
    """constraints/oldest.txt, which `make test-oldest` installs, pins each range's lower end."""
    lines = (ROOT / "constraints" / "oldest.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in pins}
    asked = {canonicalize_name(one.name): Version(lowest(one)) for one in requirements() if one.name not in TOOLS}
    assert pinned == asked


def test_everything_imported_is_asked_for():
    """By the packages, at any place in them; extras count, because commands that need them say so."""
    own = {*PACKAGES, *sys.stdlib_module_names}
    found = set()
    for path in (ROOT / name for name in sources() if name.endswith(".py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    shipped = metadata.packages_distributions()
    asked = {canonicalize_name(one.name) for one in requirements()}
    unasked = {name for name in found - own if not asked & set(map(canonicalize_name, shipped.get(name, ())))}
    assert unasked == set()


def test_the_python_versions_are_those_of_the_classifiers():
    named = [text.rpartition(" :: ")[2] for text in PROJECT["classifiers"] if "Python :: 3." in text]
    assert named == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_the_citation_is_whole_and_of_this_version():
    """What CFF 1.2.0 demands of a file and of the entries that ours has, and that it is about this package."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert all(isinstance(cited[name], str) and cited[name] for name in ("message", "title"))
    assert (str(cited["version"]), cited["license"]) == (PROJECT["version"], PROJECT["license"])
    assert cited["type"] in ("software", "dataset")
    (paper,) = cited["references"]
    assert paper["type"] == "conference-paper"
    assert {"title", "authors"} <= paper.keys()
    for author in (*cited["authors"], *paper["authors"]):
        assert author.keys() in ({"name"}, {"family-names", "given-names"})
        assert all(isinstance(value, str) for value in author.values())
    known = {"type", "title", "authors", "year", "collection-title", "url", "identifiers"}
    assert paper.keys() <= known
    assert all(entry["type"] in ("doi", "url", "swh", "other") and entry["value"] for entry in paper["identifiers"])
