"""A trained network and its data out of a stored run that kept its weights (``dwfbench run --save-model``)."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from dwfbench import models
from dwfbench.base import files, memory
from dwfbench.base.errors import UsageError
from dwfbench.base.text import first_few
from dwfbench.data import dataset as data
from dwfbench.data.dataset import Dataset
from dwfbench.experiments.verify import spec_of
from dwfbench.runs import repeat
from dwfbench.runs.record import Record
from dwfbench.runs.selection import whole_id
from dwfbench.runs.spec import DATA_KEYS
from dwfbench.runs.store import NETWORK, Store, checksum
from dwfbench.training.checkpoint import MOST


@dataclass(frozen=True)
class Stored:
    """A finished run on disk: its folder and its record."""

    folder: Path
    record: Record

    @property
    def id(self) -> str:
        return self.record.id


def find(results: Path, run: str) -> Stored:
    """The finished run with weights that ``run`` means: a run's folder, its id, or as much of the id as is unique.

    Raises UsageError when there is none, more than one, or one that failed or kept no weights; for these the sentence
    has the command that trains it again.
    """
    folder = Path(run)
    if os.path.isfile(folder / "run.json"):
        folder = folder.resolve()
    elif os.path.isfile(results):
        raise UsageError(
            f"{results} is a file; the networks of runs lie in results folders, and archives hold their records only."
        )
    else:
        run_ids = [path.parent.name for path in (results / "runs").glob("*/run.json")]
        run_id = run.partition("@")[0]  # what follows tells runs of several sets apart
        folder = results / "runs" / whole_id(run_id, run_ids, results, "finished run")
    store = Store(folder.parent.parent)
    record = store.read(folder.name)
    if record is None or not (folder / "run.json").is_file():
        raise UsageError(" ".join(store.damaged) or f"{folder} is not the folder RESULTS/runs/ID of a run.")
    if record.status != "ok":
        raise UsageError(f"The run {record.id} did not end well ({record.status}), so it has no network.")
    if not (folder / NETWORK).is_file():
        retraining = command(record, folder.parent.parent)
        raise UsageError(f"The run {record.id} kept no weights; this trains it again and keeps them: {retraining}")
    return Stored(folder, record)


def command(record: Record, results: Path) -> str:
    """The command that trains a run again and keeps its weights.

    Raises UsageError where this version would not train the same run, as far as its method is here.
    """
    if "@" not in record.spec.method:  # of a file, which is not known
        spec_of(record)
    return repeat.command(record, "--results", str(results), "--force", "--save-model")


def dataset_of(run: Stored, name: str | None, data_dir: Path | None) -> Dataset:
    """The data set of a run, on the CPU; ``name`` is the path of one's own images, which a record does not know.

    Raises UsageError when it is not the one the run was trained on.
    """
    spec = run.record.spec
    title = spec.dataset
    if "@" in title and name is None:
        raise UsageError(f"The run {run.id} is of own images, {title}; give their folder or archive as --dataset.")
    keys = {key: getattr(spec, key) for key in DATA_KEYS}
    dataset = data.load(name or title, data_dir=data_dir, **keys)
    if dataset.checksum != run.record.provenance.data_checksum:
        raise UsageError(f"The data set {dataset.name} is not the one of the run {run.id}: their checksums differ.")
    return dataset


def inputs_of(dataset: Dataset) -> Tensor:
    """The test images as a network takes them. Raises UsageError for more than there is memory for."""
    images = dataset.test.images
    if why := memory.lacking(8 * images.numel()):  # float32, and once more while they are computed
        raise UsageError(f"The {len(images):,} test images of {dataset.name} need {why}.")
    return dataset.normalize(images)


def facts_of(record: Record, dataset: Dataset) -> dict[str, Any]:
    """What an export says of the run that it is of, and of the images that its network takes."""
    facts = {
        "run": record.id,
        **{key: getattr(record.spec, key) for key in ("dataset", "model", "init", "method")},
        "label": record.label,
        "compression": record.compression,
    }
    if dataset.of_images:
        facts["normalization"] = {"mean": dataset.mean.tolist(), "std": dataset.std.tolist()}
    return facts


def network_of(run: Stored, dataset: Dataset, model: str | None = None) -> nn.Module:
    """The network of a run with its stored weights, on the CPU, in eval mode.

    ``model`` names a network of one's own, file.py:callable or pkg.module:callable, which a record cannot do. Raises
    UsageError for another network than the run's, and for weights that cannot be read or do not fit it.
    """
    spec, path = run.record.spec, run.folder / NETWORK
    try:
        models.check_named(spec.model, model)
    except UsageError as error:
        raise UsageError(f"The run {run.id} cannot be restored: {error}.") from None
    network = models.build_for(spec, dataset)
    try:
        content = files.content(path, MOST)
        if run.record.provenance.weights_checksum not in (None, checksum(content)):
            raise UsageError(
                f"The weights in {path} are not those that the record is of (their checksums differ); this trains the "
                f"run again and keeps both: {command(run.record, run.folder.parent.parent)}"
            )
        state = load(content)
        # Not strict: a network may register buffers as not persistent.
        missing, unknown = network.load_state_dict(state, strict=False)
    except UsageError:
        raise
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise UsageError(f"The weights in {path} cannot be loaded into {spec.model} ({error}).") from None
    if absent := [name for name in missing if name in dict(network.named_parameters())] + unknown:
        raise UsageError(f"The weights in {path} are not those of {spec.model}: {first_few(absent)} differ.")
    return network.eval()
