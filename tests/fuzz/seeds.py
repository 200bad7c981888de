"""Valid files of every kind, from which the mutated ones are made."""

import gzip
import hashlib
import io
import json
import lzma
import struct
import tarfile
import zipfile

ID = "0123456789ab"


def idx_bytes(*shape: int, kind: int = 8, values: bytes | None = None) -> bytes:
    """An IDX file of this shape, whether or not its values are as many."""
    count = 1
    for size in shape:
        count *= size
    header = bytes([0, 0, kind, len(shape)]) + b"".join(struct.pack(">I", size) for size in shape)
    return header + (bytes(index % 251 for index in range(count)) if values is None else values)


def idx() -> list[bytes]:
    whole = idx_bytes(2, 3, 4)
    return [whole, gzip.compress(whole, mtime=0), idx_bytes(5), b""]


def png(value: int = 0, size: tuple[int, int] = (4, 4), mode: str = "L", kind: str = "PNG") -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new(mode, size, value).save(file, kind)
    return file.getvalue()


def zipped(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A .zip with these entries, whatever their names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def pets(test: str = "test", top: str = "") -> list[tuple[str, bytes]]:
    """Two classes of two images each, for training and for the test."""
    return [
        (f"{top}{part}/{name}/{number}.png", png(10 * number))
        for part in ("train", test)
        for name in ("cat", "dog")
        for number in range(2)
    ]


def zip() -> list[bytes]:
    return [zipped(pets()), zipped(pets("val", "my pets/"), zipfile.ZIP_DEFLATED), zipped([])]


def tar_entry(name: str, content: bytes, kind: bytes = tarfile.REGTYPE, size: int | None = None) -> bytes:
    """An entry of a .tar with a right checksum, whatever else it claims, and its content in full blocks."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, "/etc/passwd", len(content) if size is None else size
    header = info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")
    return header + content.ljust(-(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, b"\0")


def tarred(entries: list[tuple]) -> bytes:
    """A .tar with these entries, each of which is what `tar_entry` takes."""
    return b"".join(tar_entry(*entry) for entry in entries) + bytes(2 * tarfile.BLOCKSIZE)


def tar() -> list[bytes]:
    within = tarred(pets("val", "my pets/"))
    long = tarred([*pets(), (f"train/{'x' * 120}/0.png", png())])
    return [tarred(pets()), gzip.compress(within, mtime=0), lzma.compress(within), long, b""]


def tiny_imagenet_entries() -> list[tuple[str, bytes]]:
    images = [(f"train/n{number}/images/n{number}_0.JPEG", png(number)) for number in range(2)]
    labels = b"val_0.JPEG\tn1\t0\t0\t1\t1\n"
    return [*images, ("val/images/val_0.JPEG", png()), ("val/val_annotations.txt", labels)]


def run_record(run_id: str = ID, **more) -> dict:
    """A record as a finished run of dwf leaves it."""
    layers = [
        {"name": name, "shape": [rows, columns], "numel": rows * columns, "nnz": nnz}
        for name, rows, columns, nnz in (("fc1.weight", 300, 64, 1000), ("fc2.weight", 10, 300, 600))
    ]
    cuts = [{"threshold": cut, "nnz": 1600, "compression": 13.875, "test_accuracy": 0.9} for cut in (1.19e-7, 1e-3)]
    return {
        **{"schema": 1, "id": run_id, "label": "dwf D=3", "knob": "strength"},
        "spec": {
            **{"method": "dwf", "options": {"depth": 3, "min_abs": 0.003, "rescale_init": False, "group": "none"}},
            **{"model": "lenet-300-100", "dataset": "digits", "seed": 0, "strength": 0.001, "compression": None},
            **{"epochs": 2, "batch_size": 128, "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
            **{"warmup_epochs": 0.0, "lr_drops": None, "lr_drop_factor": 10.0, "clip_norm": 0.0},
            **{"precision": "float32", "augment": "none", "val_fraction": 0.1, "split_seed": 0, "image_size": None},
        },
        **{"status": "ok", "val_accuracy": 0.91, "compression": 13.875, "compression_all": 13.0, "nnz": 1600},
        **{"numel": 22200, "layers": layers, "connected": True, "effective_compression": 14.0, "macs_dense": 22200},
        **{"macs_sparse": 1600, "test_accuracy": 0.9, "test_loss": 0.4, "test_top5_accuracy": None},
        **{"dense_equivalent_accuracy": 0.9, "thresholds": cuts, "extra_passes": 0, "seconds": 1.5},
        **{"overhead_seconds": 0.1, "peak_memory_bytes": 10**8},
        "provenance": {
            "versions": {"python": "3.11.7", "torch": "2.6.0"},
            **{"git_commit": None, "git_dirty": None, "device": "cpu", "device_name": "a processor", "threads": 1},
            **{"argv": ["dwfbench", "run"], "data_checksum": "0123456789abcdef", "lanes": 1, "precision": "float32"},
            **{"compiled": False, "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:01:00+00:00"},
            "tuned": {"study": ID, "trials": 6, "objective": 0.9, "values": {"lr": 0.1}},
        },
        **more,
    }


HISTORY = """epoch,train_loss,val_accuracy,compression,misalignment,norm,lr,seconds
1,0.5,0.8,1,0.01,20,0.1,1
2,0.4,0.9,14,0.001,10,0.05,2
"""

SIZES = """epoch,zero,-7,-6.75,0
1,0,10,20,30
2,30,10,10,10
"""


def study(**more) -> dict:
    trials = [{"values": {"lr": rate}, "value": rate, "runs": [ID], "bad": 0} for rate in (0.1, 0.3)]
    return {
        **{"id": ID, "label": "dwf D=3", "method": "dwf", "model": "lenet-300-100", "dataset": "digits"},
        **{"objective": "mean validation accuracy", "range": [5.0, 300.0], "trials": trials, "best": 1},
        "budget": {"trials": 2, "seeds": [0], "rates": [0.03, 0.5], "range": [5.0, 300.0], "seed": 0},
        **{"provenance": {"argv": ["dwfbench", "tune"]}, **more},
    }


def measurement(**more) -> dict:
    forms = {
        form: {"test_accuracy": 0.9, "macs": 100, "bytes": 400, "bytes_zlib": 50}
        for form in ("dense", "sparse", "compact")
    }
    times = [
        {"batch": batch, "form": form, "median": 0.001, "iqr": 0.0001, "speedup": 1.5, "low": 1.4, "high": 1.6}
        for batch in (1, 32)
        for form in forms
    ]
    where = {"device_name": "a processor", "threads": 1, "load": 0.5}
    return {"schema": 1, "forms": forms, "latency": times, **where, **more}


def record() -> list[bytes]:
    failed = {"status": "failed", "error": "out of memory"}
    return [json.dumps(content).encode() for content in (run_record(), run_record(**failed), study(), measurement())]


def archived(members: dict[str, bytes]) -> bytes:
    """An archive of records with these members, and a manifest that fits them."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    manifest = json.dumps({"format": "dwfbench results", "version": 1, "runs": 1, "sha256": sums}).encode()
    return zipped([*members.items(), ("manifest.json", manifest)], zipfile.ZIP_DEFLATED)


def archive_members() -> dict[str, bytes]:
    """A run with all that an archive can hold of it, a study and a claim about it."""
    lines = {"records": run_record(), "measurements": {**measurement(), "id": ID}, "studies": {**study(), "id": ID}}
    members = {f"{name}.jsonl": json.dumps(content).encode() + b"\n" for name, content in lines.items()}
    for name, table in (("history.csv", HISTORY), ("weights.csv", SIZES)):
        head, *rows = table.splitlines()
        members[name] = "\n".join([f"id,{head}", *(f"{ID},{row}" for row in rows), ""]).encode()
    return members | {"claims.toml": CLAIM.encode()}


CLAIM = """[[claim]]
name = "deeper"
sentence = "Deeper is better."
source = "somebody"
first = { method = "dwf", depth = 3 }
second = { method = "dwf" }
quantity = "accuracy"
at = [2, 10]
expected = "above"
smallest = 0.5
"""


def archive() -> list[bytes]:
    return [archived(archive_members()), archived({}), zipped([]), b""]


RECIPE = """title = "LeNet"
model = "lenet-300-100"
methods = ["dwf", "snip", "dense"]
epochs = 3
batch-size = 256
lr = 0.15
seeds = 2
[method.dwf]
depth = [2, 3]
strength-range = [1e-5, 1e-3]
points = 2
[[method.dwf.when]]
depth = 2
lr = 0.1
[method.snip]
compression = [2.0, 10]
"""


def recipe() -> list[bytes]:
    return [RECIPE.encode(), b'methods = "l1"\ncompression = [5, 40]\nmax-runs = 4\n', b""]


def weights() -> list[bytes]:
    import torch

    from dwfbench.deploy.sparsefile import sparse_bytes

    sparse = torch.zeros(4, 300)
    sparse[1, 7] = 1.5
    return [sparse_bytes({"a": sparse, "b": torch.ones(3), "c": torch.eye(8, dtype=torch.bfloat16)}), b""]


CHECKPOINT = {
    "identity": {"runs": ["a"], "data": "0" * 16, "version": "0", "schema": 3},
    "group": {
        **{"epoch": 1, "position": 0, "stage": 0, "steps": 0, "origins": [], "elapsed": 0.5, "order": ["weights/a"]},
        "lanes": [{"status": "ok", "error": None, "history": [], "seconds": 1.0, "overhead_seconds": 0.0, "lanes": 1}],
    },
}


def signed(facts: object) -> bytes:
    """A checkpoint whose digest is right, whatever its facts are."""
    import torch
    from safetensors.torch import save

    from dwfbench.training.checkpoint import digest

    tensors, text = {"weights/a": torch.ones(1, 2)}, json.dumps(facts)
    return save(tensors, metadata={"checkpoint": text, "digest": digest(tensors, text)})


def checkpoint() -> list[bytes]:
    return [signed(CHECKPOINT), b""]


def claims() -> list[bytes]:
    return [CLAIM.encode(), b"", b"claim = 3"]


def history() -> list[bytes]:
    return [HISTORY.encode(), b"", b"epoch\n-1\n"]
