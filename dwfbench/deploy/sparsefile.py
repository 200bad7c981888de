"""A state dict with many zeros as a safetensors file whose matrices are in CSR form, and back.

A tensor NAME of the state dict that has two axes or more is stored as four, if these take fewer bytes than itself:

- NAME.values (nnz,): the values that are not zero, row by row
- NAME.indices, int32 (nnz,): the column of each, rising within a row
- NAME.indptr, int32 (rows + 1,): row r has the values from indptr[r] up to indptr[r + 1]
- NAME.shape, int64: the shape of the tensor; the matrix has shape[0] rows, and the other axes make its columns

These are the arrays of ``scipy.sparse.csr_array((values, indices, indptr))``. All other tensors are stored as they are.
Values keep their type (float32, bfloat16, ...); -0 becomes 0. Reading executes nothing.
"""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dwfbench.base.errors import UsageError, first_line
from dwfbench.base.files import opened

PARTS = ("values", "indices", "indptr", "shape")
LARGE = torch.iinfo(torch.int32).max
AXES = 64  # PyTorch has no tensors with more


def sparse_bytes(state: Mapping[str, Tensor]) -> bytes:
    """The content of such a file. Raises UsageError for names that would be taken for parts of other tensors."""
    tensors: dict[str, Tensor] = {}
    matrices = set()
    for name, tensor in state.items():
        plain = tensor.detach().cpu()
        parts = csr(plain) if plain.dim() >= 2 and plain.is_floating_point() and 0 < plain.numel() <= LARGE else {}
        if parts and sum(part.nbytes for part in parts.values()) < plain.nbytes:
            matrices.add(name)
            tensors |= {f"{name}.{part}": value for part, value in parts.items()}
        else:
            tensors[name] = plain.clone(memory_format=torch.contiguous_format)
    if matrices_in(tensors) != matrices or len(tensors) != len(state) + 3 * len(matrices):
        raise UsageError(f"The names of some tensors look like parts of others: NAME.{', NAME.'.join(PARTS)}.")
    return save(tensors)


def csr(tensor: Tensor) -> dict[str, Tensor]:
    """The four parts of a tensor."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # PyTorch calls its sparse matrices a beta
        matrix = tensor.reshape(len(tensor), -1).to_sparse_csr()
    return {
        "values": matrix.values(),
        "indices": matrix.col_indices().int(),
        "indptr": matrix.crow_indices().int(),
        "shape": torch.tensor(tensor.shape),
    }


def matrices_in(tensors: Mapping[str, Tensor]) -> set[str]:
    """The names of the tensors that have all four parts."""
    names = {name.removesuffix(".indptr") for name in tensors if name.endswith(".indptr")}
    return {name for name in names if all(f"{name}.{part}" in tensors for part in PARTS)}


def load_sparse(path: Path | str, max_bytes: int = 2**32) -> dict[str, Tensor]:
    """The state dict, dense tensors on the CPU.

    Raises UsageError for a file that cannot be read, contradicts itself (shapes, indices, counts), or whose tensors
    would take more than ``max_bytes`` together, which is found out before any is made.
    """
    try:
        # Nothing but a regular file is left to safetensors, which checks the header against the file's length.
        with opened(path), safe_open(str(path), framework="pt") as file:
            return restored({name: file.get_tensor(name) for name in list(file.keys())}, max_bytes)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}).") from None
    except SafetensorError as error:
        raise UsageError(f"{path} is not a readable safetensors file ({error}).") from None
    except ValueError as error:
        raise UsageError(f"{path} is not a valid sparse file: {error}.") from None


def restored(tensors: dict[str, Tensor], max_bytes: int) -> dict[str, Tensor]:
    """The tensors of a file's content. Raises ValueError with what is wrong."""
    matrices, total = {}, 0
    for name in sorted(matrices_in(tensors)):
        parts = {part: tensors.pop(f"{name}.{part}") for part in PARTS}
        shape = parts["shape"].tolist()
        sizes = parts["shape"].dtype == torch.int64 and parts["shape"].dim() == 1 and 2 <= len(shape) <= AXES
        if not sizes or not all(0 < size <= LARGE for size in shape) or not parts["values"].is_floating_point():
            raise ValueError(f"the shape of {name} is no list of sizes, or its values are no floating-point numbers")
        matrices[name] = shape, parts
        total += math.prod(shape) * parts["values"].itemsize
    total += sum(value.nbytes for value in tensors.values())
    if total > max_bytes:
        raise ValueError(f"its tensors would take {total:,} bytes, more than the {max_bytes:,} allowed")
    return tensors | {name: dense(name, *matrix) for name, matrix in matrices.items()}


def dense(name: str, shape: list[int], parts: dict[str, Tensor]) -> Tensor:
    """The tensor of four parts. Raises ValueError where they are not those of a matrix."""
    values, columns, rows = parts["values"], parts["indices"], parts["indptr"]
    if not (columns.dtype == rows.dtype == torch.int32 and columns.shape == values.shape == (values.numel(),)):
        raise ValueError(f"the indices of {name} are not one int32 for each of its values")
    size = shape[0], math.prod(shape[1:])
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # as above
            wide = values.float() if values.element_size() == 1 else values  # PyTorch adds up no numbers of a byte
            matrix = torch.sparse_csr_tensor(rows, columns, wide, size, check_invariants=True)
        return matrix.to_dense().to(values.dtype).view(shape)
    except RuntimeError as error:
        raise ValueError(f"the parts of {name} make no CSR matrix ({first_line(error)})") from None
