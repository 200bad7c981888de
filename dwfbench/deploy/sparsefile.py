"""A state dict with many zeros as a small safetensors file, and back: ``save_sparse``, ``load_sparse``.

Every tensor has one of three layouts, whichever takes the fewest bytes; a tensor of more than two axes is flattened to
(first axis, all others), one of fewer is dense. NAME is its name in the state dict, n its number of elements.

- dense: tensor NAME, as it is
- bitmask: NAME#mask, uint8 (ceil(n / 8),), bit i % 8 (the lowest first) of byte i // 8 says whether element i is not
  zero; NAME#values, those that are not, in order. The smaller one down to a density of about 1/16.
- csr: NAME#rows, int32 (rows + 1,), row r holds the values from rows[r] up to rows[r + 1]; NAME#columns, int16 or
  int32, rising within a row; NAME#values

The safetensors metadata has one entry, ``dwfbench-sparse-1``: a JSON object that gives for each NAME its ``layout`` and
``shape``. Values keep their type (float32, bfloat16, ...); -0 becomes 0. Reading executes nothing.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dwfbench.base.errors import UsageError
from dwfbench.base.files import opened, replace

FORMAT = "dwfbench-sparse-1"
LAYOUTS = ("dense", "bitmask", "csr")
SMALL = torch.iinfo(torch.int16).max
LARGE = torch.iinfo(torch.int32).max
AXES = 64  # PyTorch has no tensors with more


def save_sparse(state: Mapping[str, Tensor], path: Path | str) -> None:
    """Write a state dict. Raises UsageError when the file cannot be written or a name has a "#"."""
    try:
        replace(Path(path), sparse_bytes(state))
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error}).") from None


def sparse_bytes(state: Mapping[str, Tensor]) -> bytes:
    """The content of such a file. Raises UsageError for a name with a "#"."""
    parts: dict[str, Tensor] = {}
    index: dict[str, dict[str, Any]] = {}
    for name, tensor in state.items():
        if "#" in name:
            raise UsageError(f"The tensor {name!r} has a # in its name, which marks parts of sparse tensors.")
        layout, stored = smallest(tensor.detach().cpu())
        index[name] = {"layout": layout, "shape": list(tensor.shape)}
        parts |= {f"{name}#{part}" if part else name: value for part, value in stored.items()}
    return save(parts, metadata={FORMAT: json.dumps(index)})  # one entry: safetensors shuffles several


def smallest(tensor: Tensor) -> tuple[str, dict[str, Tensor]]:
    """The layout of the fewest bytes, and the tensors it stores; the one of layout dense has the empty name."""
    found = {"dense": {"": tensor.clone(memory_format=torch.contiguous_format)}}
    if tensor.dim() >= 2 and 0 < tensor.numel() <= LARGE and not tensor.is_complex():
        matrix = tensor.reshape(len(tensor), -1)
        kept = matrix != 0
        values = matrix[kept]
        found["bitmask"] = {"mask": packed(kept.flatten()), "values": values}
        rows = torch.cat([torch.zeros(1, dtype=torch.int32), kept.sum(1).cumsum(0).int()])
        columns = kept.nonzero()[:, 1].to(torch.int16 if matrix.shape[1] <= SMALL else torch.int32)
        found["csr"] = {"rows": rows, "columns": columns, "values": values}
    layout = min(found, key=lambda name: sum(part.nbytes for part in found[name].values()))
    return layout, found[layout]


def packed(bits: Tensor) -> Tensor:
    """Booleans (n,) as uint8 (ceil(n / 8),), the lowest bit first."""
    padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, -len(bits) % 8))
    return (padded.view(-1, 8) << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def unpacked(mask: Tensor, count: int) -> Tensor:
    """The first ``count`` bits of a mask, as booleans."""
    return (mask[:, None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten()[:count].bool()


def load_sparse(path: Path | str, max_bytes: int = 2**32) -> dict[str, Tensor]:
    """The state dict, dense tensors on the CPU, in the order in which it was saved.

    Raises UsageError for a file that cannot be read, is not of this format, contradicts itself (shapes, indices,
    counts), or whose tensors would take more than ``max_bytes`` together, which is found out before any is made.
    """
    try:
        # Nothing but a regular file is left to safetensors, which checks the header against the file's length.
        with opened(path), safe_open(str(path), framework="pt") as file:
            metadata, stored = file.metadata() or {}, {key: file.get_tensor(key) for key in list(file.keys())}
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}).") from None
    except SafetensorError as error:
        raise UsageError(f"{path} is not a readable safetensors file ({error}).") from None
    try:
        return restored(metadata, stored, max_bytes)
    except ValueError as error:
        raise UsageError(f"{path} is not a valid sparse file: {error}.") from None


def restored(metadata: Mapping[str, str], stored: dict[str, Tensor], max_bytes: int) -> dict[str, Tensor]:
    """The tensors of a file's content. Raises ValueError with what is wrong."""
    if FORMAT not in metadata:
        raise ValueError(f"its metadata has no entry {FORMAT}")
    try:
        index = json.loads(metadata[FORMAT])
    except (RecursionError, ValueError):
        raise ValueError("its index of tensors cannot be read") from None
    if not isinstance(index, dict) or not all(isinstance(entry, dict) for entry in index.values()):
        raise ValueError("its index of tensors is no table")
    total = 0
    for name, entry in index.items():
        shape, layout = entry.get("shape"), entry.get("layout")
        if not isinstance(shape, list) or not all(type(size) is int and 0 <= size <= LARGE for size in shape):
            raise ValueError(f"the shape of {name} is no list of sizes")
        if layout not in LAYOUTS or (layout != "dense" and (not 2 <= len(shape) <= AXES or 0 in shape)):
            raise ValueError(f"the layout of {name} is none of {', '.join(LAYOUTS)}, or not for its shape")
        values = part(stored, name, "" if layout == "dense" else "values")
        total += math.prod(shape) * values.itemsize
    if total > max_bytes:
        raise ValueError(f"its tensors would take {total:,} bytes, more than the {max_bytes:,} allowed")
    readers = {"dense": read_dense, "bitmask": read_bitmask, "csr": read_csr}
    return {name: readers[entry["layout"]](stored, name, entry["shape"]) for name, entry in index.items()}


def part(stored: Mapping[str, Tensor], name: str, suffix: str) -> Tensor:
    key = f"{name}#{suffix}" if suffix else name
    if key not in stored:
        raise ValueError(f"the tensor {key} is missing")
    return stored[key]


def read_dense(stored: Mapping[str, Tensor], name: str, shape: list[int]) -> Tensor:
    tensor = part(stored, name, "")
    if list(tensor.shape) != shape:
        raise ValueError(f"{name} has the shape {list(tensor.shape)} and not {shape}")
    return tensor


def read_bitmask(stored: Mapping[str, Tensor], name: str, shape: list[int]) -> Tensor:
    mask, values, count = part(stored, name, "mask"), part(stored, name, "values"), math.prod(shape)
    if mask.dtype != torch.uint8 or list(mask.shape) != [-(-count // 8)]:
        raise ValueError(f"the mask of {name} is not one of {count} bits")
    kept = unpacked(mask, count)
    if list(values.shape) != [int(kept.sum())]:
        raise ValueError(f"the mask of {name} has not as many bits as there are values")
    dense = values.new_zeros(count)
    dense[kept] = values
    return dense.view(shape)


def read_csr(stored: Mapping[str, Tensor], name: str, shape: list[int]) -> Tensor:
    rows, columns, values = (part(stored, name, suffix) for suffix in ("rows", "columns", "values"))
    height, width = shape[0], math.prod(shape[1:])
    if rows.dtype != torch.int32 or list(rows.shape) != [height + 1]:
        raise ValueError(f"the rows of {name} are not {height}")
    if columns.dtype not in (torch.int16, torch.int32) or values.dim() != 1 or columns.shape != values.shape:
        raise ValueError(f"the columns of {name} are not as many as its values")
    rows, columns = rows.long(), columns.long()
    lengths = rows.diff()
    if rows[0] != 0 or rows[-1] != len(values) or (lengths < 0).any():
        raise ValueError(f"the rows of {name} do not rise from 0 to its number of values")
    if ((columns < 0) | (columns >= width)).any():
        raise ValueError(f"the columns of {name} are not all between 0 and {width - 1}")
    places = torch.arange(height).repeat_interleave(lengths) * width + columns
    if (places.diff() <= 0).any():
        raise ValueError(f"the columns of {name} do not rise within each row")
    dense = values.new_zeros(height * width)
    dense[places] = values
    return dense.view(shape)
