"""Load the network in this folder with PyTorch alone: neither dwfbench nor safetensors is needed.

    python load.py                      # checks the files, runs the network once, and says how to go on

    from load import load, logits, weights
    network = load()                    # what was exported, without dead neurons and channels; takes any batch size
    scores = logits(images)             # of uint8 images (N, C, H, W), which are normalised as in training; of a
                                        # network that takes none, of float32 inputs, as they are
    tensors = weights("model.sparse.safetensors")  # a state dict, dense again

Loading a .pt2 file is like running a program: take it from people whom you trust. The other files are data only.
"""

import functools
import hashlib
import json
import math
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
MANIFEST = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
TYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
TYPES |= {"U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "BOOL": torch.bool, "C64": torch.complex64}
PARTS = ("values", "indices", "indptr", "shape")


@functools.cache
def load():
    """The network, ready for inference on the CPU: float32 images (N, C, H, W) or inputs -> logits (N, classes)."""
    path = HERE / "compact.pt2"
    if not path.exists():
        raise FileNotFoundError("This export has no compact.pt2; `dwfbench export` writes it with the form compact.")
    return torch.export.load(path).module()


def logits(images):
    """What the network says of uint8 images (N, C, H, W), or of float32 inputs."""
    if "normalization" in MANIFEST:
        mean, std = (torch.tensor(MANIFEST["normalization"][name]).view(-1, 1, 1) for name in ("mean", "std"))
        images = (images.float() / 255 - mean) / std
    with torch.no_grad():
        return load()(images)


def weights(name):
    """The tensors of a .safetensors file of this folder by name; sparse matrices become dense ones."""
    content = (HERE / name).read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    tensors = {}
    for tensor, entry in json.loads(content[8:size]).items():
        if tensor != "__metadata__":
            dtype, shape, count = TYPES[entry["dtype"]], entry["shape"], math.prod(entry["shape"])
            data = bytearray(content[slice(*(size + offset for offset in entry["data_offsets"]))])  # aligned anew
            flat = torch.frombuffer(data, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)
            tensors[tensor] = flat.view(shape)
    for tensor in [key.removesuffix(".indptr") for key in tensors if key.endswith(".indptr")]:
        values, columns, rows, shape = (tensors.pop(f"{tensor}.{part}") for part in PARTS)
        matrix = values.new_zeros(shape.tolist()).view(len(rows) - 1, -1)
        matrix[torch.arange(len(rows) - 1).repeat_interleave(rows.diff()), columns.long()] = values
        tensors[tensor] = matrix.view(shape.tolist())
    return tensors


def main():
    for file in MANIFEST["files"]:
        if hashlib.sha256((HERE / file["name"]).read_bytes()).hexdigest() != file["sha256"]:
            raise SystemExit(f"{file['name']} is not the file that was exported: its checksum differs.")
        print(f"{file['name']}: {file['bytes']:,} bytes, as exported")
    for file in MANIFEST["files"]:
        if file["name"].endswith(".safetensors"):
            tensors = weights(file["name"]).values()
            nonzeros = sum(int(tensor.count_nonzero()) for tensor in tensors)
            print(f"{file['name']}: {nonzeros:,} of {sum(tensor.numel() for tensor in tensors):,} numbers are not zero")
    if (HERE / "compact.pt2").exists():
        dtype, noun = (torch.uint8, "images") if "normalization" in MANIFEST else (torch.float32, "inputs")
        images = torch.zeros(2, *MANIFEST["input_shape"], dtype=dtype)
        print(f"network: {noun} {tuple(images.shape)} -> logits {tuple(logits(images).shape)}")


if __name__ == "__main__":
    main()
