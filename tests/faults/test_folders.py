"""Results folders as they come: from three machines, of other versions, of 10,000 runs, with odd names."""

import csv
import io
import json
import os
import re
import resource
import shutil
import subprocess

import pytest

from dwfbench.runs import spec
from tests.faults.commands import SMALL, dwfbench, renamed, results, stored, trained_by

READERS = (("compare",), ("plot",), ("plot", "layers"), ("plot", "dynamics"), ("report",))


def write(folder, record, like):
    """A run with this record, and the other files of another run."""
    shutil.copytree(like, folder / "runs" / record["id"])
    (folder / "runs" / record["id"] / "run.json").write_text(json.dumps(record))


# ---------------------------------------------------------------- three machines


@pytest.mark.faults
def test_folders_of_three_machines_copied_together_are_one(tmp_path):
    sweep = ("run", "--method", "dwf,dense", "--depth", "2", "--strength", "0.01,0.03", "--epochs", "4", *SMALL)
    whole, merged = tmp_path / "whole", tmp_path / "merged"
    assert dwfbench(*sweep, "--seed", "0,1,2,3", "--lanes", "1", "--results", whole).code == 0
    machines = {
        "first": {"device_name": "CPU of the first", "git_commit": "a" * 40},
        "second": {"device_name": "CPU of the second", "git_commit": "b" * 40},
        "third": {"device_name": "CPU of the third", "git_dirty": True},
    }
    merged.mkdir()
    for number, (name, provenance) in enumerate(machines.items()):
        folder, seeds = tmp_path / name, f"{number},{number + 1}"  # neighbours have a seed in common
        assert dwfbench(*sweep, "--seed", seeds, "--lanes", "1", "--results", folder).code == 0
        for path in folder.glob("runs/*/run.json"):
            record = json.loads(path.read_text())
            versions = {**record["provenance"]["versions"], "torch": f"2.{number}.0"}
            path.write_text(json.dumps(trained_by(record, **provenance, versions=versions)))
    # The third was killed, in the middle of a checkpoint and in the middle of a record.
    (tmp_path / "third" / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "third" / "checkpoints" / ".0123456789ab.safetensors.7.tmp").write_bytes(b"half")
    half = tmp_path / "third" / "runs" / "0123456789ab"
    half.mkdir()
    (half / "history.csv").write_text("epoch\n")
    (half / ".run.json.7.tmp").write_text('{"id": ')
    for name in machines:
        subprocess.run(["cp", "-r", f"{tmp_path / name}/.", merged], check=True)
    assert results(merged) == results(whole)
    assert len(results(merged)) == 12
    tables = [dwfbench("compare", "--results", folder, "--format", "csv") for folder in (whole, merged)]
    assert tables[0].code == tables[1].code == 0
    seconds = re.compile(r"[^,\n]*$", re.MULTILINE)  # the last column
    assert seconds.sub("", tables[0].stdout) == seconds.sub("", tables[1].stdout)
    assert "different devices" in tables[1].stderr
    for words in READERS:
        done = dwfbench(*words, "--results", merged)
        assert done.code == 0, done.stderr
    page = (merged / "report.html").read_text(encoding="utf-8")
    for name in machines:
        assert f"CPU of the {name}" in page
    for number in range(3):
        assert f"2.{number}.0 (" in page
    before = stored(merged)
    done = dwfbench(*sweep, "--seed", "0,1,2,3", "--lanes", "1", "--results", merged)
    assert done.code == 0
    assert "8 of 8 runs are stored already" in done.stderr
    assert stored(merged) == before


# ---------------------------------------------------------------- other versions


@pytest.mark.faults
@pytest.mark.parametrize("schema", [0, spec.SCHEMA + 1, None])
def test_records_of_another_schema_are_named_left_out_and_never_replaced(tmp_path, schema):
    run = ("run", "--method", "magnitude,dense", "--compression", "2,4", "--epochs", "3", *SMALL, "--results", tmp_path)
    assert dwfbench(*run).code == 0
    paths = sorted(tmp_path.glob("runs/*/run.json"))
    chosen = next(path for path in paths if json.loads(path.read_text())["spec"]["compression"] == 4)
    record = json.loads(chosen.read_text())
    if schema is None:
        del record["schema"]
    else:
        record["schema"] = schema
    chosen.write_text(json.dumps(record))
    before = stored(tmp_path)
    for words in READERS:
        done = dwfbench(*words, "--results", tmp_path)
        assert done.code == 0
        (sentence,) = [line for line in done.stderr.splitlines() if str(chosen) in line]
        assert "schema" in sentence
        assert f"reads schema {spec.SCHEMA}" in sentence
    for more in ((), ("--force",)):
        again = dwfbench(*run, *more)
        assert again.code == 2
        assert str(chosen) in again.stderr
        assert "schema" in again.stderr
    assert before.items() <= stored(tmp_path).items()


@pytest.mark.faults
def test_records_without_what_was_added_later_are_read(tmp_path):
    run = ("run", "--method", "magnitude,dense", "--compression", "2,4", "--epochs", "3", *SMALL, "--results", tmp_path)
    assert dwfbench(*run).code == 0
    for path in tmp_path.glob("runs/*/run.json"):
        record = json.loads(path.read_text())
        kept = {name: value for name, value in record.items() if name in ESSENTIAL}
        path.write_text(json.dumps(kept))
        (path.parent / "weights.csv").unlink()
        (path.parent / "history.csv").unlink()
    for words in (("compare",), ("plot",), ("report",)):
        done = dwfbench(*words, "--results", tmp_path)
        assert done.code == 0, done.stderr
    assert "2 of 2 runs are stored already" in dwfbench(*run).stderr


ESSENTIAL = ("schema", "id", "status", "spec", "label", "knob", "seconds", "compression", "test_accuracy")
ESSENTIAL += ("layers", "thresholds", "provenance")


# ---------------------------------------------------------------- many


@pytest.mark.faults
def test_ten_thousand_records_are_compared_drawn_reported_and_resumed(tmp_path):
    strengths = [float(f"{1e-4 * 1.05**number:.3g}") for number in range(100)]
    sweep = ("--method", "dwf", "--depth", "2", "--epochs", "2", *SMALL, "--lanes", "1")
    one = ("run", *sweep, "--strength", strengths[0], "--results", tmp_path / "one")
    assert dwfbench(*one).code == 0
    (like,) = (tmp_path / "one" / "runs").iterdir()
    record = json.loads((like / "run.json").read_text())
    folder = tmp_path / "results"
    for seed in range(100):
        for number, strength in enumerate(strengths):
            made = renamed(record, seed=seed, strength=strength)
            made["compression"] = 1.1**number + seed / 1000
            made["test_accuracy"] = 0.95 - number / 1000 + seed / 10_000
            write(folder, made, like)
    missing = folder / "runs" / renamed(record, seed=7, strength=strengths[7])["id"]
    shutil.rmtree(missing)
    assert len(list((folder / "runs").iterdir())) == 9_999
    for words in READERS:
        done = dwfbench(*words, "--results", folder)
        assert done.code == 0, done.stderr
    listed = ",".join(map(str, strengths))
    done = dwfbench("run", *sweep, "--strength", listed, "--seeds", "100", "--results", folder)
    assert done.code == 0, done.stderr
    assert "9999 of 10000 runs are stored already" in done.stderr
    assert missing.is_dir()
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"no command needed more than {most:.1f} GB")
    assert most < 3


# ---------------------------------------------------------------- names

ODD = 'résultats de l\'été "2026" $HOME & 実験 * ;#'


@pytest.mark.faults
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_names_with_spaces_quotes_and_letters_of_all_alphabets_work_everywhere(tmp_path, locale):
    from PIL import Image

    place = tmp_path / f"{ODD} place"
    images, folder = place / f"{ODD} images", place / f"{ODD} results"
    for part, count in (("train", 60), ("test", 20)):
        for shade, label in enumerate(("l'été", 'a "b" c', "実験 <b>&amp;")):
            (images / part / label).mkdir(parents=True)
            for number in range(count):
                picture = Image.effect_noise((8, 8), 30).point(lambda value, shade=shade: value // 2 + 60 * shade)
                picture.save(images / part / label / f"image '{number}' é.png")
    (place / f"{ODD} method.py").write_text(METHOD, encoding="utf-8")
    (place / f"{ODD} model.py").write_text(MODEL, encoding="utf-8")
    title = "Erprobung «実験» 'x'"
    (place / f"{ODD} config.toml").write_text(f'title = "{title}"\nepochs = 3\nstrength = [0.01, 0.02]\n', "utf-8")
    language = {"LC_ALL": locale, "LANG": locale}
    methods = f"{place / f'{ODD} method.py'}:Penalty,dense"
    own = ("--dataset", images, "--model", f"{place / f'{ODD} model.py'}:net")
    config = ("--config", place / f"{ODD} config.toml", "--method", methods, "--save-model")
    train = ("run", *own, *config, *SMALL, "--batch-size", "32", "--results", folder)
    done = dwfbench(*train, env=language)
    assert done.code == 0, done.stderr
    before = stored(folder)
    done = dwfbench(*train, env=language)
    assert done.code == 0
    assert "2 of 2 runs are stored already" in done.stderr
    assert stored(folder) == before
    for words in (*READERS, ("compare", "--format", "latex"), ("compare", "--format", "json")):
        done = dwfbench(*words, "--results", folder, env=language)
        assert done.code == 0, done.stderr
    table = dwfbench("compare", "--results", folder, "--format", "csv", env=language)
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    assert len(rows) == 2
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<b>&amp;" not in page.replace("<b>&amp;amp;", "")
    assert "実験" in page
    figure = place / f"{ODD} figure.svg"
    done = dwfbench("plot", "--results", folder, "-o", figure, env=language)
    assert (done.code, done.stdout.strip()) == (0, str(figure))
    run = next(path.parent.name for path in folder.glob("runs/*/run.json"))
    target = place / f"{ODD} exported"
    forms = ("--forms", "dense,sparse,compact")
    done = dwfbench("export", run, "--to", target, *forms, "--results", folder, *own, env=language)
    assert done.code == 0, done.stderr
    assert (target / "manifest.json").is_file()
    done = dwfbench("measure", run, "--batch", "1", "--rounds", "1", "--results", folder, *own, env=language)
    assert done.code == 0, done.stderr
    assert {path.name for path in place.iterdir()} == {
        *(f"{ODD} {name}" for name in ("images", "results", "method.py", "model.py", "config.toml", "figure.svg")),
        f"{ODD} exported",
    }


METHOD = '''
from dataclasses import dataclass
from typing import ClassVar

from dwfbench.method import Method


@dataclass(frozen=True)
class Penalty(Method):
    """L1: 実験."""

    name: ClassVar[str] = "penalty"
    knob: ClassVar[str] = "strength"
    summary: ClassVar[str] = "l'été \\"2026\\""
    source: ClassVar[str] = "ein Prüffall"
    decays: ClassVar[bool] = False

    def penalty(self, trainable):
        return sum(weight.abs().sum() for weight in trainable.values())

    def sparsify(self, weights, compression):
        return {name: weight * (weight.abs() >= 1e-2) for name, weight in weights.items()}
'''
MODEL = """
from torch import nn


def net(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))
"""


@pytest.mark.faults
def test_a_folder_whose_name_is_no_text_at_all_works(tmp_path):
    folder = tmp_path / os.fsdecode(b"r\xe9sultats")
    run = ("run", "--method", "dwf,dense", "--depth", "2", "--strength", "0.01", "--epochs", "2", *SMALL)
    done = dwfbench(*run, "--results", folder, encoding="utf-8", errors="surrogateescape")
    assert done.code == 0, done.stderr
    for words in READERS:
        done = dwfbench(*words, "--results", folder, encoding="utf-8", errors="surrogateescape")
        assert done.code == 0, done.stderr
