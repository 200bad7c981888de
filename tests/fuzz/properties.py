"""What must hold for whatever bytes a reader is given: it works, or it ends in one sentence.

A property takes the content of a file and returns whether it could be read. A reader may raise UsageError (of which
DataError is one) with one line that can be printed; every other exception is a finding. These functions are shared by
the tests of this package, which generate their input with Hypothesis, and by ``coverage_guided.py``.
"""

import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import msgspec
from msgspec.structs import replace

from dwfbench.analysis import cautions, dynamics, latency, statistics
from dwfbench.analysis.frames import mean_layers
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.cli.tables import curve_table
from dwfbench.data.readers import decoding, idx, image_folder, tiny_imagenet, tree
from dwfbench.data.readers.base import DataError
from dwfbench.deploy.sparsefile import load_sparse
from dwfbench.experiments import plan, tune, verify
from dwfbench.experiments import stored as restore
from dwfbench.runs import decode, packing, resultsets, spec
from dwfbench.runs.record import Record
from dwfbench.runs.selection import counted_at
from dwfbench.runs.store import Store
from dwfbench.show import speed, tables, verdicts
from dwfbench.show.report import grids, provenance
from dwfbench.training.checkpoint import Checkpoints, Folder, Identity
from tests.fuzz import seeds
from tests.fuzz.seeds import ID

MOST_BYTES = 1 << 20


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder, which lies in one of its own so that a file beside it is seen: nothing else may appear there."""
    with tempfile.TemporaryDirectory(prefix="dwfbench-fuzz-") as outer:
        inner = Path(outer) / "inner"
        inner.mkdir()
        yield inner
        assert [path.name for path in Path(outer).iterdir()] == ["inner"], "something was written outside"


def sentence(text: str) -> None:
    """One line that a terminal can show as it is."""
    assert text, "an error without a message"
    assert text.isprintable(), repr(text)


def refusable(kind: type[UsageError] = UsageError) -> Callable:
    """The property that ends well, or in an exception of this kind with a sentence."""

    def changed(read: Callable) -> Callable:
        @functools.wraps(read)
        def wrapper(*args, **kwargs) -> bool:
            try:
                read(*args, **kwargs)
            except kind as error:
                sentence(str(error))
                return False
            return True

        return wrapper

    return changed


# ---------------------------------------------------------------- data sets


@refusable(DataError)
def idx_file(content: bytes, ndim: int = 3) -> None:
    with folder() as place:
        path = place / "images"
        path.write_bytes(content)
        values = idx.read_idx(path, ndim)
        assert values.ndim == ndim
        assert 0 < values.nbytes <= idx.MAX_IDX_BYTES


@refusable(DataError)
def image_zip(
    content: bytes, side: int | None = None, listing: Callable = image_folder.listing, name: str = "own.zip"
) -> None:
    """An image folder in an archive, and nothing of it on the disk."""
    with folder() as place:
        path = place / name
        path.write_bytes(content)
        try:
            with tree.open_tree(path) as files:
                read_images(files, listing, side)
        finally:
            assert [found.name for found in place.rglob("*")] == [name], "something was extracted"


image_tar = functools.partial(image_zip, name="own.tar")
tiny_imagenet_zip = functools.partial(image_zip, listing=tiny_imagenet.listing)


def read_images(files: tree.Tree, listing: Callable, side: int | None) -> None:
    """All images of a folder or archive, in this process alone."""
    found = listing(files)
    sentence(found.identity)
    names = [name for name, _ in (*found.train, *found.test)]
    with mock.patch.object(decoding, "_processes", return_value=1):
        images = decoding.decode(files, names, side)
    assert images.shape[0] == len(names)
    assert all(0 <= label < found.classes for _, label in (*found.train, *found.test))


# ---------------------------------------------------------------- recipes


@functools.cache
def digits():
    from dwfbench.data import dataset

    return dataset.load("digits")


def recipe(content: bytes) -> bool:
    """A recipe, and the curves that it means on the digits; no text of it runs code or starts a training."""

    @refusable()
    def read() -> None:
        layer = spec.read_toml(path)
        layer.pop("title", None)
        for request in plan.requests([layer], {}):
            curve = plan.curve(request, digits())
            assert curve.specs
            tune.grid(tune.short(request), tune.Budget())

    with folder() as place:
        path = place / "recipe.toml"
        path.write_bytes(content)
        return read()


# ---------------------------------------------------------------- records, studies, measurements


def results(place: Path, run: bytes, history: str = seeds.HISTORY, sizes: str = seeds.SIZES) -> Path:
    """A results folder with ``run`` as the record of ID, beside two other runs and a dense one, all good."""
    written = {f"runs/{ID}/run.json": run, f"runs/{ID}/history.csv": history, f"runs/{ID}/weights.csv": sizes}
    for number in range(3):
        one = seeds.run_record(f"{number}" * 12, compression=5.0 + number)
        one["spec"] |= {"seed": number, "strength": 0.01}
        if number == 2:
            one |= {"label": "dense", "knob": None, "compression": 1.0}
            one["spec"] |= {"method": "dense", "options": {}, "strength": None}
        written[f"runs/{one['id']}/run.json"] = json.dumps(one)
        written[f"runs/{one['id']}/history.csv"] = seeds.HISTORY
    for name, content in written.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return place


def record(content: bytes, **tables: str) -> bool:
    """Any content as a record, a study and a measurement, through every function that the reading commands call.

    True where it was a readable record; if not, the store must name it, as a record of a run that is there.
    """
    with folder() as place:
        results(place, content, **tables)
        store = Store(place)
        records = store.load(history=True, weights=True)
        for said in store.damaged:
            sentence(said)
        found = {one.id for one in records}
        assert found >= {"0" * 12, "1" * 12, "2" * 12}, "a good record was lost"
        assert (ID in found) != bool(store.damaged)
        if ID in found:  # the others alone are those of every other test
            read_records(records)
        refusable()(restore.find)(place, ID)
        refusable()(Store(place).status)(ID)
        read_beside(place, content, records)
        names = {"run.json", "history.csv", "weights.csv", "measure.json", f"{ID}.json"}
        assert {path.name for path in place.rglob("*") if path.is_file()} <= names
    return ID in found


def archive(content: bytes) -> bool:
    """Any bytes as an archive of records, read, packed again and unpacked by the commands' functions."""

    @refusable()
    def read() -> None:
        source = resultsets.Source(path)
        records, damaged = resultsets.load([source], history=True, weights=True, measurement=True)
        studies, damaged_too = resultsets.studies([source])
        for said in (*damaged, *damaged_too):
            sentence(said)
        results = ResultSet(records, studies)
        frame = results.runs
        tables.compare(results, tables.Question(at=(2, 10), reading="both"))
        assert set(results.latency["id"]) <= set(frame["id"])
        assert set(frame["id"]) <= {record.id for record in records}
        for study in studies:
            grids.study(study)
        refusable()(read_claims)(source, records)
        if records or studies:
            packing.pack([source], place / "again.zip")
        packing.unpack(source, place / "folder")
        stores = [Store(place / "folder"), *map(Store, (place / "folder").glob("sets/*"))]
        unpacked = {record.id for store in stores for record in store.load()}
        assert unpacked == {record.id.partition("@")[0] for record in records}

    with folder() as place:
        path = place / "set.zip"
        path.write_bytes(content)
        return read()


def read_claims(source: resultsets.Source, records: list[Record]) -> None:
    """What claims makes of the claims of a set and of its records."""
    verdict = ResultSet(records, claimed=resultsets.claims([source])).claims()
    for line in (*verdicts.notes(verdict), *tables.render(verdict, "table", verdicts.cells).splitlines()):
        sentence(line)
    for kind in tables.FORMATS:
        tables.render(verdict, kind, verdicts.cells).encode()


def read_records(records: list[Record]) -> None:
    """What compare, plot, report, verify and the message of a run without weights make of records."""
    frame = ResultSet(records).runs
    lines = [
        *cautions.warnings(frame, ResultSet(records).failures),
        tables.compare_caption(tables.Question(reading="both")),
    ]
    compared = tables.compare(ResultSet(records), tables.Question(at=(2, 10), reading="both"))
    for kind in tables.FORMATS:
        lines += tables.render(compared, kind).splitlines()
    lines += cautions.of_neighbours(tables.made_of(compared)) + cautions.chances(tables.made_of(compared, "Area"))
    for label in sorted(set(frame.loc[frame["method"] != "dense", "label"]))[:1]:
        found = statistics.differences(frame, label)
        if not found.empty:
            lines += tables.render(tables.versus(found), "table").splitlines()
            lines += [*cautions.pair_warnings(frame, found, label), tables.versus_caption(label)]
            lines += cautions.of_neighbours(tables.made_of(tables.versus(found), versus=label))
    lines += curve_table(records).splitlines()
    for line in lines:
        line.encode()
    refusable()(counted_at)(records, 1e-3)
    mean_layers(ResultSet(records).layers)
    read_histories(records)
    assert verify.sample(records, 4, 0)
    for one in (one for one in records if one.id == ID):
        if one in verify.sample(records, 4, 0):
            verify.allowed(one, records)
        refusable()(restore.command)(one, Path("results"))


def read_histories(records: list[Record]) -> None:
    """What the plots of dynamics and weights draw."""
    results = ResultSet(records)
    dynamics.mean_histories(dynamics.smoothed(results.history)[0])
    assert set(results.phases["label"]) | set(results.weights()["label"]) <= set(results.runs["label"])


def read_beside(place: Path, content: bytes, records: list[Record]) -> None:
    """The same content as the study that `tune` wrote and as what `measure` wrote."""
    study = place / "tuning" / "studies" / f"{ID}.json"
    study.parent.mkdir(parents=True)
    study.write_bytes(content)
    (place / "runs" / ID / "measure.json").write_bytes(content)
    store, trials = Store(place), Store(place / "tuning")
    found = trials.studies()
    assert len(found) + len(trials.damaged) == 1
    reader = Store(place / "tuning")
    one = reader.study(ID)
    assert (one is None) == bool(reader.damaged)
    for _, known in found:
        grids.study(known)
        provenance.commands([(known.provenance, "")])
    if one is not None:
        assert one.winner.values is not None
    measured = store._measurement(place / "runs" / ID)
    measurement = None if measured is None else decode.measurement_of(measured)
    assert len(found) + (measurement is not None) + len(store.damaged) + len(trials.damaged) == 2
    for said in store.damaged:
        sentence(said)
    frame = ResultSet([replace(run, measurement=measurement if run.id == ID else None) for run in records]).latency
    latency.places(frame)
    if not frame.empty:
        tables.render(speed.table(frame), "table", speed.cells)


# ---------------------------------------------------------------- weights


@refusable()
def sparse_file(content: bytes) -> None:
    """A sparse file, whose tensors may take a thousand times as much as it, and no more than was allowed."""
    with folder() as place:
        path = place / "sparse.safetensors"
        path.write_bytes(content)
        state = load_sparse(path, max_bytes=MOST_BYTES)
        assert sum(value.nbytes for value in state.values()) <= MOST_BYTES


def network_file(content: bytes) -> bool:
    """The weights of a stored run, loaded into its network."""
    with folder() as place:
        results(place, json.dumps(seeds.run_record()).encode())
        (place / "runs" / ID / "model.safetensors").write_bytes(content)
        stored = restore.find(place, ID)
        return refusable()(restore.network_of)(stored, digits())


def checkpoint(content: bytes) -> bool:
    """Any bytes as unfinished training: it is that of the seeds, or a sentence says that it is not."""
    said: list[str] = []
    with folder() as place:
        (place / "key.safetensors").write_bytes(content)
        expected = msgspec.convert(seeds.CHECKPOINT["identity"], Identity)
        found = Checkpoints(Folder(place), 10, said.append).load("key", expected)
        Folder(place).sweep({"b"})
        assert [path.name for path in place.iterdir()] == ["key.safetensors"]
    assert (found is None) == (len(said) == 1)
    for text in said:
        sentence(text)
    return found is not None


# ---------------------------------------------------------------- what lies beside records


@refusable()
def claims_toml(content: bytes) -> None:
    """Claims of any origin."""
    with folder() as place:
        (place / "claims.toml").write_bytes(content)
        resultsets.claims([resultsets.Source(place)])


def history(content: bytes) -> bool:
    """Any bytes as the history of a good record: it is read, or named and left out."""
    with folder() as place:
        results(place, json.dumps(seeds.run_record()).encode())
        (place / "runs" / ID / "history.csv").write_bytes(content)
        store = Store(place)
        records = store.load(history=True, weights=True)
        assert len(records) == 4
        for said in store.damaged:
            sentence(said)
        read_histories(records)
    return not store.damaged and bool(content)
